//! Simulator, network lab and benchmarks. Nothing ships from here.

pub mod far;
pub mod growth;
mod nodes;
pub mod rounds;
pub mod sim;
#[cfg(feature = "mutations")]
pub mod threats;
