//! Scanning: which directories are due, what was found in them, and handing it to the log.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::{BaseRead, BaseRow, Fingerprint, PARKED, RowKey};
use zerocloud_crdt::id::{ContentHash, EpochId, FileId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::limits::ENTRY_FILE_COUNT_MAX;
use zerocloud_crdt::limits::PATH_DEPTH_MAX;
use zerocloud_crdt::manifest::Body;
use zerocloud_crdt::mutated;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, Kind};
use zerocloud_crdt::scan::{Findings, Parent, Part, Seen, Sighting, batches};

use super::ignoring::{Looked, Reach};
use super::texts::files_in;
use super::{Folder, FolderError, LOOK_AGAIN_DELAY};
use crate::clock::Moment;
use crate::engine::found::{Found, FoundWith};
use crate::engine::shelf::Contents;
use crate::store::{Snapshot, StoreError};
use crate::tree::scan::{Extent, Previous, Problem, Reason, Scanned, read_doubted, scan_under};
use crate::tree::{Pool, racy};
use crate::watch::dirty::{Depth, DirtySet, parent_of};

/// Parts of a scan that are written with one commit at most: each page of the store that they change is written once
/// for all of them.
const GROUP_COUNT: usize = 8;
/// How many bytes of files are read before they are written, if it is more than one part, in bytes: others wait for them.
const GROUP_LEN: u64 = 64 << 20;
/// What `batches` can do with.
const ENTRY_FILE_COUNT_MIN: usize = 4;

/// A part of what a scan found, read.
struct PartRead {
    /// Where its sightings stood in what was found.
    indices: Vec<usize>,
    findings: Findings,
    contents: BTreeMap<ContentHash, Contents>,
    /// What may be edited and look the same.
    racy: Vec<(usize, Fingerprint)>,
}

impl PartRead {
    fn len(&self) -> u64 {
        self.findings.sightings.iter().map(|sighting| sighting.print.len).sum()
    }
}

/// Directories, with how much of each was looked at, and what was found in them.
type LookedAt = (DirtySet, Scanned);

impl<P: Pool> Folder<P> {
    /// Scans whatever is due, if anything is.
    pub(super) fn scan_what_is_due(&mut self, now: Moment) -> Result<(), FolderError> {
        let due = self.debounce.poll(now);
        self.dirty.append(due);
        let due: Vec<_> = self.again.iter().filter(|(_, at)| **at <= now).map(|(path, _)| path.clone()).collect();
        for path in due {
            self.again.remove(&path);
            self.dirty.add(&path, Depth::Names);
        }
        self.look_at_settled(now)?;
        if self.next_walk <= now {
            self.dirty.add_everything();
        }
        if self.dirty.is_empty() && self.left_off.is_empty() {
            return Ok(());
        }
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.is_empty() {
            self.scan_left_off()?;
        } else {
            self.scan(&dirty)?;
        }
        if dirty.is_everything() {
            self.is_walking = true;
            let interval = if self.has_watcher { super::WALK_INTERVAL } else { super::BLIND_WALK_INTERVAL };
            self.next_walk = self.now() + interval;
        }
        if self.is_walking && self.left_off.is_empty() {
            self.is_walking = false;
            self.note_walk()?;
            if self.scan_count == 0 {
                self.keep_known()?;
            }
            self.scan_count += 1;
            self.rescanned.append(&mut self.rescans);
        }
        Ok(())
    }

    fn scan(&mut self, dirty: &DirtySet) -> Result<(), FolderError> {
        let Some((dirty, scanned)) = self.look_at(dirty)? else { return Ok(()) };
        if dirty.is_everything() {
            self.scan_problems.clear();
            self.left_off.clear();
            return self.take_in(scanned, Reach::Everything);
        }
        self.scan_problems.retain(|path, _| !dirty.has_path(path));
        self.take_in(scanned, Reach::Some)
    }

    /// Scans what was left off, as far as there is room.
    fn scan_left_off(&mut self) -> Result<(), FolderError> {
        let snapshot = self.parts.store.snapshot()?;
        let extent = self.paced(false);
        let scanned = self.scan_extent(&snapshot, &extent)?;
        if has_gone_or_moved(&scanned) {
            // What that means, a walk over everything tells.
            self.dirty.add_everything();
            return Ok(());
        }
        drop(snapshot);
        let left = std::mem::take(&mut self.left_off);
        self.take_in(scanned, Reach::LeftOff(left))
    }

    fn take_in(&mut self, scanned: Scanned, reach: Reach) -> Result<(), FolderError> {
        let looked = Looked::of(&scanned, reach);
        self.note_problems(scanned.problems);
        let mut created: BTreeMap<usize, FileId> = BTreeMap::new();
        let mut withheld: BTreeSet<RowKey> = BTreeSet::new();
        let entry_count = self.parts.scan_room.clamp(ENTRY_FILE_COUNT_MIN, ENTRY_FILE_COUNT_MAX);
        let mut parts = batches(scanned.findings, entry_count).into_iter().peekable();
        while let Some(part) = parts.next() {
            // Pages of the store that an old snapshot may read are not written again: its file would grow with each group.
            self.ledger.refresh()?;
            let snapshot = self.parts.store.snapshot()?;
            let mut sighted: BTreeSet<usize> = part.indices().into_iter().collect();
            let is_apart = part.is_apart(&BTreeSet::new());
            let mut group = vec![self.read_part(&snapshot, part, &created, &mut withheld)?];
            while is_apart && group.len() < GROUP_COUNT && group.iter().map(PartRead::len).sum::<u64>() < GROUP_LEN {
                let Some(part) = parts.next_if(|part| part.is_apart(&sighted)) else { break };
                sighted.extend(part.indices());
                group.push(self.read_part(&snapshot, part, &created, &mut withheld)?);
            }
            group.retain(|part| !part.findings.sightings.is_empty() || !part.findings.gone.is_empty());
            if !group.is_empty() {
                self.write_parts(&snapshot, group, &mut created)?;
            }
        }
        let left_off = scanned.left_off.iter().filter(|_| !mutated!(UnscannedRest));
        self.left_off.extend(left_off.filter_map(|directory| match directory {
            Parent::Known(id) => Some(*id),
            // One that was not kept is looked at again for the reason why.
            Parent::New(at) => created.get(at).copied(),
        }));
        self.take_rules(looked, &created)?;
        self.free_what_was_scanned();
        Ok(())
    }

    /// Reads a part of what a scan found. `created` are the directories that came with parts that are written.
    fn read_part(
        &mut self,
        snapshot: &Snapshot,
        part: Part,
        created: &BTreeMap<usize, FileId>,
        withheld: &mut BTreeSet<RowKey>,
    ) -> Result<PartRead, FolderError> {
        let indices = part.indices();
        let part = part.resolve(|at| created.get(&at).copied());
        let previous = |row: &BaseRow| previous(snapshot, row);
        let keyring = self.parts.keyring.clone();
        let doubt = &self.rebooting.doubt;
        let begun = self.parts.clock.wall_time();
        let mut read = read_doubted(&*self.volume, snapshot, part, &keyring, previous, &self.pool, doubt)?;
        let racy = racy::unsettle(&mut read.findings.sightings, begun, self.parts.clock.wall_time());
        self.note_problems(read.problems);
        self.note_lost(read.lost)?;
        // Deletions come in the last of the parts.
        withheld.append(&mut read.withheld);
        read.findings.gone.retain(|key| !withheld.contains(key));
        let mut contents = BTreeMap::new();
        for (at, stored) in read.contents {
            if let Some(sighting) = read.findings.sightings.get(at) {
                contents.extend(contents_of(&sighting.seen, stored));
            }
        }
        let indices = read.kept.iter().filter_map(|at| indices.get(*at).copied()).collect();
        Ok(PartRead { indices, findings: read.findings, contents, racy })
    }

    /// Writes parts that were read, with `snapshot` as it was before them.
    fn write_parts(
        &mut self,
        snapshot: &Snapshot,
        parts: Vec<PartRead>,
        created: &mut BTreeMap<usize, FileId>,
    ) -> Result<(), FolderError> {
        let (mut all, mut notes) = (Vec::with_capacity(parts.len()), Vec::with_capacity(parts.len()));
        for PartRead { indices, findings, contents, racy } in parts {
            let moved = findings.sightings.iter().filter(|sighting| sighting.from != sighting.key());
            let left: BTreeSet<FileId> = moved
                .filter_map(|sighting| sighting.from.as_ref())
                .chain(&findings.gone)
                .map(|key| key.parent)
                .collect();
            left.into_iter().for_each(|directory| self.free_collisions(directory));
            let former = self.former_places(snapshot, &findings);
            let told = self.to_tell(&former, &findings);
            let continued = sources_of(snapshot, &findings.sightings, &racy)?;
            notes.push((indices, former, told, racy, continued, files_in(&findings.sightings)));
            all.push(FoundWith { found: Found::Scan(findings), contents });
        }
        let written = self.parts.log.append(all)?;
        for (ids, (indices, former, (told, gone), racy, continued, files)) in written.into_iter().zip(notes) {
            for (at, print) in racy {
                continued.get(&at).into_iter().chain(ids.get(at)).for_each(|item| self.settle_later(*item, &print));
            }
            self.keep_seen(files, &ids);
            self.tell_of_scan(snapshot, &former, &told, &gone);
            created.extend(indices.into_iter().zip(ids));
        }
        Ok(())
    }

    /// Looks at directories, and at more if what is missing may be there: what was looked at, and what was found. `None` if
    /// nothing of it counts.
    fn look_at(&mut self, dirty: &DirtySet) -> Result<Option<LookedAt>, FolderError> {
        let snapshot = self.parts.store.snapshot()?;
        let mut dirty = self.without_ignored(&snapshot, dirty)?;
        if dirty.is_empty() {
            return Ok(None);
        }
        let mut scanned = self.scan_directories(&snapshot, &dirty)?;
        if has_gone_or_moved(&scanned) && !dirty.is_everything() {
            // What is gone may have been moved to where a change waits for its time: without that it would pass for deleted.
            // And a change that waits in what was moved is told by the path that this has no more after this scan.
            let waiting = self.debounce.take_waiting();
            let more = self.without_ignored(&snapshot, &waiting)?;
            if !more.is_empty() {
                dirty.append(more);
                scanned = self.scan_directories(&snapshot, &dirty)?;
            }
        }
        Ok(Some((dirty, scanned)))
    }

    fn scan_directories(&self, snapshot: &Snapshot, dirty: &DirtySet) -> Result<Scanned, FolderError> {
        let extent = if dirty.is_everything() { self.paced(true) } else { directories_of(snapshot, dirty)? };
        self.scan_extent(snapshot, &extent)
    }

    fn scan_extent(&self, snapshot: &Snapshot, extent: &Extent) -> Result<Scanned, FolderError> {
        let (rules, doubt) = (&self.ignoring.rules, &self.rebooting.doubt);
        Ok(scan_under(&*self.volume, snapshot, self.space(), extent, rules, doubt)?)
    }

    fn paced(&self, is_full: bool) -> Extent {
        Extent::Paced { is_full, left: self.left_off.clone(), room: self.parts.scan_room }
    }

    /// Has an item's files looked at when every edit is sure to show.
    pub(super) fn settle_later(&mut self, item: FileId, print: &Fingerprint) {
        let delay = racy::settles_in(print, self.parts.clock.wall_time());
        self.settling.insert(item, self.now() + delay);
    }

    /// Has the files scanned that had looked the same whatever was done to them.
    fn look_at_settled(&mut self, now: Moment) -> Result<(), FolderError> {
        let due: Vec<FileId> = self.settling.iter().filter(|(_, at)| **at <= now).map(|(item, _)| *item).collect();
        if !due.is_empty() {
            self.ledger.refresh()?;
        }
        for item in due {
            self.settling.remove(&item);
            self.mark_dirty(item)?;
        }
        Ok(())
    }

    /// Has the files of an item looked at.
    pub(super) fn mark_dirty(&mut self, item: FileId) -> Result<(), StoreError> {
        for (_, key) in self.ledger.of_source(item)? {
            if let Some(path) = directory_path(&self.ledger, key.parent) {
                self.dirty.add_name(&path, key.local.as_bytes());
            }
        }
        Ok(())
    }

    fn note_problems(&mut self, problems: Vec<Problem>) {
        for Problem { path, reason } in problems {
            let path: Box<[u8]> = path.join(&b'/').into();
            if matches!(reason, Reason::Unstable | Reason::Replaced) {
                self.again.insert(parent_of(&path).into(), self.now() + LOOK_AGAIN_DELAY);
            }
            self.scan_problems.insert(path, reason);
        }
    }
}

/// Whether what a scan found depends on what stands in places that it did not look at.
fn has_gone_or_moved(scanned: &Scanned) -> bool {
    !scanned.findings.gone.is_empty() || has_moved_directories(&scanned.findings)
}

/// Whether a directory stands elsewhere than base has it.
pub(super) fn has_moved_directories(findings: &Findings) -> bool {
    findings.sightings.iter().any(|sighting| sighting.kind == Kind::Directory && sighting.is_moved())
}

/// Of those sightings that continue a row: in whose registers its content stands.
fn sources_of(
    snapshot: &Snapshot,
    sightings: &[Sighting],
    of: &[(usize, Fingerprint)],
) -> Result<BTreeMap<usize, FileId>, StoreError> {
    let mut sources = BTreeMap::new();
    for (at, _) in of {
        if let Some(from) = sightings.get(*at).and_then(|sighting| sighting.from.as_ref())
            && let Some(row) = snapshot.row(from)?
        {
            sources.insert(*at, row.source);
        }
    }
    Ok(sources)
}

fn directories_of(snapshot: &Snapshot, dirty: &DirtySet) -> Result<Extent, StoreError> {
    let (mut directories, mut are_moved_whole) = (BTreeMap::new(), false);
    for (path, depth) in dirty.iter() {
        let (directory, unknown_count) = directory_at(snapshot, path)?;
        // A change below a directory that is not known under this name: it may be a known one that was moved.
        are_moved_whole |= unknown_count > 1;
        match depth {
            Depth::Subtree if unknown_count == 0 => {
                let mut below = BTreeSet::new();
                add_subtree(snapshot, directory, &mut below)?;
                directories.extend(below.into_iter().map(|directory| (directory, None)));
            }
            Depth::Some(names) if unknown_count == 0 => {
                // A name that none can be is told of by a listing.
                let names: Option<BTreeSet<Name>> = names.iter().map(|name| Name::parse(name).ok()).collect();
                directories.entry(directory).and_modify(|noted| *noted = None).or_insert(names);
            }
            // A directory that has no row is new: whoever lists the one that it is in descends into it.
            Depth::Some(_) | Depth::Names | Depth::Subtree => drop(directories.insert(directory, None)),
        }
    }
    // What was put aside and changed there has no path of its own that would be told.
    if snapshot.has_rows(PARKED)? {
        directories.insert(PARKED, None);
    }
    Ok(Extent::Directories { directories, are_moved_whole })
}

/// The last directory on the way to `path` that base knows, and how many names are left of the way.
fn directory_at(snapshot: &Snapshot, path: &[u8]) -> Result<(FileId, usize), StoreError> {
    let mut at = FileId::ROOT;
    let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    for (known_count, name) in names.iter().enumerate() {
        let left = names.len().saturating_sub(known_count);
        let Ok(local) = Name::parse(name) else { return Ok((at, left)) };
        match snapshot.row(&RowKey { parent: at, local })? {
            Some(row) if row.kind == Kind::Directory => at = row.id,
            _ => return Ok((at, left)),
        }
    }
    Ok((at, 0))
}

fn add_subtree(snapshot: &Snapshot, top: FileId, to: &mut BTreeSet<FileId>) -> Result<(), StoreError> {
    let mut stack = vec![top];
    while let Some(directory) = stack.pop() {
        if to.insert(directory) {
            let rows = snapshot.rows(directory)?;
            stack.extend(rows.iter().filter(|(_, row)| row.kind == Kind::Directory).map(|(_, row)| row.id));
        }
    }
    Ok(())
}

/// The names from the root to a directory of base, joined by `/`; `None` for one that is not on disk under its name.
pub(super) fn directory_path<B: BaseRead>(base: &B, directory: FileId) -> Option<Box<[u8]>> {
    let mut names: Vec<Name> = Vec::new();
    let mut at = directory;
    while at != FileId::ROOT {
        if at == PARKED || names.len() > PATH_DEPTH_MAX {
            return None;
        }
        let key = base.find(at, at).ok().flatten()?;
        names.push(key.local);
        at = key.parent;
    }
    let names: Vec<&[u8]> = names.iter().rev().map(Name::as_bytes).collect();
    Some(names.join(&b'/').into())
}

/// The version of which a row shows the bytes: by it a new version is cut and named. `None` if the index has it no more.
pub(super) fn previous(snapshot: &Snapshot, row: &BaseRow) -> Option<Previous> {
    let item = snapshot.item(row.source).ok().flatten()?;
    let content = row.content_ops.iter().rev().find_map(|op| item.content.get(op))?;
    let Content::File(file) = content else { return None };
    let manifest = &file.manifest;
    let known: BTreeSet<(EpochId, zerocloud_crdt::id::ChunkId)> = match &manifest.body {
        Body::Inline(chunks) => {
            let epoch = |index: u16| manifest.epochs.get(usize::from(index)).copied();
            chunks.iter().filter_map(|chunk| Some((epoch(chunk.epoch_index)?, chunk.id))).collect()
        }
        Body::Paged(_) => {
            let chunks = snapshot.chunk_list(row.hash).ok().flatten()?;
            chunks.iter().map(|chunk| (chunk.epoch, chunk.id)).collect()
        }
    };
    Some(Previous { profile: manifest.profile, epochs: manifest.epochs.iter().rev().copied().collect(), known })
}

/// What is stored of a file that was read, under the hash of its content.
pub(super) fn contents_of(seen: &Seen, contents: Contents) -> BTreeMap<ContentHash, Contents> {
    match seen {
        Seen::File { hash, .. } => BTreeMap::from([(*hash, contents)]),
        Seen::AsBefore | Seen::Directory | Seen::Symlink { .. } => BTreeMap::new(),
    }
}
