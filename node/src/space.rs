//! A space at work: the thread that owns its replica, and the handle by which the rest of the node speaks to it.
//!
//! The replica decides; this thread hands it events one after the other, commits through its store and gives what it
//! wants to say to the sessions. It waits for nothing but the next event.

mod outgoing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use zerocloud_crdt::id::{DeviceId, FileId, SpaceId};
use zerocloud_crdt::log::Frontier;
use zerocloud_crdt::membership::{Introduction, Role};
use zerocloud_crdt::pairing::Welcome;
use zerocloud_crdt::wire;

use crate::engine::found::FoundWith;
use crate::engine::replica::{Action, Discrepancy, Replica, ReplicaError, Stop};
use crate::engine::shelf::Shelf;
use crate::link::{CloseCode, Conn};
use crate::session::chunks::ChunkSource;

pub(crate) use outgoing::{Outgoing, outgoing};

/// Events that wait for the space's thread, before whoever sends them waits, too.
const EVENT_COUNT_MAX: usize = 256;

/// Names one connection's stream for one space: a later one to the same peer is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// What is asked of a space at one moment.
type Look = Box<dyn FnOnce(&dyn Facts) + Send>;

/// Something that a space is told.
pub(crate) enum Event {
    /// A log stream to a peer is open.
    Opened {
        /// Which one.
        session: SessionId,
        /// Its connection, to be closed if the peer breaks the rules.
        conn: Conn,
        /// Where to say things.
        outgoing: Outgoing,
    },
    /// A message came.
    Message {
        /// On which stream.
        session: SessionId,
        /// What.
        message: wire::Log,
        /// Given back when it was handled: bounds how many of one stream are held.
        turn: OwnedSemaphorePermit,
    },
    /// A message left.
    Sent {
        /// On which stream.
        session: SessionId,
        /// Bytes of entries in it.
        entries_len: usize,
    },
    /// A log stream ended.
    Closed {
        /// Which one.
        session: SessionId,
    },
    /// The folder found something.
    Found {
        /// What.
        all: Vec<FoundWith>,
        /// Whether it was written, and the ids of what was sighted.
        done: oneshot::Sender<Result<Vec<Vec<FileId>>, AppendError>>,
    },
    /// What the tree shows.
    Materialised {
        /// Everything up to here; `None`: not everything.
        shown: Option<Frontier>,
    },
    /// A device is to be let in.
    Admit {
        /// What it says of itself.
        introduction: Box<Introduction>,
        /// Whether it is a device of our own person.
        is_own: bool,
        /// What it may do.
        role: Role,
        /// What to answer it, once its record is durable.
        done: oneshot::Sender<Result<Welcome, String>>,
    },
    /// A round has passed: see [`Replica::handle_round`].
    Round,
    /// Asks what can be asked of the replica at one moment.
    Look(Look),
}

/// What can be asked of a space at one moment.
pub trait Facts {
    /// Why it stopped, if it did.
    fn stop(&self) -> Option<Stop>;
    /// Whether this device's tree shows all entries that are here.
    fn is_materialised(&self) -> bool;
    /// Whether a peer has the same entries, and its tree shows them.
    fn is_in_sync(&self, peer: DeviceId) -> bool;
    /// Whether the space is spoken of with a peer: there is a connection, and both sides have the space.
    fn is_shared(&self, peer: DeviceId) -> bool;
    /// Whether a device may read the space.
    fn is_member(&self, device: DeviceId) -> bool;
    /// What a device may do in the space; `None` if it is not in, or if the records can't be evaluated.
    fn role(&self, device: DeviceId) -> Option<Role>;
}

/// The rest of the node's hold on a space. Cheap to clone; the space's thread ends when the last one is gone.
#[derive(Clone)]
pub struct SpaceHandle {
    id: SpaceId,
    events: mpsc::Sender<Event>,
    chunks: Arc<dyn ChunkSource>,
    /// Told when the space's records change. Also held by the space's thread, which tells it.
    tables: Arc<OnceLock<watch::Sender<u64>>>,
    /// Told by the space's thread.
    discrepancies: watch::Receiver<Discrepancies>,
}

/// The members whose word and deeds differ.
pub type Discrepancies = BTreeMap<DeviceId, Discrepancy>;

/// Why what a folder found was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Nothing is written any more.
    #[error(transparent)]
    Stopped(Stop),
    /// The store or the log; to be tried again.
    #[error("what was found could not be written ({0}); it will be tried again")]
    Failed(String),
    /// The space's thread has ended.
    #[error("the space is closed; restart ZeroCloud if it is not stopping")]
    Closed,
}

/// The space's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the space is closed")]
pub struct SpaceClosed;

impl SpaceHandle {
    /// Starts the thread of a space. `make` builds its replica there; `chunks` answers what members ask for; `plan` is
    /// called with the items that are to be planned again.
    ///
    /// # Errors
    /// Those of the system, if it has no more threads.
    pub fn start<S, R>(
        id: SpaceId,
        make: impl FnOnce() -> (Replica<S>, R) + Send + 'static,
        chunks: Arc<dyn ChunkSource>,
        plan: impl Fn(BTreeSet<FileId>) + Send + 'static,
    ) -> std::io::Result<Self>
    where
        S: Shelf,
        R: rand_core::CryptoRng,
    {
        let (events, queue) = mpsc::channel(EVENT_COUNT_MAX);
        let tables: Arc<OnceLock<watch::Sender<u64>>> = Arc::default();
        let told = tables.clone();
        let (differing, discrepancies) = watch::channel(Discrepancies::new());
        std::thread::Builder::new().name("space".into()).spawn(move || {
            let (replica, rng) = make();
            differing.send_replace(replica.discrepancies());
            Worker { replica, rng, sessions: Vec::new(), plan: Box::new(plan), tables: told, differing }.run(queue);
        })?;
        Ok(Self { id, events, chunks, tables, discrepancies })
    }

    /// The space.
    pub const fn id(&self) -> SpaceId {
        self.id
    }

    /// What answers members' requests for chunks.
    pub fn chunks(&self) -> Arc<dyn ChunkSource> {
        self.chunks.clone()
    }

    /// Has `changes` counted up whenever the records of the space change. The first caller's counts.
    pub(crate) fn tell_of_tables(&self, changes: watch::Sender<u64>) {
        // A space is in one node, and a node counts in one place.
        let _ = self.tables.set(changes);
    }

    /// The members whose word and deeds differ, as they are and as they change; it ends with the space's thread.
    pub fn discrepancies(&self) -> watch::Receiver<Discrepancies> {
        self.discrepancies.clone()
    }

    /// Says that a round has passed: see [`Replica::handle_round`].
    ///
    /// # Errors
    /// [`SpaceClosed`].
    pub async fn end_round(&self) -> Result<(), SpaceClosed> {
        self.tell(Event::Round).await
    }

    /// Events that the space's thread has not begun to handle.
    #[cfg(test)]
    pub(crate) fn waiting_count(&self) -> usize {
        self.events.max_capacity() - self.events.capacity()
    }

    pub(crate) async fn tell(&self, event: Event) -> Result<(), SpaceClosed> {
        self.events.send(event).await.map_err(|_| SpaceClosed)
    }

    /// Writes what the folder found, as [`Replica::append`] does; returns the ids of what was sighted when it is durable.
    ///
    /// # Errors
    /// [`AppendError`].
    pub async fn append(&self, all: Vec<FoundWith>) -> Result<Vec<Vec<FileId>>, AppendError> {
        let (done, answer) = oneshot::channel();
        self.tell(Event::Found { all, done }).await.map_err(|SpaceClosed| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// As [`append`](Self::append), for a thread that may block.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn append_blocking(&self, all: Vec<FoundWith>) -> Result<Vec<Vec<FileId>>, AppendError> {
        let (done, answer) = oneshot::channel();
        self.events.blocking_send(Event::Found { all, done }).map_err(|_| AppendError::Closed)?;
        answer.blocking_recv().map_err(|_| AppendError::Closed)?
    }

    /// Lets a device in, as [`Replica::admit`] does, and gives what to answer it, as [`Replica::welcome`] does. Its
    /// record is durable when this returns; the same may be asked again.
    ///
    /// # Errors
    /// What to tell the user.
    pub async fn admit(&self, introduction: Introduction, is_own: bool, role: Role) -> Result<Welcome, String> {
        let (done, answer) = oneshot::channel();
        let event = Event::Admit { introduction: Box::new(introduction), is_own, role, done };
        self.tell(event).await.map_err(|closed| closed.to_string())?;
        answer.await.map_err(|_| SpaceClosed.to_string())?
    }

    /// Says what the tree shows: see [`Replica::set_materialised`].
    ///
    /// # Errors
    /// [`SpaceClosed`].
    pub async fn set_materialised(&self, shown: Option<Frontier>) -> Result<(), SpaceClosed> {
        self.tell(Event::Materialised { shown }).await
    }

    /// As [`set_materialised`](Self::set_materialised), for a thread that may block.
    ///
    /// # Errors
    /// [`SpaceClosed`].
    pub fn set_materialised_blocking(&self, shown: Option<Frontier>) -> Result<(), SpaceClosed> {
        self.events.blocking_send(Event::Materialised { shown }).map_err(|_| SpaceClosed)
    }

    /// Asks something of the space as it is at one moment.
    ///
    /// # Errors
    /// [`SpaceClosed`].
    pub async fn look<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Facts) -> T + Send + 'static,
    ) -> Result<T, SpaceClosed> {
        let (answer, answered) = oneshot::channel();
        // Nobody may wait for the answer any more; then it is of no use.
        let look: Look = Box::new(move |facts: &dyn Facts| drop(answer.send(ask(facts))));
        self.tell(Event::Look(look)).await?;
        answered.await.map_err(|_| SpaceClosed)
    }
}

/// One open log stream.
struct Session {
    id: SessionId,
    conn: Conn,
    outgoing: Outgoing,
}

struct Worker<S: Shelf, R> {
    replica: Replica<S>,
    rng: R,
    sessions: Vec<Session>,
    plan: Box<dyn Fn(BTreeSet<FileId>) + Send>,
    tables: Arc<OnceLock<watch::Sender<u64>>>,
    differing: watch::Sender<Discrepancies>,
}

impl<S: Shelf, R: rand_core::CryptoRng> Worker<S, R> {
    fn run(mut self, mut queue: mpsc::Receiver<Event>) {
        while let Some(event) = queue.blocking_recv() {
            let record_count = self.replica.records().count();
            self.handle(event);
            self.act();
            if let Some(tables) = self.tables.get().filter(|_| self.replica.records().count() != record_count) {
                tables.send_modify(|change_count| *change_count += 1);
            }
        }
    }

    fn peer_of(&self, id: SessionId) -> Option<DeviceId> {
        self.sessions.iter().find(|session| session.id == id).map(|session| session.conn.peer())
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Opened { session, conn, outgoing } => {
                let peer = conn.peer();
                // The newest stream to a peer is the one that counts.
                self.sessions.retain(|session| session.conn.peer() != peer);
                self.sessions.push(Session { id: session, conn, outgoing });
                let result = self.replica.connect(peer);
                self.judge(peer, result);
            }
            Event::Message { session, message, turn: _turn } => {
                if let Some(peer) = self.peer_of(session) {
                    let result = self.replica.handle_message(peer, message);
                    self.judge(peer, result);
                }
            }
            Event::Sent { session, entries_len } => {
                if let Some(peer) = self.peer_of(session) {
                    let result = self.replica.handle_sent(peer, entries_len);
                    self.judge(peer, result);
                }
            }
            Event::Closed { session } => {
                if let Some(peer) = self.peer_of(session) {
                    self.sessions.retain(|open| open.id != session);
                    self.replica.disconnect(peer);
                }
            }
            Event::Found { all, done } => {
                let result = self.replica.append(all, &mut self.rng).map_err(|error| match error {
                    ReplicaError::Stopped(stop) => AppendError::Stopped(stop),
                    error => AppendError::Failed(error.to_string()),
                });
                // Whoever scanned may have gone; what it found is written all the same.
                drop(done.send(result));
            }
            Event::Admit { introduction, is_own, role, done } => {
                let device = introduction.identity.device;
                let admitted = self.replica.admit(*introduction, is_own, role, &mut self.rng);
                let welcome = admitted.and_then(|()| self.replica.welcome(device, &mut self.rng));
                // The joiner may have gone; its record stays, and it may ask again.
                drop(done.send(welcome.map_err(|error| error.to_string())));
            }
            Event::Materialised { shown } => {
                if let Err(error) = self.replica.set_materialised(shown.as_ref()) {
                    tracing::error!(space = %self.replica.space(), %error, "the space's store failed");
                }
            }
            Event::Round => {
                if let Err(error) = self.replica.handle_round() {
                    tracing::error!(space = %self.replica.space(), %error, "the space's store failed");
                }
            }
            Event::Look(look) => look(&Now(&self.replica)),
        }
    }

    /// A peer that breaks the rules is closed; a store that fails is told, and the peer asked again later.
    fn judge(&mut self, peer: DeviceId, result: Result<(), ReplicaError<S::Error>>) {
        let Err(error) = result else { return };
        let code = match &error {
            ReplicaError::Violation(_) => CloseCode::Violation,
            ReplicaError::Store(_) | ReplicaError::Stopped(_) | ReplicaError::Write(_) => CloseCode::Done,
        };
        tracing::warn!(space = %self.replica.space(), %peer, %error, "a peer is disconnected");
        self.close(peer, code, &error.to_string());
    }

    fn close(&mut self, peer: DeviceId, code: CloseCode, reason: &str) {
        for session in self.sessions.iter().filter(|session| session.conn.peer() == peer) {
            session.conn.close(code, reason);
        }
        self.sessions.retain(|session| session.conn.peer() != peer);
        self.replica.disconnect(peer);
    }

    fn act(&mut self) {
        while let Some(action) = self.replica.poll_action() {
            match action {
                Action::Send { peer, message } => {
                    let session = self.sessions.iter().find(|session| session.conn.peer() == peer);
                    if let Some(Err(full)) = session.map(|session| session.outgoing.send(message)) {
                        tracing::warn!(space = %self.replica.space(), %peer, error = %full, "a peer is disconnected");
                        self.close(peer, CloseCode::Done, &full.to_string());
                    }
                }
                Action::Refuse { peer } => {
                    self.close(peer, CloseCode::Refused, "this device is no member of the space")
                }
                Action::Plan(items) => (self.plan)(items),
                Action::Discrepancies => {
                    let discrepancies = self.replica.discrepancies();
                    for (peer, Discrepancy { kind, entry_count, .. }) in &discrepancies {
                        let space = self.replica.space();
                        tracing::warn!(%space, %peer, ?kind, entry_count, "a member's word and deeds differ");
                    }
                    self.differing.send_replace(discrepancies);
                }
                Action::Stopped => {
                    if let Some(stop) = self.replica.stop() {
                        tracing::error!(space = %self.replica.space(), %stop, "the space stopped");
                    }
                }
            }
        }
    }
}

struct Now<'a, S: Shelf>(&'a Replica<S>);

impl<S: Shelf> Facts for Now<'_, S> {
    fn stop(&self) -> Option<Stop> {
        self.0.stop().cloned()
    }

    fn is_materialised(&self) -> bool {
        self.0.is_materialised().unwrap_or(false)
    }

    fn is_in_sync(&self, peer: DeviceId) -> bool {
        self.0.is_in_sync(peer).unwrap_or(false)
    }

    fn is_shared(&self, peer: DeviceId) -> bool {
        self.0.is_connected(peer)
    }

    fn is_member(&self, device: DeviceId) -> bool {
        self.0.is_member(device)
    }

    fn role(&self, device: DeviceId) -> Option<Role> {
        let records = self.0.records();
        records.role_at(&records.heads(), device).ok().flatten()
    }
}

#[cfg(test)]
mod tests;
