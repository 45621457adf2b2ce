//! The registers of the index: what they hold, and how operations change them.
//!
//! Each item has three multi-value registers: place, content and meta. A register is a map from live operation to
//! value; an operation adds one value (a put) and takes away those that it names (`pred`). How the values become a
//! tree is in [`crate::view`]; how operations travel is in the log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{ContentHash, FileId, OpId};
use crate::manifest::Manifest;
use crate::name::Name;

/// A point in time as a file system notes it: seconds since 1970 (negative before) and nanoseconds below 10^9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileTime {
    /// Whole seconds, rounded down.
    pub secs: i64,
    /// The rest, 0 to 999,999,999.
    pub nanos: u32,
}

/// Where an item stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The directory.
    pub parent: FileId,
    /// The name there.
    pub name: Name,
    /// The directory before, if this was a move; `None` for a creation.
    pub previous: Option<FileId>,
    /// For the id of a virtual file (the loser of a conflict): the item whose loser it is. Who reads the place of such
    /// an id must find that item, and its name can't be guessed from the id.
    pub loser_of: Option<FileId>,
}

impl Place {
    /// Whether a move wrote this place; such a place beats one that a creation wrote.
    pub const fn is_move(&self) -> bool {
        self.previous.is_some()
    }
}

/// What an item is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Content {
    /// A directory has only its kind.
    Directory,
    /// A regular file.
    File(FileContent),
    /// A symbolic link: data, never followed. At most [`crate::limits::LINK_TARGET_LEN_MAX`] bytes.
    Symlink {
        /// The target, as it is.
        #[serde(with = "serde_bytes")]
        target: Vec<u8>,
    },
}

/// The value of a regular file's content.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileContent {
    /// Time of last change.
    pub mtime: FileTime,
    /// The owner's executable bit.
    pub executable: bool,
    /// BLAKE3 of the whole content.
    pub hash: ContentHash,
    /// Length and chunks.
    pub manifest: Manifest,
}

/// A touch or chmod alone: it is about some bytes that it does not change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Meta {
    /// Time of last change.
    pub mtime: FileTime,
    /// The owner's executable bit.
    pub executable: bool,
    /// Whether that bit differs from the one in the content value that this is about.
    pub executable_differs: bool,
    /// The content operation that this is about.
    pub about: OpId,
}

/// The kinds of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

impl Content {
    /// The kind of item that this content makes.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Directory => Kind::Directory,
            Self::File(_) => Kind::File,
            Self::Symlink { .. } => Kind::Symlink,
        }
    }

    /// Length in bytes: of a file's content or a link's target; 0 for a directory.
    pub const fn byte_len(&self) -> u64 {
        match self {
            Self::Directory => 0,
            Self::File(file) => file.manifest.len,
            Self::Symlink { target } => target.len() as u64,
        }
    }

    /// What decides whether two values are the same bytes. Directories share one constant.
    pub fn hash(&self) -> ContentHash {
        match self {
            Self::Directory => ContentHash([0; 32]),
            Self::File(file) => file.hash,
            Self::Symlink { target } => ContentHash::of(target),
        }
    }
}

/// The three registers of one item. Each holds its live operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Where it stands.
    pub place: BTreeMap<OpId, Place>,
    /// What it is. Empty: deleted, or not yet made.
    pub content: BTreeMap<OpId, Content>,
    /// Touches and chmods.
    pub meta: BTreeMap<OpId, Meta>,
}

/// One operation on one register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// Its id. Counters inside one entry follow each other without a gap.
    pub id: OpId,
    /// The item.
    pub item: FileId,
    /// The register and what is put there.
    pub write: Write,
    /// The operations of the same register that it supersedes, ascending.
    pub pred: Vec<OpId>,
}

/// What an operation does to its register: a put of a value, or (`None`) a delete, which only supersedes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// On the place register; places are never deleted.
    Place(Place),
    /// On the content register.
    Content(Option<Content>),
    /// On the meta register.
    Meta(Option<Meta>),
}

impl Item {
    /// Applies one operation: what it supersedes goes, what it puts comes. The checks of the log have been made.
    pub fn apply(&mut self, op: &Op) {
        match &op.write {
            Write::Place(place) => {
                self.place.retain(|id, _| !op.pred.contains(id));
                self.place.insert(op.id, place.clone());
            }
            Write::Content(content) => {
                self.content.retain(|id, _| !op.pred.contains(id) || crate::mutated!(UnsupersededContent));
                if let Some(content) = content {
                    self.content.insert(op.id, content.clone());
                }
            }
            Write::Meta(meta) => {
                self.meta.retain(|id, _| !op.pred.contains(id));
                if let Some(meta) = meta {
                    self.meta.insert(op.id, meta.clone());
                }
            }
        }
    }

    /// The place that counts: one written by a move beats one written by a creation, then the highest operation.
    pub fn winning_place(&self) -> Option<(OpId, &Place)> {
        self.place.iter().max_by_key(|(id, place)| (place.is_move(), **id)).map(|(id, place)| (*id, place))
    }
}
