//! Simulator, network lab and benchmarks. Nothing ships from here.

pub mod sim;
