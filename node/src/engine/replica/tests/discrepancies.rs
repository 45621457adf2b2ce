//! Members that go back, show several views, or withhold.

use zerocloud_crdt::log::{Entry, EntryPoint};

use super::*;
use crate::engine::replica::{DiscrepancyKind, OWING_ROUND_COUNT};

impl Net {
    /// The kind of what does not fit, and how many entries are not shown, by the word of `of` as `at` knows it.
    fn differing(&self, at: usize, of: usize) -> Option<(DiscrepancyKind, u64)> {
        let all = self.devices[at].discrepancies();
        all.get(&self.ids[of]).map(|found| (found.kind, found.entry_count))
    }

    /// Another replica of a device, with this state.
    fn another(&mut self, at: usize, state: MemoryState) -> Sim {
        let (identity, records) = (self.founding.identity(at), self.founding.records.clone());
        Replica::open(MemoryShelf::of(state), records, identity, &mut self.founding.rng).unwrap()
    }

    /// Delivers all that is on its way to `to` and comes from `from`.
    fn deliver_all(&mut self, from: usize, to: usize) {
        while self.queues.get(&(from, to)).is_some_and(|queue| !queue.is_empty()) {
            self.deliver(from, to);
        }
    }

    /// Takes what `is_dropped` says out of what is on its way.
    fn drop_entries(&mut self, from: usize, to: usize, is_dropped: impl Fn(&Entry) -> bool) {
        let space = self.founding.space;
        for message in self.queues.get_mut(&(from, to)).into_iter().flatten() {
            if let wire::Log::Entries(entries) = message {
                entries.retain(|bytes| !is_dropped(&Entry::decode(space, bytes.to_vec()).unwrap()));
            }
        }
    }

    /// Delivers all between two devices but the entries of the first of which `is_dropped` says so.
    fn exchange_but(&mut self, liar: usize, other: usize, is_dropped: impl Fn(&Entry) -> bool) {
        let ways = [(liar, other), (other, liar)];
        while ways.iter().any(|way| self.queues.get(way).is_some_and(|queue| !queue.is_empty())) {
            self.drop_entries(liar, other, &is_dropped);
            self.deliver_all(liar, other);
            self.deliver_all(other, liar);
        }
    }

    fn end_rounds(&mut self, at: usize, count: u32) {
        for _ in 0..count {
            self.devices[at].handle_round().unwrap();
        }
    }
}

#[test]
fn threat_17_a_member_that_serves_an_old_state_is_named_and_changes_nothing() {
    let mut net = Net::new(2, 170);
    net.make(0, "old");
    net.link(0, 1);
    net.settle();
    let old = net.devices[1].shelf().state();
    for n in 0..7 {
        net.make(n % 2, &format!("later {n}"));
        net.settle();
    }
    assert_eq!(net.differing(0, 1), None);
    net.cut(0, 1);
    let before = net.devices[0].shelf().state();

    net.devices[1] = net.another(1, old);
    net.link(0, 1);
    net.deliver_all(1, 0);
    assert_eq!(net.differing(0, 1), Some((DiscrepancyKind::WentBack, 7)));
    let after = net.devices[0].shelf().state();
    assert_eq!((after.index, &after.base), (before.index, &before.base));
    assert_eq!(LogRead::frontier(&after.log).unwrap(), LogRead::frontier(&before.log).unwrap());

    // Both words are kept, as it signed them, also when this device is started anew.
    net.cut(0, 1);
    net.devices[0] = net.another(0, net.devices[0].shelf().state());
    let proof = net.devices[0].discrepancies()[&net.ids[1]].proof.clone();
    let words: Vec<SignedFrontier> =
        proof.iter().map(|bytes| SignedFrontier::decode(net.founding.space, bytes).unwrap()).collect();
    let [before, instead] = words.as_slice() else { panic!("{words:?}") };
    assert!(before.device == net.ids[1] && instead.device == net.ids[1]);
    assert!(!instead.frontier.lost_since(&before.frontier).is_empty());

    // It catches up, and that is all.
    net.link(0, 1);
    net.settle();
    assert_eq!(net.differing(0, 1), None);
    assert_eq!(net.index(0), net.index(1));
}

#[test]
fn threat_19_whoever_shows_two_groups_two_views_is_named_when_they_first_meet() {
    const EACH: u64 = 500;
    let mut net = Net::new(3, 190);
    let mut view_of_1 = net.another(2, net.devices[2].shelf().state());
    for (group, other) in [(0, 1), (1, 0)] {
        net.link(group, 2);
        for n in 0..EACH {
            net.make(group, &format!("{group}-{n}"));
        }
        net.settle();
        assert_eq!(net.frontier(2).number(net.devices[group].log()), EACH + 1);
        assert_eq!(net.frontier(2).number(net.devices[other].log()), 0, "a view of this group alone");
        net.cut(group, 2);
        std::mem::swap(&mut net.devices[2], &mut view_of_1);
    }
    assert!((0..2).all(|group| net.differing(group, 2).is_none()), "neither knows better yet");

    net.link(0, 1);
    net.settle();
    for group in 0..2 {
        assert_eq!(net.differing(group, 2), Some((DiscrepancyKind::TwoViews, EACH + 1)), "group {group}");
        assert_eq!(net.differing(group, 1 - group), None);
        let Some(found) = net.devices[group].discrepancies().remove(&net.ids[2]) else { panic!("{group}") };
        let words = found.proof.iter().map(|bytes| SignedFrontier::decode(net.founding.space, bytes).unwrap());
        assert!(words.into_iter().all(|word| word.device == net.ids[2]), "it signed both");
    }
    assert_eq!(net.index(0), net.index(1));

    net.link(0, 2);
    net.link(1, 2);
    net.settle();
    for at in 0..3 {
        assert_eq!(net.index(at), net.index(0));
        assert!(net.devices[at].discrepancies().is_empty(), "device {at}");
    }
}

#[test]
fn a_word_that_is_handed_on_counts_if_its_member_signed_it() {
    let mut net = Net::new(3, 191);
    net.link(0, 1);
    net.settle();
    let word = |net: &Net, by: usize, frontier: Frontier| {
        let signed = SignedFrontier::sign(&net.founding.keys[by].signing_key(), net.founding.space, frontier);
        signed.unwrap().as_bytes().to_vec()
    };
    let mut forged = word(&net, 2, net.frontier(0));
    let at = forged.len() / 2;
    forged[at] ^= 1;
    let answer = net.devices[0].handle_message(net.ids[1], wire::Log::HandedOn(ByteBuf::from(forged)));
    assert!(matches!(answer, Err(ReplicaError::Violation(_))));
    // One's own, and one that says no more than the member says here.
    for bytes in [word(&net, 0, net.frontier(1)), word(&net, 2, net.frontier(2))] {
        net.devices[0].handle_message(net.ids[1], wire::Log::HandedOn(ByteBuf::from(bytes))).unwrap();
    }
    net.link(0, 2);
    net.settle();
    assert!(net.devices[0].discrepancies().is_empty());
}

#[test]
fn threat_20_a_dropped_entry_holds_back_what_names_it_and_names_who_dropped_it() {
    let mut net = Net::new(3, 200);
    net.link(0, 1);
    for n in 0..6 {
        net.make(0, &format!("{n}"));
    }
    net.settle();
    let dropped = EntryPoint { log: net.devices[0].log(), number: 4 };
    net.link(1, 2);
    net.exchange_but(1, 2, |entry| entry.point() == dropped);
    assert_eq!(net.frontier(2).number(dropped.log), 3, "what names it waits");
    assert_eq!(names(&net.index(2)).len(), 2);
    net.end_rounds(2, OWING_ROUND_COUNT - 1);
    assert_eq!(net.differing(2, 1), None, "it may be slow");
    net.end_rounds(2, 1);
    assert_eq!(net.differing(2, 1), Some((DiscrepancyKind::Withholds, 4)));

    net.link(0, 2);
    net.settle();
    assert_eq!(net.index(0), net.index(2), "it comes from another");
    net.end_rounds(2, 1);
    assert_eq!(net.differing(2, 1), None);
}

#[test]
fn threat_20_whoever_says_that_it_has_entries_and_sends_none_is_named_also_if_it_comes_and_goes() {
    let mut net = Net::new(3, 201);
    net.link(0, 1);
    net.make(0, "a");
    net.settle();
    for round in 0..OWING_ROUND_COUNT {
        assert_eq!(net.differing(2, 1), None, "round {round}");
        net.link(1, 2);
        net.exchange_but(1, 2, |_| true);
        net.end_rounds(2, 1);
        net.cut(1, 2);
    }
    assert_eq!(net.differing(2, 1).map(|(kind, _)| kind), Some(DiscrepancyKind::Withholds));
}

#[test]
fn whoever_brings_something_in_each_round_is_not_named() {
    let mut net = Net::new(2, 202);
    for n in 0..4 * OWING_ROUND_COUNT {
        net.make(0, &format!("{n}"));
    }
    let log = net.devices[0].log();
    let state = net.devices[0].shelf().state();
    net.link(0, 1);
    let theirs = net.queues.get_mut(&(0, 1)).unwrap();
    theirs.retain(|message| !matches!(message, wire::Log::Entries(_)));
    net.deliver_all(0, 1);
    for number in 1..=4 * u64::from(OWING_ROUND_COUNT) {
        let bytes = state.entry_bytes(EntryPoint { log, number }).unwrap().unwrap();
        net.devices[1].handle_message(net.ids[0], wire::Log::Entries(vec![ByteBuf::from(bytes)])).unwrap();
        net.end_rounds(1, 1);
        assert_eq!(net.differing(1, 0), None, "entry {number}");
    }
}
