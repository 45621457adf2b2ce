//! A session: what is said over one connection to a peer. Streams are opened, told apart and pumped here; nothing is
//! decided.
//!
//! The dialler opens the control stream and both sides greet each other with the spaces in which they know the other
//! as a member. The dialler opens a log stream for each space that it named; the other side for those that only it
//! named, because the dialler does not yet know it there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use zerocloud_crdt::codec::DecodeError;
use zerocloud_crdt::id::{DeviceId, SpaceId};
use zerocloud_crdt::limits::{LOG_STREAM_COUNT_MAX, OTHER_STREAM_COUNT_MAX};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::wire::{Control, Hello, Log, Message, Opening};

use crate::link::{CloseCode, CloseReason, Conn, RecvStream, SendStream, Side, StreamKind};
use crate::space::{Event, SessionId, SpaceHandle};
use crate::wire::{FrameError, read_frame, write_frame};

pub mod chunks;

/// How long a peer has to greet.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// The spaces of this node, by id.
#[derive(Clone, Default)]
pub struct Spaces {
    open: Arc<Mutex<BTreeMap<SpaceId, SpaceHandle>>>,
    session_count: Arc<AtomicU64>,
}

impl Spaces {
    /// Adds a space; sessions that begin later share it.
    pub fn insert(&self, space: SpaceHandle) {
        self.lock().insert(space.id(), space);
    }

    /// Takes a space out.
    pub fn remove(&self, space: SpaceId) -> Option<SpaceHandle> {
        self.lock().remove(&space)
    }

    /// The space with this id.
    pub fn space(&self, space: SpaceId) -> Option<SpaceHandle> {
        self.lock().get(&space).cloned()
    }

    /// All spaces.
    pub fn all(&self) -> Vec<SpaceHandle> {
        self.lock().values().cloned().collect()
    }

    /// The spaces in which a device is a member.
    pub async fn shared_with(&self, device: DeviceId) -> BTreeSet<SpaceId> {
        let mut shared = BTreeSet::new();
        for space in self.all() {
            if space.look(move |facts| facts.is_member(device)).await == Ok(true) {
                shared.insert(space.id());
            }
        }
        shared
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SpaceId, SpaceHandle>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The connection is gone.
    #[error("the connection ended: {0}")]
    Closed(#[from] CloseReason),
    /// A stream broke or its framing is wrong.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that is no message.
    #[error("the peer sent what is no message: {0}")]
    Message(#[from] DecodeError),
    /// A message where it must not be.
    #[error("the peer spoke out of turn")]
    OutOfTurn,
    /// No greeting within ten seconds.
    #[error("the peer did not greet in time")]
    Silent,
}

/// Runs a session until its connection ends, and tells why it did. `greeted` is told what the peer said of itself;
/// chunk streams may be opened from then on.
pub async fn run(
    conn: Conn,
    spaces: Spaces,
    agent: String,
    name: Name,
    greeted: oneshot::Sender<Hello>,
) -> SessionError {
    let error = match greet(&conn, &spaces, agent, name).await {
        Ok((ours, hello, control)) => {
            let theirs = hello.spaces.iter().copied().collect();
            // Nobody may want to know.
            drop(greeted.send(hello));
            let served = Serving { conn: conn.clone(), spaces };
            // The control stream stays open as long as the session: its end is the peer's.
            let _control = control;
            served.serve(ours, theirs).await
        }
        Err(error) => error,
    };
    let code = match &error {
        SessionError::Closed(_) => CloseCode::Done,
        SessionError::Frame(_) | SessionError::Message(_) | SessionError::OutOfTurn | SessionError::Silent => {
            CloseCode::Violation
        }
    };
    conn.close(code, &error.to_string());
    error
}

type Greeted = (BTreeSet<SpaceId>, Hello, (SendStream, RecvStream));

async fn greet(conn: &Conn, spaces: &Spaces, agent: String, name: Name) -> Result<Greeted, SessionError> {
    let greeting = async {
        let ours = spaces.shared_with(conn.peer()).await;
        let hello = Control::Hello(Hello { agent, name, spaces: ours.iter().copied().collect() });
        let (mut send, mut receive) = match conn.side() {
            Side::Dialled => {
                let (mut send, receive) = conn.open_bi(StreamKind::Control).await?;
                write_frame(&mut send, &Opening::Control.to_bytes(), Opening::LEN_MAX).await?;
                (send, receive)
            }
            Side::Accepted => {
                let (mut send, mut receive) = conn.accept_bi().await?;
                send.set_kind(StreamKind::Control);
                if read::<Opening>(&mut receive).await? != Some(Opening::Control) {
                    return Err(SessionError::OutOfTurn);
                }
                (send, receive)
            }
        };
        write_frame(&mut send, &hello.to_bytes(), Control::LEN_MAX).await?;
        match read::<Control>(&mut receive).await? {
            Some(Control::Hello(theirs)) => Ok((ours, theirs, (send, receive))),
            Some(Control::Share { .. }) | None => Err(SessionError::OutOfTurn),
        }
    };
    tokio::time::timeout(HELLO_LIMIT, greeting).await.unwrap_or(Err(SessionError::Silent))
}

async fn read<M: Message>(stream: &mut RecvStream) -> Result<Option<M>, SessionError> {
    match read_frame(stream, M::LEN_MAX).await? {
        Some(bytes) => Ok(Some(M::from_bytes(&bytes)?)),
        None => Ok(None),
    }
}

struct Serving {
    conn: Conn,
    spaces: Spaces,
}

impl Serving {
    async fn serve(&self, ours: BTreeSet<SpaceId>, theirs: BTreeSet<SpaceId>) -> SessionError {
        let mut streams = tokio::task::JoinSet::new();
        let opened: BTreeSet<SpaceId> = match self.conn.side() {
            Side::Dialled => ours,
            Side::Accepted => ours.difference(&theirs).copied().collect(),
        };
        for space in opened {
            match self.open_log(space).await {
                Ok(Some(pump)) => drop(streams.spawn(pump)),
                Ok(None) => {}
                Err(error) => return error,
            }
        }
        loop {
            tokio::select! {
                ended = streams.join_next(), if !streams.is_empty() => {
                    if let Some(Ok(Err(error))) = ended {
                        return error;
                    }
                }
                accepted = self.conn.accept_bi() => {
                    let (send, receive) = match accepted {
                        Ok(accepted) => accepted,
                        Err(reason) => return reason.into(),
                    };
                    if streams.len() >= LOG_STREAM_COUNT_MAX + OTHER_STREAM_COUNT_MAX {
                        return SessionError::OutOfTurn;
                    }
                    let (conn, spaces) = (self.conn.clone(), self.spaces.clone());
                    streams.spawn(accept(conn, spaces, send, receive));
                }
            }
        }
    }

    async fn open_log(
        &self,
        id: SpaceId,
    ) -> Result<Option<impl Future<Output = Result<(), SessionError>> + Send + use<>>, SessionError> {
        let Some(space) = self.spaces.space(id) else { return Ok(None) };
        let (mut send, receive) = self.conn.open_bi(StreamKind::Log).await?;
        write_frame(&mut send, &Opening::Log { space: id }.to_bytes(), Opening::LEN_MAX).await?;
        let session = SessionId(self.spaces.session_count.fetch_add(1, Ordering::Relaxed));
        Ok(Some(pump_log(self.conn.clone(), space, session, send, receive)))
    }
}

/// Finds out what a stream is that the peer opened, and pumps it.
async fn accept(conn: Conn, spaces: Spaces, mut send: SendStream, mut receive: RecvStream) -> Result<(), SessionError> {
    match read::<Opening>(&mut receive).await? {
        Some(Opening::Log { space }) => {
            // A space that is not here is answered like one in which the peer is no member: by silence and an end.
            let Some(space) = spaces.space(space) else { return Ok(()) };
            send.set_kind(StreamKind::Log);
            let session = SessionId(spaces.session_count.fetch_add(1, Ordering::Relaxed));
            pump_log(conn, space, session, send, receive).await
        }
        Some(Opening::Chunks { space }) => {
            let Some(space) = spaces.space(space) else { return Ok(()) };
            let peer = conn.peer();
            if space.look(move |facts| facts.is_member(peer)).await != Ok(true) {
                return Ok(());
            }
            send.set_kind(StreamKind::Chunk);
            chunks::serve(space.chunks(), send, receive).await
        }
        Some(Opening::Control) => Err(SessionError::OutOfTurn),
        None => Ok(()),
    }
}

/// Carries messages between a log stream and its space until one of both ends.
async fn pump_log(
    conn: Conn,
    space: SpaceHandle,
    session: SessionId,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), SessionError> {
    let (outgoing, mut queue) = mpsc::unbounded_channel::<Log>();
    if space.tell(Event::Opened { session, conn, outgoing }).await.is_err() {
        return Ok(());
    }
    let writing = async {
        while let Some(message) = queue.recv().await {
            let entries_len = message.entries_len();
            write_frame(&mut send, &message.to_bytes(), Log::LEN_MAX).await?;
            if entries_len > 0 && space.tell(Event::Sent { session, entries_len }).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let reading = async {
        while let Some(message) = read::<Log>(&mut receive).await? {
            if space.tell(Event::Message { session, message }).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = writing => ended,
        ended = reading => ended,
    };
    // A space that is closed has forgotten the session already.
    let _ = space.tell(Event::Closed { session }).await;
    ended
}

#[cfg(test)]
mod tests;
