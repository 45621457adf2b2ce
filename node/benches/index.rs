//! What the index costs on a real store: operations applied to registers, the view read, the tree compared with base.
//!
//! The store lies in memory, so that no disk is measured; its tables, codec and caches are those that ship. It has
//! 20,000 files in 400 directories.

#![allow(clippy::unwrap_used, reason = "a bench that can't set up must stop and say so")]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use redb::backends::InMemoryBackend;
use zerocloud::store::{Snapshot, SpaceStore, StoreError};
use zerocloud_crdt::base::{BaseChanges, BaseRead, BaseRow, Fingerprint, RowKey};
use zerocloud_crdt::id::{ActorId, ChunkId, ContentHash, EpochId, FileId, OpId, SpaceId};
use zerocloud_crdt::index::{IndexRead, Overlay};
use zerocloud_crdt::manifest::{Body, ChunkRef, Class, Manifest, Profile};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, FileContent, FileTime, Kind, Op, Place, Write};
use zerocloud_crdt::scan::{Findings, Listed, Parent, Seen, Walk, diff};
use zerocloud_crdt::view::View;

const ACTOR: ActorId = ActorId([1; 16]);
const DIRECTORY_COUNT: u32 = 400;
const FILE_COUNT: u32 = 20_000;
/// Files of one entry, or of one batch.
const BATCH_COUNT: u32 = 1_000;

fn directory_id(number: u32) -> FileId {
    id(&[b"directory", &number.to_le_bytes()[..]].concat())
}

fn file_id(number: u32) -> FileId {
    id(&number.to_le_bytes())
}

fn id(of: &[u8]) -> FileId {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(of).as_bytes()[..16]);
    FileId(id)
}

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

/// The `version`-th content of a file: 10,000 bytes in one chunk.
fn content(number: u32, version: u32) -> FileContent {
    let hash = blake3::hash(&[number.to_le_bytes(), version.to_le_bytes()].concat());
    let chunk = ChunkRef { id: ChunkId(*hash.as_bytes()), epoch_index: 0, len: 10_000 };
    let epoch = EpochId([2; 32]);
    let profile = Profile { chunker: 1, class: Class::Single, epoch };
    let manifest = Manifest { profile, len: 10_000, epochs: vec![epoch], body: Body::Inline(vec![chunk]) };
    FileContent { mtime: time(version), executable: false, hash: ContentHash(*hash.as_bytes()), manifest }
}

fn time(version: u32) -> FileTime {
    FileTime { secs: 1_700_000_000 + i64::from(version), nanos: 0 }
}

fn print(inode: u32, len: u64, version: u32) -> Fingerprint {
    Fingerprint { inode: inode.into(), birth: None, len, mtime: time(version), ctime: time(version), mode: 0o644 }
}

/// The operations that make an item.
fn made(counter: &mut u32, item: FileId, parent: FileId, local: &str, content: Content) -> [Op; 2] {
    let place = Place { parent, name: name(local), previous: None, loser_of: None };
    [Write::Place(place), Write::Content(Some(content))].map(|write| {
        *counter += 1;
        Op { id: OpId { counter: *counter, actor: ACTOR }, item, write, pred: Vec::new() }
    })
}

/// A store with all directories and files, in the index and in base.
fn store() -> SpaceStore {
    let store = SpaceStore::with_backend(InMemoryBackend::new(), SpaceId([3; 32])).unwrap();
    let mut counter = 0;
    let mut ops = Vec::new();
    for number in 0..DIRECTORY_COUNT {
        let local = format!("album {number}");
        ops.extend(made(&mut counter, directory_id(number), FileId::ROOT, &local, Content::Directory));
    }
    for number in 0..FILE_COUNT {
        let (parent, local) = (directory_id(number % DIRECTORY_COUNT), format!("IMG_{number:05}.jpg"));
        ops.extend(made(&mut counter, file_id(number), parent, &local, Content::File(content(number, 0))));
    }
    for ops in ops.chunks(2 * BATCH_COUNT as usize) {
        apply(&store, ops);
    }
    let snapshot = store.snapshot().unwrap();
    let view = View::new(&snapshot);
    let mut rows = BaseChanges::new();
    for number in 0..DIRECTORY_COUNT + FILE_COUNT {
        let (id, len) = match number.checked_sub(DIRECTORY_COUNT) {
            None => (directory_id(number), 0),
            Some(file) => (file_id(file), 10_000),
        };
        let entry = view.entry(id, id).unwrap().unwrap();
        let key = RowKey { parent: entry.parent, local: entry.name.clone() };
        rows.insert(key, Some(BaseRow::of_entry(&entry, print(number, len, 0))));
    }
    store.write(|write| write.apply_base(&rows)).unwrap();
    store
}

/// What an incoming entry does to the index, in one transaction.
fn apply(store: &SpaceStore, ops: &[Op]) {
    let applied: Result<(), StoreError> = store.write(|write| {
        let mut overlay = Overlay::new(&*write);
        overlay.apply(ops)?;
        let changes = overlay.into_changes();
        write.apply_index(changes)
    });
    applied.unwrap();
}

/// New contents of some files, after all that the index has.
fn edits(snapshot: &Snapshot) -> Vec<Op> {
    let first = snapshot.max_counter().unwrap() + 1;
    let edit = |number: u32| {
        let item = file_id(number * (FILE_COUNT / BATCH_COUNT));
        let pred = snapshot.item(item).unwrap().unwrap().content.into_keys().collect();
        let write = Write::Content(Some(Content::File(content(number, first))));
        Op { id: OpId { counter: first + number, actor: ACTOR }, item, write, pred }
    };
    (0..BATCH_COUNT).map(edit).collect()
}

fn registers(c: &mut Criterion) {
    let store = store();
    let mut group = c.benchmark_group("1,000 edits of 20,000 files");
    group.throughput(Throughput::Elements(BATCH_COUNT.into())).sample_size(20);
    group.bench_function("apply to the registers, in memory", |b| {
        let ops = edits(&store.snapshot().unwrap());
        b.iter_batched(
            || ops.iter().map(|op| (store.snapshot().unwrap().item(op.item).unwrap().unwrap(), op)).collect(),
            |mut items: Vec<_>| {
                items.iter_mut().for_each(|(item, op)| item.apply(op));
                items
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("apply over the store", |b| {
        let snapshot = store.snapshot().unwrap();
        let ops = edits(&snapshot);
        b.iter(|| {
            let mut overlay = Overlay::new(&snapshot);
            overlay.apply(&ops).unwrap();
            overlay.into_changes()
        });
    });
    group.bench_function("apply and commit", |b| {
        let ops = || edits(&store.snapshot().unwrap());
        b.iter_batched(ops, |ops| apply(&store, &ops), BatchSize::PerIteration);
    });
    group.finish();
}

fn view(c: &mut Criterion) {
    let store = store();
    let snapshot = store.snapshot().unwrap();
    let mut group = c.benchmark_group("view of 20,000 files");
    let in_directory = FILE_COUNT / DIRECTORY_COUNT;
    group.throughput(Throughput::Elements(in_directory.into()));
    group.bench_function("one directory of 50", |b| {
        let mut number = 0;
        b.iter(|| {
            number = (number + 1) % DIRECTORY_COUNT;
            let entries = View::new(&snapshot).directory(directory_id(number)).unwrap();
            assert_eq!(entries.len(), in_directory as usize);
            entries
        });
    });
    group.throughput(Throughput::Elements(BATCH_COUNT.into()));
    group.bench_function("1,000 files by their ids", |b| {
        b.iter(|| {
            let view = View::new(&snapshot);
            for number in 0..BATCH_COUNT {
                black_box(view.entry_of(file_id(number * (FILE_COUNT / BATCH_COUNT))).unwrap());
            }
        });
    });
    group.finish();
}

/// What a lister sees of each directory: what base has, but for files whose number divides by `every`, edited since.
fn listings(snapshot: &Snapshot, every: Option<u32>) -> BTreeMap<FileId, Vec<Listed>> {
    let directories = (0..DIRECTORY_COUNT).map(directory_id).chain([FileId::ROOT]);
    let edited: Vec<FileId> =
        every.into_iter().flat_map(|every| (0..FILE_COUNT).step_by(every as usize)).map(file_id).collect();
    let listed = |(local, row): (Name, BaseRow)| {
        let print = if edited.contains(&row.id) { Fingerprint { len: 20_000, ..row.print } } else { row.print };
        Listed { local, kind: row.kind, print, links: 1, is_doubted: false }
    };
    directories.map(|id| (id, snapshot.rows(id).unwrap().into_iter().map(listed).collect())).collect()
}

/// Walks over the whole tree. What was edited is taken to have been read.
fn walk(snapshot: &Snapshot, mut listings: BTreeMap<FileId, Vec<Listed>>) -> Findings {
    let inodes: BTreeMap<FileId, u64> =
        (0..DIRECTORY_COUNT).map(|number| (directory_id(number), number.into())).collect();
    let mut walk = Walk::full(snapshot);
    while let Some(directory) = walk.next_directory().unwrap() {
        let Parent::Known(id) = directory else { unreachable!("nothing is new") };
        match listings.remove(&id) {
            Some(listing) => walk.handle_listing(directory, inodes.get(&id).copied().unwrap_or(0), listing).unwrap(),
            None => walk.handle_missing(directory).unwrap(),
        }
    }
    let (mut findings, to_read) = walk.finish().unwrap();
    for (number, at) in to_read.into_iter().enumerate() {
        let FileContent { hash, manifest, .. } = content(u32::try_from(number).unwrap(), 1);
        findings.sightings[at].seen = Seen::File { hash, manifest };
    }
    findings
}

fn base(c: &mut Criterion) {
    let store = store();
    let snapshot = store.snapshot().unwrap();
    let mut group = c.benchmark_group("tree of 20,000 files against base");
    group.throughput(Throughput::Elements(FILE_COUNT.into())).sample_size(20);
    let (same, edited) = (listings(&snapshot, None), listings(&snapshot, Some(FILE_COUNT / BATCH_COUNT)));
    assert_eq!(walk(&snapshot, same.clone()), Findings::default());
    group.bench_function("walk without changes", |b| {
        b.iter_batched(|| same.clone(), |same| walk(&snapshot, same), BatchSize::LargeInput);
    });
    let findings = walk(&snapshot, edited);
    assert_eq!(findings.sightings.len(), BATCH_COUNT as usize);
    group.throughput(Throughput::Elements(BATCH_COUNT.into()));
    group.bench_function("operations of 1,000 edited files", |b| {
        b.iter(|| {
            let outcome = diff(&snapshot, &snapshot, ACTOR, &findings).unwrap();
            assert_eq!(outcome.ops.len(), BATCH_COUNT as usize);
            outcome
        });
    });
    assert!(findings.sightings.iter().all(|sighting| sighting.kind == Kind::File));
    group.finish();
}

criterion_group!(benches, registers, view, base);
criterion_main!(benches);
