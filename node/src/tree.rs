//! Everything that touches a user's files, and nothing that decides what should be in them.
//!
//! Here live the walk and the reading of what it found ([`scan`]), the temporary files ([`stage`]), the actions on
//! the tree with their recovery ([`materialise`]), what was displaced ([`versions`]), the answers to peers
//! ([`serve`]) and the [`marker`]. All of it is synchronous code over `dyn Volume`, so that the simulator runs it
//! unchanged. What scan and view mean is decided in `zerocloud_crdt::{scan, plan, view}`; what to do next, in the
//! engine; rows are kept by whoever implements [`Ledger`].
//!
//! What stands in the control directory's `tmp`:
//!
//! ```text
//! get-ID-HASH-NONCE-N   a file whose chunks are being had: kept over a restart, never a user's bytes
//! put-NONCE-N           a whole file or link to be put in its place; after an exchange, what stood there
//! del-NONCE-N           what was taken away
//! parked-ID             something of the user's on its way, known to base
//! ```

mod handles;
pub mod ignoring;
mod keyring;
mod ledger;
pub mod marker;
pub mod materialise;
mod pool;
pub mod racy;
mod reading;
pub mod scan;
pub mod serve;
pub mod stage;
#[cfg(test)]
mod tests;
pub mod versions;

use std::sync::atomic::{AtomicU64, Ordering};

use zerocloud_crdt::base::Fingerprint;
use zerocloud_crdt::register::{FileTime, Kind};

pub use keyring::Keyring;
pub use ledger::{Commit, Deed, Displaced, Generation, Intents, Ledger, MemoryLedger};
pub use pool::{Inline, Pool, Threads};
pub(crate) use reading::read_content_hash;

use crate::volume::{self, Stat, VolumeError, VolumeErrorKind};

/// Why work on a whole tree ended early. What concerns one file is told file by file instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError<E> {
    /// The folder, or the disk under it.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The folder is not the one of this space.
    #[error(transparent)]
    Marker(#[from] marker::MarkerError),
    /// Intents of an earlier batch were not judged: `recover` comes first.
    #[error("an earlier batch was not finished; it must be looked at first")]
    NotRecovered,
    /// The store.
    #[error("the store failed: {0}")]
    Store(E),
}

/// Names in `tmp` and `versions` that nothing else has: a number drawn once for the process, and a count.
#[derive(Debug)]
pub struct TempNames {
    nonce: u64,
    count: AtomicU64,
}

impl TempNames {
    /// Names with this nonce: 64 random bits, drawn when the process starts.
    pub const fn new(nonce: u64) -> Self {
        Self { nonce, count: AtomicU64::new(0) }
    }

    fn next(&self, prefix: &str) -> String {
        format!("{prefix}{:016x}-{}", self.nonce, self.count.fetch_add(1, Ordering::Relaxed))
    }
}

/// Begins the name of a file whose chunks are being had.
const GET: &str = "get-";
/// Begins the name of what is to be put in its place.
const PUT: &str = "put-";
/// Begins the name of what was taken away.
const DEL: &str = "del-";
/// Begins the name of what stands aside, see [`zerocloud_crdt::plan::parked_name`].
const PARKED_PREFIX: &[u8] = b"parked-";

/// What base notes of `stat`.
pub fn fingerprint(stat: &Stat) -> Fingerprint {
    Fingerprint {
        inode: stat.ino,
        birth: stat.birth.map(time_of),
        len: if stat.kind == volume::Kind::Directory { 0 } else { stat.size },
        mtime: time_of(stat.mtime),
        ctime: time_of(stat.ctime),
        mode: stat.mode,
    }
}

/// What an index notes of a kind; `None` for what is never synced.
pub const fn kind_of(kind: volume::Kind) -> Option<Kind> {
    match kind {
        volume::Kind::Directory => Some(Kind::Directory),
        volume::Kind::File => Some(Kind::File),
        volume::Kind::Symlink => Some(Kind::Symlink),
        volume::Kind::Other => None,
    }
}

const fn time_of(time: volume::FileTime) -> FileTime {
    FileTime { secs: time.seconds, nanos: time.nanoseconds }
}

const fn volume_time(time: FileTime) -> volume::FileTime {
    volume::FileTime { seconds: time.secs, nanoseconds: time.nanos }
}

/// Whether two fingerprints tell of the same thing with the same content, wherever it was renamed to: a rename
/// changes the ctime and nothing else.
fn is_same_but_ctime(a: &Fingerprint, b: &Fingerprint) -> bool {
    Fingerprint { ctime: b.ctime, ..*a } == *b
}

/// Whether nothing more can be done on this volume.
const fn is_fatal(kind: VolumeErrorKind) -> bool {
    matches!(kind, VolumeErrorKind::Gone | VolumeErrorKind::Crashed | VolumeErrorKind::ReadOnly)
}

/// `Ok(None)` for what is not there.
pub(crate) fn found<T>(outcome: Result<T, VolumeError>) -> Result<Option<T>, VolumeError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == VolumeErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
