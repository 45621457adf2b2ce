//! Two networks of a test, joined by a cable, and all packets that pass.
//!
//! Each end is a network namespace with a loopback, one interface, and the other end as its way to everywhere else:
//! what is sent to any address is seen, for nothing is refused for want of a route.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth};

use super::harness::Place;
use super::namespace::Namespace;

/// What waits to be read while the reader is held up.
const BUFFER_LEN: usize = 64 << 20;
/// A packet that the kernel has not yet cut into those of the cable may be this long, and has its headers.
const PACKET_LEN_MAX: usize = (64 << 10) + 256;
/// How long the reader waits before it looks whether it is to end.
const READ_TIMEOUT: Duration = Duration::from_millis(50);

/// Two networks and what joins them.
pub(crate) struct Cable {
    /// Its ends.
    pub(crate) ends: [Network; 2],
}

impl Cable {
    /// A cable between two new networks.
    pub(crate) fn new() -> Self {
        let cable = Self::bare();
        let [one, other] = &cable.ends;
        one.open(other);
        other.open(one);
        cable
    }

    /// A cable between two new networks that know of nothing but each other's IPv4 addresses: there is no way to
    /// elsewhere, and none to a multicast group.
    pub(crate) fn bare() -> Self {
        let ends = [1, 2].map(Network::new);
        let [one, other] = &ends;
        one.namespace.join("eth0", &other.namespace, "eth0").unwrap();
        for end in &ends {
            end.take_address(end.v4);
        }
        Self { ends }
    }
}

/// A network namespace.
pub(crate) struct Network {
    namespace: Namespace,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Network {
    fn new(number: u8) -> Self {
        let v6 = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into());
        Self { namespace: Namespace::new().unwrap(), v4: Ipv4Addr::new(10, 77, 0, number), v6 }
    }

    fn open(&self, other: &Self) {
        let ip = |words: &[&str]| self.namespace.ip(words).unwrap();
        ip(&["address", "add", &format!("{}/64", self.v6), "dev", "eth0", "nodad"]);
        ip(&["route", "add", "default", "via", &other.v4.to_string()]);
        ip(&["-6", "route", "add", "default", "via", &other.v6.to_string()]);
    }

    /// Has this IPv4 address from now on, and no other.
    pub(crate) fn take_address(&self, address: Ipv4Addr) {
        self.namespace.ip(&["-4", "address", "flush", "dev", "eth0"]).unwrap();
        self.namespace.ip(&["address", "add", &format!("{address}/24"), "dev", "eth0"]).unwrap();
    }

    /// The place of a device that lives in it and listens on whatever address it has.
    pub(crate) fn place_anywhere(&self) -> Place {
        Place { within: self.namespace.within(), address: Ipv4Addr::UNSPECIFIED.into() }
    }

    /// Its address.
    pub(crate) fn address(&self) -> IpAddr {
        self.v4.into()
    }

    /// The place of a device that lives in it.
    pub(crate) fn place(&self) -> Place {
        Place { within: self.namespace.within(), address: self.address() }
    }

    /// How many bytes came by the cable, since there is one.
    pub(crate) fn received_len(&self) -> u64 {
        let counts = self.inside(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        let line = counts.lines().find_map(|line| line.trim_start().strip_prefix("eth0:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Does something as a program in this network would.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.namespace.inside(act).unwrap()
    }

    /// Begins to keep every packet that comes or goes by any interface.
    pub(crate) fn capture(&self) -> Capture {
        let flags = SocketFlags::CLOEXEC;
        let socket = self.inside(|| {
            rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(eth::ALL)).unwrap()
        });
        set_socket_recv_buffer_size_force(&socket, BUFFER_LEN).unwrap();
        set_socket_timeout(&socket, Timeout::Recv, Some(READ_TIMEOUT)).unwrap();
        let (packets, is_ending) = (Arc::default(), Arc::default());
        let (kept, ending) = (Arc::clone(&packets), Arc::clone(&is_ending));
        let reader = std::thread::spawn(move || read_all(&socket, &kept, &ending));
        Capture { packets, is_ending, reader }
    }
}

/// Packets that are being kept.
pub(crate) struct Capture {
    packets: Arc<Mutex<Vec<Packet>>>,
    is_ending: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

impl Capture {
    /// What was seen until now.
    pub(crate) fn packets(&self) -> Vec<Packet> {
        self.packets.lock().unwrap().clone()
    }

    /// Ends it; gives all that was seen.
    pub(crate) fn end(self) -> Vec<Packet> {
        self.is_ending.store(true, Ordering::Relaxed);
        self.reader.join().unwrap();
        std::mem::take(&mut *self.packets.lock().unwrap())
    }
}

/// Reads until it is to end and nothing is left.
fn read_all(socket: &OwnedFd, packets: &Mutex<Vec<Packet>>, is_ending: &AtomicBool) {
    let mut buffer = vec![0; PACKET_LEN_MAX];
    loop {
        match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
            Ok((len, _)) => packets.lock().unwrap().push(Packet(buffer[..len].to_vec())),
            Err(Errno::AGAIN) if is_ending.load(Ordering::Relaxed) => return,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => panic!("the capture ends: {error}"),
        }
    }
}

/// A packet from its Ethernet header on.
#[derive(Clone)]
pub(crate) struct Packet(pub(crate) Vec<u8>);

/// Of an Ethernet header.
const ETHERNET_LEN: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

impl Packet {
    /// From where and to where, if it is an IP packet.
    pub(crate) fn ends(&self) -> Option<[IpAddr; 2]> {
        let (kind, ip) = (&self.0[12..ETHERNET_LEN], &self.0[ETHERNET_LEN..]);
        if kind == IPV4 {
            return Some([12, 16].map(|at| IpAddr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap())));
        }
        (kind == IPV6).then(|| [8, 24].map(|at| IpAddr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap())))
    }

    /// Whether the kernel alone sent it, to say which multicast groups it listens to over IPv6 (RFC 3810): it does
    /// so for its own sake whenever an interface has an address.
    pub(crate) fn is_membership(&self) -> bool {
        let ip = &self.0[ETHERNET_LEN..];
        // A hop-by-hop header of 8 bytes stands between IPv6 and ICMPv6.
        self.0[12..ETHERNET_LEN] == IPV6 && ip[6] == 0 && ip[40] == 58 && matches!(ip[48], 131 | 132 | 143)
    }
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let begin = &self.0[..self.0.len().min(96)];
        write!(f, "{:?} {}", self.ends(), data_encoding::HEXLOWER.encode(begin))
    }
}
