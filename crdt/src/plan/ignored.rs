//! Ignored paths in a plan: what sleeps, what leaves, and what stays because of them. And what a device leaves out.

use std::collections::{BTreeMap, BTreeSet};

use super::{Planner, Situation, Task, Wait, is_settled};
use crate::base::{BaseRead, BaseRow, PARKED, RowKey};
use crate::id::FileId;
use crate::index::IndexRead;
use crate::limits::PATH_DEPTH_MAX;
use crate::register::Kind;
use crate::view::{View, ViewEntry};

/// What ignore rules and the device's selection leave out of a plan.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    /// Items that are not shown as the view has them because a path is ignored: to be planned again when rules change.
    pub items: BTreeSet<FileId>,
    /// Items of which something does not come to this device, and how many files of each: to be planned again when the
    /// selection changes, or a directory above gets another place.
    pub unselected: BTreeMap<FileId, u64>,
    /// Directories that must leave because the view has them at an ignored path, and that have rows: whatever is in
    /// them is to be planned, too.
    pub leaving: BTreeSet<FileId>,
    /// Rows that sleep while the view has their item at a path that counts: they are to be taken out of base, with what
    /// is below them, and the disk stays as it is; then the item is to be planned again.
    pub forgotten: Vec<RowKey>,
}

impl<B: BaseRead> Planner<'_, B> {
    /// What is to be done about an entry and the row of the same id, if anything is.
    ///
    /// A row that sleeps is left alone. An entry at an ignored path is not brought to disk, and if base has it at
    /// another path it leaves that, as a deletion would have it.
    pub(super) fn task(
        &mut self,
        source: FileId,
        entry: Option<ViewEntry>,
        row: Option<(RowKey, BaseRow)>,
        situation: &impl Situation,
    ) -> Option<Task> {
        if let (Some(entry), Some((key, row))) = (&entry, &row)
            && is_settled(entry, key, row)
            && (!situation.is_ignored(entry) || situation.is_asleep(key, row))
        {
            return None;
        }
        let is_ignored = entry.as_ref().is_some_and(|entry| situation.is_ignored(entry));
        if let (Some(entry), None) = (&entry, &row)
            && !is_ignored
            && situation.is_left_out(entry)
        {
            *self.plan.left_out.unselected.entry(source).or_default() += u64::from(entry.kind != Kind::Directory);
            return None;
        }
        if let Some((key, row)) = &row
            && situation.is_asleep(key, row)
        {
            self.plan.left_out.items.insert(source);
            if entry.is_some() && !is_ignored {
                self.plan.left_out.forgotten.push(key.clone());
            }
            return None;
        }
        if !is_ignored {
            return Some(Task { entry, row, depth: 0, is_ignored });
        }
        self.plan.left_out.items.insert(source);
        row.map(|row| Task { entry: None, row: Some(row), depth: 0, is_ignored })
    }

    /// Whether something that the view does not have, or has at an ignored path, stays where it is all the same: a
    /// directory with an ignored path inside, and what lies below one that would leave for being ignored.
    pub(super) fn stays_for_ignored<I: IndexRead<Error = B::Error>>(
        &mut self,
        view: &View<'_, I>,
        task: &Task,
        key: &RowKey,
        row: &BaseRow,
        situation: &impl Situation,
    ) -> Result<Option<Wait>, B::Error> {
        let is_directory = row.kind == Kind::Directory;
        if !task.is_ignored {
            return Ok((is_directory && situation.has_ignored(row.id)).then_some(Wait::Ignored));
        }
        if is_directory && self.keeps(row.id, situation)? {
            return Ok(Some(Wait::Ignored));
        }
        let mut at = key.parent;
        for _ in 0..PATH_DEPTH_MAX {
            if at == FileId::ROOT || at == PARKED {
                break;
            }
            let Some(above) = self.base.find(at, at)? else { break };
            // It stays with all that is in it if it is held, or if it would go and can't.
            let goes = view.entry(at, at)?.is_none_or(|entry| situation.is_ignored(&entry));
            if situation.is_held(at) || (goes && self.keeps(at, situation)?) {
                return Ok(Some(Wait::Ignored));
            }
            at = above.parent;
        }
        if is_directory && self.base.has_rows(row.id)? {
            self.plan.left_out.leaving.insert(row.id);
        }
        Ok(None)
    }

    /// Whether anything in a directory, however deep, is ignored or held.
    fn keeps(&mut self, directory: FileId, situation: &impl Situation) -> Result<bool, B::Error> {
        if let Some(keeps) = self.kept.get(&directory) {
            return Ok(*keeps);
        }
        let (mut below, mut keeps) = (vec![directory], false);
        while let Some(parent) = below.pop().filter(|_| !keeps) {
            keeps = situation.has_ignored(parent);
            for (local, row) in self.base.rows(parent)? {
                keeps |= situation.is_held(row.id) || situation.is_asleep(&RowKey { parent, local }, &row);
                if row.kind == Kind::Directory {
                    below.push(row.id);
                }
            }
        }
        self.kept.insert(directory, keeps);
        Ok(keeps)
    }
}
