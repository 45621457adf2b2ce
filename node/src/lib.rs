//! The ZeroCloud node: keeps spaces on this device the same as on its peers.
#![deny(unsafe_code)]

pub mod advice;
pub mod answers;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod confine;
pub mod daemon;
pub mod duration;
pub mod engine;
pub mod fetcher;
pub mod folder;
pub mod home;
pub mod link;
pub mod node;
pub mod pairing;
pub mod peers;
pub mod random;
pub mod session;
pub mod space;
pub mod store;
pub mod tree;
pub mod volume;
pub mod watch;
pub mod wire;
