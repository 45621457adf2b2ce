//! Membership, grants, tickets, pairing, addresses and words.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zerocloud_crdt::address::{AddressHint, AddressRecord, DirectAddress, RelayUrl};
use zerocloud_crdt::id::{DeviceId, EntryHash, EpochId, Incarnation, LogId, PersonId};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::membership::{
    EntryHead, Genesis, Given, Identity, LEVEL, Older, Opened, Operation, Record, Records, Role, Row, Target,
};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::pairing::{Invitation, Welcome, check_t1, check_t2, make_nonce, make_t1, make_t2, nonce_hash};
use zerocloud_crdt::ticket::{Ticket, TicketSecret};
use zerocloud_crdt::{grant, words};

use super::{compare, stored};

const FILE: &str = "members.json";
const NONCE: [u8; 32] = [0x0a; 32];

fn device(number: u8) -> DeviceKeys {
    DeviceKeys::from_seed(Secret::new([number; 32]))
}

fn golden() -> BTreeMap<String, String> {
    stored(FILE).into_iter().map(|(name, text)| (name, text.as_str().unwrap().to_owned())).collect()
}

/// The records that this version lays out and does not evaluate.
fn later_operations(records: &Records, author: &DeviceKeys) -> Vec<(&'static str, Record)> {
    let log = LogId { author: device(2).id(), incarnation: Incarnation([3; 8]) };
    let frontier = vec![EntryHead { log, number: 300, hash: EntryHash([4; 32]) }];
    let older = vec![Older { epoch: EpochId([5; 32]), nonce: [6; 24], ciphertext: [7; 32], tag: [8; 16] }];
    let opens = || Some(Opened { commitment: [9; 32], older: older.clone() });
    let device = device(2).id();
    let operations = [
        ("remove", Operation::Remove { target: Target::Device(device), frontier: frontier.clone() }, opens()),
        ("remove person", Operation::Remove { target: Target::Person(PersonId([2; 16])), frontier: vec![] }, opens()),
        (
            "set",
            Operation::Set { device, role: Some(Role::Viewer), introduction: None, frontier: frontier.clone() },
            opens(),
        ),
        ("rekey", Operation::Rekey, opens()),
        ("retire", Operation::Retire { log, frontier }, None),
    ];
    let make = |operation, opens| {
        Record::make(&author.signing_key(), records.space(), LEVEL, records.heads(), operation, opens).unwrap()
    };
    operations.into_iter().map(|(name, operation, opens)| (name, make(operation, opens))).collect()
}

/// One pairing from fixed seeds, with everything that is written on the way.
fn written() -> BTreeMap<String, String> {
    let mut written = BTreeMap::new();
    let mut put = |name: &str, text: String| assert_eq!(written.insert(name.to_owned(), text), None);
    let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
    let mut rng = ChaCha20Rng::seed_from_u64(0);
    let (creator, recovery, joiner) = (device(1), device(0), device(2));
    put("device 1", creator.id().to_string());
    put("device 1 key", hex(&grant::public_key(&creator)));
    put("device 0 words", words::of_seed(recovery.seed()).to_string());

    let secret = Secret::draw(&mut rng);
    let genesis = Genesis::make(&creator, Identity::of(&recovery), &secret, &mut rng);
    put("genesis", hex(genesis.bytes()));
    put("space", genesis.space().to_string());
    put("first secret", hex(secret.expose()));
    let mut records = Records::begin(genesis);

    let hints = vec![
        AddressHint::Direct(DirectAddress::new([192, 0, 2, 1].into(), 4433).unwrap()),
        AddressHint::Direct(DirectAddress::new("2001:db8::1".parse().unwrap(), 443).unwrap()),
        AddressHint::Relay(RelayUrl::parse("https://relay.example/").unwrap()),
    ];
    put("address record", hex(&AddressRecord::make(&creator, 300, hints.clone())));
    let ticket = Ticket {
        inviter: creator.id(),
        space: records.space(),
        secret: TicketSecret::draw(&mut rng),
        hints,
        name: Name::parse("Größe".as_bytes()).unwrap(),
        role: Role::Editor,
        expiry_secs: 1_900_000_000,
        own_device: Some(nonce_hash(&NONCE)),
    };
    put("ticket", ticket.to_text().unwrap().to_string());
    put("ticket id", ticket.secret.id().to_string());

    let joining = make_t1(&ticket, &joiner, &mut rng);
    put("t1", hex(joining.message()));
    put("nonce", hex(&make_nonce(&NONCE)));
    put("six words", joining.check_nonce(&make_nonce(&NONCE)).unwrap().join(" "));
    let invitation = Invitation { space: ticket.space, secret: ticket.secret.clone(), role: ticket.role };
    let request = check_t1(joining.message(), creator.id(), Some(joiner.id()), |_| Some(invitation)).unwrap();
    let given = Given { person: records.genesis().body().person, rank: 2, role: ticket.role };
    let row = Row { introduction: request.introduction.clone(), given };
    put("row", hex(&zerocloud_crdt::codec::encode(&row)));
    let add = records.add(&creator.signing_key(), row).unwrap();
    put("add", hex(add.bytes()));
    put("add hash", add.hash().to_string());
    for (name, record) in later_operations(&records, &creator) {
        put(name, hex(record.bytes()));
    }

    let epoch_secret = EpochSecret::new(records.space(), records.epoch().unwrap(), secret);
    let granted = grant::seal(&creator.signing_key(), &epoch_secret, &Identity::of(&joiner), &mut rng).unwrap();
    put("grant", hex(&granted));
    let welcome = Welcome {
        records: records.lacked_by(&[]).map(<[u8]>::to_vec).collect(),
        grants: vec![granted],
        frontier: vec![0xf0; 5],
        snapshot: Some([0x0b; 32]),
    };
    let answer = make_t2(&creator, &ticket.secret, &request, welcome).unwrap();
    check_t2(&joining, &joiner, &answer).unwrap();
    put("t2", hex(&answer));
    written
}

#[test]
fn the_same_seeds_give_the_same_bytes() {
    let written = written();
    for (name, text) in &written {
        compare(FILE, name, &text.as_str().into());
    }
    assert!(golden().keys().eq(written.keys()), "a vector that nothing writes any more");
}

#[test]
fn what_was_written_is_read() {
    let golden = golden();
    let bytes = |name: &str| HEXLOWER.decode(golden[name].as_bytes()).unwrap();
    let space = zerocloud_crdt::id::SpaceId::from_hex(&golden["space"]).unwrap();
    let mut records = Records::new(space, &bytes("genesis")).unwrap();
    records.insert(&bytes("add")).unwrap();
    let table = records.table().unwrap();
    assert_eq!(table.role(device(2).id()), Some(Role::Editor));
    assert_eq!(table.role(DeviceId::from_hex(&golden["device 1"]).unwrap()), Some(Role::Owner));
    let opened = grant::open(&bytes("grant"), &device(2), &records).unwrap();
    assert_eq!(opened.secret().expose().as_slice(), bytes("first secret"));
    assert_eq!(AddressRecord::decode(&bytes("address record")).unwrap().hints.len(), 3);
    let ticket = Ticket::parse(&golden["ticket"]).unwrap();
    assert_eq!((ticket.space, ticket.secret.id().to_string()), (space, golden["ticket id"].clone()));
    let invitation = Invitation { space, secret: ticket.secret, role: ticket.role };
    let request = check_t1(&bytes("t1"), ticket.inviter, None, |_| Some(invitation)).unwrap();
    assert_eq!(request.compared_words(&NONCE).join(" "), golden["six words"]);
    assert_eq!(words::to_seed(&golden["device 0 words"]), Ok(device(0).seed().clone()));
    for name in ["remove", "remove person", "set", "rekey", "retire"] {
        assert!(Record::decode(space, &bytes(name)).unwrap().operation().is_ok(), "{name}");
    }
}
