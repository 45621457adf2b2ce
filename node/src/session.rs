//! A session: what is said over one connection to a peer. Streams are opened, told apart and pumped here; nothing is
//! decided.
//!
//! The dialler opens the control stream and both sides greet each other with the spaces in which they know the other
//! as a member. Which streams follow, and what happens when the spaces change, is in `streams`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_bytes::ByteBuf;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use zerocloud_crdt::address::{AddressRecord, AddressRecordError, SignedAddresses};
use zerocloud_crdt::codec::DecodeError;
use zerocloud_crdt::id::{DeviceId, SpaceId};
use zerocloud_crdt::limits::HELLO_SPACE_COUNT_MAX;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::wire::{Control, Hello, Message, Opening};

use self::addresses::AddressBook;
use self::streams::Streams;
use crate::link::{CloseCode, CloseReason, Conn, RecvStream, SendStream, Side, StreamKind};
use crate::space::{SessionId, SpaceHandle};
use crate::wire::{FrameError, read_frame, write_frame};

pub mod addresses;
pub mod chunks;
mod streams;

/// How long a peer has to greet.
const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// The spaces of this node, by id. Clones are handles to the same spaces.
#[derive(Clone, Debug)]
pub struct Spaces {
    /// Each with what ends its streams when it is taken out. Never held across an await.
    open: Arc<Mutex<BTreeMap<SpaceId, Open>>>,
    session_count: Arc<AtomicU64>,
    /// Counts whenever a space comes or goes, or the records of one change. Also held by the spaces' threads.
    changes: watch::Sender<u64>,
    addresses: AddressBook,
}

#[derive(Clone)]
struct Open {
    space: SpaceHandle,
    removed: CancellationToken,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("space", &self.space.id()).finish_non_exhaustive()
    }
}

impl Default for Spaces {
    fn default() -> Self {
        Self {
            open: Arc::default(),
            session_count: Arc::default(),
            changes: watch::Sender::new(0),
            addresses: AddressBook::default(),
        }
    }
}

impl Spaces {
    /// Adds a space. Open sessions with its members share it from now on.
    pub fn insert(&self, space: SpaceHandle) {
        space.tell_of_tables(self.changes.clone());
        let open = Open { removed: CancellationToken::new(), space };
        if let Some(former) = self.lock().insert(open.space.id(), open) {
            former.removed.cancel();
        }
        self.changed();
    }

    /// Takes a space out, and ends its streams in all sessions.
    pub fn remove(&self, space: SpaceId) -> Option<SpaceHandle> {
        let removed = self.lock().remove(&space)?;
        removed.removed.cancel();
        self.changed();
        Some(removed.space)
    }

    /// The space with this id.
    pub fn space(&self, space: SpaceId) -> Option<SpaceHandle> {
        self.open(space).map(|open| open.space)
    }

    /// All spaces.
    pub fn all(&self) -> Vec<SpaceHandle> {
        self.lock().values().map(|open| open.space.clone()).collect()
    }

    /// The spaces in which a device is a member: at most [`HELLO_SPACE_COUNT_MAX`], those with the lowest ids.
    pub async fn shared_with(&self, device: DeviceId) -> BTreeSet<SpaceId> {
        let mut shared = BTreeSet::new();
        for space in self.all() {
            if shared.len() == HELLO_SPACE_COUNT_MAX {
                break;
            }
            if space.look(move |facts| facts.is_member(device)).await == Ok(true) {
                shared.insert(space.id());
            }
        }
        shared
    }

    /// Those of some devices that are members of a space of ours in which `peer` is one, too.
    pub async fn met_by(&self, peer: DeviceId, devices: BTreeSet<DeviceId>) -> BTreeSet<DeviceId> {
        let mut met = BTreeSet::new();
        for space in self.all() {
            let devices = devices.clone();
            let members = space.look(move |facts| {
                let is_shared = facts.is_member(peer);
                devices.into_iter().filter(|device| is_shared && facts.is_member(*device)).collect::<Vec<_>>()
            });
            // Of a space that is closed nobody is a member.
            met.extend(members.await.unwrap_or_default());
        }
        met
    }

    /// Where members may be reached.
    pub const fn addresses(&self) -> &AddressBook {
        &self.addresses
    }

    /// Counts up whenever a space comes or goes, or the members of one may have changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|change_count| *change_count += 1);
    }

    fn open(&self, space: SpaceId) -> Option<Open> {
        self.lock().get(&space).cloned()
    }

    fn new_session(&self) -> SessionId {
        SessionId(self.session_count.fetch_add(1, Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SpaceId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this device says of itself when it greets.
#[derive(Clone, Debug)]
pub struct Presence {
    /// The program and its version.
    pub agent: String,
    /// How the user calls the device.
    pub name: Name,
    /// Its signed [`AddressRecord`], or nothing. Told to members of a space of ours alone.
    pub addresses: Vec<u8>,
}

/// How a peer greeted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// What it said.
    pub hello: Hello,
    /// Where it may be reached, by its own signed word.
    pub addresses: Option<AddressRecord>,
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
    /// Addresses that the peer did not sign.
    #[error("the peer sent no valid addresses: {0}")]
    Addresses(#[from] AddressRecordError),
    /// The address record of another device.
    #[error("the peer sent the addresses of another device")]
    ForeignAddresses,
    /// No greeting within ten seconds.
    #[error("the peer did not greet in time")]
    Silent,
}

/// Runs a session until its connection ends, and tells why it did. `greeted` is told what the peer said of itself;
/// chunk streams may be opened from then on. When this returns, no space knows of the connection any more.
pub async fn run(conn: Conn, spaces: Spaces, us: Presence, greeted: oneshot::Sender<Greeting>) -> SessionError {
    let changes = spaces.changes();
    let own = SignedAddresses::decode(&us.addresses).ok();
    let (error, mut streams) = match greet(&conn, &spaces, us).await {
        Ok((ours, greeting, control)) => {
            let theirs = greeting.hello.spaces.iter().copied().collect();
            let addresses = peer_addresses(&greeting);
            // Nobody may want to know.
            drop(greeted.send(greeting));
            let mut streams = Streams::new(conn.clone(), spaces, ours, theirs, addresses, control);
            if let Some(own) = own {
                streams.introduce(own);
            }
            (streams.run(changes).await, Some(streams))
        }
        Err(error) => (error, None),
    };
    // Of a connection that is closed already this changes nothing; the word of whoever closed it counts.
    let error = match (error, conn.close_reason()) {
        (SessionError::Frame(FrameError::Stream(_)), Some(reason)) => SessionError::Closed(reason),
        (error, _) => error,
    };
    let code = match &error {
        SessionError::Closed(_) => CloseCode::Done,
        SessionError::Frame(_)
        | SessionError::Message(_)
        | SessionError::OutOfTurn
        | SessionError::Addresses(_)
        | SessionError::ForeignAddresses
        | SessionError::Silent => CloseCode::Violation,
    };
    conn.close(code, &error.to_string());
    if let Some(streams) = &mut streams {
        streams.finish().await;
    }
    error
}

type Greeted = (BTreeSet<SpaceId>, Greeting, (SendStream, RecvStream));

async fn greet(conn: &Conn, spaces: &Spaces, us: Presence) -> Result<Greeted, SessionError> {
    let greeting = async {
        let ours = spaces.shared_with(conn.peer()).await;
        let addresses = if ours.is_empty() { ByteBuf::new() } else { ByteBuf::from(us.addresses) };
        let spaces = ours.iter().copied().collect();
        let hello = Control::Hello(Hello { agent: us.agent, name: us.name, spaces, addresses });
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
            Some(Control::Hello(hello)) => {
                let addresses = verified(&hello, conn.peer())?;
                Ok((ours, Greeting { hello, addresses }, (send, receive)))
            }
            Some(Control::Share { .. } | Control::Addresses(_)) | None => Err(SessionError::OutOfTurn),
        }
    };
    tokio::time::timeout(HELLO_LIMIT, greeting).await.unwrap_or(Err(SessionError::Silent))
}

/// The addresses in a greeting, if the device whose key was proven has signed them.
fn verified(hello: &Hello, peer: DeviceId) -> Result<Option<AddressRecord>, SessionError> {
    if hello.addresses.is_empty() {
        return Ok(None);
    }
    let record = AddressRecord::decode(&hello.addresses)?;
    if record.device == peer { Ok(Some(record)) } else { Err(SessionError::ForeignAddresses) }
}

/// The same with the bytes that were signed, to be passed on.
fn peer_addresses(greeting: &Greeting) -> Option<SignedAddresses> {
    greeting.addresses.as_ref()?;
    SignedAddresses::decode(&greeting.hello.addresses).ok()
}

async fn read<M: for<'b> Message<'b>>(stream: &mut RecvStream) -> Result<Option<M>, SessionError> {
    match read_frame(stream, M::LEN_MAX).await? {
        Some(bytes) => Ok(Some(M::from_bytes(&bytes)?)),
        None => Ok(None),
    }
}

#[cfg(test)]
pub(crate) mod tests;
