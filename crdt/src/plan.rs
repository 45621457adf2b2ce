//! Plan: which file actions bring the tree to the view. Diff(view, base), nothing else.
//!
//! The plan names what is to be done next, one action for an item, in an order in which each can be done. Doing it,
//! safely and durably, is the materialiser's work, and so is what happens when the disk is not as base has it.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{BaseOverlay, BaseRead, BaseRow, Fingerprint, PARKED, RowKey};
use crate::id::FileId;
use crate::index::IndexRead;
use crate::name::Name;
use crate::projection::NameRules;
use crate::register::{FileTime, Kind};
use crate::view::{View, ViewEntry};

mod ignored;
mod order;

pub use self::ignored::LeftOut;
use self::order::sort_by_depth;

/// One action on the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make what is not there: a directory, a link, or a file whose content is at hand.
    Create {
        /// Where.
        key: RowKey,
        /// What.
        entry: ViewEntry,
    },
    /// Put other bytes in place of what base has there.
    Replace {
        /// Where.
        key: RowKey,
        /// What base has there.
        old: BaseRow,
        /// What comes.
        entry: ViewEntry,
    },
    /// Set time and executable bit.
    SetMeta {
        /// Where.
        key: RowKey,
        /// What base has there.
        old: BaseRow,
        /// What comes.
        entry: ViewEntry,
    },
    /// Give something another directory or name.
    Move {
        /// From where.
        from: RowKey,
        /// To where.
        to: RowKey,
        /// What base has there.
        old: BaseRow,
        /// The directory and name in the view.
        at: (FileId, Name),
    },
    /// Put something under a temporary name, because others must take its place first.
    Park {
        /// From where.
        from: RowKey,
        /// What base has there.
        old: BaseRow,
    },
    /// Take a file or link away, into the version store.
    Delete {
        /// Where.
        key: RowKey,
        /// What base has there.
        old: BaseRow,
    },
    /// Take an empty directory away.
    RemoveDirectory {
        /// Where.
        key: RowKey,
        /// What base has there.
        old: BaseRow,
    },
    /// Change the row alone: view and base differ in operation ids, the disk is right.
    Note {
        /// Where.
        key: RowKey,
        /// The row to put.
        row: BaseRow,
    },
}

impl Action {
    /// The item or virtual id that the action is about.
    pub const fn id(&self) -> FileId {
        match self {
            Self::Create { entry, .. } => entry.id,
            Self::Replace { old, .. }
            | Self::SetMeta { old, .. }
            | Self::Move { old, .. }
            | Self::Park { old, .. }
            | Self::Delete { old, .. }
            | Self::RemoveDirectory { old, .. } => old.id,
            Self::Note { row, .. } => row.id,
        }
    }

    /// The item in whose registers the content stands.
    pub const fn source(&self) -> FileId {
        match self {
            Self::Create { entry, .. } => entry.source,
            Self::Replace { old, .. }
            | Self::SetMeta { old, .. }
            | Self::Move { old, .. }
            | Self::Park { old, .. }
            | Self::Delete { old, .. }
            | Self::RemoveDirectory { old, .. } => old.source,
            Self::Note { row, .. } => row.source,
        }
    }
}

/// Why an item can't be acted on yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its directory is not there yet, or under a temporary name.
    Directory(FileId),
    /// Something else has its path: the row with this id.
    Occupied(FileId),
    /// It is a directory that would go below itself: through this one.
    BelowItself(FileId),
    /// It is a directory that still has something in it.
    NotEmpty,
    /// The guard holds it, or it waits for what the guard holds.
    Held,
    /// Something that is ignored is in it, or has its path.
    Ignored,
    /// The disk can hold neither its name nor what would stand for it.
    Unwritable,
}

/// Something that can't be acted on yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The item in whose registers its content stands.
    pub source: FileId,
    /// Where it is now, if it is on disk.
    pub at: Option<RowKey>,
    /// For what it waits.
    pub wait: Wait,
}

/// What the planner is told about the world outside index and base.
pub trait Situation {
    /// Which names the disk can hold.
    fn names(&self) -> NameRules {
        NameRules::default()
    }
    /// Whether the bytes of a file are at hand, to be written at once.
    fn has_content(&self, entry: &ViewEntry) -> bool;
    /// Whether the guard holds this id, or the disk refused the last try and a scan must come first.
    fn is_held(&self, id: FileId) -> bool;
    /// Whether ignore rules name the path that the view gives an entry.
    fn is_ignored(&self, _entry: &ViewEntry) -> bool {
        false
    }
    /// Whether this device leaves out what the view gives this path: it does not come. What is here stays.
    fn is_left_out(&self, _entry: &ViewEntry) -> bool {
        false
    }
    /// Whether ignore rules name the path of a row: it sleeps.
    fn is_asleep(&self, _key: &RowKey, _row: &BaseRow) -> bool {
        false
    }
    /// Whether something without a row that is ignored stands at a path.
    fn is_taken(&self, _key: &RowKey) -> bool {
        false
    }
    /// Whether something without a row that is ignored stands in a directory.
    fn has_ignored(&self, _directory: FileId) -> bool {
        false
    }
}

/// What is to be done next.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In an order in which they can be done; at most one for an id. Each is planned as if those before it were done:
    /// whoever does them asks for an [`obstacle`] before each, with what those before it made of base.
    pub actions: Vec<Action>,
    /// Files whose bytes must be had first.
    pub wanted: Vec<ViewEntry>,
    /// What can't be done yet, by id.
    pub waiting: BTreeMap<FileId, Waiting>,
    /// Sources of which nothing is left to be done.
    pub settled: BTreeSet<FileId>,
    /// Sources of which one action is all that is to be done: when it is done as planned, they are settled.
    pub single: BTreeSet<FileId>,
    /// What is ignored.
    pub left_out: LeftOut,
    /// Sources of which the view shows several values.
    pub contested: BTreeSet<FileId>,
}

/// Plans actions for the items `sources`, at most `limit` of them.
pub fn plan<I, B>(
    index: &I,
    base: &B,
    sources: impl IntoIterator<Item = FileId>,
    situation: &impl Situation,
    limit: usize,
) -> Result<Plan, I::Error>
where
    I: IndexRead,
    B: BaseRead<Error = I::Error>,
{
    let view = View::new(index);
    let mut planner = Planner { base: BaseOverlay::new(base), plan: Plan::default(), kept: BTreeMap::new() };
    let mut tasks = Vec::new();
    for source in sources {
        let before = tasks.len();
        planner.tasks_of(&view, source, situation, &mut tasks)?;
        let Plan { left_out, settled, single, contested, .. } = &mut planner.plan;
        if left_out.items.contains(&source) || left_out.unselected.contains_key(&source) {
            continue;
        }
        match tasks.get(before..) {
            Some([]) => drop(settled.insert(source)),
            Some([task]) if task.is_of(source) && !contested.contains(&source) => drop(single.insert(source)),
            _ => {}
        }
    }
    // An item and the one whose loser it was may both ask for the same file.
    let mut ids = BTreeSet::new();
    tasks.retain(|task| ids.insert(task.id()));
    sort_by_depth(&view, &mut tasks)?;
    loop {
        let (count, mut rest) = (tasks.len(), Vec::new());
        for task in tasks {
            if planner.plan.actions.len() >= limit {
                return Ok(planner.plan);
            }
            match planner.step(&view, &task, situation)? {
                Step::Done(action) => {
                    planner.plan.waiting.remove(&task.id());
                    planner.plan.actions.push(*action);
                }
                Step::Wanted => planner.plan.wanted.extend(task.entry),
                Step::Wait(wait) => {
                    let at = task.row.as_ref().map(|(key, _)| key.clone());
                    planner.plan.waiting.insert(task.id(), Waiting { source: task.source(), at, wait });
                    rest.push(task);
                }
            }
        }
        if rest.is_empty() || rest.len() == count {
            return Ok(planner.plan);
        }
        tasks = rest;
    }
}

/// Why base does not allow an action when its turn comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The directory has no row, or is parked.
    NoDirectory,
    /// A row has the path.
    Occupied,
    /// The directory that is to go has rows.
    NotEmpty,
}

/// What in base stands against an action when its turn comes, if anything. One that was blocked before it may have left
/// its row at the path that this one takes, or in the directory that this one removes, or its directory parked; doing it
/// all the same would lose that row, or show something in a directory that nobody sees.
pub fn obstacle<B: BaseRead>(base: &B, action: &Action) -> Result<Option<Obstacle>, B::Error> {
    match action {
        Action::Create { key, .. } | Action::Move { to: key, .. } => {
            let stands = match key.parent {
                FileId::ROOT => true,
                parent => base.find(parent, parent)?.is_some_and(|at| at.parent != PARKED),
            };
            if !stands {
                return Ok(Some(Obstacle::NoDirectory));
            }
            Ok(base.row(key)?.map(|_| Obstacle::Occupied))
        }
        Action::RemoveDirectory { old, .. } => Ok(base.has_rows(old.id)?.then_some(Obstacle::NotEmpty)),
        Action::Park { old, .. } => {
            let Some(local) = parked_name(old.id) else { return Ok(None) };
            Ok(base.row(&RowKey { parent: PARKED, local })?.map(|_| Obstacle::Occupied))
        }
        Action::Replace { .. } | Action::SetMeta { .. } | Action::Delete { .. } | Action::Note { .. } => Ok(None),
    }
}

/// What to put under temporary names when nothing else can be done: of each knot of items that wait for each other's
/// paths one goes aside. `waiting` is all that waits.
pub fn unstick<B: BaseRead>(base: &B, waiting: &BTreeMap<FileId, Waiting>) -> Result<Vec<Action>, B::Error> {
    let mut aside: BTreeSet<FileId> = BTreeSet::new();
    for waiting in waiting.values() {
        match waiting.wait {
            Wait::Occupied(by) | Wait::BelowItself(by) => drop(aside.insert(by)),
            Wait::Directory(_) | Wait::NotEmpty | Wait::Held | Wait::Ignored | Wait::Unwritable => {}
        }
    }
    let mut actions = Vec::new();
    for id in aside {
        // Only what itself waits to go elsewhere is moved aside, and nothing that is held or waits for what is ignored.
        let Some(Waiting { at: Some(from), wait, .. }) = waiting.get(&id) else { continue };
        if matches!(wait, Wait::Held | Wait::Ignored) || from.parent == PARKED {
            continue;
        }
        // A scan may have seen since that something else stands there.
        if let Some(old) = base.row(from)?.filter(|row| row.id == id) {
            actions.push(Action::Park { from: from.clone(), old });
        }
    }
    Ok(actions)
}

/// The name under which a parked thing stands.
pub fn parked_name(id: FileId) -> Option<Name> {
    Name::parse(format!("parked-{id}").as_bytes()).ok()
}

/// One entry of the view, and the row of the same id; not both missing.
struct Task {
    entry: Option<ViewEntry>,
    row: Option<(RowKey, BaseRow)>,
    depth: usize,
    /// Whether it leaves the disk for being ignored: the entry was left out.
    is_ignored: bool,
}

impl Task {
    fn id(&self) -> FileId {
        match (&self.entry, &self.row) {
            (Some(entry), _) => entry.id,
            (None, Some((_, row))) => row.id,
            (None, None) => FileId::ROOT,
        }
    }

    fn source(&self) -> FileId {
        match (&self.entry, &self.row) {
            (Some(entry), _) => entry.source,
            (None, Some((_, row))) => row.source,
            (None, None) => FileId::ROOT,
        }
    }

    /// Whether it is about the item `source` itself, and not about one that shows content of it or of which it does.
    fn is_of(&self, source: FileId) -> bool {
        self.id() == source && self.row.as_ref().is_none_or(|(_, row)| (row.id, row.source) == (source, source))
    }
}

enum Step {
    Done(Box<Action>),
    Wanted,
    Wait(Wait),
}

struct Planner<'a, B: BaseRead> {
    base: BaseOverlay<'a, B>,
    plan: Plan,
    /// Whether directories have something in them that keeps them, as far as that was asked.
    kept: BTreeMap<FileId, bool>,
}

impl<B: BaseRead> Planner<'_, B> {
    fn tasks_of<I>(
        &mut self,
        view: &View<'_, I>,
        source: FileId,
        situation: &impl Situation,
        tasks: &mut Vec<Task>,
    ) -> Result<(), B::Error>
    where
        I: IndexRead<Error = B::Error>,
    {
        let mut entries: BTreeMap<FileId, ViewEntry> =
            view.entries(source)?.into_iter().map(|entry| (entry.id, entry)).collect();
        if entries.len() > 1 {
            self.plan.contested.insert(source);
        }
        for (id, key) in self.base.of_source(source)? {
            let Some(row) = self.base.row(&key)? else { continue };
            let entry = match entries.remove(&id) {
                Some(entry) => Some(entry),
                // A loser that became an item of its own, or the other way round, is the same file.
                None => self.elsewhere(view, id, source)?,
            };
            tasks.extend(self.task(source, entry, Some((key, row)), situation));
        }
        for (id, entry) in entries {
            let row = match self.elsewhere_in_base(view, id, source)? {
                Some(key) => self.base.row(&key)?.map(|row| (key, row)),
                None => None,
            };
            tasks.extend(self.task(source, Some(entry), row, situation));
        }
        Ok(())
    }

    /// The entry with this id that shows content of another item than `source`.
    fn elsewhere<I>(&self, view: &View<'_, I>, id: FileId, source: FileId) -> Result<Option<ViewEntry>, B::Error>
    where
        I: IndexRead<Error = B::Error>,
    {
        if id != source {
            return view.entry(id, id);
        }
        match view.index().loser_of(id)? {
            Some(of) => view.entry(id, of),
            None => Ok(None),
        }
    }

    /// The row with this id that shows content of another item than `source`.
    fn elsewhere_in_base<I>(&self, view: &View<'_, I>, id: FileId, source: FileId) -> Result<Option<RowKey>, B::Error>
    where
        I: IndexRead<Error = B::Error>,
    {
        if id != source {
            return self.base.find(id, id);
        }
        match view.index().loser_of(id)? {
            Some(of) => self.base.find(id, of),
            None => Ok(None),
        }
    }

    fn step<I: IndexRead<Error = B::Error>>(
        &mut self,
        view: &View<'_, I>,
        task: &Task,
        situation: &impl Situation,
    ) -> Result<Step, B::Error> {
        if situation.is_held(task.id()) {
            return Ok(Step::Wait(Wait::Held));
        }
        match (&task.entry, task.row.as_ref()) {
            (Some(entry), None) => self.create(entry, situation),
            (Some(entry), Some((key, row))) => self.change(entry, key, row, situation),
            (None, Some((key, row))) => match self.stays_for_ignored(view, task, key, row, situation)? {
                Some(wait) => Ok(Step::Wait(wait)),
                None => self.remove(key, row),
            },
            (None, None) => Ok(Step::Wait(Wait::NotEmpty)),
        }
    }

    fn create(&mut self, entry: &ViewEntry, situation: &impl Situation) -> Result<Step, B::Error> {
        let Some(local) = situation.names().local(&entry.name) else { return Ok(Step::Wait(Wait::Unwritable)) };
        let key = RowKey { parent: entry.parent, local };
        if let Some(wait) = self.way_is_blocked(&key, situation)? {
            return Ok(Step::Wait(wait));
        }
        if entry.kind == Kind::File && !situation.has_content(entry) {
            return Ok(Step::Wanted);
        }
        self.base.put(key.clone(), BaseRow::of_entry(entry, NOT_YET_WRITTEN));
        Ok(Step::Done(Box::new(Action::Create { key, entry: entry.clone() })))
    }

    fn change(
        &mut self,
        entry: &ViewEntry,
        key: &RowKey,
        old: &BaseRow,
        situation: &impl Situation,
    ) -> Result<Step, B::Error> {
        let to = if is_placed(entry, key, old) {
            key.clone()
        } else {
            let Some(local) = situation.names().local(&entry.name) else { return Ok(Step::Wait(Wait::Unwritable)) };
            RowKey { parent: entry.parent, local }
        };
        if to != *key {
            if let Some(wait) = self.way_is_blocked(&to, situation)? {
                return Ok(Step::Wait(wait));
            }
            if let Some(through) = self.base.way_below(entry.parent, old.id)? {
                return Ok(Step::Wait(Wait::BelowItself(through)));
            }
            let at = (entry.parent, entry.name.clone());
            let mut row = old.clone();
            (row.view_parent, row.view_name) = at.clone();
            self.base.remove(key.clone());
            self.base.put(to.clone(), row);
            return Ok(Step::Done(Box::new(Action::Move { from: key.clone(), to, old: old.clone(), at })));
        }
        let key = key.clone();
        if entry.kind != Kind::Directory && (entry.hash != old.hash || entry.kind != old.kind) {
            if entry.kind == Kind::File && !situation.has_content(entry) {
                if crate::mutated!(NotedWithoutBytes) {
                    return Ok(Step::Done(Box::new(Action::Note { key, row: BaseRow::of_entry(entry, old.print) })));
                }
                return Ok(Step::Wanted);
            }
            return Ok(Step::Done(Box::new(Action::Replace { key, old: old.clone(), entry: entry.clone() })));
        }
        if entry.kind == Kind::File && (entry.mtime, entry.executable) != (old.mtime, old.executable) {
            return Ok(Step::Done(Box::new(Action::SetMeta { key, old: old.clone(), entry: entry.clone() })));
        }
        Ok(Step::Done(Box::new(Action::Note { key, row: BaseRow::of_entry(entry, old.print) })))
    }

    fn remove(&mut self, key: &RowKey, old: &BaseRow) -> Result<Step, B::Error> {
        let (key, old) = (key.clone(), old.clone());
        if old.kind == Kind::Directory {
            if self.base.has_rows(old.id)? {
                return Ok(Step::Wait(Wait::NotEmpty));
            }
            self.base.remove(key.clone());
            return Ok(Step::Done(Box::new(Action::RemoveDirectory { key, old })));
        }
        self.base.remove(key.clone());
        Ok(Step::Done(Box::new(Action::Delete { key, old })))
    }

    /// Whether the directory of `key` is not there, or something has the name.
    fn way_is_blocked(&self, key: &RowKey, situation: &impl Situation) -> Result<Option<Wait>, B::Error> {
        if key.parent != FileId::ROOT {
            match self.base.find(key.parent, key.parent)? {
                Some(at) if at.parent != PARKED => {}
                _ => return Ok(Some(Wait::Directory(key.parent))),
            }
        }
        Ok(match self.base.row(key)? {
            Some(row) if situation.is_held(row.id) => Some(Wait::Held),
            Some(row) => Some(Wait::Occupied(row.id)),
            None => situation.is_taken(key).then_some(Wait::Ignored),
        })
    }
}

/// Stands in the planner's own overlay for what the materialiser will find.
const NOT_YET_WRITTEN: Fingerprint = Fingerprint {
    inode: 0,
    birth: None,
    len: 0,
    mtime: FileTime { secs: 0, nanos: 0 },
    ctime: FileTime { secs: 0, nanos: 0 },
    mode: 0,
};

/// Whether a source of which this action is all that is to be done ([`Plan::single`]) is settled by it. `row` is what
/// base has of it since.
pub fn settles(action: &Action, row: Option<&BaseRow>) -> bool {
    match action {
        Action::Create { key, entry } | Action::Replace { key, entry, .. } | Action::SetMeta { key, entry, .. } => {
            row.is_some_and(|row| is_settled(entry, key, row))
        }
        Action::Delete { .. } | Action::RemoveDirectory { .. } | Action::Note { .. } => true,
        // What stands elsewhere now may have another content, too.
        Action::Move { .. } | Action::Park { .. } => false,
    }
}

/// Whether nothing is left to be done about an entry.
pub fn is_settled(entry: &ViewEntry, key: &RowKey, row: &BaseRow) -> bool {
    is_placed(entry, key, row) && BaseRow::of_entry(entry, row.print) == *row
}

/// Whether something stands where the view has it: under whatever local name stands for its own.
fn is_placed(entry: &ViewEntry, key: &RowKey, row: &BaseRow) -> bool {
    key.parent == entry.parent && (row.view_parent, &row.view_name) == (entry.parent, &entry.name)
}

#[cfg(test)]
mod tests;
