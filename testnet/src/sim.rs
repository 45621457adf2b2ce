//! The deterministic world: simulated twins of what a node touches.

pub mod clock;
pub mod volume;
