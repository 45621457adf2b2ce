//! THREATS.md §6 row 11 for the objects of membership and pairing: every object before every reader, in every space.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail as the test does")]

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zerocloud_crdt::address::AddressRecord;
use zerocloud_crdt::grant;
use zerocloud_crdt::id::SpaceId;
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::membership::{Genesis, Given, Identity, LEVEL, Operation, Record, Records, Role, Row};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::pairing::{
    Invitation, Joining, Request, Welcome, check_t1, check_t2, make_nonce, make_t1, make_t2, nonce_hash,
};
use zerocloud_crdt::sign::{Signature, Signed, sign};
use zerocloud_crdt::ticket::{Ticket, TicketSecret};

const KINDS: [&str; 7] = ["genesis", "record", "grant", "address", "t1", "t2", "nonce"];

/// A device's nonce for one space.
const fn nonce(number: u8) -> [u8; 32] {
    [number; 32]
}

/// One space with one pairing: the same devices in each, so that only the space tells objects apart.
struct Space {
    creator: DeviceKeys,
    joiner: DeviceKeys,
    records: Records,
    before: Records,
    ticket: Ticket,
    joining: Joining,
    objects: Vec<Vec<u8>>,
}

impl Space {
    fn new(number: u8) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(u64::from(number));
        let device = |number| DeviceKeys::from_seed(Secret::new([number; 32]));
        let (creator, recovery, joiner) = (device(1), device(0), device(2));
        // The worst case: one secret in both spaces.
        let secret = Secret::new([7; 32]);
        let before = Records::begin(Genesis::make(&creator, Identity::of(&recovery), &secret, &mut rng));
        let mut records = before.clone();
        let ticket = Ticket {
            inviter: creator.id(),
            space: records.space(),
            secret: TicketSecret::new([8; 16]),
            hints: vec![],
            name: Name::parse(b"x").unwrap(),
            role: Role::Viewer,
            expiry_secs: 0,
            own_device: Some(nonce_hash(&nonce(number))),
        };
        let joining = make_t1(&ticket, &joiner, &mut rng);
        let request = Self::request(&ticket, joining.message()).unwrap();
        let given = Given { person: records.genesis().body().person, rank: 2, role: Role::Viewer };
        let row = Row { introduction: request.introduction.clone(), given };
        let add = records.add(&creator.signing_key(), row).unwrap();
        let epoch_secret = EpochSecret::new(records.space(), records.epoch().unwrap(), secret);
        let granted = grant::seal(&creator.signing_key(), &epoch_secret, &Identity::of(&joiner), &mut rng).unwrap();
        let welcome = Welcome {
            records: records.lacked_by(&[]).map(<[u8]>::to_vec).collect(),
            grants: vec![granted.clone()],
            ..Welcome::default()
        };
        let objects = vec![
            records.genesis().bytes().to_vec(),
            add.bytes().to_vec(),
            granted,
            AddressRecord::make(&creator, 1, vec![]),
            joining.message().to_vec(),
            make_t2(&creator, &ticket.secret, &request, welcome).unwrap(),
            make_nonce(&nonce(number)),
        ];
        Self { creator, joiner, records, before, ticket, joining, objects }
    }

    fn request(ticket: &Ticket, bytes: &[u8]) -> Option<Request> {
        let invitation = Invitation { space: ticket.space, secret: ticket.secret.clone(), role: ticket.role };
        check_t1(bytes, ticket.inviter, None, |_| Some(invitation)).ok()
    }

    fn accepts(&self, kind: &str, bytes: &[u8]) -> bool {
        match kind {
            "genesis" => Records::new(self.records.space(), bytes).is_ok(),
            "record" => self.before.clone().insert(bytes).is_ok() && bytes != self.before.genesis().bytes(),
            "grant" => grant::open(bytes, &self.joiner, &self.records).is_ok(),
            "address" => AddressRecord::decode(bytes).is_ok(),
            "t1" => Self::request(&self.ticket, bytes).is_some(),
            "t2" => check_t2(&self.joining, &self.joiner, bytes).is_ok(),
            "nonce" => self.joining.check_nonce(bytes).is_ok(),
            kind => panic!("no reader of {kind}"),
        }
    }
}

#[test]
fn threat_11_an_object_of_one_type_or_space_is_none_of_another() {
    let spaces = [Space::new(1), Space::new(2)];
    for (from, source) in spaces.iter().enumerate() {
        for (made, object) in KINDS.iter().zip(&source.objects) {
            for (to, reader) in spaces.iter().enumerate() {
                for kind in KINDS {
                    // Where a device can be reached is about no space.
                    let is_same_space = from == to || kind == "address";
                    let expected = *made == kind && is_same_space;
                    assert_eq!(reader.accepts(kind, object), expected, "{made} of {from} as {kind} of {to}");
                }
            }
        }
    }
}

/// The body of an object in an envelope, and where it begins.
fn body_of(object: &[u8]) -> (usize, usize) {
    // Two bytes of length: each of these bodies is longer than 127 and shorter than 16,384 bytes.
    let len = usize::from(object[1] & 0x7f) | usize::from(object[2]) << 7;
    (3, len)
}

#[test]
fn threat_11_a_body_signed_as_any_other_type_or_space_is_refused() {
    let space = Space::new(1);
    let other = Space::new(2).records.space();
    let random = SpaceId(space.records.genesis().body().random);
    let row = Row {
        introduction: zerocloud_crdt::membership::Introduction::make(
            &space.joiner,
            space.creator.id(),
            space.records.space(),
        ),
        given: Given { person: space.records.genesis().body().person, rank: 2, role: Role::Viewer },
    };
    let heads = vec![space.records.space().genesis_record()];
    let key = space.creator.signing_key();
    let record = Record::make(&key, space.records.space(), LEVEL, heads, Operation::Add(row), None).unwrap();
    for (kind, object, right, place) in [
        ("genesis", space.objects[0].clone(), Signed::Genesis, random),
        ("record", record.bytes().to_vec(), Signed::Record, space.records.space()),
        ("grant", space.objects[2].clone(), Signed::Grant, space.records.space()),
    ] {
        let (begin, len) = body_of(&object);
        let body = &object[begin..begin + len];
        for signed in Signed::ALL {
            for claimed in [random, space.records.space(), other, SpaceId::NONE] {
                let Signature::Ed25519(signature) = sign(&key, signed, claimed, body);
                let mut bytes = object.clone();
                let at = bytes.len() - 64;
                bytes[at..].copy_from_slice(&signature);
                let is_right = signed == right && claimed == place;
                // Signatures are deterministic: the right one is the object itself.
                assert_eq!(bytes == object, is_right, "{kind} as {signed:?}");
                let accepted = match kind {
                    "genesis" => Genesis::decode(Genesis::id_of(&bytes), &bytes).is_ok(),
                    _ => space.accepts(kind, &bytes),
                };
                assert_eq!(accepted, is_right, "{kind} as {signed:?}");
            }
        }
    }
}
