//! Nodes with spaces on redb, over the memory link and over iroh. Time passes when a test says so.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::*;
use crate::clock::{Moment, WallTime};
use crate::config::Config;
use crate::engine::founding::{Founding, founding};
use crate::link::memory::MemoryNet;
use crate::link::{Admission, CloseCode, CloseReason, Protocol, Side};
use zerocloud_crdt::address::AddressRecord;

use crate::session::tests::hostile::Intruder;
use crate::session::tests::{Device, everyone, until};

#[derive(Default)]
struct HandClock(AtomicU64);

impl Clock for HandClock {
    fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::SeqCst))
    }

    fn wall_time(&self) -> WallTime {
        WallTime(1_800_000_000_000_000_000 + self.0.load(Ordering::SeqCst) as i64)
    }
}

/// What the hooks were told, in order.
enum Heard {
    Connected(Conn, Greeting),
    Disconnected(Conn),
}

struct Hooks {
    known: Mutex<Vec<(DeviceId, Vec<AddressHint>)>>,
    asked_count: AtomicUsize,
    heard: Mutex<Vec<Heard>>,
    paired: Semaphore,
}

impl PeerHooks for Hooks {
    fn known(&self) -> BoxFuture<'_, Vec<(DeviceId, Vec<AddressHint>)>> {
        self.asked_count.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { lock(&self.known).clone() })
    }

    fn pair(&self, conn: Conn) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            conn.close(CloseCode::Done, "paired");
            self.paired.add_permits(1);
        })
    }

    fn connected(&self, device: DeviceId, conn: &Conn, greeting: &Greeting) {
        assert_eq!(device, conn.peer());
        lock(&self.heard).push(Heard::Connected(conn.clone(), greeting.clone()));
    }

    fn disconnected(&self, _: DeviceId, conn: &Conn) {
        lock(&self.heard).push(Heard::Disconnected(conn.clone()));
    }
}

struct Node {
    device: Device,
    peers: Peers,
    hooks: Arc<Hooks>,
    clock: Arc<HandClock>,
    shutdown: CancellationToken,
}

type Known = Vec<(DeviceId, Vec<AddressHint>)>;

impl Node {
    fn start(founding: &Founding, n: usize, link: Arc<dyn Link>, known: Known) -> Self {
        let device = Device::with_records(founding, n, founding.records.clone(), link.clone());
        device.spaces.insert(device.space.clone());
        let hooks = Arc::new(Hooks {
            known: Mutex::new(known),
            asked_count: AtomicUsize::new(0),
            heard: Mutex::default(),
            paired: Semaphore::new(0),
        });
        let clock = Arc::<HandClock>::default();
        let us = Us {
            agent: "test".into(),
            name: Name::parse(format!("node{n}").as_bytes()).unwrap(),
            keys: founding.keys[n].clone(),
            clock: clock.clone(),
            seed: [n as u8; 32],
        };
        let shutdown = CancellationToken::new();
        let peers = Peers::start(link, device.spaces.clone(), us, hooks.clone(), shutdown.clone());
        Self { device, peers, hooks, clock, shutdown }
    }

    fn id(&self) -> DeviceId {
        self.device.link.id()
    }

    fn now(&self, peer: DeviceId) -> Option<PeerNow> {
        self.peers.list().into_iter().find(|now| now.device == peer)
    }

    fn last_error(&self, peer: DeviceId) -> Option<String> {
        self.now(peer)?.last_error
    }

    fn pass(&self, time: Duration) {
        self.clock.0.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
        self.peers.refresh();
    }

    /// For each device the hooks heard of connections by turns.
    fn check_turns(&self) {
        let mut open: BTreeMap<DeviceId, Conn> = BTreeMap::new();
        for heard in lock(&self.hooks.heard).iter() {
            match heard {
                Heard::Connected(conn, _) => assert!(open.insert(conn.peer(), conn.clone()).is_none()),
                Heard::Disconnected(conn) => assert!(open.remove(&conn.peer()).unwrap().is_same(conn)),
            }
        }
        for (device, conn) in open {
            assert!(self.peers.conn(device).is_some_and(|now| now.is_same(&conn)));
        }
    }

    /// Knows the devices of which it has heard, as a node does.
    fn know_what_was_passed(&self) {
        let heard = self.device.spaces.addresses().newer_than(&BTreeMap::new());
        let hints = |record: &AddressRecord| record.hints.iter().map(AddressHint::from).collect();
        *lock(&self.hooks.known) =
            heard.iter().map(|addresses| (addresses.record().device, hints(addresses.record()))).collect();
        self.peers.refresh();
    }

    async fn stop(&self) {
        self.shutdown.cancel();
        self.peers.ended().await;
        self.check_turns();
        assert!(self.peers.list().iter().all(|now| now.conn.is_none()));
    }
}

async fn joined(net: &MemoryNet, founding: &Founding, n: usize) -> Arc<dyn Link> {
    Arc::new(net.join(founding.keys[n].id(), everyone()))
}

fn whereabouts(link: &Arc<dyn Link>) -> (DeviceId, Vec<AddressHint>) {
    (link.id(), link.addresses())
}

/// The two ends are ends of one connection that is open, as both see it.
fn are_connected(one: &Node, other: &Node) -> bool {
    match (one.peers.conn(other.id()), other.peers.conn(one.id())) {
        (Some(here), Some(there)) => {
            here.side() != there.side() && here.close_reason().is_none() && there.close_reason().is_none()
        }
        _ => false,
    }
}

async fn converge(nodes: &[&Node], text: &str) {
    for (n, node) in nodes.iter().enumerate() {
        node.device.make(&format!("{text}{n}")).await;
    }
    until(|| nodes.windows(2).all(|pair| pair[0].device.frontier() == pair[1].device.frontier())).await;
}

#[tokio::test]
async fn two_nodes_that_both_dial_end_with_one_connection_and_in_sync() {
    let founding = founding(2, 61);
    for _ in 0..10 {
        let net = MemoryNet::new();
        let links = [joined(&net, &founding, 0).await, joined(&net, &founding, 1).await];
        let a = Node::start(&founding, 0, links[0].clone(), vec![whereabouts(&links[1])]);
        let b = Node::start(&founding, 1, links[1].clone(), vec![whereabouts(&links[0])]);
        until(|| are_connected(&a, &b)).await;
        converge(&[&a, &b], "x").await;
        assert!(are_connected(&a, &b));
        a.check_turns();
        b.check_turns();
        a.stop().await;
        b.stop().await;
    }
}

#[tokio::test]
async fn three_nodes_converge() {
    let founding = founding(3, 62);
    let net = MemoryNet::new();
    let mut links = Vec::new();
    for n in 0..3 {
        links.push(joined(&net, &founding, n).await);
    }
    // Each is told of itself, too, and makes nothing of it.
    let known: Known = links.iter().map(whereabouts).collect();
    let nodes: Vec<Node> = (0..3).map(|n| Node::start(&founding, n, links[n].clone(), known.clone())).collect();
    let [a, b, c] = &nodes[..] else { panic!("not three") };
    until(|| are_connected(a, b) && are_connected(b, c) && are_connected(a, c)).await;
    converge(&[a, b, c], "x").await;
    assert_eq!(a.peers.list().len(), 2);
    for node in &nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn two_that_know_a_third_find_each_other_and_go_on_without_it() {
    let founding = founding(3, 68);
    let net = MemoryNet::new();
    let mut links = Vec::new();
    for n in 0..3 {
        links.push(joined(&net, &founding, n).await);
    }
    let third = vec![whereabouts(&links[0])];
    let a = Node::start(&founding, 0, links[0].clone(), Vec::new());
    let b = Node::start(&founding, 1, links[1].clone(), third.clone());
    let c = Node::start(&founding, 2, links[2].clone(), third);
    until(|| are_connected(&a, &b) && are_connected(&a, &c)).await;
    for (here, there) in [(&b, &c), (&c, &b)] {
        let is_heard_of = || {
            let heard = here.device.spaces.addresses().newer_than(&BTreeMap::new());
            heard.iter().any(|addresses| addresses.record().device == there.id())
        };
        until(is_heard_of).await;
        here.know_what_was_passed();
    }
    until(|| are_connected(&b, &c)).await;
    a.stop().await;
    converge(&[&b, &c], "without a").await;
    b.stop().await;
    c.stop().await;
}

#[tokio::test]
async fn a_peer_that_was_away_is_found_when_it_comes() {
    let founding = founding(2, 63);
    let net = MemoryNet::new();
    let link = joined(&net, &founding, 0).await;
    let b_id = founding.keys[1].id();
    // Where the network will put the second that joins.
    let hint = AddressHint::Direct(([198, 18, 0, 2], 1).into());
    let a = Node::start(&founding, 0, link, vec![(b_id, vec![hint])]);
    assert!(a.peers.is_sought(b_id), "nothing was tried yet");
    until(|| a.last_error(b_id).is_some()).await;
    assert!(a.last_error(b_id).unwrap().contains("does not answer"));
    assert!(!a.peers.is_sought(b_id), "who was looked for in vain is not waited for");
    let b = Node::start(&founding, 1, joined(&net, &founding, 1).await, Vec::new());
    a.pass(backoff::DELAY_FIRST);
    until(|| are_connected(&a, &b)).await;
    assert_eq!(a.now(b_id).unwrap().name.unwrap().as_bytes(), b"node1");
    assert_eq!(a.last_error(b_id), None);
    assert!(!a.peers.is_sought(b_id), "it is here");
    converge(&[&a, &b], "x").await;
}

#[tokio::test]
async fn a_connection_that_is_cut_is_dialled_again_and_loses_nothing() {
    let founding = founding(2, 64);
    let net = MemoryNet::new();
    let links = [joined(&net, &founding, 0).await, joined(&net, &founding, 1).await];
    let a = Node::start(&founding, 0, links[0].clone(), vec![whereabouts(&links[1])]);
    let b = Node::start(&founding, 1, links[1].clone(), vec![whereabouts(&links[0])]);
    for round in 0..5 {
        until(|| are_connected(&a, &b)).await;
        let conn = a.peers.conn(b.id()).unwrap();
        a.device.make(&format!("a{round}")).await;
        net.drop_connections(a.id(), b.id());
        b.device.make(&format!("b{round}")).await;
        until(|| a.peers.conn(b.id()).is_none_or(|now| !now.is_same(&conn))).await;
        until(|| b.peers.conn(a.id()).is_none_or(|now| now.close_reason().is_none())).await;
        a.pass(backoff::DELAY_MAX);
        b.pass(backoff::DELAY_MAX);
    }
    until(|| a.device.frontier() == b.device.frontier()).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn threat_31_a_refused_stranger_waits_long_and_is_told_why() {
    let founding = founding(2, 65);
    let net = MemoryNet::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let admission = Admission::new(move |_, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        false
    });
    let strict: Arc<dyn Link> = Arc::new(net.join(founding.keys[1].id(), admission));
    let b = Node::start(&founding, 1, strict.clone(), Vec::new());
    let a = Node::start(&founding, 0, joined(&net, &founding, 0).await, vec![whereabouts(&strict)]);
    until(|| a.last_error(b.id()).is_some_and(|error| error.contains("Refused"))).await;
    // Half of the longest wait is the least.
    let known_count = a.hooks.asked_count.load(Ordering::SeqCst);
    a.pass(backoff::DELAY_MAX / 2 - Duration::from_secs(1));
    until(|| a.hooks.asked_count.load(Ordering::SeqCst) > known_count).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    a.peers.wake(b.id());
    until(|| asked.load(Ordering::SeqCst) == 2).await;
    assert!(lock(&a.hooks.heard).is_empty() && lock(&b.hooks.heard).is_empty());
    assert!(b.peers.list().is_empty());
}

#[tokio::test]
async fn threat_46_strangers_that_stay_are_few_and_keep_nobody_out() {
    let founding = founding(2, 69);
    let net = MemoryNet::new();
    let links = [joined(&net, &founding, 0).await, joined(&net, &founding, 1).await];
    let a = Node::start(&founding, 0, links[0].clone(), vec![whereabouts(&links[1])]);
    let mut strangers = Vec::new();
    for n in 0..3 * driver::STRANGER_COUNT_MAX as u8 {
        let link: Arc<dyn Link> = Arc::new(net.join(DeviceId([n + 100; 32]), everyone()));
        let stranger = Intruder::greet(&link, &a.device, Vec::new()).await;
        assert!(stranger.told.spaces.is_empty());
        // Each comes later than the one before.
        a.pass(Duration::from_secs(1));
        strangers.push((link, stranger));
        let is_open = |(_, stranger): &&(_, Intruder)| stranger.conn.close_reason().is_none();
        assert!(strangers.iter().filter(is_open).count() <= driver::STRANGER_COUNT_MAX);
        assert!(strangers.last().is_some_and(|last| is_open(&last)), "the newest is heard");
    }
    let b = Node::start(&founding, 1, links[1].clone(), vec![whereabouts(&links[0])]);
    until(|| are_connected(&a, &b)).await;
    converge(&[&a, &b], "x").await;
    let left = a.peers.list().iter().filter(|now| now.conn.is_some() && now.device != b.id()).count();
    assert_eq!(left, driver::STRANGER_COUNT_MAX, "a member takes no stranger's place");
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_says_so_and_is_found_at_its_next_address() {
    let founding = founding(2, 66);
    let net = MemoryNet::new();
    let links = [joined(&net, &founding, 0).await, joined(&net, &founding, 1).await];
    let a = Node::start(&founding, 0, links[0].clone(), vec![whereabouts(&links[1])]);
    let b = Node::start(&founding, 1, links[1].clone(), Vec::new());
    until(|| are_connected(&a, &b)).await;
    let conn = a.peers.conn(b.id()).unwrap();
    b.stop().await;
    let CloseReason::ByPeer { code, .. } = conn.closed().await else { panic!("not by the peer") };
    assert_eq!(code, CloseCode::Shutdown);
    until(|| a.last_error(b.id()).is_some_and(|error| error.contains("Shutdown"))).await;
    let again = Node::start(&founding, 1, joined(&net, &founding, 1).await, Vec::new());
    *lock(&a.hooks.known) = vec![whereabouts(&again.device.link)];
    a.peers.refresh();
    until(|| are_connected(&a, &again)).await;
    converge(&[&a], "x").await;
    a.stop().await;
}

#[tokio::test]
async fn a_peer_tells_where_it_is_and_a_stranger_is_not_told() {
    let (one, other) = (founding(2, 67), founding(1, 68));
    let net = MemoryNet::new();
    let links = [joined(&net, &one, 0).await, joined(&net, &one, 1).await];
    let a = Node::start(&one, 0, links[0].clone(), vec![whereabouts(&links[1])]);
    let b = Node::start(&one, 1, links[1].clone(), Vec::new());
    until(|| are_connected(&a, &b)).await;
    for (node, peer) in [(&a, &b), (&b, &a)] {
        let heard = lock(&node.hooks.heard);
        let Some(Heard::Connected(conn, greeting)) = heard.last() else { panic!("not connected") };
        let record = greeting.addresses.clone().unwrap();
        assert_eq!((record.device, conn.peer()), (peer.id(), peer.id()));
        let hints: Vec<AddressHint> = record.hints.iter().map(AddressHint::from).collect();
        assert_eq!(hints, peer.device.link.addresses());
        assert_eq!(record.counter, 1_800_000_000_000);
    }
    a.stop().await;
    // The first device of another space, with the same key, does not know the second.
    let c = Node::start(&other, 0, joined(&net, &other, 0).await, vec![whereabouts(&links[1])]);
    until(|| are_connected(&c, &b)).await;
    let heard = lock(&b.hooks.heard);
    let Some(Heard::Connected(_, greeting)) = heard.last() else { panic!("not connected") };
    assert_eq!((greeting.addresses.as_ref(), greeting.hello.spaces.len()), (None, 0));
}

#[tokio::test]
async fn a_connection_for_pairing_goes_to_the_hook() {
    let founding = founding(2, 69);
    let net = MemoryNet::new();
    let links = [joined(&net, &founding, 0).await, joined(&net, &founding, 1).await];
    let a = Node::start(&founding, 0, links[0].clone(), Vec::new());
    let conn = links[1].dial(a.id(), Protocol::Pair, &links[0].addresses()).await.unwrap();
    assert_eq!(conn.side(), Side::Dialled);
    a.hooks.paired.acquire().await.unwrap().forget();
    assert!(matches!(conn.closed().await, CloseReason::ByPeer { code: CloseCode::Done, .. }));
    assert!(a.peers.list().is_empty());
}

async fn iroh(founding: &Founding, n: usize, port: Option<u16>) -> (Arc<dyn Link>, u16) {
    let config = Config { listen: Some(([127, 0, 0, 1], 0).into()), lan: false, ..Config::default() };
    let link = open_link(&founding.keys[n], &config, port, everyone()).await.unwrap().unwrap();
    let port = link.bound()[0].port();
    (Arc::new(link), port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_that_both_dial_over_iroh_end_with_one_connection() {
    let founding = founding(2, 71);
    let ((one, _), (two, _)) = (iroh(&founding, 0, None).await, iroh(&founding, 1, None).await);
    let a = Node::start(&founding, 0, one.clone(), vec![whereabouts(&two)]);
    let b = Node::start(&founding, 1, two, vec![whereabouts(&one)]);
    until(|| are_connected(&a, &b)).await;
    converge(&[&a, &b], "x").await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_restarted_over_iroh_is_found_on_its_port() {
    let founding = founding(2, 72);
    let ((one, _), (two, port)) = (iroh(&founding, 0, None).await, iroh(&founding, 1, None).await);
    let a = Node::start(&founding, 0, one, vec![whereabouts(&two)]);
    let b = Node::start(&founding, 1, two, Vec::new());
    until(|| are_connected(&a, &b)).await;
    b.stop().await;
    until(|| a.last_error(b.id()).is_some_and(|error| error.contains("Shutdown"))).await;
    drop(b);
    // In one process the old socket may live a little longer than its link.
    let two = loop {
        let (two, port_again) = iroh(&founding, 1, Some(port)).await;
        if port_again == port {
            break two;
        }
        two.close().await;
    };
    let b = Node::start(&founding, 1, two, Vec::new());
    a.pass(backoff::DELAY_FIRST);
    until(|| are_connected(&a, &b)).await;
    converge(&[&a], "x").await;
    a.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_does_not_wait_for_a_device_that_is_silent() {
    let founding = founding(2, 73);
    let (link, _) = iroh(&founding, 0, None).await;
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = AddressHint::Direct(silent.local_addr().unwrap());
    let node = Node::start(&founding, 0, link, vec![(founding.keys[1].id(), vec![address])]);
    // The dial has begun, and no answer comes.
    silent.recv(&mut [0; 2_000]).await.unwrap();
    let begun = std::time::Instant::now();
    node.stop().await;
    let elapsed = begun.elapsed();
    assert!(elapsed < Duration::from_secs(1), "it took {elapsed:?}");
}
