//! A whole device: folder, store, log and chunks as they ship, over a simulated disk and clock.
//!
//! What a thread does in a node is a call here, one after the other as the world says: [`Device::turn`] is a turn of the
//! folder's thread, [`Device::hear`] an event of the space's. The process can stop at any call to its disks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a simulation ends where the world that it made is wrong")]

mod homes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use rand_core::{Rng, SeedableRng};
use zerocloud::clock::{Clock, Moment, WallTime};
use zerocloud::config::Guard;
use zerocloud::engine::fetch::Lack;
use zerocloud::engine::found::FoundWith;
use zerocloud::engine::replica::{Action, Discrepancy, Replica, ReplicaError};
use zerocloud::folder::arriving::Arrivals;
use zerocloud::folder::serve::FolderChunks;
use zerocloud::folder::work::{Folder, FolderError, FolderParts, Publish};
use zerocloud::folder::{Forgetting, Message, Phase};
use zerocloud::home::Fingerprint;
use zerocloud::session::chunks::ChunkSource;
use zerocloud::space::AppendError;
use zerocloud::store::{Awaited, SpaceStore, StoreError, values};
use zerocloud::tree::materialise::Blocked;
use zerocloud::tree::scan::Reason;
use zerocloud::tree::versions::Retention;
use zerocloud::tree::{Inline, Keyring, TempNames};
use zerocloud::volume::Volume;
use zerocloud::watch::WatchEvent;
use zerocloud_crdt::id::{ActorId, DeviceId, FileId};
use zerocloud_crdt::log::{Frontier, LogRead};
use zerocloud_crdt::seal::Suite;
use zerocloud_crdt::wire::{Ask, Log};

pub use self::homes::Copying;
use super::clock::SimClock;
use super::disk::SimDisk;
use super::founding::Founding;
use super::supply::SimSupply;
use super::volume::{Crash, SimPerson, SimVolume};

/// How long after something failed as a whole a folder is opened again, as in a node.
const RESTART_DELAY: Duration = Duration::from_secs(3);
/// For how long users wait for what is said to be lost: by then it was asked for once more.
const LOSS_PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of a disk that is large enough for all.
pub const ROOMY: u64 = 1 << 30;

/// What the file system of a device can and can't do.
#[derive(Clone, Copy, Debug)]
pub struct FileSystem {
    /// Whether two names can be exchanged.
    pub has_exchange: bool,
    /// The least time that it can tell apart.
    pub granularity: Duration,
    /// Whether names are one that differ in case or Unicode form alone.
    pub folds_names: bool,
    /// The permission bits that every file shows, where it keeps none.
    pub fixed_mode: Option<u32>,
}

/// The space's log of one process.
struct SimLog {
    /// Held for one event.
    state: Mutex<LogState>,
    inbox: mpsc::Sender<Message>,
}

struct LogState {
    replica: Replica<Arc<SpaceStore>>,
    rng: ChaCha20Rng,
    sent: VecDeque<(DeviceId, Log)>,
}

type Heard = Result<(), ReplicaError<StoreError>>;

impl SimLog {
    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle<T>(&self, event: impl FnOnce(&mut LogState) -> T) -> T {
        let mut state = self.lock();
        let outcome = event(&mut state);
        while let Some(action) = state.replica.poll_action() {
            match action {
                Action::Send { peer, message } => state.sent.push_back((peer, message)),
                Action::Discrepancies => {}
                Action::Plan(items) => drop(self.inbox.send(Message::Plan(items))),
                Action::Refuse { peer } => panic!("{peer} is refused and is a member"),
                Action::Stopped => panic!("the space stopped: {:?}", state.replica.stop()),
            }
        }
        outcome
    }
}

impl Publish for SimLog {
    fn append(&self, all: Vec<FoundWith>) -> Result<Vec<Vec<FileId>>, AppendError> {
        let appended = self.handle(|LogState { replica, rng, .. }| replica.append(all, rng));
        appended.map_err(|error| match error {
            ReplicaError::Stopped(stop) => AppendError::Stopped(stop),
            error => AppendError::Failed(error.to_string()),
        })
    }

    fn set_materialised(&self, shown: Option<Frontier>) {
        // A store that fails is told by what is written next.
        let _ = self.handle(|state| state.replica.set_materialised(shown.as_ref()));
    }
}

/// What runs while a device is on.
struct Process {
    store: Arc<SpaceStore>,
    log: Arc<SimLog>,
    supply: Arc<SimSupply>,
    chunks: FolderChunks,
    inbox: mpsc::Sender<Message>,
    messages: mpsc::Receiver<Message>,
    parts: FolderParts,
    folder: Option<Folder<Inline>>,
    /// Until when a folder that failed is left alone.
    rest_until: Moment,
}

/// One device. See the module.
pub struct Device {
    number: u8,
    /// Which of the keys are its own: others each time that it joins.
    identity: u8,
    /// What its file system can do.
    pub file_system: FileSystem,
    /// Its files.
    pub volume: SimVolume,
    /// Whose files they are.
    pub person: SimPerson,
    /// Its time.
    pub clock: SimClock,
    founding: Arc<Founding>,
    /// Where its home lies.
    home: Fingerprint,
    disk: SimDisk,
    /// The home as it was some time ago.
    kept_home: Option<SimDisk>,
    /// Since when the user knows that no device has something.
    lost_since: Option<Moment>,
    /// Draws nonces and what a power loss leaves.
    rng: ChaCha8Rng,
    process: Option<Process>,
    /// How often its power came back.
    boot_count: u64,
    /// Why the folder was not kept, the last time that it was not.
    pub last_failure: Option<String>,
    /// How its watcher does.
    pub watching: Watching,
    /// Whether its watcher tells of a path once, whatever happened to it.
    pub coalesces: bool,
    /// Whether it merges texts.
    pub merges: bool,
}

/// How a watcher tells of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watching {
    /// At once.
    #[default]
    Tells,
    /// Only that there were some.
    LosesTrack,
    /// Not yet: they are told when it tells again.
    Waits,
    /// Not at all: a walk is to find them.
    Drops,
}

impl Device {
    /// A device that is off, with empty disks.
    pub fn new(founding: Arc<Founding>, number: u8, file_system: FileSystem, seed: u64) -> Self {
        // Apart, so that no two disks give one time to two edits of a file.
        let clock = SimClock::new(WallTime(1_700_000_000_000_000_000 + i64::from(number) * 1_000_000));
        let FileSystem { has_exchange, granularity, folds_names, fixed_mode } = file_system;
        let mut volume = SimVolume::new(Arc::new(clock.clone()), ROOMY).with_granularity(granularity);
        if !has_exchange {
            volume = volume.without_exchange();
        }
        if folds_names {
            volume = volume.folding_names();
        }
        if let Some(mode) = fixed_mode {
            volume = volume.with_fixed_mode(mode);
        }
        let rng = ChaCha8Rng::seed_from_u64(seed ^ (u64::from(number) << 56));
        let (person, disk) = (volume.person(), SimDisk::new(volume.clone()));
        Self {
            number,
            identity: number,
            file_system,
            volume,
            person,
            clock,
            founding,
            home: Fingerprint { machine: [number; 32], file_system: 1, inode: 1 },
            disk,
            kept_home: None,
            lost_since: None,
            rng,
            process: None,
            boot_count: 0,
            last_failure: None,
            watching: Watching::Tells,
            coalesces: false,
            merges: false,
        }
    }

    /// How its peers know it.
    pub fn id(&self) -> DeviceId {
        self.founding.keys[usize::from(self.identity)].id()
    }

    /// Starts the process. It may stop while it starts.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "a device is started twice");
        let seed = self.rng.next_u64();
        match self.open(seed) {
            Ok(process) => self.process = Some(process),
            Err(error) => assert!(self.volume.has_crashed(), "device {} can't start: {error}", self.number),
        }
    }

    fn open(&self, seed: u64) -> Result<Process, String> {
        let Founding { space, secret, records, .. } = &*self.founding;
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let nonce = rng.next_u64();
        let store = SpaceStore::with_backend(self.disk.clone(), *space).map_err(|error| error.to_string())?;
        let store = Arc::new(store);
        let identity = self.identity_in(&store, seed).map_err(|error| error.to_string())?;
        let actor = ActorId::of_log(*space, identity.log);
        let keyring = Arc::new(Keyring::new(secret, []));
        let (inbox, messages) = mpsc::channel();
        let (volume, clock) = (self.volume.clone(), Arc::new(self.clock.clone()));
        let open = Box::new(move || Ok(Arc::new(volume.clone()) as Arc<dyn Volume>));
        let suite = Suite::XChaCha20Poly1305;
        let (arrivals, timer) = (Arc::<Arrivals>::default(), clock.clone());
        let (inbox_of_chunks, offered) = (inbox.clone(), arrivals.clone());
        let chunks = FolderChunks::over(store.clone(), open, timer, keyring.clone(), suite, inbox_of_chunks, offered);
        let replica =
            Replica::open(store.clone(), records.clone(), identity, &mut rng).map_err(|error| error.to_string())?;
        let state = Mutex::new(LogState { replica, rng, sent: VecDeque::new() });
        let log = Arc::new(SimLog { state, inbox: inbox.clone() });
        let supply = Arc::new(SimSupply::new(self.id(), keyring.clone()));
        let parts = FolderParts {
            path: PathBuf::new(),
            store: store.clone(),
            log: log.clone(),
            supply: supply.clone(),
            arrivals,
            keyring,
            secrets: Arc::new([(secret.epoch, secret.clone())].into_iter().collect()),
            clock,
            retention: Retention::default(),
            merges: self.merges,
            guard: Guard::default(),
            scan_room: 1 + usize::from(nonce.to_le_bytes()[0]) % 6,
            is_confined: false,
            boot_id: self.boot_count.to_le_bytes().to_vec(),
            name_rules: None,
            names: Arc::new(TempNames::new(nonce)),
            device: self.id(),
            actor,
            listener: Arc::new(()),
        };
        let rest_until = Moment::default();
        Ok(Process { store, log, supply, chunks, inbox, messages, parts, folder: None, rest_until })
    }

    /// Whether the process runs.
    pub fn is_on(&self) -> bool {
        self.process.is_some() && !self.volume.has_crashed()
    }

    /// Takes the process away, as it is, and says what its disks have lost; [`start`](Self::start) comes next.
    pub fn stop(&mut self, crash: Crash) {
        self.process = None;
        self.boot_count += u64::from(crash == Crash::PowerLoss);
        self.volume.restart(crash);
        self.disk = self.disk.restart(crash, &mut self.rng);
    }

    /// Ends the process as a user does, with everything stored.
    pub fn close(&mut self) {
        if let Some(folder) = self.process.as_mut().and_then(|process| process.folder.as_mut()) {
            folder.close().unwrap();
        }
        self.stop(Crash::Killed);
    }

    /// A turn of the folder's thread: takes in what it was told, and does what is due. Says whether the process lives.
    pub fn turn(&mut self) -> bool {
        let Some(process) = &mut self.process else { return false };
        if let Err(error) = process.turn(&self.volume, self.clock.now()) {
            self.last_failure = Some(error.to_string());
            process.folder = None;
            process.rest_until = self.clock.now() + RESTART_DELAY;
        }
        !self.volume.has_crashed()
    }

    /// The kernel tells the folder what happened, as well as it does.
    pub fn watch(&self) {
        if self.watching == Watching::Waits {
            return;
        }
        let mut changes = self.volume.take_changes();
        if self.coalesces {
            let mut paths = BTreeSet::new();
            changes.reverse();
            changes.retain(|change| paths.insert(change.path.clone()));
            changes.reverse();
        }
        let Some(process) = &self.process else { return };
        let events = match self.watching {
            Watching::LosesTrack if !changes.is_empty() => vec![WatchEvent::Rescan],
            Watching::Waits | Watching::Drops | Watching::LosesTrack => Vec::new(),
            Watching::Tells => changes.into_iter().map(WatchEvent::Change).collect(),
        };
        events.into_iter().for_each(|event| process.tell(Message::Watch(event)));
    }

    /// Has everything scanned.
    pub fn rescan(&self) {
        if let Some(process) = &self.process {
            process.tell(Message::Rescan(tokio::sync::oneshot::channel().0));
        }
    }

    /// How many versions the device says that no device has.
    pub fn lost_count(&self) -> u64 {
        let folder = self.process.as_ref().and_then(|process| process.folder.as_ref());
        folder.map_or(0, |folder| folder.state().lacks.lost)
    }

    /// Whether the user knows for some time that no device has something, and can give it up.
    pub fn is_loss_old(&mut self) -> bool {
        let is_any = self.lost_count() > 0;
        let now = self.clock.now();
        self.lost_since = self.lost_since.filter(|_| is_any).or(is_any.then_some(now));
        self.lost_since.is_some_and(|since| now.since(since) >= LOSS_PATIENCE)
    }

    /// The user gives up what no device has any more, or what only members may have that are not here; says how
    /// much there was.
    pub fn forget(&self, is_awaited_too: bool) -> usize {
        let Some(process) = &self.process else { return 0 };
        let lacks = process.folder.as_ref().map(|folder| folder.state().lacks).unwrap_or_default();
        let count = lacks.lost + if is_awaited_too { lacks.awaited } else { 0 };
        if count > 0 {
            let done = tokio::sync::oneshot::channel().0;
            process.tell(Message::Forget(Box::new(Forgetting { path: Vec::new(), is_awaited_too, done })));
        }
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// The user goes on with what is here, where the folder waits for what a member knows who is not here; says whether it
    /// did.
    pub fn resume(&self) -> bool {
        let Some(process) = &self.process else { return false };
        let awaited = process.store.snapshot().and_then(|snapshot| snapshot.value(values::AWAITS_INDEX)).unwrap();
        let is_waiting = awaited.is_some();
        if is_waiting {
            process.store.write::<_, StoreError>(|write| write.set(values::AWAITS_INDEX, &Awaited::Nobody)).unwrap();
            process.tell(Message::Pause(false));
        }
        is_waiting
    }

    /// A peer is connected.
    pub fn connect(&self, peer: DeviceId) {
        let Some(process) = &self.process else { return };
        self.judge(process.log.handle(|state| state.replica.connect(peer)));
        process.supply.connect(peer);
        process.tell(Message::Connected);
    }

    /// A peer is not connected any more.
    pub fn disconnect(&self, peer: DeviceId) {
        let Some(process) = &self.process else { return };
        process.log.handle(|state| {
            state.sent.retain(|(to, _)| *to != peer);
            state.replica.disconnect(peer);
        });
        process.supply.disconnect(peer);
    }

    /// Takes out what is to be sent.
    pub fn sent(&self) -> VecDeque<(DeviceId, Log)> {
        self.process.as_ref().map(|process| std::mem::take(&mut process.log.lock().sent)).unwrap_or_default()
    }

    /// A message left for a peer.
    pub fn note_sent(&self, peer: DeviceId, entries_len: usize) {
        let Some(process) = &self.process else { return };
        self.judge(process.log.handle(|state| state.replica.handle_sent(peer, entries_len)));
    }

    /// A message came from a peer.
    pub fn hear(&self, peer: DeviceId, message: Log) {
        let Some(process) = &self.process else { return };
        self.judge(process.log.handle(|state| state.replica.handle_message(peer, message)));
    }

    fn judge(&self, heard: Heard) {
        if let Err(error) = heard {
            assert!(self.volume.has_crashed(), "device {}: {error}", self.number);
        }
    }

    /// What the device asks of others.
    pub fn supply(&self) -> Option<&SimSupply> {
        self.process.as_ref().map(|process| &*process.supply)
    }

    /// Answers a peer that asks for a chunk.
    pub fn sealed(&self, ask: &Ask) -> Result<Vec<u8>, Lack> {
        self.process.as_ref().ok_or(Lack::NotNow)?.chunks.sealed(ask)
    }

    /// When the folder has something to do by itself.
    pub fn timeout(&self) -> Option<Moment> {
        let process = self.process.as_ref()?;
        process.folder.as_ref().map_or(Some(process.rest_until), Folder::timeout)
    }

    /// What the folder does; `None` where it is not open.
    pub fn phase(&self) -> Option<Phase> {
        Some(self.process.as_ref()?.folder.as_ref()?.state().phase)
    }

    /// What the folder says of itself, for whoever looks for a fault.
    pub fn describe(&self) -> String {
        let state = self.process.as_ref().and_then(|process| process.folder.as_ref()).map(Folder::state);
        format!(
            "{state:?}, last failure {:?}, wants {:?}",
            self.last_failure,
            self.supply().map(zerocloud::fetcher::Supply::missing_count)
        )
    }

    /// What the process keeps in memory, and how many of each.
    pub fn kept_counts(&self) -> Vec<(&'static str, usize)> {
        let Some(process) = &self.process else { return Vec::new() };
        let folder = process.folder.iter().flat_map(Folder::kept_counts);
        let mut counts: Vec<(&'static str, usize)> = folder.collect();
        let log = process.log.lock();
        counts.extend(log.replica.kept_counts());
        counts.push(("messages being sent", log.sent.len()));
        counts
    }

    /// Files that are not as the view has them, and why.
    pub fn problem_count(&self) -> usize {
        let folder = self.process.as_ref().and_then(|process| process.folder.as_ref());
        folder.map_or(0, |folder| folder.state().problems.iter().filter(|(_, told)| !is_lasting(told)).count())
    }

    /// Whether something has no place here because of how its name is spelled.
    pub fn has_collisions(&self) -> bool {
        let folder = self.process.as_ref().and_then(|process| process.folder.as_ref());
        let reason = Blocked::Collides.to_string();
        folder.is_some_and(|folder| folder.state().problems.iter().any(|(_, told)| *told == reason))
    }

    /// Paths of files that lost their bytes to a power loss, where the folder has scanned whatever it knows of.
    pub fn lost_paths(&self) -> Vec<Vec<u8>> {
        let folder = self.process.as_ref().and_then(|process| process.folder.as_ref());
        let Some(state) = folder.map(Folder::state).filter(|state| state.phase != Phase::Scanning) else {
            return Vec::new();
        };
        let reason = Reason::Lost.to_string();
        let lost = state.problems.iter().filter(|(_, told)| *told == reason);
        lost.map(|(path, _)| path.as_bytes().to_vec()).collect()
    }

    /// The store, while the process runs.
    pub fn store(&self) -> Option<&SpaceStore> {
        self.process.as_ref().map(|process| &*process.store)
    }

    /// Which entries the device has.
    pub fn frontier(&self) -> Frontier {
        LogRead::frontier(&self.store().unwrap().snapshot().unwrap()).unwrap()
    }

    /// Of whom the device says that word and deeds differ.
    pub fn discrepancies(&self) -> BTreeMap<DeviceId, Discrepancy> {
        self.process.as_ref().map(|process| process.log.lock().replica.discrepancies()).unwrap_or_default()
    }
}

/// Whether a problem is one of names that stays until a user does something, and not of what the device should do.
fn is_lasting(told: &str) -> bool {
    told == Blocked::Collides.to_string() || is_of_hard_links(told)
}

/// Whether a problem is that a file has several names, which it keeps.
pub(crate) fn is_of_hard_links(told: &str) -> bool {
    /// Names of one file, at most as many as users give one.
    const LINK_COUNTS: std::ops::Range<u64> = 2..32;
    LINK_COUNTS.map(|count| Reason::HardLinked { count }).any(|reason| reason.to_string() == told)
}

impl Process {
    fn tell(&self, message: Message) {
        // Never closed before the process ends.
        drop(self.inbox.send(message));
    }

    fn turn(&mut self, volume: &SimVolume, now: Moment) -> Result<(), FolderError> {
        if self.folder.is_none() {
            if now < self.rest_until {
                // As in a node: what is told meanwhile is found by the scan and the plan at the start.
                while self.messages.try_recv().is_ok() {}
                return Ok(());
            }
            let opened = Folder::open(&self.parts, Arc::new(volume.opened()), self.inbox.clone(), Inline)?;
            self.folder = Some(opened);
        }
        let Some(folder) = &mut self.folder else { return Ok(()) };
        while let Ok(message) = self.messages.try_recv() {
            folder.handle(message);
        }
        folder.step()?;
        folder.tell_rescanned();
        Ok(())
    }
}
