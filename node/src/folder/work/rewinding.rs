//! Making things as they were: operations of now, which come to this disk as everybody's do.

use zerocloud_crdt::rewind::{Change, REWIND_COUNT};

use super::{Folder, FolderError};
use crate::engine::found::Found;
use crate::folder::Rewinding;
use crate::tree::Pool;

impl<P: Pool> Folder<P> {
    /// Writes what the user wants to be as it was. A crash on the way leaves a part of it done: the same command does
    /// the rest.
    pub(super) fn rewind(&mut self, rewinding: Rewinding) {
        let written = if self.is_paused {
            Err("the space is paused; resume it first".to_owned())
        } else if self.awaits_index {
            Err("this device has not read the space yet; wait until another one is connected".to_owned())
        } else {
            let written = self.write_rewound(&rewinding.changes);
            written.map(|()| self.scan_count).map_err(|error| error.to_string())
        };
        // Whoever asked may have gone.
        let _ = rewinding.done.send(written);
    }

    fn write_rewound(&mut self, changes: &[Change]) -> Result<(), FolderError> {
        // What was done here since the last scan is concurrent, and known first.
        self.scan_all()?;
        self.is_materialised = false;
        self.let_pass(changes.iter().map(Change::id));
        for part in changes.chunks(REWIND_COUNT) {
            self.parts.log.append(vec![Found::Rewound(part.to_vec()).into()])?;
        }
        Ok(())
    }
}
