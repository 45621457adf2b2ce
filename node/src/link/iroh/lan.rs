//! Finding devices on the LAN by broadcast, for networks on which multicast DNS finds nothing: those without a default
//! or multicast route, and access points that drop multicast.
//!
//! Who dials a device asks each of its IPv4 networks where that is; the device answers whoever asked, and nobody else
//! hears it. Nothing is sent at other times. What is said stands in [`word`]; here are the sockets, and what bounds
//! others on the LAN:
//! - an answer counts only for a device that is being dialled, so only peers and whoever is being paired;
//! - it must come from an address of a network that this device is in: nobody has us send elsewhere;
//! - the address is where the datagram comes from, and a hint: whoever is there must prove the device's key;
//! - questions are answered a few times a second, and with fewer bytes than a handshake's first packet.

pub mod word;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::address_lookup::{AddressLookup, Error, Item};
use iroh::endpoint_info::EndpointInfo;
use iroh::{Endpoint, PublicKey};
use netwatch::interfaces::{IpNet, State};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::limits::{ADDRESS_HINT_COUNT_MAX, LAN_ANSWER_COUNT_MAX, LAN_SEARCH_COUNT_MAX};

use self::word::{BUFFER_LEN, Word};

/// The UDP port on which questions are heard.
pub(super) const PORT: u16 = 19_428;

/// When a device that is looked for is asked for, since the dial began: datagrams get lost, and devices wake up.
const QUESTIONS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(500), Duration::from_secs(2), Duration::from_secs(5)];
/// How long an answer is waited for: as long as a dial takes.
const SEARCH: Duration = super::HANDSHAKE_TIMEOUT;
/// How long the list of this device's networks counts. Cables are plugged in while a device is looked for.
const NETWORKS_AGE_MAX: Duration = Duration::from_secs(1);
/// How many answers are given at most in this time.
const ANSWER_PERIOD: Duration = Duration::from_secs(1);
/// How long nothing is heard after the system refused to let us hear.
const DEAF_PAUSE: Duration = Duration::from_secs(1);

/// Begins to look for peers by broadcast, and to answer who looks for us, until what is given back is dropped.
///
/// # Errors
/// What the system says; and that the endpoint has no IPv4 socket on which it could be reached.
pub(super) fn add_broadcast_lookup(endpoint: &Endpoint) -> io::Result<AbortOnDropHandle<()>> {
    let bound = endpoint.bound_sockets().into_iter().find_map(|bound| match bound {
        SocketAddr::V4(bound) => Some(bound),
        SocketAddr::V6(_) => None,
    });
    let bound = bound.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let (lan, hearing) = Lan::open(DeviceId(*endpoint.id().as_bytes()), bound)?;
    endpoint.address_lookup().map_err(io::Error::other)?.add(lan);
    Ok(hearing)
}

/// The LAN as a place to ask. Clones are the same.
#[derive(Clone)]
struct Lan(Arc<Shared>);

struct Shared {
    us: DeviceId,
    port: NonZeroU16,
    /// The address that we are bound to: only its network is spoken to. Unspecified: all are.
    bound: Ipv4Addr,
    /// Asks, hears what is answered, and answers.
    mouth: UdpSocket,
    /// Who is looked for now. Also held by each search's task.
    searches: Mutex<Vec<Search>>,
    /// Also held by whoever asks, and by who hears.
    networks: tokio::sync::Mutex<Option<(Instant, Arc<[Network]>)>>,
    runtime: Handle,
}

/// A device that is looked for.
struct Search {
    device: DeviceId,
    found: mpsc::Sender<Result<Item, Error>>,
}

impl Lan {
    fn open(us: DeviceId, bound: SocketAddrV4) -> io::Result<(Self, AbortOnDropHandle<()>)> {
        let port = NonZeroU16::new(bound.port()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mouth = std::net::UdpSocket::bind((*bound.ip(), 0))?;
        mouth.set_broadcast(true)?;
        mouth.set_nonblocking(true)?;
        let ear = listen()?;
        let shared = Shared {
            us,
            port,
            bound: *bound.ip(),
            mouth: UdpSocket::from_std(mouth)?,
            searches: Mutex::default(),
            networks: tokio::sync::Mutex::default(),
            runtime: Handle::current(),
        };
        let lan = Self(Arc::new(shared));
        let hearing = AbortOnDropHandle::new(tokio::spawn(lan.clone().hear_all(ear)));
        Ok((lan, hearing))
    }

    /// Hears questions on the one socket and answers on the other.
    async fn hear_all(self, ear: UdpSocket) {
        let mut allowance = Allowance::default();
        // One more for each, so that a datagram that is too long is no word.
        let (mut asked, mut answered) = ([0; BUFFER_LEN], [0; BUFFER_LEN]);
        loop {
            let heard = tokio::select! {
                heard = ear.recv_from(&mut asked) => heard.map(|(len, from)| (Word::parse(&asked[..len]), from)),
                heard = self.0.mouth.recv_from(&mut answered) => {
                    heard.map(|(len, from)| (Word::parse(&answered[..len]), from))
                }
            };
            match heard {
                Ok((Some(Word::Question { asked }), SocketAddr::V4(from))) if asked == self.0.us => {
                    if allowance.take(Instant::now()) && self.is_near(*from.ip()).await {
                        let word = Word::Answer { device: self.0.us, port: self.0.port };
                        self.say(word, from).await;
                    }
                }
                Ok((Some(Word::Answer { device, port }), SocketAddr::V4(from))) => {
                    if self.is_sought(device) && self.is_near(*from.ip()).await {
                        self.find(device, SocketAddrV4::new(*from.ip(), port.get()));
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "nothing is heard on the local network");
                    tokio::time::sleep(DEAF_PAUSE).await;
                }
            }
        }
    }

    fn searches(&self) -> MutexGuard<'_, Vec<Search>> {
        let mut searches = self.0.searches.lock().unwrap_or_else(PoisonError::into_inner);
        searches.retain(|search| !search.found.is_closed());
        searches
    }

    fn is_sought(&self, device: DeviceId) -> bool {
        self.searches().iter().any(|search| search.device == device)
    }

    fn find(&self, device: DeviceId, address: SocketAddrV4) {
        let Ok(key) = PublicKey::from_bytes(device.as_bytes()) else { return };
        let info = EndpointInfo::new(key).with_ip_addrs(vec![address.into()]);
        let item = Item::new(info, "zerocloud-lan", None);
        tracing::debug!(peer = %device, %address, "found on the local network");
        for search in self.searches().iter().filter(|search| search.device == device) {
            // Whoever has heard so many addresses of one device needs no other.
            let _ = search.found.try_send(Ok(item.clone()));
        }
    }

    /// Asks for a device until it was heard, or nobody waits any more.
    async fn ask(self, device: DeviceId, found: mpsc::Sender<Result<Item, Error>>) {
        let begun = Instant::now();
        for after in QUESTIONS {
            tokio::select! {
                () = tokio::time::sleep_until(begun + after) => {}
                () = found.closed() => return,
            }
            if found.capacity() < found.max_capacity() {
                break;
            }
            for network in self.networks().await.iter() {
                self.say(Word::Question { asked: device }, SocketAddrV4::new(network.broadcast, PORT)).await;
            }
        }
        tokio::select! {
            () = tokio::time::sleep_until(begun + SEARCH) => {}
            () = found.closed() => {}
        }
        self.searches().retain(|search| !search.found.same_channel(&found));
    }

    async fn say(&self, word: Word, to: SocketAddrV4) {
        if let Err(error) = self.0.mouth.send_to(&word.to_bytes(), to).await {
            tracing::debug!(%to, %error, "nothing was said on the local network");
        }
    }

    /// Whether an address is in a network that is spoken to.
    async fn is_near(&self, address: Ipv4Addr) -> bool {
        self.networks().await.iter().any(|network| network.has(address))
    }

    /// The networks that are spoken to.
    async fn networks(&self) -> Arc<[Network]> {
        let mut known = self.0.networks.lock().await;
        if let Some((since, networks)) = &*known
            && since.elapsed() < NETWORKS_AGE_MAX
        {
            return Arc::clone(networks);
        }
        let state = State::new().await;
        let addresses = state.interfaces.values().filter(|interface| interface.is_up());
        let addresses = addresses.flat_map(|interface| interface.addrs().collect::<Vec<_>>());
        let networks = addresses.filter_map(|address| match address {
            IpNet::V4(net) => Network::of(net.addr(), net.prefix_len()),
            IpNet::V6 { .. } => None,
        });
        let mut networks: Vec<Network> = networks.filter(|network| network.is_spoken_to_from(self.0.bound)).collect();
        networks.sort_unstable();
        networks.dedup();
        let networks: Arc<[Network]> = networks.into();
        *known = Some((Instant::now(), Arc::clone(&networks)));
        networks
    }
}

impl fmt::Debug for Lan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lan").field("bound", &self.0.bound).finish_non_exhaustive()
    }
}

impl AddressLookup for Lan {
    fn resolve(&self, key: PublicKey) -> Option<Pin<Box<dyn Stream<Item = Result<Item, Error>> + Send>>> {
        let device = DeviceId(*key.as_bytes());
        let (found, items) = mpsc::channel(ADDRESS_HINT_COUNT_MAX);
        let mut searches = self.searches();
        if searches.len() >= LAN_SEARCH_COUNT_MAX {
            return None;
        }
        searches.push(Search { device, found: found.clone() });
        drop(searches);
        self.0.runtime.spawn(self.clone().ask(device, found));
        Some(Box::pin(ReceiverStream::new(items)))
    }
}

/// An IPv4 network that this device is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Network {
    address: Ipv4Addr,
    mask: u32,
    broadcast: Ipv4Addr,
}

impl Network {
    /// `None` where there are no others to be heard by all: a point-to-point link, or an address alone.
    fn of(address: Ipv4Addr, prefix_len: u8) -> Option<Self> {
        let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix_len.into())?).unwrap_or(0);
        let broadcast = Ipv4Addr::from_bits(address.to_bits() | !mask);
        (1..31).contains(&prefix_len).then_some(Self { address, mask, broadcast })
    }

    /// Whether the address is one host's here.
    fn has(&self, address: Ipv4Addr) -> bool {
        let is_in = address.to_bits() & self.mask == self.address.to_bits() & self.mask;
        is_in && address != self.broadcast
    }

    /// Who is bound to one address speaks to its network alone; this machine's own is one only then.
    fn is_spoken_to_from(&self, bound: Ipv4Addr) -> bool {
        if bound.is_unspecified() {
            !self.address.is_loopback()
        } else {
            self.address == bound || bound.is_loopback() && self.has(bound)
        }
    }
}

/// How many answers may still be given.
#[derive(Default)]
struct Allowance {
    since: Option<Instant>,
    taken_count: usize,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now - since >= ANSWER_PERIOD) {
            *self = Self { since: Some(now), taken_count: 0 };
        }
        self.taken_count += 1;
        self.taken_count <= LAN_ANSWER_COUNT_MAX
    }
}

/// Hears what is said to all, beside other nodes of this machine.
fn listen() -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT))?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests;
