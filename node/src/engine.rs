//! The engine: what to ask, send, write or wait for next. Decisions only.
//!
//! Nothing here reads a clock, a socket, a file or global randomness: events come in, actions go out, and the drivers
//! around it (and the simulator in their place) do what was decided. State that must survive is kept through
//! [`shelf::Shelf`], whose implementation is the store.

pub mod fetch;
pub mod found;
#[cfg(test)]
pub(crate) mod founding;
pub mod replica;
pub mod shelf;
