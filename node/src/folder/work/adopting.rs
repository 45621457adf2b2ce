//! What the log knows: joining with a folder that is not empty, a home that is older than its folder, and what was begun
//! and can't be judged.
//!
//! A member's index is read first. Then base takes, without an operation, what stands on disk as some version of what
//! stands or stood at that path: the version that is shown, a later one of what base had there, or one that was
//! superseded or deleted since; and a thing that was moved to where its item once was moved. The plan does the rest, and
//! only other bytes are edits. So an old copy of a folder that joins, or a home from a backup, brings nothing back and
//! makes no conflict copies.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::{BaseChanges, BaseOverlay, BaseRead, BaseRow, PARKED, RowKey};
use zerocloud_crdt::id::{ContentHash, FileId, OpId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::log::{EntryPoint, LogRead, Position, SignedFrontier};
use zerocloud_crdt::name::{Name, escape};
use zerocloud_crdt::projection::NameRules;
use zerocloud_crdt::register::{Content, Kind};
use zerocloud_crdt::scan::{Findings, Parent, Seen, Sighting};
use zerocloud_crdt::view::{View, ViewEntry, virtual_id};

use super::{Folder, FolderError};
use crate::answers::history::{PastVersion, versions_of};
use crate::answers::members::has_others;
use crate::answers::paths::ever_named;
use crate::store::{Awaited, Snapshot, StoreError, values};
use crate::tree::scan::{Extent, read_findings, scan_under};
use crate::tree::{Pool, racy};

/// Rows that are written in one transaction.
const ROW_COUNT: usize = 10_000;

impl<P: Pool> Folder<P> {
    /// Whether a member's index must be read before anything is done. Takes over what it knows when it is there.
    pub(super) fn awaits_index(&mut self) -> Result<bool, FolderError> {
        if !self.awaits_index {
            return Ok(false);
        }
        let snapshot = self.parts.store.snapshot()?;
        let awaited = snapshot.value(values::AWAITS_INDEX)?;
        if let Some(awaited) = awaited {
            if !is_read(&snapshot, awaited)? {
                return Ok(true);
            }
            self.adopt(&snapshot)?;
            self.parts.store.write::<_, StoreError>(|write| write.unset(values::AWAITS_INDEX))?;
            // Whatever was not taken over is an edit.
            self.dirty.add_everything();
        }
        self.awaits_index = false;
        Ok(false)
    }

    /// Looks whether a member's index is to be read by now: whoever notes that has the folder told something.
    pub(super) fn look_for_awaited(&mut self) {
        let awaited = self.parts.store.snapshot().and_then(|snapshot| snapshot.value(values::AWAITS_INDEX));
        // A store that fails is told by the next step, which asks again.
        self.awaits_index |= !matches!(awaited, Ok(None));
    }

    /// What is waited for before anything is done, as the user is told of it.
    pub(super) fn awaits_warning(&self) -> Option<String> {
        if !self.awaits_index {
            return None;
        }
        let snapshot = self.parts.store.snapshot().ok()?;
        let from = match snapshot.value(values::AWAITS_INDEX).ok()?? {
            Awaited::Nobody => return None,
            Awaited::AnyMember => "another device of this space knows".to_owned(),
            Awaited::Member(member) => {
                let name = snapshot.peer(member).ok().flatten().and_then(|row| row.name);
                let name = name.map_or_else(|| member.to_string(), |name| escape(name.as_bytes()));
                format!("{name} knew when this device joined")
            }
        };
        Some(format!("nothing is looked at or written here before what {from} has come: connect a device that has it"))
    }

    fn adopt(&mut self, snapshot: &Snapshot) -> Result<(), FolderError> {
        let (rules, doubt) = (&self.ignoring.rules, &self.rebooting.doubt);
        let scanned = scan_under(&*self.volume, snapshot, self.space(), &Extent::Full, rules, doubt)?;
        let Findings { sightings, gone, names } = scanned.findings;
        let findings = Findings { sightings, names, ..Findings::default() };
        let begun = self.parts.clock.wall_time();
        let mut read = read_findings(&*self.volume, snapshot, findings, &self.parts.keyring, |_| None, &self.pool)?;
        // A walk comes next, which has them looked at when they have settled.
        racy::unsettle(&mut read.findings.sightings, begun, self.parts.clock.wall_time());
        let mut adoption = Adoption {
            snapshot,
            view: View::new(snapshot),
            versions: |item| versions_of(snapshot, &self.parts.secrets, item).unwrap_or_default(),
            base: BaseOverlay::new(snapshot),
            names,
            gone,
            changed: changed_of(&read.findings, snapshot)?,
            replaced: BTreeSet::new(),
            shown: BTreeMap::new(),
            sources: BTreeSet::new(),
        };
        // The ids of directories that were taken over, by their sighting.
        let mut directories: BTreeMap<usize, FileId> = BTreeMap::new();
        let key_of = |sighting: &Sighting, directories: &BTreeMap<usize, FileId>| {
            let parent = match sighting.parent {
                Parent::Known(parent) => parent,
                Parent::New(of) => *directories.get(&of)?,
            };
            Some(RowKey { parent, local: sighting.local.clone() })
        };
        // What was put aside is on its way.
        let sightings = read.findings.sightings.iter().enumerate();
        let sightings = sightings.filter(|(_, sighting)| sighting.parent != Parent::Known(PARKED));
        let (moved, others): (Vec<_>, Vec<_>) = sightings.partition(|(_, sighting)| sighting.is_moved());
        let keyed = |directories: &BTreeMap<usize, FileId>| {
            let keyed = moved.iter().filter_map(|(_, sighting)| Some((key_of(sighting, directories)?, *sighting)));
            keyed.collect::<Vec<_>>()
        };
        // What went elsewhere is not what stands in its place now.
        adoption.take_moved(keyed(&directories))?;
        for (at, sighting) in others {
            let Some(key) = key_of(sighting, &directories) else { continue };
            if let Some(directory) = adoption.take(key, sighting)? {
                directories.insert(at, directory);
            }
        }
        // What had no place may have one now.
        adoption.take_moved(keyed(&directories))?;
        adoption.forget_replaced()?;
        adoption.forget_gone()?;
        let Adoption { base, sources, .. } = adoption;
        self.take_rows(base.into_changes(), &sources)
    }

    /// A crash between two of the transactions leaves rows that are taken over again.
    fn take_rows(&mut self, base: BaseChanges, sources: &BTreeSet<FileId>) -> Result<(), FolderError> {
        self.parts.store.write::<_, StoreError>(|write| write.put_pending(sources))?;
        let mut rows = base.into_iter().peekable();
        while rows.peek().is_some() {
            let some: BaseChanges = rows.by_ref().take(ROW_COUNT).collect();
            self.parts.store.write::<_, StoreError>(|write| write.apply_base(&some))?;
        }
        self.ready.extend(sources);
        Ok(self.ledger.refresh()?)
    }
}

/// Whether the index that is awaited is here.
fn is_read(snapshot: &Snapshot, awaited: Awaited) -> Result<bool, StoreError> {
    let member = match awaited {
        Awaited::Nobody => return Ok(true),
        // Where there is none, what is here is all that there is.
        Awaited::AnyMember => return has_others(snapshot).map(|has_others| !has_others),
        Awaited::Member(member) => member,
    };
    let told = snapshot.peer(member)?.map(|row| row.frontier).unwrap_or_default();
    let Ok(told) = SignedFrontier::decode(IndexRead::space(snapshot), &told) else { return Ok(true) };
    let branches = LogRead::branches(snapshot)?;
    for (log, Position { number, hash }) in told.frontier.iter() {
        if branches.locate(snapshot, EntryPoint { log, number }, hash)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What stands on disk, as base takes it over.
struct Adoption<'a, V> {
    snapshot: &'a Snapshot,
    view: View<'a, Snapshot>,
    /// The versions of an item, newest first.
    versions: V,
    base: BaseOverlay<'a, Snapshot>,
    /// By which the disk's names are read.
    names: NameRules,
    /// Rows with nothing at their path.
    gone: BTreeSet<RowKey>,
    /// Rows at whose paths other bytes stand.
    changed: BTreeSet<RowKey>,
    /// Directories whose rows gave way to others.
    replaced: BTreeSet<FileId>,
    /// What the view shows in the directories that were looked at.
    shown: BTreeMap<FileId, BTreeMap<Name, ViewEntry>>,
    /// Items whose rows changed.
    sources: BTreeSet<FileId>,
}

impl<V: Fn(FileId) -> Vec<PastVersion>> Adoption<'_, V> {
    /// Takes over what stands at `key`, and was not moved there, if the log knows it; gives the id of a directory that has
    /// a row from then on.
    fn take(&mut self, key: RowKey, sighting: &Sighting) -> Result<Option<FileId>, StoreError> {
        let here = self.base.row(&key)?;
        if let Some(row) = here.as_ref().filter(|row| row.kind == sighting.kind)
            && (row.kind == Kind::Directory || hash_of(sighting).is_none_or(|hash| hash == row.hash))
        {
            // As base has it, but for what a scan notes without an operation.
            return Ok((row.kind == Kind::Directory).then_some(row.id));
        }
        if let Some(row) = self.as_shown(&key, sighting)? {
            return self.put(key, row);
        }
        let row = match here {
            Some(row) if row.kind == sighting.kind => self.as_later(row, sighting),
            _ => match self.as_once(&key, sighting)? {
                Some(row) => Some(row),
                None => self.as_conflict_copy(&key, sighting)?,
            },
        };
        row.map_or(Ok(None), |row| self.put(key, row))
    }

    /// Puts a row; gives the id of a directory.
    fn put(&mut self, key: RowKey, row: BaseRow) -> Result<Option<FileId>, StoreError> {
        let directory = (row.kind == Kind::Directory).then_some(row.id);
        let before = self.base.row(&key)?.filter(|before| before.kind == Kind::Directory && before.id != row.id);
        self.replaced.extend(before.map(|before| before.id));
        self.sources.insert(row.source);
        self.base.put(key, row);
        Ok(directory)
    }

    /// What the view shows at this path, if it is just that.
    fn as_shown(&mut self, key: &RowKey, sighting: &Sighting) -> Result<Option<BaseRow>, StoreError> {
        if let Entry::Vacant(vacant) = self.shown.entry(key.parent) {
            let entries = self.view.directory(key.parent)?;
            vacant.insert(entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect());
        }
        let entry = self.shown.get(&key.parent).and_then(|entries| entries.get(&self.names.natural(&key.local)));
        let Some(row) = entry.and_then(|entry| as_shown(entry, sighting)) else { return Ok(None) };
        Ok(self.comes_to(key, row.id, row.source)?.then_some(row))
    }

    /// Whether a row of this id can be put at `key`: there is no other, or it has nothing at its path, or other bytes, and
    /// goes.
    fn comes_to(&mut self, key: &RowKey, id: FileId, source: FileId) -> Result<bool, StoreError> {
        let Some(other) = self.base.find(id, source)?.filter(|other| other != key) else { return Ok(true) };
        // Its inode is another, or the move would have been seen.
        let is_gone = self.gone.remove(&other) || self.changed.remove(&other);
        if is_gone {
            self.base.remove(other);
        }
        Ok(is_gone)
    }

    /// A later value of what base has at this path.
    fn as_later(&self, row: BaseRow, sighting: &Sighting) -> Option<BaseRow> {
        let hash = hash_of(sighting)?;
        let newest = row.content_ops.last().copied().unwrap_or(OpId::ZERO);
        let versions = (self.versions)(row.source);
        let ops = versions.iter().filter(|version| version.op > newest && is_of(version, sighting.kind, hash));
        let content_ops: BTreeSet<OpId> = ops.map(|version| version.op).collect();
        let len = versions.iter().find(|version| content_ops.contains(&version.op))?.content.as_ref()?.byte_len();
        let now = row_of(row.id, row.view_parent, row.view_name.clone(), sighting);
        Some(BaseRow { source: row.source, content_ops, hash, len, ..now })
    }

    /// What some item which stands or stood at this path once was, and that has no row.
    fn as_once(&self, key: &RowKey, sighting: &Sighting) -> Result<Option<BaseRow>, StoreError> {
        let Some(hash) = hash_of(sighting) else { return Ok(None) };
        let name = self.names.natural(&key.local);
        for item in ever_named(self.snapshot, key.parent, &name)? {
            if self.base.find(item, item)?.is_some() {
                continue;
            }
            for version in (self.versions)(item) {
                let Some(content) = version.content.as_ref().filter(|_| is_of(&version, sighting.kind, hash)) else {
                    continue;
                };
                let content_ops = BTreeSet::from([version.op]);
                let len = content.byte_len();
                return Ok(Some(BaseRow { content_ops, hash, len, ..row_of(item, key.parent, name, sighting) }));
            }
        }
        Ok(None)
    }

    /// A conflict copy, under the name that it had, of bytes that its item once had; or a directory whose name another
    /// thing had too, which is the item itself: what is in it is told by its id.
    fn as_conflict_copy(&mut self, key: &RowKey, sighting: &Sighting) -> Result<Option<BaseRow>, StoreError> {
        let name = self.names.natural(&key.local);
        let (Some(natural), Some(hash)) = (natural_of(&name), hash_of(sighting)) else { return Ok(None) };
        for item in ever_named(self.snapshot, key.parent, &natural)? {
            let versions = (self.versions)(item);
            let ops = versions.iter().filter(|version| is_of(version, sighting.kind, hash));
            let content_ops: BTreeSet<OpId> = ops.map(|version| version.op).collect();
            let Some(lowest) = content_ops.first() else { continue };
            let id = match sighting.kind {
                Kind::Directory => item,
                Kind::File | Kind::Symlink => virtual_id(IndexRead::space(self.snapshot), item, *lowest, hash),
            };
            if !self.comes_to(key, id, item)? {
                continue;
            }
            let len = sighting.print.len;
            let row = row_of(id, key.parent, name, sighting);
            return Ok(Some(BaseRow { source: item, content_ops, hash, len, ..row }));
        }
        Ok(None)
    }

    /// Takes over things that were moved to where their items once were moved. What stands in the way of one may be moved
    /// itself.
    fn take_moved(&mut self, mut moved: Vec<(RowKey, &Sighting)>) -> Result<(), StoreError> {
        let mut count = moved.len() + 1;
        while moved.len() < count {
            count = moved.len();
            let mut left = Vec::new();
            for (key, sighting) in moved {
                if !self.take_one_moved(&key, sighting)? {
                    left.push((key, sighting));
                }
            }
            moved = left;
        }
        Ok(())
    }

    fn take_one_moved(&mut self, key: &RowKey, sighting: &Sighting) -> Result<bool, StoreError> {
        let Some(from) = &sighting.from else { return Ok(false) };
        let Some(row) = self.base.row(from)? else { return Ok(false) };
        // Something else may have been taken over there since.
        let is_it = self.snapshot.row(from)?.is_some_and(|found| found.id == row.id);
        let is_unchanged = row.kind == Kind::Directory || hash_of(sighting).is_none_or(|hash| hash == row.hash);
        let is_free = self.base.row(key)?.is_none() && self.base.way_below(key.parent, row.id)?.is_none();
        if row.kind != sighting.kind || row.is_virtual() || !is_it || !is_unchanged || !is_free {
            return Ok(false);
        }
        let name = self.names.natural(&key.local);
        if !ever_named(self.snapshot, key.parent, &name)?.contains(&row.id) {
            return Ok(false);
        }
        self.base.remove(from.clone());
        let (view_parent, view_name) = (key.parent, name);
        self.put(key.clone(), BaseRow { view_parent, view_name, print: sighting.print, ..row })?;
        Ok(true)
    }

    /// Takes rows out of base that were in directories in whose places something else was taken over: whoever took them
    /// away, or moved them, did not do it here.
    fn forget_replaced(&mut self) -> Result<(), StoreError> {
        while let Some(directory) = self.replaced.pop_first() {
            if self.base.find(directory, directory)?.is_some() {
                continue;
            }
            for (local, row) in self.base.rows(directory)? {
                self.sources.insert(row.source);
                if row.kind == Kind::Directory {
                    self.replaced.insert(row.id);
                }
                self.base.remove(RowKey { parent: directory, local });
            }
        }
        Ok(())
    }

    /// Takes rows out of base whose file is gone and of which nothing is left in the index, or whose file is gone or has
    /// other bytes and that stand as conflict copies of their items by now: whoever took them away did not do it here.
    fn forget_gone(&mut self) -> Result<(), StoreError> {
        let (gone, changed) = (std::mem::take(&mut self.gone), std::mem::take(&mut self.changed));
        for key in gone.iter().chain(&changed) {
            let Some(row) = self.base.row(key)?.filter(|row| row.kind != Kind::Directory) else { continue };
            let item = self.snapshot.item(row.source)?.unwrap_or_default();
            let Some(lowest) = row.content_ops.first() else { continue };
            let copy = virtual_id(IndexRead::space(self.snapshot), row.source, *lowest, row.hash);
            let is_copied = row.id != copy && self.base.find(copy, row.source)?.is_some();
            let is_over = row.content_ops.iter().all(|op| !item.content.contains_key(op));
            if is_copied || (is_over && gone.contains(key)) {
                self.sources.insert(row.source);
                self.base.remove(key.clone());
            }
        }
        Ok(())
    }
}

/// The rows at whose paths other bytes stand.
fn changed_of(findings: &Findings, base: &Snapshot) -> Result<BTreeSet<RowKey>, StoreError> {
    let mut changed = BTreeSet::new();
    for sighting in findings.sightings.iter().filter(|sighting| sighting.kind != Kind::Directory) {
        let Parent::Known(parent) = sighting.parent else { continue };
        let key = RowKey { parent, local: sighting.local.clone() };
        let row = base.row(&key)?;
        let is_other =
            |row: BaseRow| hash_of(sighting).is_some_and(|hash| (row.kind, row.hash) != (sighting.kind, hash));
        if row.is_some_and(is_other) {
            changed.insert(key);
        }
    }
    Ok(changed)
}

/// Whether a version has these bytes.
fn is_of(version: &PastVersion, kind: Kind, hash: ContentHash) -> bool {
    version.content.as_ref().is_some_and(|content| content.kind() == kind && content.hash() == hash)
}

/// The name of the item of which this would be a conflict copy.
fn natural_of(name: &Name) -> Option<Name> {
    const MARK: &[u8] = b" (conflict ";
    let bytes = name.as_bytes();
    let at = bytes.windows(MARK.len()).rposition(|window| window == MARK)?;
    let (stem, rest) = bytes.split_at_checked(at)?;
    let after = rest.iter().position(|byte| *byte == b')')?;
    Name::parse(&[stem, rest.get(after + 1..)?].concat()).ok()
}

/// The row of a thing that is just what the view shows at its path.
fn as_shown(entry: &ViewEntry, sighting: &Sighting) -> Option<BaseRow> {
    if entry.kind != sighting.kind || hash_of(sighting)? != entry.hash {
        return None;
    }
    let row = BaseRow::of_entry(entry, sighting.print);
    // Time and bit are those of the disk: where the view has others, the plan sets them.
    let is_file = row.kind == Kind::File;
    Some(BaseRow {
        mtime: is_file.then_some(sighting.print.mtime),
        executable: is_file && sighting.print.is_executable(),
        ..row
    })
}

fn row_of(item: FileId, parent: FileId, name: Name, sighting: &Sighting) -> BaseRow {
    let is_file = sighting.kind == Kind::File;
    BaseRow {
        id: item,
        source: item,
        kind: sighting.kind,
        view_parent: parent,
        view_name: name,
        content_ops: Default::default(),
        meta_ops: Default::default(),
        hash: ContentHash([0; 32]),
        len: 0,
        mtime: is_file.then_some(sighting.print.mtime),
        executable: is_file && sighting.print.is_executable(),
        print: sighting.print,
    }
}

/// The hash by which contents are compared.
fn hash_of(sighting: &Sighting) -> Option<ContentHash> {
    match &sighting.seen {
        Seen::File { hash, .. } => Some(*hash),
        Seen::Symlink { target } => Some(ContentHash::of(target)),
        Seen::Directory => Some(Content::Directory.hash()),
        Seen::AsBefore => (sighting.kind == Kind::Directory).then(|| Content::Directory.hash()),
    }
}
