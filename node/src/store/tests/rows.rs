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

fn version(stored: &str, of: u8, when: i64, content: u8, expires: Option<i64>) -> VersionRow {
    VersionRow {
        id: id(of),
        when: WallTime(when),
        stored: name(stored),
        path: vec![name("directory"), name("file")],
        hash: ContentHash([content; 32]),
        len: u64::from(content) + 5,
        mtime: None,
        executable: true,
        content_op: Some(op(4)),
        reason: VersionReason::Replaced,
        expires: expires.map(WallTime),
    }
}

fn versions() -> impl Strategy<Value = VersionRow> {
    let times = prop_oneof![-3..4_i64, Just(i64::MIN), Just(i64::MAX)];
    ("[a-d]{1,2}", 0..3_u8, times.clone(), 0..3_u8, proptest::option::of(times))
        .prop_map(|(stored, of, when, content, expires)| version(&stored, of, when, content, expires))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn versions_are_found_by_item_name_content_and_end(
        steps in vec((versions(), any::<bool>()), 1..20),
        now in -3..4_i64,
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
        let sorted = |mut rows: Vec<VersionRow>| {
            rows.sort_by_key(|row| (row.id, row.when, row.stored.clone()));
            rows
        };
        let all = sorted(model.values().cloned().collect());
        prop_assert_eq!(snapshot.all_versions().unwrap(), all.clone());
        let counts = VersionCounts { versions: all.len() as u64, bytes: all.iter().map(|row| row.len).sum() };
        prop_assert_eq!(snapshot.version_counts(), counts);
        for byte in 0..3 {
            let of: Vec<_> = all.iter().filter(|row| row.id == id(byte)).cloned().collect();
            prop_assert_eq!(snapshot.versions(id(byte)).unwrap(), of);
            let hash = ContentHash([byte; 32]);
            let with: Vec<_> = all.iter().filter(|row| row.hash == hash).cloned().collect();
            prop_assert_eq!(sorted(snapshot.versions_by_hash(hash).unwrap()), with);
        }
        for (stored, row) in &model {
            prop_assert_eq!(snapshot.version(stored).unwrap(), Some(row.clone()));
        }
        let now = WallTime(now);
        let mut expired: Vec<_> = all.into_iter().filter(|row| row.expires.is_some_and(|end| end <= now)).collect();
        expired.sort_by_key(|row| (row.expires, row.stored.clone()));
        prop_assert_eq!(&snapshot.expired_versions(now, 99).unwrap(), &expired);
        prop_assert_eq!(&snapshot.expired_versions(now, 1).unwrap()[..], &expired[..expired.len().min(1)]);
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
fn intents_come_back_in_their_order_until_they_are_cleared() {
    let store = in_memory();
    store.write(|write| write.put_intents([&b"z"[..], b"a"])).unwrap();
    store.write(|write| write.put_intents([&b"m"[..]])).unwrap();
    assert_eq!(store.snapshot().unwrap().intents().unwrap(), [b"z", b"a", b"m"]);
    store.write(|write| write.clear_intents()).unwrap();
    assert!(store.snapshot().unwrap().intents().unwrap().is_empty());
    store.write(|write| write.put_intents([&b"n"[..]])).unwrap();
    assert_eq!(store.snapshot().unwrap().intents().unwrap(), [b"n"]);
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
