//! Links: encrypted connections between devices, by key.
//!
//! Here live the nouns that every back end speaks: [`Link`] (dial and accept), [`Conn`] (one connection to a proven
//! peer), its streams, where a device may be found, and why a connection ended. The back ends are [`iroh`] (QUIC, and
//! TCP for chunks on near paths) and [`memory`] (in process). What is said over a stream is not decided here: framing is
//! in [`crate::wire`], messages are in the engine.

pub mod iroh;
pub mod memory;

mod one_per_peer;
mod stream;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod cutting;
#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use zerocloud_crdt::address::{self, AddressError, DirectAddress, RelayUrl};
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::limits::CLOSE_REASON_LEN_MAX;

pub use self::one_per_peer::{Keep, Offered, OnePerPeer, keep_which};
use self::stream::{RawRecv, RawSend};
pub use self::stream::{RecvStream, SendStream, StreamKind};

/// A future that can be sent between threads; what makes [`Link`] usable as `dyn Link`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Dials devices and accepts connections from them, over one kind of transport.
pub trait Link: fmt::Debug + Send + Sync + 'static {
    /// The device that this link speaks for.
    fn id(&self) -> DeviceId;

    /// Connects to the device `peer`, which proves that it holds that key, or fails within a bounded time. `hints` are
    /// tried all at once; at most [`zerocloud_crdt::limits::ADDRESS_HINT_COUNT_MAX`] are looked at. A peer that refuses us may do so after this
    /// has succeeded: then [`Conn::closed`] says [`CloseCode::Refused`].
    ///
    /// # Errors
    /// See [`DialError`].
    fn dial<'a>(
        &'a self,
        peer: DeviceId,
        protocol: Protocol,
        hints: &'a [AddressHint],
    ) -> BoxFuture<'a, Result<Conn, DialError>>;

    /// Waits for the next connection whose peer has proven its key and was let in by the [`Admission`]. `None` once
    /// the link is closed. A cancelled call loses no connection.
    fn accept(&self) -> BoxFuture<'_, Option<Conn>>;

    /// Where others may reach this device, best first: what a ticket carries.
    fn addresses(&self) -> Vec<AddressHint>;

    /// Closes every connection with [`CloseCode::Shutdown`] and stops accepting.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What is spoken on a connection; chosen by the side that dials, agreed upon in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Syncing of spaces between devices that know each other.
    Sync,
    /// Pairing: a stranger shows a ticket.
    Pair,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 2] = [Self::Sync, Self::Pair];

    /// The name in the handshake (ALPN, RFC 7301), with the version of the wire format.
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Sync => b"zerocloud/1",
            Self::Pair => b"zerocloud-pair/1",
        }
    }

    /// The protocol of that name; `None` for any other, other versions among them.
    pub fn from_alpn(alpn: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.alpn() == alpn)
    }
}

/// Where a device may be found. Comes from signed objects, the LAN or the user only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressHint {
    /// An address and UDP port.
    Direct(SocketAddr),
    /// A relay on which the device waits: its URL. Ignored by a node that has no relay configured.
    Relay(String),
}

impl From<&address::AddressHint> for AddressHint {
    fn from(hint: &address::AddressHint) -> Self {
        match hint {
            address::AddressHint::Direct(direct) => Self::Direct(direct.to_socket()),
            address::AddressHint::Relay(url) => Self::Relay(url.as_str().to_owned()),
        }
    }
}

/// What may stand in a signed object: no port 0, no address of more than one host, no text that is no URL.
impl TryFrom<&AddressHint> for address::AddressHint {
    type Error = AddressError;

    fn try_from(hint: &AddressHint) -> Result<Self, AddressError> {
        match hint {
            AddressHint::Direct(socket) => DirectAddress::new(socket.ip(), socket.port()).map(Self::Direct),
            AddressHint::Relay(url) => RelayUrl::parse(url).map(Self::Relay),
        }
    }
}

/// Decides who may connect to us: asked on every incoming connection, once the peer's key is proven and before
/// anything that it sends is read. It must not block.
#[derive(Clone)]
pub struct Admission(Arc<dyn Fn(Protocol, DeviceId) -> bool + Send + Sync>);

impl Admission {
    /// Lets in whom `policy` says yes to. Pairing needs strangers, so a policy usually says yes to [`Protocol::Pair`]
    /// while a ticket is open, and to [`Protocol::Sync`] for the devices of its tables.
    pub fn new(policy: impl Fn(Protocol, DeviceId) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(policy))
    }

    /// Whether `peer` may speak `protocol` with us.
    pub fn admits(&self, protocol: Protocol, peer: DeviceId) -> bool {
        (self.0)(protocol, peer)
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admission(..)")
    }
}

/// A connection to a device that has proven its key. Clones are handles to the same connection, which is closed with
/// [`CloseCode::Done`] when the last handle and the last stream are gone.
#[derive(Clone, Debug)]
pub struct Conn {
    raw: Arc<dyn RawConn>,
    peer: DeviceId,
    protocol: Protocol,
    side: Side,
}

/// Who dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// We did.
    Dialled,
    /// The peer did.
    Accepted,
}

impl Conn {
    fn new(raw: Arc<dyn RawConn>, peer: DeviceId, protocol: Protocol, side: Side) -> Self {
        Self { raw, peer, protocol, side }
    }

    /// The device at the other end. Its key was proven by the handshake.
    pub const fn peer(&self) -> DeviceId {
        self.peer
    }

    /// What is spoken.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Who dialled.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Opens a stream; waits while the peer allows no more. The peer sees it with its first byte or its end at the
    /// latest.
    ///
    /// # Errors
    /// Why the connection is closed.
    pub async fn open_bi(&self, kind: StreamKind) -> Result<(SendStream, RecvStream), CloseReason> {
        let (send, recv) = self.raw.open_bi(kind).await?;
        let mut send = SendStream::new(send);
        send.set_kind(kind);
        Ok((send, RecvStream::new(recv)))
    }

    /// Waits for the next stream that the peer opens. Its first frame says what it is for; then call
    /// [`SendStream::set_kind`]. A cancelled call loses no stream.
    ///
    /// # Errors
    /// Why the connection is closed.
    pub async fn accept_bi(&self) -> Result<(SendStream, RecvStream), CloseReason> {
        let (send, recv) = self.raw.accept_bi().await?;
        Ok((SendStream::new(send), RecvStream::new(recv)))
    }

    /// The path that carries the connection; `None` when none does at the moment, or it is closed.
    pub fn path(&self) -> Option<Path> {
        self.raw.path()
    }

    /// Waits until the connection is closed, and says why.
    pub async fn closed(&self) -> CloseReason {
        self.raw.closed().await
    }

    /// Why the connection is closed; `None` while it is open.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.raw.close_reason()
    }

    /// Closes the connection at once: what was written and has not arrived is lost. `reason` is for the peer's user, a
    /// line of at most [`CLOSE_REASON_LEN_MAX`] bytes of which no more are sent.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.raw.close(code, reason.get(..floor_char_boundary(reason, CLOSE_REASON_LEN_MAX)).unwrap_or_default());
    }

    /// Whether both are handles to the same connection.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.raw, &other.raw)
    }
}

/// What a back end's connection does.
trait RawConn: fmt::Debug + Send + Sync {
    /// The kind lets a back end choose what carries the stream.
    fn open_bi(&self, kind: StreamKind) -> BoxFuture<'_, Result<RawStreams, CloseReason>>;
    fn accept_bi(&self) -> BoxFuture<'_, Result<RawStreams, CloseReason>>;
    fn path(&self) -> Option<Path>;
    fn closed(&self) -> BoxFuture<'_, CloseReason>;
    fn close_reason(&self) -> Option<CloseReason>;
    fn close(&self, code: CloseCode, reason: &str);
}

type RawStreams = (Box<dyn RawSend>, Box<dyn RawRecv>);

/// How a connection travels at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Directly or over a relay.
    pub route: Route,
    /// The measured round trip.
    pub round_trip: Duration,
    /// Packets that we sent on this path.
    pub sent_count: u64,
    /// Of these, the ones taken for lost.
    pub lost_count: u64,
    /// By what we send on it; `None` where nothing holds us back.
    pub congestion: Option<Congestion>,
}

/// A congestion controller: by what a sender finds out how much a path bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Congestion {
    /// By losses (RFC 9438).
    Cubic,
    /// By the rate at which packets arrive (draft-ietf-ccwg-bbr).
    Bbr3,
}

impl Path {
    /// The share of our packets that was lost, from 0 to 1; 0 while nothing was sent.
    pub fn loss(&self) -> f64 {
        if self.sent_count == 0 { 0.0 } else { self.lost_count as f64 / self.sent_count as f64 }
    }
}

/// What stands between two devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Nothing of ours: the peer's address.
    Direct(SocketAddr),
    /// A relay: its URL.
    Relay(String),
}

/// Why one side closed a connection, as a number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 0: all is said.
    Done,
    /// 1: this device is not, or no longer, welcome.
    Refused,
    /// 2: another connection between the same two devices stays; see [`keep_which`].
    Surplus,
    /// 3: the peer broke the protocol.
    Violation,
    /// 4: the node stops.
    Shutdown,
    /// 5: no common version of the protocol.
    OtherVersion,
    /// Any other, from a newer version.
    Other(u32),
}

impl CloseCode {
    /// The number on the wire.
    pub const fn to_number(self) -> u32 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Surplus => 2,
            Self::Violation => 3,
            Self::Shutdown => 4,
            Self::OtherVersion => 5,
            Self::Other(number) => number,
        }
    }

    /// The code of a number; every number has one.
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Refused,
            2 => Self::Surplus,
            3 => Self::Violation,
            4 => Self::Shutdown,
            5 => Self::OtherVersion,
            other => Self::Other(other),
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// We closed it.
    #[error("closed by this device")]
    ByUs,
    /// The peer closed it. The reason is the peer's word, with control characters escaped and of bounded length.
    #[error("closed by the other device: {reason} ({code:?})")]
    ByPeer {
        /// Why, for the program.
        code: CloseCode,
        /// Why, for the user.
        reason: String,
    },
    /// Nothing was heard for the idle timeout: the peer or the network is gone.
    #[error("the other device is silent")]
    Silent,
    /// The peer has lost its memory of the connection: it was restarted.
    #[error("the other device was restarted")]
    Reset,
    /// The transport failed or was misused. The text is for the log only.
    #[error("the transport failed: {detail}")]
    Transport {
        /// What the transport said.
        detail: String,
    },
}

/// Why dialling failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// No hint, and nothing else is known of the device.
    #[error("no address of device {peer} is known; pair again or give its address")]
    NoAddress {
        /// Who was dialled.
        peer: DeviceId,
    },
    /// The id is not an Ed25519 key.
    #[error("{peer} is not the key of a device; make a new ticket on the other device")]
    NotAKey {
        /// Who was dialled.
        peer: DeviceId,
    },
    /// We dialled ourselves.
    #[error("this is the device itself; use the ticket on another device")]
    OurselfDialled,
    /// Whoever answers does not hold the device's key.
    #[error("another device answers at the address of {peer}; make a new ticket there, or update its address")]
    NotProven {
        /// Who was dialled.
        peer: DeviceId,
    },
    /// The peer speaks no version that we speak.
    #[error("device {peer} runs an incompatible version; update ZeroCloud on both devices")]
    OtherVersion {
        /// Who was dialled.
        peer: DeviceId,
    },
    /// Nobody answered in time.
    #[error("device {peer} does not answer; is it switched on and connected? Start it, and try again")]
    NoAnswer {
        /// Who was dialled.
        peer: DeviceId,
    },
    /// The connection was closed before it was of use, by a refusal for example.
    #[error("device {peer} ended the connection ({reason}); try again, or make a new ticket there")]
    Ended {
        /// Who was dialled.
        peer: DeviceId,
        /// Why it ended.
        reason: CloseReason,
    },
    /// The link itself is closed.
    #[error("the node is stopping; start it and try again")]
    LinkClosed,
}

/// A reason as the peer gave it, made fit for a terminal and a log.
fn peer_reason(bytes: &[u8]) -> String {
    let bytes = bytes.get(..CLOSE_REASON_LEN_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).escape_debug().collect()
}

fn floor_char_boundary(text: &str, len_max: usize) -> usize {
    (0..=len_max.min(text.len())).rev().find(|&index| text.is_char_boundary(index)).unwrap_or(0)
}
