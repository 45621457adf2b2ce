//! Forked logs: which branch holds an entry, and what an id in an entry means.

use proptest::prelude::*;

use super::*;
use crate::id::{ActorId, EntryHash};
use crate::log::branch::branch_of;

/// The entries of one log as a tree: each follows one before it, or begins the log.
fn links() -> impl Strategy<Value = Vec<Link>> {
    proptest::collection::vec(any::<prop::sample::Index>(), 1..20).prop_map(|follows| {
        let log = LogId { author: DeviceId([7; 32]), incarnation: Incarnation([3; 8]) };
        let mut links: Vec<Link> = Vec::new();
        for (at, follows) in follows.into_iter().enumerate() {
            let before = links.get(follows.index(at + 1)).copied();
            let number = before.map_or(1, |before| before.point.number + 1);
            let hash = EntryHash([u8::try_from(at).unwrap(); 32]);
            links.push(Link { point: EntryPoint { log, number }, previous: before.map(|before| before.hash), hash });
        }
        links
    })
}

proptest! {
    #[test]
    fn which_branch_holds_an_entry_follows_from_the_entries_in_whatever_order(links in links(), seed: u64) {
        let (branches, holders) = Branches::of(links.iter().copied());
        let mut shuffled = links.clone();
        shuffled.sort_by_key(|link| link.hash.0[0].wrapping_mul(u8::try_from(seed % 127).unwrap() * 2 + 1));
        prop_assert_eq!(Branches::of(shuffled), (branches.clone(), holders.clone()));
        prop_assert_eq!(holders.len(), links.len());
        let is_forked = links.iter().any(|one| {
            links.iter().any(|other| one.hash != other.hash && one.previous == other.previous)
        });
        prop_assert_eq!(!branches.is_empty(), is_forked);
        let mut places = BTreeSet::new();
        for link in &links {
            let holder = holders[&link.hash];
            prop_assert!(places.insert((holder, link.point.number)), "each log is a chain");
            prop_assert_eq!(branches.root_of(holder), link.point.log);
            prop_assert!(link.point.number >= branches.first_number(holder));
            // Where it stands is found step by step as well.
            let before = link.previous.map_or(link.point.log, |previous| holders[&previous]);
            prop_assert_eq!(branches.holder(before, link.point.number, link.hash).0, holder);
        }
    }
}

#[test]
fn an_id_means_the_operation_in_the_past_and_names_its_branch_where_there_are_several() {
    let mut lab = Lab::new(3);
    let (header, change) = lab.next(0, Draft::Index(vec![put(1, b"x", &[])]));
    let (other_header, other_change) = lab.next(0, Draft::Index(vec![put(1, b"y", &[])]));
    let one = lab.forge(0, header, &change.encode().unwrap().bytes);
    let other = lab.forge(0, other_header, &other_change.encode().unwrap().bytes);
    let log = lab.devices[0].id();
    let first = |lab: &Lab, at: usize| {
        let device = &lab.devices[at];
        device.log.stored(EntryPoint { log: device.id(), number: 1 }).unwrap().clone()
    };
    let starts = [first(&lab, 0), first(&lab, 1), first(&lab, 2)];

    // Device 2 knows one history, and supersedes what it has by its plain id.
    let _ = lab.receive(2, starts[0].clone());
    assert!(matches!(lab.receive(2, one.clone()), Outcome::Checked(_)));
    let plain = OpId { counter: change.start_op, actor: ActorId::of_log(SPACE, log) };
    let of = |entry: &Entry| OpId { actor: ActorId::of_log(SPACE, branch_of(log, entry.hash())), ..plain };
    let unseen = lab.try_write(2, Draft::Index(vec![put(1, b"z", &[of(&one)])]));
    assert!(matches!(unseen, Err(WriteError::Void(VoidReason::UnknownOp { .. }))), "it can't know of a branch");
    let late = lab.write(2, Draft::Index(vec![put(1, b"z", &[plain])]));

    // Device 1 knows both.
    let (branches, _) = Branches::of([&starts[0], &starts[1], &starts[2], &one, &other, &late].map(Link::of));
    assert_eq!(branches.forks().collect::<Vec<_>>(), [one.point()]);
    lab.devices[1].log = MemoryLog::with_branches(branches);
    for entry in [&starts[1], &starts[0], &starts[2], &one, &other] {
        assert!(matches!(lab.receive(1, entry.clone()), Outcome::Checked(checked) if !checked.meta.is_void));
    }
    let values = |lab: &Lab| lab.devices[1].log.items()[&file(1)].content.keys().copied().collect::<Vec<_>>();
    let mut both = [of(&one), of(&other)];
    both.sort_unstable();
    assert_eq!(values(&lab), both, "both count");
    let ambiguous = lab.try_write(1, Draft::Index(vec![put(1, b"w", &[plain])]));
    assert!(matches!(ambiguous, Err(WriteError::Void(VoidReason::UnknownOp { .. }))));

    // What device 2 meant is the one that it knew.
    assert!(matches!(lab.receive(1, late.clone()), Outcome::Checked(checked) if !checked.meta.is_void));
    let late = op(&lab, 1, &late, 0);
    assert_eq!(values(&lab).into_iter().collect::<BTreeSet<_>>(), [of(&other), late].into());
    let last = lab.write(1, Draft::Index(vec![put(1, b"w", &[of(&other), late])]));
    assert_eq!(values(&lab), [op(&lab, 1, &last, 0)]);
    assert_eq!(last.header().heads.iter().filter(|head| head.point.log == log).count(), 1);
}

#[test]
fn whether_a_fork_shows_does_not_depend_on_the_order_where_one_entry_is_void_by_its_header() {
    let mut lab = Lab::new(2);
    let draft = |target| Draft::Index(vec![put(1, target, &[])]);
    let ((header, change), (other_header, other_change)) = (lab.next(0, draft(b"x")), lab.next(0, draft(b"y")));
    let one = lab.forge(0, header.clone(), &change.encode().unwrap().bytes);
    let other = lab.forge(0, other_header, &other_change.encode().unwrap().bytes);
    let void = lab.forge(0, Header { kind: Kind::Start, ..header }, b"");
    let begin = EntryPoint { log: lab.devices[0].id(), number: 1 };
    let begin = lab.devices[0].log.stored(begin).unwrap().clone();
    let without_secret = |lab: &Lab, entry: &Entry| check::check(entry, &lab.devices[1].log, &lab.told, |_| None);
    let _ = lab.receive(1, begin);

    // First it is applied: that it is void is known without a secret, and so is the fork when the other comes.
    let Ok(Outcome::Checked(checked)) = without_secret(&lab, &void) else { panic!("void, whoever has the secret") };
    assert_eq!(checked.verdict, Verdict::Void(VoidReason::KindAndNumber));
    let before = lab.devices[1].log.clone();
    lab.devices[1].log.apply(void.clone(), &checked);
    assert!(matches!(lab.receive(1, one.clone()), Outcome::Fork(_)));

    // Second it must show the fork as well. One that may count waits until it can be read.
    lab.devices[1].log = before;
    assert!(matches!(lab.receive(1, one), Outcome::Checked(_)));
    assert!(matches!(without_secret(&lab, &void), Ok(Outcome::Fork(_))));
    assert!(matches!(without_secret(&lab, &other), Ok(Outcome::Waits(Missing::Epoch(_)))));
}
