//! Rows that a disk, or somebody at it, made of ours.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerocloud_crdt::base::BaseRead;
use zerocloud_crdt::change::{Key, Register};
use zerocloud_crdt::id::{DeviceId, EpochId, LogId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::log::check::LogRead;
use zerocloud_crdt::log::{EntryPoint, Frontier};
use zerocloud_crdt::manifest::Chunk;
use zerocloud_crdt::membership::{Record, Role};
use zerocloud_crdt::ticket::TicketSecret;

use super::super::cache::Cache;
use super::*;
use crate::clock::{SystemClock, WallTime};
use crate::engine::found::Found;
use crate::engine::founding::{creation, founding};
use crate::engine::replica::Replica;
use crate::tree::versions::VersionRow;
use crate::tree::{Deed, Intents};

const DEVICE: DeviceId = DeviceId([3; 32]);

/// A store with a row or more in nearly every table, and the log that it writes.
fn populated() -> (Arc<SpaceStore>, LogId) {
    let founding = founding(2, 5);
    let store = SpaceStore::with_backend(InMemoryBackend::new(), founding.space).unwrap();
    let store = Arc::new(store.with_clock(Arc::new(SystemClock::new())));
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let mut replica = Replica::open(store.clone(), founding.records.clone(), founding.identity(0), &mut rng).unwrap();
    let log = replica.log();
    for text in ["one", "two", "three"] {
        let outcome = creation(&store.snapshot().unwrap(), log, text);
        replica.append(vec![Found::Decided(outcome).into()], &mut rng).unwrap();
    }
    let at = row(1, 1, Kind::File, 1, 5);
    let chunk = Chunk { id: ChunkId([8; 32]), epoch: EpochId([0; 32]), len: 100 };
    let secret = TicketSecret::new([6; 16]);
    let ticket =
        TicketRow { secret, role: Role::Owner, expiry_ms: 7, is_own: true, confirm: true, nonce: None, joiner: None };
    let problem = ProblemRow { path: vec![name("a")], kind: "k".into(), text: "t".into(), since: WallTime(1) };
    let deed = Deed::CreateDirectory { key: key(0, "d"), new: row(2, 2, Kind::Directory, 0, 6) };
    let version =
        VersionRow { stored: "v".into(), origin: Some((key(0, "at"), at.clone())), print: at.print, kept_at_ms: 3 };
    store
        .write::<_, StoreError>(|write| {
            write.apply_base(&[(key(0, "at"), Some(at))].into())?;
            write.put_chunk_list(ContentHash([1; 32]), &[chunk])?;
            write.put_page(ChunkId([9; 32]), &[1; 3000])?;
            write.put_version(&version)?;
            write.put_displaced(&displaced("w", 3))?;
            write.put_peer(DEVICE, &PeerRow::default())?;
            write.put_text(ContentHash([5; 32]), &[b'a'; 3000], IfFull::Leave)?;
            write.put_held(id(1), HeldRow { since: WallTime(9) })?;
            write.put_problem(&problem)?;
            write.put_intents(&Intents { tmp_inode: 1, deeds: vec![deed] })?;
            for bytes in founding.records.lacked_by(&[]) {
                write.put_record(Record::hash_of(bytes), bytes)?;
            }
            write.put_ticket(&ticket)
        })
        .unwrap();
    (store, log)
}

/// Reads by every way there is. What is damaged is said; nothing else may come of it.
fn read_all(store: &SpaceStore, log: LogId) {
    fn said<V>(read: Result<V, StoreError>) {
        if let Err(error) = read {
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }
    let snapshot = store.snapshot().unwrap();
    said(Cache::load(&snapshot.tables));
    said(snapshot.items_after(None, 99));
    said(snapshot.pending(99));
    said(snapshot.text(ContentHash([5; 32])));
    said(store.write(|write| write.put_text(ContentHash([6; 32]), b"text", IfFull::TakeOldest)));
    said(snapshot.contested_directories(None, 99));
    said(snapshot.records());
    said(snapshot.lacked_by(&Frontier::default()).and_then(|mut lacking| {
        while lacking.next_point()?.is_some() {}
        Ok(())
    }));
    said(snapshot.start(log));
    said(snapshot.arrived_by(7));
    said(snapshot.last_arrival_ms());
    for number in 0..5 {
        let point = EntryPoint { log, number };
        said(snapshot.entry_bytes(point));
        said(snapshot.arrived_at(point));
        said(LogRead::entry(&snapshot, point));
    }
    let actor = ActorId::of_log(snapshot.space, log);
    let items: Vec<FileId> = snapshot.items_after(None, 99).unwrap_or_default().into_iter().map(|(id, _)| id).collect();
    for item in items.into_iter().chain([FileId::ROOT, id(1), id(2), id(3)]) {
        said(snapshot.item(item));
        said(snapshot.children(item));
        said(snapshot.contested(item));
        said(snapshot.loser_of(item));
        said(snapshot.losers(item));
        said(snapshot.rows(item));
        said(snapshot.of_source(item));
        said(snapshot.versions(item));
        for register in [Register::Place, Register::Content] {
            said(snapshot.history(Key { item, register }));
            said(snapshot.operations(Key { item, register }));
        }
        said(snapshot.once_placed(item, 0));
    }
    said(snapshot.label(actor));
    for counter in 0..8 {
        said(snapshot.maker(OpId { counter, actor }));
    }
    said(snapshot.row(&key(0, "at")));
    said(snapshot.of_inode(5));
    said(snapshot.by_hash(ContentHash([1; 32])));
    said(snapshot.chunk_list(ContentHash([1; 32])));
    said(snapshot.find_chunk(ChunkId([8; 32])));
    said(snapshot.page(ChunkId([9; 32])));
    said(snapshot.has_content(ContentHash([1; 32])));
    said(snapshot.all_versions());
    said(snapshot.version("v"));
    said(snapshot.versions_by_hash(ContentHash([1; 32])));
    said(snapshot.versions_kept_before(9, 9));
    said(snapshot.versions_by_file(None, 9));
    said(snapshot.displaced());
    said(snapshot.is_stored("w"));
    said(snapshot.peers());
    said(snapshot.peer(DEVICE).map(|row| row.and_then(|row| row.signed_addresses())));
    said(snapshot.intents());
    said(snapshot.held());
    said(snapshot.problems());
    said(snapshot.tickets());
    said(snapshot.value(values::FORMAT));
    said(snapshot.value(values::SPACE));
    said(snapshot.value(values::NAME));
    said(snapshot.value(values::IGNORE_RULES));
}

fn table_of(name: &str) -> Table {
    Table::ALL.into_iter().find(|table| table.name() == name).unwrap()
}

#[test]
fn nearly_every_table_has_rows_to_be_damaged() {
    let (store, log) = populated();
    let filled: std::collections::BTreeSet<_> =
        dump(&store.snapshot().unwrap()).into_iter().map(|(table, ..)| table).collect();
    let empty: Vec<_> = Table::ALL.iter().map(|table| table.name()).filter(|name| !filled.contains(name)).collect();
    assert_eq!(empty, ["once-placed", "contested", "fallen", "losers"], "rows of these are put by the test below");
    read_all(&store, log);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes_in_a_row_are_read_or_said_to_be_damaged(
        damage in vec((any::<prop::sample::Index>(), 0u8..5, any::<prop::sample::Index>(), vec(any::<u8>(), 0..90)), 1..40),
        extra in vec((0..Table::ALL.len(), vec(any::<u8>(), 0..60), vec(any::<u8>(), 0..60)), 0..10),
    ) {
        let (store, log) = populated();
        let rows = dump(&store.snapshot().unwrap());
        store
            .write::<_, StoreError>(|write| {
                for (which, how, at, bytes) in &damage {
                    let (table, key, value) = &rows[which.index(rows.len())];
                    let (mut key, mut value) = (key.clone(), value.clone());
                    match how {
                        0 => value = bytes.clone(),
                        1 => value.truncate(at.index(value.len() + 1)),
                        2 => value.extend_from_slice(bytes),
                        3 if !value.is_empty() => {
                            let at = at.index(value.len());
                            value[at] ^= bytes.first().copied().unwrap_or(1).max(1);
                        }
                        _ => {
                            key.truncate(at.index(key.len() + 1));
                            key.extend_from_slice(bytes);
                        }
                    }
                    write.tables.put(table_of(table), &key, &value)?;
                }
                for (table, key, value) in &extra {
                    write.tables.put(Table::ALL[*table], key, value)?;
                }
                Ok(())
            })
            .unwrap();
        read_all(&store, log);
    }
}
