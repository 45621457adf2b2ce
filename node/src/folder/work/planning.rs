//! Planning: of the items whose view may differ from base, what is to be done, whose bytes are wanted, and what waits for
//! what. What is then done on the disk, and when, is [`super::acting`]'s.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::{BaseRow, RowKey};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::mutated;
use zerocloud_crdt::plan::{Action, Plan, Situation, Wait, Waiting, plan, unstick};
use zerocloud_crdt::projection::NameRules;
use zerocloud_crdt::view::{View, ViewEntry};

use super::ignoring::Ignored;
use super::jobs::Jobs;
use super::{Folder, FolderError, Stuck};
use crate::store::{Generation, Snapshot};
use crate::tree::Pool;
use crate::tree::materialise::BATCH_COUNT_MAX;

/// Items that are planned at a time.
pub(super) const PLAN_COUNT: usize = 4_000;
/// Files that are on their way or about to be, below which more is planned between two batches: what small files bring
/// while a batch is done, which takes up to a second or two.
const DRY_COUNT: usize = 4_096;
/// Items that wait for others, from which on no more is planned between two batches: most wait for directories, which
/// the next batch makes.
const WAITS_COUNT_MAX: usize = 16_384;

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
pub(super) struct Batch {
    pub(super) actions: Vec<Action>,
    /// Of which one action is all, as of a state of the store ([`Plan::single`]).
    pub(super) single: BTreeMap<FileId, Generation>,
}

impl<P: Pool> Folder<P> {
    /// Whether so little is on its way that more is planned before the next batch.
    pub(super) fn is_dry(&self) -> bool {
        self.ready.is_now() && self.jobs.coming_count() < DRY_COUNT && self.waiting.len() < WAITS_COUNT_MAX
    }

    /// Plans what is ready, as far as that can be taken in without a change of the disk.
    pub(super) fn plan_ahead(&mut self) -> Result<(), FolderError> {
        while self.is_dry() {
            let sources = self.ready.first(PLAN_COUNT);
            self.plan_some(&sources, |_| true)?;
            // Of what is ready after that, something is to be done.
            self.ready.put_off_ready(&sources);
        }
        Ok(())
    }

    /// Plans some of what is ready and takes in what follows; gives the actions that `is_taken` takes.
    pub(super) fn plan_some(
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
    pub(super) fn drop_others(&mut self, source: FileId, staying: &BTreeSet<FileId>) {
        for staged in self.jobs.drop_others(source, staying, &*self.parts.supply) {
            drop(self.staging.discard(&staged));
        }
    }

    /// Has everything that waits planned again if something was done since it was; else gives what is to be put aside
    /// of things that wait for each other's places.
    pub(super) fn free_what_waits(&mut self) -> Result<Vec<Action>, FolderError> {
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
}
