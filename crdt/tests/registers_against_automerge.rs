//! Registers against the reference: real Automerge documents that load the same changes, under random histories of
//! several devices with delayed delivery in causal order.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test: helpers fail it, too")]

use std::collections::{BTreeMap, BTreeSet};

use automerge::{Automerge, ROOT, ReadDoc};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zerocloud_crdt::change::{Key, Register};
use zerocloud_crdt::codec;
use zerocloud_crdt::id::{DeviceId, EpochId, FileId, Incarnation, OpId, RecordHash, SpaceId};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::log::heads::current_heads;
use zerocloud_crdt::log::{
    Body, Draft, DraftOp, Frontier, LogRead, LogWriter, Membership, MemoryLog, Outcome, Setting, Start, Verdict,
};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, FileTime, Item, Meta, Place, Write};

const SPACE: SpaceId = SpaceId([1; 32]);
const GENESIS: RecordHash = RecordHash([1; 32]);
const DEVICES: usize = 4;

/// One table, in which everyone writes.
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

struct World {
    keys: Vec<DeviceKeys>,
    logs: Vec<MemoryLog>,
    secret: EpochSecret,
    rng: ChaCha20Rng,
    /// Each change as it was read out of an entry at its first delivery or at its author.
    changes: BTreeMap<(usize, u64), Vec<u8>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let keys = (0..DEVICES as u8).map(|byte| DeviceKeys::from_seed(Secret::new([byte; 32]))).collect();
        let secret = EpochSecret::new(SPACE, EpochId([1; 32]), Secret::new([9; 32]));
        let logs = vec![MemoryLog::default(); DEVICES];
        let mut world = Self { keys, logs, secret, rng: ChaCha20Rng::seed_from_u64(seed), changes: BTreeMap::new() };
        for index in 0..DEVICES {
            let label = Name::parse(b"device").unwrap();
            world.write(index, Draft::Start(Start { label, earlier: vec![] }));
        }
        world
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound
    }

    fn write(&mut self, index: usize, draft: Draft) {
        let key = self.keys[index].signing_key();
        let writer = LogWriter::new(&key, SPACE, Incarnation([0; 8]));
        let log = &mut self.logs[index];
        let heads = current_heads(log, writer.log()).unwrap();
        let setting = Setting { heads: &heads, membership: &[GENESIS], secret: &self.secret };
        let written = writer.write(log, &Everyone, &setting, draft, &mut self.rng).unwrap();
        if let Verdict::Applies(Body::Index(change, _)) = &written.checked.verdict {
            self.changes.insert((index, written.entry.header().number), change.encode().unwrap().bytes);
        }
        log.apply(written.entry, &written.checked);
    }

    /// Some of `live`, or of what was live once, so that preds are partial and overlap.
    fn some<T>(&mut self, live: &BTreeMap<OpId, T>) -> Vec<OpId> {
        live.keys().copied().filter(|_| self.below(4) > 0).collect()
    }

    fn act(&mut self, index: usize) {
        let mut ops = Vec::new();
        for _ in 0..=self.below(3) {
            let item = FileId([10 + self.below(4) as u8; 16]);
            let now = self.logs[index].items().get(&item).cloned().unwrap_or_default();
            let (places, contents, metas) = (self.some(&now.place), self.some(&now.content), self.some(&now.meta));
            let target = vec![b'a' + self.below(26) as u8];
            let (write, pred) = match self.below(6) {
                0 => {
                    let name = Name::parse(&target).unwrap();
                    (Write::Place(Place { parent: FileId::ROOT, name, previous: None, loser_of: None }), places)
                }
                1 if !contents.is_empty() => (Write::Content(None), contents),
                2 if !metas.is_empty() => (Write::Meta(None), metas),
                3 if !now.content.is_empty() => {
                    let mtime = FileTime { secs: i64::from(target[0]), nanos: 0 };
                    let about = *now.content.keys().next().unwrap();
                    (Write::Meta(Some(Meta { mtime, executable: true, executable_differs: false, about })), metas)
                }
                _ => (Write::Content(Some(Content::Symlink { target })), contents),
            };
            ops.push(DraftOp { item, write, pred });
        }
        self.write(index, Draft::Index(ops));
    }

    /// Brings a prefix of what `from` has to `to`.
    fn deliver(&mut self, from: usize, to: usize, share: u32) {
        let theirs = self.logs[to].frontier().unwrap();
        let entries: Vec<_> = self.logs[from].lacked_by(&theirs).into_iter().cloned().collect();
        let count = entries.len() as u32 * share / 4;
        for entry in entries.into_iter().take(count as usize) {
            let outcome = self.logs[to].receive(entry, &Everyone, |_| Some(&self.secret)).unwrap();
            let Outcome::Checked(checked) = outcome else { panic!("{outcome:?}") };
            assert!(!checked.meta.is_void, "{:?}", checked.verdict);
        }
    }

    /// A document that loads the changes of what the device has applied.
    fn document(&self, index: usize) -> Automerge {
        let mut document = Automerge::new();
        let mut changes = Vec::new();
        for entry in self.logs[index].lacked_by(&Frontier::default()) {
            let author = self.keys.iter().position(|keys| keys.id() == entry.header().log.author).unwrap();
            if let Some(bytes) = self.changes.get(&(author, entry.header().number)) {
                changes.push(automerge::Change::from_bytes(bytes.clone()).unwrap());
            }
        }
        document.apply_changes(changes).unwrap();
        document
    }
}

/// The live operations of a register and their values, as our registers hold them.
fn ours(item: &Item, register: Register) -> BTreeSet<(u64, Vec<u8>, Vec<u8>)> {
    fn all<T: serde::Serialize>(live: &BTreeMap<OpId, T>) -> BTreeSet<(u64, Vec<u8>, Vec<u8>)> {
        live.iter().map(|(id, value)| (u64::from(id.counter), id.actor.0.to_vec(), codec::encode(value))).collect()
    }
    match register {
        Register::Place => all(&item.place),
        Register::Content => all(&item.content),
        Register::Meta => all(&item.meta),
    }
}

/// The same as the document holds it.
fn theirs(document: &Automerge, key: Key) -> BTreeSet<(u64, Vec<u8>, Vec<u8>)> {
    let values = document.get_all(ROOT, key.to_string()).unwrap();
    values
        .into_iter()
        .map(|(value, id)| {
            let automerge::ObjId::Id(counter, actor, _) = id else { panic!("no operation") };
            (counter, actor.to_bytes().to_vec(), value.as_bytes().unwrap().to_vec())
        })
        .collect()
}

/// Plays a random history and compares every register of every device; how many held more than one value.
fn conflict_count(seed: u64) -> usize {
    let mut world = World::new(seed);
    for _ in 0..60 {
        let index = world.below(DEVICES as u32) as usize;
        if world.below(2) == 0 {
            world.act(index);
        } else {
            let to = (index + 1 + world.below(DEVICES as u32 - 1) as usize) % DEVICES;
            let share = 1 + world.below(4);
            world.deliver(index, to, share);
        }
    }
    let mut count = 0;
    for index in 0..DEVICES {
        let document = world.document(index);
        // What was saved and loaded again holds the same.
        let loaded = Automerge::load(&document.save()).unwrap();
        let (mut live_keys, registers) = (0, [Register::Place, Register::Content, Register::Meta]);
        for (&item, held) in world.logs[index].items() {
            for register in registers {
                let ours = ours(held, register);
                count += usize::from(ours.len() > 1);
                live_keys += usize::from(!ours.is_empty());
                assert_eq!(ours, theirs(&document, Key { item, register }));
                assert_eq!(ours, theirs(&loaded, Key { item, register }));
            }
        }
        assert_eq!(document.keys(ROOT).count(), live_keys, "a register that only the document has");
    }
    count
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn registers_hold_what_an_automerge_document_holds(seed in any::<u64>()) {
        conflict_count(seed);
    }
}

#[test]
fn the_random_histories_are_full_of_conflicts() {
    let total: usize = (0..4).map(conflict_count).sum();
    assert!(total > 40, "{total}");
}
