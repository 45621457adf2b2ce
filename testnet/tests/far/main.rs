//! Real nodes far from each other: at the ends of long and lossy paths, and behind routers that let nobody in.
//!
//! As root with `ip`, `nft` and `/dev/net/tun`; without root nothing here is run, and one line says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's own mistakes may end it")]
#![allow(clippy::print_stderr, reason = "logs of a test that failed")]

#[path = "../../../node/tests/processes/harness.rs"]
#[allow(dead_code, reason = "made for the tests of processes, and these need less")]
mod harness;
mod internet;
#[path = "../../../node/tests/rooted/namespace.rs"]
#[allow(dead_code, unreachable_pub, reason = "made for tests of networks, and these need less")]
mod namespace;
mod nat;
mod path;
#[path = "../program/mod.rs"]
mod program;
mod relay;
#[path = "../../../node/tests/rooted/rights.rs"]
#[allow(dead_code, reason = "made for tests of networks, and these need less")]
mod rights;

use std::sync::OnceLock;

use zerocloud_testnet::far::Far;

/// Whether networks can be made here; tells once when not.
///
/// # Panics
/// Where root could, and a tool is missing: nothing is to be left out unseen.
fn are_networks() -> bool {
    static ARE_NETWORKS: OnceLock<bool> = OnceLock::new();
    *ARE_NETWORKS.get_or_init(|| {
        let are_networks = rights::is_able("nodes at the ends of long and lossy paths, and behind routers");
        if are_networks {
            Far::try_out().unwrap();
            namespace::run(&["nft", "--version"]).unwrap_or_else(|error| panic!("{error}: install nftables"));
        }
        are_networks
    })
}
