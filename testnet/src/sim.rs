//! The deterministic world: simulated twins of what a node touches.

pub mod clock;
pub mod device;
pub mod disk;
pub mod oracle;
pub mod supply;
pub mod user;
pub mod volume;
pub mod world;
