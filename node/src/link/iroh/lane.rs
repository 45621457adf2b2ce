//! Lanes: streams of a connection that travel over TCP, each on a TCP connection of its own.
//!
//! On a near, direct path the processor is the bound, and there TCP with TLS takes a third of what QUIC does: the kernel
//! cuts segments and joins them. So a stream of chunks asks for a lane and takes QUIC where there is none: the path is
//! far or over a relay, a firewall lets UDP only pass, the peer is an older version. All else stays on QUIC.
//!
//! A lane belongs to one connection, which both ends have proven already. The side that opens it dials the peer's
//! address of the moment, takes no key but the peer's (TLS 1.3, [`tls`]) and shows a token that both ends draw from the
//! connection's own secrets (RFC 8446, 7.5), so that nobody else can have it. The peer looks the connection up by it and
//! says so with one byte, and the other side with one more that it did not give up meanwhile: from then on it is a stream.
//! A lane ends with its connection.

mod tls;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use iroh::endpoint::{Connection, WeakConnectionHandle};
use rustix::net::{Shutdown, sockopt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::keys::DeviceKeys;
use zerocloud_crdt::limits::{HANDSHAKE_COUNT_MAX, LANE_COUNT_MAX};
use zeroize::Zeroizing;

use super::HANDSHAKE_TIMEOUT;
use crate::link::stream::{RawRecv, RawSend};
use crate::link::{Path, RawStreams, Route};

/// Above this round trip the network is the bound, and QUIC's congestion control is the better one. It is the time in
/// which TCP must connect: the peer's kernel answers that however busy the peer is.
const NEAR_ROUND_TRIP_MAX: Duration = Duration::from_millis(20);
/// Above this round trip of QUIC's no lane is tried. QUIC's first estimates hold the peer's part of the handshake, too.
const TOLD_ROUND_TRIP_MAX: Duration = Duration::from_millis(60);
/// From the first packet to the peer's word that it has the stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// So long an address that had no lane for us is not asked again.
const AVOID_DURATION: Duration = Duration::from_secs(600);
/// Silence after which the system asks whether the peer is there, and between two such questions. A peer that is gone is
/// seen by the connection; this is for a path that lets QUIC through and no more TCP. The kernel's limit for what is not
/// acknowledged (`TCP_USER_TIMEOUT`) would also end the lane to a peer that is there and does not read.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// So many questions without an answer end the lane.
const KEEPALIVE_COUNT: u32 = 3;
/// The system is asked for so much at once, in bytes; rustls alone asks for 4 KiB.
const READ_LEN: usize = 128 << 10;

/// Length of a token in bytes.
pub const TOKEN_LEN: usize = 32;
const TOKEN_LABEL: &[u8] = b"EXPORTER-zerocloud-lane/1";
/// The accepting side's word that the lane belongs to an open connection.
const TAKEN: u8 = 1;
/// The dialling side's word that it uses the lane.
const USED: u8 = 2;

/// The lanes of one link: where the connections are found that they belong to.
#[derive(Clone, Debug, Default)]
pub(super) struct Lanes {
    conns: Arc<Mutex<Vec<Weak<ConnLanes>>>>,
    /// The sockets of QUIC: from their addresses lanes are dialled, too.
    bound: Arc<[SocketAddr]>,
}

impl Lanes {
    /// For a link whose QUIC is bound to `bound`.
    pub(super) fn new(bound: Vec<SocketAddr>) -> Self {
        Self { conns: Arc::default(), bound: bound.into() }
    }

    /// Takes lanes on the addresses and ports of QUIC until it is dropped. Where one is taken, peers stay with QUIC.
    /// To be called within a runtime.
    pub(super) fn accept_all(self, keys: &DeviceKeys) -> impl Future<Output = ()> + Send + use<> {
        let listeners: Vec<TcpListener> = self.bound.iter().filter_map(|address| listen(*address)).collect();
        let acceptor = acceptor(keys);
        async move {
            let acceptor = match acceptor {
                Ok(acceptor) => acceptor,
                Err(error) => return tracing::warn!(%error, "chunks come over QUIC only"),
            };
            let places = Arc::new(Semaphore::new(HANDSHAKE_COUNT_MAX));
            let mut accepting = JoinSet::new();
            for listener in listeners {
                accepting.spawn(accept_on(listener, acceptor.clone(), self.clone(), places.clone()));
            }
            while accepting.join_next().await.is_some() {}
        }
    }

    /// The lanes of a connection to `peer`. To be called within a runtime.
    pub(super) fn of_conn(&self, connection: &Connection, peer: DeviceId) -> Option<Arc<ConnLanes>> {
        let mut token = Zeroizing::new([0; TOKEN_LEN]);
        connection.export_keying_material(&mut *token, TOKEN_LABEL, &[]).ok()?;
        let ended = CancellationToken::new();
        let (closed, ending) = (connection.weak_handle().closed(), ended.clone());
        tokio::spawn(async move {
            closed.await;
            ending.cancel();
        });
        let (handing, handed) = mpsc::channel(LANE_COUNT_MAX);
        let lanes = Arc::new(ConnLanes {
            peer,
            connection: connection.weak_handle(),
            token,
            bound: self.bound.clone(),
            avoided: Mutex::default(),
            opened: Arc::new(Semaphore::new(LANE_COUNT_MAX)),
            taken: Arc::new(Semaphore::new(LANE_COUNT_MAX)),
            handing,
            handed: tokio::sync::Mutex::new(handed),
            ended,
        });
        let mut conns = lock(&self.conns);
        conns.retain(|conn| conn.strong_count() > 0);
        conns.push(Arc::downgrade(&lanes));
        Some(lanes)
    }

    /// Whose token it is. In constant time for each connection: the hash is compared.
    fn find(&self, token: &[u8; TOKEN_LEN]) -> Option<Arc<ConnLanes>> {
        let shown = blake3::hash(token);
        let conns: Vec<Arc<ConnLanes>> = lock(&self.conns).iter().filter_map(Weak::upgrade).collect();
        conns.into_iter().find(|conn| blake3::hash(&*conn.token) == shown)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn socket_for(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

fn listen(address: SocketAddr) -> Option<TcpListener> {
    let open = || {
        let socket = socket_for(address)?;
        if address.is_ipv6() {
            // Both families are bound, each on its own.
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        // Not to wait for lanes of before the last stop.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(HANDSHAKE_COUNT_MAX as u32)
    };
    open().inspect_err(|error| tracing::info!(%address, %error, "chunks do not come over TCP here")).ok()
}

async fn accept_on(listener: TcpListener, acceptor: TlsAcceptor, lanes: Lanes, places: Arc<Semaphore>) {
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of file descriptors, or a peer that was quicker gone than taken.
                tracing::debug!(%error, "a lane was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Who comes when all places are taken hears the end at once and stays with QUIC.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (acceptor, lanes) = (acceptor.clone(), lanes.clone());
        handshakes.spawn(async move {
            let _place = place;
            match timeout(HANDSHAKE_TIMEOUT, take(socket, &acceptor, &lanes)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a lane was not taken"),
                Err(_) => tracing::debug!("a lane was too slow"),
            }
        });
    }
}

/// Proves ourselves to whoever dialled, and gives the lane to the connection whose token is shown.
async fn take(socket: TcpStream, acceptor: &TlsAcceptor, lanes: &Lanes) -> io::Result<()> {
    prepare(&socket)?;
    let mut stream = acceptor.accept(BufReader::with_capacity(READ_LEN, socket)).await?;
    let (conn, place) = hear_hello(&mut stream, |token| {
        let conn = lanes.find(token).ok_or(io::ErrorKind::PermissionDenied)?;
        let place = conn.taken.clone().try_acquire_owned().map_err(|_| io::ErrorKind::QuotaExceeded)?;
        Ok((conn, place))
    })
    .await?;
    let streams = conn.streams(stream.into(), place).ok_or(io::ErrorKind::NotConnected)?;
    conn.handing.send(streams).await.map_err(|_| io::ErrorKind::NotConnected.into())
}

/// What whoever dialled says before a lane is a stream: the token, and after our word that it uses the lane. `find` gives
/// what the token stands for.
///
/// # Errors
/// Those of the stream and of `find`; `InvalidData` where the lane is not used.
pub async fn hear_hello<T>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    find: impl FnOnce(&[u8; TOKEN_LEN]) -> io::Result<T>,
) -> io::Result<T> {
    let mut token = Zeroizing::new([0; TOKEN_LEN]);
    stream.read_exact(&mut *token).await?;
    let found = find(&token)?;
    stream.write_all(&[TAKEN]).await?;
    stream.flush().await?;
    if stream.read_u8().await? != USED {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(found)
}

/// What the side that accepts proves itself with.
///
/// # Errors
/// That of a key which can't be used.
pub fn acceptor(keys: &DeviceKeys) -> Result<TlsAcceptor, rustls::Error> {
    Ok(TlsAcceptor::from(tls::server_config(keys)?))
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE)?;
    Ok(sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?)
}

/// The lanes of one connection.
pub(super) struct ConnLanes {
    peer: DeviceId,
    connection: WeakConnectionHandle,
    token: Zeroizing<[u8; TOKEN_LEN]>,
    bound: Arc<[SocketAddr]>,
    /// The address that had no lane for us last, and when.
    avoided: Mutex<Option<(SocketAddr, Instant)>>,
    /// Lanes that this side may still open.
    opened: Arc<Semaphore>,
    /// Lanes that the peer may still open.
    taken: Arc<Semaphore>,
    handing: mpsc::Sender<RawStreams>,
    handed: tokio::sync::Mutex<mpsc::Receiver<RawStreams>>,
    /// Cancelled once the connection is closed.
    ended: CancellationToken,
}

impl ConnLanes {
    /// The connection is closed: ends all lanes at once, whether or not the watcher of it has run.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Opens a lane if the connection travels on `path`; `None` where QUIC is to be taken.
    pub(super) async fn open(&self, path: Option<Path>) -> Option<RawStreams> {
        let path = path.filter(|path| path.round_trip <= TOLD_ROUND_TRIP_MAX)?;
        let Route::Direct(address) = path.route else { return None };
        let is_avoided =
            |(avoided, since): (SocketAddr, Instant)| avoided == address && since.elapsed() < AVOID_DURATION;
        if lock(&self.avoided).is_some_and(is_avoided) {
            return None;
        }
        let place = self.opened.clone().try_acquire_owned().ok()?;
        let opened =
            timeout(OPEN_TIMEOUT, self.dial(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match opened {
            Ok(stream) => self.streams(stream, place),
            Err(error) => {
                tracing::debug!(peer = %self.peer, %address, %error, "no lane; chunks come over QUIC");
                *lock(&self.avoided) = Some((address, Instant::now()));
                None
            }
        }
    }

    /// The next lane that the peer opened. A cancelled call loses none.
    pub(super) async fn accept(&self) -> Option<RawStreams> {
        self.handed.lock().await.recv().await
    }

    async fn dial(&self, address: SocketAddr) -> io::Result<TlsStream<BufReader<TcpStream>>> {
        let socket = self.connect(address).await?;
        prepare(&socket)?;
        let config = tls::client_config(self.peer).map_err(io::Error::other)?;
        let buffered = BufReader::with_capacity(READ_LEN, socket);
        let mut stream = TlsConnector::from(config).connect(address.ip().into(), buffered).await?;
        stream.write_all(&*self.token).await?;
        stream.flush().await?;
        if stream.read_u8().await? != TAKEN {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // Nothing waits from here on: what is said is what is done.
        stream.write_all(&[USED]).await?;
        stream.flush().await?;
        Ok(stream.into())
    }

    /// A socket that is connected to an address. Twice: the first time this process may have been kept from looking.
    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let tried = timeout(NEAR_ROUND_TRIP_MAX, self.connect_once(address)).await;
        match tried {
            Ok(connected) => connected,
            Err(_) => timeout(NEAR_ROUND_TRIP_MAX, self.connect_once(address)).await?,
        }
    }

    async fn connect_once(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = socket_for(address)?;
        // Who binds to one address sends from no other.
        let of_family = |bound: &&SocketAddr| bound.is_ipv4() == address.is_ipv4() && !bound.ip().is_unspecified();
        if let Some(bound) = self.bound.iter().find(of_family) {
            let mut source = *bound;
            source.set_port(0);
            socket.bind(source)?;
        }
        socket.connect(address).await
    }

    /// Both halves of a lane; `None` if the connection is gone.
    fn streams(&self, tls: TlsStream<BufReader<TcpStream>>, place: OwnedSemaphorePermit) -> Option<RawStreams> {
        let connection = self.connection.upgrade()?;
        let lane = Arc::new(Lane { tls: Mutex::new(tls), _connection: connection, _place: place });
        let ended = || Box::pin(self.ended.clone().cancelled_owned());
        let send = LaneSend { lane: Arc::clone(&lane), ended: ended() };
        let recv = LaneRecv { lane, ended: ended(), has_end: false };
        Some((Box::new(send), Box::new(recv)))
    }
}

impl fmt::Debug for ConnLanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnLanes").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What the halves of a lane share. They hold the connection open, as QUIC's streams do.
struct Lane {
    /// Never held across an await.
    tls: Mutex<TlsStream<BufReader<TcpStream>>>,
    _connection: Connection,
    _place: OwnedSemaphorePermit,
}

impl Lane {
    fn with<T>(&self, poll: impl FnOnce(Pin<&mut TlsStream<BufReader<TcpStream>>>) -> T) -> T {
        poll(Pin::new(&mut *lock(&self.tls)))
    }

    fn shut_down(&self, how: Shutdown) {
        // What the peer has closed already needs nothing.
        let _ = rustix::net::shutdown(lock(&self.tls).get_ref().0.get_ref(), how);
    }
}

type Ended = Pin<Box<WaitForCancellationFutureOwned>>;

fn unless(ended: &mut Ended, cx: &mut Context<'_>) -> io::Result<()> {
    if ended.as_mut().poll(cx).is_ready() { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
}

struct LaneSend {
    lane: Arc<Lane>,
    ended: Ended,
}

impl AsyncWrite for LaneSend {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        unless(&mut self.ended, cx)?;
        self.lane.with(|tls| tls.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        unless(&mut self.ended, cx)?;
        self.lane.with(|tls| tls.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        unless(&mut self.ended, cx)?;
        self.lane.with(|tls| tls.poll_shutdown(cx))
    }
}

impl RawSend for LaneSend {
    /// TCP connections share a path evenly.
    fn set_priority(&mut self, _: i32) {}

    /// An end without TLS's own: the peer takes what came before for cut short (RFC 8446, 6.1).
    fn reset(&mut self) {
        self.lane.shut_down(Shutdown::Write);
    }
}

struct LaneRecv {
    lane: Arc<Lane>,
    ended: Ended,
    has_end: bool,
}

impl AsyncRead for LaneRecv {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        unless(&mut self.ended, cx)?;
        let before = buf.filled().len();
        let read = ready!(self.lane.with(|tls| tls.poll_read(cx, buf)));
        self.has_end |= read.is_ok() && buf.remaining() > 0 && buf.filled().len() == before;
        Poll::Ready(read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::ErrorKind::ConnectionReset.into(),
            _ => error,
        }))
    }
}

impl RawRecv for LaneRecv {}

impl Drop for LaneRecv {
    fn drop(&mut self) {
        if !self.has_end {
            // TCP has no word for it but the end of both directions: whatever the peer sends then is refused.
            self.lane.shut_down(Shutdown::Both);
        }
    }
}
