//! Changes: the operations of one index entry as one Automerge change, and back.
//!
//! Here live the correspondence and every check that needs no more than the change's own bytes. What needs the
//! entry's causal past (actor, sequence, dependencies, what is superseded) is checked in [`crate::log`].
//!
//! # Format
//! A change is an uncompressed *change chunk* of Automerge's binary format
//! (<https://automerge.org/automerge-binary-format-spec/>) of which we use this much and no more:
//!
//! ```text
//! chunk    = 85 6f 4a 83 ‖ first 4 bytes of its hash ‖ 01 ‖ length:uleb ‖ body      hash: SHA-256(01 ‖ length ‖ body)
//! body     = deps:[hash; n:uleb] ‖ actor ‖ seq:uleb ‖ start_op:uleb ‖ time:leb = 0 ‖ message length:uleb = 0
//!            ‖ other actors:[actor; n:uleb], ascending ‖ columns ‖ column data           actor = 16:uleb ‖ 16 bytes
//! columns  = [specification:uleb ‖ length:uleb; n:uleb]:
//!            15 key        strings, run-length     base64url(file id, 22 characters) ‖ `p`, `c` or `m`
//!            34 insert     all false
//!            42 action     uints, run-length       1 put, 3 delete
//!            56 value meta uints, run-length       put: length << 4 | 7 (bytes); delete: 0 (null)
//!            57 value      raw                     postcard of Place, Content or Meta
//!            70 preds      uints, run-length       how many operations each supersedes
//!            71 pred actor uints, run-length       0 this change's, n the n-th other actor
//!            73 pred counter deltas, run-length
//! ```
//!
//! Automerge's own parser is never given bytes from outside: it panics on an actor index beyond the table, repeats a
//! value as often as a run says, and keeps what it does not know. [`Change::decode`] reads with a reader of its own
//! that is bounded by [`crate::limits`] and knows nothing but the above, has Automerge write what was read, and
//! compares: what differs in one byte is refused. So each change has one encoding, which Automerge reads as we do.

mod reader;
mod value;

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU64;

use automerge::legacy;

use crate::id::{ActorId, ChangeHash, FileId, OpId};
use crate::limits::{
    ENTRY_FILE_COUNT_MAX, ENTRY_OP_COUNT_MAX, ENTRY_PLAIN_LEN_MAX, ENTRY_PRED_COUNT_MAX, REGISTER_LIVE_COUNT_MAX,
};
use crate::register::{Op, Write};

pub use value::ValueError;

/// Which of an item's three registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Register {
    /// Where it stands: `p`.
    Place,
    /// What it is: `c`.
    Content,
    /// Touches and chmods: `m`.
    Meta,
}

/// A register of an item: a key of the root map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The item.
    pub item: FileId,
    /// Its register.
    pub register: Register,
}

impl Register {
    const fn letter(self) -> char {
        match self {
            Self::Place => 'p',
            Self::Content => 'c',
            Self::Meta => 'm',
        }
    }
}

impl fmt::Display for Key {
    /// Writes the key as it stands in a change: 22 characters of base64url without padding and a letter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoding = data_encoding::BASE64URL_NOPAD;
        write!(f, "{}{}", encoding.encode_display(self.item.as_bytes()), self.register.letter())
    }
}

impl Key {
    /// Reads what [`fmt::Display`] writes, and nothing else.
    ///
    /// # Errors
    /// [`ChangeError::UnknownRegister`] for another letter behind a file id, [`ChangeError::Key`] for all else.
    pub fn parse(text: &[u8]) -> Result<Self, ChangeError> {
        let (&letter, id) = text.split_last().ok_or(ChangeError::Key)?;
        let mut item = [0; FileId::LEN];
        if data_encoding::BASE64URL_NOPAD.decode_len(id.len()) != Ok(FileId::LEN)
            || data_encoding::BASE64URL_NOPAD.decode_mut(id, &mut item) != Ok(FileId::LEN)
        {
            return Err(ChangeError::Key);
        }
        let register = match letter {
            b'p' => Register::Place,
            b'c' => Register::Content,
            b'm' => Register::Meta,
            _ => return Err(ChangeError::UnknownRegister { letter }),
        };
        Ok(Self { item: FileId(item), register })
    }
}

impl Write {
    /// Which register this writes.
    pub const fn register(&self) -> Register {
        match self {
            Self::Place(_) => Register::Place,
            Self::Content(_) => Register::Content,
            Self::Meta(_) => Register::Meta,
        }
    }

    /// Whether this puts no value: a delete.
    pub const fn is_delete(&self) -> bool {
        matches!(self, Self::Content(None) | Self::Meta(None))
    }
}

impl Op {
    /// The register that this operation is on.
    pub const fn key(&self) -> Key {
        Key { item: self.item, register: self.write.register() }
    }

    /// The operations that this one names, each with the register that it is on: what it supersedes, and what a meta is
    /// about.
    pub fn named_mut(&mut self) -> impl Iterator<Item = (&mut OpId, Key)> {
        let (key, item) = (self.key(), self.item);
        let about = match &mut self.write {
            Write::Meta(Some(meta)) => Some((&mut meta.about, Key { item, register: Register::Content })),
            _ => None,
        };
        self.pred.iter_mut().map(move |id| (id, key)).chain(about)
    }
}

/// One change: the operations of one index entry. Their ids are (`start_op` + position, `actor`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Under which actor.
    pub actor: ActorId,
    /// The change's number among those of its actor, from 1.
    pub seq: u64,
    /// The newest changes before this one, ascending.
    pub deps: Vec<ChangeHash>,
    /// Counter of the first operation, from 1.
    pub start_op: u32,
    /// The operations; never none.
    pub ops: Vec<Op>,
}

/// A change with the bytes and the hash that stand for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedChange {
    /// The chunk, uncompressed.
    pub bytes: Vec<u8>,
    /// Its hash.
    pub hash: ChangeHash,
}

/// Why bytes are no change of ours, or a change can't be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Above [`ENTRY_PLAIN_LEN_MAX`].
    #[error("change of {len} bytes is above the limit of {ENTRY_PLAIN_LEN_MAX} bytes")]
    TooLong {
        /// Length in bytes.
        len: usize,
    },
    /// Not an Automerge change chunk, or one with parts that ours never have.
    #[error("malformed change")]
    Malformed,
    /// Read without error, but not what Automerge writes for what was read (checksum included).
    #[error("change is not in its canonical encoding")]
    NotCanonical,
    /// A time of commit, which could differ between devices.
    #[error("change carries a time")]
    Time,
    /// A commit message.
    #[error("change carries a message")]
    Message,
    /// A key that is no file id and letter.
    #[error("a key of the change names no register")]
    Key,
    /// An action that this version does not know.
    #[error("operation kind {action} is unknown to this version; update ZeroCloud")]
    UnknownAction {
        /// Automerge's number of the action.
        action: u64,
    },
    /// A register that this version does not know.
    #[error("register kind {letter:?} is unknown to this version; update ZeroCloud")]
    UnknownRegister {
        /// The last byte of the key.
        letter: u8,
    },
    /// A value that this version does not know or that is not allowed.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The root has no registers: it stands in nothing, and is what it is.
    #[error("an operation on the root")]
    Root,
    /// Places are never deleted.
    #[error("a place is deleted")]
    PlaceDeleted,
    /// A delete that supersedes nothing.
    #[error("a delete supersedes nothing")]
    EmptyDelete,
    /// No operation at all.
    #[error("change without operations")]
    Empty,
    /// Above [`ENTRY_OP_COUNT_MAX`].
    #[error("change has more than {ENTRY_OP_COUNT_MAX} operations")]
    TooManyOps,
    /// Above [`ENTRY_FILE_COUNT_MAX`].
    #[error("change touches more than {ENTRY_FILE_COUNT_MAX} files")]
    TooManyFiles,
    /// Above [`ENTRY_PRED_COUNT_MAX`] together or [`REGISTER_LIVE_COUNT_MAX`] in one operation.
    #[error("change supersedes too many operations")]
    TooManyPreds,
    /// Operation counters must stay in 1..2^32 - 1, so that one can follow, and sequence numbers above 0.
    #[error("an operation counter or sequence number is out of range")]
    Counter,
    /// Superseded operations and dependencies are named once each, in ascending order.
    #[error("superseded operations or dependencies are not in ascending order")]
    Order,
    /// The ids of the operations are not (`start_op` + position, `actor`).
    #[error("operation ids do not follow each other")]
    Ids,
}

impl ChangeError {
    /// Whether a newer version may well read this change: the space stops, nothing is void.
    pub const fn is_unknown(&self) -> bool {
        matches!(
            self,
            Self::UnknownAction { .. }
                | Self::UnknownRegister { .. }
                | Self::Value(ValueError::UnknownKind { .. } | ValueError::UnknownChunker { .. })
        )
    }
}

impl Change {
    /// Counter of the last operation.
    pub fn end_op(&self) -> u32 {
        // `check` has made sure that the sum fits.
        self.start_op.saturating_add(u32::try_from(self.ops.len()).unwrap_or(u32::MAX).saturating_sub(1))
    }

    /// Writes the change. The same change gives the same bytes everywhere.
    ///
    /// # Errors
    /// Every bound and shape of [`ChangeError`] that [`Self::decode`] checks, so that what is written can be read.
    pub fn encode(&self) -> Result<EncodedChange, ChangeError> {
        self.check()?;
        for op in &self.ops {
            value::check(&op.write)?;
        }
        let encoded = self.encode_checked()?;
        if encoded.bytes.len() > ENTRY_PLAIN_LEN_MAX {
            return Err(ChangeError::TooLong { len: encoded.bytes.len() });
        }
        Ok(encoded)
    }

    /// Reads a change from bytes of any origin.
    ///
    /// # Errors
    /// A variant of [`ChangeError`] for each rule. Never panics; allocates no more than the limits allow.
    pub fn decode(bytes: &[u8]) -> Result<(Self, ChangeHash), ChangeError> {
        if bytes.len() > ENTRY_PLAIN_LEN_MAX {
            return Err(ChangeError::TooLong { len: bytes.len() });
        }
        let change = reader::read(bytes)?;
        change.check()?;
        let encoded = change.encode_checked()?;
        if encoded.bytes != bytes {
            return Err(ChangeError::NotCanonical);
        }
        Ok((change, encoded.hash))
    }

    /// Every rule that is not about a single value.
    fn check(&self) -> Result<(), ChangeError> {
        if self.ops.is_empty() {
            return Err(ChangeError::Empty);
        }
        if self.ops.len() > ENTRY_OP_COUNT_MAX {
            return Err(ChangeError::TooManyOps);
        }
        let count = u32::try_from(self.ops.len()).map_err(|_| ChangeError::TooManyOps)?;
        if self.seq == 0 || self.start_op == 0 || self.start_op.checked_add(count).is_none() {
            return Err(ChangeError::Counter);
        }
        if !is_ascending(&self.deps) {
            return Err(ChangeError::Order);
        }
        let (mut files, mut pred_count) = (BTreeSet::new(), 0);
        for (op, counter) in self.ops.iter().zip(self.start_op..) {
            if op.id != (OpId { counter, actor: self.actor }) {
                return Err(ChangeError::Ids);
            }
            if op.item == FileId::ROOT {
                return Err(ChangeError::Root);
            }
            if !is_ascending(&op.pred) {
                return Err(ChangeError::Order);
            }
            if op.pred.iter().any(|pred| pred.counter == 0) {
                return Err(ChangeError::Counter);
            }
            if op.write.is_delete() && op.pred.is_empty() {
                return Err(ChangeError::EmptyDelete);
            }
            pred_count += op.pred.len();
            if pred_count > ENTRY_PRED_COUNT_MAX || op.pred.len() > REGISTER_LIVE_COUNT_MAX {
                return Err(ChangeError::TooManyPreds);
            }
            files.insert(op.item);
        }
        if files.len() > ENTRY_FILE_COUNT_MAX {
            return Err(ChangeError::TooManyFiles);
        }
        Ok(())
    }

    /// Has Automerge write a change that was checked.
    fn encode_checked(&self) -> Result<EncodedChange, ChangeError> {
        let actor = |actor: ActorId| automerge::ActorId::from(&actor.0[..]);
        let operations = self
            .ops
            .iter()
            .map(|op| legacy::Op {
                action: value::encode(&op.write)
                    .map_or(legacy::OpType::Delete, |bytes| legacy::OpType::Put(automerge::ScalarValue::Bytes(bytes))),
                obj: legacy::ObjectId::Root,
                key: legacy::Key::Map(op.key().to_string().into()),
                pred: op.pred.iter().map(|pred| legacy::OpId(u64::from(pred.counter), actor(pred.actor))).collect(),
                insert: false,
            })
            .collect();
        let change = automerge::Change::from(automerge::ExpandedChange {
            operations,
            actor_id: actor(self.actor),
            hash: None,
            seq: self.seq,
            start_op: NonZeroU64::new(u64::from(self.start_op)).ok_or(ChangeError::Counter)?,
            time: 0,
            message: None,
            deps: self.deps.iter().map(|dep| automerge::ChangeHash(dep.0)).collect(),
            extra_bytes: Vec::new(),
            author: None,
        });
        Ok(EncodedChange { bytes: change.raw_bytes().to_vec(), hash: ChangeHash(change.hash().0) })
    }
}

/// Whether each element is above the one before it.
fn is_ascending<T: Ord>(elements: &[T]) -> bool {
    elements.is_sorted_by(|left, right| left < right)
}

#[cfg(test)]
mod tests;
