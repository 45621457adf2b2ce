//! The bodies of the fuzz targets: one function for each, from any bytes to whether they were taken for something.
//!
//! The targets in `fuzz_targets` call these, and so does a test of the normal suite with every file of the committed
//! corpora (`crdt/tests/corpus.rs`, which includes this file by its path). Each holds what it decodes to the rule that
//! it is encoded to the same bytes, and goes on to what a device does with it. Where a signature, a key or a checksum
//! stands before a parser, the target makes it, with keys that it knows: the author may be a member.

mod changes;
mod content;
mod history;
mod log;
mod members;
mod proofs;
pub mod seeds;
mod wire;

pub use changes::{change, ops};
pub use content::{chunk, manifest, text};
pub use history::history;
pub use log::entry;
pub use members::{members, pairing};
pub use wire::{addresses, wire};

/// The body of a target: whether the bytes got past all checks.
pub type Target = fn(&[u8]) -> bool;

/// Every target, by its name.
pub const TARGETS: [(&str, Target); 11] = [
    ("addresses", addresses),
    ("change", change),
    ("chunk", chunk),
    ("entry", entry),
    ("history", history),
    ("manifest", manifest),
    ("members", members),
    ("ops", ops),
    ("pairing", pairing),
    ("text", text),
    ("wire", wire),
];

/// Takes a byte that chooses one of `count` ways off the front.
fn choose(data: &[u8], count: u8) -> Option<(u8, &[u8])> {
    let (&first, rest) = data.split_first()?;
    Some((first % count, rest))
}

/// Takes a part off the front, behind its length in two bytes; all that is left if that is less.
fn take_part<'d>(data: &mut &'d [u8]) -> &'d [u8] {
    let Some((&[low, high], rest)) = data.split_first_chunk() else { return std::mem::take(data) };
    let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (part, rest) = rest.split_at(len);
    *data = rest;
    part
}
