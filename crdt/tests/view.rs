//! The shipping view against the slow model, under random concurrent histories and every order of delivery.

#![expect(clippy::unwrap_used, reason = "a test's own mistakes may end it")]

mod model {
    pub(crate) mod view;
}

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use zerocloud_crdt::id::{ActorId, ContentHash, EpochId, FileId, OpId, SpaceId};
use zerocloud_crdt::index::{MemoryIndex, Overlay};
use zerocloud_crdt::manifest::{Body, Class, Manifest, Profile};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, FileContent, FileTime, Kind, Meta, Op, Place, Write};
use zerocloud_crdt::rewind::{Extent, compare, decide};
use zerocloud_crdt::view::{View, ViewEntry, conflict, file_id, lost_and_found, natural_place, virtual_id};

const SPACE: SpaceId = SpaceId([3; 32]);

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn below(rng: &mut ChaCha8Rng, n: u32) -> u32 {
    rng.next_u32() % n
}

fn pick<T: Clone>(rng: &mut ChaCha8Rng, of: &[T]) -> T {
    of[below(rng, of.len() as u32) as usize].clone()
}

fn file(seed: u32) -> Content {
    Content::File(FileContent {
        mtime: FileTime { secs: i64::from(seed) * 7_000, nanos: 0 },
        executable: seed.is_multiple_of(3),
        hash: ContentHash::of(&(seed % 5).to_be_bytes()),
        manifest: Manifest {
            profile: Profile { chunker: 1, class: Class::Single, epoch: EpochId([0; 32]) },
            len: 4,
            epochs: Vec::new(),
            body: Body::Inline(Vec::new()),
        },
    })
}

/// Some ids: two levels of directories, files in them, and whatever the view shows as a loser.
fn ids() -> (Vec<FileId>, Vec<FileId>) {
    let mut directories = vec![FileId::ROOT];
    for text in ["a", "b", "c", "Lost and found"] {
        directories.push(file_id(SPACE, FileId::ROOT, true, 0, text.as_bytes()));
    }
    let files = (0..5u32).map(|n| file_id(SPACE, FileId::ROOT, false, n, b"x")).collect();
    (directories, files)
}

/// One device of a random history.
#[derive(Clone)]
struct Device {
    actor: ActorId,
    index: MemoryIndex,
    seen: BTreeSet<usize>,
}

fn entries(index: &MemoryIndex) -> BTreeMap<FileId, ViewEntry> {
    let view = View::new(index);
    let sources: BTreeSet<FileId> = index.items().keys().copied().chain([lost_and_found(SPACE)]).collect();
    let mut all = BTreeMap::new();
    for id in sources {
        let Ok(entries) = view.entries(id);
        all.extend(entries.into_iter().map(|entry| (entry.id, entry)));
    }
    all
}

fn random_op(rng: &mut ChaCha8Rng, device: &Device, id: OpId) -> Op {
    let (directories, files) = ids();
    let shown = entries(&device.index);
    let virtuals: Vec<&ViewEntry> = shown.values().filter(|entry| entry.is_virtual()).collect();
    let mut item = if below(rng, 2) == 0 { pick(rng, &directories[1..]) } else { pick(rng, &files) };
    let mut loser_of = None;
    let is_directory = directories.contains(&item);
    let mut kind = below(rng, 10);
    if !virtuals.is_empty() && below(rng, 4) == 0 {
        let entry = pick(rng, &virtuals);
        (item, loser_of, kind) = (entry.id, Some(entry.source), 0);
    }
    let empty = zerocloud_crdt::register::Item::default();
    let registers = device.index.items().get(&item).unwrap_or(&empty);
    // A device's base may lag behind: it supersedes some of what is live.
    let mut some = |ops: Vec<OpId>| -> Vec<OpId> { ops.into_iter().filter(|_| below(rng, 4) > 0).collect() };
    let (write, pred) = match kind {
        0..=4 => {
            let pred = registers.place.keys().copied().collect();
            let previous = registers.winning_place().map(|(_, place)| place.parent);
            let missing = FileId([0xee; 16]);
            let mut parents = directories.clone();
            parents.push(missing);
            let parent = pick(rng, &parents);
            let previous = previous.filter(|_| below(rng, 3) > 0);
            let text = ["x", "y.t", "a"][below(rng, 3) as usize];
            (Write::Place(Place { parent, name: name(text), previous, loser_of }), pred)
        }
        5..=7 => {
            let pred = some(registers.content.keys().copied().collect());
            let content = if is_directory { Content::Directory } else { file(id.counter) };
            (Write::Content(Some(content)), pred)
        }
        8 => (Write::Content(None), some(registers.content.keys().copied().collect())),
        _ => {
            let pred = some(registers.meta.keys().copied().collect());
            match registers.content.keys().next_back() {
                Some(about) if !is_directory => {
                    let mtime = FileTime { secs: i64::from(id.counter), nanos: 1 };
                    let (executable, executable_differs) = (below(rng, 2) == 0, below(rng, 2) == 0);
                    (Write::Meta(Some(Meta { mtime, executable, executable_differs, about: *about })), pred)
                }
                _ => (Write::Meta(None), pred),
            }
        }
    };
    Op { id, item, write, pred }
}

/// Runs one history; returns how many conflicts and fallen items it met, so that a run that meets none is noticed.
fn history(seed: u64) -> (usize, usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut devices: Vec<Device> = (0..3u8)
        .map(|n| {
            let mut index = MemoryIndex::new(SPACE);
            let mut overlay = Overlay::new(&index);
            for n in 0..3u8 {
                overlay.put_label(ActorId([n + 1; 16]), name("laptop"));
            }
            let changes = overlay.into_changes();
            index.commit(changes);
            Device { actor: ActorId([n + 1; 16]), index, seen: BTreeSet::new() }
        })
        .collect();
    let mut log: Vec<(Vec<Op>, BTreeSet<usize>)> = Vec::new();
    let (moment, mut then) = (below(&mut rng, 40), devices[0].index.clone());
    for step in 0..40 {
        if step == moment {
            then.clone_from(&devices[0].index);
        }
        let at = below(&mut rng, 3) as usize;
        if below(&mut rng, 2) == 0 {
            let mut ops: Vec<Op> = Vec::new();
            let mut scratch = devices[at].clone();
            for _ in 0..=below(&mut rng, 3) {
                use zerocloud_crdt::index::IndexRead;
                let Ok(counter) = scratch.index.max_counter();
                let op = random_op(&mut rng, &scratch, OpId { counter: counter + 1, actor: scratch.actor });
                scratch.index.apply([&op]);
                ops.push(op);
            }
            log.push((ops, devices[at].seen.clone()));
            deliver(&mut devices[at], log.len() - 1, &log, seed);
        } else {
            let from = devices[below(&mut rng, 3) as usize].seen.clone();
            for entry in from {
                if below(&mut rng, 3) > 0 && log[entry].1.is_subset(&devices[at].seen) {
                    deliver(&mut devices[at], entry, &log, seed);
                }
            }
        }
    }
    let mut conflicts = 0;
    let mut fallen = 0;
    for device in &mut devices {
        while device.seen.len() < log.len() {
            let ready: Vec<usize> =
                (0..log.len()).filter(|n| !device.seen.contains(n) && log[*n].1.is_subset(&device.seen)).collect();
            deliver(device, pick(&mut rng, &ready), &log, seed);
        }
        use zerocloud_crdt::index::IndexRead;
        let Ok(fell) = device.index.fallen();
        fallen += fell.len();
        let shown = entries(&device.index);
        conflicts += shown.values().filter(|entry| entry.is_virtual()).count();
        let mut counts: BTreeMap<FileId, u64> = BTreeMap::new();
        for entry in shown.values() {
            let Ok(natural) = natural_place(&device.index, entry.id);
            let is_conflict = natural.is_none_or(|(_, _, natural)| natural != entry.name);
            *counts.entry(entry.parent).or_default() += u64::from(is_conflict);
        }
        for (parent, count) in counts {
            assert_eq!(conflict::count(&device.index, parent), Ok(count), "seed {seed}: conflict names in {parent}");
        }
    }
    assert_eq!(devices[0].index, devices[1].index, "seed {seed}: the same entries, another index");
    assert_eq!(devices[0].index, devices[2].index, "seed {seed}: the same entries, another index");
    assert_rewound(&then, &devices[0].index, seed);
    (conflicts, fallen)
}

/// The tree as a user sees it: kinds, bytes, times and bits by path.
fn tree(index: &MemoryIndex) -> BTreeMap<Vec<Name>, (Kind, ContentHash, Option<FileTime>, bool)> {
    let view = View::new(index);
    let (mut tree, mut open) = (BTreeMap::new(), vec![(FileId::ROOT, Vec::new())]);
    while let Some((directory, above)) = open.pop() {
        let Ok(entries) = view.directory(directory);
        for entry in entries {
            let path: Vec<Name> = above.iter().cloned().chain([entry.name]).collect();
            tree.insert(path.clone(), (entry.kind, entry.hash, entry.mtime, entry.executable));
            if entry.kind == Kind::Directory {
                open.push((entry.id, path));
            }
        }
    }
    tree
}

/// Registers that are put back show what they showed, and operations can make that the view of now.
fn assert_rewound(then: &MemoryIndex, now: &MemoryIndex, seed: u64) {
    let items = now.items().iter().map(|(id, item)| (*id, then.items().get(id).cloned().unwrap_or_default(), item));
    let items = items.filter(|(_, was, is)| was != *is).map(|(id, was, _)| (id, was)).collect();
    let mut overlay = Overlay::new(now);
    let Ok(touched) = overlay.put_back(items);
    let changes = overlay.into_changes();
    let mut back = now.clone();
    back.commit(changes);
    assert_eq!(entries(&back), entries(then), "seed {seed}: put back, it shows something else");
    assert_eq!(tree(&back), tree(then), "seed {seed}: put back, it lists something else");
    for extent in [Extent::Keep, Extent::Exact] {
        let mut rewound = now.clone();
        // Called as the others are: what yields its name again is told by its label alone.
        let mut overlay = Overlay::new(&rewound);
        overlay.put_label(ActorId([9; 16]), name("laptop"));
        let labels = overlay.into_changes();
        rewound.commit(labels);
        let Ok(found) = compare(&back, now, &touched, FileId::ROOT, extent);
        // Small parts: each is decided on what the one before left.
        for part in found.chunks(3) {
            let Ok(ops) = decide(&rewound, ActorId([9; 16]), part);
            rewound.apply(&ops);
        }
        let (was, is) = (tree(then), tree(&rewound));
        match extent {
            Extent::Exact => assert_eq!(is, was, "seed {seed}: {found:#?}"),
            Extent::Keep => {
                for (path, thing) in &was {
                    assert_eq!(is.get(path), Some(thing), "seed {seed}: {path:?}: {found:#?}");
                }
                let (came, stands) = (entries(now), entries(&rewound));
                let was = entries(then);
                for (id, entry) in came.iter().filter(|(id, _)| !was.contains_key(id)) {
                    let has_bytes = |other: &ViewEntry| (other.kind, other.hash) == (entry.kind, entry.hash);
                    let is_there = stands.get(id).is_some_and(has_bytes) || stands.values().any(has_bytes);
                    assert!(is_there, "seed {seed}: {entry:#?} came since and is gone");
                }
            }
        }
    }
}

fn deliver(device: &mut Device, entry: usize, log: &[(Vec<Op>, BTreeSet<usize>)], seed: u64) {
    if !device.seen.insert(entry) {
        return;
    }
    let before = entries(&device.index);
    let touched = device.index.apply(&log[entry].0);
    let after = entries(&device.index);
    let expected = model::view::view(SPACE, device.index.items(), &name("laptop"));
    for id in after.keys().chain(expected.keys()) {
        assert_eq!(after.get(id), expected.get(id), "seed {seed}: after {:#?}\n{:#?}", log[entry].0, device.index);
    }
    for id in before.keys().chain(after.keys()) {
        if before.get(id) != after.get(id) {
            let source = before.get(id).or(after.get(id)).unwrap().source;
            assert!(
                touched.contains(&source),
                "seed {seed}: {id:?} of {source:?} changed, but was not reported: {:#?} {:#?} {:#?}",
                before.get(id),
                after.get(id),
                log[entry].0
            );
        }
    }
    let view = View::new(&device.index);
    for parent in after.values().map(|entry| entry.parent).collect::<BTreeSet<_>>() {
        let Ok(listed) = view.directory(parent);
        let mut expected: Vec<_> = after.values().filter(|entry| entry.parent == parent).cloned().collect();
        expected.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(listed, expected, "seed {seed}: listing of {parent:?}");
    }
}

#[test]
fn the_view_equals_the_slow_model_whatever_the_order_of_delivery() {
    let rounds = std::env::var("ZEROCLOUD_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let (mut conflicts, mut fallen) = (0, 0);
    for seed in 0..rounds {
        let (c, f) = history(seed);
        conflicts += c;
        fallen += f;
    }
    assert!(conflicts > 0 && fallen > 0, "the histories met no conflict or no fallen item: they test nothing");
}

#[test]
fn virtual_ids_depend_on_all_that_they_name() {
    let op = |counter| OpId { counter, actor: ActorId([1; 16]) };
    let hash = ContentHash([1; 32]);
    let id = virtual_id(SPACE, FileId([1; 16]), op(1), hash);
    assert_ne!(id, virtual_id(SPACE, FileId([2; 16]), op(1), hash));
    assert_ne!(id, virtual_id(SPACE, FileId([1; 16]), op(2), hash));
    assert_ne!(id, virtual_id(SPACE, FileId([1; 16]), op(1), ContentHash([2; 32])));
    assert_ne!(id, virtual_id(SpaceId([4; 32]), FileId([1; 16]), op(1), hash));
}
