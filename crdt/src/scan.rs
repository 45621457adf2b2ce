//! Scan: what a walk over the tree found, turned into operations.
//!
//! The walk itself (listing, stat, hashing) is done by whoever owns the disk. It hands over [`Sighting`]s: whatever is
//! not exactly as base noted it, and which rows are gone. [`identity`] decides which row each sighting continues;
//! [`diff`] decides the operations and the new rows. Both are pure. Which files go into which entry is
//! [`batches`]' work.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{BaseChanges, BaseRead, BaseRow, Fingerprint, RowKey};
use crate::id::{ActorId, ContentHash, FileId, OpId};
use crate::index::{IndexChanges, IndexRead};
use crate::manifest::Manifest;
use crate::mutated;
use crate::name::Name;
use crate::projection::NameRules;
use crate::register::{Content, FileContent, FileTime, Kind, Meta, Op, Place, Write};
use crate::view::file_id;

mod batches;
mod fold;
pub mod identity;
mod still;
mod walk;

pub use batches::{Part, batches};
pub use walk::{Listed, Walk};

/// The directory in which something was sighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parent {
    /// A directory that has a row (after identification), or the root.
    Known(FileId),
    /// A directory that is new: the index of its own sighting, which stands before this one.
    New(usize),
}

/// What was read of a sighted thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not read: the row that it continues says what it is (a move, or a touch of a directory).
    AsBefore,
    /// A directory.
    Directory,
    /// A regular file, with its content hash and chunks.
    File {
        /// BLAKE3 of the content.
        hash: ContentHash,
        /// Its chunks.
        manifest: Manifest,
    },
    /// A symbolic link.
    Symlink {
        /// The target.
        target: Vec<u8>,
    },
}

/// Something on disk that is not exactly as base noted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Where.
    pub parent: Parent,
    /// The name on this disk.
    pub local: Name,
    /// What it is.
    pub kind: Kind,
    /// What the file system says of it.
    pub print: Fingerprint,
    /// Hard links to it: a file with more than one is never taken for a moved one.
    pub links: u64,
    /// The row that it continues, if any.
    pub from: Option<RowKey>,
    /// What was read of it.
    pub seen: Seen,
}

impl Sighting {
    /// The key of the row at this path; `None` in a new directory.
    pub fn key(&self) -> Option<RowKey> {
        match self.parent {
            Parent::Known(parent) => Some(RowKey { parent, local: self.local.clone() }),
            Parent::New(_) => None,
        }
    }

    /// Whether this stands elsewhere than base has it.
    pub fn is_moved(&self) -> bool {
        self.from.is_some() && self.from != self.key()
    }
}

/// What a scan found: sightings (parents before what is in them) and the rows whose path is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Whatever is not as base noted it.
    pub sightings: Vec<Sighting>,
    /// Rows with nothing at their path, in directories that were listed completely, and that no sighting continues.
    pub gone: BTreeSet<RowKey>,
    /// By which the disk's names are read.
    pub names: NameRules,
}

/// What [`diff`] decided: operations for one entry, and the base rows that belong to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanOutcome {
    /// In the order of their counters, from the index's largest plus one.
    pub ops: Vec<Op>,
    /// New and removed rows.
    pub base: BaseChanges,
    /// The id of each sighting, in their order.
    pub ids: Vec<FileId>,
    /// Items that must be planned again although no operation touches them: a row is gone that showed nothing of its
    /// own, but the view still has the entry.
    pub unsettled: BTreeSet<FileId>,
    /// What the operations change in the index that they were decided on, where that was found out on the way.
    pub changes: Option<IndexChanges>,
}

/// Turns findings into operations and rows.
///
/// `actor` writes; counters go on from the index's largest. A local content or meta operation supersedes exactly what
/// its base row shows, never what the register holds by now; a place operation supersedes all live places. Rows that
/// stay keep the place that the view shows: what the scan's own operations would move or take away is written
/// (*a scan moves nothing else*).
pub fn diff<I, B>(index: &I, base: &B, actor: ActorId, findings: &Findings) -> Result<ScanOutcome, I::Error>
where
    I: IndexRead,
    B: BaseRead<Error = I::Error>,
{
    let mut scan = Scan {
        index,
        base,
        actor,
        counter: index.max_counter()?,
        ops: Vec::new(),
        created: Vec::new(),
        rows: BTreeMap::new(),
        placed: BTreeMap::new(),
        moved: BTreeSet::new(),
        taken: BTreeSet::new(),
        gone: &findings.gone,
        unsettled: BTreeSet::new(),
        names: findings.names,
    };
    let ids = scan.run(&findings.sightings)?;
    scan.join_virtual_twins()?;
    let changes = scan.move_nothing_else()?;
    Ok(scan.finish(ids, changes))
}

struct Scan<'a, I, B> {
    index: &'a I,
    base: &'a B,
    actor: ActorId,
    counter: u32,
    ops: Vec<Op>,
    /// Rows of new files.
    created: Vec<(RowKey, BaseRow)>,
    /// Rows that sightings continue, by the key that they had before, with the key that they have after.
    rows: BTreeMap<RowKey, (RowKey, BaseRow)>,
    /// Places written by this scan.
    placed: BTreeMap<FileId, (FileId, Name)>,
    /// Keys (before) of rows that this scan moved.
    moved: BTreeSet<RowKey>,
    /// Ids given to new files in this scan.
    taken: BTreeSet<FileId>,
    gone: &'a BTreeSet<RowKey>,
    /// The items of rows that are gone.
    unsettled: BTreeSet<FileId>,
    names: NameRules,
}

impl<I: IndexRead, B: BaseRead<Error = I::Error>> Scan<'_, I, B> {
    fn run(&mut self, sightings: &[Sighting]) -> Result<Vec<FileId>, I::Error> {
        // Moves come first, so that the ids of new files see them. A move into a new directory waits for its id.
        let mut ids: Vec<FileId> = Vec::with_capacity(sightings.len());
        for sighting in sightings {
            let row = match &sighting.from {
                Some(from) => self.base.row(from)?,
                None => None,
            };
            ids.push(row.as_ref().map_or(FileId::ROOT, |row| row.id));
            if let (Some(from), Some(row), Parent::Known(parent)) = (&sighting.from, row, sighting.parent) {
                self.moved_or_stays(sighting, from, row, parent)?;
            }
        }
        for key in self.gone {
            if let Some(row) = self.base.row(key)? {
                self.delete(&row);
                self.unsettled.extend([row.id, row.source]);
            }
        }
        for (at, sighting) in sightings.iter().enumerate() {
            let parent = match sighting.parent {
                Parent::Known(parent) => parent,
                Parent::New(of) => ids.get(of).copied().unwrap_or(FileId::ROOT),
            };
            match (&sighting.from, sighting.parent) {
                (None, _) => {
                    let id = self.create(sighting, parent)?;
                    if let Some(slot) = ids.get_mut(at) {
                        *slot = id;
                    }
                }
                (Some(from), Parent::New(_)) => {
                    if let Some(row) = self.base.row(from)? {
                        self.moved_or_stays(sighting, from, row, parent)?;
                    }
                }
                (Some(_), Parent::Known(_)) => {}
            }
        }
        Ok(ids)
    }

    fn op(&mut self, item: FileId, write: Write, pred: impl IntoIterator<Item = OpId>) -> OpId {
        self.counter = self.counter.saturating_add(1);
        let id = OpId { counter: self.counter, actor: self.actor };
        let pred: BTreeSet<OpId> = pred.into_iter().collect();
        self.ops.push(Op { id, item, write, pred: pred.into_iter().collect() });
        id
    }

    /// Writes where an item stands, in place of all places that are live.
    fn place(&mut self, row: &BaseRow, parent: FileId, name: Name, previous: Option<FileId>) -> Result<(), I::Error> {
        let live: Vec<OpId> = self.index.item(row.id)?.map(|item| item.place.into_keys().collect()).unwrap_or_default();
        let loser_of = row.is_virtual().then_some(row.source);
        self.placed.insert(row.id, (parent, name.clone()));
        self.op(row.id, Write::Place(Place { parent, name, previous, loser_of }), live);
        Ok(())
    }

    /// What a register holds by now: what only a fault supersedes.
    fn held(&self, item: FileId) -> BTreeSet<OpId> {
        self.index.item(item).ok().flatten().unwrap_or_default().content.into_keys().collect()
    }

    /// Takes away what a row shows.
    fn delete(&mut self, row: &BaseRow) {
        if mutated!(DeletePredOfRegister) {
            self.op(row.source, Write::Content(None), self.held(row.source));
            return;
        }
        if !row.content_ops.is_empty() {
            self.op(row.source, Write::Content(None), row.content_ops.iter().copied());
        }
        if !row.meta_ops.is_empty() {
            self.op(row.source, Write::Meta(None), row.meta_ops.iter().copied());
        }
    }

    /// The name that a path stands for: what its row notes for a path or leaf that base knows, else what the user
    /// gave. A local name that stands for another never becomes an operation.
    fn view_name(
        &self,
        sighting: &Sighting,
        parent: FileId,
        row: Option<(&RowKey, &BaseRow)>,
    ) -> Result<Name, I::Error> {
        let key = RowKey { parent, local: sighting.local.clone() };
        if let Some(at) = self.base.row(&key)? {
            return Ok(at.view_name);
        }
        Ok(match row {
            Some((from, row)) if from.local == sighting.local => row.view_name.clone(),
            _ => self.names.natural(&sighting.local),
        })
    }

    fn moved_or_stays(
        &mut self,
        sighting: &Sighting,
        from: &RowKey,
        mut row: BaseRow,
        parent: FileId,
    ) -> Result<(), I::Error> {
        let key = RowKey { parent, local: sighting.local.clone() };
        let is_moved = key != *from;
        let name = self.view_name(sighting, parent, Some((from, &row)))?;
        let previous = if from.parent == crate::base::PARKED { row.view_parent } else { from.parent };
        if is_moved {
            self.moved.insert(from.clone());
            if !row.is_virtual() {
                self.place(&row, parent, name.clone(), Some(previous))?;
            }
            (row.view_parent, row.view_name) = (parent, name.clone());
        }
        let now = Now::of(sighting, &row);
        let is_same = now.hash == row.hash;
        if row.kind == Kind::File && is_same && (now.mtime, now.executable) != (row.mtime, row.executable) {
            self.touch(&mut row, &now)?;
        }
        if row.is_virtual() {
            if !is_same {
                self.delete(&row);
                self.place(&row, parent, name, is_moved.then_some(previous))?;
                row.source = row.id;
                row.content_ops.clear();
                row.meta_ops.clear();
                self.edit(&mut row, &now);
            } else if is_moved {
                self.place(&row, parent, name, Some(previous))?;
            }
        } else if row.kind != Kind::Directory && !is_same {
            self.edit(&mut row, &now);
        }
        row.print = sighting.print;
        self.rows.insert(from.clone(), (key, row));
        Ok(())
    }

    /// A touch or chmod alone: about bytes that it does not change.
    fn touch(&mut self, row: &mut BaseRow, now: &Now) -> Result<(), I::Error> {
        let (Some(about), Some(mtime)) = (row.content_ops.last().copied(), now.mtime) else { return Ok(()) };
        let own = match self.index.item(row.source)?.and_then(|mut item| item.content.remove(&about)) {
            Some(Content::File(file)) => file.executable,
            // The bytes shown were superseded since; the bit that the row shows is the best that is known of them.
            _ => row.executable,
        };
        let meta = Meta { mtime, executable: now.executable, executable_differs: now.executable != own, about };
        let op = self.op(row.source, Write::Meta(Some(meta)), row.meta_ops.iter().copied());
        row.meta_ops = BTreeSet::from([op]);
        (row.mtime, row.executable) = (now.mtime, now.executable);
        Ok(())
    }

    /// New bytes: a put in place of what the row shows, and its metas go.
    fn edit(&mut self, row: &mut BaseRow, now: &Now) {
        let Some(content) = now.content.clone() else { return };
        let pred = match () {
            () if mutated!(EditPredOfRegister) => self.held(row.source),
            () if mutated!(EditWithoutPred) => BTreeSet::new(),
            () => row.content_ops.clone(),
        };
        let op = self.op(row.source, Write::Content(Some(content)), pred);
        if !row.meta_ops.is_empty() {
            self.op(row.source, Write::Meta(None), row.meta_ops.iter().copied());
        }
        row.content_ops = BTreeSet::from([op]);
        row.meta_ops.clear();
        (row.hash, row.len, row.mtime, row.executable) = (now.hash, now.len, now.mtime, now.executable);
    }

    fn create(&mut self, sighting: &Sighting, parent: FileId) -> Result<FileId, I::Error> {
        let name = self.view_name(sighting, parent, None)?;
        let (id, is_fresh) = self.new_id(parent, &name, sighting.kind == Kind::Directory)?;
        self.taken.insert(id);
        let mut row = BaseRow {
            id,
            source: id,
            kind: sighting.kind,
            view_parent: parent,
            view_name: name.clone(),
            content_ops: BTreeSet::new(),
            meta_ops: BTreeSet::new(),
            hash: Content::Directory.hash(),
            len: 0,
            mtime: None,
            executable: false,
            print: sighting.print,
        };
        if is_fresh {
            self.place(&row, parent, name, None)?;
        }
        let now = Now::of(sighting, &row);
        let registers = self.index.item(id)?.unwrap_or_default();
        let bare: Vec<OpId> = registers
            .meta
            .iter()
            .filter(|(_, meta)| !registers.content.contains_key(&meta.about))
            .map(|(op, _)| *op)
            .collect();
        if let Some(content) = now.content {
            row.content_ops = BTreeSet::from([self.op(id, Write::Content(Some(content)), [])]);
        }
        if !bare.is_empty() {
            self.op(id, Write::Meta(None), bare);
        }
        (row.hash, row.len, row.mtime, row.executable) = (now.hash, now.len, now.mtime, now.executable);
        let key = RowKey { parent, local: sighting.local.clone() };
        self.created.push((key, row));
        Ok(id)
    }

    /// The smallest n whose id is unknown here, or whose place is this very one and which no other path shows.
    fn new_id(&self, parent: FileId, name: &Name, is_directory: bool) -> Result<(FileId, bool), I::Error> {
        let mut n = 0;
        loop {
            let id = file_id(self.index.space(), parent, is_directory, n, name.as_bytes());
            if !self.taken.contains(&id) {
                let at = match self.placed.get(&id) {
                    Some(at) => Some(at.clone()),
                    None => self
                        .index
                        .item(id)?
                        .as_ref()
                        .and_then(|item| item.winning_place())
                        .map(|(_, place)| (place.parent, place.name.clone())),
                };
                match at {
                    None => return Ok((id, true)),
                    Some((at_parent, at_name)) if at_parent == parent && at_name == *name => {
                        let shown = self.base.find(id, id)?.filter(|key| !self.gone.contains(key));
                        if shown.is_none() {
                            return Ok((id, false));
                        }
                    }
                    Some(_) => {}
                }
            }
            n += 1;
        }
    }

    /// The row that `key` (before the scan) has after it.
    fn row_after(&self, key: &RowKey) -> Result<Option<(RowKey, BaseRow)>, I::Error> {
        match self.rows.get(key) {
            Some(after) => Ok(Some(after.clone())),
            None => Ok(self.base.row(key)?.map(|row| (key.clone(), row))),
        }
    }

    fn finish(mut self, ids: Vec<FileId>, changes: Option<IndexChanges>) -> ScanOutcome {
        let written: BTreeSet<OpId> = self.ops.iter().map(|op| op.id).collect();
        let renamed = fold::fold(&mut self.ops);
        let is_as_applied = self.ops.len() == written.len();
        let rename = |ops: &mut BTreeSet<OpId>| {
            let all = std::mem::take(ops).into_iter();
            ops.extend(all.filter_map(|op| if written.contains(&op) { renamed.get(&op).copied() } else { Some(op) }));
        };
        for row in self.rows.values_mut().chain(&mut self.created).map(|(_, row)| row) {
            rename(&mut row.content_ops);
            rename(&mut row.meta_ops);
        }
        // Old keys first: a swap takes each other's.
        let old = self.gone.iter().chain(self.rows.keys());
        let mut base: BaseChanges = old.map(|key| (key.clone(), None)).collect();
        let new = self.rows.into_values().chain(self.created);
        base.extend(new.map(|(key, row)| (key, Some(row))));
        let changes = changes.filter(|_| is_as_applied);
        ScanOutcome { ops: self.ops, base, ids, unsettled: self.unsettled, changes }
    }
}

/// What a sighted file is by now, in the view's terms.
struct Now {
    hash: ContentHash,
    len: u64,
    mtime: Option<FileTime>,
    executable: bool,
    /// The value to write if the bytes are new.
    content: Option<Content>,
}

impl Now {
    /// A file system that is coarser than the view keeps the view's value while its own did not change.
    fn of(sighting: &Sighting, row: &BaseRow) -> Self {
        let (print, known) = (&sighting.print, &row.print);
        let is_known = row.mtime.is_some();
        let mtime = if is_known && print.mtime == known.mtime { row.mtime } else { Some(print.mtime) };
        let is_same_bit = print.is_executable() == known.is_executable() && !mutated!(PublishedFixedMode);
        let executable = if is_known && is_same_bit { row.executable } else { print.is_executable() };
        match &sighting.seen {
            Seen::AsBefore => {
                let mtime = row.mtime.and(mtime);
                let executable = row.mtime.is_some() && executable;
                Self { hash: row.hash, len: row.len, mtime, executable, content: None }
            }
            Seen::Directory => {
                let content = Content::Directory;
                Self { hash: content.hash(), len: 0, mtime: None, executable: false, content: Some(content) }
            }
            Seen::File { hash, manifest } => Self {
                hash: *hash,
                len: manifest.len,
                mtime,
                executable,
                content: mtime.map(|mtime| {
                    Content::File(FileContent { mtime, executable, hash: *hash, manifest: manifest.clone() })
                }),
            },
            Seen::Symlink { target } => {
                let content = Content::Symlink { target: target.clone() };
                let len = target.len() as u64;
                Self { hash: content.hash(), len, mtime: None, executable: false, content: Some(content) }
            }
        }
    }
}
