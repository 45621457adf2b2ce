//! The version store over time: a second look at what was displaced, and an end for what was kept long enough.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::oneshot;
use zerocloud_crdt::base::BaseRead;
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::register::{Content, Kind};

use super::{Folder, FolderError};
use crate::api::path::BytePath;
use crate::clock::Moment;
use crate::store::{Snapshot, StoreError, VersionCounts, content_hash};
use crate::tree::versions::{self, Look, VersionRow};
use crate::tree::{Displaced, Pool};
use crate::volume::Control;

/// Time between two looks for versions whose time has passed.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Versions that are looked at in one go.
const PRUNE_COUNT: usize = 1_000;

/// Whether these may be the only bytes of what the view shows of an item and no file of the item has: what a batch
/// displaced while its copy was still to be made, or a merged text. Another item's file with the same bytes may go any
/// time.
fn is_awaited(snapshot: &Snapshot, version: &VersionRow) -> Result<bool, StoreError> {
    let Some((_, row)) = &version.origin else { return Ok(false) };
    let hash = content_hash(version);
    for item in BTreeSet::from([row.source, row.id]) {
        let mut shown = BTreeSet::new();
        for (_, key) in snapshot.of_source(item)? {
            shown.extend(snapshot.row(&key)?.map(|row| row.hash));
        }
        let live = snapshot.item(item)?.unwrap_or_default().content;
        let mut files = live.values().filter(|content| content.kind() == Kind::File).map(Content::hash);
        if files.any(|content| !shown.contains(&content) && hash.is_none_or(|hash| hash == content)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn without_awaited(snapshot: &Snapshot, versions: Vec<VersionRow>) -> Result<Vec<VersionRow>, StoreError> {
    let mut others = Vec::with_capacity(versions.len());
    for version in versions {
        if !is_awaited(snapshot, &version)? {
            others.push(version);
        }
    }
    Ok(others)
}

impl<P: Pool> Folder<P> {
    /// Looks a second time at what was displaced: another program may have had it open.
    pub(super) fn look_again(&mut self, now: Moment) -> Result<(), FolderError> {
        let due = self.looks.take_due(now);
        if due.is_empty() {
            return Ok(());
        }
        let control = self.volume.control()?;
        for row in due {
            if let Look::Changed(print) = versions::look(&control, &row)? {
                self.publish_version(VersionRow { print, ..row })?;
            }
        }
        Ok(())
    }

    /// Removes versions whose time has passed.
    pub(super) fn prune_versions(&mut self, now: Moment) -> Result<(), FolderError> {
        if now < self.next_prune {
            return Ok(());
        }
        let now_ms = self.parts.clock.wall_time().as_milliseconds();
        let control = self.volume.control()?;
        let (over, is_more) = self.versions_over(now_ms)?;
        self.next_prune = if is_more { now } else { now + PRUNE_INTERVAL };
        self.prune(&control, over)
    }

    /// Some of the versions whose time is over, and whether more of them are waiting.
    fn versions_over(&mut self, now_ms: i64) -> Result<(Vec<VersionRow>, bool), FolderError> {
        let (snapshot, retention) = (self.parts.store.snapshot()?, self.parts.retention);
        if !retention.compares() {
            let mut over = snapshot.versions_kept_before(now_ms, PRUNE_COUNT)?;
            over.retain(|row| retention.is_over(row.kept_at_ms, None, now_ms));
            let over = without_awaited(&snapshot, over)?;
            let is_more = over.len() == PRUNE_COUNT;
            return Ok((over, is_more));
        }
        let files = snapshot.versions_by_file(self.thinned, PRUNE_COUNT)?;
        self.thinned = files.last().map(|(file, _)| *file);
        let mut over = Vec::new();
        for (file, versions) in files {
            // Of which file the others are is not known: each may be the only one of its own.
            let is_known = file != FileId::ROOT;
            let newer: Vec<_> = versions.iter().skip(1).map(|row| Some(row.kept_at_ms)).chain([None]).collect();
            let all = versions.into_iter().zip(newer).filter(|_| is_known);
            over.extend(
                all.filter(|(row, newer)| retention.is_over(row.kept_at_ms, *newer, now_ms)).map(|(row, _)| row),
            );
        }
        Ok((without_awaited(&snapshot, over)?, self.thinned.is_some()))
    }

    /// Removes versions, but for those that something has written to since.
    fn prune(&mut self, control: &Control, over: Vec<VersionRow>) -> Result<(), FolderError> {
        let mut gone = Vec::new();
        for row in over {
            match versions::prune(control, &row)? {
                Look::AsKept | Look::Missing => gone.push(row.stored),
                Look::Changed(print) => self.publish_version(VersionRow { print, ..row })?,
            }
        }
        if !gone.is_empty() {
            self.parts.store.write::<_, StoreError>(|write| {
                gone.iter().try_for_each(|stored| write.remove_version(stored).map(drop))
            })?;
            self.ledger.refresh()?;
        }
        Ok(())
    }

    /// Removes the versions that are older than `age_ms` milliseconds, at the user's word.
    pub(super) fn prune_older(&mut self, age_ms: i64, done: oneshot::Sender<Result<VersionCounts, String>>) {
        let pruned = self.take_older(age_ms).map_err(|error| error.to_string());
        // Whoever asked may have gone.
        let _ = done.send(pruned);
    }

    fn take_older(&mut self, age_ms: i64) -> Result<VersionCounts, FolderError> {
        let until_ms = self.parts.clock.wall_time().as_milliseconds().saturating_sub(age_ms);
        let control = self.volume.control()?;
        let begun = self.parts.store.snapshot()?.version_counts();
        loop {
            let snapshot = self.parts.store.snapshot()?;
            let before = snapshot.version_counts();
            let older = snapshot.versions_kept_before(until_ms, PRUNE_COUNT)?;
            self.prune(&control, without_awaited(&snapshot, older)?)?;
            let after = self.parts.store.snapshot()?.version_counts();
            // What is left then was written to since it was kept.
            if after.versions >= before.versions {
                let versions = begun.versions.saturating_sub(after.versions);
                return Ok(VersionCounts { versions, bytes: begun.bytes.saturating_sub(after.bytes) });
            }
        }
    }

    /// What the user can do while files wait for room on the disk. Nothing of it is done unasked.
    pub(super) fn full_warning(&self) -> Option<String> {
        let count = self.stuck.values().filter(|stuck| stuck.is_full).count();
        if count == 0 {
            return None;
        }
        let kept = self.parts.store.snapshot().map(|snapshot| snapshot.version_counts()).unwrap_or_default();
        let path = BytePath::from(self.parts.path.as_path());
        let advice = if kept.versions == 0 {
            "make room on it".to_owned()
        } else {
            format!(
                "make room on it, or let older versions go, of which there are {} with {} MiB: `zerocloud prune {path} \
                 --older-than 7d`",
                kept.versions,
                kept.bytes.div_ceil(1 << 20),
            )
        };
        Some(format!("the disk is full, and {count} paths wait for room; no version goes because of that: {advice}"))
    }

    /// Something wrote to a version since it was displaced: that is an edit of what stood there.
    fn publish_version(&mut self, row: VersionRow) -> Result<(), FolderError> {
        let mut hash = None;
        if let Some((key, old)) = row.origin.clone() {
            let displaced =
                Displaced { stored: row.stored.clone(), key, kind: Some(old.kind), row: old, print: row.print };
            hash = self.publish(&displaced)?;
        }
        // As it is now; the next look compares with this.
        let row = row.published_as(hash);
        self.parts.store.write::<_, StoreError>(|write| write.put_version(&row))?;
        Ok(self.ledger.refresh()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use zerocloud_crdt::base::{BaseRow, Fingerprint, RowKey};
    use zerocloud_crdt::id::{ActorId, ContentHash, EpochId, OpId, SpaceId};
    use zerocloud_crdt::index::IndexChanges;
    use zerocloud_crdt::manifest::{Body, Class, Manifest, Profile};
    use zerocloud_crdt::name::Name;
    use zerocloud_crdt::register::{FileContent, FileTime, Item};

    use super::*;
    use crate::store::SpaceStore;
    use crate::tree::versions::UNTIL_IN_PLACE;

    #[test]
    fn the_only_bytes_of_what_is_shown_stay_until_they_are_in_place_and_no_longer() {
        let (item, bytes) = (FileId([1; 16]), b"merged");
        let op = OpId { counter: 1, actor: ActorId([1; 16]) };
        let time = FileTime { secs: 0, nanos: 0 };
        let print = Fingerprint { inode: 1, birth: None, len: 6, mtime: time, ctime: time, mode: 0o644 };
        let name = Name::parse(b"a").unwrap();
        let key = RowKey { parent: FileId::ROOT, local: name.clone() };
        let row = BaseRow {
            id: item,
            source: item,
            kind: Kind::File,
            view_parent: FileId::ROOT,
            view_name: name,
            content_ops: BTreeSet::new(),
            meta_ops: BTreeSet::new(),
            hash: ContentHash::of(bytes),
            len: 6,
            mtime: Some(time),
            executable: false,
            print,
        };
        let origin = Some((key.clone(), row.clone()));
        let merged = VersionRow { stored: "put-1".into(), origin, print, kept_at_ms: UNTIL_IN_PLACE };
        let store = SpaceStore::with_backend(redb::backends::InMemoryBackend::new(), SpaceId([1; 32])).unwrap();
        let is_kept = |version: &VersionRow| is_awaited(&store.snapshot().unwrap(), version).unwrap();
        assert!(!is_kept(&merged), "its operation was not written");
        let profile = Profile { chunker: 1, class: Class::Single, epoch: EpochId([0; 32]) };
        let manifest = Manifest { profile, len: 6, epochs: Vec::new(), body: Body::Inline(Vec::new()) };
        let file = FileContent { mtime: time, executable: false, hash: ContentHash::of(bytes), manifest };
        let content = BTreeMap::from([(op, Content::File(file))]);
        let items = BTreeMap::from([(item, Item { content, ..Item::default() })]);
        let changes = IndexChanges { items, ..IndexChanges::default() };
        store.write::<_, StoreError>(|write| write.apply_index(changes)).unwrap();
        assert!(is_kept(&merged));
        assert!(is_kept(&VersionRow { kept_at_ms: 0, ..merged.clone() }), "what a batch displaced may be as needed");
        let (key_of_edit, other) = (key.clone(), BaseRow { hash: ContentHash::of(b"before"), ..row.clone() });
        let other = VersionRow { origin: Some((key_of_edit, other)), ..merged.clone() };
        assert!(!is_kept(&other), "other bytes go when their time has passed");
        let edit = VersionRow { print: Fingerprint { len: 7, ..print }, ..other };
        assert!(is_kept(&edit), "of a local edit the hash is not known");
        store.write::<_, StoreError>(|write| write.apply_base(&[(key, Some(row))].into())).unwrap();
        assert!(!is_kept(&merged));
    }
}
