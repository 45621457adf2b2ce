//! An index in memory.

use std::collections::{BTreeMap, BTreeSet};

use super::{IndexChanges, IndexRead, Overlay, Seat};
use crate::id::{ActorId, FileId, OpId, SpaceId};
use crate::name::Name;
use crate::register::{Item, Op};

/// An index in memory: for browsers, tests and the simulator's models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryIndex {
    space: SpaceId,
    items: BTreeMap<FileId, Item>,
    present: BTreeSet<(Seat, FileId)>,
    contested: BTreeSet<(FileId, FileId)>,
    fallen: BTreeMap<FileId, FileId>,
    losers: BTreeMap<FileId, FileId>,
    labels: BTreeMap<ActorId, Name>,
    max_counter: u32,
}

impl MemoryIndex {
    /// An empty index.
    pub const fn new(space: SpaceId) -> Self {
        Self {
            space,
            items: BTreeMap::new(),
            present: BTreeSet::new(),
            contested: BTreeSet::new(),
            fallen: BTreeMap::new(),
            losers: BTreeMap::new(),
            labels: BTreeMap::new(),
            max_counter: 0,
        }
    }

    /// Makes an overlay's changes part of the index.
    pub fn commit(&mut self, changes: IndexChanges) {
        self.items.extend(changes.items);
        for (row, is_present) in changes.present {
            if is_present {
                self.present.insert(row)
            } else {
                self.present.remove(&row)
            };
        }
        for (row, is) in changes.contested {
            if is {
                self.contested.insert(row)
            } else {
                self.contested.remove(&row)
            };
        }
        self.fallen = changes.fallen.unwrap_or(std::mem::take(&mut self.fallen));
        self.losers.extend(changes.losers);
        self.labels.extend(changes.labels);
        self.max_counter = changes.max_counter.unwrap_or(self.max_counter);
    }

    /// Applies operations, in order. Returns the items whose view may have changed.
    pub fn apply<'o>(&mut self, ops: impl IntoIterator<Item = &'o Op>) -> BTreeSet<FileId> {
        let mut overlay = Overlay::new(self);
        let Ok(touched) = overlay.apply(ops);
        let changes = overlay.into_changes();
        self.commit(changes);
        touched
    }

    /// All registers.
    pub const fn items(&self) -> &BTreeMap<FileId, Item> {
        &self.items
    }

    /// Every operation that is live in the register of `id` that holds places, contents or metas.
    pub fn live(&self, id: FileId) -> BTreeSet<OpId> {
        let Some(item) = self.items.get(&id) else { return BTreeSet::new() };
        item.place.keys().chain(item.content.keys()).chain(item.meta.keys()).copied().collect()
    }
}

impl IndexRead for MemoryIndex {
    type Error = std::convert::Infallible;

    fn space(&self) -> SpaceId {
        self.space
    }

    fn item(&self, id: FileId) -> Result<Option<Item>, Self::Error> {
        Ok(self.items.get(&id).cloned())
    }

    fn look_at<V>(&self, id: FileId, look: impl FnOnce(Option<&Item>) -> V) -> Result<V, Self::Error> {
        Ok(look(self.items.get(&id)))
    }

    fn children(&self, parent: FileId) -> Result<Vec<FileId>, Self::Error> {
        Ok(self.present.range(Seat::all_under(parent)).map(|(_, id)| *id).collect())
    }

    fn keyed(&self, parent: FileId, name_key: u64) -> Result<Vec<FileId>, Self::Error> {
        let seat = Seat { parent, name_key };
        Ok(self.present.range(seat.all_here()).map(|(_, id)| *id).collect())
    }

    fn has_children(&self, parent: FileId) -> Result<bool, Self::Error> {
        Ok(!self.children(parent)?.is_empty())
    }

    fn contested(&self, parent: FileId) -> Result<BTreeSet<FileId>, Self::Error> {
        let range = (parent, FileId([0; 16]))..=(parent, FileId([0xff; 16]));
        Ok(self.contested.range(range).map(|(_, id)| *id).collect())
    }

    fn fallen(&self) -> Result<BTreeMap<FileId, FileId>, Self::Error> {
        Ok(self.fallen.clone())
    }

    fn loser_of(&self, virtual_id: FileId) -> Result<Option<FileId>, Self::Error> {
        Ok(self.losers.get(&virtual_id).copied())
    }

    fn losers(&self, item: FileId) -> Result<Vec<FileId>, Self::Error> {
        Ok(self.losers.iter().filter(|(_, source)| **source == item).map(|(id, _)| *id).collect())
    }

    fn label(&self, actor: ActorId) -> Result<Option<Name>, Self::Error> {
        Ok(self.labels.get(&actor).cloned())
    }

    fn max_counter(&self) -> Result<u32, Self::Error> {
        Ok(self.max_counter)
    }
}
