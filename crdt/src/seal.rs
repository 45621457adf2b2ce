//! Sealing: what leaves a device of a file's content, and what is accepted in its place.
//!
//! Here live the keys of an epoch for chunks and manifest pages ([`ChunkKeys`]), the sealed format, both suites, the
//! padding and the compression inside the seal. Cutting is in [`crate::chunk`], the order of chunks in
//! [`crate::manifest`]; log entries have a seal of their own.
//!
//! ```text
//! sealed chunk, or sealed manifest page (little endian; padded_len bytes in all, see `padding`):
//!   format (1)   FORMAT
//!   suite  (1)   1 = XChaCha20-Poly1305, 2 = AES-256-GCM
//!   salt         suite 1: nonce (24); suite 2: salt (32); drawn for each sealing
//!   text         encrypted:
//!     stored     the plaintext, or one zstd frame of it if that makes a shorter sealed chunk
//!     padding    zeros
//!     flags  (1) 0 = stored is the plaintext, 1 = stored is a zstd frame
//!     len    (4) length of the plaintext
//!     stored_len (4)
//!   tag   (16)   over text and the additional data (see ChunkKeys::additional)
//!
//!   chunk key     = keyed BLAKE3(sealing key, id)
//!   suite 1: key  = chunk key, nonce = salt
//!   suite 2: key  = keyed BLAKE3(chunk key, salt), nonce = 12 zeros
//! ```
//!
//! The lengths stand at the end of the text so that a plaintext is decrypted to where the caller wants it. Whoever
//! opens a chunk hashes it again and compares the id: neither suite commits to its key, the id does.
//!
//! ```
//! use rand_core::SeedableRng;
//! use zerocloud_crdt::{
//!     id::{EpochId, SpaceId},
//!     keys::{EpochSecret, Secret},
//!     seal::{ChunkKeys, Compression, Opener, Sealer, Suite},
//! };
//!
//! let mut rng = rand_chacha::ChaCha20Rng::from_seed([1; 32]); // from the system in a program
//! let secret = EpochSecret::new(SpaceId([2; 32]), EpochId([3; 32]), Secret::draw(&mut rng));
//! let keys = ChunkKeys::of_chunks(&secret);
//!
//! let named = keys.name(b"a small file");
//! let sealed = Sealer::new(Suite::fastest(), Compression::ON).seal(&named, &mut rng)?;
//! assert_eq!(sealed.len(), 1024);
//! assert_eq!(Opener::new().open(&keys, &named.id(), &sealed)?, b"a small file");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod frame;
mod keys;
mod padding;
mod suite;
#[cfg(test)]
mod tests;

use rand_core::CryptoRng;

use self::{
    frame::{Expander, Squeezer},
    suite::{SALT_LEN_MAX, TAG_LEN},
};
pub use self::{
    keys::{ChunkKeys, Named},
    padding::padded_len,
    suite::Suite,
};
use crate::{
    FORMAT,
    codec::advice,
    id::{ChunkId, EpochId},
    limits::SEALED_CHUNK_LEN_MAX,
};

/// Format and suite.
const HEAD_LEN: usize = 2;
/// Flags, length and stored length.
const TRAILER_LEN: usize = 9;
const FLAG_RAW: u8 = 0;
const FLAG_ZSTD: u8 = 1;

/// Whether a device compresses what it seals. A space can switch it off: compressed lengths tell a little of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Everything is stored as it is.
    Off,
    /// Zstandard, for what a sample says shrinks.
    Zstd {
        /// zstd's level; [`Compression::ON`] has the one that ships.
        level: i32,
    },
}

impl Compression {
    /// Compression as it ships.
    pub const ON: Self = Self::Zstd { level: frame::LEVEL };
}

/// Why a chunk or page was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Longer than any chunk or page may be.
    #[error("plaintext of {len} bytes is above the limit of {limit} bytes")]
    TooLong {
        /// Length of the plaintext, in bytes.
        len: usize,
        /// The bound, in bytes.
        limit: usize,
    },
    /// The cipher's library failed.
    #[error("the cipher failed; if it happens again, this computer's memory or this build of ZeroCloud is broken")]
    Cipher,
}

/// Why a sealed chunk or page was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Refused by its length, before anything else was looked at.
    #[error("sealed object of {len} bytes is above the limit of {limit} bytes")]
    TooLong {
        /// Length as received, in bytes.
        len: usize,
        /// The bound, in bytes.
        limit: usize,
    },
    /// Written by another version.
    #[error("format version {found} is not read by this version; {}", advice(*found))]
    UnknownFormat {
        /// The version byte.
        found: u8,
    },
    /// Written by a newer version.
    #[error("cipher suite {suite} is unknown to this version; update ZeroCloud")]
    UnknownSuite {
        /// The suite's number.
        suite: u8,
    },
    /// Too short to be a sealed object, or of a length that none has.
    #[error("no sealed object has a length of {len} bytes")]
    NotSealed {
        /// Length as received, in bytes.
        len: usize,
    },
    /// Wrong key, damage or forgery. Says no more, on purpose.
    #[error("chunk does not open with the key of epoch {epoch}")]
    NotAuthentic {
        /// Whose key was tried.
        epoch: EpochId,
    },
}

/// The suite of a sealed chunk or page, as far as one can tell without keys: for a keeper, before it stores one.
///
/// # Errors
/// [`OpenError::TooLong`], [`OpenError::UnknownFormat`], [`OpenError::UnknownSuite`], and [`OpenError::NotSealed`] if
/// no sealed object has this length.
pub fn suite_of(sealed: &[u8]) -> Result<Suite, OpenError> {
    let len = sealed.len();
    if len > SEALED_CHUNK_LEN_MAX {
        return Err(OpenError::TooLong { len, limit: SEALED_CHUNK_LEN_MAX });
    }
    let [format, number, ..] = *sealed else { return Err(OpenError::NotSealed { len }) };
    if format != FORMAT {
        return Err(OpenError::UnknownFormat { found: format });
    }
    let suite = Suite::from_number(number).ok_or(OpenError::UnknownSuite { suite: number })?;
    if padded_len(len) != len {
        return Err(OpenError::NotSealed { len });
    }
    Ok(suite)
}

/// Length of a sealed object that stores `stored_len` bytes.
const fn sealed_len(suite: Suite, stored_len: usize) -> usize {
    padded_len(HEAD_LEN + suite.salt_len() + stored_len + TRAILER_LEN + TAG_LEN)
}

/// Seals chunks and pages. Keeps the compressor's tables between them: make one for each worker.
pub struct Sealer {
    suite: Suite,
    squeezer: Option<Squeezer>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({:?})", self.suite)
    }
}

impl Sealer {
    /// A sealer for one suite.
    pub fn new(suite: Suite, compression: Compression) -> Self {
        let squeezer = match compression {
            Compression::Off => None,
            Compression::Zstd { level } => Squeezer::new(level),
        };
        Self { suite, squeezer }
    }

    /// Seals into a new buffer: see [`seal_into`](Self::seal_into).
    ///
    /// # Errors
    /// As [`seal_into`](Self::seal_into).
    pub fn seal(&mut self, named: &Named<'_>, rng: &mut impl CryptoRng) -> Result<Vec<u8>, SealError> {
        let mut sealed = Vec::new();
        self.seal_into(named, rng, &mut sealed)?;
        Ok(sealed)
    }

    /// Seals a chunk or page into `sealed`, whose old content is dropped and whose memory is used again. Draws a fresh
    /// nonce or salt from `rng`, which must be a cryptographic generator seeded by the system and never be copied.
    ///
    /// # Errors
    /// [`SealError::TooLong`], and [`SealError::Cipher`], which does not happen; `sealed` is then empty.
    pub fn seal_into(
        &mut self,
        named: &Named<'_>,
        rng: &mut impl CryptoRng,
        sealed: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        sealed.clear();
        let Named { keys, id, plaintext } = named;
        let plaintext: &[u8] = plaintext;
        let limit = keys.len_max();
        let len = match u32::try_from(plaintext.len()) {
            Ok(len) if plaintext.len() <= limit => len,
            _ => return Err(SealError::TooLong { len: plaintext.len(), limit }),
        };
        let mut salt = [0; SALT_LEN_MAX];
        let (salt, _) = salt.split_at_mut(self.suite.salt_len());
        rng.fill_bytes(salt);

        sealed.reserve(sealed_len(self.suite, plaintext.len()));
        sealed.extend_from_slice(&[FORMAT, self.suite.number()]);
        sealed.extend_from_slice(salt);
        let head_len = sealed.len();
        let (flags, stored_len) = match self.squeeze(plaintext, sealed) {
            Some(frame_len) => (FLAG_ZSTD, frame_len),
            None => {
                sealed.extend_from_slice(plaintext);
                (FLAG_RAW, len)
            }
        };
        let total_len = sealed_len(self.suite, stored_len as usize);
        sealed.resize(total_len - TAG_LEN - TRAILER_LEN, 0);
        sealed.push(flags);
        sealed.extend_from_slice(&len.to_le_bytes());
        sealed.extend_from_slice(&stored_len.to_le_bytes());

        let (_, text) = sealed.split_at_mut(head_len);
        match self.suite.encrypt(&keys.chunk_key(id), salt, &keys.additional(self.suite, id), text) {
            Ok(tag) => {
                sealed.extend_from_slice(&tag);
                Ok(())
            }
            Err(_) => {
                sealed.clear();
                Err(SealError::Cipher)
            }
        }
    }

    /// Appends a compressed `plaintext` to `sealed` and returns its length, if that makes a shorter sealed object;
    /// else leaves `sealed` as it is.
    fn squeeze(&mut self, plaintext: &[u8], sealed: &mut Vec<u8>) -> Option<u32> {
        let squeezer = self.squeezer.as_mut()?;
        if !squeezer.pays(plaintext) {
            return None;
        }
        let head_len = sealed.len();
        sealed.resize(head_len + plaintext.len(), 0);
        let (_, frame) = sealed.split_at_mut(head_len);
        let frame_len = squeezer
            .squeeze(plaintext, frame)
            .filter(|len| sealed_len(self.suite, *len) < sealed_len(self.suite, plaintext.len()));
        sealed.truncate(head_len + frame_len.unwrap_or(0));
        frame_len.and_then(|len| u32::try_from(len).ok())
    }
}

/// Opens sealed chunks and pages of both suites. Keeps its buffers between them: make one for each worker.
pub struct Opener {
    expander: Expander,
    /// A frame that waits to be decompressed; swapped with the caller's buffer.
    frame: Vec<u8>,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener")
    }
}

impl Default for Opener {
    fn default() -> Self {
        Self::new()
    }
}

impl Opener {
    /// An opener.
    pub fn new() -> Self {
        Self { expander: Expander::new(), frame: Vec::new() }
    }

    /// Opens into a new buffer: see [`open_into`](Self::open_into).
    ///
    /// # Errors
    /// As [`open_into`](Self::open_into).
    pub fn open(&mut self, keys: &ChunkKeys, id: &ChunkId, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut plaintext = Vec::new();
        self.open_into(keys, id, sealed, &mut plaintext)?;
        Ok(plaintext)
    }

    /// Opens what was sealed as `id` into `plaintext`, whose old content is dropped and whose memory is used again.
    /// The plaintext's id has been recomputed: it is what its members named.
    ///
    /// # Errors
    /// [`OpenError::TooLong`], [`OpenError::UnknownFormat`], [`OpenError::UnknownSuite`] and [`OpenError::NotSealed`]
    /// by what everybody sees; [`OpenError::NotAuthentic`] for everything that takes a key to know. `plaintext` is
    /// then empty.
    pub fn open_into(
        &mut self,
        keys: &ChunkKeys,
        id: &ChunkId,
        sealed: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let limit = keys.sealed_len_max();
        if sealed.len() > limit {
            plaintext.clear();
            return Err(OpenError::TooLong { len: sealed.len(), limit });
        }
        let opened = suite_of(sealed)
            .and_then(|suite| self.open_text(suite, keys, id, sealed, plaintext).ok_or_else(|| keys.not_authentic()));
        if opened.is_err() {
            plaintext.clear();
        }
        opened
    }

    /// `None` for every failure that depends on a key, so that none can be told from another.
    fn open_text(
        &mut self,
        suite: Suite,
        keys: &ChunkKeys,
        id: &ChunkId,
        sealed: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Option<()> {
        let (_, rest) = sealed.split_at_checked(HEAD_LEN)?;
        let (salt, rest) = rest.split_at_checked(suite.salt_len())?;
        let (text, tag) = rest.split_last_chunk::<TAG_LEN>()?;
        // Only what grows is filled with zeros: the buffer usually has this length already.
        plaintext.resize(text.len(), 0);
        suite.decrypt(&keys.chunk_key(id), salt, &keys.additional(suite, id), text, tag, plaintext).ok()?;

        let (body, trailer) = plaintext.split_last_chunk::<TRAILER_LEN>()?;
        let [flags, l0, l1, l2, l3, s0, s1, s2, s3] = *trailer;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let stored_len = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
        let (_, padding) = body.split_at_checked(stored_len)?;
        if len > keys.len_max() || sealed_len(suite, stored_len) != sealed.len() || !is_zero(padding) {
            return None;
        }
        plaintext.truncate(stored_len);
        match flags {
            FLAG_RAW if stored_len == len => {}
            FLAG_ZSTD if stored_len < len => {
                std::mem::swap(&mut self.frame, plaintext);
                plaintext.resize(len, 0);
                self.expander.expand(&self.frame, plaintext)?;
            }
            _ => return None,
        }
        (keys.id(plaintext) == *id).then_some(())
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |any, byte| any | byte) == 0
}
