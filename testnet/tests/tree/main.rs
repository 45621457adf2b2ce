//! The tree code that ships, on a simulated disk: crashes at each call, and people who work behind its back.

mod content;
mod crash;
mod device;
mod meddle;
