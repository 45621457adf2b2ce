//! Pairing between nodes whose spaces lie on redb, over the memory link and over iroh: what the tests share.

mod joining;
mod leaving;
mod refusals;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};
use zerocloud_crdt::id::{Incarnation, LogId};
use zerocloud_crdt::keys::Secret;
use zerocloud_crdt::log::{Frontier, LogRead, SignedFrontier, Start};
use zerocloud_crdt::membership::{Records, Role};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::pairing::{Joined, make_t1};
use zerocloud_crdt::ticket::{Ticket, TicketSecret};
use zerocloud_crdt::wire::Ask;

use super::*;
use crate::clock::Moment;
use crate::engine::fetch::Lack;
use crate::engine::founding::{Founding, creation, founding};
use crate::engine::replica::{Identity, Replica};
use crate::link::iroh::{Bind, IrohLink, IrohSettings};
use crate::link::memory::{MemoryLink, MemoryNet};
use crate::link::{AddressHint, Admission, Link, Protocol};
use crate::session::{self, Spaces, chunks::ChunkSource};

const START_MS: i64 = 1_700_000_000_000;

struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment::default()
    }

    fn wall_time(&self) -> WallTime {
        WallTime(self.0.load(Ordering::SeqCst) * 1_000_000)
    }
}

/// What a node of the test tells and is told.
struct Told {
    keys: DeviceKeys,
    open: OpenSpace,
    clock: TestClock,
    shown: Mutex<Vec<Compared>>,
    admitted: Mutex<Vec<Admitted>>,
    /// What the user says of the words, in turn; nothing while there is nothing.
    verdicts: tokio::sync::Mutex<mpsc::UnboundedReceiver<bool>>,
}

impl Host for Arc<Told> {
    fn spaces(&self) -> Vec<OpenSpace> {
        vec![self.open.clone()]
    }

    fn keys(&self) -> &DeviceKeys {
        &self.keys
    }

    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn show_words(&self, compared: &Compared) {
        self.shown.lock().unwrap().push(compared.clone());
    }

    fn confirm<'a>(&'a self, _: &'a Compared) -> BoxFuture<'a, bool> {
        Box::pin(async { self.verdicts.lock().await.recv().await.unwrap() })
    }

    fn admitted(&self, admitted: Admitted) {
        self.admitted.lock().unwrap().push(admitted);
    }
}

struct NoChunks;

impl ChunkSource for NoChunks {
    fn seal(&self, asks: &[Ask], give: &mut dyn FnMut(Result<Vec<u8>, Lack>) -> ControlFlow<()>) {
        let _ = asks.iter().try_for_each(|_| give(Err(Lack::Missing)));
    }
}

fn open_space(identity: Identity, records: Records) -> OpenSpace {
    let id = records.space();
    let store = SpaceStore::with_backend(redb::backends::InMemoryBackend::new(), id).unwrap();
    let store = Arc::new(store);
    let shelf = store.clone();
    let make = move || {
        let mut rng = ChaCha20Rng::seed_from_u64(5);
        (Replica::open(shelf, records, identity, &mut rng).unwrap(), rng)
    };
    let space = SpaceHandle::start(id, make, Arc::new(NoChunks), |_| {}).unwrap();
    OpenSpace { store, space }
}

/// A node that accepts.
struct Node {
    link: Arc<dyn Link>,
    open: OpenSpace,
    told: Arc<Told>,
    spaces: Spaces,
    say: mpsc::UnboundedSender<bool>,
    /// What came of each connection that wanted to pair.
    served: mpsc::UnboundedReceiver<Result<Admitted, ServeError>>,
}

impl Node {
    fn start(keys: DeviceKeys, open: OpenSpace, link: Arc<dyn Link>, patience: Patience) -> Self {
        let (say, verdicts) = mpsc::unbounded_channel();
        let told = Arc::new(Told {
            keys,
            open: open.clone(),
            clock: TestClock(AtomicI64::new(START_MS)),
            shown: Mutex::default(),
            admitted: Mutex::default(),
            verdicts: tokio::sync::Mutex::new(verdicts),
        });
        let spaces = Spaces::default();
        spaces.insert(open.space.clone());
        let inviter = Arc::new(Inviter { patience, ..Inviter::new(told.clone()) });
        let (results, served) = mpsc::unbounded_channel();
        let (accepting, shared) = (link.clone(), spaces.clone());
        tokio::spawn(async move {
            while let Some(conn) = accepting.accept().await {
                let (inviter, results, spaces) = (inviter.clone(), results.clone(), shared.clone());
                tokio::spawn(async move {
                    match conn.protocol() {
                        Protocol::Pair => drop(results.send(inviter.serve(conn).await)),
                        Protocol::Sync => {
                            let (greeted, _) = oneshot::channel();
                            session::run(conn, spaces, presence(), greeted).await;
                        }
                    }
                });
            }
        });
        Self { link, open, told, spaces, say, served }
    }

    /// The first device of `founding`.
    fn inviter(founding: &Founding, net: &MemoryNet) -> Self {
        Self::patient(founding, net, Patience::USUAL)
    }

    fn patient(founding: &Founding, net: &MemoryNet, patience: Patience) -> Self {
        let keys = founding.keys[0].clone();
        let open = open_space(founding.identity(0), founding.records.clone());
        let link = Arc::new(net.join(keys.id(), everyone()));
        Self::start(keys, open, link, patience)
    }

    async fn ticket(&self, role: Role, is_own: bool, confirm: bool) -> Ticket {
        let wanted = Wanted { name: name("Photos"), is_own, role, confirm, valid_for: Duration::from_secs(60) };
        let mut rng = ChaCha20Rng::seed_from_u64(self.open.store.snapshot().unwrap().tickets().unwrap().len() as u64);
        let now = self.told.clock.wall_time();
        let ticket = make_ticket(self.issuer().await, wanted, now, &mut rng).await.unwrap();
        Ticket::parse(&ticket.to_text().unwrap()).unwrap()
    }

    async fn issuer(&self) -> Issuer {
        let (id, addresses) = (self.link.id(), self.link.addresses());
        Issuer { id, addresses, role: self.role(id).await, store: self.open.store.clone() }
    }

    fn row(&self, ticket: &Ticket) -> Option<TicketRow> {
        self.open.store.snapshot().unwrap().ticket(ticket.secret.id()).unwrap()
    }

    fn joiner_of(&self, ticket: &Ticket) -> Option<DeviceId> {
        self.row(ticket).unwrap().joiner
    }

    async fn role(&self, device: DeviceId) -> Option<Role> {
        self.open.space.look(move |facts| facts.role(device)).await.unwrap()
    }

    fn frontier(&self) -> Frontier {
        LogRead::frontier(&self.open.store.snapshot().unwrap()).unwrap()
    }

    async fn sync_with(&self, peer: &Self) {
        let conn = self.link.dial(peer.link.id(), Protocol::Sync, &peer.link.addresses()).await.unwrap();
        let (greeted, _) = oneshot::channel();
        tokio::spawn(session::run(conn, self.spaces.clone(), presence(), greeted));
    }

    async fn until_in_sync(&self, peer: &Self) {
        while self.frontier() != peer.frontier() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn presence() -> session::Presence {
    session::Presence { agent: "test".into(), name: name("device"), addresses: Vec::new() }
}

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn everyone() -> Admission {
    Admission::new(|_, _| true)
}

/// A device that is in no space yet.
struct Guest {
    keys: DeviceKeys,
    link: Arc<dyn Link>,
    rng: ChaCha20Rng,
    words: Option<ComparedWords>,
}

impl Guest {
    fn new(seed: u8, net: &MemoryNet) -> Self {
        let keys = DeviceKeys::from_seed(Secret::new([seed; 32]));
        let link: MemoryLink = net.join(keys.id(), everyone());
        Self { keys, link: Arc::new(link), rng: ChaCha20Rng::seed_from_u64(seed.into()), words: None }
    }

    async fn join(&mut self, ticket: &Ticket) -> Result<Joined, JoinError> {
        let words = &mut self.words;
        join(&*self.link, &self.keys, ticket, |shown| *words = Some(shown), &mut self.rng).await
    }

    async fn dial(&self, ticket: &Ticket) -> Conn {
        let hints: Vec<AddressHint> = ticket.hints.iter().map(Into::into).collect();
        self.link.dial(ticket.inviter, Protocol::Pair, &hints).await.unwrap()
    }

    /// Sends a request and gives why the inviter closed.
    async fn refusal(&mut self, ticket: &Ticket, request: &[u8]) -> CloseReason {
        let conn = self.dial(ticket).await;
        let (mut send, mut receive) = conn.open_bi(StreamKind::Control).await.unwrap();
        write_frame(&mut send, request, PAIRING_REQUEST_LEN_MAX).await.unwrap();
        assert!(!matches!(read_frame(&mut receive, PAIRING_LEN_MAX).await, Ok(Some(_))), "nothing is said");
        conn.closed().await
    }
}

fn refused() -> CloseReason {
    CloseReason::ByPeer { code: CloseCode::Refused, reason: String::new() }
}

/// The joiner's own space, from what it was handed.
fn settle_in(guest: Guest, joined: Joined) -> Node {
    let log = LogId { author: guest.keys.id(), incarnation: Incarnation([77; 8]) };
    let start = Start { label: name("guest"), earlier: Vec::new() };
    let secrets = joined.secrets.into_iter().map(|secret| (secret.epoch, secret)).collect::<BTreeMap<_, _>>();
    let open = open_space(Identity { keys: guest.keys.clone(), log, start, secrets }, joined.records);
    Node::start(guest.keys, open, guest.link, Patience::USUAL)
}
