//! What the materialiser notes before and after it acts: intents, and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use zerocloud_crdt::base::{BaseChanges, BaseRead, BaseRow, Fingerprint, MemoryBase, RowKey};
use zerocloud_crdt::id::{ContentHash, FileId};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::Kind;

use super::versions::VersionRow;

/// One action on the disk, as it is noted before it is done.
///
/// A row that is to come has the fingerprint of its temporary file: the same but for the ctime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "at most 10,000 at a time, most of them large")]
pub enum Deed {
    /// A file or link goes from its temporary name to a free place.
    Create {
        /// Where.
        key: RowKey,
        /// What comes.
        new: BaseRow,
        /// Its temporary name.
        temp: String,
    },
    /// A directory is made at a free place.
    CreateDirectory {
        /// Where.
        key: RowKey,
        /// What comes; its fingerprint is not known yet.
        new: BaseRow,
    },
    /// A file or link goes from its temporary name to the place of another.
    Replace {
        /// Where.
        key: RowKey,
        /// What base has there.
        old: BaseRow,
        /// What comes.
        new: BaseRow,
        /// Its temporary name; after an exchange, that of what was there.
        temp: String,
        /// Where names can't be exchanged: the temporary name of what was there.
        aside: Option<String>,
    },
    /// A file or link goes to the version store.
    Delete {
        /// Where.
        key: RowKey,
        /// What base has there.
        old: BaseRow,
        /// Its name there, which nothing has before.
        stored: String,
    },
    /// Something gets another directory or name, temporary ones included.
    Move {
        /// From where.
        from: RowKey,
        /// To where.
        to: RowKey,
        /// The inode at the old place.
        inode: u64,
        /// What base will have at the new place.
        new: BaseRow,
    },
    /// An empty directory goes.
    RemoveDirectory {
        /// Where.
        key: RowKey,
        /// The inode there; `None` if there is nothing.
        inode: Option<u64>,
    },
    /// Time and executable bit are set.
    SetMeta {
        /// Where.
        key: RowKey,
        /// What base will have; the fingerprint is the old one.
        new: BaseRow,
    },
}

/// The intents of one batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intents {
    /// The inode of the directory of temporary files: if it is another, the tree was copied or restored.
    pub tmp_inode: u64,
    /// In the order in which they are done.
    pub deeds: Vec<Deed>,
}

/// A file that was taken out of the tree and is not what base had there: a local edit, to be published with `pred` =
/// `row`. Its bytes are kept until that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Displaced {
    /// Its name in the version store.
    pub stored: String,
    /// Where it was.
    pub key: RowKey,
    /// What base had there.
    pub row: BaseRow,
    /// What it is; `None` for a FIFO and the like.
    pub kind: Option<Kind>,
    /// What the file system says of it.
    pub print: Fingerprint,
}

impl Displaced {
    /// The version that it is once it was published: kept from `kept_at_ms` (milliseconds since 1970) on. `hash` is that of
    /// what was published, by which its bytes are found for whoever wants them; `None` if nothing was.
    pub fn confirmed(self, kept_at_ms: i64, hash: Option<ContentHash>) -> VersionRow {
        let origin = Some((self.key, self.row));
        VersionRow { stored: self.stored, origin, print: self.print, kept_at_ms }.published_as(hash)
    }
}

/// Names a committed state of a store; each commit has a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub(crate) u64);

/// What a batch or a recovery changes. All of it is written in one transaction, which also clears the intents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Rows.
    pub base: BaseChanges,
    /// What went to the version store.
    pub versions: Vec<VersionRow>,
    /// What must be published.
    pub displaced: Vec<Displaced>,
    /// Items of which an action was done: their plan is to be made anew.
    pub done: BTreeSet<FileId>,
    /// Items of which nothing is left to be done, if no operation came for them after this state of the store.
    pub settled: BTreeMap<FileId, Generation>,
}

/// Where base, intents and the rows of displaced files are kept: durably, once a call returns.
pub trait Ledger: BaseRead {
    /// The intents that were noted and not cleared.
    fn intents(&self) -> Result<Option<Intents>, Self::Error>;
    /// Notes what is about to be done.
    fn note_intents(&mut self, intents: Intents) -> Result<(), Self::Error>;
    /// Writes what was done and clears the intents, in one transaction.
    fn commit(&mut self, commit: Commit) -> Result<(), Self::Error>;
    /// Whether a version or a displaced file is kept under this name.
    fn is_stored(&self, stored: &str) -> Result<bool, Self::Error>;
}

/// A ledger in memory: for tests and the simulator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryLedger {
    /// Rows.
    pub base: MemoryBase,
    /// What was noted and not cleared.
    pub intents: Option<Intents>,
    /// Versions by their stored name.
    pub versions: BTreeMap<String, VersionRow>,
    /// Displaced files by their stored name, until the engine has published them.
    pub displaced: BTreeMap<String, Displaced>,
}

impl MemoryLedger {
    /// After a displaced file was published: it is a version like others.
    pub fn confirm(&mut self, stored: &str, kept_at_ms: i64, hash: Option<ContentHash>) {
        if let Some(displaced) = self.displaced.remove(stored) {
            self.versions.insert(stored.to_owned(), displaced.confirmed(kept_at_ms, hash));
        }
    }
}

impl BaseRead for MemoryLedger {
    type Error = Infallible;

    fn row(&self, key: &RowKey) -> Result<Option<BaseRow>, Infallible> {
        self.base.row(key)
    }
    fn rows(&self, parent: FileId) -> Result<Vec<(Name, BaseRow)>, Infallible> {
        self.base.rows(parent)
    }
    fn has_rows(&self, parent: FileId) -> Result<bool, Infallible> {
        self.base.has_rows(parent)
    }
    fn of_source(&self, source: FileId) -> Result<Vec<(FileId, RowKey)>, Infallible> {
        self.base.of_source(source)
    }
    fn of_inode(&self, inode: u64) -> Result<Vec<RowKey>, Infallible> {
        self.base.of_inode(inode)
    }
}

impl Ledger for MemoryLedger {
    fn intents(&self) -> Result<Option<Intents>, Infallible> {
        Ok(self.intents.clone())
    }

    fn note_intents(&mut self, intents: Intents) -> Result<(), Infallible> {
        self.intents = Some(intents);
        Ok(())
    }

    fn commit(&mut self, commit: Commit) -> Result<(), Infallible> {
        self.intents = None;
        self.base.commit(commit.base);
        self.versions.extend(commit.versions.into_iter().map(|row| (row.stored.clone(), row)));
        self.displaced.extend(commit.displaced.into_iter().map(|displaced| (displaced.stored.clone(), displaced)));
        Ok(())
    }

    fn is_stored(&self, stored: &str) -> Result<bool, Infallible> {
        Ok(self.versions.contains_key(stored) || self.displaced.contains_key(stored))
    }
}
