//! What the tests of the store share: stores in memory, values of a small domain, and a dump of every table.

mod crash;
mod damage;
mod entries;
mod ledger;
mod models;
mod rows;
mod texts;

use std::collections::BTreeMap;
use std::ops::Bound;

use redb::backends::InMemoryBackend;
use zerocloud_crdt::base::{BaseRow, Fingerprint, RowKey};
use zerocloud_crdt::id::{ActorId, ChunkId, ContentHash, FileId, OpId, SpaceId};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{FileTime, Item, Kind, Place};

use super::tables::Table;
use super::*;
use crate::tree::Displaced;

const SPACE: SpaceId = SpaceId([1; 32]);

fn in_memory() -> SpaceStore {
    SpaceStore::with_backend(InMemoryBackend::new(), SPACE).unwrap()
}

fn id(byte: u8) -> FileId {
    FileId([byte; 16])
}

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn op(counter: u32) -> OpId {
    OpId { counter, actor: ActorId([7; 16]) }
}

fn item(parent: u8, text: &str, counter: u32) -> Item {
    let place = Place { parent: id(parent), name: name(text), previous: None, loser_of: None };
    Item { place: BTreeMap::from([(op(counter), place)]), ..Item::default() }
}

fn key(parent: u8, text: &str) -> RowKey {
    RowKey { parent: id(parent), local: name(text) }
}

fn row(of: u8, source: u8, kind: Kind, content: u8, inode: u64) -> BaseRow {
    let time = FileTime { secs: -5, nanos: 7 };
    let len = u64::from(content) * 100;
    BaseRow {
        id: id(of),
        source: id(source),
        kind,
        view_parent: id(0),
        view_name: name("view"),
        content_ops: [op(1)].into(),
        meta_ops: [op(2)].into(),
        hash: ContentHash([content; 32]),
        len,
        mtime: Some(time),
        executable: false,
        print: Fingerprint { inode, birth: None, len, mtime: time, ctime: time, mode: 0o644 },
    }
}

/// A file that was displaced at a place of its own.
fn displaced(stored: &str, of: u8) -> Displaced {
    let print = Fingerprint { len: 3, ..row(of, of, Kind::File, 1, 5).print };
    Displaced { stored: stored.into(), key: key(0, stored), row: row(of, of, Kind::File, 1, 4), kind: None, print }
}

/// Table, key and value of every row.
type Dump = Vec<(&'static str, Vec<u8>, Vec<u8>)>;

fn dump<T: Tables>(transaction: &Transaction<T>) -> Dump {
    let mut rows = Vec::new();
    for table in Table::ALL {
        let mut each = |key: &[u8], value: &[u8]| {
            rows.push((table.name(), key.to_vec(), value.to_vec()));
            Ok(std::ops::ControlFlow::Continue(()))
        };
        transaction.tables.walk(table, (Bound::Unbounded, Bound::Unbounded), &mut each).unwrap();
    }
    rows
}

#[test]
fn store_and_snapshot_can_be_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<SpaceStore>();
    is_shared::<Snapshot>();
}

#[test]
fn a_store_is_found_again_at_its_path_and_by_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("space.redb");
    let store = SpaceStore::open(&path, SPACE).unwrap();
    store.write(|write| write.set(values::MARKER_COUNTER, &5)).unwrap();
    assert!(matches!(SpaceStore::open(&path, SPACE), Err(StoreError::InUse)));
    drop(store);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let store = SpaceStore::open(&path, SPACE).unwrap();
    assert_eq!(store.snapshot().unwrap().value(values::MARKER_COUNTER).unwrap(), Some(5));
    drop(store);
    let other = SpaceId([2; 32]);
    assert!(matches!(SpaceStore::open(&path, other), Err(StoreError::WrongSpace { found: SPACE })));
}

#[test]
fn a_store_that_a_crash_left_half_made_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("space.redb");
    let whole = directory.path().join("whole.redb");
    drop(SpaceStore::open(&whole, SPACE).unwrap());
    let bytes = std::fs::read(&whole).unwrap();
    for len in [0, 1, 320, 4096, bytes.len() / 2, bytes.len()] {
        std::fs::write(path.with_added_extension("new"), bytes.get(..len).unwrap()).unwrap();
        drop(SpaceStore::open(&path, SPACE).unwrap());
        std::fs::remove_file(&path).unwrap();
    }
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["whole.redb"], "nothing is left beside it");
}

#[test]
fn another_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("space.redb");
    let store = SpaceStore::open(&path, SPACE).unwrap();
    store.write(|write| write.set(values::FORMAT, &(STORE_FORMAT + 1))).unwrap();
    drop(store);
    for _ in 0..2 {
        assert!(matches!(SpaceStore::open(&path, SPACE), Err(StoreError::NewerVersion { found: 3 })));
    }
    let path = directory.path().join("draft.redb");
    let store = SpaceStore::open(&path, SPACE).unwrap();
    store.write(|write| write.set(values::FORMAT, &1)).unwrap();
    drop(store);
    assert!(matches!(SpaceStore::open(&path, SPACE), Err(StoreError::Draft { found: 1 })));
}

#[test]
fn a_file_that_is_no_store_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("space.redb");
    std::fs::write(&path, vec![0x55; 20_000]).unwrap();
    assert!(matches!(SpaceStore::open(&path, SPACE), Err(StoreError::Damaged { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), vec![0x55; 20_000]);
}

#[test]
fn a_snapshot_does_not_see_what_is_written_after_it() {
    let store = in_memory();
    let change = |byte: u8| {
        let mut changes = zerocloud_crdt::index::IndexChanges {
            max_counter: Some(u32::from(byte)),
            fallen: Some(BTreeMap::from([(id(byte), id(0))])),
            ..Default::default()
        };
        changes.items.insert(id(byte), item(0, "a", 1));
        changes.losers.insert(id(100 + byte), id(byte));
        changes.labels.insert(ActorId([byte; 16]), name("label"));
        changes
    };
    let first = store.snapshot().unwrap();
    store.write(|write| write.apply_index(change(1))).unwrap();
    let second = store.snapshot().unwrap();
    store
        .write(|write| {
            write.apply_index(change(2))?;
            write.apply_base(&BTreeMap::from([(key(0, "x"), Some(row(1, 1, Kind::File, 1, 1)))]))
        })
        .unwrap();
    use zerocloud_crdt::index::IndexRead;
    for (snapshot, seen) in [(first, 0_u8), (second, 1), (store.snapshot().unwrap(), 2)] {
        let losers: Vec<_> = [101, 102].map(|virtual_id| snapshot.loser_of(id(virtual_id)).unwrap()).into();
        let expected: Vec<_> = [1, 2].map(|byte| (byte <= seen).then_some(id(byte))).into();
        assert_eq!(losers, expected);
        assert_eq!(snapshot.max_counter().unwrap(), u32::from(seen));
        assert_eq!(snapshot.fallen().unwrap().keys().next().copied(), (seen > 0).then_some(id(seen)));
        assert_eq!(snapshot.label(ActorId([2; 16])).unwrap().is_some(), seen == 2);
        assert_eq!(snapshot.item(id(2)).unwrap().is_some(), seen == 2);
        assert_eq!(snapshot.base_counts().files, u64::from(seen == 2));
    }
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let store = in_memory();
    let before = dump(&store.snapshot().unwrap());
    let failed: Result<(), StoreError> = store.write(|write| {
        write.set(values::MARKER_COUNTER, &5)?;
        write.apply_base(&BTreeMap::from([(key(0, "x"), Some(row(1, 1, Kind::File, 1, 1)))]))?;
        assert_eq!(write.base_counts().files, 1, "a write reads what it wrote");
        Err(StoreError::OutOfTurn)
    });
    assert!(matches!(failed, Err(StoreError::OutOfTurn)));
    let snapshot = store.snapshot().unwrap();
    assert_eq!(dump(&snapshot), before);
    assert_eq!(snapshot.base_counts(), BaseCounts::default());
}

#[test]
fn a_write_that_panics_leaves_nothing_and_the_store_goes_on() {
    let store = in_memory();
    let before = dump(&store.snapshot().unwrap());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.write(|write| -> Result<(), StoreError> {
            write.set(values::MARKER_COUNTER, &5)?;
            panic!("a mistake of the caller")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(dump(&store.snapshot().unwrap()), before);
    store.write(|write| write.set(values::MARKER_COUNTER, &6)).unwrap();
    assert_eq!(store.snapshot().unwrap().value(values::MARKER_COUNTER).unwrap(), Some(6));
}

#[test]
fn bytes_that_nobody_wrote_are_damage() {
    use zerocloud_crdt::base::BaseRead;
    use zerocloud_crdt::index::IndexRead;
    let store = in_memory();
    store
        .write(|write| {
            write.tables.put(Table::Items, id(1).as_bytes(), &[0xff; 40])?;
            write.tables.put(Table::Present, &[id(0).as_bytes(), &[1; 9][..]].concat(), &[])?;
            write.tables.put(Table::BaseInodes, &[&[0; 8][..], id(0).as_bytes(), b"a/b"].concat(), &[])?;
            write.tables.put(Table::Pages, &[&[5; 32][..], &[0, 0, 0, 1]].concat(), b"second piece alone")?;
            write.tables.put(Table::Values, &values::MARKER_COUNTER.key(), &[0x80, 0x00])
        })
        .unwrap();
    let snapshot = store.snapshot().unwrap();
    assert!(matches!(snapshot.item(id(1)), Err(StoreError::Damaged { table: "items" })));
    assert!(matches!(snapshot.children(id(0)), Err(StoreError::Damaged { table: "present" })));
    assert!(matches!(snapshot.of_inode(0), Err(StoreError::Damaged { table: "base-inodes" })));
    assert!(matches!(snapshot.page(ChunkId([5; 32])), Err(StoreError::Damaged { table: "pages" })));
    assert!(matches!(snapshot.value(values::MARKER_COUNTER), Err(StoreError::Damaged { table: "values" })));
}

#[test]
fn a_write_that_changes_nothing_commits_nothing() {
    let store = in_memory();
    let before = store.snapshot().unwrap().cache.generation;
    store.write(|write| write.value(values::MARKER_COUNTER)).unwrap();
    assert_eq!(store.snapshot().unwrap().cache.generation, before);
    store.write(|write| write.set(values::MARKER_COUNTER, &1)).unwrap();
    assert_eq!(store.snapshot().unwrap().cache.generation, before + 1);
}

#[test]
fn snapshots_beside_a_writer_always_agree_with_their_cache() {
    let store = in_memory();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 1..=100_u8 {
                let file = row(round, round, Kind::File, 1, 1);
                let changes = BTreeMap::from([(key(0, &round.to_string()), Some(file))]);
                store.write(|write| write.apply_base(&changes)).unwrap();
            }
        });
        loop {
            let is_last = writer.is_finished();
            let snapshot = store.snapshot().unwrap();
            assert_eq!(snapshot.cache, Cache::load(&snapshot.tables).unwrap());
            if is_last {
                assert_eq!(snapshot.base_counts().files, 100);
                break;
            }
        }
    });
}

#[test]
fn large_values_waste_little_of_the_file() {
    let store = in_memory();
    let page = vec![0xab; 150_000];
    store.write(|write| (0..20).try_for_each(|byte| write.put_page(ChunkId([byte; 32]), &page))).unwrap();
    let transaction = store.database.begin_write().unwrap();
    let stats = transaction.stats().unwrap();
    let used = stats.allocated_pages() * 4096;
    assert!(used < 20 * 150_000 * 115 / 100, "{used}");
}
