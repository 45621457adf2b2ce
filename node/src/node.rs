//! A node at work: its spaces, its link and its peers, behind the local API.
//!
//! Here live the node as a whole and [`Backend`]'s methods, each a few lines that call one of the children: opening a
//! space (`opened`), making and removing one (`spaces`), who comes and goes (`meeting`), what goes on (`status`),
//! what is wrong (`diagnosing`), bringing older versions back (`restoring`), where devices are (`whereabouts`). What a command that only reads answers is in [`crate::answers`].

mod diagnosing;
mod forgetting;
mod meeting;
pub(crate) mod opened;
mod restoring;
mod retrying;
mod rewinding;
mod rounds;
mod selecting;
mod spaces;
mod status;
mod whereabouts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use zerocloud_crdt::id::SpaceId;
use zerocloud_crdt::name::Name;

use self::meeting::Meeting;
use self::opened::{OpenError, OpenSpace, Running, Surroundings};
use crate::answers;
use crate::api::target::{Candidate, Resolved, Target};
use crate::api::types::*;
use crate::api::{ApiError, Backend, ErrorKind, Progress};
use crate::clock::{Clock, SystemClock};
use crate::daemon::{Mode, Setup};
use crate::home::{HomeLock, Secrets, device_name_default};
use crate::session::Spaces;
use crate::store::StoreError;

/// Events that wait for a reader before it misses some.
const EVENT_COUNT_MAX: usize = 1_024;
/// How often `sync --wait` looks whether all agree.
const AGREEMENT_INTERVAL: Duration = Duration::from_millis(20);

/// A node. See the module.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    surroundings: Surroundings,
    mode: Mode,
    /// Held as long as the node lives.
    _lock: HomeLock,
    secrets: Mutex<Secrets>,
    spaces: Mutex<BTreeMap<SpaceId, Arc<OpenSpace>>>,
    /// Stores that can't be opened, and why.
    broken: Mutex<BTreeMap<SpaceId, OpenError>>,
    /// The spaces as sessions see them.
    sessions: Spaces,
    meeting: Option<Meeting>,
    shutdown: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::new(
            ErrorKind::Failed,
            format!("the space's store failed: {error}"),
            "`zerocloud doctor` looks at the disk",
        )
    }
}

/// A failure of which nothing is known but its text.
fn failed(error: impl std::fmt::Display) -> ApiError {
    let hint = "`zerocloud doctor` looks for the cause; if it finds none, restart the node and try again";
    ApiError::new(ErrorKind::Failed, error.to_string(), hint)
}

impl Shared {
    fn tell(&self, what: What) {
        let time_ms = self.surroundings.clock.wall_time().as_milliseconds();
        // Nobody may be listening.
        let _ = self.surroundings.events.send(Event { time_ms, what });
    }

    fn all(&self) -> Vec<Arc<OpenSpace>> {
        let mut all: Vec<_> = lock(&self.spaces).values().cloned().collect();
        all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        all
    }

    fn space(&self, id: SpaceId) -> Option<Arc<OpenSpace>> {
        lock(&self.spaces).get(&id).cloned()
    }

    /// What a user means by a space or a path in one.
    fn resolve(&self, target: &Target) -> Result<(Arc<OpenSpace>, Vec<Vec<u8>>), ApiError> {
        let all = self.all();
        let names: Vec<String> = all.iter().map(|space| show(&space.name)).collect();
        let candidates: Vec<_> =
            all.iter().zip(&names).map(|(space, name)| Candidate { id: space.id, name, dir: &space.dir }).collect();
        let Resolved { space, path } = target.resolve(&candidates)?;
        let space = all.into_iter().find(|open| open.id == space);
        Ok((space.ok_or_else(|| failed("the space was removed"))?, path))
    }

    fn some(&self, target: Option<&Target>) -> Result<Vec<Arc<OpenSpace>>, ApiError> {
        match target {
            Some(target) => Ok(vec![self.resolve(target)?.0]),
            None => Ok(self.all()),
        }
    }

    /// Works on a space from now on.
    fn insert(&self, space: OpenSpace) -> Arc<OpenSpace> {
        let space = Arc::new(space);
        // First here: who is told by the sessions that a space has come looks for it here, and a member may be connected.
        lock(&self.spaces).insert(space.id, space.clone());
        self.welcome(&space);
        space
    }

    /// Lets sessions work on a space, if anything does.
    fn welcome(&self, space: &OpenSpace) {
        let Ok(running) = &space.running else { return };
        if let Err(error) = self.recall_addresses(space) {
            tracing::warn!(space = %space.id, %error, "where its members were last can't be read");
        }
        self.sessions.insert(running.handle.clone());
    }
}

/// A name as text: bytes that are no UTF-8 are shown as such.
fn show(name: &Name) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

impl OpenSpace {
    fn running(&self) -> Result<&Running, ApiError> {
        self.running.as_ref().map_err(|reason| failed(format!("the space can't be worked on: {reason}")))
    }
}

impl Backend for Node {
    async fn open(setup: Setup) -> Result<Self, ApiError> {
        let Setup { home, lock: home_lock, config, secrets, mode, shutdown, .. } = setup;
        let label = config.name.clone().unwrap_or_else(device_name_default);
        let label = Name::parse(label.as_bytes()).map_err(|error| {
            let message = format!("this device can't be called that: {error}");
            ApiError::new(ErrorKind::Invalid, message, "choose another `name` in config.toml")
        })?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let keys = secrets.device_keys();
        let opening = Arc::new(Semaphore::new(cores));
        let events = broadcast::channel(EVENT_COUNT_MAX).0;
        let surroundings = Surroundings { home, config, keys, clock, opening, label, events };
        let (mut spaces, mut broken) = (Vec::new(), BTreeMap::new());
        for id in surroundings.home.stored_spaces().map_err(failed)? {
            match OpenSpace::open(id, &surroundings, &secrets, mode == Mode::Node) {
                Ok(space) => spaces.push(space),
                Err(error) => {
                    tracing::error!(space = %id, %error, "a space can't be opened");
                    broken.insert(id, error);
                }
            }
        }
        let sessions = Spaces::default();
        let meeting = match mode {
            Mode::Node => Meeting::open(&surroundings).await?,
            Mode::Offline => None,
        };
        let shared = Arc::new(Shared {
            surroundings,
            mode,
            _lock: home_lock,
            secrets: Mutex::new(secrets),
            spaces: Mutex::default(),
            broken: Mutex::new(broken),
            sessions,
            meeting,
            shutdown,
        });
        for space in spaces {
            let space = shared.insert(space);
            shared.follow(&space);
        }
        meeting::begin(&shared)?;
        if mode == Mode::Node {
            tokio::spawn(rounds::count_rounds(Arc::downgrade(&shared), shared.shutdown.clone()));
            tokio::spawn(retrying::keep_trying(Arc::downgrade(&shared), shared.shutdown.clone()));
        }
        Ok(Self { shared })
    }

    async fn close(&self) {
        let all = self.shared.all();
        meeting::note_where_we_are(&self.shared);
        let stops = all.iter().filter_map(|space| space.running.as_ref().ok()).map(|running| running.folder.stop());
        for stop in stops {
            stop.await;
        }
        meeting::end(&self.shared).await;
        for space in &all {
            self.shared.sessions.remove(space.id);
        }
        lock(&self.shared.spaces).clear();
    }

    async fn status(&self, _: StatusRequest) -> Result<Status, ApiError> {
        self.shared.status().await
    }

    async fn add_space(&self, request: AddSpace) -> Result<Space, ApiError> {
        let shared = self.shared.clone();
        on_disk(move || shared.add_space(&request)).await
    }

    async fn list_spaces(&self, _: ListSpaces) -> Result<SpaceList, ApiError> {
        let spaces = self.shared.all().iter().map(|space| self.shared.describe(space)).collect::<Result<_, _>>()?;
        Ok(SpaceList { spaces })
    }

    async fn remove_space(&self, request: RemoveSpace) -> Result<Space, ApiError> {
        self.shared.remove_space(&request).await
    }

    async fn pause_space(&self, request: PauseSpace) -> Result<Space, ApiError> {
        self.shared.pause(&request.space, true)
    }

    async fn resume_space(&self, request: ResumeSpace) -> Result<Space, ApiError> {
        self.shared.pause(&request.space, false)
    }

    async fn invite(&self, request: Invite) -> Result<Invitation, ApiError> {
        self.shared.invite(&request).await
    }

    async fn confirm_pairing(&self, request: ConfirmPairing) -> Result<Done, ApiError> {
        self.shared.confirm_pairing(&request)
    }

    async fn join(&self, request: Join, progress: Progress) -> Result<Space, ApiError> {
        self.shared.join(request, progress).await
    }

    async fn list_members(&self, request: ListMembers) -> Result<MemberList, ApiError> {
        let (space, _) = self.shared.resolve(&request.space)?;
        let snapshot = space.store.snapshot()?;
        let records = opened::records_of(&snapshot, space.id)?;
        answers::members::members(&snapshot, &records, self.shared.surroundings.keys.id())
    }

    async fn sync(&self, request: SyncSpaces, progress: Progress) -> Result<SyncReport, ApiError> {
        self.shared.sync(&request, progress).await
    }

    async fn list(&self, request: List) -> Result<Listing, ApiError> {
        let (space, path) = self.shared.resolve(&request.target)?;
        on_disk(move || answers::list::list(&space.store.snapshot()?, &path)).await
    }

    async fn history(&self, request: History) -> Result<VersionList, ApiError> {
        self.shared.history(&request).await
    }

    async fn restore(&self, request: Restore, progress: Progress) -> Result<Restored, ApiError> {
        self.shared.restore(request, progress).await
    }

    async fn select(&self, request: Select) -> Result<Selection, ApiError> {
        self.shared.select(&request).await
    }

    async fn forget(&self, request: Forget) -> Result<Forgotten, ApiError> {
        self.shared.forget(&request).await
    }

    async fn conflicts(&self, request: ListConflicts) -> Result<ConflictList, ApiError> {
        let mut conflicts = Vec::new();
        for space in self.shared.some(request.space.as_ref())? {
            conflicts.extend(answers::conflicts::conflicts(&space.store.snapshot()?, &show(&space.name))?);
        }
        Ok(ConflictList { conflicts })
    }

    async fn held(&self, request: Held) -> Result<HeldList, ApiError> {
        self.shared.held(&request).await
    }

    async fn prune(&self, request: Prune) -> Result<Pruned, ApiError> {
        self.shared.prune(&request).await
    }

    async fn doctor(&self, _: Doctor) -> Result<Diagnosis, ApiError> {
        self.shared.doctor().await
    }

    async fn recovery_words(&self, _: ShowRecovery) -> Result<RecoveryWords, ApiError> {
        let words = lock(&self.shared.secrets).recovery_words();
        let words = words.map(|words| words.split(' ').map(str::to_owned).collect());
        words.map(|words| RecoveryWords { words }).ok_or_else(|| {
            ApiError::new(
                ErrorKind::NotFound,
                "the recovery words were confirmed and have left this device",
                "look for the paper that you wrote them on",
            )
        })
    }

    async fn confirm_recovery(&self, _: ConfirmRecovery) -> Result<Done, ApiError> {
        self.shared.confirm_recovery()
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.surroundings.events.subscribe()
    }
}

/// Runs what blocks on the disk beside the tasks that must not.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(failed)?
}
