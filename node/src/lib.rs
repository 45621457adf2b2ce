//! The ZeroCloud node: keeps spaces on this device the same as on its peers.
#![deny(unsafe_code)]

pub mod api;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod duration;
pub mod home;
