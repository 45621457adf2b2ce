//! Replicas that talk over queues which a seed delays and cuts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use serde_bytes::ByteBuf;
use zerocloud_crdt::grant;
use zerocloud_crdt::id::{DeviceId, FileId, LogId};
use zerocloud_crdt::index::MemoryIndex;
use zerocloud_crdt::keys::{DeviceKeys, Secret};
use zerocloud_crdt::log::{Frontier, LogRead, SignedFrontier};
use zerocloud_crdt::membership::{AddRefusal, InsertError, Inserted, Introduction, Records, Role};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::wire::{self, Message};

use super::{Action, AdmitError, Identity, Replica, ReplicaError, Violation};
use crate::engine::found::Found;
use crate::engine::founding::{Founding, creation, founding};
use crate::engine::shelf::{MemoryShelf, MemoryState, ShelfRead};
use crate::store::SpaceStore;

mod discrepancies;
mod forks;
mod secrecy;

type Sim = Replica<MemoryShelf>;

/// Some devices and the messages between them.
struct Net {
    founding: Founding,
    devices: Vec<Sim>,
    ids: Vec<DeviceId>,
    queues: BTreeMap<(usize, usize), VecDeque<wire::Log>>,
    links: BTreeSet<(usize, usize)>,
    refused: usize,
    entries_sent: usize,
}

impl Net {
    fn new(count: u8, seed: u64) -> Self {
        let mut founding = founding(count, seed);
        let devices = (0..count as usize)
            .map(|n| {
                let records = founding.records.clone();
                founding.device(n, records)
            })
            .collect();
        Self::of(founding, devices)
    }

    fn of(founding: Founding, devices: Vec<Sim>) -> Self {
        let ids = founding.keys.iter().map(DeviceKeys::id).collect();
        Self { founding, devices, ids, queues: BTreeMap::new(), links: BTreeSet::new(), refused: 0, entries_sent: 0 }
    }

    fn link(&mut self, a: usize, b: usize) {
        if self.links.insert((a.min(b), a.max(b))) {
            self.devices[a].connect(self.ids[b]).unwrap();
            self.devices[b].connect(self.ids[a]).unwrap();
            self.collect(a);
            self.collect(b);
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        if self.links.remove(&(a.min(b), a.max(b))) {
            self.devices[a].disconnect(self.ids[b]);
            self.devices[b].disconnect(self.ids[a]);
            self.queues.remove(&(a, b));
            self.queues.remove(&(b, a));
        }
    }

    /// Puts what a device wants to say into the queues.
    fn collect(&mut self, from: usize) {
        while let Some(action) = self.devices[from].poll_action() {
            match action {
                Action::Send { peer, message } => {
                    let to = self.ids.iter().position(|id| *id == peer).unwrap();
                    let message = wire::Log::from_bytes(&message.to_bytes()).unwrap();
                    self.devices[from].handle_sent(peer, message.entries_len()).unwrap();
                    if let wire::Log::Entries(entries) = &message {
                        self.entries_sent += entries.len();
                    }
                    self.queues.entry((from, to)).or_default().push_back(message);
                }
                Action::Refuse { .. } => self.refused += 1,
                Action::Plan(_) | Action::Stopped | Action::Discrepancies => {}
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize) {
        if let Some(message) = self.queues.get_mut(&(from, to)).and_then(VecDeque::pop_front) {
            self.devices[to].handle_message(self.ids[from], message).unwrap();
            self.collect(to);
        }
    }

    fn settle(&mut self) {
        while let Some((pair, _)) = self.queues.iter().find(|(_, queue)| !queue.is_empty()) {
            let (from, to) = *pair;
            self.deliver(from, to);
        }
    }

    /// A user's new directory on a device.
    fn make(&mut self, at: usize, text: &str) {
        let outcome = creation(&self.devices[at].shelf().state(), self.devices[at].log(), text);
        self.devices[at].append(vec![Found::Decided(outcome).into()], &mut self.founding.rng).unwrap();
        self.collect(at);
    }

    fn index(&self, at: usize) -> MemoryIndex {
        self.devices[at].shelf().state().index
    }

    fn frontier(&self, at: usize) -> Frontier {
        self.devices[at].frontier().unwrap()
    }
}

fn names(index: &MemoryIndex) -> BTreeSet<Name> {
    index.items().values().filter_map(|item| item.winning_place()).map(|(_, place)| place.name.clone()).collect()
}

#[test]
fn two_devices_exchange_what_each_made_before_they_met() {
    let mut net = Net::new(2, 1);
    net.make(0, "a");
    net.make(1, "b");
    net.link(0, 1);
    net.settle();
    assert_eq!(names(&net.index(0)).len(), 2);
    assert_eq!(net.index(0), net.index(1));
    assert_eq!(net.entries_sent, 4, "each sends its start and its creation, once");
}

#[test]
fn devices_converge_however_links_are_cut_and_messages_delayed() {
    for seed in 0..40 {
        let mut net = Net::new(4, seed);
        let mut rng = ChaCha20Rng::seed_from_u64(seed ^ 0x5eed);
        let mut below = |n: u32| (rng.next_u32() % n) as usize;
        for step in 0..150 {
            let (a, b) = (below(4), below(4));
            match below(8) {
                0 | 1 if a != b => net.link(a, b),
                2 if a != b => net.cut(a, b),
                3 => net.make(a, &format!("{step}-{a}")),
                _ if a != b => net.deliver(a, b),
                _ => {}
            }
        }
        for a in 0..4 {
            for b in a + 1..4 {
                net.link(a, b);
            }
        }
        net.settle();
        for device in 1..4 {
            assert_eq!(net.index(0), net.index(device), "seed {seed}");
            assert_eq!(net.frontier(0), net.frontier(device), "seed {seed}");
        }
    }
}

#[test]
fn the_store_on_redb_keeps_what_the_memory_shelf_keeps() {
    let mut founding = founding(2, 11);
    let records = founding.records.clone();
    let mut memory = founding.device(0, records.clone());
    let keys = founding.keys[1].clone();
    let identity = founding.identity(1);
    let backend = redb::backends::InMemoryBackend::new();
    let store = SpaceStore::with_backend(backend, founding.space).unwrap();
    let mut stored = Replica::open(store, records, identity, &mut founding.rng).unwrap();
    for n in 0..20 {
        let outcome = creation(&memory.shelf().state(), memory.log(), &format!("m{n}"));
        memory.append(vec![Found::Decided(outcome).into()], &mut founding.rng).unwrap();
    }
    let (a, b) = (founding.keys[0].id(), keys.id());
    memory.connect(b).unwrap();
    stored.connect(a).unwrap();
    loop {
        let mut is_quiet = true;
        while let Some(action) = memory.poll_action() {
            if let Action::Send { message, .. } = action {
                stored.handle_message(a, message).unwrap();
                is_quiet = false;
            }
        }
        while let Some(action) = stored.poll_action() {
            if let Action::Send { message, .. } = action {
                memory.handle_message(b, message).unwrap();
                is_quiet = false;
            }
        }
        if is_quiet {
            break;
        }
    }
    let snapshot = stored.shelf().snapshot().unwrap();
    let state = memory.shelf().state();
    assert_eq!(LogRead::frontier(&snapshot).unwrap(), memory.frontier().unwrap());
    let items: BTreeMap<FileId, _> = snapshot.items_after(None, 1_000).unwrap().into_iter().collect();
    assert_eq!(&items, state.index.items());
    let theirs = snapshot.peer_frontier(a).unwrap().unwrap();
    assert_eq!(SignedFrontier::decode(founding.space, &theirs).unwrap().frontier, memory.frontier().unwrap());
    assert_eq!(snapshot.pending_count().unwrap(), 20);
}

#[test]
fn peers_are_in_sync_when_frontiers_are_equal_and_both_trees_show_them() {
    let mut net = Net::new(2, 2);
    net.make(0, "a");
    net.link(0, 1);
    net.settle();
    assert!(!net.devices[0].is_in_sync(net.ids[1]).unwrap());
    for at in 0..2 {
        let shown = net.devices[at].frontier().unwrap();
        net.devices[at].set_materialised(Some(&shown)).unwrap();
        net.collect(at);
    }
    net.settle();
    assert!(net.devices[0].is_in_sync(net.ids[1]).unwrap() && net.devices[1].is_in_sync(net.ids[0]).unwrap());
    net.make(1, "b");
    net.settle();
    assert!(!net.devices[0].is_in_sync(net.ids[1]).unwrap(), "the peer's tree shows less");
}

#[test]
fn a_device_that_one_member_added_is_accepted_by_the_others() {
    let mut founding = founding(3, 3);
    let all = founding.records.clone();
    // Device 1 was added first; it has not heard of device 2.
    let mut early = Records::begin(founding.genesis.clone());
    let first = all.lacked_by(&early.heads()).next().unwrap().to_vec();
    early.insert(&first).unwrap();
    let device0 = founding.device(0, all.clone());
    let device1 = founding.device(1, early);
    let device2 = founding.device(2, all);
    let mut net = Net::of(founding, vec![device0, device1, device2]);
    net.make(1, "b");
    net.make(2, "c");
    net.link(1, 2);
    net.settle();
    assert_eq!(net.refused, 0);
    assert_eq!(net.index(1), net.index(2));
}

#[test]
fn threat_31_a_stranger_is_refused_and_told_nothing() {
    let mut net = Net::new(2, 4);
    net.make(0, "secret");
    let stranger = DeviceKeys::from_seed(Secret::new([0x77; 32])).id();
    net.devices[0].connect(stranger).unwrap();
    assert_eq!(net.devices[0].poll_action(), None, "not even records");
    let frontier = SignedFrontier::sign(&net.founding.keys[1].signing_key(), net.founding.space, Frontier::default());
    let message = wire::Log::Frontier(ByteBuf::from(frontier.unwrap().as_bytes()));
    let answer = net.devices[0].handle_message(stranger, message);
    assert!(matches!(answer, Err(ReplicaError::Violation(Violation::OutOfTurn))));
    let records = wire::Log::Records { heads: Vec::new(), records: Vec::new() };
    net.devices[0].handle_message(stranger, records).unwrap();
    assert_eq!(net.devices[0].poll_action(), Some(Action::Refuse { peer: stranger }));
    assert_eq!(net.devices[0].poll_action(), None);
}

#[test]
fn a_frontier_that_another_device_signed_is_refused() {
    let mut net = Net::new(3, 5);
    net.link(0, 1);
    net.settle();
    let foreign = SignedFrontier::sign(&net.founding.keys[2].signing_key(), net.founding.space, Frontier::default());
    let message = wire::Log::Frontier(ByteBuf::from(foreign.unwrap().as_bytes()));
    let answer = net.devices[0].handle_message(net.ids[1], message);
    assert!(matches!(answer, Err(ReplicaError::Violation(Violation::ForeignFrontier))));
}

#[test]
fn threat_10_an_entry_with_a_flipped_bit_is_refused_and_changes_nothing() {
    let mut net = Net::new(2, 6);
    net.make(1, "b");
    let state = net.devices[1].shelf().state();
    let point = zerocloud_crdt::log::EntryPoint { log: net.devices[1].log(), number: 1 };
    let bytes = state.entry_bytes(point).unwrap().unwrap();
    net.link(0, 1);
    let before = net.frontier(0);
    for at in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let message = wire::Log::Entries(vec![ByteBuf::from(flipped)]);
        let answer = net.devices[0].handle_message(net.ids[1], message);
        assert!(matches!(answer, Err(ReplicaError::Violation(Violation::Entry(_)))), "byte {at}");
    }
    assert_eq!(net.frontier(0), before);
    assert_eq!(net.devices[0].stop(), None);
}

#[test]
fn threat_44_entries_without_their_past_wait_within_bounds_and_are_applied_when_it_comes() {
    let mut net = Net::new(2, 7);
    for n in 0..5 {
        net.make(1, &format!("{n}"));
    }
    net.link(0, 1);
    let log = net.devices[1].log();
    let shelf = net.devices[1].shelf().state();
    let entry =
        |number| ByteBuf::from(shelf.entry_bytes(zerocloud_crdt::log::EntryPoint { log, number }).unwrap().unwrap());
    let backwards: Vec<ByteBuf> = (1..=6).rev().map(entry).collect();
    net.devices[0].handle_message(net.ids[1], wire::Log::Entries(backwards)).unwrap();
    assert_eq!(net.frontier(0).number(log), 6);
}

#[test]
fn what_is_sent_to_a_slow_peer_is_bounded() {
    let mut net = Net::new(2, 9);
    for n in 0..30 {
        net.make(0, &format!("{n}"));
    }
    let id = net.ids[1];
    net.devices[0].connect(id).unwrap();
    let frontier = SignedFrontier::sign(&net.founding.keys[1].signing_key(), net.founding.space, Frontier::default());
    let message = wire::Log::Frontier(ByteBuf::from(frontier.unwrap().as_bytes()));
    net.devices[0].handle_message(id, message).unwrap();
    let mut sent = 0;
    while let Some(action) = net.devices[0].poll_action() {
        if let Action::Send { message: wire::Log::Entries(entries), .. } = action {
            sent += entries.len();
        }
    }
    assert_eq!(sent, 31, "what fits the window goes at once");
}

#[test]
fn a_device_that_is_let_in_is_shown_to_everyone_once() {
    let mut net = Net::new(3, 61);
    net.link(0, 1);
    net.link(1, 2);
    net.settle();
    let space = net.founding.space;
    let keys = DeviceKeys::from_seed(Secret::new([100; 32]));
    let introduction = Introduction::make(&keys, net.ids[0], space);
    let mut counts = Vec::new();
    for _ in 0..2 {
        net.devices[0].admit(introduction.clone(), false, Role::Editor, &mut net.founding.rng).unwrap();
        net.collect(0);
        net.settle();
        counts.push(net.devices.iter().map(|device| device.records().count()).collect::<Vec<_>>());
    }
    assert_eq!(counts, [[4; 3]; 2], "letting in again writes nothing");
    assert!(net.devices.iter().all(|device| device.is_member(keys.id())));
    let kept = &net.devices[0].shelf().state().records;
    assert!(kept.contains_key(&net.devices[0].records().heads()[0]));

    for (is_own, role) in [(true, Role::Editor), (false, Role::Viewer)] {
        let again = net.devices[0].admit(introduction.clone(), is_own, role, &mut net.founding.rng);
        assert!(matches!(again, Err(AdmitError::OtherStanding)));
    }
}

#[test]
fn a_member_lets_in_what_its_role_allows() {
    let mut net = Net::new(2, 62);
    let space = net.founding.space;
    let keys = DeviceKeys::from_seed(Secret::new([100; 32]));
    let introduction = Introduction::make(&keys, net.ids[1], space);
    let rng = &mut net.founding.rng;
    let other = net.devices[1].admit(introduction.clone(), false, Role::Viewer, rng);
    assert!(matches!(other, Err(AdmitError::Record(InsertError::NoRight(AddRefusal::NotOwner)))));
    assert!(matches!(net.devices[1].welcome(keys.id(), rng), Err(AdmitError::NotAdmitted)));
    net.devices[1].admit(introduction, true, Role::Owner, rng).unwrap();
    let table = net.devices[1].records().table().unwrap();
    let (us, device) = (table.row(net.ids[1]).unwrap().given, table.row(keys.id()).unwrap().given);
    assert_eq!((device.person, device.role), (us.person, Role::Editor), "no more than its inviter has");
    assert!(device.rank > us.rank);

    // What was signed for one inviter serves no other.
    let stolen = Introduction::make(&DeviceKeys::from_seed(Secret::new([101; 32])), net.ids[1], space);
    assert!(matches!(net.devices[0].admit(stolen, false, Role::Viewer, rng), Err(AdmitError::Record(_))));
    assert_eq!(net.devices[0].records().count(), 2);
}

#[test]
fn a_welcome_has_every_record_and_secrets_for_who_reads() {
    let mut net = Net::new(2, 63);
    let space = net.founding.space;
    for (seed, role) in [(100, Role::Viewer), (101, Role::Keeper)] {
        let keys = DeviceKeys::from_seed(Secret::new([seed; 32]));
        let introduction = Introduction::make(&keys, net.ids[0], space);
        let rng = &mut net.founding.rng;
        net.devices[0].admit(introduction, false, role, rng).unwrap();
        let welcome = net.devices[0].welcome(keys.id(), rng).unwrap();
        let (genesis, later) = welcome.records.split_first().unwrap();
        let mut records = Records::new(space, genesis).unwrap();
        assert!(later.iter().all(|record| matches!(records.insert(record), Ok(Inserted::Kept(_)))));
        assert_eq!(records.heads(), net.devices[0].records().heads());
        let opened: Vec<_> = welcome.grants.iter().map(|bytes| grant::open(bytes, &keys, &records).unwrap()).collect();
        assert_eq!(opened.len(), usize::from(role.can_read()));
        assert!(opened.iter().all(|secret| secret.secret().expose() == net.founding.secret.secret().expose()));
        let signed = SignedFrontier::decode(space, &welcome.frontier).unwrap();
        assert_eq!((signed.device, signed.frontier), (net.ids[0], net.frontier(0)));
    }
}
