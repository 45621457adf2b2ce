//! A space and those who belong to it, before any device of it runs.
#![allow(clippy::unwrap_used, reason = "a simulation ends where the world that it made is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zerocloud::engine::replica::Identity;
use zerocloud_crdt::id::{Incarnation, LogId, PersonId, RecordHash, SpaceId};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::log::Start;
use zerocloud_crdt::membership::{Genesis, Given, Identity as PublicIdentity, Introduction, Records, Role, Row};
use zerocloud_crdt::name::Name;

/// How often each device may join anew.
const LATER_COUNT: u8 = 1;

/// A space and its devices, before any of them runs.
pub struct Founding {
    pub(crate) space: SpaceId,
    pub(crate) secret: EpochSecret,
    /// Of each device, and then of each that joins anew.
    pub(crate) keys: Vec<DeviceKeys>,
    pub(crate) records: Records,
    /// Of each device, and then of each that joins anew.
    signed: Vec<Signed>,
    /// How many devices there are from the start, and which have joined since.
    count: usize,
    joined: Mutex<BTreeSet<usize>>,
}

/// A record as it is stored.
type Signed = (RecordHash, Vec<u8>);

impl Founding {
    /// A space whose first device let `count - 1` others in, and as many as may come later.
    pub fn new(count: u8, seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let key_count = count.saturating_mul(1 + LATER_COUNT);
        let keys: Vec<DeviceKeys> = (0..key_count).map(|n| DeviceKeys::from_seed(Secret::new([n + 1; 32]))).collect();
        let recovery = PublicIdentity::of(&DeviceKeys::from_seed(Secret::new([0xee; 32])));
        let secret = Secret::draw(&mut rng);
        let genesis = Genesis::make(&keys[0], recovery, &secret, &mut rng);
        let space = genesis.space();
        let mut signed = vec![(RecordHash(space.0), genesis.bytes().to_vec())];
        let mut records = Records::begin(genesis);
        let row_of = |n: u8| {
            let given = Given { person: PersonId([n; 16]), rank: 2, role: Role::Editor };
            Row { introduction: Introduction::make(&keys[usize::from(n)], keys[0].id(), space), given }
        };
        let add = |records: &mut Records, n: u8| {
            let record = records.add(&keys[0].signing_key(), row_of(n)).unwrap();
            (record.hash(), record.bytes().to_vec())
        };
        signed.extend((1..count).map(|n| add(&mut records, n)));
        // Of those who may come later, in whichever order, what is stored of one follows no other.
        let first = records.clone();
        signed.extend((count..key_count).map(|n| add(&mut first.clone(), n)));
        (count..key_count).for_each(|n| drop(add(&mut records, n)));
        let secret = EpochSecret::new(space, space.first_epoch(), secret);
        Self { space, secret, keys, records, signed, count: usize::from(count), joined: Mutex::default() }
    }

    /// A device joins anew as this one.
    pub(super) fn let_in(&self, identity: u8) {
        self.joined.lock().unwrap_or_else(PoisonError::into_inner).insert(usize::from(identity));
    }

    /// The records of all who belong by now: of those who joined anew from then on.
    pub(crate) fn known_records(&self) -> Vec<&Signed> {
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.signed.iter().enumerate().filter(|(n, _)| *n < self.count || joined.contains(n));
        known.map(|(_, record)| record).collect()
    }

    /// The keys that come after these for the same device; `None` where there are no more.
    pub(super) fn next_identity(&self, identity: u8) -> Option<u8> {
        let count = u8::try_from(self.count).ok()?;
        identity.checked_add(count).filter(|next| usize::from(*next) < self.keys.len())
    }

    /// A device as it writes before its home is copied or put back.
    pub(crate) fn identity(&self, n: u8) -> Identity {
        let keys = self.keys[usize::from(n)].clone();
        let log = LogId { author: keys.id(), incarnation: Incarnation([n; 8]) };
        let start = Start { label: Name::parse(format!("device{n}").as_bytes()).unwrap(), earlier: Vec::new() };
        Identity { keys, log, start, secrets: BTreeMap::from([(self.secret.epoch, self.secret.clone())]) }
    }
}
