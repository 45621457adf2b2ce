//! The version store over time: a second look at what was displaced, and an end for what was kept long enough.

use std::time::Duration;

use super::{Folder, FolderError};
use crate::clock::Moment;
use crate::store::StoreError;
use crate::tree::versions::{self, Look, VersionRow};
use crate::tree::{Displaced, Pool};

/// Time between two looks for versions whose time has passed.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Versions that are looked at in one go.
const PRUNE_COUNT: usize = 1_000;

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
        let oldest = self.parts.store.snapshot()?.versions_kept_before(now_ms, PRUNE_COUNT)?;
        let over: Vec<_> = oldest.into_iter().filter(|row| self.parts.retention.is_over(row, now_ms)).collect();
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
