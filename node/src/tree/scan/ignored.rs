//! Ignore rules in a scan: what is left out, what sleeps, and what wakes.
//!
//! Two sets of rules meet here: those *in force*, under which rows sleep, and those that *stand* on the disk. What base
//! does not know is left out if the rules that stand say so. A row sleeps while both say so: it is taken as base has it,
//! with its file or without, and an ignored directory is not descended into. A row that slept and is not ignored any
//! more wakes, and whatever stands at its path is compared as ever; but that there is nothing means nothing.

use super::*;
use crate::tree::ignoring::{
    RULES_FILE_COUNT_MAX, RULES_LEN_MAX, RULES_LEN_SUM_MAX, RULES_NAME, Scope, Scopes, above_in_base,
};
use crate::tree::serve::read_up_to;
use crate::volume::DirectoryEntry;
use std::rc::Rc;
use zerocloud_crdt::base::BaseRow;
use zerocloud_crdt::projection::NameRules;

/// Where base has a directory.
type Above<'a, E> = Box<dyn Fn(FileId) -> Result<Option<(FileId, Name)>, E> + 'a>;

/// Whether something on disk counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// As if there were no rules.
    Counts,
    /// It is ignored, and base does not know it.
    LeftOut,
    /// It is ignored, and base knows it.
    Asleep,
}

/// Holds the paths of one walk against the rules.
pub(super) struct Judge<'a, B: BaseRead> {
    base: &'a B,
    in_force: &'a Rules,
    before: Scopes<'a, Above<'a, B::Error>>,
    /// By which the disk's names are read.
    names: NameRules,
    /// By the rules that stand, of the directories that were come to.
    scopes: BTreeMap<Parent, Rc<Scope>>,
    pub(super) files: BTreeMap<Parent, Option<Arc<RulesFile>>>,
    pub(super) left_out: BTreeMap<Parent, BTreeSet<Name>>,
}

impl<'a, B: BaseRead> Judge<'a, B> {
    pub(super) fn new(base: &'a B, in_force: &'a Rules, names: NameRules) -> Self {
        let above: Above<'a, B::Error> = Box::new(move |directory| above_in_base(base, directory));
        let before = Scopes::new(in_force, above);
        let (scopes, files, left_out) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { base, in_force, before, names, scopes, files, left_out }
    }

    fn scope(&self, directory: Parent) -> Rc<Scope> {
        self.scopes.get(&directory).cloned().unwrap_or_default()
    }

    /// Whether a rules file of `len` bytes counts beside those that were found.
    fn has_room(&self, len: usize) -> bool {
        let found = || self.files.values().flatten();
        let sum: usize = found().map(|file| file.len()).sum();
        found().count() < RULES_FILE_COUNT_MAX && sum + len <= RULES_LEN_SUM_MAX
    }

    /// Whether a directory sleeps with all that is in it.
    pub(super) fn is_asleep(&self, directory: Parent) -> Result<bool, TreeError<B::Error>> {
        let Parent::Known(id) = directory else { return Ok(false) };
        let is_ignored = self.scope(directory).is_ignored() && !self.in_force.is_empty();
        Ok(is_ignored && self.before.scope(id).map_err(TreeError::Store)?.is_ignored())
    }

    /// Says of one path, whose kind on disk is `kind`, whether it counts; notes what is left out.
    pub(super) fn standing(
        &mut self,
        directory: Parent,
        local: &Name,
        kind: register::Kind,
    ) -> Result<Standing, TreeError<B::Error>> {
        let (scope, natural) = (self.scope(directory), self.names.natural(local));
        if let Parent::Known(parent) = directory {
            let row = if self.in_force.is_empty() && !scope.ignores(&natural, kind) {
                return Ok(Standing::Counts);
            } else {
                self.base.row(&RowKey { parent, local: local.clone() }).map_err(TreeError::Store)?
            };
            if let Some(row) = row {
                let was_ignored = self.before.ignores(parent, &row.view_name, row.kind).map_err(TreeError::Store)?;
                if was_ignored && scope.ignores(&row.view_name, row.kind) {
                    return Ok(Standing::Asleep);
                }
                if was_ignored || row.kind == kind || !scope.ignores(&row.view_name, kind) {
                    return Ok(Standing::Counts);
                }
            }
        }
        if !scope.ignores(&natural, kind) {
            return Ok(Standing::Counts);
        }
        self.left_out.entry(directory).or_default().insert(local.clone());
        Ok(Standing::LeftOut)
    }

    /// The rows that sleep in a directory, and of whose paths its list says nothing.
    pub(super) fn sleepers_without_file(
        &mut self,
        directory: Parent,
        entries: &[DirectoryEntry],
    ) -> Result<Vec<Listed>, TreeError<B::Error>> {
        self.left_out.insert(directory, BTreeSet::new());
        let Parent::Known(parent) = directory else { return Ok(Vec::new()) };
        if self.in_force.is_empty() {
            return Ok(Vec::new());
        }
        let (scope, before) = (self.scope(directory), self.before.scope(parent).map_err(TreeError::Store)?);
        let names: BTreeSet<&[u8]> = entries.iter().map(|entry| &*entry.name).collect();
        let mut sleepers = Vec::new();
        let mut add = |local: Name, row: BaseRow| {
            let is_ignored = before.ignores(&row.view_name, row.kind) && scope.ignores(&row.view_name, row.kind);
            if is_ignored && !names.contains(local.as_bytes()) {
                sleepers.push(Listed { local, kind: row.kind, print: row.print, links: 1, is_doubted: false });
            }
        };
        self.base.each_row(parent, &mut add).map_err(TreeError::Store)?;
        Ok(sleepers)
    }

    /// Takes the rows that slept out of those that are gone, and those that this device leaves out: neither a rule nor a
    /// selection ever makes a deletion. Gives those that leave base.
    pub(super) fn take_sleeping(&self, findings: &mut Findings) -> Result<Vec<RowKey>, TreeError<B::Error>> {
        let mut left = Vec::new();
        if self.in_force.is_empty() {
            return Ok(left);
        }
        // Something of another kind at the path is an act of the user.
        let seen: BTreeSet<RowKey> = findings.sightings.iter().filter_map(Sighting::key).collect();
        for key in findings.gone.iter().filter(|key| !seen.contains(key)) {
            let Some(row) = self.base.row(key).map_err(TreeError::Store)? else { continue };
            let scope = self.before.scope(key.parent).map_err(TreeError::Store)?;
            if scope.ignores(&row.view_name, row.kind) || scope.leaves_out(&row.view_name, row.kind) {
                left.push(key.clone());
            }
        }
        for key in &left {
            findings.gone.remove(key);
        }
        Ok(left)
    }
}

impl<B: BaseRead> Lister<'_, B> {
    /// Finds out what the rules on the disk say of a directory that is about to be listed, and of those above it.
    pub(super) fn enter(&mut self, locate: &InWalk<'_, '_, B>, directory: Parent) -> Result<(), TreeError<B::Error>> {
        // What was found to have moved has other names above it than were thought, and so has what is in it.
        if matches!(directory, Parent::Known(_)) && locate.walk.sighting(directory).is_some() {
            self.judge.scopes.clear();
        }
        let (mut at, mut way) = (directory, Vec::new());
        let mut scope = loop {
            if let Some(scope) = self.judge.scopes.get(&at) {
                break scope.clone();
            }
            if at == Parent::Known(FileId::ROOT) {
                break Rc::new(Scope::root(self.rules_of(locate, at)?));
            }
            match locate.locate(at).map_err(TreeError::Store)? {
                Some(Step { parent, local, .. }) if way.len() <= zerocloud_crdt::limits::PATH_DEPTH_MAX => {
                    let (parent, name) = self.in_view(parent, local)?;
                    way.push((at, name));
                    at = parent;
                }
                _ => break Rc::default(),
            }
        };
        self.judge.scopes.insert(at, scope.clone());
        for (at, name) in way.into_iter().rev() {
            let file = if scope.ignores(&name, register::Kind::Directory) { None } else { self.rules_of(locate, at)? };
            scope = Rc::new(scope.below(&name, || file));
            self.judge.scopes.insert(at, scope.clone());
        }
        Ok(())
    }

    /// The name that the view has for a path, if base knows it. What is under a temporary name stands where it was.
    fn in_view(&self, parent: Parent, local: Name) -> Result<(Parent, Name), TreeError<B::Error>> {
        let Parent::Known(id) = parent else { return Ok((parent, self.judge.names.natural(&local))) };
        let row = self.base.row(&RowKey { parent: id, local: local.clone() }).map_err(TreeError::Store)?;
        Ok(match row {
            Some(row) if id == PARKED => (Parent::Known(row.view_parent), row.view_name),
            Some(row) => (parent, row.view_name),
            None => (parent, self.judge.names.natural(&local)),
        })
    }

    /// The rules file that stands in a directory.
    fn rules_of(
        &mut self,
        locate: &InWalk<'_, '_, B>,
        directory: Parent,
    ) -> Result<Option<Arc<RulesFile>>, TreeError<B::Error>> {
        if let Some(file) = self.judge.files.get(&directory) {
            return Ok(file.clone());
        }
        let read = match self.handles.open(locate, directory) {
            Ok(handle) => read_rules(&*handle),
            Err(OpenError::Store(error)) => return Err(TreeError::Store(error)),
            // Whether it is there at all is not known yet: what it says is asked again.
            Err(OpenError::Volume(_) | OpenError::NotAsNoted) => return Ok(None),
        };
        if let Ok(Some(content)) = &read
            && !self.judge.has_room(content.len().min(RULES_LEN_MAX))
        {
            self.report(locate, directory, Some(RULES_NAME), Reason::TooManyRules)?;
            self.judge.files.insert(directory, None);
            return Ok(None);
        }
        let in_force = match directory {
            Parent::Known(id) => self.judge.in_force.of(id).cloned(),
            Parent::New(_) => None,
        };
        let file = match read {
            Ok(None) => None,
            Ok(Some(content)) => {
                let file = in_force.filter(|file| file.has_content(&content));
                Some(file.unwrap_or_else(|| Arc::new(RulesFile::parse(&content))))
            }
            Err(error) if is_fatal(error.kind()) || error.kind() == VolumeErrorKind::TooManyOpenFiles => {
                return Err(error.into());
            }
            Err(error) => {
                self.report(locate, directory, Some(RULES_NAME), Reason::Unreadable(error.kind()))?;
                Some(in_force.unwrap_or_else(|| Arc::new(RulesFile::closed())))
            }
        };
        if let Some(fault) = file.as_ref().and_then(|file| file.fault()) {
            self.report(locate, directory, Some(RULES_NAME), Reason::Rules(fault))?;
        }
        self.judge.files.insert(directory, file.clone());
        Ok(file)
    }
}

/// The content of the rules file in a directory, and one byte more than counts if it is longer. `None` if there is none:
/// links are not followed, and nothing but a file is one.
fn read_rules(directory: &dyn VolumeDirectory) -> Result<Option<Vec<u8>>, VolumeError> {
    let file = match directory.open_file(RULES_NAME) {
        Ok(file) => file,
        Err(error) if is_absence(error.kind()) || error.kind() == VolumeErrorKind::CrossDevice => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut content = vec![0; RULES_LEN_MAX + 1];
    let len = read_up_to(&*file, &mut content, 0)?;
    content.truncate(len);
    Ok(Some(content))
}
