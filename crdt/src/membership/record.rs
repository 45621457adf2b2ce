//! Records: one signed change of who belongs to a space.
//!
//! ```text
//! format        1     0
//! body_len      varint
//! body:
//!   level       varint  needed format level; never below that of a previous record
//!   space       32
//!   previous    count varint (1..16), each 32, ascending
//!   author      32
//!   operation   varint, then its fields:
//!     0 add     Row
//!     1 remove  target (varint 0 device 32 | 1 person 16); frontier
//!     2 set     device 32; role option; introduction option; frontier
//!     3 rekey
//!     4 retire  author 32, incarnation 8; frontier
//!   opens       option: commitment 32; older: count varint, each (epoch 32, nonce 24, ciphertext 32, tag 16)
//! scheme        varint 0 = Ed25519
//! signature     64    by the author, over the body
//!
//! frontier      count varint, each (author 32, incarnation 8, number varint, hash 32), ascending
//! option        1 byte: 0, or 1 and the value
//! ```
//! The name of a record is the BLAKE3 of all its bytes. What stands before `operation` is the same in every version:
//! a reader that does not understand the rest still knows who wrote it and what it follows.
//!
//! An older secret is sealed by XChaCha20-Poly1305 under `derive_key("zerocloud/1 epoch older", E ‖ space)`, E being
//! the secret that the record opens, with a random nonce and the 32 bytes of its epoch's name as additional data.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::{Introduction, LEVEL, LEVEL_MIN, NeedsNewerVersion, Newer, Role, Row, RowError};
use crate::codec::{DecodeError, decode, encode};
use crate::envelope::Envelope;
use crate::id::{DeviceId, EntryHash, EpochId, LogId, PersonId, RecordHash, SpaceId};
use crate::limits::{RECORD_FRONTIER_COUNT_MAX, RECORD_LEN_MAX, RECORD_OLDER_COUNT_MAX, RECORD_PREVIOUS_COUNT_MAX};
use crate::sign::Signed;

/// What every version of a record begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The format level that a program must have.
    pub level: u16,
    /// Which space it changes.
    pub space: SpaceId,
    /// The records that it follows: 1 to 16, ascending.
    pub previous: Vec<RecordHash>,
    /// Who signed it.
    pub author: DeviceId,
}

/// What a record does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Adds a device.
    Add(Row),
    /// Takes a device or a person out.
    Remove {
        /// Who.
        target: Target,
        /// Their entries that count all the same.
        frontier: Vec<EntryHead>,
    },
    /// Changes a row.
    Set {
        /// Whose row.
        device: DeviceId,
        /// The role it has from here on.
        role: Option<Role>,
        /// The keys it has from here on, as the device itself says.
        introduction: Option<Introduction>,
        /// Where the role shrinks: the device's entries that count all the same.
        frontier: Vec<EntryHead>,
    },
    /// Opens an epoch and changes nothing else.
    Rekey,
    /// Ends a log that nobody writes any more.
    Retire {
        /// Which.
        log: LogId,
        /// Where it ends.
        frontier: Vec<EntryHead>,
    },
}

impl Operation {
    /// How many operations this version can read.
    const COUNT: u32 = 5;

    fn frontier(&self) -> &[EntryHead] {
        match self {
            Self::Add(_) | Self::Rekey => &[],
            Self::Remove { frontier, .. } | Self::Set { frontier, .. } | Self::Retire { frontier, .. } => frontier,
        }
    }
}

/// Whom a removal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// One device.
    Device(DeviceId),
    /// Every device of a person.
    Person(PersonId),
}

/// An entry that a frontier names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryHead {
    /// In which log.
    pub log: LogId,
    /// Its number there, from 1.
    pub number: u64,
    /// Its hash.
    pub hash: EntryHash,
}

/// An epoch that a record opens; it is named by the record's hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// To its secret: [`crate::keys::commitment`] with the space's id.
    pub commitment: [u8; 32],
    /// The secrets of older epochs, sealed under it, ascending by epoch: who may read now can read the history.
    pub older: Vec<Older>,
}

/// The secret of an older epoch, sealed under that of a newer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Older {
    /// Whose secret it is.
    pub epoch: EpochId,
    /// Drawn for this sealing.
    pub nonce: [u8; 24],
    /// The sealed secret.
    pub ciphertext: [u8; 32],
    /// Poly1305.
    pub tag: [u8; 16],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    operation: Operation,
    opens: Option<Opened>,
}

/// A record whose signature and shape were checked. Whether it counts is a matter of the table of its past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    head: Head,
    /// `None`: written by a newer version.
    change: Option<Change>,
    hash: RecordHash,
    bytes: Vec<u8>,
}

/// Why bytes are no record of a space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not of this format.
    #[error("membership record: {0}")]
    Decode(#[from] DecodeError),
    /// About another space.
    #[error("membership record of another space")]
    WrongSpace,
    /// Its author did not sign it.
    #[error("membership record is not signed by its author")]
    BadSignature,
    /// It asks for less than this program accepts.
    #[error("membership record asks for an older construction than this version accepts")]
    BelowMinimum,
    /// None or too many previous records, or lists out of order or too long.
    #[error("membership record is not well-formed")]
    Shape,
    /// The row that it adds is refused.
    #[error("membership record: {0}")]
    Row(#[from] RowError),
    /// The device introduced itself to someone else.
    #[error("membership record adds a device that introduced itself to another inviter")]
    WrongInviter,
}

impl Record {
    /// Writes and signs a record. `key` is the author's, whose name is taken from it; `previous` may come in any order.
    ///
    /// # Errors
    /// As [`Self::decode`]: what this program would refuse it does not write.
    pub fn make(
        key: &SigningKey,
        space: SpaceId,
        level: u16,
        mut previous: Vec<RecordHash>,
        operation: Operation,
        opens: Option<Opened>,
    ) -> Result<Self, RecordError> {
        previous.sort_unstable();
        let head = Head { level, space, previous, author: DeviceId(key.verifying_key().to_bytes()) };
        let mut body = encode(&head);
        body.extend_from_slice(&encode(&Change { operation, opens }));
        Self::decode(space, &Envelope::seal(key, Signed::Record, space, body))
    }

    /// Reads a record of `space` and checks all that needs no other record.
    ///
    /// # Errors
    /// One variant of [`RecordError`] for each check. A record of a newer version is none: see [`Self::operation`].
    pub fn decode(space: SpaceId, bytes: &[u8]) -> Result<Self, RecordError> {
        let envelope = Envelope::decode(bytes, RECORD_LEN_MAX)?;
        let (head, rest) = split_head(&envelope.body)?;
        if head.space != space {
            return Err(RecordError::WrongSpace);
        }
        envelope.verify(head.author, Signed::Record, space).map_err(|_| RecordError::BadSignature)?;
        let is_ascending = head.previous.is_sorted_by(|a, b| a < b);
        if head.previous.is_empty() || head.previous.len() > RECORD_PREVIOUS_COUNT_MAX || !is_ascending {
            return Err(RecordError::Shape);
        }
        if head.level < LEVEL_MIN {
            return Err(RecordError::BelowMinimum);
        }
        let change = match head.level {
            ..=LEVEL => read_change(rest)?,
            _ => None,
        };
        if let Some(change) = &change {
            check_change(&head, change)?;
        }
        Ok(Self { head, change, hash: Self::hash_of(bytes), bytes: bytes.to_vec() })
    }

    /// The name of the record with these bytes.
    pub fn hash_of(bytes: &[u8]) -> RecordHash {
        RecordHash(*blake3::hash(bytes).as_bytes())
    }

    /// Level, space, previous records and author.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Its name.
    pub const fn hash(&self) -> RecordHash {
        self.hash
    }

    /// Its bytes, as they are sent and stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it does.
    ///
    /// # Errors
    /// [`NeedsNewerVersion`] for a level or an operation that this version can't read.
    pub fn operation(&self) -> Result<&Operation, NeedsNewerVersion> {
        match &self.change {
            Some(change) => Ok(&change.operation),
            None if self.head.level > LEVEL => Err(NeedsNewerVersion { what: Newer::Level { level: self.head.level } }),
            None => Err(NeedsNewerVersion { what: Newer::Operation }),
        }
    }

    /// The epoch that it opens, if it opens one that this version can read.
    pub fn opens(&self) -> Option<&Opened> {
        self.change.as_ref()?.opens.as_ref()
    }
}

fn split_head(body: &[u8]) -> Result<(Head, &[u8]), DecodeError> {
    let (head, rest) = postcard::take_from_bytes::<Head>(body).map_err(|_| DecodeError::Malformed)?;
    let encoded = encode(&head);
    if body.strip_prefix(encoded.as_slice()) == Some(rest) { Ok((head, rest)) } else { Err(DecodeError::Malformed) }
}

fn read_change(rest: &[u8]) -> Result<Option<Change>, DecodeError> {
    let (operation, _) = postcard::take_from_bytes::<u32>(rest).map_err(|_| DecodeError::Malformed)?;
    if operation >= Operation::COUNT {
        return Ok(None);
    }
    decode(rest, RECORD_LEN_MAX).map(Some)
}

fn check_change(head: &Head, Change { operation, opens }: &Change) -> Result<(), RecordError> {
    let frontier = operation.frontier();
    let older = opens.as_ref().map_or(&[][..], |opened| &opened.older);
    let is_bounded = frontier.len() <= RECORD_FRONTIER_COUNT_MAX && older.len() <= RECORD_OLDER_COUNT_MAX;
    let is_ascending = frontier.is_sorted_by(|a, b| a < b) && older.is_sorted_by(|a, b| a.epoch < b.epoch);
    let is_opening_right = match operation {
        Operation::Add(_) | Operation::Retire { .. } => opens.is_none(),
        Operation::Remove { .. } | Operation::Rekey => opens.is_some(),
        Operation::Set { role, introduction, .. } => role.is_some() || introduction.is_some(),
    };
    if !(is_bounded && is_ascending && is_opening_right) {
        return Err(RecordError::Shape);
    }
    match operation {
        Operation::Add(Row { introduction, .. }) => {
            introduction.check(head.space)?;
            if introduction.inviter != head.author { Err(RecordError::WrongInviter) } else { Ok(()) }
        }
        Operation::Set { device, introduction: Some(introduction), .. } => {
            introduction.check(head.space)?;
            if introduction.identity.device != *device { Err(RecordError::Shape) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}
