//! Acting: one batch on the disk after the other, of what [`super::planning`] says, and what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use zerocloud_crdt::base::{BaseRead, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::mutated;
use zerocloud_crdt::plan::Action;
use zerocloud_crdt::register::{Content, Kind};
use zerocloud_crdt::view::ViewEntry;

use super::planning::{Batch, PLAN_COUNT};
use super::scanning::directory_path;
use super::{Folder, FolderError, Stuck};
use crate::api::path::BytePath;
use crate::clock::Moment;
use crate::tree::materialise::{BATCH_COUNT_MAX, BATCH_LEN_MAX, Blocked, Job, Outcome, Trust};
use crate::tree::scan::Reason;
use crate::tree::stage::{FileSpec, StageError, Staged};
use crate::tree::{Pool, TreeError};
use crate::volume::VolumeErrorKind;
use crate::watch::dirty::{Depth, parent_of};

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
