//! Copies of whole disks.

use std::sync::{Arc, Mutex};

use zerocloud::clock::Clock;

use super::{Disk, SimVolume};

impl SimVolume {
    /// Another disk with all that stands on this one, written and synced: block by block, so that nothing tells it from
    /// this one, or file by file, onto a file system of its own with inodes of its own.
    #[must_use]
    pub fn copy(&self, clock: Arc<dyn Clock>, is_by_file: bool) -> Self {
        let disk = self.lock();
        let mut live = disk.unmounted.as_ref().map_or(&disk.live, |images| &images.0).clone();
        live.collect();
        let filesystem = disk.filesystem + u64::from(is_by_file);
        if is_by_file {
            live = live.copied(disk.last_time);
        }
        let Disk { last_time, granularity_ns, .. } = *disk;
        let copy = Disk { last_time, filesystem, granularity_ns, ..Disk::new(live, clock) };
        Self { disk: Arc::new(Mutex::new(copy)), ..*self }
    }
}
