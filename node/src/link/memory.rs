//! Links inside one process: for tests and the simulator's asynchronous scenarios.
//!
//! A [`MemoryNet`] is the network: links join it, pairs of them can be cut off from each other and healed. It keeps
//! what the engine relies on: keys are proven, streams push back, an unwritten stream is not seen by the peer, a
//! dropped half is a reset. It has no latency and no loss; the simulator adds these above.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::limits::{
    ADDRESS_HINT_COUNT_MAX, HANDSHAKE_COUNT_MAX, LOG_STREAM_COUNT_MAX, OTHER_STREAM_COUNT_MAX,
};

use super::stream::{RawRecv, RawSend};
use super::{
    AddressHint, Admission, BoxFuture, CloseCode, CloseReason, Conn, DialError, Link, Path, Protocol, RawConn,
    RawStreams, Route, Side, StreamKind, peer_reason,
};

/// Bytes that a stream holds on their way, one way.
const PIPE_LEN: usize = 256 << 10;

/// A network of links in this process. Clones are handles to the same network.
#[derive(Clone, Debug, Default)]
pub struct MemoryNet {
    /// Also held by every link, which looks its peers up when it dials. Never held across an await.
    state: Arc<Mutex<NetState>>,
}

#[derive(Debug, Default)]
struct NetState {
    nodes: BTreeMap<SocketAddr, Node>,
    node_count: u32,
    /// Pairs that do not hear each other, the lower id first.
    cut: BTreeSet<(DeviceId, DeviceId)>,
    /// Connections that may be open, with the pair as in `cut`.
    wires: Vec<((DeviceId, DeviceId), Weak<Wire>)>,
}

#[derive(Debug)]
struct Node {
    id: DeviceId,
    admission: Admission,
    incoming: mpsc::Sender<Conn>,
}

impl MemoryNet {
    /// An empty network.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a device under an address of its own (from 198.18.0.0/15, RFC 2544).
    pub fn join(&self, id: DeviceId, admission: Admission) -> MemoryLink {
        let (incoming, accepted) = mpsc::channel(HANDSHAKE_COUNT_MAX);
        let mut state = self.lock();
        state.node_count += 1;
        let ip = Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(198, 18, 0, 0)) | (state.node_count & 0x1_ffff));
        let address = SocketAddr::new(IpAddr::V4(ip), 1);
        state.nodes.insert(address, Node { id, admission, incoming });
        MemoryLink { net: self.clone(), id, address, accepted: tokio::sync::Mutex::new(accepted) }
    }

    /// Parts two devices: their connections fall silent and dialling gets no answer, until [`Self::heal`].
    pub fn cut(&self, one: DeviceId, other: DeviceId) {
        self.lock().cut.insert(pair(one, other));
        self.drop_connections(one, other);
    }

    /// Lets two devices reach each other again.
    pub fn heal(&self, one: DeviceId, other: DeviceId) {
        self.lock().cut.remove(&pair(one, other));
    }

    /// Ends every connection between two devices as if the network had swallowed it: both ends see
    /// [`CloseReason::Silent`]. They may dial again.
    pub fn drop_connections(&self, one: DeviceId, other: DeviceId) {
        for (_, wire) in self.lock().wires.iter().filter(|(ends, _)| *ends == pair(one, other)) {
            if let Some(wire) = wire.upgrade() {
                wire.end(End::Silence);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, NetState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair(one: DeviceId, other: DeviceId) -> (DeviceId, DeviceId) {
    (one.min(other), one.max(other))
}

/// One device on a [`MemoryNet`].
#[derive(Debug)]
pub struct MemoryLink {
    net: MemoryNet,
    id: DeviceId,
    address: SocketAddr,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Conn>>,
}

impl MemoryLink {
    fn dial_now(&self, peer: DeviceId, protocol: Protocol, hints: &[AddressHint]) -> Result<Conn, DialError> {
        if peer == self.id {
            return Err(DialError::OurselfDialled);
        }
        let mut state = self.net.lock();
        if !state.nodes.contains_key(&self.address) {
            return Err(DialError::LinkClosed);
        }
        let addresses: Vec<SocketAddr> = hints
            .iter()
            .take(ADDRESS_HINT_COUNT_MAX)
            .filter_map(|hint| match hint {
                AddressHint::Direct(address) => Some(*address),
                AddressHint::Relay(_) => None,
            })
            .collect();
        if addresses.is_empty() {
            return Err(DialError::NoAddress { peer });
        }
        let found: Vec<(SocketAddr, &Node)> =
            addresses.iter().filter_map(|address| Some((*address, state.nodes.get(address)?))).collect();
        let Some((address, node)) = found.iter().find(|(_, node)| node.id == peer) else {
            return Err(if found.is_empty() { DialError::NoAnswer { peer } } else { DialError::NotProven { peer } });
        };
        if state.cut.contains(&pair(self.id, peer)) {
            return Err(DialError::NoAnswer { peer });
        }
        if !node.admission.admits(protocol, self.id) {
            let reason = CloseReason::ByPeer { code: CloseCode::Refused, reason: String::new() };
            return Err(DialError::Ended { peer, reason });
        }
        let (wire, ours, theirs) = connect(self.address, *address);
        let incoming = Conn::new(Arc::new(theirs), self.id, protocol, Side::Accepted);
        if node.incoming.try_send(incoming).is_err() {
            return Err(DialError::NoAnswer { peer });
        }
        state.wires.retain(|(_, wire)| wire.strong_count() > 0);
        state.wires.push((pair(self.id, peer), Arc::downgrade(&wire)));
        Ok(Conn::new(Arc::new(ours), peer, protocol, Side::Dialled))
    }

    fn leave(&self) {
        let mut state = self.net.lock();
        state.nodes.remove(&self.address);
        for ((one, other), wire) in &state.wires {
            if let Some(wire) = wire.upgrade().filter(|_| *one == self.id || *other == self.id) {
                wire.end(End::Closed {
                    by_dialler: wire.dialler == self.address,
                    code: CloseCode::Shutdown,
                    reason: String::new(),
                });
            }
        }
    }
}

impl Link for MemoryLink {
    fn id(&self) -> DeviceId {
        self.id
    }

    fn dial<'a>(
        &'a self,
        peer: DeviceId,
        protocol: Protocol,
        hints: &'a [AddressHint],
    ) -> BoxFuture<'a, Result<Conn, DialError>> {
        Box::pin(async move { self.dial_now(peer, protocol, hints) })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Conn>> {
        Box::pin(async move { self.accepted.lock().await.recv().await })
    }

    fn addresses(&self) -> Vec<AddressHint> {
        vec![AddressHint::Direct(self.address)]
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.leave() })
    }
}

impl Drop for MemoryLink {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What both ends of a connection share.
#[derive(Debug)]
struct Wire {
    dialler: SocketAddr,
    end: OnceLock<End>,
    /// Cancelled once `end` is set.
    ended: CancellationToken,
}

#[derive(Debug)]
enum End {
    Silence,
    Closed { by_dialler: bool, code: CloseCode, reason: String },
}

impl Wire {
    fn end(&self, end: End) {
        // Whoever comes second changes nothing.
        let _ = self.end.set(end);
        self.ended.cancel();
    }
}

/// One end of a connection. Its streams hold it, so that it is closed when the last of them is gone, too.
#[derive(Clone, Debug)]
struct MemoryConn {
    end: Arc<ConnEnd>,
}

#[derive(Debug)]
struct ConnEnd {
    wire: Arc<Wire>,
    is_dialler: bool,
    peer_address: SocketAddr,
    /// Streams that this end may still open.
    permits: Arc<Semaphore>,
    /// To the other end's `opened`.
    open: mpsc::UnboundedSender<Halves>,
    /// Streams that the peer opened. Bounded by the peer's permits.
    opened: tokio::sync::Mutex<mpsc::UnboundedReceiver<Halves>>,
}

/// What the peer gets of a stream: its sending and its receiving pipe, each with the mark of a proper end.
#[derive(Debug)]
struct Halves {
    send: (DuplexStream, Arc<AtomicBool>),
    recv: (DuplexStream, Arc<AtomicBool>),
}

fn connect(dialler: SocketAddr, acceptor: SocketAddr) -> (Arc<Wire>, MemoryConn, MemoryConn) {
    let wire = Arc::new(Wire { dialler, end: OnceLock::new(), ended: CancellationToken::new() });
    let (to_acceptor, from_dialler) = mpsc::unbounded_channel();
    let (to_dialler, from_acceptor) = mpsc::unbounded_channel();
    let end = |is_dialler, peer_address, open, opened| MemoryConn {
        end: Arc::new(ConnEnd {
            wire: Arc::clone(&wire),
            is_dialler,
            peer_address,
            permits: Arc::new(Semaphore::new(LOG_STREAM_COUNT_MAX + OTHER_STREAM_COUNT_MAX)),
            open,
            opened: tokio::sync::Mutex::new(opened),
        }),
    };
    let ours = end(true, acceptor, to_acceptor, from_acceptor);
    let theirs = end(false, dialler, to_dialler, from_dialler);
    (wire, ours, theirs)
}

impl ConnEnd {
    fn close(&self, code: CloseCode, reason: &str) {
        self.wire.end(End::Closed { by_dialler: self.is_dialler, code, reason: reason.to_owned() });
    }

    fn close_reason(&self) -> Option<CloseReason> {
        self.wire.end.get().map(|end| match end {
            End::Silence => CloseReason::Silent,
            End::Closed { by_dialler, .. } if *by_dialler == self.is_dialler => CloseReason::ByUs,
            End::Closed { code, reason, .. } => {
                CloseReason::ByPeer { code: *code, reason: peer_reason(reason.as_bytes()) }
            }
        })
    }

    async fn closed(&self) -> CloseReason {
        self.wire.ended.cancelled().await;
        self.close_reason().unwrap_or(CloseReason::Silent)
    }
}

impl Drop for ConnEnd {
    fn drop(&mut self) {
        self.close(CloseCode::Done, "");
    }
}

impl MemoryConn {
    fn streams(&self, halves: Halves, unseen: Option<(Halves, OwnedSemaphorePermit)>) -> RawStreams {
        let (unseen, permit) = unseen.map(|(halves, permit)| (Some(halves), Some(permit))).unwrap_or_default();
        let send = MemorySend {
            pipe: Some(halves.send.0),
            is_whole: halves.send.1,
            unseen,
            conn: self.clone(),
            ended: Box::pin(self.end.wire.ended.clone().cancelled_owned()),
            _permit: permit,
        };
        let recv = MemoryRecv {
            pipe: halves.recv.0,
            is_whole: halves.recv.1,
            _conn: self.clone(),
            ended: Box::pin(self.end.wire.ended.clone().cancelled_owned()),
        };
        (Box::new(send), Box::new(recv))
    }
}

impl RawConn for MemoryConn {
    fn open_bi(&self, _: StreamKind) -> BoxFuture<'_, Result<RawStreams, CloseReason>> {
        Box::pin(async move {
            let permit = tokio::select! {
                biased;
                reason = self.end.closed() => return Err(reason),
                permit = Arc::clone(&self.end.permits).acquire_owned() => permit.map_err(|_| CloseReason::ByUs)?,
            };
            let (our_send, their_recv) = tokio::io::duplex(PIPE_LEN);
            let (their_send, our_recv) = tokio::io::duplex(PIPE_LEN);
            let (out, back) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let ours = Halves { send: (our_send, Arc::clone(&out)), recv: (our_recv, Arc::clone(&back)) };
            let theirs = Halves { send: (their_send, back), recv: (their_recv, out) };
            Ok(self.streams(ours, Some((theirs, permit))))
        })
    }

    fn accept_bi(&self) -> BoxFuture<'_, Result<RawStreams, CloseReason>> {
        Box::pin(async move {
            let mut opened = self.end.opened.lock().await;
            tokio::select! {
                biased;
                reason = self.end.closed() => Err(reason),
                halves = opened.recv() => match halves {
                    Some(halves) => Ok(self.streams(halves, None)),
                    None => Err(self.end.closed().await),
                },
            }
        })
    }

    fn path(&self) -> Option<Path> {
        let is_open = self.close_reason().is_none();
        is_open.then(|| Path {
            route: Route::Direct(self.end.peer_address),
            round_trip: Duration::ZERO,
            sent_count: 0,
            lost_count: 0,
            congestion: None,
        })
    }

    fn closed(&self) -> BoxFuture<'_, CloseReason> {
        Box::pin(self.end.closed())
    }

    fn close_reason(&self) -> Option<CloseReason> {
        self.end.close_reason()
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.end.close(code, reason);
    }
}

struct MemorySend {
    /// `None` once it is ended or reset.
    pipe: Option<DuplexStream>,
    /// Set before the pipe is closed if nothing is missing.
    is_whole: Arc<AtomicBool>,
    /// The peer's halves until the first byte, or the end, shows it the stream.
    unseen: Option<Halves>,
    conn: MemoryConn,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl MemorySend {
    fn show(&mut self) {
        if let Some(halves) = self.unseen.take() {
            // A peer that is gone is seen at the pipe.
            let _ = self.conn.end.open.send(halves);
        }
    }
}

impl AsyncWrite for MemorySend {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        self.show();
        match &mut self.pipe {
            Some(pipe) => Pin::new(pipe).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        self.show();
        self.is_whole.store(true, Ordering::Release);
        self.pipe = None;
        Poll::Ready(Ok(()))
    }
}

impl RawSend for MemorySend {
    fn set_priority(&mut self, _: i32) {}

    fn reset(&mut self) {
        self.pipe = None;
    }
}

struct MemoryRecv {
    pipe: DuplexStream,
    is_whole: Arc<AtomicBool>,
    _conn: MemoryConn,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for MemoryRecv {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        let filled_len = buf.filled().len();
        let has_room = buf.remaining() > 0;
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        let is_end = has_room && buf.filled().len() == filled_len;
        if is_end && !self.is_whole.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl RawRecv for MemoryRecv {}
