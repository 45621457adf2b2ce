//! ZeroCloud's replicated data model.
//!
//! Everything that two devices must agree on lives here: identities and keys, sealing and chunking, who belongs to
//! a space, the signed log, the registers of the index, the view that they stand for, and the two diffs that tie a
//! view to a directory tree. The crate is pure: bytes and state in, bytes and decisions out. There is no clock, no
//! socket, no file, no thread and no global randomness; what is random comes from a generator that is handed in. A
//! browser runs this very crate, so there is no second parser of any format.
//!
//! Where to start reading: [`id`] for the nouns, [`limits`] for every bound, [`register`] for what the index holds,
//! [`view`] for the tree that it stands for.

#![forbid(unsafe_code)]

mod envelope;

pub mod address;
pub mod base;
pub mod change;
pub mod chunk;
pub mod codec;
pub mod grant;
pub mod id;
pub mod index;
pub mod keys;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod membership;
pub mod merge;
pub mod mutation;
pub mod name;
pub mod padding;
pub mod pairing;
pub mod plan;
pub mod projection;
pub mod register;
pub mod rewind;
pub mod scan;
pub mod seal;
pub mod sign;
pub mod ticket;
pub mod view;
pub mod wire;
pub mod words;

/// Version of every format that this crate writes. It is the first byte of each stored or sent object, and part of
/// each signature's context. Nothing reads another version: 0 was that of the drafts.
pub const FORMAT: u8 = 1;
