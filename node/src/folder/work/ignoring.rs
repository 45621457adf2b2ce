//! Ignore rules at work: which are in force, when they change, and what is left out because of them.
//!
//! Rules change when a scan of the whole tree is through, its findings are in the log, and nothing stands under a
//! temporary name. What a scan or a batch sees of other rules before that asks for such a scan. The rules in force are
//! stored: a row sleeps under them over a restart, too.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use zerocloud_crdt::base::{BaseChanges, BaseRead, BaseRow, PARKED, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::plan::{Action, LeftOut};
use zerocloud_crdt::register::Kind;
use zerocloud_crdt::scan::Parent;
use zerocloud_crdt::view::{View, ViewEntry};

use super::acting::key_of;
use super::scanning::has_moved_directories;
use super::{Folder, FolderError, pending_of};
use crate::store::{Snapshot, SpaceStore, StoreError, values};
use crate::tree::ignoring::{Rules, RulesFile, Scope, Scopes, above_in_base, is_rules_name, with_all_below};
use crate::tree::materialise::Outcome;
use crate::tree::scan::Scanned;
use crate::tree::{Commit, Ledger, Pool};
use crate::watch::dirty::DirtySet;

/// The rules in force, and what they left out.
#[derive(Debug, Default)]
pub(super) struct Ignoring {
    pub(super) rules: Rules,
    /// What is ignored and has no row, by directory; directories without are not in it.
    left_out: BTreeMap<FileId, BTreeSet<Name>>,
    /// Pending items of which something is left out: planned again when rules change.
    pub(super) items: BTreeSet<FileId>,
    /// Pending items of which something does not come to this device, and how many files of each.
    pub(super) unselected: BTreeMap<FileId, u64>,
    /// Directories that come although they are left out, because something that is here has its place in them.
    pub(super) needed: BTreeSet<FileId>,
    /// Whether other rules were seen while something stood under a temporary name.
    is_due: bool,
}

impl Ignoring {
    pub(super) fn of_store(store: &SpaceStore) -> Result<Self, StoreError> {
        let snapshot = store.snapshot()?;
        let contents = snapshot.value(values::IGNORE_RULES)?.unwrap_or_default();
        let selection = snapshot.value(values::SELECTION)?.map(|patterns| Arc::new(RulesFile::parse(&patterns)));
        Ok(Self { rules: Rules::from_contents(contents).with_selection(selection), ..Self::default() })
    }
}

/// What a scan tells of ignored paths.
pub(super) struct Looked {
    rules: BTreeMap<Parent, Option<Arc<RulesFile>>>,
    left_out: BTreeMap<Parent, BTreeSet<Name>>,
    names: BTreeMap<FileId, BTreeSet<Name>>,
    left: Vec<RowKey>,
    has_moved_directories: bool,
    reach: Reach,
}

/// Where a scan looked.
#[derive(Debug)]
pub(super) enum Reach {
    /// Everywhere, but for what it left off.
    Everything,
    /// In some directories.
    Some,
    /// In these, which no scan had looked at before, and in what is new in them.
    LeftOff(BTreeSet<FileId>),
}

impl Looked {
    pub(super) fn of(scanned: &Scanned, reach: Reach) -> Self {
        Self {
            rules: scanned.rules.clone(),
            left_out: scanned.left_out.clone(),
            names: scanned.names.clone(),
            left: scanned.left.clone(),
            has_moved_directories: has_moved_directories(&scanned.findings),
            reach,
        }
    }
}

type Above<'a> = Box<dyn Fn(FileId) -> Result<Option<(FileId, Name)>, StoreError> + 'a>;

/// What the planner is told of ignored paths.
pub(super) struct Ignored<'a> {
    rules: &'a Rules,
    left_out: &'a BTreeMap<FileId, BTreeSet<Name>>,
    needed: &'a BTreeSet<FileId>,
    in_base: Scopes<'a, Above<'a>>,
    in_view: Scopes<'a, Above<'a>>,
    /// The planner's questions have no way to fail.
    failure: RefCell<Option<StoreError>>,
}

impl<'a> Ignored<'a> {
    pub(super) fn new(ignoring: &'a Ignoring, snapshot: &'a Snapshot) -> Self {
        let view = View::new(snapshot);
        let above_in_view =
            move |directory| Ok(view.entry(directory, directory)?.map(|entry| (entry.parent, entry.name)));
        Self {
            rules: &ignoring.rules,
            left_out: &ignoring.left_out,
            needed: &ignoring.needed,
            in_base: Scopes::new(&ignoring.rules, Box::new(move |directory| above_in_base(snapshot, directory))),
            in_view: Scopes::new(&ignoring.rules, Box::new(above_in_view)),
            failure: RefCell::default(),
        }
    }

    fn scope(&self, scopes: &Scopes<'a, Above<'a>>, directory: FileId) -> Rc<Scope> {
        if self.rules.is_empty() {
            return Rc::default();
        }
        scopes.scope(directory).unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            Rc::default()
        })
    }

    pub(super) fn is_ignored(&self, entry: &ViewEntry) -> bool {
        self.scope(&self.in_view, entry.parent).ignores(&entry.name, entry.kind)
    }

    pub(super) fn is_left_out(&self, entry: &ViewEntry) -> bool {
        let is_needed = self.needed.contains(&entry.id);
        !is_needed && self.scope(&self.in_view, entry.parent).leaves_out(&entry.name, entry.kind)
    }

    pub(super) fn is_asleep(&self, key: &RowKey, row: &BaseRow) -> bool {
        self.scope(&self.in_base, key.parent).ignores(&row.view_name, row.kind)
    }

    pub(super) fn is_taken(&self, key: &RowKey) -> bool {
        self.left_out.get(&key.parent).is_some_and(|names| names.contains(&key.local))
    }

    pub(super) fn has_ignored(&self, directory: FileId) -> bool {
        self.left_out.contains_key(&directory)
    }

    /// # Errors
    /// Why one of the answers was wrong: nothing that was planned on it may be done.
    pub(super) fn finish(&self) -> Result<(), StoreError> {
        self.failure.borrow_mut().take().map_or(Ok(()), Err)
    }
}

impl<P: Pool> Folder<P> {
    /// What is to be scanned of `dirty`: nothing in ignored directories.
    pub(super) fn without_ignored(&self, snapshot: &Snapshot, dirty: &DirtySet) -> Result<DirtySet, StoreError> {
        dirty.filter(|path| Ok(!self.is_ignored_directory(snapshot, path)?))
    }

    fn is_ignored_directory(&self, snapshot: &Snapshot, path: &[u8]) -> Result<bool, StoreError> {
        let rules = &self.ignoring.rules;
        let mut directory = Some(FileId::ROOT);
        let mut scope = Scope::root(rules.of(FileId::ROOT).cloned());
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            if rules.is_empty() || scope.is_ignored() {
                break;
            }
            let Ok(local) = Name::parse(name) else { return Ok(false) };
            let row = match directory {
                Some(parent) => snapshot.row(&RowKey { parent, local: local.clone() })?,
                None => None,
            };
            directory = row.as_ref().map(|row| row.id);
            let name = row.map_or_else(|| self.volume.name_rules().natural(&local), |row| row.view_name);
            scope = scope.below(&name, || directory.and_then(|directory| rules.of(directory).cloned()));
        }
        Ok(scope.is_ignored())
    }

    /// Takes in what a scan tells of ignored paths, whose findings are in the log. `created` gives the ids of what it
    /// sighted.
    pub(super) fn take_rules(&mut self, looked: Looked, created: &BTreeMap<usize, FileId>) -> Result<(), FolderError> {
        let id_of = |parent: Parent| match parent {
            Parent::Known(id) => Some(id),
            Parent::New(at) => created.get(&at).copied(),
        };
        let mut left_out = std::mem::take(&mut self.ignoring.left_out);
        let mut is_changed = false;
        for (parent, mut names) in looked.left_out {
            let Some(id) = id_of(parent) else { continue };
            let before = left_out.remove(&id).unwrap_or_default();
            if let Some(names_seen) = looked.names.get(&id) {
                names.extend(before.difference(names_seen).cloned());
            }
            is_changed |= before != names;
            if !names.is_empty() {
                self.ignoring.left_out.insert(id, names);
            }
        }
        if matches!(looked.reach, Reach::Everything) {
            is_changed |= !left_out.is_empty();
        } else {
            self.ignoring.left_out.append(&mut left_out);
        }
        if is_changed {
            // What waited for something to go.
            self.done_count += 1;
        }
        self.forget(looked.left)?;
        let mut is_other = looked.has_moved_directories && !self.ignoring.rules.is_empty();
        let is_first = |parent: &Parent| match (&looked.reach, parent) {
            (Reach::LeftOff(left), Parent::Known(id)) => left.contains(id),
            (Reach::LeftOff(_), Parent::New(_)) => true,
            (Reach::Everything | Reach::Some, _) => false,
        };
        for (parent, file) in looked.rules.iter().filter(|(parent, _)| !is_first(parent)) {
            let in_force = id_of(*parent).and_then(|id| self.ignoring.rules.of(id));
            // Neither what can't be read nor what is too much comes into force.
            let has_room = |file: &Arc<RulesFile>| in_force.is_some() || self.ignoring.rules.has_room(file.len());
            let counts = file.as_ref().is_none_or(|file| !file.is_closed() && has_room(file));
            is_other |= in_force != file.as_ref() && counts;
        }
        let is_everything = matches!(looked.reach, Reach::Everything);
        // In what was looked at for the first time, all was held against the rules that stand there.
        let counted = looked.rules.iter().filter(|(parent, _)| is_everything || is_first(parent));
        let found: BTreeMap<_, _> =
            counted.filter_map(|(parent, file)| Some((id_of(*parent)?, file.clone()))).collect();
        if is_everything || found.values().any(Option::is_some) {
            self.change_rules(found)?;
        }
        if is_other && !is_everything {
            self.dirty.add_everything();
        }
        Ok(())
    }

    /// Puts the rules in force that a scan of everything found.
    fn change_rules(&mut self, found: BTreeMap<FileId, Option<Arc<RulesFile>>>) -> Result<(), FolderError> {
        let snapshot = self.parts.store.snapshot()?;
        let mut rules = Rules::default().with_selection(self.ignoring.rules.selection().cloned());
        for directory in self.ignoring.rules.directories() {
            // What could not be looked at is as it was.
            if !found.contains_key(&directory) && snapshot.find(directory, directory)?.is_some() {
                rules.extend_from(&self.ignoring.rules, directory);
            }
        }
        for (directory, file) in found {
            if let Some(file) = file.filter(|file| !file.is_closed()) {
                rules.add(directory, file);
            }
        }
        self.ignoring.is_due = false;
        if rules == self.ignoring.rules {
            return Ok(());
        }
        if snapshot.has_rows(PARKED)? {
            self.ignoring.is_due = true;
            return Ok(());
        }
        self.parts.store.write::<_, StoreError>(|write| write.set(values::IGNORE_RULES, &rules.contents()))?;
        self.ignoring.rules = rules;
        self.ignoring.items.clear();
        self.is_materialised = false;
        self.ready.extend(&pending_of(&self.parts.store.snapshot()?)?);
        Ok(())
    }

    /// After a batch: if rules could not change because something stood under a temporary name, and nothing does now,
    /// has everything scanned for it.
    pub(super) fn look_at_rules_again(&mut self) -> Result<(), FolderError> {
        if self.ignoring.is_due && !self.ledger.has_rows(PARKED)? {
            self.dirty.add_everything();
        }
        Ok(())
    }

    /// Has everything scanned after an action that brought other rules, or other paths to hold against them.
    pub(super) fn mind_rules(&mut self, action: &Action, outcome: &Outcome) {
        let is_about_rules = match action {
            Action::Move { from, to, old, .. } => {
                let has_rules = old.kind == Kind::Directory && !self.ignoring.rules.is_empty();
                has_rules || is_rules_name(&from.local) || is_rules_name(&to.local)
            }
            Action::SetMeta { .. } | Action::Note { .. } => false,
            _ => is_rules_name(&key_of(action).local),
        };
        if is_about_rules && matches!(outcome, Outcome::Done(_)) {
            self.dirty.add_everything();
        }
    }

    /// Notes what a plan left out.
    pub(super) fn take_left_out(
        &mut self,
        snapshot: &Snapshot,
        actions: &[Action],
        left_out: LeftOut,
    ) -> Result<(), FolderError> {
        let acted: BTreeSet<FileId> = actions.iter().map(Action::source).collect();
        for source in left_out.items {
            if !acted.contains(&source) {
                self.ready.remove(&source);
            }
            self.ignoring.items.insert(source);
        }
        for directory in left_out.leaving {
            let Some(key) = snapshot.find(directory, directory)? else { continue };
            for (_, row) in with_all_below(snapshot, &key)? {
                if row.id != directory && !self.waiting.contains_key(&row.source) {
                    self.ready.insert(row.source);
                }
            }
        }
        self.forget(left_out.forgotten)
    }

    /// Takes rows out of base, with all that is below them, and leaves the disk as it is. What they showed is planned
    /// again.
    fn forget(&mut self, keys: Vec<RowKey>) -> Result<(), FolderError> {
        if keys.is_empty() {
            return Ok(());
        }
        self.ledger.refresh()?;
        if self.ledger.intents()?.is_some() {
            return Err(FolderError::NotRecovered);
        }
        let (mut base, mut sources) = (BaseChanges::new(), BTreeSet::new());
        for key in keys {
            for (key, row) in with_all_below(self.ledger.snapshot(), &key)? {
                base.insert(key, None);
                sources.insert(row.source);
                self.ignoring.items.remove(&row.source);
            }
        }
        // What does not come now, because it is left out, comes when it is not.
        self.parts.store.write::<_, StoreError>(|write| write.put_pending(&sources))?;
        self.ledger.refresh()?;
        self.ready.extend(&sources);
        self.is_materialised = false;
        self.ledger.commit(Commit { base, ..Commit::default() })?;
        Ok(())
    }
}
