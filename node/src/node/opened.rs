//! One space of this device: its store, and what keeps it the same as on its peers while a node runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Semaphore, broadcast};
use zerocloud_crdt::id::{ActorId, EpochId, Incarnation, SpaceId};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret};
use zerocloud_crdt::membership::Records;
use zerocloud_crdt::name::Name;

use crate::api::path::BytePath;
use crate::api::types::{Event, What};
use crate::api::{ApiError, ErrorKind};
use crate::clock::Clock;
use crate::config::{Config, Suite, Versions};
use crate::engine::replica::{Identity, Replica};
use crate::fetcher::Fetcher;
use crate::folder::arriving::Arrivals;
use crate::folder::serve::FolderChunks;
use crate::folder::work::telling::{FolderEvent, Listener};
use crate::folder::work::{FolderParts, SCAN_ROOM};
use crate::folder::{FolderHandle, Mailbox, Message};
use crate::home::{Home, Secrets};
use crate::random::system_rng;
use crate::space::SpaceHandle;
use crate::store::{Snapshot, SpaceStore, StoreError, values};
use crate::tree::versions::Retention;
use crate::tree::{Keyring, TempNames};

/// A space that is stored here.
pub(super) struct OpenSpace {
    pub(super) id: SpaceId,
    /// What it is called here.
    pub(super) name: Name,
    /// Its folder, absolute.
    pub(super) dir: PathBuf,
    pub(super) store: Arc<SpaceStore>,
    /// `None` where no node runs, or if it could not be begun.
    pub(super) running: Result<Running, String>,
}

/// What works on a space while a node runs.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) handle: SpaceHandle,
    pub(super) folder: FolderHandle,
    pub(super) fetcher: Fetcher,
    /// Bytes of sealed chunks that members were given since the start.
    pub(super) sent_len: Arc<AtomicU64>,
}

/// What all spaces of a node share.
pub(super) struct Surroundings {
    pub(super) home: Home,
    pub(super) config: Config,
    pub(super) keys: DeviceKeys,
    pub(super) clock: Arc<dyn Clock>,
    /// How many chunks are opened at a time.
    pub(super) opening: Arc<Semaphore>,
    /// What this device is called.
    pub(super) label: Name,
    /// Where is told what happens. Who is slow loses the oldest.
    pub(super) events: broadcast::Sender<Event>,
}

/// Hands a folder's events on to whoever reads the node's.
struct Events {
    /// What the space is called here.
    space: String,
    clock: Arc<dyn Clock>,
    events: broadcast::Sender<Event>,
}

impl Listener for Events {
    fn is_listening(&self) -> bool {
        self.events.receiver_count() > 0
    }

    fn tell(&self, event: FolderEvent) {
        let space = self.space.clone();
        let what = match event {
            FolderEvent::Path { path, change, to, device_name } => What::Path { space, path, change, to, device_name },
            FolderEvent::Conflict { copy } => What::Conflict { space, copy },
        };
        // The last reader may have gone.
        let _ = self.events.send(Event { time_ms: self.clock.wall_time().as_milliseconds(), what });
    }
}

/// Why a space can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OpenError {
    #[error("its store can't be used: {0}")]
    Store(#[from] StoreError),
    #[error("its store lacks what a space must have; join it again")]
    Incomplete,
    #[error("its membership records can't be used ({0}); update ZeroCloud, or join it again from another device")]
    Records(String),
    #[error("the secret of its current epoch is not in this home; join it again from another device")]
    NoSecret,
    #[error("it can't be begun ({0}); restart ZeroCloud, and update it if that does not help")]
    Replica(String),
    #[error("the system refuses ({0}); restart ZeroCloud, and see what `zerocloud doctor` finds")]
    System(#[from] std::io::Error),
    #[error("the system gives no random bytes ({0}); restart this machine")]
    Random(#[from] getrandom::Error),
}

impl From<OpenError> for ApiError {
    fn from(error: OpenError) -> Self {
        Self::of(ErrorKind::Failed, &error)
    }
}

impl OpenSpace {
    /// Opens the store of a space, and begins to work on it if `is_node`.
    pub(super) fn open(
        id: SpaceId,
        surroundings: &Surroundings,
        secrets: &Secrets,
        is_node: bool,
    ) -> Result<Self, OpenError> {
        let store = SpaceStore::open(&surroundings.home.store_path(id), id)?.with_clock(surroundings.clock.clone());
        let store = Arc::new(store);
        let snapshot = store.snapshot()?;
        let name = snapshot.value(values::NAME)?.ok_or(OpenError::Incomplete)?;
        let dir = snapshot.value(values::FOLDER)?.ok_or(OpenError::Incomplete)?;
        let dir = BytePath::from(dir).to_path();
        let running = if is_node {
            Running::start(id, &name, dir.clone(), store.clone(), surroundings, secrets).map_err(|error| {
                tracing::error!(space = %id, %error, "a space can't be worked on");
                error.to_string()
            })
        } else {
            Err("no node is running; `zerocloud start` runs it".to_owned())
        };
        Ok(Self { id, name, dir, store, running })
    }

    /// The same space, and what works on it from now on.
    pub(super) fn begin(&self, surroundings: &Surroundings, secrets: &Secrets) -> Result<Self, OpenError> {
        let Self { id, name, dir, store, .. } = self;
        let running = Running::start(*id, name, dir.clone(), store.clone(), surroundings, secrets)?;
        Ok(Self { id: *id, name: name.clone(), dir: dir.clone(), store: store.clone(), running: Ok(running) })
    }

    /// Whether the user paused it.
    pub(super) fn is_paused(&self) -> Result<bool, StoreError> {
        Ok(self.store.snapshot()?.value(values::PAUSED)?.unwrap_or(false))
    }
}

impl Running {
    fn start(
        id: SpaceId,
        name: &Name,
        dir: PathBuf,
        store: Arc<SpaceStore>,
        surroundings: &Surroundings,
        secrets: &Secrets,
    ) -> Result<Self, OpenError> {
        let snapshot = store.snapshot()?;
        let records = records_of(&snapshot, id)?;
        let secrets: BTreeMap<EpochId, EpochSecret> =
            secrets.epochs(id).map(|(epoch, secret)| (epoch, EpochSecret::new(id, epoch, secret.clone()))).collect();
        let epoch = records.epoch().map_err(|error| OpenError::Records(error.to_string()))?;
        let current = secrets.get(&epoch).ok_or(OpenError::NoSecret)?;
        let keyring = Arc::new(Keyring::new(current, secrets.values()));
        let history = Arc::new(secrets.clone());
        let identity = identity(&store, surroundings, secrets)?;
        let actor = ActorId::of_log(id, identity.log);
        let is_paused = snapshot.value(values::PAUSED)?.unwrap_or(false);
        drop(snapshot);

        let mailbox = Mailbox::new();
        let suite = match surroundings.config.suite {
            Suite::Auto => zerocloud_crdt::seal::Suite::fastest(),
            Suite::One => zerocloud_crdt::seal::Suite::XChaCha20Poly1305,
            Suite::Two => zerocloud_crdt::seal::Suite::Aes256Gcm,
        };
        let arrivals = Arc::<Arrivals>::default();
        let (to_folder, offered) = (mailbox.sender(), arrivals.clone());
        let chunks = FolderChunks::new(store.clone(), dir.clone(), keyring.clone(), suite, to_folder, offered);
        let sent_len = chunks.sent_len();
        let mut rng = system_rng()?;
        let replica = Replica::open(store.clone(), records, identity, &mut rng)
            .map_err(|error| OpenError::Replica(error.to_string()))?;
        let to_folder = std::sync::Mutex::new(mailbox.sender());
        let plan = move |items| {
            // A folder that has ended plans nothing more.
            let to_folder = to_folder.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            drop(to_folder.send(Message::Plan(items)));
        };
        let handle = SpaceHandle::start(id, move || (replica, rng), Arc::new(chunks), plan)?;
        let runtime = tokio::runtime::Handle::current();
        let fetcher =
            Fetcher::start(id, surroundings.keys.id(), keyring.clone(), surroundings.opening.clone(), runtime);
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce)?;
        let parts = FolderParts {
            path: dir,
            store,
            log: Arc::new(handle.clone()),
            supply: Arc::new(fetcher.clone()),
            arrivals,
            keyring,
            secrets: history,
            clock: surroundings.clock.clone(),
            retention: match surroundings.config.versions {
                Versions::None => Retention::None,
                Versions::KeepDays(days) => Retention::KeepDays(u32::from(days)),
                Versions::Staggered => Retention::Staggered,
            },
            merges: surroundings.config.merge,
            guard: surroundings.config.guard,
            scan_room: SCAN_ROOM,
            is_confined: surroundings.config.landlock,
            boot_id: crate::clock::boot_id(),
            name_rules: surroundings.config.names.rules(),
            names: Arc::new(TempNames::new(u64::from_le_bytes(nonce))),
            device: surroundings.keys.id(),
            actor,
            listener: Arc::new(Events {
                space: super::show(name),
                clock: surroundings.clock.clone(),
                events: surroundings.events.clone(),
            }),
        };
        let folder = FolderHandle::start(parts, mailbox, is_paused)?;
        Ok(Self { handle, folder, fetcher, sent_len })
    }
}

/// The records that a store has, verified again.
pub(super) fn records_of(snapshot: &Snapshot, id: SpaceId) -> Result<Records, OpenError> {
    let mut stored = snapshot.records()?.into_iter().map(|(_, bytes)| bytes);
    let genesis = stored.next().ok_or(OpenError::Incomplete)?;
    let mut records = Records::new(id, &genesis).map_err(|error| OpenError::Records(error.to_string()))?;
    for bytes in stored {
        records.insert(&bytes).map_err(|error| OpenError::Records(error.to_string()))?;
    }
    Ok(records)
}

/// What this device writes as, in a space.
fn identity(
    store: &SpaceStore,
    surroundings: &Surroundings,
    secrets: BTreeMap<EpochId, EpochSecret>,
) -> Result<Identity, OpenError> {
    let author = surroundings.keys.id();
    let fingerprint = surroundings.home.fingerprint()?;
    let mut fresh = Incarnation([0; 8]);
    getrandom::fill(&mut fresh.0)?;
    let label = &surroundings.label;
    let (log, start) = store.write::<_, StoreError>(|write| write.take_up_log(author, fingerprint, label, fresh))?;
    Ok(Identity { keys: surroundings.keys.clone(), log, start, secrets })
}
