//! A space with some devices, for tests.

use std::collections::BTreeMap;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerocloud_crdt::id::{ActorId, FileId, Incarnation, LogId, OpId, PersonId, SpaceId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::log::Start;
use zerocloud_crdt::membership::{Genesis, Given, Identity as PublicIdentity, Introduction, Records, Role, Row};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, Op, Place, Write};
use zerocloud_crdt::scan::ScanOutcome;
use zerocloud_crdt::view::file_id;

use super::replica::{Identity, Replica};
use super::shelf::MemoryShelf;

/// A space, and the records of it that each device begins with.
pub(crate) struct Founding {
    pub(crate) space: SpaceId,
    pub(crate) secret: EpochSecret,
    pub(crate) genesis: Genesis,
    pub(crate) keys: Vec<DeviceKeys>,
    pub(crate) records: Records,
    pub(crate) rng: ChaCha20Rng,
}

/// A space with `count` devices: the first made it and added the others.
pub(crate) fn founding(count: u8, seed: u64) -> Founding {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let keys: Vec<DeviceKeys> = (0..count).map(|n| DeviceKeys::from_seed(Secret::new([n + 1; 32]))).collect();
    let recovery = PublicIdentity::of(&DeviceKeys::from_seed(Secret::new([0xee; 32])));
    let secret = Secret::draw(&mut rng);
    let genesis = Genesis::make(&keys[0], recovery, &secret, &mut rng);
    let space = genesis.space();
    let mut records = Records::begin(genesis.clone());
    for (n, keys_of) in keys.iter().enumerate().skip(1) {
        let given = Given { person: PersonId([n as u8; 16]), rank: 2, role: Role::Editor };
        let introduction = Introduction::make(keys_of, keys[0].id(), space);
        records.add(&keys[0].signing_key(), Row { introduction, given }).unwrap();
    }
    Founding { space, secret: EpochSecret::new(space, space.first_epoch(), secret), genesis, keys, records, rng }
}

impl Founding {
    /// What the `n`-th device is made of.
    pub(crate) fn identity(&self, n: usize) -> Identity {
        let keys = self.keys[n].clone();
        let log = LogId { author: keys.id(), incarnation: Incarnation([n as u8; 8]) };
        let start = Start { label: Name::parse(format!("device{n}").as_bytes()).unwrap(), earlier: Vec::new() };
        let secrets = BTreeMap::from([(self.secret.epoch, self.secret.clone())]);
        Identity { keys, log, start, secrets }
    }

    /// The `n`-th device's replica in memory, beginning with these records.
    pub(crate) fn device(&mut self, n: usize, records: Records) -> Replica<MemoryShelf> {
        let identity = self.identity(n);
        Replica::open(MemoryShelf::new(self.space), records, identity, &mut self.rng).unwrap()
    }
}

/// A scan that found a new directory in the root.
pub(crate) fn creation<I: IndexRead>(index: &I, log: LogId, text: &str) -> ScanOutcome
where
    I::Error: std::fmt::Debug,
{
    let counter = index.max_counter().unwrap();
    let actor = ActorId::of_log(index.space(), log);
    let item = file_id(index.space(), FileId::ROOT, true, 0, text.as_bytes());
    let name = Name::parse(text.as_bytes()).unwrap();
    let place = Place { parent: FileId::ROOT, name, previous: None, loser_of: None };
    let op = |n, write| Op { id: OpId { counter: counter + n, actor }, item, write, pred: Vec::new() };
    let ops = vec![op(1, Write::Place(place)), op(2, Write::Content(Some(Content::Directory)))];
    ScanOutcome { ops, ..ScanOutcome::default() }
}
