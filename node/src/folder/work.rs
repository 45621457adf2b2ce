//! What is to be done in a folder, one step after the other.
//!
//! A [`Folder`] is told what happened ([`Folder::handle`]) and does what is due ([`Folder::step`]): scans (`scanning`),
//! plans and acts (`acting`), has bytes brought (`wanting`). It blocks on the disk and on nothing else, and reads
//! time from the clock that it was given.

mod acting;
mod adopting;
mod colliding;
mod guarding;
mod ignoring;
mod jobs;
mod kept;
mod lacking;
mod merging;
mod opening;
mod planning;
mod ready;
mod rebooting;
mod restoring;
mod rewinding;
mod scanning;
mod selecting;
pub mod telling;
mod texts;
mod versions;
mod wanting;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;
use zerocloud_crdt::base::RowKey;
use zerocloud_crdt::id::{ActorId, ContentHash, DeviceId, EpochId, FileId, SpaceId};
use zerocloud_crdt::keys::EpochSecret;
use zerocloud_crdt::log::{Frontier, LogRead};
use zerocloud_crdt::manifest::Chunk;
use zerocloud_crdt::plan::Waiting;
use zerocloud_crdt::projection::NameRules;

use self::guarding::Guard;
use self::ignoring::Ignoring;
use self::jobs::Jobs;
use self::merging::Merging;
use self::ready::Ready;
use self::rebooting::Rebooting;
use self::telling::Listener;
use self::texts::Texts;
use super::arriving::Arrivals;
use super::{FolderState, Message, NotStaged, Phase, Restoring};
use crate::api::path::BytePath;
use crate::clock::{Clock, Moment};
use crate::engine::fetch::JobId;
use crate::engine::found::FoundWith;
use crate::fetcher::Supply;
use crate::space::{AppendError, SpaceHandle};
use crate::store::{Generation, Snapshot, SpaceStore, StoreError, StoreLedger};
use crate::tree::marker::MarkerError;
use crate::tree::materialise::Materialiser;
use crate::tree::scan::Reason;
use crate::tree::stage::{Staged, Staging};
use crate::tree::versions::{Retention, SecondLooks};
use crate::tree::{Keyring, Pool, TempNames, TreeError};
use crate::volume::{Volume, VolumeError};
use crate::watch::WatchEvent;
use crate::watch::debounce::Debounce;
use crate::watch::dirty::DirtySet;

/// Time between two walks over the whole tree, in case that the watcher missed something.
const WALK_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// The same where nothing watches.
const BLIND_WALK_INTERVAL: Duration = Duration::from_secs(60);
/// How soon a file that could not be read as a whole is looked at again.
const LOOK_AGAIN_DELAY: Duration = Duration::from_secs(1);

/// What a folder has for [`FolderParts::scan_room`]: some tens of megabytes.
pub const SCAN_ROOM: usize = 16_384;

/// The space's log, as its folder needs it.
pub trait Publish: Send + Sync {
    /// Writes what was found, all of it or nothing; gives the ids of what was sighted when it is durable.
    ///
    /// # Errors
    /// [`AppendError`].
    fn append(&self, all: Vec<FoundWith>) -> Result<Vec<Vec<FileId>>, AppendError>;
    /// Says what the tree shows: everything up to here, or (`None`) not everything.
    fn set_materialised(&self, shown: Option<Frontier>);
}

impl Publish for SpaceHandle {
    fn append(&self, all: Vec<FoundWith>) -> Result<Vec<Vec<FileId>>, AppendError> {
        self.append_blocking(all)
    }

    fn set_materialised(&self, shown: Option<Frontier>) {
        // A space that is closed tells nobody anything.
        let _ = self.set_materialised_blocking(shown);
    }
}

/// What a folder is made of.
#[derive(Clone)]
pub struct FolderParts {
    /// Where it lies, absolute.
    pub path: PathBuf,
    /// The space's store.
    pub store: Arc<SpaceStore>,
    /// The space's log.
    pub log: Arc<dyn Publish>,
    /// Where bytes come from that are not on this disk.
    pub supply: Arc<dyn Supply>,
    /// What is on its way, for others who want it.
    pub arrivals: Arc<Arrivals>,
    /// The keys that contents are named with.
    pub keyring: Arc<Keyring>,
    /// The secrets of the epochs, by which the history is read.
    pub secrets: Arc<BTreeMap<EpochId, EpochSecret>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How long versions are kept.
    pub retention: Retention,
    /// Whether texts that were changed at the same time are merged, and texts kept for that.
    pub merges: bool,
    /// When a large change waits for the user.
    pub guard: crate::config::Guard,
    /// At how much that was found a scan leaves off what is in new directories, for the next: what is found is held in
    /// memory, about a kilobyte each.
    pub scan_room: usize,
    /// Whether the folder's thread gives up to reach anything else ([`crate::confine`]).
    pub is_confined: bool,
    /// Which boot of the system this is; empty where the system does not say, and then no power loss is seen.
    pub boot_id: Vec<u8>,
    /// Which names files can have here; `None` as the disk is.
    pub name_rules: Option<NameRules>,
    /// Names in `tmp`, given once by this process, however often the folder is opened.
    pub names: Arc<TempNames>,
    /// This device.
    pub device: DeviceId,
    /// As whom this device writes in the space.
    pub actor: ActorId,
    /// Who is told what happens.
    pub listener: Arc<dyn Listener>,
}

/// Why a folder can't be kept at the moment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The folder, or the disk under it.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The folder is not the one of this space.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// It lies on another disk than before.
    #[error(
        "this folder lies on another file system than before; is its disk mounted? Mount it, or, if the folder has moved to \
         another disk for good, remove the space and join it again"
    )]
    OtherFilesystem,
    /// The space's store.
    #[error("the space's store failed: {0}")]
    Store(#[from] StoreError),
    /// Nothing can be written to the log.
    #[error(transparent)]
    Log(#[from] AppendError),
    /// An earlier batch was not judged.
    #[error("an earlier batch was not finished; it is looked at first, and then it goes on")]
    NotRecovered,
    /// The system has no more threads.
    #[error(
        "the system gives no thread for it: {0}; raise what `ulimit -u` says, or end other programs; it will be tried again"
    )]
    Thread(std::io::Error),
}

impl From<TreeError<StoreError>> for FolderError {
    fn from(error: TreeError<StoreError>) -> Self {
        match error {
            TreeError::Volume(error) => Self::Volume(error),
            TreeError::Marker(error) => Self::Marker(error),
            TreeError::Store(error) => Self::Store(error),
            TreeError::NotRecovered => Self::NotRecovered,
        }
    }
}

/// An item on which the last action was not done.
#[derive(Clone, Debug)]
struct Stuck {
    source: FileId,
    /// Until when it is left alone.
    until: Moment,
    /// What the user is told; `None` while it is only a matter of a scan.
    problem: Option<(BytePath, String)>,
    /// Whether the disk had no room.
    is_full: bool,
    /// Paths that were not as base has them: a scan that can look at them frees it.
    blocked_at: Vec<BytePath>,
    /// The directory where its name is one with that of another, on this disk: when a name there is free it is tried again.
    collides_in: Option<FileId>,
}

/// A folder that is open. See the module.
pub struct Folder<P> {
    parts: FolderParts,
    ledger: StoreLedger,
    volume: Arc<dyn Volume>,
    inbox: mpsc::Sender<Message>,
    pool: P,
    materialiser: Materialiser,
    staging: Staging,

    debounce: Debounce,
    /// Directories to be scanned, by their names from the root.
    dirty: DirtySet,
    /// Directories that scans left off.
    left_off: BTreeSet<FileId>,
    /// Whether the last walk over everything left some off, and they are not all scanned yet.
    is_walking: bool,
    /// What is looked at again, and when.
    again: BTreeMap<Box<[u8]>, Moment>,
    /// Items whose files may have been edited and look the same, and when that can be told.
    settling: BTreeMap<FileId, Moment>,
    rescans: Vec<oneshot::Sender<()>>,
    /// Those of them that are done and not yet told so.
    rescanned: Vec<oneshot::Sender<()>>,
    next_walk: Moment,
    has_watcher: bool,
    looks: SecondLooks,
    next_prune: Moment,
    /// The last file whose versions were thinned, while that goes on.
    thinned: Option<FileId>,
    scan_problems: BTreeMap<Box<[u8]>, Reason>,
    scan_count: u64,

    /// Items to be planned.
    ready: Ready,
    /// Of which nothing is left to be done, as of a state of the store.
    settled: BTreeMap<FileId, Generation>,
    /// What can't be done yet, by source.
    waiting: BTreeMap<FileId, Vec<(FileId, Waiting)>>,
    /// Sources that wait until something is done with an item.
    waiters: BTreeMap<FileId, BTreeSet<FileId>>,
    /// By id.
    stuck: BTreeMap<FileId, Stuck>,
    /// What is to have its own name in another spelling, and where it stands: it goes aside first.
    aside: BTreeMap<FileId, RowKey>,
    guard: Guard,
    rebooting: Rebooting,
    /// Actions that were done since everything that waits was last planned.
    done_count: u64,
    next_batch: Moment,
    jobs: Jobs,
    /// Where the chunks of what was begun will lie, until that is stored.
    lists: Vec<(ContentHash, Arc<[Chunk]>)>,
    /// When what nobody had is asked for again, if something is.
    next_asking: Option<Moment>,
    /// How long that was put off the last time.
    starved_delay: Duration,
    /// The other devices of the space, and by how many records that is known.
    others: Option<(usize, lacking::Others)>,
    /// Versions that are being brought back.
    restores: BTreeMap<JobId, Restoring>,
    merging: Merging,
    texts: Texts,
    ignoring: Ignoring,
    written: (u64, u64),
    is_materialised: bool,

    /// As the store says, which is not asked again for each step.
    awaits_index: bool,
    is_paused: bool,
    /// Whether the root may be elsewhere.
    must_check_root: bool,
    warnings: BTreeSet<String>,
}

impl<P: Pool> Folder<P> {
    fn space(&self) -> SpaceId {
        self.parts.store.space()
    }

    fn now(&self) -> Moment {
        self.parts.clock.now()
    }

    /// Notes something that the user should know of the folder as a whole.
    pub fn warn(&mut self, warning: String) {
        self.has_watcher = false;
        self.next_walk = self.next_walk.min(self.now() + BLIND_WALK_INTERVAL);
        self.warnings.insert(warning);
    }

    /// Stops scanning, fetching and writing, or goes on.
    pub fn pause(&mut self, is_paused: bool) {
        if self.is_paused && !is_paused {
            self.dirty.add_everything();
        }
        self.look_for_awaited();
        self.is_paused = is_paused;
    }

    /// Takes in what happened.
    pub fn handle(&mut self, message: Message) {
        let now = self.now();
        match message {
            Message::Watch(WatchEvent::Change(change)) => self.debounce.handle_change(now, &change),
            Message::Watch(WatchEvent::Rescan) => self.debounce.handle_rescan(now),
            Message::Watch(WatchEvent::Root) => self.must_check_root = true,
            Message::Watch(WatchEvent::Warning(warning)) => self.warn(warning.to_string()),
            Message::Plan(items) => {
                self.is_materialised = false;
                // Something has happened to the members; they may have more.
                self.starved_delay = Duration::ZERO;
                self.free_what_collides_of(&items);
                self.ready.extend(&items);
                self.look_for_awaited();
            }
            Message::Staged { job, staged } => self.handle_staged(job, staged),
            Message::Page { job, id, plaintext } => self.handle_page(job, id, &plaintext),
            Message::Changed(suspects) => suspects.take().into_iter().for_each(|item| self.handle_changed(item)),
            Message::Rescan(done) => {
                self.dirty.add_everything();
                self.stuck.values_mut().for_each(|stuck| stuck.until = now);
                self.rescans.push(done);
            }
            Message::Connected => {
                self.starved_delay = Duration::ZERO;
                self.want_starved();
                self.merging.look_at_starved();
            }
            Message::Held(decision, done) => self.decide_held(decision, done),
            Message::Restore(restoring) => self.restore(*restoring),
            Message::Rewind(rewinding) => self.rewind(*rewinding),
            Message::Select(selecting) => self.select(*selecting),
            Message::Forget(forgetting) => self.end_wait(*forgetting),
            Message::Prune(age_ms, done) => self.prune_older(age_ms, done),
            Message::Pause(is_paused) => self.pause(is_paused),
            Message::Stop(done) => drop(done.send(())),
        }
    }

    fn handle_staged(&mut self, job: JobId, staged: Result<Staged, NotStaged>) {
        if self.restores.contains_key(&job) {
            return self.end_restoring(job, staged);
        }
        let Some(staged) = self.end_ancestor(job, staged) else { return };
        let Some(entry) = self.jobs.end(job) else {
            if let Ok(staged) = staged {
                // Nobody wants it any more; what stays is garbage at the next start.
                drop(self.staging.discard(&staged));
            }
            return;
        };
        match staged {
            Ok(staged) => {
                self.ready.put_off(entry.source);
                self.jobs.put_staged(entry, staged);
            }
            Err(NotStaged::Missing(deniers)) => self.starve(entry, &deniers),
            Err(NotStaged::Failed(error)) => self.not_staged(&entry, &error),
        }
    }

    /// A peer asked for what this file should have and does not: it changed and no scan has seen it.
    fn handle_changed(&mut self, item: FileId) {
        if let Err(error) = self.mark_dirty(item) {
            tracing::warn!(%error, "a file that is not as it was noted is found by the next walk");
        }
    }

    /// Does what is due, one batch at most.
    ///
    /// # Errors
    /// [`FolderError`]: the folder is to be opened anew.
    pub fn step(&mut self) -> Result<(), FolderError> {
        if std::mem::take(&mut self.must_check_root) {
            self.volume.check_root()?;
        }
        if self.is_paused {
            self.rescans.clear();
            return Ok(());
        }
        if self.awaits_index()? {
            return Ok(());
        }
        self.mind_clock()?;
        let now = self.now();
        self.look_again(now)?;
        self.prune_versions(now)?;
        self.scan_what_is_due(now)?;
        self.unstick_due(now);
        if self.next_asking.is_some_and(|at| at <= now) {
            self.want_starved();
        }
        self.act(now)?;
        self.merge_what_is_due()?;
        self.forget_lost()?;
        self.want_more()?;
        self.settle()?;
        if self.is_idle() { self.keep_texts(now) } else { Ok(()) }
    }

    /// When [`step`](Self::step) has something to do without being told anything; `None` if never.
    pub fn timeout(&self) -> Option<Moment> {
        // Whoever makes an awaited index come tells the folder so.
        if self.is_paused || self.awaits_index {
            return None;
        }
        let at_once = (self.is_scan_due() || self.merging.is_due()).then(|| self.now());
        let is_more = !self.ready.is_empty() || self.done_count > 0;
        let batch = is_more.then(|| if self.is_dry() { self.now() } else { self.next_batch });
        let stuck = self.stuck.values().map(|stuck| stuck.until).min();
        let again = self.again.values().chain(self.settling.values()).min().copied();
        let (debounced, look) = (self.debounce.poll_timeout(), self.looks.deadline());
        // What is kept waits for what keeps this from being idle, and that for itself.
        let keep = self.texts.due().filter(|_| self.is_idle());
        let regular = [Some(self.next_walk), Some(self.next_prune)];
        let all = [at_once, batch, stuck, again, self.next_asking, debounced, look, keep].into_iter().chain(regular);
        all.flatten().min()
    }

    /// Whether nothing is to be done: no change is waiting to be scanned, and what the view has is on disk or is a
    /// problem that the user is told of.
    fn is_idle(&self) -> bool {
        !self.is_scan_due()
            && self.debounce.poll_timeout().is_none()
            && self.ready.is_empty()
            && self.done_count == 0
            && self.settled.is_empty()
            && self.merging.is_idle(self.parts.supply.has_members())
            && self.stuck.values().all(|stuck| stuck.problem.is_some())
            && self.is_nothing_coming()
    }

    /// Whether something is to be scanned at once.
    fn is_scan_due(&self) -> bool {
        !self.dirty.is_empty() || !self.left_off.is_empty()
    }

    /// Whether all that bytes were asked for is stuck, or waits for something, or is lost: nothing more is under way.
    fn is_nothing_coming(&self) -> bool {
        let waiting: BTreeSet<FileId> = self.waiting.values().flatten().map(|(id, _)| *id).collect();
        self.jobs.ids().all(|id| self.stuck.contains_key(&id) || waiting.contains(&id) || self.jobs.is_lost(id))
    }

    /// Takes the marks off what is settled, and says so when all is.
    fn settle(&mut self) -> Result<(), FolderError> {
        // Each write is a flush of the disk: while files are on their way, it waits for more of them.
        let is_pausing = self.ready.is_empty() && !self.jobs.is_fetching();
        if !self.settled.is_empty() && (is_pausing || self.settled.len() >= planning::PLAN_COUNT) {
            let settled = std::mem::take(&mut self.settled);
            self.parts.store.write(|write| write.remove_pending(settled))?;
        }
        if self.is_idle() && !self.is_materialised && self.guard.held.is_empty() {
            let snapshot = self.parts.store.snapshot()?;
            // What the replica has marked and not yet told, or what nobody told.
            let known: BTreeSet<FileId> =
                self.stuck.values().map(|stuck| stuck.source).chain(self.waiting.keys().copied()).collect();
            let lost: BTreeSet<FileId> = self.jobs.lost().map(|entry| entry.source).collect();
            let known = &(&known | &lost) | &self.ignoring.items;
            let unselected: BTreeSet<FileId> = self.ignoring.unselected.keys().copied().collect();
            let known = &known | &unselected;
            let pending = pending_of(&snapshot)?;
            self.ready.extend(pending.difference(&known));
            if self.ready.is_empty() {
                // Whatever was begun and is not complete, nobody wants any more; but what there is of a lost version may
                // be all that there is.
                if lost.is_empty() {
                    self.staging.discard_partial()?;
                }
                self.is_materialised = true;
                self.parts.log.set_materialised(Some(LogRead::frontier(&snapshot)?));
            }
        }
        Ok(())
    }

    /// Tells whoever asked for scans that they are done. To be called when others can see the [`state`](Self::state).
    pub fn tell_rescanned(&mut self) {
        for done in self.rescanned.drain(..) {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }

    /// What goes on.
    pub fn state(&self) -> FolderState {
        let phase = if self.is_paused {
            Phase::Paused
        } else if self.is_scan_due() || self.debounce.poll_timeout().is_some() {
            Phase::Scanning
        } else if self.is_idle() && !self.guard.held.is_empty() {
            Phase::Held
        } else if self.is_idle() && self.is_materialised {
            Phase::Idle
        } else {
            Phase::Syncing
        };
        let problems = self.scan_problems.iter();
        let problems = problems.map(|(path, reason)| (BytePath::from(path.to_vec()), reason.to_string()));
        let stuck = self.stuck.values().filter_map(|stuck| stuck.problem.clone());
        // What a scan says of a path that blocks an item is told once.
        let stuck = stuck.filter(|(path, _)| !self.scan_problems.contains_key(path.as_bytes()));
        FolderState {
            phase,
            waiting_files: (self.jobs.count() - self.jobs.lost_count()) as u64,
            waiting_bytes: self.jobs.len() - self.jobs.lost().map(|entry| entry.len).sum::<u64>(),
            lacks: self.lacks(),
            left_out: self.ignoring.unselected.values().sum(),
            problems: Arc::new(
                problems.chain(stuck).chain(self.rebooting.problems()).chain(self.lost_problems()).collect(),
            ),
            warnings: self.all_warnings(),
            scan_count: self.scan_count,
            written: self.written,
        }
    }
}

impl<P: Pool> Folder<P> {
    fn all_warnings(&self) -> Vec<String> {
        let told = self.warnings.iter().chain(&self.guard.warning).cloned();
        told.chain(self.full_warning()).chain(self.awaits_warning()).collect()
    }
}

/// Everything that is marked to be planned.
fn pending_of(snapshot: &Snapshot) -> Result<BTreeSet<FileId>, StoreError> {
    let mut pending = BTreeSet::new();
    loop {
        let some = snapshot.pending_after(pending.last().copied(), planning::PLAN_COUNT)?;
        if some.is_empty() {
            return Ok(pending);
        }
        pending.extend(some);
    }
}
