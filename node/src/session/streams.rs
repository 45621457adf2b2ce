//! The streams of a session: which are opened, by whom, and when they end.
//!
//! A log stream is opened for each space that both sides have, while the connection lasts:
//!
//! - For a space in whose table it finds the peer, the **dialler** opens the stream. The **accepting side** opens it
//!   only if the peer has not named the space: the dialler does not yet know it there.
//! - Who comes to share a space later says [`Control::Share`] and then does the same. A dialler that hears it opens
//!   the stream if it finds the peer in its table; if an older stream is still open, then when that one has ended.
//! - Who comes to have a space that the peer has named, and does not find the peer in its table, opens a stream once:
//!   the peer may show the records by which it is a member.
//! - Both may open a stream for one space at the same time. The dialler's stays: the dialler drops the other's, and the
//!   accepting side replaces its own. Any other later stream replaces the earlier one, which the peer has given up.
//!
//! What members say of each other's addresses is in [`passing`].
//!
//! The end of a stream is no fault: the peer took the space out, or gave the stream up. A frame that is no message is.

mod passing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zerocloud_crdt::address::SignedAddresses;
use zerocloud_crdt::id::{DeviceId, SpaceId};
use zerocloud_crdt::limits::{HELLO_SPACE_COUNT_MAX, LANE_COUNT_MAX, LOG_STREAM_COUNT_MAX, OTHER_STREAM_COUNT_MAX};
use zerocloud_crdt::mutated;
use zerocloud_crdt::wire::{Control, Log, Message, Opening};

use super::{Open, SessionError, Spaces, chunks, read};
use crate::link::{Conn, RecvStream, SendStream, Side, StreamKind};
use crate::space::{Event, SessionId, SpaceHandle, outgoing};
use crate::wire::{FrameError, write_frame};

/// Time between two messages of a peer on the control stream: faster ones wait on the network. Each may cost us a look
/// at a space and a stream, and honest ones come when a person adds a device.
const CONTROL_PAUSE: Duration = Duration::from_millis(20);

/// Messages of one log stream that the space has not handled yet: each may have the length of a frame, and the next is
/// to lie ready when one was handled.
pub(super) const AHEAD_MESSAGE_COUNT: usize = 4;

/// Requests of one peer for chunks that are answered at the same time, over all streams. Each takes a thread, and holds
/// what was sealed until the peer reads it; a peer that reads nothing holds up its own alone.
pub(super) const SERVING_COUNT_MAX: usize = OTHER_STREAM_COUNT_MAX;

/// All streams of one session.
pub(super) struct Streams {
    conn: Conn,
    spaces: Spaces,
    /// The spaces that we named to the peer.
    ours: BTreeSet<SpaceId>,
    /// The spaces that the peer named to us.
    theirs: BTreeSet<SpaceId>,
    /// Those of `theirs`, in whose tables we do not find the peer, for which we have opened a stream nonetheless.
    tried: BTreeSet<SpaceId>,
    control: SendStream,
    logs: BTreeMap<SpaceId, LogStream>,
    tasks: JoinSet<Done>,
    /// Streams of the peer among the tasks, and ours.
    stream_count: usize,
    /// Held while a request for chunks is answered.
    serving: Arc<Semaphore>,
    looking: Looking,
    /// The peer's own word, until it counts.
    peer_addresses: Option<SignedAddresses>,
    /// Counters of the records that the peer has of us, or we of it.
    passed: BTreeMap<DeviceId, u64>,
    /// What it told of devices that we do not know as members.
    unmet: Vec<SignedAddresses>,
    /// Whether it is being found out which records it may be told, or rested after that.
    passing: Looking,
}

/// The log stream of one space.
struct LogStream {
    is_opened_by_us: bool,
    stop: CancellationToken,
    /// What takes its place when it has ended.
    next: Next,
}

enum Next {
    /// Nothing.
    None,
    /// One that we open, if we still share the space.
    Ours,
    /// One that the peer has opened.
    Theirs(SendStream, RecvStream),
}

/// Whether it is being found out which spaces we share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looking {
    /// It is known.
    No,
    /// It is.
    Once,
    /// It is, and something has changed since.
    Again,
}

/// What a task of the session has come to.
enum Done {
    /// The peer's next word on the control stream.
    Control(Result<Option<Control>, SessionError>, RecvStream),
    /// What a stream is that the peer opened.
    Opened(Result<Option<Opening>, SessionError>, SendStream, RecvStream),
    /// A log stream ended.
    Log(SpaceId, Result<(), SessionError>),
    /// A chunk stream ended.
    Chunks(Result<(), SessionError>),
    /// The spaces in which the peer is a member.
    Shared(BTreeSet<SpaceId>),
    /// What the peer may be told of addresses and has not been.
    Passable(Vec<SignedAddresses>),
    /// More of that may be told.
    Rested,
    /// What the peer told of members, on the control stream.
    Heard {
        /// Of members.
        heard: Vec<SignedAddresses>,
        /// Of others.
        unmet: Vec<SignedAddresses>,
        /// The control stream, if the message has just come.
        receive: Option<RecvStream>,
    },
}

impl Streams {
    pub(super) fn new(
        conn: Conn,
        spaces: Spaces,
        ours: BTreeSet<SpaceId>,
        theirs: BTreeSet<SpaceId>,
        peer_addresses: Option<SignedAddresses>,
        (control, receive): (SendStream, RecvStream),
    ) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(next_control(receive));
        Self {
            conn,
            spaces,
            ours,
            theirs,
            tried: BTreeSet::new(),
            control,
            logs: BTreeMap::new(),
            tasks,
            stream_count: 0,
            serving: Arc::new(Semaphore::new(SERVING_COUNT_MAX)),
            looking: Looking::No,
            peer_addresses,
            passed: BTreeMap::new(),
            unmet: Vec::new(),
            passing: Looking::No,
        }
    }

    /// Opens what is to be opened and serves what comes until the connection ends or the peer breaks the rules.
    /// `changes` has not seen what came after the greeting.
    pub(super) async fn run(&mut self, mut changes: watch::Receiver<u64>) -> SessionError {
        let mut learnt = self.spaces.addresses().changes();
        self.learn_of_peer();
        self.pass_addresses();
        let opened: Vec<SpaceId> = match self.conn.side() {
            Side::Dialled => self.ours.iter().copied().collect(),
            Side::Accepted => self.ours.difference(&self.theirs).copied().collect(),
        };
        for space in opened {
            if let Err(error) = self.open_log(space).await {
                return error;
            }
        }
        loop {
            let handled = tokio::select! {
                accepted = self.conn.accept_bi() => match accepted {
                    Ok((send, receive)) => self.accept(send, receive),
                    Err(reason) => Err(reason.into()),
                },
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.handle(done).await,
                    Err(_) => Ok(()),
                },
                Ok(()) = changes.changed() => {
                    self.look();
                    self.judge_unmet();
                    self.pass_addresses();
                    Ok(())
                }
                Ok(()) = learnt.changed() => {
                    self.pass_addresses();
                    Ok(())
                }
            };
            if let Err(error) = handled {
                return error;
            }
        }
    }

    /// Waits until every task has ended, so that the spaces know. The connection is closed.
    pub(super) async fn finish(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    fn accept(&mut self, send: SendStream, mut receive: RecvStream) -> Result<(), SessionError> {
        if self.stream_count >= LOG_STREAM_COUNT_MAX + OTHER_STREAM_COUNT_MAX + LANE_COUNT_MAX {
            return Err(SessionError::OutOfTurn);
        }
        self.stream_count += 1;
        self.tasks.spawn(async move { Done::Opened(read(&mut receive).await, send, receive) });
        Ok(())
    }

    async fn handle(&mut self, done: Done) -> Result<(), SessionError> {
        match done {
            Done::Control(said, receive) => match unless_ended(said)?.flatten() {
                Some(Control::Share { space }) => {
                    self.hear_more(receive);
                    self.hear_share(space).await
                }
                Some(Control::Addresses(records)) => self.hear_addresses(&records, receive),
                Some(Control::Hello(_)) => Err(SessionError::OutOfTurn),
                // A peer that has nothing more to say; the connection tells when it is gone.
                None => Ok(()),
            },
            Done::Opened(opening, send, receive) => {
                self.stream_count -= 1;
                match unless_ended(opening)?.flatten() {
                    Some(Opening::Log { space }) => {
                        self.take_log(space, send, receive);
                        Ok(())
                    }
                    Some(Opening::Chunks { space }) => {
                        self.take_chunks(space, send, receive);
                        Ok(())
                    }
                    Some(Opening::Control) => Err(SessionError::OutOfTurn),
                    None => Ok(()),
                }
            }
            Done::Log(space, ended) => {
                self.stream_count -= 1;
                unless_ended(ended)?;
                let Some(log) = self.logs.remove(&space) else { return Ok(()) };
                match log.next {
                    Next::Ours if self.ours.contains(&space) => self.open_log(space).await,
                    Next::Theirs(send, receive) => {
                        self.stream_count -= 1;
                        self.take_log(space, send, receive);
                        Ok(())
                    }
                    Next::None if log.stop.is_cancelled() => {
                        // It was taken out here; if it is back already, it is shared anew.
                        self.ours.remove(&space);
                        self.tried.remove(&space);
                        self.look();
                        Ok(())
                    }
                    Next::Ours | Next::None => Ok(()),
                }
            }
            Done::Chunks(ended) => {
                self.stream_count -= 1;
                unless_ended(ended).map(drop)
            }
            Done::Shared(shared) => self.share(shared).await,
            Done::Passable(news) => self.pass(news).await,
            Done::Rested => {
                self.rested();
                Ok(())
            }
            Done::Heard { heard, unmet, receive } => {
                self.take_heard(heard, unmet, receive);
                Ok(())
            }
        }
    }

    /// Finds out which spaces we share, one look after the other.
    fn look(&mut self) {
        match self.looking {
            Looking::No => {
                self.looking = Looking::Once;
                let (spaces, peer) = (self.spaces.clone(), self.conn.peer());
                self.tasks.spawn(async move { Done::Shared(spaces.shared_with(peer).await) });
            }
            Looking::Once => self.looking = Looking::Again,
            Looking::Again => {}
        }
    }

    async fn share(&mut self, shared: BTreeSet<SpaceId>) -> Result<(), SessionError> {
        let is_dialler = self.conn.side() == Side::Dialled;
        let fresh: Vec<SpaceId> = shared.difference(&self.ours).copied().collect();
        self.ours = shared;
        self.learn_of_peer();
        for space in fresh {
            write_frame(&mut self.control, &Control::Share { space }.to_bytes(), Control::LEN_MAX).await?;
            match self.logs.get_mut(&space) {
                // One that is ending finds out itself what follows.
                Some(_) => {}
                None if is_dialler || !self.theirs.contains(&space) => self.open_log(space).await?,
                None => {}
            }
        }
        let here: BTreeSet<SpaceId> = self.spaces.all().iter().map(SpaceHandle::id).collect();
        self.tried.retain(|space| here.contains(space));
        let named: Vec<SpaceId> = self.theirs.intersection(&here).copied().collect();
        for space in named {
            if !self.ours.contains(&space) && !self.logs.contains_key(&space) && self.tried.insert(space) {
                self.open_log(space).await?;
            }
        }
        if std::mem::replace(&mut self.looking, Looking::No) == Looking::Again {
            self.look();
        }
        Ok(())
    }

    async fn hear_share(&mut self, space: SpaceId) -> Result<(), SessionError> {
        self.theirs.insert(space);
        if self.theirs.len() > 2 * HELLO_SPACE_COUNT_MAX {
            return Err(SessionError::OutOfTurn);
        }
        if self.conn.side() == Side::Accepted || !self.ours.contains(&space) {
            return Ok(());
        }
        match self.logs.get_mut(&space) {
            // The peer may have had no use for this one.
            Some(log) if matches!(log.next, Next::None) => {
                log.next = Next::Ours;
                Ok(())
            }
            Some(_) => Ok(()),
            None => self.open_log(space).await,
        }
    }

    async fn open_log(&mut self, id: SpaceId) -> Result<(), SessionError> {
        let Some(open) = self.spaces.open(id) else { return Ok(()) };
        let (mut send, receive) = self.conn.open_bi(StreamKind::Log).await?;
        match write_frame(&mut send, &Opening::Log { space: id }.to_bytes(), Opening::LEN_MAX).await {
            Ok(()) => self.pump(open, true, send, receive),
            // The connection tells if it is gone; of the stream alone the peer may make what it likes.
            Err(FrameError::Stream(_)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn take_log(&mut self, space: SpaceId, mut send: SendStream, receive: RecvStream) {
        // A space that is not here is answered like one in which the peer is no member: by silence and an end.
        let Some(open) = self.spaces.open(space) else { return };
        match self.logs.get_mut(&space) {
            None => {
                send.set_kind(StreamKind::Log);
                self.pump(open, false, send, receive);
            }
            Some(log) if log.is_opened_by_us && self.conn.side() == Side::Dialled && !log.stop.is_cancelled() => {}
            Some(log) => {
                log.stop.cancel();
                if !matches!(std::mem::replace(&mut log.next, Next::Theirs(send, receive)), Next::Theirs(..)) {
                    self.stream_count += 1;
                }
            }
        }
    }

    fn take_chunks(&mut self, space: SpaceId, mut send: SendStream, receive: RecvStream) {
        let Some(Open { space, removed }) = self.spaces.open(space) else { return };
        let (peer, places) = (self.conn.peer(), self.serving.clone());
        let serving = async move {
            if space.look(move |facts| facts.is_member(peer)).await != Ok(true) {
                return Ok(());
            }
            send.set_kind(StreamKind::Chunk);
            chunks::serve(space.chunks(), &places, send, receive).await
        };
        self.stream_count += 1;
        self.tasks.spawn(async move { Done::Chunks(removed.run_until_cancelled(serving).await.unwrap_or(Ok(()))) });
    }

    fn pump(&mut self, open: Open, is_opened_by_us: bool, send: SendStream, receive: RecvStream) {
        let (id, session, conn) = (open.space.id(), self.spaces.new_session(), self.conn.clone());
        let stop = open.removed.child_token();
        self.stream_count += 1;
        self.logs.insert(id, LogStream { is_opened_by_us, stop: stop.clone(), next: Next::None });
        self.tasks.spawn(async move { Done::Log(id, pump_log(conn, open.space, session, stop, send, receive).await) });
    }
}

/// An end of the stream itself is none of the session's.
fn unless_ended<T>(result: Result<T, SessionError>) -> Result<Option<T>, SessionError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(SessionError::Frame(FrameError::Stream(_))) => Ok(None),
        Err(_) if mutated!(ToleratedGarbage) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn next_control(mut receive: RecvStream) -> Done {
    Done::Control(read(&mut receive).await, receive)
}

/// Carries messages between a log stream and its space until one of both ends, or `stop` is cancelled.
async fn pump_log(
    conn: Conn,
    space: SpaceHandle,
    session: SessionId,
    stop: CancellationToken,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), SessionError> {
    let (outgoing, mut queue) = outgoing();
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
    let turns = Arc::new(Semaphore::new(if mutated!(UnfairTurns) { usize::MAX >> 3 } else { AHEAD_MESSAGE_COUNT }));
    let reading = async {
        while let Ok(turn) = turns.clone().acquire_owned().await {
            let Some(message) = read::<Log>(&mut receive).await? else { break };
            if space.tell(Event::Message { session, message, turn }).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = writing => ended,
        ended = reading => ended,
        () = stop.cancelled() => Ok(()),
    };
    // A space that is closed has forgotten the session already.
    let _ = space.tell(Event::Closed { session }).await;
    ended
}
