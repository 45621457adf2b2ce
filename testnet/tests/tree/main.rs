//! The tree code that ships, on a simulated disk: crashes at each call, and people who work behind its back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "whatever fails here fails the test")]

mod content;
mod crash;
mod device;
mod meddle;
