//! A small internet: a network that everybody reaches, and homes behind routers that translate addresses.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::harness::Place;
use super::namespace::{CommandError, Namespace, run};

/// How a home's router gives out ports. No router here lets in what nobody inside has asked for, from that very address
/// and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nat {
    /// As most home routers: one port for one of the inside, whoever is spoken to.
    Easy,
    /// Another port for each address that is spoken to.
    Symmetric,
}

impl Nat {
    const fn translation(self) -> &'static str {
        match self {
            // The kernel keeps the port where it is free, and it is.
            Self::Easy => "masquerade",
            Self::Symmetric => "masquerade random,fully-random",
        }
    }
}

/// The internet and the homes on it, until this is dropped.
pub(crate) struct Internet {
    middle: Arc<Namespace>,
    homes: Vec<Home>,
}

/// A network behind a router.
struct Home {
    inside: Namespace,
    router: Namespace,
}

impl Internet {
    /// An internet with a home behind a router of each kind.
    pub(crate) fn new(nats: &[Nat]) -> Self {
        Self::make(nats).unwrap_or_else(|error| panic!("{error}"))
    }

    fn make(nats: &[Nat]) -> Result<Self, CommandError> {
        let middle = Namespace::new()?;
        forward(&middle);
        middle.ip(&["address", "add", &format!("{}/32", Self::server_address()), "dev", "lo"])?;
        let mut internet = Self { middle: Arc::new(middle), homes: Vec::new() };
        for nat in nats {
            internet.add_home(*nat)?;
        }
        Ok(internet)
    }

    fn add_home(&mut self, nat: Nat) -> Result<(), CommandError> {
        let number = self.homes.len() + 1;
        let home = Home { inside: Namespace::new()?, router: Namespace::new()? };
        let port = format!("home{number}");
        home.router.join("wan", &self.middle, &port)?;
        home.router.join("lan", &home.inside, "eth0")?;
        self.middle.ip(&["address", "add", &format!("198.18.{number}.1/24"), "dev", &port])?;
        home.router.ip(&["address", "add", &format!("198.18.{number}.2/24"), "dev", "wan"])?;
        home.router.ip(&["route", "add", "default", "via", &format!("198.18.{number}.1")])?;
        home.router.ip(&["address", "add", &format!("192.168.{number}.1/24"), "dev", "lan"])?;
        home.inside.ip(&["address", "add", &format!("192.168.{number}.2/24"), "dev", "eth0"])?;
        home.inside.ip(&["route", "add", "default", "via", &format!("192.168.{number}.1")])?;
        forward(&home.router);
        let rules = format!(
            "table ip home {{
                chain to_world {{
                    type nat hook postrouting priority srcnat
                    oifname \"wan\" {}
                }}
                chain through {{
                    type filter hook forward priority filter; policy drop;
                    ct state established,related accept
                    iifname \"lan\" accept
                }}
                chain to_router {{
                    type filter hook input priority filter; policy drop;
                    ct state established,related accept
                    iifname \"lan\" accept
                }}
            }}",
            nat.translation()
        );
        let within = home.router.within();
        run(&[within.iter().map(String::as_str).collect::<Vec<_>>(), vec!["nft", &rules]].concat())?;
        self.homes.push(home);
        Ok(())
    }

    /// The address of a server that everybody reaches.
    pub(crate) const fn server_address() -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1))
    }

    /// The network in which a server runs.
    pub(crate) fn server_network(&self) -> Arc<Namespace> {
        Arc::clone(&self.middle)
    }

    /// The place of a device in a home, which listens on whatever address it has there.
    pub(crate) fn place(&self, home: usize) -> Place {
        Place { within: self.homes[home].inside.within(), address: Ipv4Addr::UNSPECIFIED.into() }
    }

    /// Does something as a program in a home would.
    pub(crate) fn inside<T: Send>(&self, home: usize, act: impl FnOnce() -> T + Send) -> T {
        self.homes[home].inside.inside(act).unwrap()
    }
}

/// Has a network pass on packets that are for others.
fn forward(network: &Namespace) {
    network.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")).unwrap().unwrap();
}

/// What a server sees of two datagrams from one socket in a home: the address and port that each came from.
fn seen_from(internet: &Internet, home: usize) -> [std::net::SocketAddr; 2] {
    let network = internet.server_network();
    let open = || std::net::UdpSocket::bind((Internet::server_address(), 0)).unwrap();
    let servers = network.inside(|| [open(), open()]).unwrap();
    let inside = internet.inside(home, || std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
    servers.map(|server| {
        server.set_read_timeout(Some(super::harness::PATIENCE)).unwrap();
        inside.send_to(b"who am I?", server.local_addr().unwrap()).unwrap();
        server.recv_from(&mut [0; 16]).unwrap().1
    })
}

#[test]
fn routers_give_out_ports_as_their_kind_does_and_let_nobody_in() {
    if !super::are_networks() {
        return;
    }
    let internet = Internet::new(&[Nat::Easy, Nat::Symmetric]);
    let [easy, same] = seen_from(&internet, 0);
    assert_eq!(easy, same, "one port for all");
    assert_eq!(easy.ip(), "198.18.1.2".parse::<IpAddr>().unwrap(), "the address is the router's");
    let [one, other] = seen_from(&internet, 1);
    assert_ne!(one.port(), other.port(), "another port for each");

    // From another port than the one that was spoken to nothing comes in; from that one it does.
    let network = internet.server_network();
    let open = || std::net::UdpSocket::bind((Internet::server_address(), 0)).unwrap();
    let [known, stranger] = network.inside(|| [open(), open()]).unwrap();
    let inside = internet.inside(0, || std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
    known.set_read_timeout(Some(super::harness::PATIENCE)).unwrap();
    inside.set_read_timeout(Some(super::harness::PATIENCE)).unwrap();
    inside.send_to(b"hello", known.local_addr().unwrap()).unwrap();
    let (_, seen) = known.recv_from(&mut [0; 16]).unwrap();
    stranger.send_to(b"stranger", seen).unwrap();
    known.send_to(b"known", seen).unwrap();
    let mut heard = [0; 16];
    let len = inside.recv(&mut heard).unwrap();
    assert_eq!(&heard[..len], b"known", "a stranger was let in");
}
