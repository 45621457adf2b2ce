//! The file of secrets: the only place where seeds and epoch secrets lie on disk.
//!
//! ```text
//! format      1 byte    zerocloud_crdt::FORMAT
//! body        postcard  Secrets: device seed (32), recovery (variant, then seed (32) or public row (length, bytes)),
//!                       spaces (count, then ascending: space id (32), epochs (count, then ascending:
//!                       epoch id (32), secret (32)))
//! checksum    32 bytes  BLAKE3 derive_key("zerocloud/1 secrets checksum", format ‖ body)
//! ```
//! The checksum finds damage: without it a flipped bit in a seed would be another device. It is no secret and protects
//! from nobody. The file is written beside itself, synced and renamed, mode 0600. Buffers that held it are overwritten,
//! which is why this module calls `postcard` itself: the general codec leaves copies in freed memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zerocloud_crdt::FORMAT;
use zerocloud_crdt::codec::advice;
use zerocloud_crdt::id::{EpochId, SpaceId};
use zerocloud_crdt::keys::{DeviceKeys, Secret};
use zeroize::Zeroizing;

use super::put_complete;

const CHECKSUM_LEN: usize = 32;

/// A file above this is not ours: 100,000 epochs fit, and one opens only when somebody is removed.
const FILE_LEN_MAX: u64 = 8 << 20;

/// What a home must not lose and nobody else may read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    device: Secret,
    recovery: Recovery,
    spaces: BTreeMap<SpaceId, BTreeMap<EpochId, Secret>>,
}

/// The recovery key that stands with rank 0 in each space made here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recovery {
    /// The seed is still here; its 24 words were not yet confirmed.
    Seed(Secret),
    /// The words were confirmed and the seed has left; what remains is the public row, as the membership code
    /// encodes it.
    PublicRow(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// Why secrets can't be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretsError {
    /// The system refuses.
    #[error("{} can't be used ({source}); check its owner and mode, and what is free on its disk", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Others may read or write it.
    #[error("{} is open to other users (mode {mode:o}); make it yours alone: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Its checksum or its shape is wrong.
    #[error(
        "{} is damaged; put back a copy of this file from a backup, or, if there is none, move the whole home aside \
         and join your spaces again from another device",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Written by another version.
    #[error("{} has format {found}, which this version does not read; {}", path.display(), advice(*found))]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its format byte.
        found: u8,
    },
    /// There is a store, so there must have been secrets.
    #[error(
        "{} is missing, but the home has a store; put the file back from a backup, or move the whole home aside and \
         join your spaces again from another device",
        path.display()
    )]
    Lost {
        /// Where the file should be.
        path: PathBuf,
    },
}

impl Secrets {
    /// Draws the seeds of a new device and of its recovery key. `rng` must be seeded by the system.
    pub fn draw(rng: &mut impl rand_core::CryptoRng) -> Self {
        Self { device: Secret::draw(rng), recovery: Recovery::Seed(Secret::draw(rng)), spaces: BTreeMap::new() }
    }

    /// All keys of this device.
    pub fn device_keys(&self) -> DeviceKeys {
        DeviceKeys::from_seed(self.device.clone())
    }

    /// The recovery seed, or what is left of it.
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// The 24 words of the recovery seed; `None` once they were confirmed and it has left.
    pub fn recovery_words(&self) -> Option<Zeroizing<String>> {
        match &self.recovery {
            Recovery::Seed(seed) => Some(zerocloud_crdt::words::of_seed(seed)),
            Recovery::PublicRow(_) => None,
        }
    }

    /// Lets the recovery seed go once its words were confirmed. `public_row`: what later spaces' genesis needs of it.
    pub fn confirm_recovery(&mut self, public_row: Vec<u8>) {
        self.recovery = Recovery::PublicRow(public_row);
    }

    /// The secret of one epoch of one space.
    pub fn epoch(&self, space: SpaceId, epoch: EpochId) -> Option<&Secret> {
        self.spaces.get(&space)?.get(&epoch)
    }

    /// The spaces of which secrets are here.
    pub fn spaces(&self) -> impl Iterator<Item = SpaceId> {
        self.spaces.keys().copied()
    }

    /// All epochs of one space whose secrets are here.
    pub fn epochs(&self, space: SpaceId) -> impl Iterator<Item = (EpochId, &Secret)> {
        self.spaces.get(&space).into_iter().flatten().map(|(epoch, secret)| (*epoch, secret))
    }

    /// Adds the secret of an epoch. Save before anything is sealed under it.
    pub fn insert_epoch(&mut self, space: SpaceId, epoch: EpochId, secret: Secret) {
        self.spaces.entry(space).or_default().insert(epoch, secret);
    }

    /// Forgets all secrets of a space.
    pub fn forget_space(&mut self, space: SpaceId) {
        self.spaces.remove(&space);
    }

    /// An upper bound of the encoding, so that its buffer is never moved and leaves no copy.
    fn encoded_len_max(&self) -> usize {
        const COUNT_LEN_MAX: usize = 10;
        let recovery_len = match &self.recovery {
            Recovery::Seed(_) => 32,
            Recovery::PublicRow(row) => row.len(),
        };
        let spaces_len: usize = self.spaces.values().map(|epochs| 32 + COUNT_LEN_MAX + epochs.len() * 64).sum();
        1 + 32 + 1 + COUNT_LEN_MAX + recovery_len + COUNT_LEN_MAX + spaces_len + CHECKSUM_LEN
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, postcard::Error> {
        let mut bytes = Zeroizing::new(vec![0; self.encoded_len_max()]);
        let (format, body) = bytes.split_first_mut().ok_or(postcard::Error::SerializeBufferFull)?;
        *format = FORMAT;
        let body_len = postcard::to_slice(self, body)?.len();
        bytes.truncate(1 + body_len);
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        Ok(bytes)
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, SecretsError> {
        let damaged = || SecretsError::Damaged { path: path.to_owned() };
        let (object, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or_else(damaged)?;
        let (&found, body) = object.split_first().ok_or_else(damaged)?;
        if found != FORMAT {
            return Err(SecretsError::UnknownFormat { path: path.to_owned(), found });
        }
        if checksum(object) != *sum {
            return Err(damaged());
        }
        let (secrets, rest): (Self, _) = postcard::take_from_bytes(body).map_err(|_| damaged())?;
        if rest.is_empty() { Ok(secrets) } else { Err(damaged()) }
    }
}

fn checksum(object: &[u8]) -> [u8; CHECKSUM_LEN] {
    blake3::derive_key("zerocloud/1 secrets checksum", object)
}

pub(super) fn load(path: &Path) -> Result<Option<Secrets>, SecretsError> {
    let io = |source| SecretsError::Io { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let metadata = file.metadata().map_err(io)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(SecretsError::Exposed { path: path.to_owned(), mode: metadata.mode() & 0o777 });
    }
    if metadata.len() > FILE_LEN_MAX || !metadata.is_file() {
        return Err(SecretsError::Damaged { path: path.to_owned() });
    }
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(metadata.len()).unwrap_or(0)]);
    file.read_exact(&mut bytes).map_err(io)?;
    Secrets::decode(&bytes, path).map(Some)
}

pub(super) fn save(dir: &Path, name: &str, secrets: &Secrets) -> Result<(), SecretsError> {
    let (path, temporary) = (dir.join(name), dir.join(format!("{name}.new")));
    write_durably(&path, &temporary, secrets).map_err(|source| SecretsError::Io { path, source })
}

fn write_durably(path: &Path, temporary: &Path, secrets: &Secrets) -> std::io::Result<()> {
    let bytes = secrets.encode().map_err(std::io::Error::other)?;
    put_complete(
        path,
        temporary,
        |io| io,
        |temporary| {
            let mut file = File::options().write(true).create_new(true).mode(0o600).open(temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()
        },
    )
}

#[cfg(test)]
mod tests;
