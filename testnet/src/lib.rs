//! Simulator, network lab and benchmarks. Nothing ships from here.

pub mod growth;
pub mod rounds;
pub mod sim;
#[cfg(feature = "mutations")]
pub mod threats;
