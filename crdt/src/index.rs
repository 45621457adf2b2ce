//! The index: all registers of a space, and the small tables derived from them that let the view be read locally.
//!
//! [`IndexRead`] is what a store must answer. [`Overlay`] applies operations on top of any such store without
//! touching it: a scan tries its operations there, and the store commits what the overlay changed. The derived tables
//! are a pure function of the registers; [`Overlay::apply`] keeps them so, and reports which items' views may have
//! changed. Rules of the view itself are in [`crate::view`].
//!
//! The derived tables:
//! - *present*: rows (directory, hash of name, item) for each item that the view shows, under its effective parent;
//! - *contested*: rows (directory, item) for items that share a name with another, or have losers to show;
//! - *fallen*: items whose effective parent is not the one that their place names (cycles, missing parents);
//! - *losers*: virtual id → item, for every virtual id that ever had a place.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::ops::RangeInclusive;

use crate::id::{ActorId, FileId, SpaceId};
use crate::name::Name;
use crate::register::{Item, Op, Place, Write};
use crate::view;

mod memory;

pub use memory::MemoryIndex;

/// What the view and the diffs read of a space's index.
pub trait IndexRead {
    /// Why reading failed; a store in memory has no reason.
    type Error;

    /// The space.
    fn space(&self) -> SpaceId;
    /// The registers of an item; `None` if no operation ever named it.
    fn item(&self, id: FileId) -> Result<Option<Item>, Self::Error>;
    /// As [`item`](Self::item), lent to `look`, which does not read the index itself: no copy is made of what is in memory.
    fn look_at<V>(&self, id: FileId, look: impl FnOnce(Option<&Item>) -> V) -> Result<V, Self::Error> {
        Ok(look(self.item(id)?.as_ref()))
    }
    /// The present items under `parent`, ascending by [`name_key`] and id.
    fn children(&self, parent: FileId) -> Result<Vec<FileId>, Self::Error>;
    /// The present items under `parent` whose name has this [`name_key`].
    fn keyed(&self, parent: FileId, name_key: u64) -> Result<Vec<FileId>, Self::Error>;
    /// Whether any item is present under `parent`.
    fn has_children(&self, parent: FileId) -> Result<bool, Self::Error>;
    /// The contested items under `parent`, ascending.
    fn contested(&self, parent: FileId) -> Result<BTreeSet<FileId>, Self::Error>;
    /// Every item whose effective parent is not its place's, with that effective parent.
    fn fallen(&self) -> Result<BTreeMap<FileId, FileId>, Self::Error>;
    /// The item whose loser `virtual_id` is, if that id ever had a place.
    fn loser_of(&self, virtual_id: FileId) -> Result<Option<FileId>, Self::Error>;
    /// The virtual ids that ever had a place as losers of `item`, ascending.
    fn losers(&self, item: FileId) -> Result<Vec<FileId>, Self::Error>;
    /// The label of the log that writes as `actor`.
    fn label(&self, actor: ActorId) -> Result<Option<Name>, Self::Error>;
    /// The largest counter of any operation applied so far; 0 for an empty index.
    fn max_counter(&self) -> Result<u32, Self::Error>;
}

/// The key under which a name stands in the table of present items: 8 bytes of its BLAKE3.
pub fn name_key(name: &Name) -> u64 {
    let mut key = [0; 8];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut key);
    u64::from_be_bytes(key)
}

/// Where an item is counted in the table of present items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// The effective parent.
    pub parent: FileId,
    /// [`name_key`] of its natural name.
    pub name_key: u64,
}

impl Seat {
    /// The rows of the table of present items under one directory.
    fn all_under(parent: FileId) -> RangeInclusive<(Self, FileId)> {
        (Self { parent, name_key: 0 }, FileId([0; 16]))..=(Self { parent, name_key: u64::MAX }, FileId([0xff; 16]))
    }

    /// The rows of the table of present items in this seat.
    fn all_here(self) -> RangeInclusive<(Self, FileId)> {
        (self, FileId([0; 16]))..=(self, FileId([0xff; 16]))
    }
}

/// What an [`Overlay`] changed; a store writes these and the overlay is done. Sorted, so that a store can write each
/// table in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexChanges {
    /// Registers, whole.
    pub items: BTreeMap<FileId, Item>,
    /// Rows of present items: true to put, false to remove.
    pub present: BTreeMap<(Seat, FileId), bool>,
    /// Rows of contested items: true to put, false to remove.
    pub contested: BTreeMap<(FileId, FileId), bool>,
    /// The fallen items, whole, if they changed.
    pub fallen: Option<BTreeMap<FileId, FileId>>,
    /// New rows of losers' ids.
    pub losers: BTreeMap<FileId, FileId>,
    /// New labels.
    pub labels: BTreeMap<ActorId, Name>,
    /// The largest counter, if it grew.
    pub max_counter: Option<u32>,
    /// Items whose view may differ: an item's own entry, or one of its losers'.
    pub touched: BTreeSet<FileId>,
}

/// Operations on top of a store, not yet part of it.
pub struct Overlay<'a, I: IndexRead> {
    below: &'a I,
    changes: IndexChanges,
    /// Registers that were read from below. Only ever filled; what `changes.items` holds wins.
    read: RefCell<BTreeMap<FileId, Option<Item>>>,
}

impl<'a, I: IndexRead> Overlay<'a, I> {
    /// An overlay without operations.
    pub fn new(below: &'a I) -> Self {
        Self { below, changes: IndexChanges::default(), read: RefCell::default() }
    }

    /// What is below.
    pub const fn below(&self) -> &'a I {
        self.below
    }

    /// What was changed so far.
    pub const fn changes(&self) -> &IndexChanges {
        &self.changes
    }

    /// What was changed, to be written.
    pub fn into_changes(self) -> IndexChanges {
        self.changes
    }

    /// Notes the label under which a log writes.
    pub fn put_label(&mut self, actor: ActorId, label: Name) {
        self.changes.labels.insert(actor, label);
    }

    /// Applies operations, in order, and brings the derived tables up to date. Returns the items whose view may have
    /// changed by these operations.
    pub fn apply<'o>(&mut self, ops: impl IntoIterator<Item = &'o Op>) -> Result<BTreeSet<FileId>, I::Error> {
        let mut update = Update::default();
        for op in ops {
            self.remember(&mut update, op.item)?;
            if let Write::Place(Place { loser_of: Some(source), .. }) = &op.write {
                self.remember(&mut update, *source)?;
                self.changes.losers.insert(op.item, *source);
                update.pending.insert(*source);
            }
            if let Some(source) = self.loser_of(op.item)? {
                self.remember(&mut update, source)?;
                update.pending.insert(source);
            }
            if matches!(op.write, Write::Place(_)) {
                update.placed.insert(op.item);
            }
            update.pending.insert(op.item);
            self.item_mut(op.item)?.apply(op);
            if op.id.counter > self.max_counter()? {
                self.changes.max_counter = Some(op.id.counter);
            }
        }
        self.settle(update)
    }

    /// Has registers hold what they held at another time, and brings the derived tables up to date. `items` has every
    /// item whose registers differ between then and now. Returns the items whose view may differ.
    pub fn put_back(&mut self, items: BTreeMap<FileId, Item>) -> Result<BTreeSet<FileId>, I::Error> {
        let mut update = Update::default();
        for id in items.keys() {
            self.remember(&mut update, *id)?;
            update.pending.insert(*id);
            if let Some(source) = self.loser_of(*id)? {
                self.remember(&mut update, source)?;
                update.pending.insert(source);
            }
        }
        for (id, item) in items {
            // Also one with the place that it had may stand elsewhere: its parent may be gone.
            update.placed.insert(id);
            if item.place.is_empty() {
                // What is in it had no parent then.
                update.placed.extend(self.children(id)?);
            }
            self.changes.items.insert(id, item);
        }
        // So does a directory that stands again for what is in it, and a loser that has a place of its own.
        for id in update.pending.clone() {
            update.placed.extend(view::pins(self, id)?);
        }
        for id in update.placed.clone() {
            let mut at = view::natural_place(self, id)?.map(|(_, parent, _)| parent);
            while let Some(above) = at.filter(|above| update.placed.insert(*above)) {
                at = view::natural_place(self, above)?.map(|(_, parent, _)| parent);
            }
        }
        self.settle(update)
    }

    /// Brings the derived tables up to date after registers changed.
    fn settle(&mut self, mut update: Update) -> Result<BTreeSet<FileId>, I::Error> {
        update.touched.clone_from(&update.pending);
        self.settle_fallen(&mut update)?;
        self.settle_seats(&mut update)?;
        self.settle_contests(&mut update)?;
        let mut touched = std::mem::take(&mut update.touched);
        // A loser that stands on its own is shown from its item's registers.
        for id in touched.clone() {
            touched.extend(self.loser_of(id)?);
        }
        self.changes.touched.extend(&touched);
        Ok(touched)
    }

    /// Notes how an item, and the places of its losers, are counted before their registers change.
    fn remember(&self, update: &mut Update, id: FileId) -> Result<(), I::Error> {
        if update.seats.contains_key(&id) {
            return Ok(());
        }
        let seat = view::seat(self, id)?;
        update.seats.insert(id, seat);
        let pins = view::pins(self, id)?;
        for pin in &pins {
            if !update.seats.contains_key(pin) {
                let seat = view::seat(self, *pin)?;
                update.seats.insert(*pin, seat);
            }
        }
        update.pins.insert(id, pins);
        Ok(())
    }

    /// Brings the set of fallen items up to date after places changed.
    fn settle_fallen(&mut self, update: &mut Update) -> Result<(), I::Error> {
        let before = self.fallen()?;
        let mut starts: BTreeSet<FileId> = before.keys().copied().collect();
        for id in &update.placed {
            let was_placed = self.below_item_is_placed(*id)?;
            let parent = self.look_at(*id, |item| item?.winning_place().map(|(_, place)| place.parent))?;
            let parent_known = match parent {
                Some(parent) => view::is_placed(self, parent)?,
                None => true,
            };
            // A first place closes no cycle with what was placed before: that was fallen, for want of a parent.
            let parent_moved = parent.is_some_and(|parent| update.placed.contains(&parent));
            if was_placed || !parent_known || parent_moved || !before.is_empty() {
                starts.insert(*id);
            }
        }
        if starts.is_empty() {
            return Ok(());
        }
        let after = view::fallen_from(self, &starts)?;
        if after == before {
            return Ok(());
        }
        for id in before.keys().chain(after.keys()) {
            if before.get(id) != after.get(id) {
                self.remember(update, *id)?;
                update.pending.insert(*id);
                update.touched.insert(*id);
            }
        }
        self.changes.fallen = Some(after);
        Ok(())
    }

    fn below_item_is_placed(&self, id: FileId) -> Result<bool, I::Error> {
        let is_placed = |item: Option<&Item>| item.is_some_and(|item| !item.place.is_empty());
        Ok(id == view::lost_and_found(self.space()) || self.below.look_at(id, is_placed)?)
    }

    /// The registers of an item, to be changed.
    fn item_mut(&mut self, id: FileId) -> Result<&mut Item, I::Error> {
        match self.changes.items.entry(id) {
            btree_map::Entry::Occupied(changed) => Ok(changed.into_mut()),
            btree_map::Entry::Vacant(unchanged) => {
                let item = match self.read.get_mut().remove(&id) {
                    Some(read) => read,
                    None => self.below.item(id)?,
                };
                Ok(unchanged.insert(item.unwrap_or_default()))
            }
        }
    }

    /// Brings the table of present items up to date: an item comes or goes, and with it the directories above.
    fn settle_seats(&mut self, update: &mut Update) -> Result<(), I::Error> {
        for id in update.pending.clone() {
            // A pin that was none before is counted as the table has it: its seat is another by now.
            update.pending.extend(view::pins(self, id)?);
            update.pending.extend(update.pins.get(&id).into_iter().flatten());
        }
        while let Some(id) = update.pending.pop_first() {
            let old = match update.seats.get(&id) {
                Some(seat) => *seat,
                None => view::counted_seat(self, id)?,
            };
            let new = view::seat(self, id)?;
            update.seats.insert(id, new);
            if old == new {
                continue;
            }
            update.touched.insert(id);
            for (seat, is_present) in [(old, false), (new, true)] {
                let Some(seat) = seat else { continue };
                if let btree_map::Entry::Vacant(entry) = update.seats.entry(seat.parent) {
                    entry.insert(view::counted_seat(self, seat.parent)?);
                }
                self.changes.present.insert((seat, id), is_present);
                update.contests.insert(seat);
                if seat.parent != FileId::ROOT {
                    update.pending.insert(seat.parent);
                }
            }
        }
        Ok(())
    }

    /// Where an item is counted, once seats are up to date.
    fn settled_seat(&self, update: &Update, id: FileId) -> Result<Option<Seat>, I::Error> {
        match update.seats.get(&id) {
            Some(seat) => Ok(*seat),
            None => view::seat(self, id),
        }
    }

    /// Brings the table of contested items up to date, and marks those whose conflict name may differ.
    fn settle_contests(&mut self, update: &mut Update) -> Result<(), I::Error> {
        let mut directories: BTreeMap<FileId, BTreeSet<FileId>> = BTreeMap::new();
        let mut members: BTreeSet<(FileId, FileId)> = BTreeSet::new();
        for seat in &update.contests {
            directories.entry(seat.parent).or_default();
            members.extend(self.keyed(seat.parent, seat.name_key)?.into_iter().map(|id| (seat.parent, id)));
        }
        // An item that left a seat may have been contested there, and one whose losers changed is wherever it sits.
        for id in update.touched.clone() {
            if let Some(seat) = self.settled_seat(update, id)? {
                directories.entry(seat.parent).or_default();
                members.insert((seat.parent, id));
            }
        }
        for (parent, before) in &mut directories {
            *before = self.contested(*parent)?;
            members.extend(before.iter().filter(|id| update.touched.contains(id)).map(|id| (*parent, *id)));
        }
        let mut changed: BTreeSet<FileId> = update.contests.iter().map(|seat| seat.parent).collect();
        for (parent, id) in members {
            let was = directories.get(&parent).is_some_and(|before| before.contains(&id));
            let is = match self.settled_seat(update, id)? {
                Some(seat) if seat.parent == parent => {
                    view::has_losers(self, id)? || self.keyed(parent, seat.name_key)?.len() > 1
                }
                _ => false,
            };
            if is != was {
                self.changes.contested.insert((parent, id), is);
            }
            if is || was {
                changed.insert(parent);
                update.touched.insert(id);
            }
        }
        for (parent, before) in directories {
            if changed.contains(&parent) {
                update.touched.extend(before);
                update.touched.extend(self.contested(parent)?);
            }
        }
        Ok(())
    }
}

/// The state of one [`Overlay::apply`].
#[derive(Default)]
struct Update {
    /// How each item is counted in the table of present items so far.
    seats: BTreeMap<FileId, Option<Seat>>,
    /// The places of losers, as they were before.
    pins: BTreeMap<FileId, Vec<FileId>>,
    /// Items whose seat is to be looked at again.
    pending: BTreeSet<FileId>,
    /// Items that got a place operation.
    placed: BTreeSet<FileId>,
    /// Seats where an item came or went.
    contests: BTreeSet<Seat>,
    /// Items whose view may have changed.
    touched: BTreeSet<FileId>,
}

impl<I: IndexRead> IndexRead for Overlay<'_, I> {
    type Error = I::Error;

    fn space(&self) -> SpaceId {
        self.below.space()
    }

    fn item(&self, id: FileId) -> Result<Option<Item>, I::Error> {
        self.look_at(id, |item| item.cloned())
    }

    fn look_at<V>(&self, id: FileId, look: impl FnOnce(Option<&Item>) -> V) -> Result<V, I::Error> {
        if let Some(item) = self.changes.items.get(&id) {
            return Ok(look(Some(item)));
        }
        let mut read = self.read.borrow_mut();
        let item = match read.entry(id) {
            btree_map::Entry::Occupied(known) => known.into_mut(),
            btree_map::Entry::Vacant(unknown) => unknown.insert(self.below.item(id)?),
        };
        Ok(look(item.as_ref()))
    }

    fn children(&self, parent: FileId) -> Result<Vec<FileId>, I::Error> {
        let mut children: BTreeSet<FileId> = self.below.children(parent)?.into_iter().collect();
        // An item may leave one seat and take another in the same directory: removals first.
        for ((_, id), _) in self.changes.present.range(Seat::all_under(parent)).filter(|(_, is)| !**is) {
            children.remove(id);
        }
        children
            .extend(self.changes.present.range(Seat::all_under(parent)).filter(|(_, is)| **is).map(|((_, id), _)| *id));
        Ok(children.into_iter().collect())
    }

    fn keyed(&self, parent: FileId, name_key: u64) -> Result<Vec<FileId>, I::Error> {
        let seat = Seat { parent, name_key };
        let mut keyed: BTreeSet<FileId> = self.below.keyed(parent, name_key)?.into_iter().collect();
        for ((_, id), is_present) in self.changes.present.range(seat.all_here()) {
            if *is_present {
                keyed.insert(*id);
            } else {
                keyed.remove(id);
            }
        }
        Ok(keyed.into_iter().collect())
    }

    fn has_children(&self, parent: FileId) -> Result<bool, I::Error> {
        let mut removed = false;
        for (_, is_present) in self.changes.present.range(Seat::all_under(parent)) {
            if *is_present {
                return Ok(true);
            }
            removed = true;
        }
        if removed { Ok(!self.children(parent)?.is_empty()) } else { self.below.has_children(parent) }
    }

    fn contested(&self, parent: FileId) -> Result<BTreeSet<FileId>, I::Error> {
        let mut contested = self.below.contested(parent)?;
        for ((_, id), is) in self.changes.contested.range((parent, FileId([0; 16]))..=(parent, FileId([0xff; 16]))) {
            if *is {
                contested.insert(*id);
            } else {
                contested.remove(id);
            }
        }
        Ok(contested)
    }

    fn fallen(&self) -> Result<BTreeMap<FileId, FileId>, I::Error> {
        match &self.changes.fallen {
            Some(fallen) => Ok(fallen.clone()),
            None => self.below.fallen(),
        }
    }

    fn loser_of(&self, virtual_id: FileId) -> Result<Option<FileId>, I::Error> {
        match self.changes.losers.get(&virtual_id) {
            Some(source) => Ok(Some(*source)),
            None => self.below.loser_of(virtual_id),
        }
    }

    fn losers(&self, item: FileId) -> Result<Vec<FileId>, I::Error> {
        let mut losers: BTreeSet<FileId> = self.below.losers(item)?.into_iter().collect();
        losers.extend(self.changes.losers.iter().filter(|(_, source)| **source == item).map(|(id, _)| *id));
        Ok(losers.into_iter().collect())
    }

    fn label(&self, actor: ActorId) -> Result<Option<Name>, I::Error> {
        match self.changes.labels.get(&actor) {
            Some(label) => Ok(Some(label.clone())),
            None => self.below.label(actor),
        }
    }

    fn max_counter(&self) -> Result<u32, I::Error> {
        match self.changes.max_counter {
            Some(counter) => Ok(counter),
            None => self.below.max_counter(),
        }
    }
}
