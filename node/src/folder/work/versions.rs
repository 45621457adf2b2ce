//! The version store over time: a second look at what was displaced, and an end for what was kept long enough.

use std::time::Duration;

use zerocloud_crdt::index::IndexRead;

use super::{Folder, FolderError};
use crate::clock::Moment;
use crate::store::{Snapshot, StoreError};
use crate::tree::versions::{self, Look, UNTIL_IN_PLACE, VersionRow};
use crate::tree::{Displaced, Pool};

/// Time between two looks for versions whose time has passed.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Versions that are looked at in one go.
const PRUNE_COUNT: usize = 1_000;

/// Whether a merged text is still to be put in its place: these are its only bytes.
fn is_awaited(snapshot: &Snapshot, version: &VersionRow) -> Result<bool, StoreError> {
    let Some((_, row)) = version.origin.as_ref().filter(|_| version.kept_at_ms == UNTIL_IN_PLACE) else {
        return Ok(false);
    };
    let item = snapshot.item(row.source)?.unwrap_or_default();
    let is_live = item.content.values().any(|content| content.hash() == row.hash);
    Ok(is_live && snapshot.by_hash(row.hash)?.is_empty())
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
        let snapshot = self.parts.store.snapshot()?;
        let oldest = snapshot.versions_kept_before(now_ms, PRUNE_COUNT)?;
        let mut over: Vec<_> = oldest.into_iter().filter(|row| self.parts.retention.is_over(row, now_ms)).collect();
        for at in (0..over.len()).rev() {
            if is_awaited(&snapshot, &over[at])? {
                over.remove(at);
            }
        }
        // More of them are waiting.
        self.next_prune = if over.len() == PRUNE_COUNT { now } else { now + PRUNE_INTERVAL };
        let mut gone = Vec::new();
        for row in over {
            match versions::prune(&control, &row)? {
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

    /// Something wrote to a version since it was displaced: that is an edit of what stood there.
    fn publish_version(&mut self, row: VersionRow) -> Result<(), FolderError> {
        if let Some((key, old)) = row.origin.clone() {
            let displaced =
                Displaced { stored: row.stored.clone(), key, kind: Some(old.kind), row: old, print: row.print };
            self.publish(&displaced)?;
        }
        // As it is now; the next look compares with this.
        self.parts.store.write::<_, StoreError>(|write| write.put_version(&row))?;
        Ok(self.ledger.refresh()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use zerocloud_crdt::base::{BaseRow, Fingerprint, RowKey};
    use zerocloud_crdt::id::{ActorId, ContentHash, FileId, OpId, SpaceId};
    use zerocloud_crdt::index::IndexChanges;
    use zerocloud_crdt::name::Name;
    use zerocloud_crdt::register::{Content, FileTime, Item, Kind};

    use super::*;
    use crate::store::SpaceStore;

    #[test]
    fn a_merged_text_stays_until_it_is_in_its_place_and_no_longer() {
        let (item, target) = (FileId([1; 16]), b"merged".to_vec());
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
            hash: ContentHash::of(&target),
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
        // A link's target stands for a file's bytes: only their hash counts.
        let content = BTreeMap::from([(op, Content::Symlink { target })]);
        let items = BTreeMap::from([(item, Item { content, ..Item::default() })]);
        let changes = IndexChanges { items, ..IndexChanges::default() };
        store.write::<_, StoreError>(|write| write.apply_index(changes)).unwrap();
        assert!(is_kept(&merged));
        assert!(!is_kept(&VersionRow { kept_at_ms: 0, ..merged.clone() }), "others go when their time has passed");
        store.write::<_, StoreError>(|write| write.apply_base(&[(key, Some(row))].into())).unwrap();
        assert!(!is_kept(&merged));
    }
}
