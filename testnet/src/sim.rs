//! The deterministic world: simulated twins of what a node touches, and whole devices in it.
//!
//! `runner` plays many scenarios (`scenario`), each from one seed, and makes those that fail small (`shrink`).

pub mod churn;
pub mod clock;
pub mod device;
pub mod disk;
pub mod faults;
pub mod founding;
#[cfg(feature = "mutations")]
pub mod mutation;
pub mod oracle;
pub mod runner;
pub mod scenario;
pub mod shrink;
pub mod story;
pub mod supply;
pub mod user;
pub mod volume;
pub mod world;
