//! Asks members for chunks: drives [`crate::engine::fetch`] over chunk streams, opens what comes, and hands the
//! plaintext to whoever wants it.
//!
//! Which chunk to ask of whom is decided there; what becomes of the bytes, by the receiver of the job. Here are the
//! streams, the keys, and the threads on which chunks are opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use zerocloud_crdt::id::{DeviceId, SpaceId};
use zerocloud_crdt::mutated;
use zerocloud_crdt::seal::{OpenError, Opener};
use zerocloud_crdt::wire::Request;

use crate::engine::fetch::{Fetch, JobId, Lack, NotAsked, Want};
use crate::link::{CloseCode, Conn};
use crate::session::SessionError;
use crate::session::chunks::{Answered, ChunkStream};
use crate::tree::Keyring;

/// Streams to a peer that is near: one keeps a core busy, the second fills its pauses.
const NEAR_STREAM_COUNT: usize = 2;
/// Streams to a peer that is far: a window for each, because a stream's can't be made larger.
const FAR_STREAM_COUNT: usize = 8;
/// Streams to a peer that all spaces shared with it may have together. A connection has room for more, but a space that
/// comes later has to find some.
const STREAM_COUNT_MAX: usize = 64;
/// From this round trip on a peer is far.
const FAR_ROUND_TRIP: Duration = Duration::from_millis(5);
/// How long after its streams ended a peer that is still connected is asked again.
const AGAIN_DELAY: Duration = Duration::from_secs(2);
/// A peer that was asked and of which nothing comes for so long is not asked for a while: others are. A disk that has to
/// wake up takes a third of it. Tests of this crate have no time.
const SILENCE_LIMIT: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 30 });
/// In how many steps that is looked at.
const SILENCE_LOOK_COUNT: u32 = 6;
/// How often the delay doubles for a peer that is silent each time it is asked: to 17 minutes.
const SILENCE_DOUBLING_COUNT_MAX: u32 = 9;

/// Who wants the chunks of a job. Called on a thread that may block, at the same time for several chunks.
pub trait Receiver: Send + Sync {
    /// One of the wants, opened: the plaintext is what its members named.
    fn receive(&self, want: &Want, plaintext: &[u8]);
    /// Nobody who is connected gives one of them; `deniers` do not have it. The job was taken out; chunks that are on their
    /// way are not given.
    fn give_up(&self, deniers: &BTreeSet<DeviceId>);
}

/// Where chunks come from that are not on this disk.
pub trait Supply: Send + Sync {
    /// Asks for `wants`, each once, and gives them to `receiver`.
    fn add(&self, job: JobId, wants: Vec<Want>, receiver: Arc<dyn Receiver>);
    /// Takes a job out.
    fn remove(&self, job: JobId);
    /// How many chunks and pages are still to come.
    fn missing_count(&self) -> usize;
    /// Whether there is anybody to ask.
    fn has_members(&self) -> bool;
}

/// Fetches the chunks of one space. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<Shared>,
}

struct Shared {
    space: SpaceId,
    keyring: Arc<Keyring>,
    state: Mutex<State>,
    /// Something can be asked for.
    wake: Notify,
    /// Shared by all spaces: as many chunks are opened at a time as there are cores.
    opening: Arc<Semaphore>,
    runtime: Handle,
}

struct State {
    fetch: Fetch,
    receivers: BTreeMap<JobId, Arc<dyn Receiver>>,
    peers: BTreeMap<DeviceId, PeerStreams>,
    /// Connections on which streams are, or are about to be.
    conns: Vec<Conn>,
    /// Bytes of plaintext that came since the start.
    received_len: u64,
}

struct PeerStreams {
    conn: Conn,
    requests: Vec<mpsc::Sender<Request>>,
    next: usize,
}

impl Fetcher {
    /// A fetcher without peers, of the device `us`. `opening` bounds how many chunks are opened at a time.
    pub fn start(
        space: SpaceId,
        us: DeviceId,
        keyring: Arc<Keyring>,
        opening: Arc<Semaphore>,
        runtime: Handle,
    ) -> Self {
        let (fetch, receivers, peers) = (Fetch::new(us), BTreeMap::new(), BTreeMap::new());
        let state = Mutex::new(State { fetch, receivers, peers, conns: Vec::new(), received_len: 0 });
        let shared = Arc::new(Shared { space, keyring, state, wake: Notify::new(), opening, runtime });
        let weak = Arc::downgrade(&shared);
        shared.runtime.spawn(async move {
            // Ends with the last handle on the fetcher.
            while let Some(shared) = weak.upgrade() {
                shared.ask().await;
                let waited = shared.wake.notified();
                // Looked at again now and then, so that this task does not keep a fetcher alive that nobody holds.
                let _ = tokio::time::timeout(Duration::from_secs(10), waited).await;
            }
        });
        Self { shared }
    }

    /// A member is connected: it is asked from now on, until the connection ends. Says whether that is news. `space_count`:
    /// how many spaces may ask it on this connection.
    pub fn connect(&self, conn: Conn, space_count: usize) -> bool {
        {
            let mut state = self.shared.lock();
            state.conns.retain(|known| known.close_reason().is_none());
            if state.conns.iter().any(|known| known.is_same(&conn)) {
                return false;
            }
            state.conns.push(conn.clone());
        }
        let weak = Arc::downgrade(&self.shared);
        self.shared.runtime.spawn(async move {
            let mut silence_count = 0;
            while let Some(shared) = weak.upgrade()
                && conn.close_reason().is_none()
            {
                let pulse = Arc::<Pulse>::default();
                let Ok(answers) = shared.open_streams(&conn, space_count, &pulse).await else { return };
                drop(shared);
                let mut taking = JoinSet::new();
                for answers in answers {
                    taking.spawn(take_answers(weak.clone(), conn.clone(), answers, pulse.clone()));
                }
                // The streams of a connection end together: one that ended takes the others along.
                let is_silent = tokio::select! {
                    _ = taking.join_next() => false,
                    () = silence(&weak, conn.peer(), &pulse) => true,
                };
                drop(taking);
                silence_count = if is_silent { silence_count + 1 } else { 0 };
                if is_silent {
                    tracing::warn!(peer = %conn.peer(), "a peer does not answer; others are asked");
                }
                // Another connection took its place.
                if !weak.upgrade().is_some_and(|shared| shared.disconnect(&conn)) {
                    return;
                }
                // A peer that does not yet know us as a member ends the streams; it will by then.
                tokio::time::sleep(AGAIN_DELAY * 2_u32.pow(silence_count.min(SILENCE_DOUBLING_COUNT_MAX))).await;
            }
        });
        true
    }

    /// How much content came from members since the start, in bytes.
    pub fn received_len(&self) -> u64 {
        self.shared.lock().received_len
    }
}

impl Supply for Fetcher {
    fn add(&self, job: JobId, wants: Vec<Want>, receiver: Arc<dyn Receiver>) {
        {
            let mut state = self.shared.lock();
            state.receivers.insert(job, receiver);
            state.fetch.add_job(job, wants);
        }
        self.shared.wake.notify_one();
    }

    fn remove(&self, job: JobId) {
        let mut state = self.shared.lock();
        state.fetch.remove_job(job);
        state.receivers.remove(&job);
    }

    fn missing_count(&self) -> usize {
        self.shared.lock().fetch.missing_count()
    }

    fn has_members(&self) -> bool {
        !self.shared.lock().peers.is_empty()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens streams to a peer, which is asked on them from then on.
    async fn open_streams(
        &self,
        conn: &Conn,
        space_count: usize,
        pulse: &Pulse,
    ) -> Result<Vec<mpsc::Receiver<Vec<Answered>>>, SessionError> {
        let is_far = conn.path().is_some_and(|path| path.round_trip >= FAR_ROUND_TRIP);
        let count = if is_far { FAR_STREAM_COUNT } else { NEAR_STREAM_COUNT };
        let count = count.min(STREAM_COUNT_MAX / space_count.max(1)).max(1);
        let (mut requests, mut answers) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for _ in 0..count {
            let (sender, receiver) =
                ChunkStream::open_counted(conn, self.space, pulse.came_count.clone()).await?.split();
            requests.push(sender);
            answers.push(receiver);
        }
        let peer = conn.peer();
        let mut state = self.lock();
        if state.peers.insert(peer, PeerStreams { conn: conn.clone(), requests, next: 0 }).is_some() {
            state.fetch.disconnect(peer);
        }
        state.fetch.connect(peer);
        drop(state);
        self.wake.notify_one();
        Ok(answers)
    }

    /// Sends requests as long as there is something to ask for and somebody to ask.
    async fn ask(&self) {
        loop {
            let next = self.lock().next_request();
            let Some((sender, request)) = next else { return };
            // A stream that has ended is told by its reader, and what was asked of it is asked again.
            let _ = sender.send(request).await;
        }
    }

    /// Forgets a connection; says whether it was the one that was asked.
    fn disconnect(&self, conn: &Conn) -> bool {
        let mut state = self.lock();
        let is_asked = state.peers.get(&conn.peer()).is_some_and(|peer| peer.conn.is_same(conn));
        if is_asked {
            state.peers.remove(&conn.peer());
            state.fetch.disconnect(conn.peer());
        }
        let given_up = state.given_up();
        drop(state);
        given_up.iter().for_each(|(receiver, deniers)| receiver.give_up(deniers));
        self.wake.notify_one();
        is_asked
    }

    /// Opens one answer and gives it to those who want it.
    fn take(&self, peer: DeviceId, answered: Answered, opening: &mut StreamOpener) -> Result<(), NotAsked> {
        let Answered { ask, sealed } = answered;
        let want = self.lock().fetch.asked(peer, ask)?;
        let keys = self.keyring.keys_of(want.what, &want.epoch);
        let StreamOpener { opener, plaintext } = opening;
        let opened = sealed.and_then(|sealed| {
            opener.open_into(keys.ok_or(Lack::Missing)?, &want.id, &sealed, plaintext).map_err(|error| {
                tracing::warn!(space = %self.space, %peer, %error, "a peer's chunk is not what was asked for");
                // The same for every cause, so that the peer learns nothing of it.
                let is_told = mutated!(TellingOpening) && matches!(error, OpenError::NotAuthentic { .. });
                if is_told { Lack::NotNow } else { Lack::Missing }
            })
        });
        match opened {
            Ok(()) => {
                let receivers = self.lock().arrived(peer, ask, plaintext.len() as u64)?;
                for receiver in receivers {
                    receiver.receive(&want, plaintext);
                }
            }
            Err(lack) => {
                tracing::debug!(space = %self.space, %peer, chunk = ?want.id, ?lack, "a peer does not give a chunk");
                let given_up = self.lock().lacked(peer, ask, lack)?;
                given_up.iter().for_each(|(receiver, deniers)| receiver.give_up(deniers));
            }
        }
        Ok(())
    }
}

/// What chunks of one stream are opened with, one after the other.
#[derive(Default)]
struct StreamOpener {
    opener: Opener,
    /// Of the chunk that was opened last: its memory is used again.
    plaintext: Vec<u8>,
}

/// Whose job nobody can do, and who said to have nothing of it.
type GivenUp = (Arc<dyn Receiver>, BTreeSet<DeviceId>);

impl State {
    fn next_request(&mut self) -> Option<(mpsc::Sender<Request>, Request)> {
        let (peer, request) = self.fetch.poll_request()?;
        let streams = self.peers.get_mut(&peer)?;
        streams.next = (streams.next + 1) % streams.requests.len().max(1);
        Some((streams.requests.get(streams.next)?.clone(), request))
    }

    /// A chunk is there: who wants it.
    fn arrived(&mut self, peer: DeviceId, ask: u64, len: u64) -> Result<Vec<Arc<dyn Receiver>>, NotAsked> {
        let jobs = self.fetch.handle_chunk(peer, ask)?.jobs;
        self.received_len += len;
        let receivers = jobs.iter().filter_map(|job| self.receivers.get(job).cloned()).collect();
        for job in jobs {
            if self.fetch.is_complete(job) {
                self.fetch.remove_job(job);
                self.receivers.remove(&job);
            }
        }
        Ok(receivers)
    }

    /// A peer does not give a chunk: whose job nobody can do, and who has nothing of it.
    fn lacked(&mut self, peer: DeviceId, ask: u64, lack: Lack) -> Result<Vec<GivenUp>, NotAsked> {
        self.fetch.handle_missing(peer, ask, lack)?;
        Ok(self.given_up())
    }

    /// Whose job nobody can do who is connected, and who has nothing of it.
    fn given_up(&mut self) -> Vec<GivenUp> {
        let starved = self.fetch.take_starved().into_iter();
        starved.filter_map(|(job, deniers)| Some((self.receivers.remove(&job)?, deniers))).collect()
    }
}

/// Whether something goes on with a peer, over all streams to it.
#[derive(Debug, Default)]
struct Pulse {
    /// Counts up when bytes come.
    came_count: Arc<AtomicU64>,
    /// Frames of answers that are being opened: while we are busy ourselves, nothing is read.
    opening_count: AtomicUsize,
}

/// Waits until a peer that owes answers was silent for too long.
async fn silence(shared: &Weak<Shared>, peer: DeviceId, pulse: &Pulse) {
    let (mut before, mut silent_count) = (0, 0);
    while silent_count < SILENCE_LOOK_COUNT || mutated!(AwaitedSilence) {
        tokio::time::sleep(SILENCE_LIMIT / SILENCE_LOOK_COUNT).await;
        let Some(shared) = shared.upgrade() else { return };
        let came = pulse.came_count.load(Ordering::Relaxed);
        let is_busy = came != before || pulse.opening_count.load(Ordering::Relaxed) > 0;
        silent_count = if is_busy || !shared.lock().fetch.is_owing(peer) { 0 } else { silent_count + 1 };
        before = came;
    }
}

/// Opens what comes on one stream until it ends.
async fn take_answers(shared: Weak<Shared>, conn: Conn, mut answers: mpsc::Receiver<Vec<Answered>>, pulse: Arc<Pulse>) {
    let mut opening = StreamOpener::default();
    while let Some(taken) = answers.recv().await {
        pulse.opening_count.fetch_add(1, Ordering::Relaxed);
        let Some(shared) = shared.upgrade() else { return };
        let Ok(permit) = shared.opening.clone().acquire_owned().await else { return };
        let (peer, sharing) = (conn.peer(), shared.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            for answered in taken {
                sharing.take(peer, answered, &mut opening)?;
            }
            Ok::<_, NotAsked>(opening)
        });
        match opened.await {
            Ok(Ok(back)) => opening = back,
            Ok(Err(error)) => return conn.close(CloseCode::Violation, &error.to_string()),
            Err(panic) => return tracing::error!(%panic, "opening a chunk failed"),
        }
        pulse.opening_count.fetch_sub(1, Ordering::Relaxed);
        shared.wake.notify_one();
    }
}

#[cfg(test)]
mod tests;
