//! Identities: newtypes over fixed-size bytes, so that no two kinds of id can be mixed.
//!
//! Here live the types, how they are printed, and the derivations that need nothing but hashing. Keys are in
//! [`crate::keys`]; file ids are chosen in the scan diff, which knows what is taken.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Reads an id from exactly [`Self::LEN`] bytes; `None` for any other length.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Some(Self(bytes.try_into().ok()?))
            }

            /// Reads the hexadecimal form that [`fmt::Display`] prints, and no other (lower case, full length).
            pub fn from_hex(text: &str) -> Option<Self> {
                let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
                Self::from_slice(&bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let hex = data_encoding::HEXLOWER.encode(&self.0);
                // The last bytes: file ids of siblings begin alike.
                write!(f, "{}(..{})", stringify!($name), hex.get(hex.len() - 10..).unwrap_or(&hex))
            }
        }
    };
}

id!(
    /// One installation of a node or a browser profile: its Ed25519 public key.
    DeviceId, 32
);
id!(
    /// A space: BLAKE3 of its genesis under a context of its own.
    SpaceId, 32
);
id!(
    /// A human's set of devices; random, given at admission.
    PersonId, 16
);
id!(
    /// A signed change of membership: BLAKE3 of the record's bytes as received. The genesis is the first record, and
    /// its hash equals the [`SpaceId`].
    RecordHash, 32
);
id!(
    /// A log entry: BLAKE3 of header, payload and signature as received.
    EntryHash, 32
);
id!(
    /// A period with one content secret, named by the hash of the record that opened it.
    EpochId, 32
);
id!(
    /// One (re)start of a device's history in a space: random bytes.
    Incarnation, 8
);
id!(
    /// The Automerge actor of one log: see [`ActorId::of_log`].
    ActorId, 16
);
id!(
    /// A file or directory of the index, or the virtual file of a conflict's loser. Immutable.
    FileId, 16
);
id!(
    /// A piece of content: keyed BLAKE3 of its plaintext under a key of its epoch. A random label to outsiders.
    ChunkId, 32
);
id!(
    /// Plain BLAKE3 of a whole file's content, or of a symlink's target. Stands inside sealed payloads only.
    ContentHash, 32
);
id!(
    /// An Automerge change: SHA-256 of its chunk, as Automerge defines it. Changes name their dependencies by it.
    ChangeHash, 32
);

id!(
    /// A ticket, as the joiner names it to the inviter: derived from the ticket's secret, which it does not show.
    TicketId, 16
);

impl SpaceId {
    /// What stands for a space where a signature is about none (address records).
    pub const NONE: Self = Self([0; 32]);

    /// The record that a space begins with is its genesis, whose hash is the space's id.
    pub const fn genesis_record(self) -> RecordHash {
        RecordHash(self.0)
    }

    /// The first epoch of a space is named by its genesis.
    pub const fn first_epoch(self) -> EpochId {
        EpochId(self.0)
    }
}

impl FileId {
    /// The root directory of every space.
    pub const ROOT: Self = Self([0; 16]);
}

impl ContentHash {
    /// Hashes `content` (plain BLAKE3).
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

impl ActorId {
    /// The actor under which one log writes: 16 bytes of BLAKE3 over (space, device, incarnation), under a context
    /// of its own.
    pub fn of_log(space: SpaceId, log: LogId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("zerocloud/1 actor");
        hasher.update(space.as_bytes()).update(log.author.as_bytes()).update(log.incarnation.as_bytes());
        let mut actor = [0; 16];
        hasher.finalize_xof().fill(&mut actor);
        Self(actor)
    }
}

/// A log: the entries of one device in one space since one start of its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// Whose entries these are.
    pub author: DeviceId,
    /// Which start of the author's history.
    pub incarnation: Incarnation,
}

/// An operation on a register. Ordered by counter, then actor bytes, as in Automerge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OpId {
    /// Lamport counter, from 1.
    pub counter: u32,
    /// Which log wrote it.
    pub actor: ActorId,
}

impl OpId {
    /// Below every operation.
    pub const ZERO: Self = Self { counter: 0, actor: ActorId([0; 16]) };
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = data_encoding::HEXLOWER.encode(&self.actor.0);
        write!(f, "{}@{}", self.counter, hex.get(..6).unwrap_or(&hex))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_read_back_and_nothing_else_is() {
        let id = FileId([0xab; 16]);
        assert_eq!(FileId::from_hex(&id.to_string()), Some(id));
        assert_eq!(FileId::from_hex(&id.to_string().to_uppercase()), None);
        assert_eq!(FileId::from_hex("ab"), None);
    }

    #[test]
    fn operations_are_ordered_by_counter_before_actor() {
        let op = |counter, actor| OpId { counter, actor: ActorId([actor; 16]) };
        assert!(op(2, 0) > op(1, 255));
        assert!(op(2, 1) > op(2, 0));
    }
}
