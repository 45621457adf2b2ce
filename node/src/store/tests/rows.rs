//! Versions, chunks, notes: each against what was put.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use zerocloud_crdt::address::{AddressHint, DirectAddress};
use zerocloud_crdt::id::{DeviceId, EpochId, RecordHash};
use zerocloud_crdt::manifest::Chunk;
use zerocloud_crdt::membership::Role;
use zerocloud_crdt::ticket::TicketSecret;

use super::*;
use crate::clock::WallTime;
use crate::tree::versions::VersionRow;

fn versions() -> impl Strategy<Value = VersionRow> {
    let times = prop_oneof![-3..4_i64, Just(i64::MIN), Just(i64::MAX)];
    let kind = prop_oneof![Just(Kind::File), Just(Kind::Symlink)];
    let origin = proptest::option::of((0..3_u8, kind, 0..3_u8));
    ("[a-d]{1,2}", origin, any::<bool>(), times).prop_map(|(stored, origin, is_as_noted, kept_at_ms)| {
        let origin = origin.map(|(of, kind, content)| (key(0, "at"), row(of, of, kind, content, 1)));
        let mut print = origin.as_ref().map_or(row(0, 0, Kind::File, 9, 1), |(_, row)| row.clone()).print;
        if !is_as_noted {
            print.mtime.secs += 1;
            print.len += 7;
        }
        VersionRow { stored, origin, print, kept_at_ms }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn versions_are_found_by_item_name_content_and_age(
        steps in vec((versions(), any::<bool>()), 1..20),
        at_ms in -3..4_i64,
    ) {
        let (store, mut model) = (in_memory(), BTreeMap::new());
        store
            .write(|write| {
                for (row, is_put) in &steps {
                    if *is_put {
                        write.put_version(row)?;
                        model.insert(row.stored.clone(), row.clone());
                    } else {
                        let removed = write.remove_version(&row.stored)?;
                        assert_eq!(removed, model.remove(&row.stored));
                    }
                }
                Ok::<_, StoreError>(())
            })
            .unwrap();
        let snapshot = store.snapshot().unwrap();
        let item = |row: &VersionRow| row.origin.as_ref().map_or(FileId::ROOT, |(_, row)| row.id);
        let sorted = |mut rows: Vec<VersionRow>| {
            rows.sort_by_key(|row| (item(row), row.kept_at_ms, row.stored.clone()));
            rows
        };
        let all = sorted(model.values().cloned().collect());
        prop_assert_eq!(snapshot.all_versions().unwrap(), all.clone());
        let (mut by_file, mut after) = (Vec::new(), None);
        loop {
            let some = snapshot.versions_by_file(after, 2).unwrap();
            let Some((last, _)) = some.last() else { break };
            after = Some(*last);
            prop_assert!(some.iter().all(|(file, rows)| rows.iter().all(|row| item(row) == *file)));
            by_file.extend(some.into_iter().flat_map(|(_, rows)| rows));
        }
        prop_assert_eq!(&by_file, &all);
        let counts = VersionCounts { versions: all.len() as u64, bytes: all.iter().map(|row| row.print.len).sum() };
        prop_assert_eq!(snapshot.version_counts(), counts);
        for byte in 0..3 {
            let of: Vec<_> = all.iter().filter(|row| item(row) == id(byte)).cloned().collect();
            prop_assert_eq!(snapshot.versions(id(byte)).unwrap(), of);
            let hash = ContentHash([byte; 32]);
            let has_content = |version: &&VersionRow| {
                version.origin.as_ref().is_some_and(|(_, row)| {
                    row.hash == hash && row.kind == Kind::File && row.print == version.print
                })
            };
            let with: Vec<_> = all.iter().filter(has_content).cloned().collect();
            prop_assert_eq!(snapshot.has_content(hash).unwrap(), !with.is_empty());
            prop_assert_eq!(sorted(snapshot.versions_by_hash(hash).unwrap()), with);
        }
        for (stored, row) in &model {
            prop_assert_eq!(snapshot.version(stored).unwrap(), Some(row.clone()));
            prop_assert!(snapshot.is_stored(stored).unwrap());
        }
        let mut old: Vec<_> = all.into_iter().filter(|row| row.kept_at_ms <= at_ms).collect();
        old.sort_by_key(|row| (row.kept_at_ms, row.stored.clone()));
        prop_assert_eq!(&snapshot.versions_kept_before(at_ms, 99).unwrap(), &old);
        prop_assert_eq!(&snapshot.versions_kept_before(at_ms, 1).unwrap()[..], &old[..old.len().min(1)]);
    }

    #[test]
    fn chunks_are_found_in_the_contents_that_have_them(
        lists in btree_map(0..4_u8, vec((0..9_u8, 0..2_u8, 1..50_u32), 0..300), 1..4),
        removed in 0..4_u8,
    ) {
        let store = in_memory();
        let chunk = |&(byte, epoch, len): &(u8, u8, u32)| Chunk {
            id: ChunkId([byte; 32]),
            epoch: EpochId([epoch; 32]),
            len,
        };
        let lists: BTreeMap<ContentHash, Vec<Chunk>> = lists
            .iter()
            .map(|(content, chunks)| (ContentHash([*content; 32]), chunks.iter().map(chunk).collect()))
            .collect();
        let removed = ContentHash([removed; 32]);
        store
            .write(|write| {
                lists.iter().try_for_each(|(content, chunks)| write.put_chunk_list(*content, &chunks[..0]).and_then(
                    |()| write.put_chunk_list(*content, chunks),
                ))?;
                write.remove_chunk_list(removed)
            })
            .unwrap();
        let snapshot = store.snapshot().unwrap();
        let mut places: BTreeMap<ChunkId, Vec<ChunkPlace>> = BTreeMap::new();
        for (content, chunks) in lists.iter().filter(|(content, _)| **content != removed) {
            prop_assert_eq!(snapshot.chunk_list(*content).unwrap(), Some(chunks.clone()));
            let mut offset = 0;
            for chunk in chunks {
                let of = places.entry(chunk.id).or_default();
                if of.last().is_none_or(|place| place.content != *content) {
                    of.push(ChunkPlace { content: *content, offset, len: chunk.len });
                }
                offset += u64::from(chunk.len);
            }
        }
        prop_assert_eq!(snapshot.chunk_list(removed).unwrap(), None);
        for chunk in (0..9).map(|byte| ChunkId([byte; 32])) {
            prop_assert_eq!(snapshot.find_chunk(chunk).unwrap(), places.remove(&chunk).unwrap_or_default());
        }
    }

    #[test]
    fn pages_of_any_length_are_read_back(lens in vec(0..9_000_usize, 1..4)) {
        let store = in_memory();
        let page = |index: usize, len| (0..len).map(|at| (at + index) as u8).collect::<Vec<_>>();
        for lens in [lens.clone(), lens.iter().map(|len| len / 2).collect()] {
            store
                .write(|write| {
                    lens.iter().enumerate().try_for_each(|(index, len)| {
                        write.put_page(ChunkId([index as u8; 32]), &page(index, *len))
                    })
                })
                .unwrap();
            let snapshot = store.snapshot().unwrap();
            for (index, len) in lens.iter().enumerate() {
                let read = snapshot.page(ChunkId([index as u8; 32])).unwrap();
                prop_assert_eq!(read, Some(page(index, *len)));
            }
        }
        store.write(|write| write.remove_page(ChunkId([0; 32]))).unwrap();
        let snapshot = store.snapshot().unwrap();
        prop_assert_eq!(snapshot.page(ChunkId([0; 32])).unwrap(), None);
        prop_assert_eq!(snapshot.page(ChunkId([1; 32])).unwrap().is_some(), lens.len() > 1);
    }
}

#[test]
fn records_come_back_in_the_order_of_their_arrival() {
    let store = in_memory();
    let hash = |byte| RecordHash([byte; 32]);
    store
        .write(|write| {
            assert!(write.put_record(hash(9), b"genesis")?);
            assert!(write.put_record(hash(1), b"")?);
            assert!(!write.put_record(hash(9), b"again")?);
            write.put_record(hash(5), b"third")
        })
        .unwrap();
    let snapshot = store.snapshot().unwrap();
    let expected = [(hash(9), b"genesis".to_vec()), (hash(1), Vec::new()), (hash(5), b"third".to_vec())];
    assert_eq!(snapshot.records().unwrap(), expected);
    for (hash, bytes) in expected {
        assert_eq!(snapshot.record(hash).unwrap(), Some(bytes));
    }
    assert_eq!(snapshot.record(hash(2)).unwrap(), None);
}

#[test]
fn a_ticket_is_bound_to_its_first_joiner_until_it_expires() {
    let store = in_memory();
    let (one, other) = (DeviceId([1; 32]), DeviceId([2; 32]));
    let ticket = |secret, expiry_ms| TicketRow {
        secret: TicketSecret::new([secret; 16]),
        role: Role::Editor,
        expiry_ms,
        is_own: false,
        confirm: false,
        nonce: None,
        joiner: None,
    };
    let at = |milliseconds: i64| WallTime(milliseconds * 1_000_000);
    let id = ticket(5, 0).secret.id();
    store.write(|write| [ticket(5, 10), ticket(6, 12)].iter().try_for_each(|row| write.put_ticket(row))).unwrap();
    let bind = |device, now| store.write(|write| write.bind_ticket(id, device, now)).unwrap();
    assert!(!bind(one, at(10)), "expired");
    assert!(bind(one, at(9)) && bind(one, at(9)), "the same device may ask again");
    assert!(!bind(other, at(9)), "the ticket is used");
    let tickets = store.snapshot().unwrap().tickets().unwrap();
    assert_eq!(tickets.len(), 2);
    assert!(tickets.iter().all(|(key, row)| *key == row.secret.id()));
    assert_eq!(store.snapshot().unwrap().ticket(id).unwrap().unwrap().joiner, Some(one));
    store.write(|write| write.remove_expired_tickets(at(11))).unwrap();
    assert!(store.snapshot().unwrap().ticket(id).unwrap().is_none());
    assert!(!bind(one, at(9)));
    let left = ticket(6, 0).secret.id();
    assert!(store.write(|write| write.remove_ticket(left)).unwrap());
    assert!(!store.write(|write| write.remove_ticket(left)).unwrap());
}

#[test]
fn threat_58_a_ticket_in_the_store_shows_no_secret() {
    let row = TicketRow {
        secret: TicketSecret::new([0xab; 16]),
        role: Role::Owner,
        expiry_ms: 7,
        is_own: true,
        confirm: true,
        nonce: Some([0xcd; 32]),
        joiner: None,
    };
    let shown = format!("{row:?} {row:#?}");
    assert!(!shown.contains("171") && !shown.contains("205"), "{shown}");
}

#[test]
fn peers_holds_and_problems_are_noted_and_forgotten() {
    let store = in_memory();
    let device = DeviceId([3; 32]);
    let address = DirectAddress::new([192, 0, 2, 1].into(), 7).unwrap();
    let peer = PeerRow {
        name: Some(name("kitchen")),
        hints: vec![AddressHint::Direct(address)],
        last_seen: Some(WallTime(-1)),
        frontier: vec![1, 2],
        addresses: vec![3],
    };
    let held = HeldRow { since: WallTime(9) };
    let problem = |since, text: &str| ProblemRow {
        path: vec![name("a"), name("b")],
        kind: "unreadable".into(),
        text: text.into(),
        since: WallTime(since),
    };
    store
        .write(|write| {
            write.put_peer(device, &peer)?;
            write.put_held(id(1), held)?;
            write.put_problem(&problem(1, "first"))?;
            write.put_problem(&problem(2, "second"))
        })
        .unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.peer(device).unwrap(), Some(peer.clone()));
    assert_eq!(snapshot.peers().unwrap(), BTreeMap::from([(device, peer)]));
    assert_eq!(snapshot.held().unwrap(), BTreeMap::from([(id(1), held)]));
    assert!(snapshot.is_held(id(1)).unwrap() && !snapshot.is_held(id(2)).unwrap());
    assert_eq!(snapshot.problems().unwrap(), [problem(1, "second")], "a problem lasts since it began");
    store
        .write(|write| {
            write.remove_peer(device)?;
            assert!(write.remove_held(id(1))?);
            assert!(!write.remove_problem(&[name("a")], "unreadable")?);
            write.remove_problem(&[name("a"), name("b")], "unreadable")
        })
        .unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.peers().unwrap().len() + snapshot.problems().unwrap().len(), 0);
    assert_eq!(snapshot.held_count().unwrap(), 0);
}
