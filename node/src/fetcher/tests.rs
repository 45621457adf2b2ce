//! What becomes of chunks that do not open.

use std::sync::Mutex;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerocloud_crdt::id::{ChunkId, EpochId, FileId, OpId};
use zerocloud_crdt::keys::{EpochSecret, Secret};
use zerocloud_crdt::seal::{Compression, Sealer, Suite};
use zerocloud_crdt::wire::{What, Whereabouts};

use super::*;

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
