//! Two and more real nodes, each a process of its own, on this machine: what a user sees of them.
//!
//! Each test is a claim about the program as it is installed, over real folders, sockets and signals. What one part does
//! by itself is tested beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's own mistakes may end it")]
#![allow(clippy::print_stderr, reason = "logs of a test that failed")]

mod clones;
mod commands;
mod devices;
mod doctoring;
mod editors;
mod harness;
mod kills;
mod lacking;
mod liars;
mod merges;
mod names;
mod races;
mod readme;
mod restarts;
mod rewinds;
mod secrets;
mod selecting;
mod spaces;
mod tickets;
mod tour;
mod watches;
mod wounds;
