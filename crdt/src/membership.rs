//! Who belongs to a space, with which role, and which records say so.
//!
//! A space begins with a [`Genesis`]; every later change is a signed [`Record`] that names the records before it, so
//! that all of them form a DAG. [`Records`] holds what was verified, and [`Table`] is who is in: a pure function of
//! the set of records. Handing out epoch secrets is in [`crate::grant`], inviting in [`crate::pairing`].
//!
//! This version evaluates the genesis and `add`. The other operations are laid out in full, and a space that meets
//! one stops with [`NeedsNewerVersion`]: it keeps what it has, and neither skips nor guesses.

mod genesis;
mod past;
mod record;
mod records;
mod rights;
mod row;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use serde::{Deserialize, Serialize};

pub use genesis::{Genesis, GenesisBody, GenesisError};
pub use record::{EntryHead, Head, Older, Opened, Operation, Record, RecordError, Target};
pub use records::{InsertError, Inserted, Records, UnknownRecord};
pub use row::{Given, Identity, Introduction, KemKey, Row, RowError};
pub use table::{AddRefusal, Member, Table, TableError};

/// The format level of this program: it understands records that need no more.
pub const LEVEL: u16 = 1;

/// The lowest level that this program accepts, whatever a genesis or record says: nobody can talk it into an older
/// construction.
pub const LEVEL_MIN: u16 = 1;

/// The chunker that a genesis names: FastCDC with a secret gear table.
pub const CHUNKER: u8 = 1;

/// What a device may do in a space. Ordered: a greater role may do all that a smaller one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Stores sealed chunks and log entries for others and reads nothing.
    Keeper,
    /// Reads.
    Viewer,
    /// Reads and writes.
    Editor,
    /// Members and all below.
    Owner,
}

impl Role {
    /// Every role, smallest first.
    pub const ALL: [Self; 4] = [Self::Keeper, Self::Viewer, Self::Editor, Self::Owner];

    /// Whether entries by this role's devices change the index.
    pub const fn can_write(self) -> bool {
        matches!(self, Self::Owner | Self::Editor)
    }

    /// Whether epoch secrets are granted to this role's devices.
    pub const fn can_read(self) -> bool {
        matches!(self, Self::Owner | Self::Editor | Self::Viewer)
    }

    /// Whether this role's devices add other people. Every device may add more devices of its own person.
    pub const fn can_add_members(self) -> bool {
        matches!(self, Self::Owner)
    }
}

/// The space holds something that only a newer version understands. It stops there and keeps what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this space needs a newer version of ZeroCloud ({what}); update this device")]
pub struct NeedsNewerVersion {
    /// What is not understood.
    pub what: Newer,
}

/// What a newer version wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Newer {
    /// A needed format level above [`LEVEL`].
    #[error("its format level is {level}")]
    Level {
        /// The level that is needed.
        level: u16,
    },
    /// A chunker above [`CHUNKER`].
    #[error("it is cut by chunker {chunker}")]
    Chunker {
        /// The chunker that the genesis names.
        chunker: u8,
    },
    /// An operation that is not evaluated here.
    #[error("its members were changed in a way that is not known here")]
    Operation,
}
