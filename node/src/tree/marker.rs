//! The marker in a space's control directory: whose folder this is, and how often it was started.
//!
//! ```text
//! .zerocloud/marker = format (1) | postcard of
//!   space     32 bytes
//!   counter   raised here and in the store at each start and clean stop
//! ```
//!
//! It is replaced by an exchange. Where names can't be exchanged, the new one waits as `marker.new`, synced, while the
//! old one goes: whoever finds no marker takes that one.

use serde::{Deserialize, Serialize};
use zerocloud_crdt::codec::{DecodeError, decode_object, encode_object};
use zerocloud_crdt::id::SpaceId;
use zerocloud_crdt::name::CONTROL;

use super::found;
use crate::volume::{At, Volume, VolumeDirectory, VolumeError};

const MARKER: &[u8] = b"marker";
const NEW: &[u8] = b"marker.new";
/// Bytes of a marker: 33 and a counter of at most 10.
const MARKER_LEN_MAX: usize = 64;

/// What stands in a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The space of which this is a folder.
    pub space: SpaceId,
    /// How often it was started or stopped.
    pub counter: u64,
}

/// Why a folder is not taken for that of a space.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MarkerError {
    /// Another disk, an empty folder, or a user removed it.
    #[error("this folder has no marker of a space; is its disk mounted? Mount it, or put the folder back")]
    Missing,
    /// It is there and makes no sense.
    #[error(
        "the folder's marker can't be read ({0}); put back `.zerocloud/marker` from a backup, or remove the space and join it \
         again"
    )]
    Damaged(#[from] DecodeError),
    /// The folder of another space.
    #[error("this folder belongs to another space ({found}); put the folder of this one back in its place")]
    OtherSpace {
        /// Whose it is.
        found: SpaceId,
    },
    /// The store is older than the tree: it was restored, or another store worked here.
    #[error(
        "the store is older than this folder (marker {marker}, store {store}); connect with another \
         member: its index is needed"
    )]
    Higher {
        /// The marker's counter.
        marker: u64,
        /// The store's counter.
        store: u64,
    },
    /// The tree is older than the store: it was restored.
    #[error("this folder was restored from a copy (marker {marker}, store {store}); nothing is to be done")]
    Lower {
        /// The marker's counter.
        marker: u64,
        /// The store's counter.
        store: u64,
    },
    /// The disk.
    #[error(transparent)]
    Volume(#[from] VolumeError),
}

impl Marker {
    /// Reads the marker of a folder. Makes nothing, not even the control directory.
    ///
    /// # Errors
    /// [`MarkerError::Missing`], [`MarkerError::Damaged`] and [`MarkerError::Volume`].
    pub fn read(volume: &dyn Volume) -> Result<Self, MarkerError> {
        let control = found(volume.root().open_directory(CONTROL.as_bytes()))?.ok_or(MarkerError::Missing)?;
        match read_at(&*control, MARKER)? {
            Some(marker) => Ok(marker),
            None => read_at(&*control, NEW)?.ok_or(MarkerError::Missing),
        }
    }

    /// Whether this is the marker that a store noted.
    ///
    /// # Errors
    /// [`MarkerError::OtherSpace`], [`MarkerError::Higher`], [`MarkerError::Lower`].
    pub fn check(&self, noted: &Self) -> Result<(), MarkerError> {
        let (marker, store) = (self.counter, noted.counter);
        match marker.cmp(&store) {
            _ if self.space != noted.space => Err(MarkerError::OtherSpace { found: self.space }),
            std::cmp::Ordering::Greater => Err(MarkerError::Higher { marker, store }),
            std::cmp::Ordering::Less => Err(MarkerError::Lower { marker, store }),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Writes the marker, durably, in place of one that is there: at each moment the old or the new one is found.
    ///
    /// # Errors
    /// [`VolumeError`]s of making, writing and renaming a file in the control directory.
    pub fn write(&self, volume: &dyn Volume) -> Result<(), VolumeError> {
        let control = volume.control()?.directory;
        if found(control.stat(MARKER))?.is_none() && read_at(&*control, NEW).is_ok_and(|marker| marker.is_some()) {
            volume.rename_noreplace(at(&*control, NEW), at(&*control, MARKER))?;
        }
        found(control.remove_file(NEW))?;
        let file = control.create_file(NEW)?;
        file.write_at(&encode_object(self), 0)?;
        file.sync()?;
        control.sync()?;
        if found(control.stat(MARKER))?.is_some() {
            if volume.supports_exchange()? {
                volume.exchange(at(&*control, NEW), at(&*control, MARKER))?;
                control.sync()?;
                return control.remove_file(NEW);
            }
            control.remove_file(MARKER)?;
        }
        volume.rename_noreplace(at(&*control, NEW), at(&*control, MARKER))?;
        control.sync()
    }
}

fn at<'a>(directory: &'a dyn VolumeDirectory, name: &'a [u8]) -> At<'a> {
    At { directory, name }
}

fn read_at(control: &dyn VolumeDirectory, name: &[u8]) -> Result<Option<Marker>, MarkerError> {
    let Some(file) = found(control.open_file(name))? else { return Ok(None) };
    let mut bytes = [0; MARKER_LEN_MAX + 1];
    let len = file.read_at(&mut bytes, 0)?;
    Ok(Some(decode_object(bytes.get(..len).unwrap_or_default(), MARKER_LEN_MAX)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::volume::LinuxVolume;

    proptest! {
        #[test]
        fn any_bytes_are_a_marker_or_damaged(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), is_framed: bool, is_new: bool,
        ) {
            let directory = tempfile::tempdir().unwrap();
            let bytes = if is_framed { [&[zerocloud_crdt::FORMAT][..], &bytes].concat() } else { bytes };
            let volume = LinuxVolume::open(directory.path()).unwrap();
            volume.control().unwrap();
            let name = if is_new { "marker.new" } else { "marker" };
            std::fs::write(directory.path().join(".zerocloud").join(name), &bytes).unwrap();
            match Marker::read(&volume) {
                Ok(marker) => prop_assert_eq!(encode_object(&marker), bytes),
                Err(error) => prop_assert!(matches!(error, MarkerError::Damaged(_)), "{}", error),
            }
        }
    }
}
