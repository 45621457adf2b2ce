//! Names that this disk takes for one: what has no place because of that, and what gets its own name in another spelling.

use std::collections::BTreeSet;

use zerocloud_crdt::base::{BaseRead, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::plan::Action;
use zerocloud_crdt::view::View;

use super::acting::{FAILED_DELAY, target_of};
use super::{Folder, FolderError, Stuck};
use crate::tree::Pool;
use crate::tree::materialise::Blocked;

impl<P: Pool> Folder<P> {
    /// Something has no place: it stays as it is, the user is told, and it is tried again when a name there is free. No
    /// scan would find out more.
    pub(super) fn collide(&mut self, action: &Action, blocked: Blocked) {
        let to = target_of(action);
        let (source, until) = (action.source(), self.now() + FAILED_DELAY);
        let problem = Some((self.path_of(to), blocked.to_string()));
        self.stick(
            action,
            Stuck { source, until, problem, is_full: false, blocked_at: Vec::new(), collides_in: Some(to.parent) },
        );
    }

    /// The disk can hold neither a name nor what would stand for it: nothing is made, the user is told, and it is looked
    /// at again now and then.
    pub(super) fn hold_back<I: IndexRead>(&mut self, id: FileId, source: FileId, view: &View<'_, I>) {
        let Ok(Some(entry)) = view.entry(id, source) else { return };
        let objection = self.volume.name_rules().objection(entry.name.as_bytes());
        let reason = objection.map_or_else(|| "it is too long".to_owned(), |objection| objection.to_string());
        let problem = format!(
            "its name can't stand on this disk ({reason}), and what would stand for it is too long; give it a shorter \
             name on a device that has it"
        );
        let key = RowKey { parent: entry.parent, local: entry.name };
        let (problem, until) = (Some((self.path_of(&key), problem)), self.now() + FAILED_DELAY);
        let stuck = Stuck { source, until, problem, is_full: false, blocked_at: Vec::new(), collides_in: None };
        self.ready.remove(&source);
        self.stuck.insert(id, stuck);
    }

    /// A name in a directory is free: what collided there is tried again.
    pub(super) fn free_collisions(&mut self, directory: FileId) {
        let now = self.now();
        let collided = self.stuck.values_mut().filter(|stuck| stuck.collides_in == Some(directory));
        collided.for_each(|stuck| stuck.until = now);
    }

    /// What is said of these items may have changed: they may have a place by now.
    pub(super) fn free_what_collides_of(&mut self, items: &BTreeSet<FileId>) {
        let now = self.now();
        let collided = self.stuck.values_mut().filter(|stuck| stuck.collides_in.is_some());
        collided.filter(|stuck| items.contains(&stuck.source)).for_each(|stuck| stuck.until = now);
    }

    /// Puts aside what is to have its own name in another spelling, where it still stands.
    pub(super) fn put_aside(&mut self) -> Result<Vec<Action>, FolderError> {
        if self.aside.is_empty() {
            return Ok(Vec::new());
        }
        self.ledger.refresh()?;
        let mut actions = Vec::new();
        for (id, from) in std::mem::take(&mut self.aside) {
            if let Some(old) = self.ledger.row(&from)?.filter(|row| row.id == id) {
                actions.push(Action::Park { from, old });
            }
        }
        Ok(actions)
    }
}
