//! Rewind: what stood at an earlier moment is to stand again.
//!
//! [`compare`] holds two states of one index against each other: now, and as it was (an
//! [`Overlay`] whose registers were put back). [`decide`] makes ordinary operations of the
//! differences: an edit, a move or a delete as a user would make it now, so that every device does what it always does
//! with one. Both are pure. Which entries the earlier state is made of, and whose bytes can still be had, is known to
//! whoever asks.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{ActorId, FileId, OpId};
use crate::index::{IndexRead, Overlay, name_key};
use crate::limits::PATH_DEPTH_MAX;
use crate::name::Name;
use crate::register::{Content, Item, Kind, Op, Place, Write};
use crate::view::{View, ViewEntry, natural_place};

/// Changes that are decided together: each touches its item and may touch the one whose loser it was or is, and with
/// `YIELD_COUNT_MAX` others that are pushed from their names they stay below [`ENTRY_FILE_COUNT_MAX`](crate::limits::ENTRY_FILE_COUNT_MAX).
pub const REWIND_COUNT: usize = 200;

/// Items that are pushed from their names by one part. More are an accident: they keep their names until the same is
/// wanted again.
const YIELD_COUNT_MAX: usize = 350;

/// How often what is pushed from its name may push others in turn.
const PUSH_ROUND_COUNT_MAX: usize = 8;

/// How much of what came since goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Nothing: what came since stays beside what stands again.
    Keep,
    /// Everything: what did not stand there then goes.
    Exact,
}

/// A file or directory as it stood then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Former {
    /// The item, or the virtual id of a conflict's loser.
    pub id: FileId,
    /// The item in whose registers its content stood.
    pub source: FileId,
    /// What it was, with the time and the bit that it showed; `None` to leave its content as it is.
    pub content: Option<Content>,
    /// The operation that had put its content.
    pub op: Option<OpId>,
    /// Where the view showed it; `None` to leave it where it is.
    pub place: Option<(FileId, Name)>,
}

/// What is to be done so that it is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stands again as it stood.
    Former(Former),
    /// It goes: it did not stand there. What is written to it meanwhile is concurrent, and stays.
    Gone(ViewEntry),
    /// Nobody has its bytes: other content stands in its place, or nothing. An edit that was made meanwhile stays.
    GivenUp {
        /// What the view shows.
        shown: ViewEntry,
        /// What stands instead; `None` for nothing.
        content: Option<Content>,
    },
}

impl Change {
    /// The item, or the virtual id of a conflict's loser.
    pub const fn id(&self) -> FileId {
        match self {
            Self::Former(former) => former.id,
            Self::Gone(shown) | Self::GivenUp { shown, .. } => shown.id,
        }
    }
}

/// What differs between `then` and `now`, of which the view of `then` had `top` as its top: a directory with all that
/// was in it, one file, or the root. `touched` are the items whose view may differ. Directories above what is in them,
/// deletions last but for losers of conflicts; directories above `top` that are gone come back, and stay where they are if they are not.
pub fn compare<T, N>(
    then: &T,
    now: &N,
    touched: &BTreeSet<FileId>,
    top: FileId,
    extent: Extent,
) -> Result<Vec<Change>, T::Error>
where
    T: IndexRead,
    N: IndexRead<Error = T::Error>,
{
    let (then, now) = (View::new(then), View::new(now));
    let (mut stood, mut stands) = (BTreeMap::new(), BTreeMap::new());
    for source in touched {
        stood.extend(then.entries(*source)?.into_iter().map(|entry| (entry.id, entry)));
        stands.extend(now.entries(*source)?.into_iter().map(|entry| (entry.id, entry)));
    }
    let mut scope = Scope::new(&then, top);
    let mut formers: Vec<(usize, Former)> = Vec::new();
    for entry in stood.values() {
        let Some(depth) = scope.depth(entry)? else { continue };
        if !stands.get(&entry.id).is_some_and(|shown| is_same(shown, entry)) {
            formers.push((depth, former(&then, entry)?));
        }
    }
    formers.extend(above(&then, &now, top)?.into_iter().map(|former| (0, former)));
    let mut gone = Vec::new();
    if extent == Extent::Exact {
        let mut scope_now = Scope::new(&now, top);
        for entry in stands.values() {
            if scope_now.depth(entry)?.is_none() {
                continue;
            }
            match stood.get(&entry.id) {
                None => gone.push(entry.clone()),
                // It stood elsewhere, and goes back there.
                Some(entry) if scope.depth(entry)?.is_none() => {
                    let depth = PATH_DEPTH_MAX;
                    formers.push((depth, Former { content: None, ..former(&then, entry)? }));
                }
                Some(_) => {}
            }
        }
    }
    formers.sort_by_key(|(depth, _)| *depth);
    let formers = formers.into_iter().map(|(_, former)| Change::Former(former));
    // A loser that goes makes room for the same bytes in its item.
    let (losers, gone): (Vec<ViewEntry>, Vec<ViewEntry>) = gone.into_iter().partition(ViewEntry::is_virtual);
    let gone_of = |entries: Vec<ViewEntry>| entries.into_iter().map(Change::Gone);
    Ok(gone_of(losers).chain(formers).chain(gone_of(gone)).collect())
}

/// Whether an entry is to a user as it was.
fn is_same(now: &ViewEntry, then: &ViewEntry) -> bool {
    let of = |entry: &ViewEntry| (entry.kind, entry.hash, entry.mtime, entry.executable, entry.parent);
    // A directory that stood for itself, and now only for what is in it, would go with that.
    let is_whole = then.content_ops.is_empty() || !now.content_ops.is_empty();
    of(now) == of(then) && now.name == then.name && is_whole
}

fn former<I: IndexRead>(view: &View<'_, I>, entry: &ViewEntry) -> Result<Former, I::Error> {
    let item = view.index().item(entry.source)?.unwrap_or_default();
    let op = entry.content_op();
    let mut content = op.and_then(|op| item.content.get(&op)).cloned();
    if let (Some(Content::File(file)), Some(mtime)) = (&mut content, entry.mtime) {
        (file.mtime, file.executable) = (mtime, entry.executable);
    }
    let place = Some((entry.parent, entry.name.clone()));
    Ok(Former { id: entry.id, source: entry.source, content, op, place })
}

/// The directories that `top` stood in and that are gone now.
fn above<T, N>(then: &View<'_, T>, now: &View<'_, N>, top: FileId) -> Result<Vec<Former>, T::Error>
where
    T: IndexRead,
    N: IndexRead<Error = T::Error>,
{
    let mut gone = Vec::new();
    let mut at = then.entry_of(top)?;
    while let Some(entry) = at.filter(|entry| entry.parent != FileId::ROOT && gone.len() < PATH_DEPTH_MAX) {
        at = then.entry_of(entry.parent)?;
        if let Some(parent) = &at
            && now.entry_of(parent.id)?.is_none()
        {
            gone.push(Former { place: None, ..former(then, parent)? });
        }
    }
    gone.reverse();
    Ok(gone)
}

/// What is below a directory of a view. Keeps what it was asked.
struct Scope<'a, 'i, I: IndexRead> {
    view: &'a View<'i, I>,
    top: FileId,
    /// How far below the top each directory is; `None` if it is not.
    depths: BTreeMap<FileId, Option<usize>>,
}

impl<'a, 'i, I: IndexRead> Scope<'a, 'i, I> {
    fn new(view: &'a View<'i, I>, top: FileId) -> Self {
        Self { view, top, depths: BTreeMap::from([(FileId::ROOT, None), (top, Some(1))]) }
    }

    /// How far below the top an entry is, 0 for the top itself; `None` if it is not below it.
    fn depth(&mut self, entry: &ViewEntry) -> Result<Option<usize>, I::Error> {
        if entry.id == self.top {
            return Ok(Some(0));
        }
        let (mut way, mut at) = (Vec::new(), entry.parent);
        let found = loop {
            if let Some(depth) = self.depths.get(&at) {
                break *depth;
            }
            if way.len() >= PATH_DEPTH_MAX {
                break None;
            }
            way.push(at);
            match self.view.entry_of(at)? {
                Some(entry) => at = entry.parent,
                None => break None,
            }
        };
        let mut depth = found;
        for id in way.into_iter().rev() {
            depth = depth.map(|depth| depth + 1);
            self.depths.insert(id, depth);
        }
        Ok(depth)
    }
}

/// The operations of `actor` that make up to [`REWIND_COUNT`] changes in `index`, which may have moved on since they
/// were found: what is as it was by then gets none.
///
/// What takes a name that another item has has it for sure: the other one writes its place once more, behind it, and
/// so gets a conflict name.
pub fn decide<I: IndexRead>(index: &I, actor: ActorId, changes: &[Change]) -> Result<Vec<Op>, I::Error> {
    let view = View::new(index);
    let gone = changes.iter().filter(|change| matches!(change, Change::Gone(_))).map(Change::id);
    let mut pen = Pen { counter: index.max_counter()?, actor, gone: gone.collect(), ops: Vec::new() };
    for change in changes {
        match change {
            Change::Former(former) => pen.put_back(&view, former)?,
            // By its operations: where a winner goes, its loser shows under another id.
            Change::Gone(shown) => {
                let item = index.item(shown.source)?.unwrap_or_default();
                let content_ops = shown.content_ops.iter().filter(|op| item.content.contains_key(op));
                let meta_ops = shown.meta_ops.iter().filter(|op| item.meta.contains_key(op));
                pen.write(shown.source, Write::Content(None), content_ops.copied().collect());
                pen.write(shown.source, Write::Meta(None), meta_ops.copied().collect());
            }
            Change::GivenUp { shown, content } => {
                let item = index.item(shown.source)?.unwrap_or_default();
                // Whoever was quicker ended it: by an edit, or by giving it up as well.
                if shown.content_ops.iter().all(|op| item.content.contains_key(op)) {
                    let meta_ops = shown.meta_ops.iter().filter(|op| item.meta.contains_key(op));
                    pen.write(shown.source, Write::Meta(None), meta_ops.copied().collect());
                    pen.write(shown.source, Write::Content(content.clone()), shown.content_ops.clone());
                }
            }
        }
    }
    let mut overlay = Overlay::new(index);
    overlay.apply(&pen.ops)?;
    let changed = changes.iter().map(Change::id).collect();
    let mut takers: BTreeMap<(FileId, Name), FileId> = BTreeMap::new();
    let mut pushed_count = 0;
    // What is pushed from a name has the newest place of all, and so may fall before others or close another cycle.
    for _ in 0..PUSH_ROUND_COUNT_MAX {
        let kept = pen.keep(&view, &mut overlay, &changed)?;
        pushed_count += kept.len();
        let formers = changes.iter().filter_map(|change| match change {
            Change::Former(former) => former.place.clone().map(|place| (former.id, place)),
            Change::Gone(_) | Change::GivenUp { .. } => None,
        });
        // What is put back has its name before what is kept where it was.
        takers.extend(kept.into_iter().chain(formers).map(|(id, place)| (place, id)));
        let written = pen.ops.len();
        pen.push_others(&view, &overlay, &takers, YIELD_COUNT_MAX.saturating_sub(pushed_count))?;
        let pushed = pen.ops.get(written..).unwrap_or_default();
        if pushed.is_empty() {
            break;
        }
        pushed_count += pushed.len();
        overlay.apply(pushed)?;
    }
    Ok(pen.ops)
}

/// What had fallen and would fall to another place or not at all, and what had fallen so that a cycle was none, where
/// one of `moved` would fall instead.
fn fallen_otherwise<I: IndexRead>(
    before: &I,
    after: &Overlay<'_, I>,
    moved: &BTreeSet<FileId>,
) -> Result<BTreeSet<FileId>, I::Error> {
    let (fell, falls) = (before.fallen()?, after.fallen()?);
    let mut others: BTreeSet<FileId> = fell.keys().filter(|id| fell.get(id) != falls.get(id)).copied().collect();
    for id in moved.iter().filter(|id| falls.contains_key(id)) {
        let mut at = *id;
        for _ in 0..PATH_DEPTH_MAX {
            let item = after.item(at)?.unwrap_or_default();
            let Some((_, place)) = item.winning_place() else { break };
            at = place.parent;
            others.extend(fell.contains_key(&at).then_some(at));
        }
    }
    Ok(others)
}

/// An item, and the directory and name that it keeps.
type Kept = (FileId, (FileId, Name));

struct Pen {
    counter: u32,
    actor: ActorId,
    /// What goes by other changes of the same part.
    gone: BTreeSet<FileId>,
    ops: Vec<Op>,
}

impl Pen {
    fn write(&mut self, item: FileId, write: Write, pred: BTreeSet<OpId>) {
        if write.is_delete() && pred.is_empty() {
            return;
        }
        self.counter = self.counter.saturating_add(1);
        let id = OpId { counter: self.counter, actor: self.actor };
        self.ops.push(Op { id, item, write, pred: pred.into_iter().collect() });
    }

    fn put_back<I: IndexRead>(&mut self, view: &View<'_, I>, former: &Former) -> Result<(), I::Error> {
        let item = view.index().item(former.id)?.unwrap_or_default();
        let own = view.entry(former.id, former.id)?;
        let shown = match own {
            None => view.entry(former.id, former.source)?,
            own => own,
        };
        if let Some(content) =
            former.content.clone().filter(|content| !shown.as_ref().is_some_and(|it| shows(it, content)))
        {
            match &shown {
                // The loser leaves the item whose conflict it is, and stands for itself.
                Some(shown) if shown.is_virtual() => self.delete(shown),
                Some(shown) => self.write(former.id, Write::Meta(None), shown.meta_ops.clone()),
                None => self.write(former.id, Write::Meta(None), item.meta.keys().copied().collect()),
            }
            self.part_from_twin(view, former.id, &item, &content)?;
            let pred = shown.as_ref().filter(|shown| !shown.is_virtual());
            let pred = pred.map(|shown| shown.content_ops.clone()).unwrap_or_default();
            self.write(former.id, Write::Content(Some(content)), pred);
        }
        let Some((parent, name)) = &former.place else { return Ok(()) };
        // A conflict name is written out: what gives it that name may go. What fell to a place stays there by itself.
        let is_shown = shown.as_ref().map(|shown| (shown.parent, &shown.name) == (*parent, name));
        let is_there = item
            .winning_place()
            .is_some_and(|(_, place)| place.name == *name && is_shown.unwrap_or(place.parent == *parent));
        if !is_there {
            self.place(view.index(), former.id, former.source, *parent, name)?;
        }
        Ok(())
    }

    /// A loser with just these bytes becomes one with its item, and its time would be the item's. If it stands as a file
    /// of its own it would even take them from there: it gets them as content of its own.
    fn part_from_twin<I: IndexRead>(
        &mut self,
        view: &View<'_, I>,
        id: FileId,
        item: &Item,
        content: &Content,
    ) -> Result<(), I::Error> {
        for twin in view.entries(id)? {
            let is_twin = twin.is_virtual()
                && !self.gone.contains(&twin.id)
                && (twin.kind, twin.hash) == (content.kind(), content.hash());
            let own = twin.content_op().and_then(|op| item.content.get(&op));
            let (true, Some(own)) = (is_twin, own) else { continue };
            self.delete(&twin);
            if view.index().item(twin.id)?.is_some_and(|item| !item.place.is_empty()) {
                self.write(twin.id, Write::Content(Some(own.clone())), BTreeSet::new());
            }
        }
        Ok(())
    }

    /// What would stand elsewhere because others move has the place for sure where it stands: what fell there because a
    /// cycle was closed that is open now, or falls no more because another does, and losers that take their names from
    /// their items. Returns the places that these get, at most [`YIELD_COUNT_MAX`].
    fn keep<I: IndexRead>(
        &mut self,
        before: &View<'_, I>,
        after: &mut Overlay<'_, I>,
        changed: &BTreeSet<FileId>,
    ) -> Result<Vec<Kept>, I::Error> {
        let is_place = |op: &&Op| matches!(op.write, Write::Place(_));
        let moved: BTreeSet<FileId> = self.ops.iter().filter(is_place).map(|op| op.item).collect();
        let mut kept: BTreeMap<FileId, ViewEntry> = BTreeMap::new();
        for id in fallen_otherwise(before.index(), after, &moved)? {
            kept.extend(before.entry_of(id)?.map(|entry| (id, entry)));
        }
        for id in &moved {
            let is = View::new(after).entries(*id)?;
            let is_elsewhere = |loser: &ViewEntry| is.iter().any(|it| it.id == loser.id && it.name != loser.name);
            let losers = before.entries(*id)?.into_iter().filter(|loser| loser.is_virtual() && is_elsewhere(loser));
            kept.extend(losers.map(|loser| (loser.id, loser)));
        }
        kept.retain(|id, _| !moved.contains(id) && !changed.contains(id));
        let (written, mut places) = (self.ops.len(), Vec::new());
        for (id, shown) in kept.into_iter().take(YIELD_COUNT_MAX) {
            self.place(after, id, shown.source, shown.parent, &shown.name)?;
            places.push((id, (shown.parent, shown.name)));
        }
        after.apply(self.ops.get(written..).unwrap_or_default())?;
        Ok(places)
    }

    /// Has up to `count_max` others that have the name of a taker by an earlier operation take it anew, or the conflict
    /// name that they had.
    fn push_others<I: IndexRead>(
        &mut self,
        before: &View<'_, I>,
        after: &Overlay<'_, I>,
        takers: &BTreeMap<(FileId, Name), FileId>,
        mut count_max: usize,
    ) -> Result<(), I::Error> {
        let view = View::new(after);
        for ((parent, name), id) in takers {
            // A directory may be shown by what is in it, which another part brings.
            let is_shown = view.entry_of(*id)?.is_some_and(|entry| (entry.parent, &entry.name) == (*parent, name));
            let natural = natural_place(after, *id)?.filter(|(_, at, known)| (at, known) == (parent, name));
            let Some((op, ..)) = natural.filter(|_| !is_shown) else { continue };
            for other in after.keyed(*parent, name_key(name))?.into_iter().filter(|other| other != id) {
                let is_first = natural_place(after, other)?.is_some_and(|(earlier, _, at)| earlier < op && at == *name);
                if is_first && count_max > 0 {
                    count_max -= 1;
                    let shown = before.entry_of(other)?.filter(|shown| shown.parent == *parent);
                    let name = shown.map_or_else(|| name.clone(), |shown| shown.name);
                    self.place(after, other, other, *parent, &name)?;
                }
            }
        }
        Ok(())
    }

    fn place<I: IndexRead>(
        &mut self,
        index: &I,
        id: FileId,
        source: FileId,
        parent: FileId,
        name: &Name,
    ) -> Result<(), I::Error> {
        let item = index.item(id)?.unwrap_or_default();
        let loser_of = if source == id { index.loser_of(id)? } else { Some(source) };
        let previous = item.winning_place().map(|(_, place)| place.parent);
        let place = Place { parent, name: name.clone(), previous, loser_of };
        self.write(id, Write::Place(place), item.place.keys().copied().collect());
        Ok(())
    }

    fn delete(&mut self, shown: &ViewEntry) {
        self.write(shown.source, Write::Content(None), shown.content_ops.clone());
        self.write(shown.source, Write::Meta(None), shown.meta_ops.clone());
    }
}

/// Whether an entry shows just this content.
fn shows(entry: &ViewEntry, content: &Content) -> bool {
    let is_of_same_time = match content {
        Content::File(file) => (entry.mtime, entry.executable) == (Some(file.mtime), file.executable),
        Content::Directory | Content::Symlink { .. } => true,
    };
    let is_whole = entry.kind != Kind::Directory || !entry.content_ops.is_empty();
    (entry.kind, entry.hash) == (content.kind(), content.hash()) && is_of_same_time && is_whole
}

#[cfg(test)]
mod tests;
