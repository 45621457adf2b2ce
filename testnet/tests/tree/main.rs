//! The tree code that ships, on a simulated disk: crashes at each call, and people who work behind its back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's own mistakes may end it")]

mod content;
mod crash;
mod device;
mod meddle;
mod names;
