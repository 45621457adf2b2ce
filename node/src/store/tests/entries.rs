//! The log against crdt's log in memory: two devices write concurrently, and the store takes their entries.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zerocloud_crdt::change::{Key, Register};
use zerocloud_crdt::id::{DeviceId, EpochId, Incarnation, LogId, RecordHash};
use zerocloud_crdt::index::name_key;
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::log::check::check;
use zerocloud_crdt::log::heads::current_heads;
use zerocloud_crdt::log::{
    Body, Draft, DraftOp, Entry, EntryPoint, Frontier, LogRead, LogWriter, Membership, MemoryLog, Outcome, Position,
    Setting, Start, Verdict,
};
use zerocloud_crdt::register::{Content, Write as OpWrite};

use super::*;

const GENESIS: RecordHash = RecordHash([1; 32]);

/// Everyone may write.
struct Everyone;

impl Membership for Everyone {
    fn knows(&self, _: &[RecordHash]) -> bool {
        true
    }

    fn may_write(&self, _: &[RecordHash], _: DeviceId) -> bool {
        true
    }

    fn follows(&self, _: &[RecordHash], _: &[RecordHash]) -> bool {
        true
    }
}

fn secret() -> EpochSecret {
    EpochSecret::new(SPACE, EpochId([1; 32]), Secret::new([9; 32]))
}

/// Checks an entry within a transaction and puts it there.
fn receive(store: &SpaceStore, entry: &Entry) -> Outcome {
    let secret = secret();
    store
        .write(|write| {
            let outcome = check(entry, &*write, &Everyone, |_| Some(&secret)).unwrap();
            if let Outcome::Checked(checked) = &outcome {
                write.put_entry(entry, checked)?;
                if let Verdict::Applies(body @ Body::Index(..)) = &checked.verdict {
                    let mut overlay = zerocloud_crdt::index::Overlay::new(&*write);
                    overlay.apply(body.ops())?;
                    let changes = overlay.into_changes();
                    write.apply_index(changes)?;
                }
            }
            Ok::<_, StoreError>(outcome)
        })
        .unwrap()
}

fn place(parent: u8, text: &str, previous: Option<u8>) -> OpWrite {
    OpWrite::Place(Place { parent: id(parent), name: name(text), previous: previous.map(id), loser_of: None })
}

fn link(byte: u8) -> OpWrite {
    OpWrite::Content(Some(Content::Symlink { target: vec![byte; 3_000] }))
}

/// What two devices wrote: one makes, moves, edits and deletes, the other edits at the same time.
fn history() -> (MemoryLog, Vec<Entry>) {
    let (mut log, mut rng, secret) = (MemoryLog::default(), ChaCha20Rng::seed_from_u64(1), secret());
    let keys = [3, 4].map(|byte| DeviceKeys::from_seed(Secret::new([byte; 32])).signing_key());
    let writers = [0, 1].map(|index: usize| LogWriter::new(&keys[index], SPACE, Incarnation([5; 8])));
    let actor = |index: usize| writers[index].actor();
    let mut entries = Vec::new();
    let mut write = |index: usize, draft: Draft| {
        let writer: &LogWriter<'_> = &writers[index];
        let heads = current_heads(&log, writer.log()).unwrap();
        let setting = Setting { heads: &heads, membership: &[GENESIS], secret: &secret };
        let written = writer.write(&log, &Everyone, &setting, draft, &mut rng).unwrap();
        log.apply(written.entry.clone(), &written.checked);
        entries.push(written.entry);
    };
    let start = |text| Draft::Start(Start { label: name(text), earlier: vec![] });
    let draft = |item, write, pred: Vec<OpId>| DraftOp { item: id(item), write, pred };
    write(0, start("first"));
    write(1, start("second"));
    let made = (1..40_u8)
        .flat_map(|byte| [draft(byte, place(0, &format!("n{byte}"), None), vec![]), draft(byte, link(byte), vec![])]);
    write(0, Draft::Index(made.collect()));
    let at = |counter, index| OpId { counter, actor: actor(index) };
    write(1, Draft::Index(vec![draft(1, link(100), vec![at(2, 0)])]));
    write(0, Draft::Index(vec![draft(1, place(2, "moved", Some(0)), vec![at(1, 0)])]));
    write(0, Draft::Index(vec![draft(1, OpWrite::Content(None), vec![at(79, 1)])]));
    write(1, Draft::Seen);
    (log, entries)
}

fn same_log<T: Tables>(store: &Transaction<T>, model: &MemoryLog, entries: &[Entry]) {
    let ours = model.frontier().unwrap();
    assert_eq!(store.frontier().unwrap(), ours);
    let logs: Vec<LogId> = ours.iter().map(|(log, _)| log).collect();
    let registers = [Register::Place, Register::Content, Register::Meta];
    for log in &logs {
        assert_eq!(store.start(*log).unwrap().as_ref(), model.start(*log));
        for number in 0..=ours.number(*log) + 1 {
            let point = EntryPoint { log: *log, number };
            assert_eq!(store.entry(point).unwrap(), model.entry(point).unwrap());
            let bytes = model.stored(point).map(|entry| entry.as_bytes().to_vec());
            assert_eq!(store.entry_bytes(point).unwrap(), bytes);
        }
        let actor = ActorId::of_log(SPACE, *log);
        for counter in (0..85).chain([u32::MAX]) {
            let op = OpId { counter, actor };
            assert_eq!(store.maker(op).unwrap(), model.maker(op).unwrap(), "{op:?}");
            for item in (0..42).map(id) {
                for register in registers {
                    let key = Key { item, register };
                    assert_eq!(store.is_on(op, key).unwrap(), model.is_on(op, key).unwrap(), "{op:?}");
                }
            }
        }
    }
    // Whatever another has, it is sent the same in the same order.
    let mut theirs = Frontier::default();
    for entry in std::iter::once(None).chain(entries.iter().map(Some)) {
        if let Some(entry) = entry {
            theirs.advance(entry.header().log, Position { number: entry.header().number, hash: entry.hash() });
        }
        let points: Result<Vec<_>, _> = store.lacked_by(&theirs).unwrap().collect();
        let expected: Vec<_> = model.lacked_by(&theirs).into_iter().map(Entry::point).collect();
        assert_eq!(points.unwrap(), expected);
    }
}

#[test]
fn the_log_answers_as_the_model_does() {
    let (model, entries) = history();
    let store = in_memory();
    for entry in &entries {
        assert!(matches!(receive(&store, entry), Outcome::Checked(checked) if !checked.meta.is_void));
    }
    assert_eq!(receive(&store, &entries[0]), Outcome::Known);
    let snapshot = store.snapshot().unwrap();
    same_log(&snapshot, &model, &entries);
    for (id, item) in model.items() {
        use zerocloud_crdt::index::IndexRead;
        assert_eq!(snapshot.item(*id).unwrap().as_ref(), Some(item));
    }
    let stored = snapshot.entry_bytes(entries[2].point()).unwrap().unwrap();
    assert_eq!(Entry::decode_stored(SPACE, stored).unwrap(), entries[2]);
}

#[test]
fn an_items_history_outlives_what_supersedes_it() {
    let (_, entries) = history();
    let store = in_memory();
    for entry in &entries {
        receive(&store, entry);
    }
    let snapshot = store.snapshot().unwrap();
    let history = |item, register| {
        let history = snapshot.history(Key { item: id(item), register }).unwrap();
        history.into_iter().map(|(op, point)| (op.counter, point)).collect::<Vec<_>>()
    };
    let (first, edit, moved) = (entries[2].point(), entries[3].point(), entries[4].point());
    assert_eq!(history(1, Register::Content), [(2, first), (79, edit)], "the delete puts no value");
    assert_eq!(history(1, Register::Place), [(1, first), (80, moved)]);
    assert_eq!(history(2, Register::Content), [(4, first)]);
    assert_eq!(history(1, Register::Meta), []);
    assert_eq!(snapshot.once_placed(id(2), name_key(&name("moved"))).unwrap(), [id(1)]);
    assert_eq!(snapshot.once_placed(id(0), name_key(&name("n1"))).unwrap(), [], "creations name themselves");
}

/// A clock that a test sets.
struct SetClock(std::sync::atomic::AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> crate::clock::Moment {
        crate::clock::Moment(0)
    }

    fn wall_time(&self) -> crate::clock::WallTime {
        crate::clock::WallTime(self.0.load(Ordering::Relaxed) * 1_000_000)
    }
}

#[test]
fn what_had_come_by_a_moment_is_known_and_what_came_before_the_notes_was_always_there() {
    let (_, entries) = history();
    let clock = Arc::new(SetClock(0.into()));
    let mut store = in_memory();
    receive(&store, &entries[0]);
    store = store.with_clock(clock.clone());
    let noted_from_ms = 1_000;
    for (at_ms, entry) in (noted_from_ms..).zip(&entries[1..]) {
        clock.0.store(at_ms, Ordering::Relaxed);
        receive(&store, entry);
    }
    let snapshot = store.snapshot().unwrap();
    let last_ms = noted_from_ms + i64::try_from(entries.len()).unwrap() - 2;
    assert_eq!(snapshot.last_arrival_ms().unwrap(), Some(last_ms));
    for (count, at_ms) in (0..entries.len()).zip(noted_from_ms - 1..) {
        let mut expected = BTreeMap::new();
        for entry in &entries[..=count] {
            expected.insert(entry.point().log, entry.point().number);
        }
        assert_eq!(snapshot.arrived_by(at_ms).unwrap(), expected, "at {at_ms}");
        let noted = (count > 0).then_some(at_ms);
        assert_eq!(snapshot.arrived_at(entries[count].point()).unwrap(), noted);
    }
}

#[test]
fn an_entry_out_of_its_turn_is_refused() {
    let (model, entries) = history();
    let store = in_memory();
    let checked = match receive(&store, &entries[0]) {
        Outcome::Checked(checked) => checked,
        outcome => panic!("{outcome:?}"),
    };
    let before = dump(&store.snapshot().unwrap());
    for entry in [&entries[0], &entries[4]] {
        assert!(matches!(store.write(|write| write.put_entry(entry, &checked)), Err(StoreError::OutOfTurn)));
    }
    assert_eq!(dump(&store.snapshot().unwrap()), before);
    assert_ne!(store.snapshot().unwrap().frontier().unwrap(), model.frontier().unwrap());
}
