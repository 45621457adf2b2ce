//! The entry as it travels: envelope, header, signature. What the payload says is in [`super::payload`].
//!
//! ```text
//! entry    = format:1 ‖ header length:varint ‖ header ‖ payload length:varint ‖ payload ‖ signature
//! header   = format:1 ‖ space:32 ‖ author:32 ‖ incarnation:8 ‖ number:varint
//!            ‖ previous: 00, or 01 ‖ hash:32                       00 for number 1 alone
//!            ‖ heads:[author:32 ‖ incarnation:8 ‖ number:varint ‖ hash:32; n:varint]     ascending, none of this log;
//!                                                          several of one that has forked
//!            ‖ membership heads:[hash:32; n:varint]       ascending; none: as in the entry before
//!            ‖ epoch:32 ‖ kind:1                          0 start, 1 index, 2 seen
//! payload  = suite:1 ‖ nonce:24 ‖ sealed (see [`super::payload`])
//! signature = scheme:varint (0 Ed25519) ‖ 64
//! ```
//!
//! Integers are postcard's varints (unsigned LEB128, shortest form). The signature covers everything before it; the
//! hash of the entry covers everything.

use serde::{Deserialize, Serialize};

use super::EntryPoint;
use crate::codec::{self, DecodeError};
use crate::id::{DeviceId, EntryHash, EpochId, Incarnation, LogId, RecordHash, SpaceId};
use crate::limits::{ENTRY_HEADER_LEN_MAX, ENTRY_HEADS_COUNT_MAX, ENTRY_LEN_MAX, ENTRY_PAYLOAD_LEN_MAX};
use crate::sign::{BadSignature, Signature, Signed, verify};

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Number 1 of a log, and no other: label and earlier incarnations.
    Start,
    /// One change of the index.
    Index,
    /// Nothing but heads: an acknowledgement.
    Seen,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Start => 0,
            Self::Index => 1,
            Self::Seen => 2,
        }
    }

    const fn of_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Start),
            1 => Some(Self::Index),
            2 => Some(Self::Seen),
            _ => None,
        }
    }
}

/// The last entry of another log that an entry's author had applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Head {
    /// Which entry.
    pub point: EntryPoint,
    /// Its hash.
    pub hash: EntryHash,
}

/// What everyone may read of an entry, keepers included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The space.
    pub space: SpaceId,
    /// The log: author and incarnation.
    pub log: LogId,
    /// The entry's number in its log, from 1.
    pub number: u64,
    /// Hash of the entry before; `None` for number 1.
    pub previous: Option<EntryHash>,
    /// Entries of other logs that the author had applied, and that are in the past of no other head and not in the
    /// past of the entry before. Ascending, at most [`ENTRY_HEADS_COUNT_MAX`].
    pub heads: Vec<Head>,
    /// Membership records under which the author wrote; empty: those of the entry before. Ascending, at most
    /// [`ENTRY_HEADS_COUNT_MAX`]; never empty for number 1.
    pub membership: Vec<RecordHash>,
    /// The epoch whose log key seals the payload.
    pub epoch: EpochId,
    /// What the entry is for.
    pub kind: Kind,
}

#[derive(Serialize, Deserialize)]
struct WireHeader {
    space: SpaceId,
    author: DeviceId,
    incarnation: Incarnation,
    number: u64,
    previous: Option<EntryHash>,
    heads: Vec<Head>,
    membership: Vec<RecordHash>,
    epoch: EpochId,
    kind: u8,
}

impl Header {
    /// The place of the entry.
    pub const fn point(&self) -> EntryPoint {
        EntryPoint { log: self.log, number: self.number }
    }

    /// The header's bytes, format byte first.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_object(&WireHeader {
            space: self.space,
            author: self.log.author,
            incarnation: self.log.incarnation,
            number: self.number,
            previous: self.previous,
            heads: self.heads.clone(),
            membership: self.membership.clone(),
            epoch: self.epoch,
            kind: self.kind.number(),
        })
    }

    /// Reads a header whose kind may be unknown: `Err` inside then holds its number.
    fn decode(bytes: &[u8]) -> Result<Result<Self, (DeviceId, SpaceId, u8)>, EntryError> {
        let wire: WireHeader = codec::decode_object(bytes, ENTRY_HEADER_LEN_MAX)?;
        let log = LogId { author: wire.author, incarnation: wire.incarnation };
        let is_first = wire.number == 1;
        let is_well_formed = wire.number > 0
            && is_first == wire.previous.is_none()
            && !(is_first && wire.membership.is_empty())
            && wire.heads.len() <= ENTRY_HEADS_COUNT_MAX
            && wire.membership.len() <= ENTRY_HEADS_COUNT_MAX
            && wire.heads.is_sorted_by(|left, right| left < right)
            && wire.heads.iter().all(|head| head.point.number > 0 && head.point.log != log)
            && wire.membership.is_sorted_by(|left, right| left < right);
        if !is_well_formed {
            return Err(DecodeError::Malformed.into());
        }
        let Some(kind) = Kind::of_number(wire.kind) else { return Ok(Err((wire.author, wire.space, wire.kind))) };
        Ok(Ok(Self {
            space: wire.space,
            log,
            number: wire.number,
            previous: wire.previous,
            heads: wire.heads,
            membership: wire.membership,
            epoch: wire.epoch,
            kind,
        }))
    }
}

/// Why bytes are no entry of a space. None of these makes an entry void: what they refuse is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Not an entry by its bytes alone, too long, or of another format version.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An entry of another space.
    #[error("entry belongs to another space")]
    WrongSpace,
    /// Not signed by the author that the header names.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// Signed, but of a kind that this version does not know: the space stops.
    #[error("entry kind {kind} is unknown to this version; update ZeroCloud")]
    UnknownKind {
        /// Its number.
        kind: u8,
    },
}

/// An entry whose header has been read and whose signature holds. Its payload may still be anything.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    header: Header,
    hash: EntryHash,
    bytes: Vec<u8>,
    header_range: std::ops::Range<usize>,
    payload_range: std::ops::Range<usize>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("hash", &self.hash).field("header", &self.header).finish_non_exhaustive()
    }
}

impl Entry {
    /// Reads an entry of `space` from bytes of any origin, and checks its signature.
    ///
    /// # Errors
    /// A variant of [`EntryError`] for each rule. Bounds are checked before anything is allocated.
    pub fn decode(space: SpaceId, bytes: Vec<u8>) -> Result<Self, EntryError> {
        Self::read(space, bytes, true)
    }

    /// Reads an entry that [`Self::decode`] once read and that was stored since: spares the signature check (39 µs).
    ///
    /// # Errors
    /// As [`Self::decode`], but for the signature.
    pub fn decode_stored(space: SpaceId, bytes: Vec<u8>) -> Result<Self, EntryError> {
        Self::read(space, bytes, false)
    }

    /// Puts an entry together and signs it. The author's side knows that header and payload are within bounds.
    pub(super) fn sign(header: Header, payload: &[u8], key: &ed25519_dalek::SigningKey) -> Self {
        let header_bytes = header.encode();
        let mut bytes = vec![crate::FORMAT];
        bytes.extend(codec::encode(&serde_bytes::Bytes::new(&header_bytes)));
        let header_range = bytes.len() - header_bytes.len()..bytes.len();
        bytes.extend(codec::encode(&serde_bytes::Bytes::new(payload)));
        let payload_range = bytes.len() - payload.len()..bytes.len();
        bytes.extend(codec::encode(&crate::sign::sign(key, Signed::Entry, header.space, &bytes)));
        Self { header, hash: hash(&bytes), bytes, header_range, payload_range }
    }

    fn read(space: SpaceId, bytes: Vec<u8>, is_foreign: bool) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_LEN_MAX {
            return Err(DecodeError::TooLong { len: bytes.len(), limit: ENTRY_LEN_MAX }.into());
        }
        let mut rest = match bytes.split_first() {
            Some((&crate::FORMAT, rest)) => rest,
            Some((&found, _)) => return Err(DecodeError::UnknownFormat { found }.into()),
            None => return Err(DecodeError::Malformed.into()),
        };
        let header_range = take_prefixed(&bytes, &mut rest, ENTRY_HEADER_LEN_MAX)?;
        let payload_range = take_prefixed(&bytes, &mut rest, ENTRY_PAYLOAD_LEN_MAX)?;
        let signature: Signature = codec::decode(rest, rest.len())?;
        let signed = bytes.get(..payload_range.end).ok_or(DecodeError::Malformed)?;
        let header = Header::decode(bytes.get(header_range.clone()).ok_or(DecodeError::Malformed)?)?;
        let (author, of) = match &header {
            Ok(header) => (header.log.author, header.space),
            Err((author, of, _)) => (*author, *of),
        };
        if of != space {
            return Err(EntryError::WrongSpace);
        }
        if is_foreign {
            verify(author, Signed::Entry, space, signed, &signature)?;
        }
        let header = header.map_err(|(_, _, kind)| EntryError::UnknownKind { kind })?;
        Ok(Self { header, hash: hash(&bytes), bytes, header_range, payload_range })
    }

    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The entry's hash: BLAKE3 of all its bytes.
    pub const fn hash(&self) -> EntryHash {
        self.hash
    }

    /// The place of the entry.
    pub const fn point(&self) -> EntryPoint {
        self.header.point()
    }

    /// The entry as it was received and is handed on.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The entry's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The header's exact bytes: the additional data of the sealing.
    pub(super) fn header_bytes(&self) -> &[u8] {
        self.bytes.get(self.header_range.clone()).unwrap_or_default()
    }

    /// The sealed payload.
    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(self.payload_range.clone()).unwrap_or_default()
    }
}

fn hash(bytes: &[u8]) -> EntryHash {
    EntryHash(*blake3::hash(bytes).as_bytes())
}

/// Takes a byte string behind its length off `rest`, which is a tail of `whole`, and says where in `whole` it stands.
fn take_prefixed(whole: &[u8], rest: &mut &[u8], limit: usize) -> Result<std::ops::Range<usize>, DecodeError> {
    let (len, tail) = postcard::take_from_bytes::<u64>(rest).map_err(|_| DecodeError::Malformed)?;
    let prefix_len = rest.len() - tail.len();
    if codec::encode(&len).len() != prefix_len {
        return Err(DecodeError::Malformed);
    }
    let len = usize::try_from(len).map_err(|_| DecodeError::Malformed)?;
    if len > limit {
        return Err(DecodeError::TooLong { len, limit });
    }
    let (_, after) = tail.split_at_checked(len).ok_or(DecodeError::Malformed)?;
    *rest = after;
    let end = whole.len() - after.len();
    Ok(end - len..end)
}
