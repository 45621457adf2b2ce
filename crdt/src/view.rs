//! The view: the tree that an index stands for. A pure function of the registers, read locally.
//!
//! Nothing here depends on local time, settings or versions, and nothing writes operations. Every function reads an
//! [`IndexRead`] and looks only at what it is asked about: one item, one directory. Keeping the derived tables that
//! make this possible is [`crate::index`]'s work; names of conflicts are made in [`conflict`]; a slow reading of the
//! same rules over all registers at once, written without the tables, is the model in `tests/model`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::id::{ContentHash, FileId, OpId, SpaceId};
use crate::index::{IndexRead, Seat, name_key};
use crate::name::Name;
use crate::register::{Content, FileTime, Item, Kind};

pub mod conflict;

/// One file or directory of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewEntry {
    /// The item, or the virtual id of a conflict's loser.
    pub id: FileId,
    /// The item in whose registers the content stands; differs from `id` for a loser.
    pub source: FileId,
    /// What it is.
    pub kind: Kind,
    /// The content operations shown: a group of equal bytes. Empty for a directory that stands only because something
    /// in it does.
    pub content_ops: BTreeSet<OpId>,
    /// The meta operations shown.
    pub meta_ops: BTreeSet<OpId>,
    /// Hash of the bytes shown (see [`Content::hash`]).
    pub hash: ContentHash,
    /// Length in bytes; 0 for directories, the target's length for symlinks.
    pub len: u64,
    /// Time of last change; files only.
    pub mtime: Option<FileTime>,
    /// The executable bit; false for all but files.
    pub executable: bool,
    /// The directory.
    pub parent: FileId,
    /// The name there, conflict names included.
    pub name: Name,
}

impl ViewEntry {
    /// Whether this is the loser of a conflict, shown from another item's registers.
    pub fn is_virtual(&self) -> bool {
        self.id != self.source
    }

    /// The operation whose content value is shown; `None` for a directory without content of its own.
    pub fn content_op(&self) -> Option<OpId> {
        self.content_ops.last().copied()
    }
}

/// The directory into which falls what has no parent: the one with this name in the root, with n = 0.
pub fn lost_and_found(space: SpaceId) -> FileId {
    file_id(space, FileId::ROOT, true, 0, b"Lost and found")
}

/// An item's id: 6 bytes of BLAKE3(parent's id), then 10 bytes of BLAKE3(space, parent's id, directory or not, n,
/// name). Siblings stand together in a sorted store, and the same thing made on two devices is one item.
pub fn file_id(space: SpaceId, parent: FileId, is_directory: bool, n: u32, name: &[u8]) -> FileId {
    let mut id = [0; 16];
    blake3::Hasher::new_derive_key("zerocloud/1 file id parent")
        .update(parent.as_bytes())
        .finalize_xof()
        .fill(&mut id[..6]);
    blake3::Hasher::new_derive_key("zerocloud/1 file id")
        .update(space.as_bytes())
        .update(parent.as_bytes())
        .update(&[u8::from(is_directory)])
        .update(&n.to_be_bytes())
        .update(name)
        .finalize_xof()
        .fill(&mut id[6..]);
    FileId(id)
}

/// The id under which the loser of a conflict shows: 16 bytes of BLAKE3(space, file id, counter and actor of the
/// group's lowest operation, content hash).
pub fn virtual_id(space: SpaceId, item: FileId, lowest: OpId, hash: ContentHash) -> FileId {
    let mut id = [0; 16];
    blake3::Hasher::new_derive_key("zerocloud/1 virtual id")
        .update(space.as_bytes())
        .update(item.as_bytes())
        .update(&lowest.counter.to_be_bytes())
        .update(lowest.actor.as_bytes())
        .update(hash.as_bytes())
        .finalize_xof()
        .fill(&mut id);
    FileId(id)
}

/// Content operations of equal kind and bytes: one value.
#[derive(Clone, Debug)]
struct Group {
    /// Ascending, never empty.
    ops: Vec<OpId>,
    hash: ContentHash,
    /// The virtual id at which this group stands as a file of its own.
    pin: Option<FileId>,
}

impl Group {
    fn lowest(&self) -> OpId {
        self.ops.first().copied().unwrap_or(OpId::ZERO)
    }

    fn highest(&self) -> OpId {
        self.ops.last().copied().unwrap_or(OpId::ZERO)
    }
}

fn groups<I: IndexRead>(index: &I, id: FileId, item: &Item) -> Result<Vec<Group>, I::Error> {
    let mut by_value: BTreeMap<(Kind, ContentHash), Vec<OpId>> = BTreeMap::new();
    for (op, content) in &item.content {
        by_value.entry((content.kind(), content.hash())).or_default().push(*op);
    }
    let losers = if item.content.is_empty() { Vec::new() } else { index.losers(id)? };
    let mut groups = Vec::with_capacity(by_value.len());
    for ((_, hash), ops) in by_value {
        let mut pin = None;
        for op in if losers.is_empty() { &[][..] } else { &ops } {
            let virtual_id = virtual_id(index.space(), id, *op, hash);
            if pin.is_none() && losers.contains(&virtual_id) && stands_free(index, virtual_id)? {
                pin = Some(virtual_id);
            }
        }
        groups.push(Group { ops, hash, pin });
    }
    Ok(groups)
}

/// Whether a loser may stand at this id: it has a place, and no content of its own took it over.
fn stands_free<I: IndexRead>(index: &I, virtual_id: FileId) -> Result<bool, I::Error> {
    index.look_at(virtual_id, |item| item.is_some_and(|item| !item.place.is_empty() && item.content.is_empty()))
}

/// The virtual ids at which losers of `id` stand as files of their own, ascending.
pub(crate) fn pins<I: IndexRead>(index: &I, id: FileId) -> Result<Vec<FileId>, I::Error> {
    if index.losers(id)?.is_empty() {
        return Ok(Vec::new());
    }
    let Some(item) = index.item(id)? else { return Ok(Vec::new()) };
    Ok(groups(index, id, &item)?.into_iter().filter_map(|group| group.pin).collect())
}

/// Whether `id` has losers that show beside it.
pub(crate) fn has_losers<I: IndexRead>(index: &I, id: FileId) -> Result<bool, I::Error> {
    let count = index.look_at(id, |item| item.map_or(0, |item| item.content.len()))?;
    if count < 2 || !is_placed(index, id)? {
        return Ok(false);
    }
    let Some(item) = index.item(id)? else { return Ok(false) };
    Ok(groups(index, id, &item)?.iter().filter(|group| group.pin.is_none()).count() > 1)
}

/// Whether `id` can be a parent or stand anywhere: the root, `Lost and found`, or an item with a place.
pub(crate) fn is_placed<I: IndexRead>(index: &I, id: FileId) -> Result<bool, I::Error> {
    Ok(id == FileId::ROOT
        || id == lost_and_found(index.space())
        || index.look_at(id, |item| item.is_some_and(|item| !item.place.is_empty()))?)
}

/// The operation, directory and name of the place that counts. `Lost and found` has one even when nobody made it.
pub fn natural_place<I: IndexRead>(index: &I, id: FileId) -> Result<Option<(OpId, FileId, Name)>, I::Error> {
    let place = |item: Option<&Item>| item?.winning_place().map(|(op, place)| (op, place.parent, place.name.clone()));
    if let Some(place) = index.look_at(id, place)? {
        return Ok(Some(place));
    }
    if id == lost_and_found(index.space())
        && let Ok(name) = Name::parse(b"Lost and found")
    {
        return Ok(Some((OpId::ZERO, FileId::ROOT, name)));
    }
    Ok(None)
}

fn effective_parent<I: IndexRead>(index: &I, id: FileId, natural: FileId) -> Result<FileId, I::Error> {
    Ok(index.fallen()?.get(&id).copied().unwrap_or(natural))
}

/// Whether `id` is shown: it has content that stands there, or something below it is shown.
fn is_present<I: IndexRead>(index: &I, id: FileId) -> Result<bool, I::Error> {
    let has_content = index.look_at(id, |item| item.is_some_and(|item| !item.content.is_empty()))?;
    if has_content
        && (index.losers(id)?.is_empty()
            || groups(index, id, &index.item(id)?.unwrap_or_default())?.iter().any(|group| group.pin.is_none()))
    {
        return Ok(true);
    }
    if let Some(source) = index.loser_of(id)?
        && pins(index, source)?.contains(&id)
    {
        return Ok(true);
    }
    index.has_children(id)
}

/// Where `id` belongs in the table of present items; `None` if the view does not show it.
pub(crate) fn seat<I: IndexRead>(index: &I, id: FileId) -> Result<Option<Seat>, I::Error> {
    let Some((_, natural, name)) = natural_place(index, id)? else { return Ok(None) };
    if id == FileId::ROOT || !is_present(index, id)? {
        return Ok(None);
    }
    Ok(Some(Seat { parent: effective_parent(index, id, natural)?, name_key: name_key(&name) }))
}

/// Where `id`, whose registers did not change, stands in the table of present items as it is.
pub(crate) fn counted_seat<I: IndexRead>(index: &I, id: FileId) -> Result<Option<Seat>, I::Error> {
    let Some((_, natural, name)) = natural_place(index, id)? else { return Ok(None) };
    let seat = Seat { parent: effective_parent(index, id, natural)?, name_key: name_key(&name) };
    Ok(index.keyed(seat.parent, seat.name_key)?.contains(&id).then_some(seat))
}

/// The items that fall: of each cycle the edge with the highest place operation falls back to its previous parent,
/// and if that makes a cycle again, to `Lost and found`, as does what has no parent; until no cycle is left.
///
/// Looks at the chains above `starts`, which must hold every item that fell before and every item whose place
/// changed: a cycle goes through one of them.
pub(crate) fn fallen_from<I: IndexRead>(
    index: &I,
    starts: &BTreeSet<FileId>,
) -> Result<BTreeMap<FileId, FileId>, I::Error> {
    let lost = lost_and_found(index.space());
    let mut moved: BTreeMap<FileId, FileId> = BTreeMap::new();
    let parent = |moved: &BTreeMap<FileId, FileId>, id: FileId| -> Result<FileId, I::Error> {
        if let Some(parent) = moved.get(&id) {
            return Ok(*parent);
        }
        match natural_place(index, id)? {
            Some((_, parent, _)) if is_placed(index, parent)? => Ok(parent),
            _ => Ok(lost),
        }
    };
    let mut fell = BTreeSet::new();
    loop {
        let mut done = BTreeSet::from([FileId::ROOT]);
        let mut cycles: Vec<Vec<FileId>> = Vec::new();
        for start in starts.iter().chain(moved.keys()) {
            let (mut path, mut on_path, mut id) = (Vec::new(), BTreeSet::new(), *start);
            while !done.contains(&id) && on_path.insert(id) {
                path.push(id);
                id = parent(&moved, id)?;
            }
            if let Some(at) = path.iter().position(|on| *on == id) {
                cycles.push(path.split_off(at));
                done.extend(cycles.iter().flatten());
            }
            done.extend(path);
        }
        if cycles.is_empty() || crate::mutated!(UnbrokenCycle) {
            break;
        }
        for cycle in cycles {
            let again: Vec<FileId> = cycle.iter().copied().filter(|id| fell.contains(id)).collect();
            let mut worst: Option<(OpId, FileId)> = None;
            for id in if again.is_empty() { &cycle } else { &again } {
                let op = natural_place(index, *id)?.map_or(OpId::ZERO, |(op, ..)| op);
                worst = worst.max(Some((op, *id)));
            }
            let Some((_, id)) = worst else { continue };
            if again.is_empty() {
                fell.insert(id);
                let previous = match index.item(id)?.as_ref().and_then(Item::winning_place) {
                    Some((_, place)) => place.previous,
                    None => None,
                };
                let to = match previous {
                    Some(previous) if is_placed(index, previous)? => previous,
                    _ => lost,
                };
                moved.insert(id, to);
            } else {
                let id = if parent(&moved, id)? == lost { lost } else { id };
                moved.insert(id, if id == lost { FileId::ROOT } else { lost });
            }
        }
    }
    let mut fallen = BTreeMap::new();
    for id in starts.iter().copied().chain(moved.keys().copied()).collect::<BTreeSet<_>>() {
        if let Some((_, natural, _)) = natural_place(index, id)? {
            let parent = parent(&moved, id)?;
            if parent != natural {
                fallen.insert(id, parent);
            }
        }
    }
    Ok(fallen)
}

/// The values shown for a group: a touch or chmod about these bytes counts, and of those about bytes that are
/// superseded only a bit that differs passes, and only to the winner.
fn shown(id: FileId, source: FileId, item: &Item, group: &Group, is_winner: bool, at: (FileId, Name)) -> ViewEntry {
    let content = item.content.get(&group.highest());
    let (mut mtime, mut executable, mut len) = (None, false, 0);
    match content {
        Some(Content::File(file)) => (mtime, executable, len) = (Some(file.mtime), file.executable, file.manifest.len),
        Some(Content::Symlink { target }) => len = target.len() as u64,
        Some(Content::Directory) | None => {}
    }
    let mut meta_ops = BTreeSet::new();
    if matches!(content, Some(Content::File(_))) {
        for (op, meta) in &item.meta {
            let is_own = group.ops.contains(&meta.about);
            if is_own {
                mtime = Some(meta.mtime);
            }
            if is_own || (is_winner && !item.content.contains_key(&meta.about)) {
                if meta.executable_differs {
                    executable = meta.executable;
                }
                meta_ops.insert(*op);
            }
        }
    }
    ViewEntry {
        id,
        source,
        kind: content.map_or(Kind::Directory, Content::kind),
        content_ops: group.ops.iter().copied().collect(),
        meta_ops,
        hash: group.hash,
        len,
        mtime,
        executable,
        parent: at.0,
        name: at.1,
    }
}

/// Conflict names of one directory: entry id → name, for every entry whose name is not its natural one.
type Names = Rc<BTreeMap<FileId, Name>>;

/// Reads the view of one state of an index. Keeps the conflict names of the directories that it was asked about.
pub struct View<'a, I: IndexRead> {
    index: &'a I,
    names: RefCell<BTreeMap<FileId, Names>>,
}

impl<'a, I: IndexRead> View<'a, I> {
    /// The view of `index`, which must not change while this is used.
    pub fn new(index: &'a I) -> Self {
        Self { index, names: RefCell::default() }
    }

    /// The index that is read.
    pub const fn index(&self) -> &'a I {
        self.index
    }

    /// Every entry that shows content of the item `source`: its own, and its losers. Empty if the view shows none.
    pub fn entries(&self, source: FileId) -> Result<Vec<ViewEntry>, I::Error> {
        let mut entries = Vec::new();
        let item = self.index.item(source)?.unwrap_or_default();
        let mut free = Vec::new();
        for group in groups(self.index, source, &item)? {
            match group.pin {
                Some(pin) => {
                    if let Some(at) = self.place(pin)? {
                        entries.push(shown(pin, source, &item, &group, false, at));
                    }
                }
                None => free.push(group),
            }
        }
        let Some((parent, name)) = self.place(source)? else { return Ok(entries) };
        free.sort_by_key(|group| std::cmp::Reverse(group.highest()));
        let mut free = free.into_iter();
        match free.next() {
            Some(winner) => entries.push(shown(source, source, &item, &winner, true, (parent, name))),
            None if self.index.has_children(source)? => {
                let group = Group { ops: Vec::new(), hash: Content::Directory.hash(), pin: None };
                entries.push(shown(source, source, &item, &group, false, (parent, name)));
            }
            None => {}
        }
        for loser in free.filter(|_| !crate::mutated!(HiddenLosers)) {
            let id = virtual_id(self.index.space(), source, loser.lowest(), loser.hash);
            if let Some(name) = self.names(parent)?.get(&id) {
                entries.push(shown(id, source, &item, &loser, false, (parent, name.clone())));
            }
        }
        Ok(entries)
    }

    /// The entry with this id, be it an item or a loser of `source`.
    pub fn entry(&self, id: FileId, source: FileId) -> Result<Option<ViewEntry>, I::Error> {
        Ok(self.entries(source)?.into_iter().find(|entry| entry.id == id))
    }

    /// The entry with this id, an item or a loser that stands on its own.
    pub fn entry_of(&self, id: FileId) -> Result<Option<ViewEntry>, I::Error> {
        if let Some(entry) = self.entry(id, id)? {
            return Ok(Some(entry));
        }
        match self.index.loser_of(id)? {
            Some(source) => self.entry(id, source),
            None => Ok(None),
        }
    }

    /// All entries of a directory, by name.
    pub fn directory(&self, parent: FileId) -> Result<Vec<ViewEntry>, I::Error> {
        let mut entries = Vec::new();
        for id in self.index.children(parent)? {
            let source = self.index.loser_of(id)?;
            for source in std::iter::once(id).chain(source) {
                for entry in self.entries(source)? {
                    let has_place = |item: Item| !item.place.is_empty();
                    let is_of_child =
                        entry.id == id || (source == id && !self.index.item(entry.id)?.is_some_and(has_place));
                    if entry.parent == parent && is_of_child {
                        entries.push(entry);
                    }
                }
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.dedup_by(|a, b| a.id == b.id);
        Ok(entries)
    }

    /// Where an item stands, with the name that the view gives it.
    fn place(&self, id: FileId) -> Result<Option<(FileId, Name)>, I::Error> {
        let Some((_, natural, name)) = natural_place(self.index, id)? else { return Ok(None) };
        let parent = effective_parent(self.index, id, natural)?;
        let name = self.names(parent)?.get(&id).cloned().unwrap_or(name);
        Ok(Some((parent, name)))
    }

    fn names(&self, parent: FileId) -> Result<Names, I::Error> {
        if let Some(names) = self.names.borrow().get(&parent) {
            return Ok(names.clone());
        }
        let names = Rc::new(conflict::names(self.index, parent)?);
        self.names.borrow_mut().insert(parent, names.clone());
        Ok(names)
    }
}

/// A loser that wants a name in its item's directory.
pub(crate) struct Loser {
    pub(crate) id: FileId,
    pub(crate) lowest: OpId,
    pub(crate) mtime: Option<FileTime>,
}

/// The losers of an item that show beside it.
pub(crate) fn losers<I: IndexRead>(index: &I, id: FileId) -> Result<Vec<Loser>, I::Error> {
    let item = index.item(id)?.unwrap_or_default();
    let mut free: Vec<Group> = groups(index, id, &item)?.into_iter().filter(|group| group.pin.is_none()).collect();
    free.sort_by_key(|group| std::cmp::Reverse(group.highest()));
    Ok(free
        .iter()
        .skip(1)
        .map(|group| Loser {
            id: virtual_id(index.space(), id, group.lowest(), group.hash),
            lowest: group.lowest(),
            mtime: match item.content.get(&group.lowest()) {
                Some(Content::File(file)) => Some(file.mtime),
                _ => None,
            },
        })
        .collect())
}

/// The time that stands in an item's conflict name: of the value shown, touches left out; none for directories.
pub(crate) fn shown_mtime<I: IndexRead>(index: &I, id: FileId) -> Result<Option<FileTime>, I::Error> {
    let (source, is_pin) = match index.loser_of(id)? {
        Some(source) if pins(index, source)?.contains(&id) => (source, true),
        _ => (id, false),
    };
    let item = index.item(source)?.unwrap_or_default();
    let group = groups(index, source, &item)?
        .into_iter()
        .filter(|group| if is_pin { group.pin == Some(id) } else { group.pin.is_none() })
        .max_by_key(Group::highest);
    Ok(match group.and_then(|group| item.content.get(&group.highest())) {
        Some(Content::File(file)) => Some(file.mtime),
        _ => None,
    })
}
