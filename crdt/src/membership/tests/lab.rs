//! A space with its first devices, for the tests of this crate.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::id::{DeviceId, PersonId, RecordHash, SpaceId};
use crate::keys::{DeviceKeys, EpochSecret, Secret};
use crate::membership::{Genesis, Given, Identity, Introduction, LEVEL_MIN, Operation, Record, Records, Role, Row};

/// The device with this number; the same in every lab.
pub(crate) fn device(number: u8) -> DeviceKeys {
    DeviceKeys::from_seed(Secret::new([number; 32]))
}

/// A person with this number.
pub(crate) fn person(number: u8) -> PersonId {
    PersonId([number; 16])
}

/// A space that device 1 made, with device 0 as its recovery key.
pub(crate) struct Lab {
    pub(crate) rng: ChaCha20Rng,
    pub(crate) creator: DeviceKeys,
    pub(crate) recovery: DeviceKeys,
    pub(crate) secret: Secret,
    pub(crate) records: Records,
}

impl Lab {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let (creator, recovery, secret) = (device(1), device(0), Secret::draw(&mut rng));
        let records = Records::begin(Genesis::make(&creator, Identity::of(&recovery), &secret, &mut rng));
        Self { rng, creator, recovery, secret, records }
    }

    pub(crate) fn space(&self) -> SpaceId {
        self.records.space()
    }

    /// The person whose the first devices are.
    pub(crate) fn creator_person(&self) -> PersonId {
        self.records.genesis().body().person
    }

    pub(crate) fn epoch_secret(&self) -> EpochSecret {
        EpochSecret::new(self.space(), self.space().first_epoch(), self.secret.clone())
    }

    pub(crate) fn row(&self, inviter: DeviceId, joiner: &DeviceKeys, person: PersonId, rank: u32, role: Role) -> Row {
        let introduction = Introduction::make(joiner, inviter, self.space());
        Row { introduction, given: Given { person, rank, role } }
    }

    /// An `add` on `previous`, right or not, that is not inserted.
    pub(crate) fn add_on(&self, previous: &[RecordHash], author: &DeviceKeys, row: Row) -> Record {
        let (key, previous) = (author.signing_key(), previous.to_vec());
        Record::make(&key, self.space(), LEVEL_MIN, previous, Operation::Add(row), None).unwrap()
    }

    /// An `add` on the heads that counts.
    pub(crate) fn add(
        &mut self,
        author: &DeviceKeys,
        joiner: &DeviceKeys,
        person: PersonId,
        rank: u32,
        role: Role,
    ) -> Record {
        let row = self.row(author.id(), joiner, person, rank, role);
        self.records.add(&author.signing_key(), row).unwrap()
    }
}
