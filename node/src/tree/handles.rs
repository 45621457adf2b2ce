//! Directory handles by id: opened component by component from the root, no link followed, and only where the
//! directory that was noted still stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use zerocloud_crdt::base::{BaseRead, PARKED, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::limits::PATH_DEPTH_MAX;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::scan::Parent;

use crate::volume::{VolumeDirectory, VolumeError};

/// Handles that are kept open: each is a file descriptor, of which a process has 1,024 by default.
const OPEN_COUNT_MAX: usize = 64;

/// Where a directory stands in another.
pub(super) struct Step {
    pub(super) parent: Parent,
    pub(super) local: Name,
    /// The inode that was noted for it.
    pub(super) inode: u64,
}

/// Tells where directories stand.
pub(super) trait Locate {
    type Error;
    /// `None` for a directory that is not known.
    fn locate(&self, directory: Parent) -> Result<Option<Step>, Self::Error>;
}

/// Directories where base has them.
pub(super) struct InBase<'a, B>(pub(super) &'a B);

impl<B: BaseRead> Locate for InBase<'_, B> {
    type Error = B::Error;

    fn locate(&self, directory: Parent) -> Result<Option<Step>, B::Error> {
        let Parent::Known(id) = directory else { return Ok(None) };
        let Some(RowKey { parent, local }) = self.0.find(id, id)? else { return Ok(None) };
        let row = self.0.row(&RowKey { parent, local: local.clone() })?;
        Ok(row.map(|row| Step { parent: Parent::Known(parent), local, inode: row.print.inode }))
    }
}

/// Why a directory was not opened.
#[derive(Debug)]
pub(super) enum OpenError<E> {
    /// It is not known, or another one stands in its place.
    NotAsNoted,
    Volume(VolumeError),
    Store(E),
}

/// Open directories.
pub(super) struct Handles {
    root: Arc<dyn VolumeDirectory>,
    tmp: Arc<dyn VolumeDirectory>,
    open: BTreeMap<Parent, Arc<dyn VolumeDirectory>>,
}

impl Handles {
    pub(super) fn new(root: Arc<dyn VolumeDirectory>, tmp: Arc<dyn VolumeDirectory>) -> Self {
        Self { root, tmp, open: BTreeMap::new() }
    }

    fn at_hand(&self, directory: Parent) -> Option<Arc<dyn VolumeDirectory>> {
        match directory {
            Parent::Known(FileId::ROOT) => Some(self.root.clone()),
            Parent::Known(PARKED) => Some(self.tmp.clone()),
            _ => self.open.get(&directory).cloned(),
        }
    }

    pub(super) fn open<L: Locate>(
        &mut self,
        locate: &L,
        directory: Parent,
    ) -> Result<Arc<dyn VolumeDirectory>, OpenError<L::Error>> {
        let mut steps = Vec::new();
        let mut at = directory;
        let mut handle = loop {
            if let Some(handle) = self.at_hand(at) {
                break handle;
            }
            let step = locate.locate(at).map_err(OpenError::Store)?.ok_or(OpenError::NotAsNoted)?;
            let parent = step.parent;
            steps.push((at, step));
            if steps.len() > PATH_DEPTH_MAX {
                return Err(OpenError::NotAsNoted);
            }
            at = parent;
        };
        for (of, step) in steps.into_iter().rev() {
            handle = handle.open_directory(step.local.as_bytes()).map_err(OpenError::Volume)?;
            if handle.stat_self().map_err(OpenError::Volume)?.ino != step.inode {
                return Err(OpenError::NotAsNoted);
            }
            if self.open.len() >= OPEN_COUNT_MAX {
                self.open.clear();
            }
            self.open.insert(of, handle.clone());
        }
        Ok(handle)
    }

    /// Forgets a directory that was removed.
    pub(super) fn forget(&mut self, id: FileId) {
        self.open.remove(&Parent::Known(id));
    }
}
