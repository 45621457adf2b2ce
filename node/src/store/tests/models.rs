//! The store against crdt's index and base in memory.

use std::collections::BTreeSet;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use zerocloud_crdt::base::{BaseChanges, BaseRead, MemoryBase};
use zerocloud_crdt::index::{IndexChanges, IndexRead, MemoryIndex, Overlay, Seat};
use zerocloud_crdt::register::{Content, Op, Place, Write as OpWrite};

use super::*;

const IDS: std::ops::Range<u8> = 0..6;
const KEYS: std::ops::Range<u64> = 0..3;

fn ids() -> impl Strategy<Value = FileId> {
    IDS.prop_map(id)
}

fn index_changes() -> impl Strategy<Value = IndexChanges> {
    let items = btree_map(ids(), (IDS, 1..9_u32).prop_map(|(parent, counter)| item(parent, "n", counter)), 0..4);
    let seats = (ids(), KEYS).prop_map(|(parent, name_key)| Seat { parent, name_key });
    let derived = (
        btree_map((seats, ids()), any::<bool>(), 0..6),
        btree_map((ids(), ids()), any::<bool>(), 0..4),
        proptest::option::of(btree_map(ids(), ids(), 0..3)),
        btree_map(ids(), ids(), 0..3),
    );
    let labels = btree_map((0..3_u8).prop_map(|byte| ActorId([byte; 16])), "[a-c]".prop_map(|text| name(&text)), 0..2);
    let rest = (labels, proptest::option::of(1..99_u32), btree_set(ids(), 0..4));
    (items, derived, rest).prop_map(|(items, (present, contested, fallen, losers), (labels, max_counter, touched))| {
        IndexChanges { items, present, contested, fallen, losers, labels, max_counter, touched }
    })
}

fn same_index<T: Tables>(store: &Transaction<T>, model: &MemoryIndex) {
    for byte in IDS {
        let id = id(byte);
        assert_eq!(store.item(id).unwrap(), model.item(id).unwrap());
        assert_eq!(store.children(id).unwrap(), model.children(id).unwrap());
        assert_eq!(store.has_children(id).unwrap(), model.has_children(id).unwrap());
        assert_eq!(store.contested(id).unwrap(), model.contested(id).unwrap());
        assert_eq!(store.loser_of(id).unwrap(), model.loser_of(id).unwrap());
        assert_eq!(store.losers(id).unwrap(), model.losers(id).unwrap());
        for name_key in KEYS {
            assert_eq!(store.keyed(id, name_key).unwrap(), model.keyed(id, name_key).unwrap());
        }
        let actor = ActorId([byte; 16]);
        assert_eq!(store.label(actor).unwrap(), model.label(actor).unwrap());
    }
    assert_eq!(store.fallen().unwrap(), model.fallen().unwrap());
    assert_eq!(store.max_counter().unwrap(), model.max_counter().unwrap());
    let items: Vec<_> = model.items().iter().map(|(id, item)| (*id, item.clone())).collect();
    assert_eq!(store.items_after(None, usize::MAX).unwrap(), items);
}

fn base_changes() -> impl Strategy<Value = BaseChanges> {
    let keys = (IDS, "[a-c\u{1}\u{7f}]{1,2}").prop_map(|(parent, text)| key(parent, &text));
    let kind = prop_oneof![Just(Kind::File), Just(Kind::Directory), Just(Kind::Symlink)];
    let rows = (IDS, IDS, kind, 0..3_u8, 0..3_u64)
        .prop_map(|(of, source, kind, content, inode)| row(of, source, kind, content, inode));
    btree_map(keys, proptest::option::of(rows), 0..8)
}

fn same_base<T: Tables>(store: &Transaction<T>, model: &MemoryBase) {
    for byte in IDS {
        let parent = id(byte);
        assert_eq!(store.rows(parent).unwrap(), model.rows(parent).unwrap());
        assert_eq!(store.has_rows(parent).unwrap(), model.has_rows(parent).unwrap());
        let set = |rows: Vec<(FileId, RowKey)>| rows.into_iter().collect::<BTreeSet<_>>();
        assert_eq!(set(store.of_source(parent).unwrap()), set(model.of_source(parent).unwrap()));
        for source in IDS.map(id) {
            let found = store.find(parent, source).unwrap();
            assert_eq!(found.is_some(), model.find(parent, source).unwrap().is_some());
            assert!(found.is_none_or(|key| model.all()[&key].id == parent && model.all()[&key].source == source));
        }
    }
    for inode in KEYS {
        assert_eq!(store.of_inode(inode).unwrap(), model.of_inode(inode).unwrap());
    }
    for hash in (0..3).map(|content| ContentHash([content; 32])) {
        let rows = model.all().iter().filter(|(_, row)| row.kind == Kind::File && row.hash == hash);
        let rows: Vec<_> = rows.map(|(key, row)| (key.clone(), row.clone())).collect();
        assert_eq!(store.by_hash(hash).unwrap(), rows);
        assert_eq!(store.has_content(hash).unwrap(), !rows.is_empty());
    }
    for (key, row) in model.all() {
        assert_eq!(store.row(key).unwrap().as_ref(), Some(row));
    }
    let count = |kind| model.all().values().filter(|row| row.kind == kind).count() as u64;
    let bytes = model.all().values().filter(|row| row.kind == Kind::File).map(|row| row.len).sum();
    let counts = BaseCounts {
        files: count(Kind::File),
        directories: count(Kind::Directory),
        symlinks: count(Kind::Symlink),
        bytes,
    };
    assert_eq!(store.base_counts(), counts);
    assert_eq!(store.tables.count(Table::BaseSources).unwrap(), model.all().len() as u64);
    assert_eq!(store.tables.count(Table::BaseInodes).unwrap(), model.all().len() as u64);
    assert_eq!(store.tables.count(Table::BaseHashes).unwrap(), counts.files);
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let place = (IDS, 0..3_u8, proptest::option::of(ids())).prop_map(|(parent, text, previous)| {
        let name = name(&format!("n{text}"));
        OpWrite::Place(Place { parent: id(parent), name, previous, loser_of: None })
    });
    let content = prop_oneof![
        Just(Some(Content::Directory)),
        (0..3_u8).prop_map(|byte| Some(Content::Symlink { target: vec![byte] })),
        Just(None)
    ];
    let write = prop_oneof![place, content.prop_map(OpWrite::Content)];
    let ops = vec((1..6_u8, write, btree_set(1..20_u32, 0..3)), 1..20);
    ops.prop_map(|ops| {
        let op = |(counter, (of, write, pred)): (u32, (u8, OpWrite, BTreeSet<u32>))| Op {
            id: op(counter),
            item: id(of),
            write,
            pred: pred.into_iter().filter(|pred| *pred < counter).map(op).collect(),
        };
        (1..).zip(ops).map(op).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_index_answers_as_the_model_does(batches in vec(index_changes(), 1..6)) {
        let (store, mut model) = (in_memory(), MemoryIndex::new(SPACE));
        let mut touched = BTreeSet::new();
        for changes in batches {
            touched.extend(&changes.touched);
            model.commit(changes.clone());
            store
                .write(|write| {
                    write.apply_index(changes)?;
                    same_index(write, &model);
                    Ok::<_, StoreError>(())
                })
                .unwrap();
            let snapshot = store.snapshot().unwrap();
            same_index(&snapshot, &model);
            prop_assert_eq!(&snapshot.cache, &Cache::load(&snapshot.tables).unwrap());
            let pending: Vec<_> = touched.iter().copied().collect();
            prop_assert_eq!(snapshot.pending_count().unwrap(), pending.len() as u64);
            prop_assert_eq!(&snapshot.pending(2).unwrap()[..], &pending[..pending.len().min(2)]);
            let after = pending.first().copied();
            prop_assert_eq!(&snapshot.pending_after(after, 99).unwrap()[..], pending.get(1..).unwrap_or_default());
        }
        let seen = store.snapshot().unwrap().generation();
        let late = touched.first().copied();
        store.write(|write| write.put_pending(&late)).unwrap();
        store.write(|write| write.remove_pending(touched.iter().map(|id| (*id, seen)))).unwrap();
        prop_assert_eq!(store.snapshot().unwrap().pending(9).unwrap(), late.into_iter().collect::<Vec<_>>());
        let seen = store.snapshot().unwrap().generation();
        store.write(|write| write.remove_pending(late.map(|id| (id, seen)))).unwrap();
        prop_assert_eq!(store.snapshot().unwrap().pending_count().unwrap(), 0);
        store.write(|write| write.clear_index()).unwrap();
        let labels = IndexChanges { labels: (0..3).map(|byte| ActorId([byte; 16])).filter_map(|actor| {
            Some((actor, model.label(actor).unwrap()?))
        }).collect(), ..Default::default() };
        let mut cleared = MemoryIndex::new(SPACE);
        cleared.commit(labels);
        same_index(&store.snapshot().unwrap(), &cleared);
    }

    #[test]
    fn base_answers_as_the_model_does(batches in vec(base_changes(), 1..6)) {
        let (store, mut model) = (in_memory(), MemoryBase::default());
        for changes in batches {
            model.commit(changes.clone());
            store
                .write(|write| {
                    write.apply_base(&changes)?;
                    same_base(write, &model);
                    Ok::<_, StoreError>(())
                })
                .unwrap();
            same_base(&store.snapshot().unwrap(), &model);
        }
        let none: BaseChanges = model.all().keys().map(|key| (key.clone(), None)).collect();
        store.write(|write| write.apply_base(&none)).unwrap();
        same_base(&store.snapshot().unwrap(), &MemoryBase::default());
    }

    #[test]
    fn an_overlay_changes_the_same_over_both(ops in ops(), cut in 1..20_usize) {
        let (store, mut model) = (in_memory(), MemoryIndex::new(SPACE));
        for ops in ops.chunks(cut) {
            let mut expected = Overlay::new(&model);
            let Ok(_) = expected.apply(ops);
            let expected = expected.into_changes();
            store
                .write(|write| {
                    let mut overlay = Overlay::new(&*write);
                    overlay.apply(ops)?;
                    let changes = overlay.into_changes();
                    assert_eq!(changes, expected);
                    write.apply_index(changes)
                })
                .unwrap();
            model.commit(expected);
        }
        same_index(&store.snapshot().unwrap(), &model);
    }
}
