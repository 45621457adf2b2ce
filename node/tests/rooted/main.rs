//! Nodes as processes where only root can put them: in networks of their own, with every packet in view, on disks that
//! are full or gone, and as a user who may not read everything.
//!
//! Without root nothing here is run, and one line says so: see [`rights`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's own mistakes may end it")]
#![allow(clippy::print_stderr, reason = "logs of a test that failed")]

mod canary;
mod disks;
#[path = "../processes/harness.rs"]
#[allow(dead_code, reason = "made for the tests of processes, and these need less")]
mod harness;
mod lan;
mod mounts;
#[allow(unreachable_pub, reason = "others that use it by path pass its error on")]
mod namespace;
mod network;
mod rights;
mod secrecy;
mod silence;
mod users;

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// Runs a command of the system that must be done.
fn system(words: &[&str]) {
    namespace::run(words).unwrap_or_else(|error| panic!("{error}"));
}
