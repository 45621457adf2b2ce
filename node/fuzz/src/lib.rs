//! The bodies of the fuzz targets: one function for each, from any bytes to whether they were taken for something.
//!
//! The targets in `fuzz_targets` call these, and so does a test of the normal suite with every file of the committed
//! corpora (`node/tests/corpus.rs`, which includes this file by its path). What a frame holds is the pure crate's, and
//! fuzzed there (`crdt/fuzz`); here is what the node does with bytes before and around that.

mod api;
mod rules;
pub mod seeds;
mod session;
mod stream;

pub use api::api;
pub use rules::rules;
pub use session::session;
pub use stream::{frame, lan, lane};

/// The body of a target: whether the bytes got past all checks.
pub type Target = fn(&[u8]) -> bool;

/// Every target, by its name.
pub const TARGETS: [(&str, Target); 6] =
    [("api", api), ("frame", frame), ("lan", lan), ("lane", lane), ("rules", rules), ("session", session)];

/// Takes a byte off the front; 0 if there is none.
fn take_byte(data: &mut &[u8]) -> u8 {
    let Some((&first, rest)) = data.split_first() else { return 0 };
    *data = rest;
    first
}

/// Takes a part off the front, behind its length in two bytes; all that is left if that is less.
fn take_part<'d>(data: &mut &'d [u8]) -> &'d [u8] {
    let Some((&[low, high], rest)) = data.split_first_chunk() else { return std::mem::take(data) };
    let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (part, rest) = rest.split_at(len);
    *data = rest;
    part
}

/// A part as [`take_part`] takes it.
fn part(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}

/// Runs something to its end on a runtime of its own thread, which waits for nobody.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}
