//! What the tests of the log share: a space with a few devices, and a membership of choice.

mod branches;
mod checks;
mod formats;
mod histories;

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use super::check::{Checked, Membership, Outcome, Verdict, VoidReason};
use super::entry::{Entry, Header};
use super::heads::current_heads;
use super::writer::{WriteError, forge};
use super::*;
use crate::change::Change;
use crate::id::{DeviceId, EpochId, FileId, Incarnation, OpId, RecordHash, SpaceId};
use crate::keys::{DeviceKeys, EpochSecret, Secret};
use crate::name::Name;
use crate::register::{Content, Place, Write};

const SPACE: SpaceId = SpaceId([1; 32]);
const GENESIS: RecordHash = RecordHash([1; 32]);

/// A membership that is told.
#[derive(Clone, Default)]
struct Told {
    /// Of each record: what it follows.
    pasts: BTreeMap<RecordHash, BTreeSet<RecordHash>>,
    /// Who may not write in the table of a record and of those after it.
    barred: BTreeSet<(RecordHash, DeviceId)>,
}

impl Told {
    fn new() -> Self {
        Self { pasts: BTreeMap::from([(GENESIS, BTreeSet::from([GENESIS]))]), barred: BTreeSet::new() }
    }

    fn add(&mut self, byte: u8, previous: &[RecordHash]) -> RecordHash {
        let record = RecordHash([byte; 32]);
        let mut past: BTreeSet<_> = previous.iter().flat_map(|hash| self.pasts[hash].clone()).collect();
        past.insert(record);
        self.pasts.insert(record, past);
        record
    }

    fn past(&self, heads: &[RecordHash]) -> BTreeSet<RecordHash> {
        heads.iter().flat_map(|head| self.pasts[head].clone()).collect()
    }
}

impl Membership for Told {
    fn knows(&self, heads: &[RecordHash]) -> bool {
        heads.iter().all(|head| self.pasts.contains_key(head))
    }

    fn may_write(&self, heads: &[RecordHash], author: DeviceId) -> bool {
        self.past(heads).iter().all(|record| !self.barred.contains(&(*record, author)))
    }

    fn follows(&self, later: &[RecordHash], earlier: &[RecordHash]) -> bool {
        self.past(later).is_superset(&earlier.iter().copied().collect())
    }
}

/// One device: its keys and the log as it has it.
struct Device {
    key: ed25519_dalek::SigningKey,
    log: MemoryLog,
}

impl Device {
    fn new(byte: u8) -> Self {
        Self { key: DeviceKeys::from_seed(Secret::new([byte; 32])).signing_key(), log: MemoryLog::default() }
    }

    fn writer(&self) -> LogWriter<'_> {
        LogWriter::new(&self.key, SPACE, Incarnation([3; 8]))
    }

    fn id(&self) -> LogId {
        self.writer().log()
    }
}

/// A space: devices, who belongs to it, its one epoch, and a generator.
struct Lab {
    told: Told,
    secret: EpochSecret,
    devices: Vec<Device>,
    rng: ChaCha20Rng,
}

impl Lab {
    fn new(count: u8) -> Self {
        let secret = EpochSecret::new(SPACE, EpochId([1; 32]), Secret::new([9; 32]));
        let devices = (0..count).map(Device::new).collect();
        let mut lab = Self { told: Told::new(), secret, devices, rng: ChaCha20Rng::seed_from_u64(1) };
        for index in 0..lab.devices.len() {
            lab.write(index, start(index));
        }
        lab
    }

    fn try_write(&mut self, index: usize, draft: Draft) -> Result<Entry, WriteError<std::convert::Infallible>> {
        let device = &mut self.devices[index];
        let heads = current_heads(&device.log, device.id()).unwrap();
        let setting = Setting { heads: &heads, membership: &[GENESIS], secret: &self.secret };
        let written = device.writer().write(&device.log, &self.told, &setting, draft, &mut self.rng)?;
        device.log.apply(written.entry.clone(), &written.checked);
        Ok(written.entry)
    }

    /// Writes an honest entry and applies it at its author.
    fn write(&mut self, index: usize, draft: Draft) -> Entry {
        self.try_write(index, draft).unwrap()
    }

    /// What the next entry of a device would be, not applied: to be spoiled.
    fn next(&mut self, index: usize, draft: Draft) -> (Header, Change) {
        let device = &self.devices[index];
        let heads = current_heads(&device.log, device.id()).unwrap();
        let setting = Setting { heads: &heads, membership: &[GENESIS], secret: &self.secret };
        let written = device.writer().write(&device.log, &self.told, &setting, draft, &mut self.rng).unwrap();
        let Verdict::Applies(Body::Index(change, _)) = written.checked.verdict else { panic!("no change") };
        (written.entry.header().clone(), change)
    }

    /// Signs and seals whatever the author of the log at `index` is said to say.
    fn forge(&mut self, index: usize, header: Header, body: &[u8]) -> Entry {
        forge(&self.devices[index].key, header, body, &self.secret, &mut self.rng)
    }

    fn check(&self, index: usize, entry: &Entry) -> Outcome {
        check::check(entry, &self.devices[index].log, &self.told, |_| Some(&self.secret)).unwrap()
    }

    fn receive(&mut self, index: usize, entry: Entry) -> Outcome {
        let secret = &self.secret;
        self.devices[index].log.receive(entry, &self.told, |_| Some(secret)).unwrap()
    }

    /// Brings all that `from` has to `to`.
    fn sync(&mut self, from: usize, to: usize) {
        let theirs = self.devices[to].log.frontier().unwrap();
        let entries: Vec<Entry> = self.devices[from].log.lacked_by(&theirs).into_iter().cloned().collect();
        for entry in entries {
            let outcome = self.receive(to, entry);
            assert!(matches!(outcome, Outcome::Checked(_)), "{outcome:?}");
        }
    }
}

fn start(index: usize) -> Draft {
    Draft::Start(Start { label: Name::parse(format!("device {index}").as_bytes()).unwrap(), earlier: vec![] })
}

fn file(byte: u8) -> FileId {
    FileId([byte; 16])
}

fn put(byte: u8, target: &[u8], pred: &[OpId]) -> DraftOp {
    let write = Write::Content(Some(Content::Symlink { target: target.to_vec() }));
    DraftOp { item: file(byte), write, pred: pred.to_vec() }
}

fn place(byte: u8, name: &str, pred: &[OpId]) -> DraftOp {
    let place =
        Place { parent: FileId::ROOT, name: Name::parse(name.as_bytes()).unwrap(), previous: None, loser_of: None };
    DraftOp { item: file(byte), write: Write::Place(place), pred: pred.to_vec() }
}

/// The id of the `index`-th operation of an entry that applies.
fn op(lab: &Lab, device: usize, entry: &Entry, index: u32) -> OpId {
    let meta = lab.devices[device].log.entry(entry.point()).unwrap().unwrap();
    let actor = crate::id::ActorId::of_log(SPACE, entry.header().log);
    OpId { counter: meta.change.unwrap().start_op + index, actor }
}

fn reason(outcome: Outcome) -> VoidReason {
    match outcome {
        Outcome::Checked(checked) => match *checked {
            Checked { verdict: Verdict::Void(reason), .. } => reason,
            other => panic!("counts: {other:?}"),
        },
        other => panic!("not checked: {other:?}"),
    }
}
