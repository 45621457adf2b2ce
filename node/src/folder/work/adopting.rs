//! Joining with a folder that is not empty: what the log knows of its files is no edit.
//!
//! A member's index is read first. Then base takes, without an operation, what stands on disk as some version of what
//! stands or stood at that path: the version that is shown, or one that was superseded or deleted since. The plan does
//! the rest, and only other bytes are edits. So an old copy of a folder that joins brings nothing back and makes no
//! conflict copies.

use std::collections::BTreeMap;

use zerocloud_crdt::base::{BaseChanges, BaseRow, RowKey};
use zerocloud_crdt::id::{ContentHash, FileId};
use zerocloud_crdt::log::frontier::Relation;
use zerocloud_crdt::log::{LogRead, SignedFrontier};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, Kind};
use zerocloud_crdt::scan::{Findings, Parent, Seen, Sighting};
use zerocloud_crdt::view::{View, ViewEntry};

use super::{Folder, FolderError};
use crate::answers::history::versions_of;
use crate::answers::paths::ever_named;
use crate::store::{Snapshot, StoreError, values};
use crate::tree::scan::{Extent, read_findings, scan};
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
        let member = snapshot.value(values::AWAITS_INDEX)?.flatten();
        let told = match member {
            Some(member) => snapshot.peer(member)?.map(|row| row.frontier).unwrap_or_default(),
            None => Vec::new(),
        };
        if let Ok(told) = SignedFrontier::decode(self.space(), &told) {
            let ours = LogRead::frontier(&snapshot)?;
            // A fork is the engine's to find; nothing is done to files before that.
            let has_all = matches!(ours.compare(&told.frontier), Ok(Relation::Equal | Relation::Ahead));
            if !has_all {
                return Ok(true);
            }
        }
        self.adopt(&snapshot)?;
        self.parts.store.write::<_, StoreError>(|write| write.unset(values::AWAITS_INDEX))?;
        self.awaits_index = false;
        Ok(false)
    }

    fn adopt(&mut self, snapshot: &Snapshot) -> Result<(), FolderError> {
        let Findings { sightings, .. } = scan(&*self.volume, snapshot, self.space(), &Extent::Full)?.findings;
        let findings = Findings { sightings, ..Findings::default() };
        let begun = self.parts.clock.wall_time();
        let mut read = read_findings(&*self.volume, snapshot, findings, &self.parts.keyring, |_| None, &self.pool)?;
        // A walk comes next, which has them looked at when they have settled.
        racy::unsettle(&mut read.findings.sightings, begun, self.parts.clock.wall_time());
        let view = View::new(snapshot);
        let mut shown: BTreeMap<FileId, BTreeMap<Name, ViewEntry>> = BTreeMap::new();
        // The ids of directories that were taken over, by their sighting.
        let mut directories: BTreeMap<usize, FileId> = BTreeMap::new();
        let mut base = BaseChanges::new();
        let mut taken = std::collections::BTreeSet::new();
        for (at, sighting) in read.findings.sightings.iter().enumerate() {
            let parent = match sighting.parent {
                Parent::Known(parent) => parent,
                Parent::New(of) => match directories.get(&of) {
                    Some(parent) => *parent,
                    None => continue,
                },
            };
            if let std::collections::btree_map::Entry::Vacant(vacant) = shown.entry(parent) {
                let entries = view.directory(parent)?;
                vacant.insert(entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect());
            }
            let entry = shown.get(&parent).and_then(|entries| entries.get(&sighting.local));
            let row = match entry.and_then(|entry| as_shown(entry, sighting)) {
                Some(row) => Some(row),
                None => self.as_once(snapshot, parent, sighting)?,
            };
            let Some(row) = row.filter(|row| taken.insert(row.id)) else { continue };
            if row.kind == Kind::Directory {
                directories.insert(at, row.id);
            }
            base.insert(RowKey { parent, local: sighting.local.clone() }, Some(row));
            if base.len() >= ROW_COUNT {
                self.take_rows(std::mem::take(&mut base))?;
            }
        }
        self.take_rows(base)
    }

    fn take_rows(&mut self, base: BaseChanges) -> Result<(), FolderError> {
        let sources: std::collections::BTreeSet<FileId> = base.values().flatten().map(|row| row.source).collect();
        self.parts.store.write::<_, StoreError>(|write| {
            write.apply_base(&base)?;
            write.put_pending(&sources)
        })?;
        self.ready.extend(sources);
        Ok(self.ledger.refresh()?)
    }

    /// The row of a thing that some item which stands or stood at its path once was.
    fn as_once(
        &self,
        snapshot: &Snapshot,
        parent: FileId,
        sighting: &Sighting,
    ) -> Result<Option<BaseRow>, FolderError> {
        for item in ever_named(snapshot, parent, &sighting.local)? {
            for version in versions_of(snapshot, &self.parts.secrets, item).unwrap_or_default() {
                let Some(content) = version.content else { continue };
                if content.kind() != sighting.kind || hash_of(sighting) != Some(content.hash()) {
                    continue;
                }
                let mut row = row_of(item, parent, sighting);
                row.content_ops.insert(version.op);
                row.hash = content.hash();
                row.len = content.byte_len();
                return Ok(Some(row));
            }
        }
        Ok(None)
    }
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

fn row_of(item: FileId, parent: FileId, sighting: &Sighting) -> BaseRow {
    let is_file = sighting.kind == Kind::File;
    BaseRow {
        id: item,
        source: item,
        kind: sighting.kind,
        view_parent: parent,
        view_name: sighting.local.clone(),
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
