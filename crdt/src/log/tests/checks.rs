//! Each rule of [`crate::log::check`] has a test in which exactly its violation makes an entry void.

use super::*;
use crate::change::{ChangeError, Register};
use crate::id::{ActorId, ChangeHash};
use crate::log::check::{CheckError, Fork, Missing};
use crate::log::entry::{Head, Kind};
use crate::log::payload::OpenError;
use crate::register::{FileTime, Meta, Op};

/// Device 0 has seen device 1's file, and so has 1 a place of 0; device 2's file is known to itself alone.
struct Scene {
    lab: Lab,
    ours: OpId,
    theirs: OpId,
    unseen: OpId,
}

fn scene() -> Scene {
    let mut lab = Lab::new(3);
    let first = lab.write(1, Draft::Index(vec![put(1, b"one", &[])]));
    lab.sync(1, 0);
    let second = lab.write(0, Draft::Index(vec![place(1, "name", &[]), put(2, b"two", &[])]));
    let third = lab.write(2, Draft::Index(vec![put(3, b"three", &[])]));
    let (theirs, ours, unseen) = (op(&lab, 0, &first, 0), op(&lab, 0, &second, 1), op(&lab, 2, &third, 0));
    Scene { lab, ours, theirs, unseen }
}

/// Why device 0 finds its own next entry void after `spoil`; the entry counts before.
fn spoiled(spoil: impl FnOnce(&Scene, &mut Header, &mut Change)) -> VoidReason {
    let mut scene = scene();
    let (mut header, mut change) = scene.lab.next(0, Draft::Index(vec![put(1, b"new", &[scene.theirs])]));
    let honest = scene.lab.forge(0, header.clone(), &change.encode().unwrap().bytes);
    let Outcome::Checked(checked) = scene.lab.check(0, &honest) else { panic!("not checked") };
    assert!(!checked.meta.is_void);
    spoil(&scene, &mut header, &mut change);
    let entry = scene.lab.forge(0, header, &change.encode().unwrap().bytes);
    reason(scene.lab.check(0, &entry))
}

fn renumber(change: &mut Change, actor: ActorId, start_op: u32) {
    change.actor = actor;
    change.start_op = start_op;
    for (counter, op) in (start_op..).zip(&mut change.ops) {
        op.id = OpId { counter, actor };
    }
}

#[test]
fn a_change_of_another_actor_is_void() {
    let reason = spoiled(|_, _, change| renumber(change, ActorId([5; 16]), change.start_op));
    assert_eq!(reason, VoidReason::Actor);
    let reason = spoiled(|scene, _, change| {
        let other = ActorId::of_log(SPACE, scene.lab.devices[1].id());
        renumber(change, other, change.start_op);
    });
    assert_eq!(reason, VoidReason::Actor);
}

#[test]
fn a_sequence_number_that_leaves_a_gap_or_comes_back_is_void() {
    assert_eq!(spoiled(|_, _, change| change.seq = 3), VoidReason::Seq { found: 3, expected: 2 });
    assert_eq!(spoiled(|_, _, change| change.seq = 1), VoidReason::Seq { found: 1, expected: 2 });
}

#[test]
fn a_counter_that_does_not_follow_the_past_is_void() {
    let up = spoiled(|_, _, change| renumber(change, change.actor, change.start_op + 1));
    assert_eq!(up, VoidReason::StartOp { found: 5, expected: 4 });
    let down = spoiled(|_, _, change| renumber(change, change.actor, change.start_op - 1));
    assert_eq!(down, VoidReason::StartOp { found: 3, expected: 4 });
}

#[test]
fn dependencies_other_than_the_heads_imply_are_void() {
    assert_eq!(spoiled(|_, _, change| change.deps.clear()), VoidReason::Deps);
    assert_eq!(spoiled(|_, _, change| change.deps = vec![ChangeHash([1; 32])]), VoidReason::Deps);
    let reason = spoiled(|_, _, change| {
        change.deps.push(ChangeHash([0; 32]));
        change.deps.sort_unstable();
    });
    assert_eq!(reason, VoidReason::Deps);
}

#[test]
fn superseding_what_is_not_in_the_past_is_void() {
    let unknown = |id: OpId| {
        let reason = spoiled(|_, _, change| change.ops[0].pred = vec![id]);
        assert_eq!(reason, VoidReason::UnknownOp { id });
    };
    let scene = scene();
    unknown(OpId { counter: 99, ..scene.theirs });
    unknown(OpId { counter: 1, actor: ActorId([8; 16]) });
    unknown(scene.unseen);
    unknown(OpId { counter: 4, ..scene.ours });
}

#[test]
fn superseding_an_operation_that_exists_but_was_not_seen_is_void_wherever_it_is_known() {
    let mut scene = scene();
    let unseen = scene.unseen;
    let (header, mut change) = scene.lab.next(0, Draft::Index(vec![put(3, b"new", &[])]));
    change.ops[0].pred = vec![unseen];
    let entry = scene.lab.forge(0, header, &change.encode().unwrap().bytes);
    scene.lab.sync(0, 2);
    assert_eq!(reason(scene.lab.check(2, &entry)), VoidReason::UnknownOp { id: unseen });
}

#[test]
fn superseding_an_operation_on_another_register_is_void() {
    let scene = scene();
    let place = OpId { counter: scene.ours.counter - 1, ..scene.ours };
    for id in [scene.ours, place] {
        let reason = spoiled(|_, _, change| change.ops[0].pred = vec![id]);
        assert_eq!(reason, VoidReason::OtherRegister { id });
    }
}

#[test]
fn a_meta_is_about_a_content_operation_of_its_item_in_the_past() {
    let about = |id: OpId| {
        let mtime = FileTime { secs: 0, nanos: 0 };
        let meta = Meta { mtime, executable: true, executable_differs: false, about: id };
        move |_: &Scene, _: &mut Header, change: &mut Change| {
            change.ops[0].write = Write::Meta(Some(meta));
            change.ops[0].pred.clear();
            assert_eq!(change.ops[0].key().register, Register::Meta);
        }
    };
    let scene = scene();
    assert_eq!(spoiled(about(scene.unseen)), VoidReason::UnknownOp { id: scene.unseen });
    assert_eq!(spoiled(about(scene.ours)), VoidReason::OtherRegister { id: scene.ours });
}

#[test]
fn heads_that_are_not_minimal_are_void() {
    let reason = spoiled(|scene, header, _| {
        // Device 1's start is in the past of its second entry, which device 0 has named before.
        let point = EntryPoint { log: scene.lab.devices[1].id(), number: 1 };
        let hash = scene.lab.devices[0].log.stored(point).unwrap().hash();
        header.heads = vec![Head { point, hash }];
    });
    assert_eq!(reason, VoidReason::HeadsNotMinimal);

    let mut scene = scene();
    scene.lab.sync(2, 1);
    scene.lab.write(1, Draft::Seen);
    scene.lab.sync(1, 0);
    let (mut header, change) = scene.lab.next(0, Draft::Index(vec![put(9, b"x", &[])]));
    let point = EntryPoint { log: scene.lab.devices[2].id(), number: 2 };
    let hash = scene.lab.devices[0].log.stored(point).unwrap().hash();
    header.heads.push(Head { point, hash });
    header.heads.sort_unstable();
    let entry = scene.lab.forge(0, header, &change.encode().unwrap().bytes);
    assert_eq!(reason_at(&scene.lab, &entry), VoidReason::HeadsNotMinimal);
}

fn reason_at(lab: &Lab, entry: &Entry) -> VoidReason {
    reason(lab.check(0, entry))
}

#[test]
fn a_start_is_number_1_and_nothing_else_is() {
    assert_eq!(spoiled(|_, header, _| header.kind = Kind::Start), VoidReason::KindAndNumber);
    let mut lab = Lab::new(1);
    let (mut header, change) = lab.next(0, Draft::Index(vec![put(1, b"x", &[])]));
    (header.number, header.previous, header.membership) = (1, None, vec![GENESIS]);
    let entry = lab.forge(0, header, &change.encode().unwrap().bytes);
    let fresh = Lab { devices: vec![Device::new(0)], ..lab };
    assert_eq!(reason(fresh.check(0, &entry)), VoidReason::KindAndNumber);
}

#[test]
fn membership_that_is_repeated_or_goes_back_is_void() {
    assert_eq!(spoiled(|_, header, _| header.membership = vec![GENESIS]), VoidReason::MembershipRepeated);

    let mut lab = Lab::new(2);
    let newer = lab.told.add(2, &[GENESIS]);
    let aside = lab.told.add(3, &[GENESIS]);
    let (mut header, change) = lab.next(0, Draft::Index(vec![put(1, b"x", &[])]));
    header.membership = vec![newer];
    let entry = lab.forge(0, header, &change.encode().unwrap().bytes);
    assert!(matches!(lab.receive(0, entry), Outcome::Checked(checked) if !checked.meta.is_void));
    // The same log, and a log that names that entry, may not go back behind it nor aside.
    let entry = |lab: &mut Lab, index: usize, membership: RecordHash| {
        let heads = current_heads(&lab.devices[index].log, lab.devices[index].id()).unwrap();
        let setting = Setting { heads: &heads, membership: &[membership], secret: &lab.secret };
        let device = &lab.devices[index];
        device.writer().write(&device.log, &lab.told, &setting, Draft::Seen, &mut lab.rng)
    };
    for membership in [GENESIS, aside] {
        assert_eq!(entry(&mut lab, 0, membership), Err(WriteError::Void(VoidReason::MembershipBehind)));
    }
    lab.sync(0, 1);
    for membership in [GENESIS, aside] {
        assert_eq!(entry(&mut lab, 1, membership), Err(WriteError::Void(VoidReason::MembershipBehind)));
    }
    assert!(entry(&mut lab, 1, newer).is_ok());
}

#[test]
fn an_author_without_the_role_writes_void_entries_from_that_record_on() {
    let mut lab = Lab::new(2);
    let barring = lab.told.add(2, &[GENESIS]);
    lab.told.barred.insert((barring, lab.devices[0].id().author));
    let (mut header, change) = lab.next(0, Draft::Index(vec![put(1, b"x", &[])]));
    let body = change.encode().unwrap().bytes;
    let before = lab.forge(0, header.clone(), &body);
    header.membership = vec![barring];
    let after = lab.forge(0, header, &body);
    assert_eq!(reason(lab.check(0, &after)), VoidReason::MayNotWrite);
    // What does not follow the record counts here: excluding it is a later, separate decision.
    assert!(matches!(lab.check(0, &before), Outcome::Checked(checked) if !checked.meta.is_void));
}

#[test]
fn a_payload_that_does_not_open_or_read_is_void() {
    let mut scene = scene();
    let (header, change) = scene.lab.next(0, Draft::Index(vec![put(1, b"x", &[])]));
    let other = EpochSecret::new(SPACE, EpochId([1; 32]), Secret::new([8; 32]));
    let body = change.encode().unwrap().bytes;
    let entry = forge(&scene.lab.devices[0].key, header.clone(), &body, &other, &mut scene.lab.rng);
    assert_eq!(reason_at(&scene.lab, &entry), VoidReason::Payload(OpenError::NotAuthentic));
    let mut timed = automerge::Change::from_bytes(body.clone()).unwrap().decode();
    timed.time = 1;
    let entry = scene.lab.forge(0, header.clone(), automerge::Change::from(timed).raw_bytes());
    assert_eq!(reason_at(&scene.lab, &entry), VoidReason::Payload(OpenError::Change(ChangeError::Time)));
    let seen = Header { kind: Kind::Seen, ..header };
    let entry = scene.lab.forge(0, seen, &body);
    assert_eq!(reason_at(&scene.lab, &entry), VoidReason::Payload(OpenError::NotAuthentic));
}

#[test]
fn a_start_whose_label_or_incarnations_are_out_of_bounds_is_void() {
    let device = Device::new(9);
    let mut lab = Lab { devices: vec![device], ..Lab::new(0) };
    let own = lab.devices[0].id().incarnation;
    let name = |len: usize| Name::parse(&vec![b'x'; len]).unwrap();
    let header = Header {
        space: SPACE,
        log: lab.devices[0].id(),
        number: 1,
        previous: None,
        heads: vec![],
        membership: vec![GENESIS],
        epoch: lab.secret.epoch,
        kind: Kind::Start,
    };
    let many = |count: u64| (0..count).map(|index| Incarnation(index.to_be_bytes())).collect();
    for (start, is_well_formed) in [
        (Start { label: name(64), earlier: many(1_000) }, true),
        (Start { label: name(65), earlier: vec![] }, false),
        (Start { label: name(1), earlier: many(1_001) }, false),
        (Start { label: name(1), earlier: vec![own] }, false),
        (Start { label: name(1), earlier: vec![Incarnation([1; 8]); 2] }, false),
    ] {
        let entry = lab.forge(0, header.clone(), &crate::codec::encode(&start));
        let Outcome::Checked(checked) = lab.check(0, &entry) else { panic!("not checked") };
        assert_eq!(!checked.meta.is_void, is_well_formed, "{:?}", start.earlier.len());
    }
}

#[test]
fn what_follows_a_void_entry_in_its_log_is_void_and_a_log_that_names_it_goes_on_without_it() {
    let mut scene = scene();
    let (header, mut change) = scene.lab.next(0, Draft::Index(vec![put(1, b"new", &[scene.theirs])]));
    change.seq = 9;
    let void = scene.lab.forge(0, header, &change.encode().unwrap().bytes);
    scene.lab.sync(0, 1);
    assert!(matches!(scene.lab.receive(0, void.clone()), Outcome::Checked(checked) if checked.meta.is_void));
    assert!(matches!(scene.lab.receive(1, void.clone()), Outcome::Checked(checked) if checked.meta.is_void));
    let error = scene.lab.try_write(0, Draft::Seen).unwrap_err();
    assert_eq!(error, WriteError::Void(VoidReason::AfterVoid));
    // Device 1 names the void entry; counters, dependencies and superseded operations leave it out.
    let id = OpId { counter: change.start_op, actor: change.actor };
    let error = scene.lab.try_write(1, Draft::Index(vec![put(1, b"later", &[id])])).unwrap_err();
    assert_eq!(error, WriteError::Void(VoidReason::UnknownOp { id }));
    let entry = scene.lab.write(1, Draft::Index(vec![put(1, b"later", &[scene.theirs])]));
    assert!(entry.header().heads.iter().any(|head| head.hash == void.hash()));
    assert_eq!(op(&scene.lab, 1, &entry, 0).counter, change.start_op);
    scene.lab.sync(1, 0);
    let meta = scene.lab.devices[0].log.entry(entry.point()).unwrap().unwrap();
    assert!(meta.clock.includes(void.point()) && !meta.is_void);
    let live: Vec<OpId> = scene.lab.devices[0].log.items()[&file(1)].content.keys().copied().collect();
    assert_eq!(live, [op(&scene.lab, 1, &entry, 0)]);
}

#[test]
fn dependencies_look_through_entries_without_a_change() {
    let mut lab = Lab::new(3);
    let change = lab.write(0, Draft::Index(vec![put(1, b"x", &[])]));
    lab.sync(0, 1);
    lab.write(1, Draft::Seen);
    lab.sync(1, 2);
    let (header, next) = lab.next(2, Draft::Index(vec![put(2, b"y", &[])]));
    assert_eq!(header.heads.len(), 1, "the seen entry alone, which has the change in its past");
    let meta = lab.devices[2].log.entry(change.point()).unwrap().unwrap();
    assert_eq!(next.deps, [meta.change.unwrap().hash]);
}

#[test]
fn an_entry_waits_for_what_is_not_here_and_says_what() {
    let mut scene = scene();
    let lab = &mut scene.lab;
    let (header, change) = lab.next(0, Draft::Index(vec![put(5, b"x", &[])]));
    let body = change.encode().unwrap().bytes;
    let previous = EntryPoint { number: header.number - 1, log: header.log };
    let entry = lab.forge(0, header.clone(), &body);
    let missing = Missing::Entry { point: previous, hash: header.previous.unwrap() };
    assert_eq!(lab.check(2, &entry), Outcome::Waits(missing));
    let unknown = Header { membership: vec![RecordHash([9; 32])], ..header.clone() };
    let entry_of_unknown = lab.forge(0, unknown, &body);
    assert_eq!(lab.check(0, &entry_of_unknown), Outcome::Waits(Missing::Records));
    let outcome = check::check(&entry, &lab.devices[0].log, &lab.told, |_| None);
    assert_eq!(outcome, Ok(Outcome::Waits(Missing::Epoch(EpochId([1; 32])))));
    let point = EntryPoint { log: lab.devices[1].id(), number: 7 };
    let head = Head { point, hash: crate::id::EntryHash([0; 32]) };
    let unknown = Header { heads: vec![head], ..header };
    let entry = lab.forge(0, unknown, &body);
    assert_eq!(lab.check(0, &entry), Outcome::Waits(Missing::Entry { point, hash: head.hash }));
}

#[test]
fn two_entries_at_one_place_are_a_fork_and_the_same_entry_twice_is_none() {
    let mut lab = Lab::new(1);
    let (header, change) = lab.next(0, Draft::Index(vec![put(1, b"x", &[])]));
    let (other_header, other_change) = lab.next(0, Draft::Index(vec![put(1, b"y", &[])]));
    let ours = lab.forge(0, header, &change.encode().unwrap().bytes);
    let theirs = lab.forge(0, other_header, &other_change.encode().unwrap().bytes);
    assert!(matches!(lab.receive(0, ours.clone()), Outcome::Checked(_)));
    assert_eq!(lab.check(0, &ours), Outcome::Known);
    let fork = Fork { point: ours.point(), ours: ours.hash(), other: theirs.hash() };
    assert_eq!(lab.check(0, &theirs), Outcome::Fork(fork));
    let (header, change) = lab.next(0, Draft::Index(vec![put(1, b"z", &[])]));
    let after_theirs = Header { previous: Some(theirs.hash()), ..header };
    let entry = lab.forge(0, after_theirs, &change.encode().unwrap().bytes);
    let before = Missing::Entry { point: theirs.point(), hash: theirs.hash() };
    assert_eq!(lab.check(0, &entry), Outcome::Waits(before), "what goes on from the other branch waits for it");
}

#[test]
fn what_a_newer_version_wrote_stops_the_space_and_is_not_void() {
    let mut lab = Lab::new(1);
    let (header, change) = lab.next(0, Draft::Index(vec![put(1, b"x", &[])]));
    let mut newer = automerge::Change::from_bytes(change.encode().unwrap().bytes).unwrap().decode();
    newer.operations[0].action = automerge::legacy::OpType::Increment(1);
    let entry = lab.forge(0, header, automerge::Change::from(newer).raw_bytes());
    let error = check::check(&entry, &lab.devices[0].log, &lab.told, |_| Some(&lab.secret)).unwrap_err();
    let unknown = OpenError::Change(ChangeError::UnknownAction { action: 5 });
    assert_eq!(error, CheckError::NeedsNewer(unknown));
}

#[test]
fn a_writer_refuses_what_readers_would() {
    let mut lab = Lab::new(2);
    assert_eq!(lab.try_write(0, start(0)), Err(WriteError::Start));
    let empty = lab.try_write(0, Draft::Index(vec![]));
    assert_eq!(empty, Err(WriteError::Change(ChangeError::Empty)));
    let fresh = Device::new(7);
    lab.devices.push(fresh);
    assert_eq!(lab.try_write(2, Draft::Seen), Err(WriteError::Start));
    let op = Op {
        id: OpId { counter: 1, actor: ActorId([0; 16]) },
        item: file(1),
        write: Write::Content(None),
        pred: vec![],
    };
    let delete = DraftOp { item: op.item, write: op.write, pred: op.pred };
    assert_eq!(lab.try_write(0, Draft::Index(vec![delete])), Err(WriteError::Change(ChangeError::EmptyDelete)));
}
