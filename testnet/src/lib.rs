//! Simulator, network lab and benchmarks. Nothing ships from here.

pub mod far;
pub mod growth;
pub mod large;
mod nodes;
pub mod rounds;
pub mod sim;
pub mod ten;
#[cfg(feature = "mutations")]
pub mod threats;
pub mod trees;
