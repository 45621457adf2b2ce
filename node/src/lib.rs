//! The ZeroCloud node: keeps spaces on this device the same as on its peers.
#![deny(unsafe_code)]

pub mod clock;
pub mod link;
pub mod tree;
pub mod volume;
pub mod watch;
pub mod wire;
