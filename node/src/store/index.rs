//! The registers and the tables derived from them, as [`IndexRead`] asks for them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use zerocloud_crdt::id::{ActorId, FileId, SpaceId};
use zerocloud_crdt::index::{IndexChanges, IndexRead, Seat};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::Item;

use super::tables::{self, Table, Tables};
use super::{StoreError, Transaction, Write, values};
use crate::tree::Generation;

impl<T: Tables> IndexRead for Transaction<T> {
    type Error = StoreError;

    fn space(&self) -> SpaceId {
        self.space
    }

    fn item(&self, id: FileId) -> Result<Option<Item>, StoreError> {
        self.load(Table::Items, id.as_bytes())
    }

    fn children(&self, parent: FileId) -> Result<Vec<FileId>, StoreError> {
        tables::collect(&self.tables, Table::Present, parent.as_bytes(), |mut rest, _| {
            tables::take::<8>(Table::Present, &mut rest)?;
            Ok(FileId(tables::exactly(Table::Present, rest)?))
        })
    }

    fn keyed(&self, parent: FileId, name_key: u64) -> Result<Vec<FileId>, StoreError> {
        let prefix = tables::joined(&[parent.as_bytes(), &name_key.to_be_bytes()]);
        tables::collect(&self.tables, Table::Present, &prefix, |id, _| Ok(FileId(tables::exactly(Table::Present, id)?)))
    }

    fn has_children(&self, parent: FileId) -> Result<bool, StoreError> {
        tables::any(&self.tables, Table::Present, parent.as_bytes())
    }

    fn contested(&self, parent: FileId) -> Result<BTreeSet<FileId>, StoreError> {
        let ids = tables::collect(&self.tables, Table::Contested, parent.as_bytes(), |id, _| {
            Ok(FileId(tables::exactly(Table::Contested, id)?))
        })?;
        Ok(ids.into_iter().collect())
    }

    fn fallen(&self) -> Result<BTreeMap<FileId, FileId>, StoreError> {
        Ok((*self.cache.fallen).clone())
    }

    fn loser_of(&self, virtual_id: FileId) -> Result<Option<FileId>, StoreError> {
        Ok(self.cache.losers.item(virtual_id))
    }

    fn losers(&self, item: FileId) -> Result<Vec<FileId>, StoreError> {
        Ok(self.cache.losers.of(item))
    }

    fn label(&self, actor: ActorId) -> Result<Option<Name>, StoreError> {
        Ok(self.cache.labels.get(&actor).cloned())
    }

    fn max_counter(&self) -> Result<u32, StoreError> {
        Ok(self.cache.max_counter)
    }
}

impl<T: Tables> Transaction<T> {
    /// Which state this is.
    pub const fn generation(&self) -> Generation {
        Generation(self.cache.generation)
    }

    /// Up to `limit` items whose view may differ from base, ascending: what materialise is to look at.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn pending(&self, limit: usize) -> Result<Vec<FileId>, StoreError> {
        self.pending_after(None, limit)
    }

    /// As [`Self::pending`], from the first one above `after`: a walk in pieces over items that have to wait.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn pending_after(&self, after: Option<FileId>, limit: usize) -> Result<Vec<FileId>, StoreError> {
        let mut pending = Vec::new();
        if limit == 0 {
            return Ok(pending);
        }
        let from = after.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id.as_bytes()[..]));
        self.tables.walk(Table::Pending, (from, Bound::Unbounded), &mut |id, _| {
            pending.push(FileId(tables::exactly(Table::Pending, id)?));
            Ok(if pending.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(pending)
    }

    /// Up to `limit` directories that hold contested items, ascending from the first above `after`. Takes one step
    /// for each directory, however many items are contested in it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn contested_directories(&self, after: Option<FileId>, limit: usize) -> Result<Vec<FileId>, StoreError> {
        let (mut directories, mut last) = (Vec::new(), after);
        while directories.len() < limit {
            // Above every row of a directory: ids have 16 bytes.
            let past = last.map(|id| tables::joined(&[id.as_bytes(), &[0xff; 16]]));
            let from = past.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut next = None;
            self.tables.walk(Table::Contested, (from, Bound::Unbounded), &mut |mut key, _| {
                next = Some(FileId(tables::take(Table::Contested, &mut key)?));
                Ok(ControlFlow::Break(()))
            })?;
            let Some(next) = next else { break };
            directories.push(next);
            last = Some(next);
        }
        Ok(directories)
    }

    /// How many items are pending.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn pending_count(&self) -> Result<u64, StoreError> {
        self.tables.count(Table::Pending)
    }

    /// Up to `limit` items that any operation ever named, ascending from the first above `after`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn items_after(&self, after: Option<FileId>, limit: usize) -> Result<Vec<(FileId, Item)>, StoreError> {
        let mut items = Vec::new();
        if limit == 0 {
            return Ok(items);
        }
        let from = after.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&id.as_bytes()[..]));
        self.tables.walk(Table::Items, (from, Bound::Unbounded), &mut |id, item| {
            items.push((FileId(tables::exactly(Table::Items, id)?), tables::decode(Table::Items, item)?));
            Ok(if items.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(items)
    }
}

impl Write<'_> {
    /// Makes an overlay's changes part of the index. What they touched is pending from now on.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn apply_index(&mut self, changes: IndexChanges) -> Result<(), StoreError> {
        for (id, item) in &changes.items {
            self.tables.store(Table::Items, id.as_bytes(), item)?;
        }
        for ((seat, id), is_present) in &changes.present {
            self.mark(Table::Present, &present_key(*seat, *id), *is_present)?;
        }
        for ((parent, id), is_contested) in &changes.contested {
            self.mark(Table::Contested, &tables::joined(&[parent.as_bytes(), id.as_bytes()]), *is_contested)?;
        }
        if let Some(fallen) = changes.fallen {
            self.replace_fallen(fallen)?;
        }
        for (virtual_id, item) in &changes.losers {
            if self.cache.losers.item(*virtual_id) != Some(*item) {
                self.tables.put(Table::Losers, virtual_id.as_bytes(), item.as_bytes())?;
                Arc::make_mut(&mut self.cache.losers).insert(*virtual_id, *item);
            }
        }
        for (actor, label) in &changes.labels {
            if self.cache.labels.get(actor) != Some(label) {
                self.tables.store(Table::Labels, actor.as_bytes(), label)?;
                Arc::make_mut(&mut self.cache.labels).insert(*actor, label.clone());
            }
        }
        if let Some(max_counter) = changes.max_counter {
            self.set(values::MAX_COUNTER, &max_counter)?;
            self.cache.max_counter = max_counter;
        }
        if zerocloud_crdt::mutated!(UnmarkedItems) {
            return Ok(());
        }
        self.put_pending(&changes.touched)
    }

    /// Takes every register and derived row away, and every pending mark, for registers that are made again from the
    /// log. Labels, log and base stay.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn clear_index(&mut self) -> Result<(), StoreError> {
        for table in [Table::Items, Table::Present, Table::Contested, Table::Fallen, Table::Losers, Table::Pending] {
            self.tables.clear(table, &[])?;
        }
        self.set(values::MAX_COUNTER, &0)?;
        self.cache.max_counter = 0;
        self.cache.fallen = Arc::default();
        self.cache.losers = Arc::default();
        Ok(())
    }

    /// Marks items as pending, as of this commit.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_pending<'i>(&mut self, items: impl IntoIterator<Item = &'i FileId>) -> Result<(), StoreError> {
        let mark = (self.cache.generation + 1).to_be_bytes();
        for id in items {
            self.tables.put(Table::Pending, id.as_bytes(), &mark)?;
        }
        Ok(())
    }

    /// Takes the mark off items, each of which had nothing left to be done in the state that stands beside it. What was
    /// marked since stays: it is about something that was not seen.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn remove_pending(&mut self, items: impl IntoIterator<Item = (FileId, Generation)>) -> Result<(), StoreError> {
        for (id, seen) in items {
            let mark = self.tables.read(Table::Pending, id.as_bytes(), |mark| tables::exactly(Table::Pending, mark))?;
            if mark.transpose()?.is_some_and(|mark| u64::from_be_bytes(mark) <= seen.0) {
                self.tables.remove(Table::Pending, id.as_bytes())?;
            }
        }
        Ok(())
    }

    fn replace_fallen(&mut self, fallen: BTreeMap<FileId, FileId>) -> Result<(), StoreError> {
        let before = Arc::clone(&self.cache.fallen);
        for id in before.keys().filter(|id| !fallen.contains_key(id)) {
            self.tables.remove(Table::Fallen, id.as_bytes())?;
        }
        for (id, parent) in fallen.iter().filter(|(id, parent)| before.get(id) != Some(parent)) {
            self.tables.put(Table::Fallen, id.as_bytes(), parent.as_bytes())?;
        }
        self.cache.fallen = Arc::new(fallen);
        Ok(())
    }

    /// Puts or removes a row that has no value.
    pub(super) fn mark(&mut self, table: Table, key: &[u8], is_there: bool) -> Result<(), StoreError> {
        if is_there { self.tables.put(table, key, &[]) } else { self.tables.remove(table, key).map(|_| ()) }
    }
}

fn present_key(seat: Seat, id: FileId) -> Vec<u8> {
    tables::joined(&[seat.parent.as_bytes(), &seat.name_key.to_be_bytes(), id.as_bytes()])
}
