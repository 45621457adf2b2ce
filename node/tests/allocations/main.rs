//! What hostile bytes make a node set aside: all decoders of what comes from the network, under an allocator that counts.
//! A program of its own, because an allocator is one for all threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's own mistakes may end it")]
#![allow(clippy::print_stdout, reason = "the figure for who looks")]
#![allow(unsafe_code, reason = "an allocator can only be had so; it hands everything on to the system's")]

mod gaps;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerocloud::wire::read_frame;
use zerocloud_crdt::address::AddressRecord;
use zerocloud_crdt::change::Change;
use zerocloud_crdt::grant;
use zerocloud_crdt::id::{ChunkId, EpochId, SpaceId};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::log::{Entry, Frontier, SignedFrontier};
use zerocloud_crdt::membership::{Genesis, Identity, Records};
use zerocloud_crdt::pairing;
use zerocloud_crdt::seal::{ChunkKeys, Opener};
use zerocloud_crdt::ticket::Ticket;
use zerocloud_crdt::wire::{Answer, Control, Log, Message, Opening, Request};

/// Bytes that are set aside now, and the most that were.
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is the system allocator's own; only counts are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held by the test that counts: what others set aside meanwhile would count, too.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What may be set aside for a few hostile bytes: a window of the decompressor, and what decoders hold at a time.
const SET_ASIDE_MAX: usize = 16 << 20;

/// How much `work` has set aside at most, beyond what was there before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed).saturating_sub(before)
}

/// Bytes that claim to have much behind them: each kind of message with each of these lengths, in each place of a head.
fn claims() -> Vec<Vec<u8>> {
    let lengths: [&[u8]; 6] = [
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x80, 0x80, 0x80, 0x80, 0x04],
        &[0xff; 16],
        &[0x80, 0x80, 0x40],
    ];
    let mut all = vec![Vec::new(), vec![0xff; 4_000], vec![0; 4_000]];
    for tag in 0..8_u8 {
        for length in lengths {
            for before in [0, 1, 32, 33, 64, 65, 96, 97] {
                all.push([&[tag][..], &vec![1; before], length, &[7; 40]].concat());
            }
        }
    }
    all
}

/// A device and its space, for decoders that ask for them.
struct World {
    keys: DeviceKeys,
    records: Records,
}

impl World {
    fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(44);
        let keys = DeviceKeys::from_seed(Secret::new([6; 32]));
        let recovery = Identity::of(&DeviceKeys::from_seed(Secret::new([7; 32])));
        let genesis = Genesis::make(&keys, recovery, &Secret::draw(&mut rng), &mut rng);
        Self { keys, records: Records::begin(genesis) }
    }
}

fn decode_all(world: &World, bytes: &[u8]) {
    let space = SpaceId([1; 32]);
    let secret = EpochSecret::new(space, EpochId([2; 32]), Secret::new([3; 32]));
    drop(Opening::from_bytes(bytes));
    drop(Control::from_bytes(bytes));
    drop(Log::from_bytes(bytes));
    drop(Request::from_bytes(bytes));
    drop(Answer::from_bytes(bytes));
    drop(Entry::decode(space, bytes.to_vec()));
    drop(Frontier::decode(bytes));
    drop(SignedFrontier::decode(space, bytes));
    drop(Change::decode(bytes));
    drop(AddressRecord::decode(bytes));
    drop(Genesis::decode(space, bytes));
    drop(grant::open(bytes, &world.keys, &world.records));
    drop(world.records.clone().insert(bytes));
    drop(Ticket::parse(&String::from_utf8_lossy(bytes)));
    drop(pairing::check_t1(bytes, zerocloud_crdt::id::DeviceId([4; 32]), None, |_| None));
    drop(Opener::new().open(&ChunkKeys::of_chunks(&secret), &ChunkId([5; 32]), bytes));
    drop(Opener::new().open(&ChunkKeys::of_pages(&secret), &ChunkId([5; 32]), bytes));
}

#[test]
fn threat_44_no_claim_of_a_length_makes_a_decoder_set_aside_more_than_a_bound() {
    let _turn = turn();
    let counted = peak_of(|| drop(Vec::<u8>::with_capacity(2 * SET_ASIDE_MAX)));
    assert!(counted >= 2 * SET_ASIDE_MAX, "what is set aside is counted");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (claims, world) = (claims(), World::new());
    assert!(claims.len() > 300);
    let mut most = 0;
    for bytes in &claims {
        let peak = peak_of(|| decode_all(&world, bytes));
        most = most.max(peak);
        assert!(peak < SET_ASIDE_MAX, "{peak} bytes for {:02x?}", &bytes[..bytes.len().min(48)]);
    }
    println!("at most {most} bytes for {} claims", claims.len());
    for (declared, limit) in [(u32::MAX, 1 << 20), (1 << 31, 64 << 10), (1 << 20, 1 << 20), (64 << 20, 64 << 20)] {
        let header = declared.to_le_bytes();
        let bytes = [&header[..], &[9; 100]].concat();
        let peak = peak_of(|| {
            runtime.block_on(read_frame(&mut &bytes[..], limit)).unwrap_err();
        });
        assert!(peak < 64 << 10, "{peak} bytes for a frame of which 100 came");
    }
}
