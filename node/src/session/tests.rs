//! Sessions between spaces on redb, over the memory link and over iroh.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::log::{Frontier, LogRead};

use super::chunks::{Answered, ChunkSource, ChunkStream};
use super::*;
use crate::engine::fetch::Lack;
use crate::engine::found::Found;
use crate::engine::founding::{Founding, creation, founding};
use crate::engine::replica::Replica;
use crate::link::iroh::{Bind, IrohLink, IrohSettings};
use crate::link::memory::MemoryNet;
use crate::link::{AddressHint, Admission, Link, Protocol};
use crate::store::{Snapshot, SpaceStore};
use zerocloud_crdt::address::AddressHint as SignedHint;
use zerocloud_crdt::id::{ChunkId, EpochId, LogId};
use zerocloud_crdt::limits::{LOG_STREAM_COUNT_MAX, OTHER_STREAM_COUNT_MAX};
use zerocloud_crdt::membership::Records;
use zerocloud_crdt::wire::{Ask, Log, Request, What};

mod bombs;
pub(crate) mod hostile;
mod passing;
mod sharing;

/// A device of the test: its link, its space, and a second hold on the space's store.
pub(crate) struct Device {
    pub(crate) link: Arc<dyn Link>,
    pub(crate) spaces: Spaces,
    pub(crate) space: SpaceHandle,
    store: Arc<SpaceStore>,
    log: LogId,
    /// How often its chunks were asked for.
    asked_count: Arc<AtomicUsize>,
}

impl Device {
    fn start(founding: &Founding, n: usize, link: Arc<dyn Link>) -> Self {
        let device = Self::with_records(founding, n, founding.records.clone(), link);
        device.spaces.insert(device.space.clone());
        device.accept();
        device
    }

    /// With a space that begins with these records and is not shared yet. Accepts nobody.
    pub(crate) fn with_records(founding: &Founding, n: usize, records: Records, link: Arc<dyn Link>) -> Self {
        let store = SpaceStore::with_backend(redb::backends::InMemoryBackend::new(), founding.space).unwrap();
        let (store, asked_count) = (Arc::new(store), Arc::<AtomicUsize>::default());
        let (identity, shelf) = (founding.identity(n), store.clone());
        let log = identity.log;
        let make = move || {
            let mut rng = ChaCha20Rng::seed_from_u64(n as u64);
            (Replica::open(shelf, records, identity, &mut rng).unwrap(), rng)
        };
        let space = SpaceHandle::start(founding.space, make, Arc::new(Sized(asked_count.clone())), |_| {}).unwrap();
        Self { link, spaces: Spaces::default(), space, store, log, asked_count }
    }

    fn accept(&self) {
        let (link, spaces) = (self.link.clone(), self.spaces.clone());
        tokio::spawn(async move {
            while let Some(conn) = link.accept().await {
                let (greeted, _) = oneshot::channel();
                tokio::spawn(run(conn, spaces.clone(), presence("accepter"), greeted));
            }
        });
    }

    async fn dial(&self, peer: &Self) -> tokio::task::JoinHandle<SessionError> {
        let hints: Vec<AddressHint> = peer.link.addresses();
        let conn = self.link.dial(peer.link.id(), Protocol::Sync, &hints).await.unwrap();
        let (greeted, _) = oneshot::channel();
        tokio::spawn(run(conn, self.spaces.clone(), presence("dialler"), greeted))
    }

    pub(crate) async fn make(&self, text: &str) {
        // An entry that comes between the look and the append makes the look stale; a scan would look again, too.
        for _ in 0..100 {
            let outcome = creation(&self.snapshot(), self.log, text);
            if self.space.append(vec![Found::Decided(outcome).into()]).await.is_ok() {
                return;
            }
        }
        panic!("{text} was not written");
    }

    fn snapshot(&self) -> Snapshot {
        self.store.snapshot().unwrap()
    }

    pub(crate) fn frontier(&self) -> Frontier {
        LogRead::frontier(&self.snapshot()).unwrap()
    }
}

/// Chunks whose bytes follow from their id: the first two say how long, a first byte of 0 that it is not here.
struct Sized(Arc<AtomicUsize>);

impl Sized {
    fn of(ask: &Ask) -> Option<Vec<u8>> {
        let len = usize::from(u16::from_be_bytes([ask.id.0[0], ask.id.0[1]])) * 40;
        (ask.id.0[0] > 0).then(|| ask.id.0.iter().copied().cycle().take(len).collect())
    }
}

impl ChunkSource for Sized {
    fn seal(&self, asks: &[Ask], give: &mut dyn FnMut(Result<Vec<u8>, Lack>) -> ControlFlow<()>) {
        let _ = asks.iter().try_for_each(|ask| {
            self.0.fetch_add(1, Ordering::SeqCst);
            give(Self::of(ask).ok_or(Lack::Missing))
        });
    }
}

fn presence(name: &str) -> Presence {
    Presence { agent: "test".into(), name: Name::parse(name.as_bytes()).unwrap(), addresses: Vec::new() }
}

/// Waits until something is so; the test's own runner gives up on one that never is.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn exchange(a: &Device, b: &Device) {
    a.make("before").await;
    let _session = a.dial(b).await;
    until(|| a.frontier() == b.frontier() && a.frontier().count() == 2).await;
    b.make("after").await;
    until(|| a.frontier() == b.frontier()).await;
    assert_eq!(a.snapshot().items_after(None, 10).unwrap(), b.snapshot().items_after(None, 10).unwrap());
    assert_eq!(a.snapshot().max_counter().unwrap(), 4);
    for us in [a, b] {
        us.space.set_materialised(Some(us.frontier())).await.unwrap();
    }
    for (us, peer) in [(a, b.link.id()), (b, a.link.id())] {
        while !us.space.look(move |facts| facts.is_in_sync(peer)).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn everyone() -> Admission {
    Admission::new(|_, _| true)
}

#[tokio::test]
async fn two_spaces_converge_over_the_memory_link() {
    let founding = founding(2, 21);
    let net = MemoryNet::new();
    let link = |n: usize| -> Arc<dyn Link> { Arc::new(net.join(founding.keys[n].id(), everyone())) };
    let (a, b) = (Device::start(&founding, 0, link(0)), Device::start(&founding, 1, link(1)));
    exchange(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_spaces_converge_over_iroh() {
    let founding = founding(2, 22);
    let mut devices = Vec::new();
    for n in 0..2 {
        let bind = Bind::Address("127.0.0.1:0".parse().unwrap());
        let settings = IrohSettings { bind, relays: Vec::new(), lan: false };
        let link = IrohLink::open(&founding.keys[n], settings, everyone()).await.unwrap();
        devices.push(Device::start(&founding, n, Arc::new(link)));
    }
    exchange(&devices[0], &devices[1]).await;
}

#[tokio::test]
async fn a_dropped_connection_loses_nothing() {
    let founding = founding(2, 23);
    let net = MemoryNet::new();
    let link = |n: usize| -> Arc<dyn Link> { Arc::new(net.join(founding.keys[n].id(), everyone())) };
    let (a, b) = (Device::start(&founding, 0, link(0)), Device::start(&founding, 1, link(1)));
    for round in 0..10 {
        let session = a.dial(&b).await;
        a.make(&format!("a{round}")).await;
        b.make(&format!("b{round}")).await;
        net.drop_connections(a.link.id(), b.link.id());
        session.await.unwrap();
    }
    let _session = a.dial(&b).await;
    until(|| a.frontier() == b.frontier()).await;
    assert_eq!(a.snapshot().items_after(None, 100).unwrap().len(), 20);
}

#[tokio::test]
async fn threat_31_a_stranger_that_knows_the_id_of_a_space_learns_nothing_of_it() {
    let (founding, foreign) = (founding(1, 24), founding(2, 25));
    let net = MemoryNet::new();
    let member: Arc<dyn Link> = Arc::new(net.join(founding.keys[0].id(), everyone()));
    let stranger: Arc<dyn Link> = Arc::new(net.join(foreign.keys[1].id(), everyone()));
    let a = Device::start(&founding, 0, member);
    a.make("secret").await;
    let conn = stranger.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
    let (mut send, mut receive) = conn.open_bi(StreamKind::Control).await.unwrap();
    write_frame(&mut send, &Opening::Control.to_bytes(), Opening::LEN_MAX).await.unwrap();
    let hello = Hello {
        agent: "evil".into(),
        name: Name::parse(b"x").unwrap(),
        spaces: vec![founding.space],
        addresses: ByteBuf::new(),
    };
    write_frame(&mut send, &Control::Hello(hello).to_bytes(), Control::LEN_MAX).await.unwrap();
    let Some(Control::Hello(told)) = read::<Control>(&mut receive).await.unwrap() else { panic!("no greeting") };
    assert!(told.spaces.is_empty(), "a space is named to members alone");
    let (mut send, mut receive) = conn.open_bi(StreamKind::Log).await.unwrap();
    let opening = Opening::Log { space: founding.space };
    write_frame(&mut send, &opening.to_bytes(), Opening::LEN_MAX).await.unwrap();
    let records = Log::Records { heads: Vec::new(), records: Vec::new() };
    write_frame(&mut send, &records.to_bytes(), Log::LEN_MAX).await.unwrap();
    assert!(!matches!(read::<Log>(&mut receive).await, Ok(Some(_))), "no message, only an end");
    assert!(conn.close_reason().is_some() || matches!(conn.closed().await, CloseReason::ByPeer { .. }));
}

#[tokio::test]
async fn garbage_ends_the_session_and_nothing_else() {
    let founding = founding(2, 26);
    let net = MemoryNet::new();
    let link = |n: usize| -> Arc<dyn Link> { Arc::new(net.join(founding.keys[n].id(), everyone())) };
    let (a, b) = (Device::start(&founding, 0, link(0)), Device::start(&founding, 1, link(1)));
    for garbage in [&b"\xff\xff\xff\xff"[..], b"\x04\0\0\0abcd", b"\0\0\0\0", b""] {
        let conn = b.link.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
        let (mut send, _receive) = conn.open_bi(StreamKind::Control).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut send, garbage).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut send).await.unwrap();
        conn.closed().await;
    }
    exchange(&a, &b).await;
}

async fn asked(a: &Device, b: &Device, ids: &[[u8; 32]]) -> BTreeMap<u64, Option<Vec<u8>>> {
    let conn = b.link.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
    let (greeted, hello) = oneshot::channel();
    let _session = tokio::spawn(run(conn.clone(), b.spaces.clone(), presence("asker"), greeted));
    assert_eq!(hello.await.unwrap().hello.name.as_bytes(), b"accepter");
    let mut stream = ChunkStream::open(&conn, a.space.id()).await.unwrap();
    let mut answers = BTreeMap::new();
    for (n, ids) in ids.chunks(50).enumerate() {
        let ask = |id: &[u8; 32]| Ask { what: What::Chunk, epoch: EpochId([0; 32]), id: ChunkId(*id), at: None };
        stream.ask(Request { first: n as u64 * 50, asks: ids.iter().map(ask).collect() }).await.unwrap();
    }
    while answers.len() < ids.len() {
        let Some(Answered { ask, sealed }) = stream.answer().await else { break };
        answers.insert(ask, sealed.ok());
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_every_length_come_as_they_are_and_what_is_missing_is_said() {
    let founding = founding(2, 31);
    let net = MemoryNet::new();
    let link = |n: usize| -> Arc<dyn Link> { Arc::new(net.join(founding.keys[n].id(), everyone())) };
    let (a, b) = (Device::start(&founding, 0, link(0)), Device::start(&founding, 1, link(1)));
    let ids: Vec<[u8; 32]> =
        (0..140u8).map(|n| std::array::from_fn(|at| if at == 0 { n } else { n ^ at as u8 })).collect();
    let answers = asked(&a, &b, &ids).await;
    assert_eq!(answers.len(), ids.len());
    for (ask, sealed) in answers {
        let ask = Ask { what: What::Chunk, epoch: EpochId([0; 32]), id: ChunkId(ids[ask as usize]), at: None };
        assert_eq!(sealed, Sized::of(&ask));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_31_chunks_are_served_to_members_alone() {
    let (founding, foreign) = (founding(1, 32), founding(2, 33));
    let net = MemoryNet::new();
    let a = Device::start(&founding, 0, Arc::new(net.join(founding.keys[0].id(), everyone())));
    let stranger: Arc<dyn Link> = Arc::new(net.join(foreign.keys[1].id(), everyone()));
    let conn = stranger.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
    let (mut send, mut receive) = conn.open_bi(StreamKind::Control).await.unwrap();
    write_frame(&mut send, &Opening::Control.to_bytes(), Opening::LEN_MAX).await.unwrap();
    let hello =
        Hello { agent: "evil".into(), name: Name::parse(b"x").unwrap(), spaces: Vec::new(), addresses: ByteBuf::new() };
    write_frame(&mut send, &Control::Hello(hello).to_bytes(), Control::LEN_MAX).await.unwrap();
    read::<Control>(&mut receive).await.unwrap();
    let mut stream = ChunkStream::open(&conn, founding.space).await.unwrap();
    let ask = Ask { what: What::Chunk, epoch: EpochId([0; 32]), id: ChunkId([9; 32]), at: None };
    stream.ask(Request { first: 0, asks: vec![ask] }).await.unwrap();
    assert_eq!(stream.answer().await, None);
}

#[tokio::test]
async fn threat_47_addresses_count_if_the_proven_peer_signed_them() {
    let founding = founding(2, 34);
    let net = MemoryNet::new();
    let link = |n: usize| -> Arc<dyn Link> { Arc::new(net.join(founding.keys[n].id(), everyone())) };
    let (a, b) = (Device::start(&founding, 0, link(0)), Device::start(&founding, 1, link(1)));
    let hints: Vec<SignedHint> = b.link.addresses().iter().map(|hint| hint.try_into().unwrap()).collect();
    let own = AddressRecord::make(&founding.keys[1], 7, hints.clone());
    let foreign = AddressRecord::make(&founding.keys[0], 7, hints.clone());
    let mut forged = own.clone();
    *forged.last_mut().unwrap() ^= 1;
    for (addresses, is_taken) in [(own, true), (Vec::new(), true), (foreign, false), (forged, false)] {
        let conn = b.link.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
        let (mut send, mut receive) = conn.open_bi(StreamKind::Control).await.unwrap();
        write_frame(&mut send, &Opening::Control.to_bytes(), Opening::LEN_MAX).await.unwrap();
        let hello = Hello {
            agent: "test".into(),
            name: Name::parse(b"b").unwrap(),
            spaces: vec![founding.space],
            addresses: ByteBuf::from(addresses),
        };
        let greeting = verified(&hello, b.link.id());
        assert_eq!(greeting.is_ok(), is_taken);
        if let Ok(Some(record)) = greeting {
            assert_eq!(record.hints, hints);
        }
        write_frame(&mut send, &Control::Hello(hello).to_bytes(), Control::LEN_MAX).await.unwrap();
        if is_taken {
            assert!(matches!(read::<Control>(&mut receive).await, Ok(Some(Control::Hello(_)))));
        } else {
            let CloseReason::ByPeer { code, .. } = conn.closed().await else { panic!("not by the peer") };
            assert_eq!(code, CloseCode::Violation);
        }
    }
}
