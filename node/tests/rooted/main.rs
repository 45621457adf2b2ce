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
mod mounts;
mod network;
mod rights;
mod secrecy;
mod silence;
mod users;

use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// Runs a command of the system that must be done.
fn system(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a command of the system that cleans up, and tells when it was not done: a guard must not panic.
fn clean_up(words: &[&str]) {
    match Command::new(words[0]).args(&words[1..]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => eprintln!("left behind: {words:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("left behind: {words:?}: {error}"),
    }
}
