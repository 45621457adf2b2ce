//! Stores that were put back, and logs with two histories.

use zerocloud_crdt::id::Incarnation;
use zerocloud_crdt::log::EntryPoint;

use super::*;

impl Net {
    /// Puts the store of a device back to what it was, and starts it anew.
    fn put_back(&mut self, at: usize, state: MemoryState) {
        for other in 0..self.devices.len() {
            self.cut(at, other);
        }
        let shelf = MemoryShelf::of(state);
        let (identity, records) = (self.founding.identity(at), self.founding.records.clone());
        let mut incarnation = Incarnation([0; 8]);
        self.founding.rng.fill_bytes(&mut incarnation.0);
        let incarnation = shelf.state().incarnation.unwrap_or(incarnation);
        let log = LogId { incarnation, ..identity.log };
        let identity = Identity { log, ..identity };
        self.devices[at] = Replica::open(shelf, records, identity, &mut self.founding.rng).unwrap();
    }

    fn logs_of(&self, at: usize, author: usize) -> usize {
        self.frontier(at).iter().filter(|(log, _)| log.author == self.ids[author]).count()
    }

    fn assert_agreed(&self) {
        for at in 1..self.devices.len() {
            assert_eq!(self.index(0), self.index(at));
            assert_eq!(self.frontier(0), self.frontier(at));
            assert_eq!(self.devices[at].stop(), None);
        }
    }
}

#[test]
fn threat_21_a_store_that_was_put_back_takes_its_entries_from_a_peer_and_goes_on_anew() {
    let mut net = Net::new(2, 8);
    net.link(0, 1);
    net.make(0, "a");
    net.settle();
    let saved = net.devices[0].shelf().state();
    net.make(0, "b");
    net.settle();
    let log = net.devices[0].log();

    net.put_back(0, saved);
    net.link(0, 1);
    net.settle();
    net.assert_agreed();
    assert_eq!(net.devices[0].shelf().state().incarnation, None, "it is noted that the next entry begins anew");
    net.make(0, "c");
    net.settle();
    net.assert_agreed();
    assert_eq!(names(&net.index(1)).len(), 3);
    assert_ne!(net.devices[0].log(), log);
    assert_eq!(net.logs_of(1, 0), 2);
    let start = net.devices[1].shelf().state().log.start(net.devices[0].log()).unwrap().clone();
    assert_eq!(start.earlier, [log.incarnation]);

    // Another start goes on with the new one.
    let state = net.devices[0].shelf().state();
    net.put_back(0, state);
    net.link(0, 1);
    net.make(0, "d");
    net.settle();
    net.assert_agreed();
    assert_eq!(net.logs_of(1, 0), 2);
}

#[test]
fn threat_21_both_histories_of_a_store_that_was_put_back_and_written_to_count_on_every_device() {
    for seed in 0..20 {
        let mut net = Net::new(3, seed);
        net.link(0, 1);
        net.make(0, "a");
        net.settle();
        let saved = net.devices[0].shelf().state();
        net.make(0, "b");
        net.make(0, "c");
        net.settle();

        net.put_back(0, saved);
        // Nobody is there to tell it; device 2 hears of this history alone.
        net.make(0, "d");
        net.make(0, "e");
        net.make(0, "f");
        net.link(0, 2);
        net.settle();
        net.cut(0, 2);
        net.make(2, "g");
        net.make(1, "h");
        // The two histories meet on devices that did not write them.
        net.link(1, 2);
        net.settle();
        net.link(0, 1);
        net.link(0, 2);
        net.settle();
        net.assert_agreed();
        assert_eq!(names(&net.index(0)).len(), 8, "seed {seed}: every branch counts");
        let state = net.devices[2].shelf().state();
        let forks: Vec<EntryPoint> = LogRead::branches(&state).unwrap().forks().collect();
        assert_eq!(forks, [EntryPoint { log: net.founding.identity(0).log, number: 3 }]);

        // All go on, and over a start of each.
        for at in 0..3 {
            let state = net.devices[at].shelf().state();
            net.put_back(at, state);
        }
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            net.link(a, b);
        }
        for at in 0..3 {
            net.make(at, &format!("later {at}"));
        }
        net.settle();
        net.assert_agreed();
        assert_eq!(names(&net.index(0)).len(), 11);
        assert_eq!(net.devices[0].log().author, net.ids[0]);
        assert_ne!(net.devices[0].log().incarnation, net.founding.identity(0).log.incarnation);
    }
}

#[test]
fn threat_21_a_peer_that_told_of_one_history_before_the_other_came_is_sent_all_of_that() {
    let mut net = Net::new(3, 8);
    net.link(0, 1);
    net.link(1, 2);
    net.make(0, "a");
    net.settle();
    let saved = net.devices[0].shelf().state();
    net.cut(1, 2);
    net.make(0, "b");
    net.make(0, "c");
    net.settle();

    net.put_back(0, saved);
    net.make(0, "d");
    net.link(0, 2);
    // Device 0 tells how far its history goes, and gets no word from device 2.
    (0..2).for_each(|_| net.deliver(0, 2));
    // The other history comes: its first entry has the number of the one of which device 0 told.
    net.link(1, 2);
    while net.queues.iter().any(|((from, to), queue)| from + to == 3 && !queue.is_empty()) {
        net.deliver(1, 2);
        net.deliver(2, 1);
    }
    assert_eq!(names(&net.index(2)).len(), 3);
    net.settle();
    net.assert_agreed();
    assert_eq!(names(&net.index(0)).len(), 4, "every branch counts");
}

#[test]
fn threat_21_a_device_that_writes_many_histories_shows_the_same_on_all() {
    for seed in 0..20 {
        let mut net = Net::new(4, seed);
        let mut rng = ChaCha20Rng::seed_from_u64(seed ^ 0xf0_4c);
        let mut below = |n: usize| rng.next_u32() as usize % n;
        // Device 3 lies: it goes back again and again, and tells each of the others something else.
        let mut states = vec![net.devices[3].shelf().state()];
        let mut count = 0;
        for round in 0..8 {
            let state = states[below(states.len())].clone();
            net.put_back(3, state);
            for n in 0..=below(3) {
                net.make(3, &format!("lie {round} {n}"));
                states.push(net.devices[3].shelf().state());
                count += 1;
            }
            let to = below(3);
            net.link(3, to);
            // It hears what the other has, and nothing after.
            for _ in 0..2 {
                net.deliver(to, 3);
            }
            while net.queues.get(&(3, to)).is_some_and(|queue| !queue.is_empty()) {
                net.deliver(3, to);
            }
            net.cut(3, to);
            if below(2) == 0 {
                net.make(to, &format!("truth {round}"));
                count += 1;
            }
        }
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            net.link(a, b);
        }
        net.settle();
        for at in 1..3 {
            assert_eq!(net.index(0), net.index(at), "seed {seed}");
            assert_eq!(net.frontier(0), net.frontier(at), "seed {seed}");
            assert_eq!(net.devices[at].stop(), None);
        }
        assert!(names(&net.index(0)).len() <= count);
    }
}
