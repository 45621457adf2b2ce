//! Whether these tests can be run here.
//!
//! Nothing in here knows what is tested, but for one line, so that other crates' tests can use it by path.

use std::io::{ErrorKind, Write};
use std::process::Command;
use std::sync::OnceLock;

/// `CAP_NET_ADMIN`, `CAP_NET_RAW` and `CAP_SYS_ADMIN` of `linux/capability.h`.
const NEEDED: u64 = 1 << 12 | 1 << 13 | 1 << 21;

/// Whether this process may make networks and mount; tells once when not.
pub(crate) fn is_root() -> bool {
    static IS_ROOT: OnceLock<bool> = OnceLock::new();
    *IS_ROOT.get_or_init(|| is_able("captures of what leaves, full and lost disks, foreign users"))
}

/// The same, and tells what is not run when not. Asks the system each time.
///
/// # Panics
/// When root has no `ip`: what only root can run must not be left out unseen.
pub(crate) fn is_able(what: &str) -> bool {
    let is_able = rustix::process::geteuid().is_root() && effective() & NEEDED == NEEDED && may_make_networks();
    if !is_able {
        let line = format!("NOT RUN: {what}; they need root and its rights to network and mount\n");
        // Not by the macros: what they print is shown only when a test fails.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
    is_able
}

/// Whether the kernel does what the capabilities allow: a sandbox may refuse it all the same.
fn may_make_networks() -> bool {
    let name = format!("zerocloud-{}-probe", std::process::id());
    let ip = |words: &[&str]| match Command::new("ip").args(words).output() {
        Ok(output) => output.status.success(),
        Err(error) if error.kind() == ErrorKind::NotFound => panic!("`ip` is missing: install iproute2"),
        Err(_) => false,
    };
    let is_made = ip(&["netns", "add", &name]);
    let has_cable = is_made && ip(&["-n", &name, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"]);
    if is_made {
        ip(&["netns", "del", &name]);
    }
    has_cable
}

/// The capabilities in effect.
fn effective() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(set.trim(), 16).unwrap()
}
