//! What does not come to this device.
//!
//! A selection decides about what is not here. What is here stays, and stays in step with the others, whatever the
//! selection says; so does what the user puts at a place that is left out. But what is not at such a place any more is
//! no deletion: it leaves base without an operation, and does not come back while it is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zerocloud_crdt::id::FileId;
use zerocloud_crdt::plan::{Action, Wait, Waiting};
use zerocloud_crdt::register::Kind;

use super::{Folder, FolderError, pending_of};
use crate::folder::Selecting;
use crate::store::{StoreError, values};
use crate::tree::Pool;
use crate::tree::ignoring::RulesFile;

impl<P: Pool> Folder<P> {
    /// Puts another selection in force.
    pub(super) fn select(&mut self, selecting: Selecting) {
        let selected = if self.is_paused {
            Err("the space is paused; resume it first".to_owned())
        } else {
            self.change_selection(&selecting.patterns).map_err(|error| error.to_string())
        };
        // Whoever asked may have gone.
        let _ = selecting.done.send(selected);
    }

    fn change_selection(&mut self, patterns: &[u8]) -> Result<(), FolderError> {
        // What is gone from a place that was left out until now is no deletion, and from another one it is. A device that
        // awaits an index takes nothing for deleted.
        if !self.awaits_index {
            self.scan_all()?;
        }
        self.parts.store.write::<_, StoreError>(|write| match patterns {
            [] => write.unset(values::SELECTION),
            patterns => write.set(values::SELECTION, &patterns.to_vec()),
        })?;
        let rules = std::mem::take(&mut self.ignoring.rules);
        self.ignoring.rules = rules.with_selection(Some(Arc::new(RulesFile::parse(patterns))));
        self.ignoring.unselected.clear();
        self.ignoring.needed.clear();
        self.is_materialised = false;
        self.ready.extend(&pending_of(&self.parts.store.snapshot()?)?);
        // What waits for what does not come any more.
        self.done_count += 1;
        Ok(())
    }

    /// Has a directory come that is left out, because something that is here is to go into it.
    pub(super) fn need_directory(&mut self, id: FileId, waits: &Waiting) {
        let is_needed = waits.at.is_some() || self.ignoring.needed.contains(&id);
        if let Wait::Directory(on) = waits.wait
            && is_needed
            && self.ignoring.rules.selection().is_some()
            && self.ignoring.needed.insert(on)
        {
            self.ready.insert(on);
        }
    }

    /// Notes what a plan of `sources` found to be left out.
    pub(super) fn take_unselected(
        &mut self,
        sources: &BTreeSet<FileId>,
        actions: &[Action],
        unselected: BTreeMap<FileId, u64>,
    ) {
        let mut has_freed_directory = false;
        for action in actions {
            has_freed_directory |= match action {
                Action::Create { entry, .. } => {
                    entry.kind == Kind::Directory && self.ignoring.unselected.contains_key(&entry.source)
                }
                Action::Move { old, .. } => old.kind == Kind::Directory,
                _ => false,
            };
        }
        for source in sources {
            self.ignoring.unselected.remove(source);
        }
        if has_freed_directory {
            // With another path a directory may be selected, and then so is what is in it.
            self.ready.extend(std::mem::take(&mut self.ignoring.unselected).keys());
        }
        let acted: BTreeSet<FileId> = actions.iter().map(Action::source).collect();
        for source in unselected.keys().filter(|source| !acted.contains(source)) {
            self.ready.remove(source);
        }
        self.ignoring.unselected.extend(unselected);
    }
}
