//! What becomes of chunks that do not open.

use std::sync::Mutex;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerocloud_crdt::id::{ChunkId, EpochId, FileId, OpId};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::seal::{Compression, Sealer, Suite};
use zerocloud_crdt::wire::{Message, What, Whereabouts};

use super::*;
use crate::link::memory::MemoryNet;
use crate::link::{Admission, Link, Protocol};
use crate::wire::read_frame;

const PEERS: [DeviceId; 2] = [DeviceId([1; 32]), DeviceId([2; 32])];
const CONTENT: &[u8] = b"what a file says";

#[derive(Default)]
struct Noted(Mutex<Vec<String>>);

impl Receiver for Noted {
    fn receive(&self, want: &Want, plaintext: &[u8]) {
        self.0.lock().unwrap().push(format!("{:?}: {plaintext:?}", want.id));
    }

    fn give_up(&self, deniers: &BTreeSet<DeviceId>) {
        self.0.lock().unwrap().push(format!("nobody has it: {deniers:?}"));
    }
}

/// All that follows when a peer answers so: what its receiver is told, and what is asked of whom next.
async fn transcript(secret: &EpochSecret, id: ChunkId, sealed: Vec<u8>) -> String {
    let keyring = Arc::new(Keyring::new(secret, []));
    let fetcher =
        Fetcher::start(secret.space, DeviceId([9; 32]), keyring, Arc::new(Semaphore::new(1)), Handle::current());
    let at = Whereabouts { file: FileId([1; 16]), op: OpId::ZERO, ordinal: 0, offset: 0, len: CONTENT.len() as u32 };
    let want = Want { what: What::Chunk, epoch: secret.epoch, id, at };
    let noted = Arc::new(Noted::default());
    fetcher.add(JobId(1), vec![want], noted.clone());
    let shared = &fetcher.shared;
    shared.lock().fetch.connect(PEERS[0]);
    let (peer, request) = shared.lock().fetch.poll_request().unwrap();
    let taken = shared.take(peer, Answered { ask: request.first, sealed: Ok(sealed) }, &mut StreamOpener::default());
    let again = shared.lock().fetch.poll_request();
    shared.lock().fetch.connect(PEERS[1]);
    let of_another = shared.lock().fetch.poll_request();
    let told = noted.0.lock().unwrap().clone();
    format!("{taken:?} {told:?} {again:?} {of_another:?} {}", fetcher.received_len())
}

#[tokio::test]
async fn threat_12_whatever_a_chunk_does_not_open_for_nothing_differs() {
    let [secret, other] = [3, 4].map(|n| EpochSecret::new(SpaceId([1; 32]), EpochId([2; 32]), Secret::new([n; 32])));
    let keyring = Keyring::new(&secret, []);
    let foreign = Keyring::new(&other, []);
    let mut rng = ChaCha20Rng::seed_from_u64(12);
    let mut seal = |keyring: &Keyring, content: &[u8]| {
        let keys = keyring.chunks(&secret.epoch).unwrap();
        let mut sealer = Sealer::new(Suite::XChaCha20Poly1305, Compression::Off);
        (keys.id(content), sealer.seal(&keys.name(content), &mut rng).unwrap())
    };
    let (id, good) = seal(&keyring, CONTENT);
    let (_, of_other_content) = seal(&keyring, b"what another says");
    let (_, under_other_key) = seal(&foreign, CONTENT);
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let bad = [
        flipped(0),
        flipped(1),
        flipped(2),
        flipped(40),
        flipped(good.len() - 1),
        good[..good.len() - 1].to_vec(),
        good[..30].to_vec(),
        Vec::new(),
        [&good[..], &[0]].concat(),
        of_other_content,
        under_other_key,
    ];
    let known = transcript(&secret, id, good.clone()).await;
    assert!(known.contains("119, 104, 97, 116"), "the good one opens: {known}");
    let refused = transcript(&secret, id, Vec::new()).await;
    assert!(refused.contains("nobody has it"), "{refused}");
    for (n, sealed) in bad.into_iter().enumerate() {
        assert_eq!(transcript(&secret, id, sealed).await, refused, "case {n}");
    }
}

#[tokio::test]
async fn threat_46_a_member_that_takes_requests_and_never_answers_is_not_waited_for() {
    let net = MemoryNet::new();
    let [us, silent, other] = [9, 1, 2].map(|n| DeviceKeys::from_seed(Secret::new([n; 32])).id());
    let links = [us, silent, other].map(|id| net.join(id, Admission::new(|_, _| true)));
    let secret = EpochSecret::new(SpaceId([1; 32]), EpochId([2; 32]), Secret::new([3; 32]));
    let keyring = Arc::new(Keyring::new(&secret, []));
    let fetcher = Fetcher::start(secret.space, us, keyring, Arc::new(Semaphore::new(1)), Handle::current());
    let at = Whereabouts { file: FileId([1; 16]), op: OpId::ZERO, ordinal: 0, offset: 0, len: CONTENT.len() as u32 };
    let want = Want { what: What::Chunk, epoch: secret.epoch, id: ChunkId([5; 32]), at };
    fetcher.add(JobId(1), vec![want], Arc::new(Noted::default()));
    let mut theirs = Vec::new();
    let mut connect = async |n: usize| {
        let conn = links[0].dial(links[n].id(), Protocol::Sync, &links[n].addresses()).await.unwrap();
        let accepted = links[n].accept().await.unwrap();
        fetcher.connect(conn, 1);
        theirs.push(accepted.clone());
        accepted
    };
    /// Takes streams and whatever is said on them, and says nothing; gives the first request.
    async fn first_request(conn: &Conn) -> Request {
        let (asked, mut first) = mpsc::channel(8);
        let conn = conn.clone();
        tokio::spawn(async move {
            while let Ok((send, mut receive)) = conn.accept_bi().await {
                let asked = asked.clone();
                tokio::spawn(async move {
                    let _held = send;
                    read_frame(&mut receive, 1_000).await.unwrap();
                    while let Ok(Some(request)) = read_frame(&mut receive, Request::LEN_MAX).await {
                        let _ = asked.send(Request::from_bytes(&request).unwrap()).await;
                    }
                });
            }
        });
        tokio::time::timeout(Duration::from_secs(120), first.recv()).await.expect("it is not asked").unwrap()
    }
    let conn = connect(1).await;
    assert_eq!(first_request(&conn).await.asks[0].id, want.id);
    let conn = connect(2).await;
    assert_eq!(first_request(&conn).await.asks[0].id, want.id, "another is asked, though the first is connected");
    assert!(theirs.iter().all(|conn| conn.close_reason().is_none()));
}
