//! Planning and acting: from items whose view may differ from base to one batch on the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use zerocloud_crdt::base::{BaseRead, BaseRow, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::mutated;
use zerocloud_crdt::plan::{Action, Plan, Situation, Wait, Waiting, plan, unstick};
use zerocloud_crdt::projection::NameRules;
use zerocloud_crdt::register::{Content, Kind};
use zerocloud_crdt::view::{View, ViewEntry};

use super::ignoring::Ignored;
use super::jobs::Jobs;
use super::scanning::directory_path;
use super::{Folder, FolderError, Stuck};
use crate::api::path::BytePath;
use crate::clock::Moment;
use crate::store::{Generation, Snapshot};
use crate::tree::materialise::{BATCH_COUNT_MAX, BATCH_LEN_MAX, Blocked, Job, Outcome, Trust};
use crate::tree::scan::Reason;
use crate::tree::stage::{FileSpec, StageError, Staged};
use crate::tree::{Pool, TreeError};
use crate::volume::VolumeErrorKind;
use crate::watch::dirty::{Depth, parent_of};

/// Items that are planned at a time.
pub(super) const PLAN_COUNT: usize = 4_000;
/// Files that are on their way or about to be, below which more is planned between two batches: what small files bring
/// while a batch is done, which takes up to a second or two.
const DRY_COUNT: usize = 4_096;
/// Items that wait for others, from which on no more is planned between two batches: most wait for directories, which
/// the next batch makes.
const WAITS_COUNT_MAX: usize = 16_384;
/// How long what a scan must look at first is left alone, if that scan does not come earlier.
const BLOCKED_DELAY: Duration = Duration::from_secs(2);
/// How long after a refusal of the file system it is tried again.
pub(super) const FAILED_DELAY: Duration = Duration::from_secs(30);
/// The same where the disk is full.
const FULL_DELAY: Duration = Duration::from_secs(5);
/// The least time between two batches while files are on their way: each costs several flushes of the disk.
const BATCH_PAUSE: Duration = Duration::from_millis(20);
/// The most.
const BATCH_PAUSE_MAX: Duration = Duration::from_secs(1);

/// What the planner is told.
pub(super) struct Now<'a> {
    jobs: &'a Jobs,
    stuck: &'a BTreeMap<FileId, Stuck>,
    held: &'a BTreeMap<FileId, FileId>,
    lost: &'a BTreeSet<FileId>,
    ignored: Ignored<'a>,
    names: NameRules,
}

impl Situation for Now<'_> {
    fn names(&self) -> NameRules {
        self.names
    }

    fn has_content(&self, entry: &ViewEntry) -> bool {
        entry.len == 0 || self.jobs.is_staged(entry)
    }

    fn is_held(&self, id: FileId) -> bool {
        self.stuck.contains_key(&id)
            || self.held.contains_key(&id)
            || (self.lost.contains(&id) && !mutated!(UnheldLost))
    }

    fn is_ignored(&self, entry: &ViewEntry) -> bool {
        self.ignored.is_ignored(entry)
    }

    fn is_left_out(&self, entry: &ViewEntry) -> bool {
        self.ignored.is_left_out(entry)
    }

    fn is_asleep(&self, key: &RowKey, row: &BaseRow) -> bool {
        self.ignored.is_asleep(key, row)
    }

    fn is_taken(&self, key: &RowKey) -> bool {
        self.ignored.is_taken(key)
    }

    fn has_ignored(&self, directory: FileId) -> bool {
        self.ignored.has_ignored(directory)
    }
}

/// What is to be done in one batch.
#[derive(Default)]
struct Batch {
    actions: Vec<Action>,
    /// Of which one action is all, as of a state of the store ([`Plan::single`]).
    single: BTreeMap<FileId, Generation>,
}

impl<P: Pool> Folder<P> {
    /// Plans what is ready and does one batch of it; between two batches, it finds out what bytes are wanted for the next.
    pub(super) fn act(&mut self, now: Moment) -> Result<(), FolderError> {
        if now < self.next_batch {
            return self.plan_ahead();
        }
        let aside = self.put_aside()?;
        if !aside.is_empty() {
            return self.run(Batch { actions: aside, ..Batch::default() });
        }
        let mut len: u64 = 0;
        // Items of which nothing is to be done cost no batch: look on until there is something, or nothing more.
        loop {
            if self.ready.is_empty() {
                let aside = self.free_what_waits()?;
                if !aside.is_empty() {
                    return self.run(Batch { actions: aside, ..Batch::default() });
                }
                if self.ready.is_empty() {
                    return Ok(());
                }
            }
            // Where no bytes are on their way, each batch's syncs are for as much as it may do.
            let count = if self.jobs.coming_count() == 0 { BATCH_COUNT_MAX } else { PLAN_COUNT };
            let sources = self.ready.first_of_batch(count);
            let mut batch = self.plan_some(&sources, |action| {
                len = len.saturating_add(action_len(action));
                len <= BATCH_LEN_MAX || action_len(action) == len
            })?;
            batch.actions = self.guard(batch.actions)?;
            if !batch.actions.is_empty() {
                return self.run(batch);
            }
        }
    }

    /// Whether so little is on its way that more is planned before the next batch.
    pub(super) fn is_dry(&self) -> bool {
        self.ready.is_now() && self.jobs.coming_count() < DRY_COUNT && self.waiting.len() < WAITS_COUNT_MAX
    }

    /// Plans what is ready, as far as that can be taken in without a change of the disk.
    fn plan_ahead(&mut self) -> Result<(), FolderError> {
        while self.is_dry() {
            let sources = self.ready.first(PLAN_COUNT);
            self.plan_some(&sources, |_| true)?;
            // Of what is ready after that, something is to be done.
            self.ready.put_off_ready(&sources);
        }
        Ok(())
    }

    /// Plans some of what is ready and takes in what follows; gives the actions that `is_taken` takes.
    fn plan_some(
        &mut self,
        sources: &BTreeSet<FileId>,
        is_taken: impl FnMut(&Action) -> bool,
    ) -> Result<Batch, FolderError> {
        let snapshot = self.parts.store.snapshot()?;
        let Plan { mut actions, wanted, waiting, settled, single, mut left_out, contested } =
            self.plan(&snapshot, sources)?;
        if self.parts.merges {
            self.merging.look_at(contested.intersection(&settled).copied());
        }
        actions.retain(is_taken);
        self.take_unselected(sources, &actions, std::mem::take(&mut left_out.unselected));
        self.take_plan(&snapshot, sources, &actions, wanted, waiting, settled);
        self.take_left_out(&snapshot, &actions, left_out)?;
        let seen = snapshot.generation();
        Ok(Batch { actions, single: single.into_iter().map(|source| (source, seen)).collect() })
    }

    fn plan(&self, snapshot: &Snapshot, sources: &BTreeSet<FileId>) -> Result<Plan, FolderError> {
        let sources = sources.iter().copied();
        let plan = |situation: &Now<'_>| plan(snapshot, snapshot, sources, situation, BATCH_COUNT_MAX);
        Ok(self.in_situation(snapshot, plan)??)
    }

    /// What follows from what is known of the world outside index and base.
    pub(super) fn in_situation<T>(
        &self,
        snapshot: &Snapshot,
        ask: impl FnOnce(&Now<'_>) -> T,
    ) -> Result<T, FolderError> {
        let ignored = Ignored::new(&self.ignoring, snapshot);
        let lost = &self.rebooting.lost_in_tree(snapshot)?;
        let names = self.volume.name_rules();
        let situation = Now { jobs: &self.jobs, stuck: &self.stuck, held: &self.guard.held, lost, ignored, names };
        let said = ask(&situation);
        situation.ignored.finish()?;
        Ok(said)
    }

    /// Notes what a plan says of items that are not acted on.
    fn take_plan(
        &mut self,
        snapshot: &Snapshot,
        sources: &BTreeSet<FileId>,
        actions: &[Action],
        wanted: Vec<ViewEntry>,
        waiting: BTreeMap<FileId, Waiting>,
        settled: BTreeSet<FileId>,
    ) {
        let acted: BTreeSet<FileId> = actions.iter().map(Action::source).collect();
        let mut told: BTreeSet<FileId> = settled.clone();
        for source in sources {
            self.waiting.remove(source);
        }
        // What goes needs no bytes; under another source, which its row still notes, it would not be asked for again.
        let goes = |action: &&Action| matches!(action, Action::Delete { .. } | Action::RemoveDirectory { .. });
        // What has or waits for its place may be something else by now than what was asked for.
        let view = View::new(snapshot);
        let is_asked_for = |id: FileId, source: FileId| {
            let shown = || view.entry(id, source).ok().flatten();
            self.jobs.wanted(id).is_some_and(|job| shown().is_none_or(|shown| shown.hash == job.hash))
        };
        let acted_on = actions.iter().filter(|action| !goes(action)).map(|action| (action.id(), action.source()));
        let waiting_on = waiting.iter().map(|(id, waits)| (*id, waits.source));
        let staying: BTreeSet<FileId> = wanted
            .iter()
            .map(|entry| entry.id)
            .chain(acted_on.chain(waiting_on).filter(|(id, source)| is_asked_for(*id, *source)).map(|(id, _)| id))
            .collect();
        for source in sources {
            self.drop_others(*source, &staying);
            // What was asked for as the version of another file may be a file of its own by now.
            let is_another = |job: &ViewEntry| {
                job.source != *source && view.entry(job.id, job.source).is_ok_and(|shown| shown.is_none())
            };
            if !staying.contains(source)
                && self.jobs.wanted(*source).is_some_and(is_another)
                && let Some(staged) = self.jobs.remove(*source, &*self.parts.supply)
            {
                drop(self.staging.discard(&staged));
            }
        }
        for entry in wanted {
            told.insert(entry.source);
            self.jobs.want(entry, &*self.parts.supply);
        }
        for (id, waits) in waiting {
            told.insert(waits.source);
            self.need_directory(id, &waits);
            match waits.wait {
                Wait::Directory(on) | Wait::Occupied(on) | Wait::BelowItself(on) => {
                    self.waiters.entry(on).or_default().insert(waits.source);
                    if matches!(waits.wait, Wait::Directory(_))
                        && on != FileId::ROOT
                        && !self.waiting.contains_key(&on)
                        && !sources.contains(&on)
                    {
                        self.ready.insert_first(on);
                    }
                }
                Wait::NotEmpty => drop(self.waiters.entry(id).or_default().insert(waits.source)),
                Wait::Unwritable => {
                    self.hold_back(id, waits.source, &view);
                    continue;
                }
                Wait::Held | Wait::Ignored => {}
            }
            self.waiting.entry(waits.source).or_insert_with(|| Vec::with_capacity(1)).push((id, waits));
        }
        if actions.is_empty() {
            // Everything was looked at. Who is not told has no file but those that are another item's by now, under which
            // they are told: it is looked at again when something was done.
            let unselected = &self.ignoring.unselected;
            for source in sources.difference(&told).filter(|source| !unselected.contains_key(source)) {
                self.ready.remove(source);
                let waits = Waiting { source: *source, at: None, wait: Wait::NotEmpty };
                self.waiting.insert(*source, vec![(*source, waits)]);
            }
        }
        for source in told.difference(&acted) {
            self.ready.remove(source);
        }
        let seen = snapshot.generation();
        self.settled.extend(settled.into_iter().map(|source| (source, seen)));
    }

    /// Drops what was wanted of a source under ids that are not in `staying`.
    fn drop_others(&mut self, source: FileId, staying: &BTreeSet<FileId>) {
        for staged in self.jobs.drop_others(source, staying, &*self.parts.supply) {
            drop(self.staging.discard(&staged));
        }
    }

    /// Has everything that waits planned again if something was done since it was; else gives what is to be put aside
    /// of things that wait for each other's places.
    fn free_what_waits(&mut self) -> Result<Vec<Action>, FolderError> {
        if self.waiting.is_empty() {
            self.done_count = 0;
        }
        if std::mem::take(&mut self.done_count) > 0 {
            self.waiters.clear();
            self.ready.extend(std::mem::take(&mut self.waiting).keys());
            return Ok(Vec::new());
        }
        let waiting: BTreeMap<FileId, Waiting> = self.waiting.values().flatten().cloned().collect();
        // What scans wrote to base, they wrote through the log.
        self.ledger.refresh()?;
        let mut aside = unstick(self.ledger.snapshot(), &waiting)?;
        let lost = self.rebooting.lost_and_above(self.ledger.snapshot())?;
        aside.retain(|action| {
            let id = action.id();
            !self.stuck.contains_key(&id) && !self.guard.held.contains_key(&id) && !lost.contains(&id)
        });
        Ok(aside)
    }

    /// Does one batch and notes what became of each action.
    fn run(&mut self, Batch { actions, single }: Batch) -> Result<(), FolderError> {
        let begun = self.now();
        self.is_materialised = false;
        self.ledger.refresh()?;
        let mut jobs = Vec::with_capacity(actions.len());
        for action in actions {
            match self.staged_for(&action) {
                Ok(staged) => {
                    let single = single.get(&action.source()).copied();
                    jobs.push(Job { action, staged, single });
                }
                Err(StageError::Volume(error)) if error.kind() == VolumeErrorKind::NoSpace => {
                    self.fail(&action, VolumeErrorKind::NoSpace);
                }
                Err(StageError::Volume(error)) => return Err(error.into()),
                Err(error) => {
                    tracing::error!(%error, "what is on this device could not be staged");
                    self.fail(&action, VolumeErrorKind::Io);
                }
            }
        }
        let former = self.former_paths(&jobs);
        let wall_time = self.parts.clock.wall_time();
        let batch = match self.materialiser.run(&mut self.ledger, &jobs, wall_time) {
            Ok(batch) => batch,
            Err(TreeError::NotRecovered) => {
                self.recover(Trust::Same)?;
                return Ok(());
            }
            Err(error) => {
                // What was done is found out at once, so that nothing is planned on a wrong base.
                if let Err(again) = self.recover(Trust::Same) {
                    tracing::warn!(error = %again, "a batch that failed could not be judged yet");
                }
                return Err(error.into());
            }
        };
        self.tell_of_batch(&former, jobs.iter().zip(&batch.outcomes));
        for (job, outcome) in jobs.into_iter().zip(batch.outcomes) {
            self.mind_rules(&job.action, &outcome);
            self.note(job, &outcome);
        }
        self.look_at_rules_again()?;
        if batch.is_synced {
            self.note_batch_sync(wall_time)?;
        }
        let now = self.now();
        for version in batch.versions {
            self.looks.add(now, version);
        }
        for displaced in batch.displaced.into_iter().filter(|_| !mutated!(UnpublishedDisplaced)) {
            self.publish(&displaced)?;
        }
        // While more is on its way, half of the time at most goes into flushing the disk.
        self.next_batch =
            if self.jobs.is_fetching() { now + now.since(begun).clamp(BATCH_PAUSE, BATCH_PAUSE_MAX) } else { now };
        Ok(())
    }

    /// What an action puts in place.
    fn staged_for(&mut self, action: &Action) -> Result<Option<Staged>, StageError> {
        let (entry, old) = match action {
            Action::Create { entry, .. } => (entry, None),
            Action::Replace { entry, old, .. } => (entry, Some(old)),
            _ => return Ok(None),
        };
        match entry.kind {
            Kind::Directory => Ok(None),
            Kind::File if entry.len == 0 => self.staging.stage_whole(&FileSpec::of_entry(entry, old), &[]).map(Some),
            Kind::File => Ok(self.jobs.take_staged(entry)),
            Kind::Symlink => {
                let item = self.ledger.snapshot().item(entry.source).ok().flatten().unwrap_or_default();
                match entry.content_op().and_then(|op| item.content.get(&op)) {
                    Some(Content::Symlink { target }) => self.staging.stage_symlink(target.as_slice()).map(Some),
                    // It was superseded since: the next plan has what is there now.
                    _ => Ok(None),
                }
            }
        }
    }

    fn note(&mut self, job: Job, outcome: &Outcome) {
        let is_settled = job.settled(outcome).is_some();
        let Job { action, staged, .. } = job;
        match outcome {
            Outcome::Done(row) => {
                self.done_count += 1;
                if let Some(row) = row.as_ref().filter(|row| row.print.is_unsettled()) {
                    self.settle_later(row.source, &row.print);
                }
                if is_settled {
                    // A plan would find nothing. Whatever came since is told by itself.
                    self.ready.remove(&action.source());
                    // A version that was lost may have been staged though what stood there had its content.
                    self.drop_others(action.source(), &BTreeSet::new());
                } else {
                    self.ready.insert(action.source());
                }
                self.keep_written(&action);
                self.release(&action);
                if let Action::Create { entry, .. } | Action::Replace { entry, .. } = &action
                    && entry.kind == Kind::File
                {
                    self.written.0 += 1;
                    self.written.1 = self.written.1.saturating_add(entry.len);
                }
                return;
            }
            Outcome::Blocked(Blocked::NotStaged) => self.ready.insert(action.source()),
            Outcome::Blocked(Blocked::Itself) => {
                // From a name of its own it can be given the other spelling.
                if let Action::Move { from, old, .. } = &action {
                    self.aside.insert(old.id, from.clone());
                }
                self.ready.insert(action.source());
            }
            // It was planned as if its directory came before it, and waits for that when it is planned again.
            Outcome::Blocked(Blocked::NoDirectory) if !self.has_row(target_of(&action).parent) => {
                self.ready.insert(action.source());
            }
            Outcome::Blocked(blocked @ Blocked::Collides) => self.collide(&action, *blocked),
            Outcome::Blocked(_) => {
                // The disk is not as base has it: a scan of the directory says how.
                let target = if let Action::Move { to, .. } = &action { Some(to) } else { None };
                let mut blocked_at = Vec::new();
                for key in std::iter::once(key_of(&action)).chain(target) {
                    let path = directory_path(&self.ledger, key.parent).unwrap_or_default();
                    self.dirty.add(&path, Depth::Names);
                    blocked_at.push(self.path_of(key));
                }
                let until = self.now() + BLOCKED_DELAY;
                self.stick(
                    &action,
                    Stuck {
                        source: action.source(),
                        until,
                        problem: None,
                        is_full: false,
                        blocked_at,
                        collides_in: None,
                    },
                );
            }
            Outcome::Failed(kind) => self.fail(&action, *kind),
            Outcome::NotTried => self.fail(&action, VolumeErrorKind::NoSpace),
        }
        if let (Some(staged), Action::Create { entry, .. } | Action::Replace { entry, .. }) = (staged, action) {
            if staged.kind == Kind::File && entry.len > 0 {
                self.jobs.put_staged(entry, staged);
            } else {
                drop(self.staging.discard(&staged));
            }
        }
    }

    /// Whether base has a directory.
    fn has_row(&self, directory: FileId) -> bool {
        directory == FileId::ROOT || self.ledger.find(directory, directory).is_ok_and(|key| key.is_some())
    }

    /// The file system refused.
    fn fail(&mut self, action: &Action, kind: VolumeErrorKind) {
        let is_full = kind == VolumeErrorKind::NoSpace;
        let delay = if is_full { FULL_DELAY } else { FAILED_DELAY };
        let problem = Some((self.path_of(key_of(action)), kind.to_string()));
        let until = self.now() + delay;
        let source = action.source();
        self.stick(action, Stuck { source, until, problem, is_full, blocked_at: Vec::new(), collides_in: None });
    }

    pub(super) fn stick(&mut self, action: &Action, stuck: Stuck) {
        self.ready.remove(&stuck.source);
        self.stuck.insert(action.id(), stuck);
    }

    /// A file's bytes could not be written beside the tree.
    pub(super) fn not_staged(&mut self, entry: &ViewEntry, error: &StageError) {
        let is_full = matches!(error, StageError::Volume(error) if error.kind() == VolumeErrorKind::NoSpace);
        let delay = if is_full { FULL_DELAY } else { FAILED_DELAY };
        let key = RowKey { parent: entry.parent, local: entry.name.clone() };
        let problem = Some((self.path_of(&key), error.to_string()));
        let until = self.now() + delay;
        let source = entry.source;
        let stuck = Stuck { source, until, problem, is_full, blocked_at: Vec::new(), collides_in: None };
        self.stuck.insert(entry.id, stuck);
    }

    /// After a scan: what an action met that no scan had seen was seen now, and is planned again. Where the scan could
    /// not look, it would be met again at once: it stays as it is until a scan can, or for a while.
    pub(super) fn free_what_was_scanned(&mut self) {
        let now = self.now();
        for stuck in self.stuck.values_mut().filter(|stuck| !stuck.blocked_at.is_empty()) {
            let unseen = stuck.blocked_at.iter().find_map(|path| obstacle(&self.scan_problems, path));
            match unseen {
                None => stuck.until = now,
                Some(problem) => {
                    if stuck.problem.is_none() {
                        stuck.until = now + FAILED_DELAY;
                    }
                    stuck.problem = Some(problem);
                }
            }
        }
    }

    /// Plans again what was left alone for long enough.
    pub(super) fn unstick_due(&mut self, now: Moment) {
        let due: Vec<FileId> = self.stuck.iter().filter(|(_, stuck)| stuck.until <= now).map(|(id, _)| *id).collect();
        if due.is_empty() {
            return;
        }
        for id in due {
            if let Some(stuck) = self.stuck.remove(&id) {
                self.ready.insert(stuck.source);
            }
        }
        // What waited because of them.
        self.done_count += 1;
    }

    /// Plans again what waited for what was done.
    fn release(&mut self, action: &Action) {
        let mut freed = vec![action.id()];
        match action {
            Action::Move { from, .. } | Action::Park { from, .. } => freed.push(from.parent),
            Action::Delete { key, .. } | Action::RemoveDirectory { key, .. } => freed.push(key.parent),
            Action::Create { .. } | Action::Replace { .. } | Action::SetMeta { .. } | Action::Note { .. } => {}
        }
        freed.iter().skip(1).for_each(|directory| self.free_collisions(*directory));
        for id in freed {
            for source in self.waiters.remove(&id).unwrap_or_default() {
                if self.waiting.remove(&source).is_some() {
                    self.ready.insert_first(source);
                }
            }
        }
    }

    pub(super) fn path_of(&self, key: &RowKey) -> BytePath {
        BytePath::from(key_path(&self.ledger, key))
    }
}

/// What keeps scans from saying what stands at a path: a problem there or above.
fn obstacle(problems: &BTreeMap<Box<[u8]>, Reason>, path: &BytePath) -> Option<(BytePath, String)> {
    let mut at = path.as_bytes();
    while !at.is_empty() {
        if let Some(reason) = problems.get(at).filter(|reason| reason.hides_what_is_there()) {
            return Some((BytePath::from(at.to_vec()), reason.to_string()));
        }
        at = parent_of(at);
    }
    None
}

/// The names from the root to a row, joined by `/`.
pub(super) fn key_path<B: BaseRead>(base: &B, key: &RowKey) -> Vec<u8> {
    let mut path = directory_path(base, key.parent).unwrap_or_default().into_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(key.local.as_bytes());
    path
}

/// Bytes that an action writes.
fn action_len(action: &Action) -> u64 {
    match action {
        Action::Create { entry, .. } | Action::Replace { entry, .. } if entry.kind == Kind::File => entry.len,
        _ => 0,
    }
}

/// The path that something has after an action.
pub(super) const fn target_of(action: &Action) -> &RowKey {
    if let Action::Move { to, .. } = action { to } else { key_of(action) }
}

/// The path that an action is about.
pub(super) const fn key_of(action: &Action) -> &RowKey {
    match action {
        Action::Create { key, .. }
        | Action::Replace { key, .. }
        | Action::SetMeta { key, .. }
        | Action::Delete { key, .. }
        | Action::RemoveDirectory { key, .. }
        | Action::Note { key, .. } => key,
        Action::Move { from, .. } | Action::Park { from, .. } => from,
    }
}
