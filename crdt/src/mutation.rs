//! Deliberate faults: what the simulator (`docs/simulator.md`) or a test that stands for a threat (`SECURITY.md`) must
//! find, or they prove nothing.
//!
//! Each stands at the one place that keeps the promise which it breaks, as `mutated!(Name)`. Without the feature
//! `mutations`, which nothing but the test network switches on, that is `false` and nothing of it is built.

#[cfg(feature = "mutations")]
mod list;

#[cfg(feature = "mutations")]
pub use list::{Mutation, VARIABLE, is_on, switch_to};

/// Whether a deliberate fault is switched on.
#[cfg(feature = "mutations")]
#[macro_export]
macro_rules! mutated {
    ($name:ident) => {
        $crate::mutation::is_on($crate::mutation::Mutation::$name)
    };
}

/// Whether a deliberate fault is switched on: never, in this build.
#[cfg(not(feature = "mutations"))]
#[macro_export]
macro_rules! mutated {
    ($name:ident) => {
        false
    };
}
