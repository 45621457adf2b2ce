//! What counts, what is refused, and where a space stops.

pub(crate) mod lab;
mod order;

use lab::{Lab, device, person};
use proptest::prelude::*;

use super::*;
use crate::codec::encode;
use crate::envelope::Envelope;
use crate::id::{DeviceId, EntryHash, Incarnation, LogId, RecordHash, SpaceId};
use crate::keys::{DeviceKeys, Secret};
use crate::limits::{KEM_KEY_LEN_MAX, WAITING_RECORD_COUNT_MAX};
use crate::sign::{Signed, sign};

fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    })
}

/// Signs what no honest program would write.
fn raw(author: &DeviceKeys, head: &Head, rest: &[u8]) -> Vec<u8> {
    let mut body = encode(head);
    body.extend_from_slice(rest);
    Envelope::seal(&author.signing_key(), Signed::Record, head.space, body)
}

fn head(lab: &Lab, author: &DeviceKeys, level: u16, previous: Vec<RecordHash>) -> Head {
    Head { level, space: lab.space(), previous, author: author.id() }
}

fn opened() -> Option<Opened> {
    Some(Opened { commitment: [1; 32], older: vec![] })
}

#[test]
fn a_space_begins_with_two_owners_of_one_person() {
    let lab = Lab::new(1);
    let table = lab.records.table().unwrap();
    assert_eq!(table.rows().count(), 2);
    for (keys, rank) in [(&lab.recovery, 0), (&lab.creator, 1)] {
        let row = table.row(keys.id()).unwrap();
        assert_eq!(row.given, Given { person: lab.creator_person(), rank, role: Role::Owner });
        assert_eq!(row.identity, Identity::of(keys));
    }
    assert_eq!(lab.records.heads(), [lab.space().genesis_record()]);
    assert_eq!(lab.records.epoch(), Ok(lab.space().first_epoch()));
    assert_eq!(lab.records.is_secret_of(lab.space().first_epoch(), &lab.secret), Some(true));
    assert_eq!(lab.records.is_secret_of(lab.space().first_epoch(), &Secret::new([9; 32])), Some(false));
}

#[test]
fn roles_are_ordered_and_each_includes_what_a_smaller_one_may() {
    assert!(Role::ALL.is_sorted());
    let rights = Role::ALL.map(|role| (role.can_read(), role.can_write(), role.can_add_members()));
    assert_eq!(
        rights,
        [(false, false, false), (true, false, false), (true, true, false), (true, true, true)],
        "keeper, viewer, editor, owner"
    );
}

#[test]
fn who_may_add_whom() {
    let mut lab = Lab::new(1);
    let (creator, editor, keeper) = (lab.creator.clone(), device(2), device(3));
    lab.add(&creator, &editor, person(2), 2, Role::Editor);
    lab.add(&creator, &keeper, person(3), 5, Role::Keeper);
    let own = lab.creator_person();
    let new = device(9);
    for (author, joiner, whose, rank, role, expected) in [
        (&creator, &new, person(9), 3, Role::Owner, Ok(())),
        (&creator, &new, person(9), 2, Role::Owner, Ok(())),
        (&creator, &new, person(9), 1, Role::Viewer, Err(AddRefusal::Rank)),
        (&creator, &new, person(9), 0, Role::Viewer, Err(AddRefusal::Rank)),
        (&creator, &new, person(2), 3, Role::Viewer, Err(AddRefusal::PersonTaken)),
        (&creator, &new, own, 3, Role::Owner, Ok(())),
        (&creator, &editor, person(2), 3, Role::Viewer, Ok(())),
        (&creator, &editor, own, 3, Role::Viewer, Err(AddRefusal::Standing)),
        (&creator, &creator, own, 3, Role::Viewer, Err(AddRefusal::Standing)),
        (&creator, &lab.recovery, own, 3, Role::Viewer, Err(AddRefusal::Standing)),
        (&editor, &new, person(2), 3, Role::Editor, Ok(())),
        (&editor, &new, person(2), 3, Role::Owner, Err(AddRefusal::Role)),
        (&editor, &new, person(2), 2, Role::Editor, Err(AddRefusal::Rank)),
        (&editor, &new, person(9), 3, Role::Keeper, Err(AddRefusal::NotOwner)),
        (&editor, &keeper, person(2), 6, Role::Keeper, Err(AddRefusal::Standing)),
        (&editor, &keeper, person(3), 6, Role::Keeper, Err(AddRefusal::NotOwner)),
        (&keeper, &new, person(3), 6, Role::Keeper, Ok(())),
        (&keeper, &new, person(3), 6, Role::Viewer, Err(AddRefusal::Role)),
        (&new, &device(10), person(9), 9, Role::Keeper, Err(AddRefusal::NotMember)),
    ] {
        let row = lab.row(author.id(), joiner, whose, rank, role);
        assert_eq!(lab.records.table().unwrap().may_add(author.id(), joiner.id(), row.given), expected);
        let record = lab.add_on(&lab.records.heads(), author, row.clone());
        let mut records = lab.records.clone();
        match (records.insert(record.bytes()), expected) {
            (Ok(Inserted::Kept(kept)), Ok(())) => assert_eq!(kept, [record.hash()]),
            (Err(InsertError::NoRight(refusal)), Err(expected)) => assert_eq!(refusal, expected),
            (inserted, expected) => panic!("{inserted:?} instead of {expected:?} for {row:?}"),
        }
    }
}

#[test]
fn a_row_that_was_added_twice_has_the_best_rank_and_the_lowest_role_of_its_latest_adds() {
    let mut lab = Lab::new(1);
    let (creator, joiner) = (lab.creator.clone(), device(5));
    lab.add(&creator, &joiner, person(5), 4, Role::Viewer);
    lab.add(&creator, &joiner, person(5), 3, Role::Owner);
    let row = |lab: &Lab| lab.records.table().unwrap().row(joiner.id()).unwrap().given;
    assert_eq!(row(&lab), Given { person: person(5), rank: 3, role: Role::Owner }, "the later one raised it");

    let heads = lab.records.heads();
    for (rank, role) in [(7, Role::Editor), (8, Role::Keeper)] {
        let record = lab.add_on(&heads, &creator, lab.row(creator.id(), &joiner, person(5), rank, role));
        lab.records.insert(record.bytes()).unwrap();
    }
    assert_eq!(row(&lab), Given { person: person(5), rank: 3, role: Role::Keeper }, "of concurrent ones the lowest");
}

#[test]
fn of_two_inviters_at_once_the_one_of_better_rank_says_whose_device_it_is() {
    let mut lab = Lab::new(1);
    let (creator, owner, joiner) = (lab.creator.clone(), device(2), device(5));
    lab.add(&creator, &owner, person(2), 2, Role::Owner);
    let heads = lab.records.heads();
    for inviters in [[&creator, &owner], [&owner, &creator]] {
        let mut records = lab.records.clone();
        for inviter in inviters {
            let whose = if inviter.id() == owner.id() { person(7) } else { person(8) };
            let row = lab.row(inviter.id(), &joiner, whose, 9, Role::Editor);
            records.insert(lab.add_on(&heads, inviter, row).bytes()).unwrap();
        }
        assert_eq!(records.table().unwrap().row(joiner.id()).unwrap().given.person, person(8));
    }
}

#[test]
fn threat_44_a_member_that_is_no_owner_can_not_fill_the_space_with_records() {
    let mut lab = Lab::new(1);
    let (creator, viewer) = (lab.creator.clone(), device(2));
    lab.add(&creator, &viewer, person(2), 2, Role::Viewer);
    // As long as an introduction can be.
    let keys: Vec<_> = (2..6).map(|suite| KemKey { suite, key: vec![suite; KEM_KEY_LEN_MAX] }).collect();
    let identity = |number: u32, keys: &[KemKey]| {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&number.to_be_bytes());
        let device = DeviceKeys::from_seed(Secret::new(seed));
        let identity = Identity { device: device.id(), keys: keys.to_vec() };
        let signed = encode(&(&identity, viewer.id()));
        let signature = sign(&device.signing_key(), Signed::Row, lab.space(), &signed);
        Introduction { identity, inviter: viewer.id(), signature }
    };
    let rows: Vec<_> = (0..1100).map(|number| identity(number, &keys)).collect();
    let given = Given { person: person(2), rank: 3, role: Role::Viewer };
    let mut refused = None;
    for introduction in rows {
        let added = lab.records.add(&viewer.signing_key(), Row { introduction, given });
        refused = refused.or(added.err());
    }
    assert_eq!(refused, Some(InsertError::Full));
    lab.add(&creator, &device(5), person(5), 9, Role::Owner);
    lab.add(&device(5), &device(6), person(6), 10, Role::Owner);
}

#[test]
fn nobody_adds_a_device_that_introduced_itself_to_another() {
    let mut lab = Lab::new(1);
    let (creator, thief, victim) = (lab.creator.clone(), device(2), device(3));
    let before = lab.add(&creator, &thief, person(2), 2, Role::Editor).hash();
    let record = lab.add(&creator, &victim, person(3), 3, Role::Owner);
    let Ok(Operation::Add(row)) = record.operation() else { panic!("not an add") };
    // On heads of before the victim was in, the thief's rank and role would do: the victim would become a viewer.
    let given = Given { person: person(2), rank: 4, role: Role::Keeper };
    let stolen = Row { introduction: row.introduction.clone(), given };
    let made = Record::make(&thief.signing_key(), lab.space(), LEVEL, vec![before], Operation::Add(stolen), None);
    assert_eq!(made, Err(RecordError::WrongInviter));
    let mut forged = row.introduction.clone();
    forged.inviter = thief.id();
    let stolen = Row { introduction: forged, given };
    let made = Record::make(&thief.signing_key(), lab.space(), LEVEL, vec![before], Operation::Add(stolen), None);
    assert_eq!(made, Err(RecordError::Row(RowError::BadSignature)));
}

#[test]
fn records_wait_for_those_that_they_follow_and_then_all_are_kept() {
    let mut lab = Lab::new(1);
    let empty = lab.records.clone();
    let creator = lab.creator.clone();
    let made: Vec<_> = (2..6).map(|n| lab.add(&creator, &device(n), person(n), u32::from(n), Role::Viewer)).collect();

    let mut late = empty.clone();
    for record in made.iter().skip(1).rev() {
        assert_eq!(late.insert(record.bytes()), Ok(Inserted::Waiting));
        assert_eq!(late.insert(record.bytes()), Ok(Inserted::Known));
    }
    assert_eq!(late.missing(), [made[0].hash()]);
    assert_eq!(late.table(), empty.table(), "what waits does not count");
    let all: Vec<_> = made.iter().map(Record::hash).collect();
    assert_eq!(late.insert(made[0].bytes()), Ok(Inserted::Kept(all.clone())));
    assert_eq!(late.missing(), []);
    assert_eq!(late.table(), lab.records.table());

    let genesis = lab.space().genesis_record();
    assert_eq!(late.follows(&[all[2]], &[genesis, all[0], all[2]]), Ok(true));
    assert_eq!(late.follows(&[all[2]], &[all[3]]), Ok(false));
    assert_eq!(late.follows(&[all[2]], &[RecordHash([9; 32])]), Err(UnknownRecord(RecordHash([9; 32]))));
    assert_eq!(late.table_at(&[RecordHash([9; 32])]), Err(TableError::Unknown(RecordHash([9; 32]))));
    let lacked: Vec<_> = late.lacked_by(&[all[1], RecordHash([9; 32])]).map(Record::hash_of).collect();
    assert_eq!(lacked, all[2..]);
    assert_eq!(late.bytes(genesis), Some(lab.records.genesis().bytes()));
    assert_eq!(late.insert(lab.records.genesis().bytes()), Ok(Inserted::Known));
}

#[test]
fn threat_44_only_so_many_records_wait() {
    let mut lab = Lab::new(1);
    let author = device(9);
    let row = lab.row(author.id(), &device(10), person(9), 5, Role::Viewer);
    for n in 0..=WAITING_RECORD_COUNT_MAX {
        let mut unknown = [7; 32];
        unknown[..8].copy_from_slice(&n.to_be_bytes());
        let record = lab.add_on(&[RecordHash(unknown)], &author, row.clone());
        let expected =
            if n < WAITING_RECORD_COUNT_MAX { Ok(Inserted::Waiting) } else { Err(InsertError::TooManyWaiting) };
        assert_eq!(lab.records.insert(record.bytes()), expected);
    }
    assert_eq!(lab.records.count(), 1);
}

#[test]
fn a_free_rank_is_the_best_that_one_can_give() {
    let mut lab = Lab::new(1);
    let (creator, editor) = (lab.creator.clone(), device(2));
    let rank = |lab: &Lab, of: &DeviceKeys| lab.records.table().unwrap().free_rank(of.id());
    assert_eq!(rank(&lab, &creator), Some(2));
    lab.add(&creator, &editor, person(2), 2, Role::Editor);
    lab.add(&editor, &device(3), person(2), u32::MAX, Role::Editor);
    assert_eq!(rank(&lab, &creator), Some(3));
    assert_eq!(rank(&lab, &device(3)), None, "the worst of all ranks can give none");
    assert_eq!(rank(&lab, &device(4)), None, "no member");
}

#[test]
fn threat_09_a_genesis_of_another_level_or_chunker_is_refused() {
    let lab = Lab::new(1);
    let good = lab.records.genesis().body();
    let newer = |what| Err(GenesisError::NeedsNewerVersion(NeedsNewerVersion { what }));
    for (level, chunker, expected) in [
        (LEVEL_MIN - 1, CHUNKER, Err(GenesisError::BelowMinimum)),
        (LEVEL, CHUNKER - 1, Err(GenesisError::BelowMinimum)),
        (LEVEL + 1, CHUNKER, newer(Newer::Level { level: LEVEL + 1 })),
        (u16::MAX, 0, newer(Newer::Level { level: u16::MAX })),
        (LEVEL, CHUNKER + 1, newer(Newer::Chunker { chunker: CHUNKER + 1 })),
        (LEVEL, CHUNKER, Ok(())),
    ] {
        let body = GenesisBody { level, chunker, ..good.clone() };
        let binding = SpaceId(body.random);
        let bytes = Envelope::seal(&lab.creator.signing_key(), Signed::Genesis, binding, encode(&body));
        assert_eq!(Genesis::decode(Genesis::id_of(&bytes), &bytes).map(drop), expected);
    }
}

#[test]
fn threat_09_a_record_of_a_lower_level_is_refused() {
    let mut lab = Lab::new(1);
    let genesis = lab.space().genesis_record();
    let row = lab.row(lab.creator.id(), &device(2), person(2), 2, Role::Viewer);
    let rest = encode(&(Operation::Add(row), None::<Opened>));
    let low = raw(&lab.creator, &head(&lab, &lab.creator, LEVEL_MIN - 1, vec![genesis]), &rest);
    assert_eq!(lab.records.insert(&low), Err(RecordError::BelowMinimum.into()));

    let high = raw(&lab.creator, &head(&lab, &lab.creator, LEVEL + 1, vec![genesis]), b"unknown");
    lab.records.insert(&high).unwrap();
    let after = head(&lab, &lab.creator, LEVEL, vec![Record::hash_of(&high)]);
    assert_eq!(lab.records.insert(&raw(&lab.creator, &after, &rest)), Err(InsertError::LevelFell));
}

/// Every record that this version can't evaluate, by `author` on the heads of `lab`.
fn stops(lab: &Lab, author: &DeviceKeys) -> Vec<(Vec<u8>, Newer)> {
    let log = LogId { author: device(2).id(), incarnation: Incarnation([1; 8]) };
    let frontier = vec![EntryHead { log, number: 7, hash: EntryHash([2; 32]) }];
    let introduction = Introduction::make(&device(2), author.id(), lab.space());
    let made = [
        (Operation::Remove { target: Target::Device(device(2).id()), frontier: frontier.clone() }, opened()),
        (Operation::Remove { target: Target::Person(person(2)), frontier: vec![] }, opened()),
        (
            Operation::Set {
                device: device(2).id(),
                role: Some(Role::Viewer),
                introduction: Some(introduction),
                frontier: frontier.clone(),
            },
            opened(),
        ),
        (Operation::Rekey, opened()),
        (Operation::Retire { log, frontier }, None),
    ];
    let mut stops: Vec<_> = made
        .into_iter()
        .map(|(operation, opens)| {
            let key = author.signing_key();
            let record = Record::make(&key, lab.space(), LEVEL, lab.records.heads(), operation.clone(), opens.clone());
            let record = record.unwrap();
            assert_eq!(record.operation(), Ok(&operation));
            assert_eq!(record.opens(), opens.as_ref());
            (record.bytes().to_vec(), Newer::Operation)
        })
        .collect();
    stops.push((raw(author, &head(lab, author, LEVEL, lab.records.heads()), &[5, 1, 2, 3]), Newer::Operation));
    let level = LEVEL + 1;
    stops.push((raw(author, &head(lab, author, level, lab.records.heads()), b"anything"), Newer::Level { level }));
    stops
}

#[test]
fn a_space_stops_at_what_it_can_not_evaluate_and_keeps_what_it_has() {
    let mut lab = Lab::new(1);
    let creator = lab.creator.clone();
    lab.add(&creator, &device(2), person(2), 2, Role::Editor);
    let before = lab.records.heads();
    for (bytes, what) in stops(&lab, &creator) {
        let mut records = lab.records.clone();
        let table = records.table().unwrap();
        let hash = Record::hash_of(&bytes);
        assert_eq!(records.insert(&bytes), Ok(Inserted::Kept(vec![hash])));
        let newer = NeedsNewerVersion { what };
        assert_eq!(records.table(), Err(newer));
        assert_eq!(records.epoch(), Err(newer));
        assert_eq!(records.table_at(&[hash]), Err(TableError::NeedsNewerVersion(newer)));
        assert_eq!(records.table_at(&before), Ok(table), "what came before is what it was");
        assert_eq!(records.bytes(hash), Some(bytes.as_slice()), "it is kept and handed on");

        let row = lab.row(creator.id(), &device(3), person(3), 3, Role::Viewer);
        let level = if what == Newer::Operation { LEVEL } else { LEVEL + 1 };
        let rest = encode(&(Operation::Add(row), None::<Opened>));
        let after = raw(&creator, &head(&lab, &creator, level, vec![hash]), &rest);
        assert_eq!(records.insert(&after), Err(InsertError::NeedsNewerVersion(newer)));
    }
}

#[test]
fn a_stranger_does_not_stop_a_space() {
    let mut lab = Lab::new(1);
    for (bytes, _) in stops(&lab, &device(9)) {
        assert_eq!(lab.records.insert(&bytes), Err(AddRefusal::NotMember.into()));
    }
    assert_eq!(lab.records.table().unwrap().rows().count(), 2);
}

#[test]
fn a_record_that_is_not_well_formed_is_refused() {
    let lab = Lab::new(1);
    let key = lab.creator.signing_key();
    let genesis = lab.space().genesis_record();
    let log = LogId { author: device(2).id(), incarnation: Incarnation([1; 8]) };
    let entry = |number| EntryHead { log, number, hash: EntryHash([2; 32]) };
    let row = || Operation::Add(lab.row(lab.creator.id(), &device(2), person(2), 2, Role::Viewer));
    let older = |n| Older { epoch: crate::id::EpochId([n; 32]), nonce: [0; 24], ciphertext: [0; 32], tag: [0; 16] };
    let twice = Some(Opened { commitment: [1; 32], older: vec![older(1), older(1)] });
    let empty = Operation::Set { device: device(2).id(), role: None, introduction: None, frontier: vec![] };
    for (previous, operation, opens) in [
        (vec![], row(), None),
        (vec![genesis, genesis], row(), None),
        ((0..17).map(|n| RecordHash([n; 32])).collect(), row(), None),
        (vec![genesis], row(), opened()),
        (vec![genesis], Operation::Rekey, None),
        (vec![genesis], Operation::Rekey, twice),
        (vec![genesis], Operation::Retire { log, frontier: vec![] }, opened()),
        (vec![genesis], Operation::Retire { log, frontier: vec![entry(2), entry(1)] }, None),
        (vec![genesis], Operation::Retire { log, frontier: (1..=501).map(entry).collect() }, None),
        (vec![genesis], empty, None),
    ] {
        let made = Record::make(&key, lab.space(), LEVEL, previous, operation.clone(), opens);
        assert_eq!(made, Err(RecordError::Shape), "{operation:?}");
    }
}

#[test]
fn keys_are_few_ordered_and_of_their_suite() {
    let good = Identity::of(&device(1));
    assert_eq!(good.check(), Ok(()));
    let other = |suite, len| KemKey { suite, key: vec![1; len] };
    let suite_1 = || good.keys[0].clone();
    for (keys, expected) in [
        (vec![], Ok(())),
        (vec![suite_1(), other(2, 4096)], Ok(())),
        (vec![suite_1(), other(2, 4097)], Err(RowError::BadKeys)),
        (vec![suite_1(), suite_1()], Err(RowError::BadKeys)),
        (vec![other(2, 1), suite_1()], Err(RowError::BadKeys)),
        (vec![other(1, 1215)], Err(RowError::BadKeys)),
        (vec![KemKey { suite: 1, key: vec![0xff; 1216] }], Err(RowError::BadKeys)),
        ((2..7).map(|suite| other(suite, 1)).collect(), Err(RowError::BadKeys)),
    ] {
        assert_eq!(Identity { keys, ..good.clone() }.check(), expected);
    }
}

#[test]
fn a_genesis_that_contradicts_itself_is_refused() {
    let lab = Lab::new(1);
    let body = lab.records.genesis().body().clone();
    let binding = SpaceId(body.random);
    let decoded = |body: GenesisBody| {
        let bytes = Envelope::seal(&lab.creator.signing_key(), Signed::Genesis, binding, encode(&body));
        Genesis::decode(Genesis::id_of(&bytes), &bytes).map(drop)
    };
    let same = GenesisBody { recovery: Identity::of(&lab.creator), ..body.clone() };
    assert_eq!(decoded(same), Err(GenesisError::Contradiction));
    let invited = Introduction::make(&lab.creator, device(9).id(), binding);
    assert_eq!(decoded(GenesisBody { creator: invited, ..body.clone() }), Err(GenesisError::Contradiction));
    let elsewhere = Introduction::make(&lab.creator, lab.creator.id(), lab.space());
    assert_eq!(decoded(GenesisBody { creator: elsewhere, ..body.clone() }), Err(RowError::BadSignature.into()));
    let foreign = Introduction::make(&device(9), device(9).id(), binding);
    assert_eq!(decoded(GenesisBody { creator: foreign, ..body }), Err(GenesisError::BadSignature));
}

#[test]
fn threat_10_each_flipped_bit_and_truncation_of_a_genesis_is_refused() {
    let lab = Lab::new(1);
    let bytes = lab.records.genesis().bytes();
    assert!(Genesis::decode(lab.space(), bytes).is_ok());
    for flipped in flipped(bytes) {
        assert_eq!(Genesis::decode(lab.space(), &flipped), Err(GenesisError::WrongSpace));
        // Also by who would take the altered bytes for a space of their own.
        assert!(Genesis::decode(Genesis::id_of(&flipped), &flipped).is_err());
    }
    for len in 0..bytes.len() {
        assert!(Genesis::decode(Genesis::id_of(&bytes[..len]), &bytes[..len]).is_err());
    }
}

#[test]
fn threat_10_each_flipped_bit_and_truncation_of_a_record_is_refused() {
    let mut lab = Lab::new(1);
    let empty = lab.records.clone();
    let creator = lab.creator.clone();
    let record = lab.add(&creator, &device(2), person(2), 2, Role::Editor);
    let bytes = record.bytes();
    assert_eq!(Record::decode(lab.space(), bytes), Ok(record.clone()));
    let mut records = empty.clone();
    for flipped in flipped(bytes) {
        assert!(records.insert(&flipped).is_err());
    }
    for len in 0..bytes.len() {
        assert!(records.insert(&bytes[..len]).is_err());
    }
    assert_eq!(records.table(), empty.table());
    assert_eq!(records.missing(), []);
}

#[test]
fn threat_11_an_introduction_is_for_one_space_and_one_inviter() {
    let lab = Lab::new(1);
    let (joiner, inviter) = (device(5), lab.creator.id());
    let introduction = Introduction::make(&joiner, inviter, lab.space());
    assert_eq!(introduction.check(lab.space()), Ok(()));
    assert_eq!(introduction.check(Lab::new(2).space()), Err(RowError::BadSignature));
    let other = Introduction { inviter: DeviceId([1; 32]), ..introduction.clone() };
    assert_eq!(other.check(lab.space()), Err(RowError::BadSignature));
    let keys = Introduction { identity: Identity { keys: vec![], ..introduction.identity.clone() }, ..introduction };
    assert_eq!(keys.check(lab.space()), Err(RowError::BadSignature));
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_an_error(bytes: Vec<u8>, signed: Vec<u8>) {
        let lab = Lab::new(1);
        prop_assert!(Record::decode(lab.space(), &bytes).is_err());
        prop_assert!(Genesis::decode(Genesis::id_of(&bytes), &bytes).is_err());
        // A member that signs anything at all.
        let creator = lab.creator.clone();
        let head = head(&lab, &creator, LEVEL, lab.records.heads());
        let bytes = raw(&creator, &head, &signed);
        if let Ok(record) = Record::decode(lab.space(), &bytes) {
            prop_assert_eq!(record.bytes(), &bytes);
            let is_known = record.operation().is_ok();
            prop_assert_eq!(is_known, signed.first().is_some_and(|tag| *tag < 5), "{:?}", signed);
        }
    }
}
