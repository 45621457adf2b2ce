//! Simulator, network lab and benchmarks. Nothing ships from here.
