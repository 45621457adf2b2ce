//! Real nodes beside this program: what plays and measures with the program as it is installed begins here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a tool of developers ends at its mistakes")]
#![allow(clippy::print_stderr, reason = "logs of a node that failed")]

#[path = "../../node/tests/processes/harness.rs"]
#[allow(dead_code, unreachable_pub, reason = "made for the tests of processes, and others need less")]
pub(crate) mod harness;
#[path = "../../node/tests/rooted/namespace.rs"]
#[allow(dead_code, unreachable_pub, reason = "made for tests of networks, and others need less")]
pub(crate) mod namespace;

use std::path::PathBuf;

/// The program as cargo builds it beside this one.
pub(crate) fn program_beside() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    // Tests lie one directory deeper.
    let beside = this.ancestors().skip(1).take(2).map(|directory| directory.join("zerocloud"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .expect("no zerocloud beside this program: `cargo build -p zerocloud`")
}
