//! Links over QUIC, by iroh: dialling by key, direct paths, relays of the user's own.
//!
//! Here live the endpoint's settings, dialling, accepting with admission, and the translation of iroh's connections
//! and errors; which congestion controller a path has is decided in `congestion`. Rebuilding an endpoint that hangs is
//! the supervisor's.
//!
//! **What leaves the machine.** With `lan` off and no relay, iroh 1.4.1 sends nothing before the first dial: its
//! network report and port mapping stand still while the relay map is empty (`socket.rs`, `DirectAddrUpdateState::run`
//! and `re_stun`), the port mapper is neither compiled in nor enabled, the resolver serves relays' names only, and
//! there is no lookup but [`MemoryLookup`]. Under `strace` two links of 32 s (past iroh's periodic report) speak to the
//! kernel's netlink only, and connect a datagram socket to learn the default interface, which sends nothing. Once two
//! devices are connected each tells the other, inside the encrypted connection, on which addresses it listens, and
//! these are probed (QUIC NAT traversal; iroh has no switch for it). Whoever wants packets to no other address binds
//! to one: then that is the only one told, as `strace` shows, too.

mod congestion;
mod conn;
mod lan;
mod lane;
mod relays;
mod settings;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use iroh::address_lookup::MemoryLookup;
use iroh::endpoint::{
    AfterHandshakeOutcome, ConnectError, ConnectOptions, Connection, EndpointHooks, Incoming, Side as IrohSide,
    WeakConnectionHandle,
};
use iroh::{Endpoint, EndpointAddr, PublicKey, RelayUrl, TransportAddr, Watcher};
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::keys::DeviceKeys;
use zerocloud_crdt::limits::{ADDRESS_HINT_COUNT_MAX, HANDSHAKE_COUNT_MAX};

use self::conn::{IrohConn, close_varint, dial_error};
use self::lane::Lanes;
use self::relays::Relays;
// For the fuzz targets: what a lane is asked before it is one.
#[doc(hidden)]
pub use self::lan::word as lan_word;
#[doc(hidden)]
pub use self::lane::{TOKEN_LEN, acceptor as lane_acceptor, hear_hello as hear_lane_hello};
pub use self::relays::{DISCOVERY_PORT, Relay};
pub use self::settings::{Bind, IrohSettings, LinkWarning, OpenLinkError, udp_buffer_warning};
use super::{AddressHint, Admission, BoxFuture, CloseCode, Conn, DialError, Link, Protocol, Side};

/// From the first packet to the proof of both keys, dialling and accepting. A silent address costs this long.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Offered last by every version and spoken by none: where it is agreed upon, the two have no common version. Without
/// it a dialler would hear nothing, for noq 1.4.0 tells no unproven address that a handshake has failed.
const ANY_VERSION_ALPN: &[u8] = b"zerocloud";

/// How long after the start no relay is missed: it is looked for in the meantime.
const RELAY_PATIENCE: Duration = Duration::from_secs(5);

/// Connections that are accepted and not yet taken by [`Link::accept`].
const ACCEPTED_COUNT_MAX: usize = 16;

/// An iroh endpoint of one device.
#[derive(Debug)]
pub struct IrohLink {
    endpoint: Endpoint,
    /// Also held by the endpoint, which asks it for the addresses of a device that it has lost.
    lookup: MemoryLookup,
    relays: Relays,
    /// Since when relays may be missed.
    opened: Instant,
    /// Every connection that may be open, for the farewell in `close`. Also held by the acceptor's task.
    open: OpenConns,
    warnings: Vec<LinkWarning>,
    /// Filled by the acceptor's task.
    accepted: Mutex<mpsc::Receiver<Conn>>,
    _acceptor: AbortOnDropHandle<()>,
    lane_acceptor: AbortOnDropHandle<()>,
    /// Hears who asks for us on the LAN.
    lan: Option<AbortOnDropHandle<()>>,
}

/// Looks for devices on the LAN in both ways. Each finds what the other does not, so only one that nobody makes up for
/// is told of.
fn find_on_lan(endpoint: &Endpoint, warnings: &mut Vec<LinkWarning>) -> Option<AbortOnDropHandle<()>> {
    let by_multicast = settings::add_lan_lookup(endpoint);
    match (by_multicast, lan::add_broadcast_lookup(endpoint)) {
        (by_multicast, Ok(hearing)) => {
            if let Err(warning) = by_multicast {
                tracing::info!(%warning, "looking for devices by broadcast alone");
            }
            Some(hearing)
        }
        (by_multicast, Err(error)) => {
            tracing::info!(%error, "looking for devices on the local network without broadcast");
            warnings.extend(by_multicast.err());
            None
        }
    }
}

impl IrohLink {
    /// Opens the sockets and begins to accept. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`OpenLinkError`].
    pub async fn open(keys: &DeviceKeys, settings: IrohSettings, admission: Admission) -> Result<Self, OpenLinkError> {
        let lookup = MemoryLookup::new();
        let relays = Relays::read(&settings.relays)?;
        let mut warnings: Vec<LinkWarning> = udp_buffer_warning().into_iter().collect();
        let endpoint = settings::bind(keys, &settings, &relays, lookup.clone(), AdmissionHook { admission }).await?;
        let mut lan = None;
        if settings.lan {
            lan = find_on_lan(&endpoint, &mut warnings);
        }
        let lanes = Lanes::new(endpoint.bound_sockets());
        let lane_acceptor = AbortOnDropHandle::new(tokio::spawn(lanes.clone().accept_all(keys)));
        let open = OpenConns { lanes, ..OpenConns::default() };
        let (sender, accepted) = mpsc::channel(ACCEPTED_COUNT_MAX);
        let acceptor = AbortOnDropHandle::new(tokio::spawn(accept_all(endpoint.clone(), open.clone(), sender)));
        let accepted = Mutex::new(accepted);
        let opened = Instant::now();
        Ok(Self { endpoint, lookup, relays, opened, open, warnings, accepted, _acceptor: acceptor, lane_acceptor, lan })
    }

    /// What is not as it should be now, though the link works.
    pub fn warnings(&self) -> Vec<LinkWarning> {
        let mut warnings = self.warnings.clone();
        if self.opened.elapsed() >= RELAY_PATIENCE {
            warnings.extend(self.relays.warnings(&self.endpoint.home_relay_status().get()));
        }
        warnings
    }

    /// The sockets' addresses. Keep the port and bind to it at the next start, so that hints stay true.
    pub fn bound(&self) -> Vec<SocketAddr> {
        self.endpoint.bound_sockets()
    }

    /// Replaces what is known of where `peer` may be found, for later dials and while a connection has lost its path.
    pub fn learn(&self, peer: DeviceId, hints: &[AddressHint]) {
        if let Ok(key) = PublicKey::from_bytes(peer.as_bytes()) {
            self.lookup.set_endpoint_info(self.endpoint_addr(key, hints));
        }
    }

    /// To be called when the system says that the network has changed, where iroh cannot see it itself (Android).
    pub async fn network_changed(&self) {
        self.endpoint.network_change().await;
    }

    fn endpoint_addr(&self, key: PublicKey, hints: &[AddressHint]) -> EndpointAddr {
        let addresses = hints.iter().take(ADDRESS_HINT_COUNT_MAX).filter_map(|hint| match hint {
            AddressHint::Direct(address) => Some(TransportAddr::Ip(*address)),
            AddressHint::Relay(url) if !self.relays.is_empty() => {
                Some(TransportAddr::Relay(url.parse::<RelayUrl>().ok()?))
            }
            AddressHint::Relay(_) => None,
        });
        EndpointAddr::from_parts(key, addresses)
    }

    async fn dial_in_time(&self, peer: DeviceId, protocol: Protocol, hints: &[AddressHint]) -> Result<Conn, DialError> {
        let key = PublicKey::from_bytes(peer.as_bytes()).map_err(|_| DialError::NotAKey { peer })?;
        let address = self.endpoint_addr(key, hints);
        if !address.is_empty() {
            self.lookup.set_endpoint_info(address.clone());
        }
        let options = ConnectOptions::new().with_additional_alpns(vec![ANY_VERSION_ALPN.to_vec()]);
        let connect = async {
            let connecting = self.endpoint.connect_with_opts(address, protocol.alpn(), options).await?;
            Ok::<_, ConnectError>(connecting.await?)
        };
        match timeout(HANDSHAKE_TIMEOUT, connect).await {
            Ok(Ok(connection)) if connection.alpn() != protocol.alpn() => {
                connection.close(close_varint(CloseCode::OtherVersion), b"");
                Err(DialError::OtherVersion { peer })
            }
            Ok(Ok(connection)) => Ok(self.open.conn(connection, peer, protocol, Side::Dialled)),
            Ok(Err(error)) => Err(dial_error(peer, error)),
            Err(_) => Err(DialError::NoAnswer { peer }),
        }
    }
}

/// Knows the open connections without holding them open.
#[derive(Clone, Debug, Default)]
struct OpenConns {
    handles: Arc<std::sync::Mutex<Vec<WeakConnectionHandle>>>,
    lanes: Lanes,
}

impl OpenConns {
    fn conn(&self, connection: Connection, peer: DeviceId, protocol: Protocol, side: Side) -> Conn {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|handle| handle.upgrade().is_some_and(|connection| connection.close_reason().is_none()));
        handles.push(connection.weak_handle());
        drop(handles);
        // Nobody asks for chunks while pairing.
        let lanes = (protocol == Protocol::Sync).then(|| self.lanes.of_conn(&connection, peer)).flatten();
        Conn::new(Arc::new(IrohConn::new(connection, lanes)), peer, protocol, side)
    }

    fn close_all(&self, code: CloseCode) {
        for handle in self.handles.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Some(connection) = handle.upgrade() {
                connection.close(close_varint(code), b"");
            }
        }
    }
}

impl Link for IrohLink {
    fn id(&self) -> DeviceId {
        DeviceId(*self.endpoint.id().as_bytes())
    }

    fn dial<'a>(
        &'a self,
        peer: DeviceId,
        protocol: Protocol,
        hints: &'a [AddressHint],
    ) -> BoxFuture<'a, Result<Conn, DialError>> {
        Box::pin(self.dial_in_time(peer, protocol, hints))
    }

    fn accept(&self) -> BoxFuture<'_, Option<Conn>> {
        Box::pin(async move { self.accepted.lock().await.recv().await })
    }

    fn addresses(&self) -> Vec<AddressHint> {
        let own = self.endpoint.addr();
        let mut direct: Vec<SocketAddr> =
            own.ip_addrs().copied().filter(|address| is_reachable(address.ip())).collect();
        direct.sort_by_key(|address| (nearness(address.ip()), *address));
        let mut relays: Vec<String> = own.relay_urls().map(ToString::to_string).collect();
        if relays.is_empty() {
            // Until one is chosen, which takes a moment after the start, it may be any.
            relays = self.relays.urls();
        }
        let relays = relays.into_iter().map(AddressHint::Relay);
        // A relay is worth more than the seventeenth interface.
        relays.chain(direct.into_iter().map(AddressHint::Direct)).take(ADDRESS_HINT_COUNT_MAX).collect()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.open.close_all(CloseCode::Shutdown);
            self.lane_acceptor.abort();
            if let Some(lan) = &self.lan {
                lan.abort();
            }
            self.endpoint.close().await;
        })
    }
}

/// An address means something to another machine: link-local IPv6 does only with the other's own scope.
fn is_reachable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_unicast_link_local(),
    }
}

/// Lower is better: the LAN before the rest, this machine last.
fn nearness(ip: IpAddr) -> u8 {
    match ip {
        _ if ip.is_loopback() => 3,
        IpAddr::V4(v4) if v4.is_private() => 0,
        IpAddr::V6(v6) if v6.is_unique_local() => 1,
        IpAddr::V4(v4) if v4.is_link_local() => 2,
        _ => 1,
    }
}

/// Asks the admission on each incoming connection. Whom we dial was chosen by the caller.
#[derive(Debug)]
struct AdmissionHook {
    admission: Admission,
}

impl EndpointHooks for AdmissionHook {
    async fn after_handshake(&self, connection: &Connection) -> AfterHandshakeOutcome {
        let refusal = match (connection.side(), Protocol::from_alpn(connection.alpn())) {
            (IrohSide::Client, _) => return AfterHandshakeOutcome::Accept,
            (IrohSide::Server, Some(protocol)) if self.admission.admits(protocol, peer_of(connection)) => {
                return AfterHandshakeOutcome::Accept;
            }
            (IrohSide::Server, Some(_)) => CloseCode::Refused,
            (IrohSide::Server, None) => CloseCode::OtherVersion,
        };
        tracing::debug!(peer = %peer_of(connection), ?refusal, "refused a connection");
        AfterHandshakeOutcome::Reject { error_code: close_varint(refusal), reason: Vec::new() }
    }
}

fn peer_of(connection: &Connection) -> DeviceId {
    DeviceId(*connection.remote_id().as_bytes())
}

/// Completes incoming handshakes, a bounded number at a time, each in a task of its own so that none delays or
/// brings down another. Ends when the endpoint is closed.
async fn accept_all(endpoint: Endpoint, open: OpenConns, accepted: mpsc::Sender<Conn>) {
    let permits = Arc::new(Semaphore::new(HANDSHAKE_COUNT_MAX));
    let mut handshakes = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while handshakes.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        // Under load an address has to show that it hears us before anything is kept for it (RFC 9000, 8.1.2).
        if permits.available_permits() < HANDSHAKE_COUNT_MAX / 2 && !incoming.remote_addr_validated() {
            if let Err(error) = incoming.retry() {
                tracing::debug!(%error, "no retry was sent");
            }
            continue;
        }
        let (open, accepted) = (open.clone(), accepted.clone());
        handshakes.spawn(async move {
            let _permit = permit;
            match timeout(HANDSHAKE_TIMEOUT, complete(incoming, &open)).await {
                // The receiver is gone only when the link is.
                Ok(Some(conn)) => drop(accepted.send(conn).await),
                Ok(None) => {}
                Err(_) => tracing::debug!("an incoming handshake took too long"),
            }
        });
    }
}

async fn complete(incoming: Incoming, open: &OpenConns) -> Option<Conn> {
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(error = %error.to_string().escape_debug(), "an incoming connection failed");
            return None;
        }
    };
    let protocol = Protocol::from_alpn(connection.alpn())?;
    let peer = peer_of(&connection);
    Some(open.conn(connection, peer, protocol, Side::Accepted))
}
