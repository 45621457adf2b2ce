//! Scan, plan and view together: devices with a disk in memory, users who do what users do, and an oracle.
//!
//! This is the design's model (DESIGN.md §7 and §8) run on the shipping functions, without crashes and without a real
//! materialiser: those are the simulator's in `testnet`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own mistakes may end it")]

mod acting;
mod device;
mod matrix;
mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use zerocloud_crdt::base::{MemoryBase, PARKED, RowKey};
use zerocloud_crdt::id::{ActorId, FileId, SpaceId};
use zerocloud_crdt::index::{IndexRead, MemoryIndex, Overlay};
use zerocloud_crdt::limits::ENTRY_FILE_COUNT_MAX;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Kind, Op};
use zerocloud_crdt::scan::{Findings, Sighting, batches, diff};

use self::device::{Device, shown};

const SPACE: SpaceId = SpaceId([3; 32]);
/// From parts that are cut wherever they can be, to scans in one part.
const PART_LENS: [usize; 3] = [4, 7, ENTRY_FILE_COUNT_MAX];

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    (rng.next_u32() as usize) % n
}

fn pick<T: Clone>(rng: &mut ChaCha8Rng, of: &[T]) -> T {
    of[below(rng, of.len())].clone()
}

struct World {
    rng: ChaCha8Rng,
    devices: Vec<Device>,
    log: Vec<(Vec<Op>, BTreeSet<usize>)>,
    /// Files that operations of one part of a scan may touch.
    part_len: usize,
    inodes: u64,
    clock: i64,
    contents: u32,
    /// Contents that some user replaced or deleted: they may be gone.
    gone: BTreeSet<u32>,
    /// Contents that some user moved or touched: that may have been done on two devices at once.
    handled: BTreeSet<u32>,
}

/// What a walk found, in no order: rows that are gone, and whatever is not as base has it.
fn found(findings: &Findings) -> (&BTreeSet<RowKey>, BTreeSet<SightedAs>) {
    let sightings = findings.sightings.iter();
    let of = |sighting: &Sighting| (sighting.local.clone(), sighting.print.inode, sighting.from.clone());
    (&findings.gone, sightings.map(of).collect())
}

/// Name, inode, and the row that it continues.
type SightedAs = (Name, u64, Option<RowKey>);

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = 2 + below(&mut rng, 2);
        let devices = (0..count)
            .map(|n| {
                let mut index = MemoryIndex::new(SPACE);
                let mut overlay = Overlay::new(&index);
                for n in 0..count {
                    overlay.put_label(ActorId([n as u8 + 1; 16]), name(&format!("device{n}")));
                }
                let changes = overlay.into_changes();
                index.commit(changes);
                Device {
                    actor: ActorId([n as u8 + 1; 16]),
                    index,
                    base: MemoryBase::default(),
                    disk: BTreeMap::new(),
                    seen: BTreeSet::new(),
                    pending: BTreeSet::new(),
                    ever: BTreeSet::new(),
                    killed: BTreeSet::new(),
                    versions: BTreeSet::new(),
                }
            })
            .collect();
        Self {
            rng,
            devices,
            log: Vec::new(),
            part_len: PART_LENS[(seed % 3) as usize],
            inodes: 1,
            clock: 1,
            contents: 0,
            gone: BTreeSet::new(),
            handled: BTreeSet::new(),
        }
    }

    fn inode(&mut self) -> u64 {
        self.inodes += 1;
        self.inodes
    }

    fn kill(&mut self, at: usize, content: u32) {
        self.gone.insert(content);
        self.devices[at].killed.insert(content);
    }

    fn scan(&mut self, at: usize, is_full: bool) -> usize {
        let device = &self.devices[at];
        let dirty: Option<BTreeSet<FileId>> = (!is_full).then(|| {
            let directories = device.base.all().values().filter(|row| row.kind == Kind::Directory).map(|row| row.id);
            directories.chain([FileId::ROOT, PARKED]).collect()
        });
        let is_told = below(&mut self.rng, 2) == 0;
        let findings = device.walk(dirty.as_ref(), is_told);
        if is_told {
            let whole = device.walk(dirty.as_ref(), false);
            assert_eq!(found(&findings), found(&whole), "names tell of other changes than listings");
        }
        let mut created: BTreeMap<usize, FileId> = BTreeMap::new();
        let mut count = 0;
        for part in batches(findings, self.part_len) {
            let indices = part.indices();
            let part = part.resolve(|at| created.get(&at).copied());
            let device = &mut self.devices[at];
            let Ok(outcome) = diff(&device.index, &device.base, device.actor, &part);
            count += outcome.ops.len();
            let files: BTreeSet<FileId> = outcome.ops.iter().map(|op| op.item).collect();
            assert!(files.len() <= self.part_len, "a part of a scan touches {} files", files.len());
            device.base.commit(outcome.base);
            device.pending.extend(outcome.unsettled);
            created.extend(indices.into_iter().zip(outcome.ids));
            if !outcome.ops.is_empty() {
                let told = outcome.changes.map(|changes| {
                    let (mut index, touched) = (device.index.clone(), changes.touched.clone());
                    index.commit(changes);
                    (index, touched)
                });
                let touched = device.index.apply(&outcome.ops);
                if let Some((index, told)) = told {
                    assert_eq!(index, device.index, "the scan told of other changes than its operations make");
                    assert!(told.is_superset(&touched), "{told:?} of {touched:?}");
                }
                device.pending.extend(touched);
                self.log.push((outcome.ops, device.seen.clone()));
                device.seen.insert(self.log.len() - 1);
            }
        }
        count
    }

    fn receive(&mut self, at: usize, entry: usize) {
        let device = &mut self.devices[at];
        if device.seen.contains(&entry) || !self.log[entry].1.is_subset(&device.seen) {
            return;
        }
        device.seen.insert(entry);
        let touched = device.index.apply(&self.log[entry].0);
        device.pending.extend(touched);
    }

    /// Everybody scans, hears of everything and brings the tree to the view, until nothing changes.
    fn quiesce(&mut self) {
        for at in 0..self.devices.len() {
            self.scan(at, true);
            assert_eq!(self.scan(at, true), 0, "a second scan made operations");
        }
        for _ in 0..8 {
            for at in 0..self.devices.len() {
                for entry in 0..self.log.len() {
                    self.receive(at, entry);
                }
                self.materialise(at);
            }
            let made: usize = (0..self.devices.len()).map(|at| self.scan(at, true)).sum();
            assert_eq!(made, 0, "a scan after materialise made operations");
        }
        let tree = self.devices[0].tree();
        for device in &self.devices {
            assert_eq!(device.seen.len(), self.log.len());
            let shown = shown(device);
            assert_eq!(device.tree(), shown, "a tree is not its view; pending: {:?}", device.pending);
            assert_eq!(device.tree(), tree, "two trees differ");
            let here: BTreeSet<u32> = device.disk.values().map(|node| node.content).collect();
            for content in &device.ever {
                let is_safe =
                    here.contains(content) || device.killed.contains(content) || device.versions.contains(content);
                assert!(is_safe, "content {content} was taken away without a version");
            }
        }
        let here: Vec<u32> = tree.values().filter(|node| node.0 == Kind::File).map(|node| node.1).collect();
        for content in 1..=self.contents {
            let count = here.iter().filter(|c| **c == content).count();
            // A file that was moved while another took its path is a new file, wherever that was done.
            assert!(count <= 1 || self.handled.contains(&content), "content {content} multiplied");
            let was_written = self.devices.iter().any(|device| device.ever.contains(&content));
            assert!(count >= 1 || !was_written || self.gone.contains(&content), "content {content} is lost");
        }
    }
}

/// Concurrent histories: everybody acts, scans, hears and materialises at random.
fn concurrent(seed: u64) -> usize {
    let mut world = World::new(seed);
    let count = world.devices.len();
    for _ in 0..below(&mut world.rng, 6) {
        world.user(0);
    }
    world.quiesce();
    for _ in 0..40 {
        let at = below(&mut world.rng, count);
        match below(&mut world.rng, 10) {
            0..=3 => world.user(at),
            4 | 5 => drop(world.scan(at, false)),
            6 | 7 => {
                for entry in 0..world.log.len() {
                    if below(&mut world.rng, 4) > 0 {
                        world.receive(at, entry);
                    }
                }
            }
            _ => world.materialise(at),
        }
    }
    world.quiesce();
    let copies = world.devices[0].disk.keys().filter(|path| path.contains("(conf")).count();
    // Once more, one user at a time: the actor's tree must not change by itself.
    for _ in 0..4 {
        let at = below(&mut world.rng, count);
        world.user(at);
        world.scan(at, true);
        let before = world.devices[at].tree();
        world.quiesce();
        assert_eq!(world.devices[at].tree(), before, "with nothing concurrent, the actor's tree changed by itself");
    }
    copies
}

/// One user at a time: no conflict copy ever.
fn sequential(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..12 {
        let at = below(&mut world.rng, world.devices.len());
        for _ in 0..=below(&mut world.rng, 3) {
            world.user(at);
        }
        world.scan(at, true);
        let before = world.devices[at].tree();
        world.quiesce();
        assert_eq!(world.devices[at].tree(), before, "with nothing concurrent, the actor's tree changed by itself");
        assert!(!before.keys().any(|path| path.contains("(conf")), "a conflict copy with nothing concurrent");
    }
}

fn run(history: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let rounds: u64 = std::env::var("ZEROCLOUD_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let first: u64 = std::env::var("ZEROCLOUD_TEST_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + rounds {
        if let Err(panic) = std::panic::catch_unwind(|| history(seed)) {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            panic!("seed {seed} (replay: ZEROCLOUD_TEST_SEED={seed} ZEROCLOUD_TEST_ROUNDS=1): {text}");
        }
    }
}

#[test]
fn devices_converge_and_lose_nothing_whatever_their_users_do_at_once() {
    let copies = std::sync::atomic::AtomicUsize::new(0);
    run(|seed| {
        copies.fetch_add(concurrent(seed), std::sync::atomic::Ordering::Relaxed);
    });
    let alone = std::env::var("ZEROCLOUD_TEST_ROUNDS").is_ok_and(|n| n == "1");
    assert!(alone || copies.into_inner() > 0, "no history met a conflict: they test nothing");
}

#[test]
fn with_one_user_at_a_time_no_tree_changes_by_itself_and_no_copy_arises() {
    run(sequential);
}

#[test]
fn nothing_in_this_world_can_fail_to_be_read() {
    // The memory stores' error is uninhabited: the diffs above are total.
    fn total<T>(result: Result<T, Infallible>) -> T {
        let Ok(value) = result;
        value
    }
    assert_eq!(total(MemoryIndex::new(SPACE).max_counter()), 0);
}
