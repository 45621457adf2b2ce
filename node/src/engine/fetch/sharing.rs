//! How devices that fetch the same file at the same time serve each other, so that the one that has it sends it about once.
//!
//! Nobody announces anything. Who says "not now" to a chunk of a file is fetching it, too, and each chunk then has one
//! *fetcher* among those and us: the one whose key and the chunk's id make the largest number, which all work out alike.
//! It is the one that asks those who have the file; the others ask it. Who follows the numbers from device to device
//! comes to one that asks a source, even where not all know each other. A device that leaves or does nothing holds
//! nobody up: what it owes is asked of sources a little at a time, and of anybody once nothing else is under way.

use std::collections::BTreeMap;

use zerocloud_crdt::id::{ChunkId, DeviceId};

/// From so many chunks on a job is shared. What is smaller has come before anybody could be asked a second time.
pub(super) const SHARED_COUNT_MIN: usize = 2;
/// Chunks that a peer is asked for before its first answer. Grows by one with each chunk that it gives.
const FIRST_ALLOWANCE: u32 = 8;
/// The most for a peer that is fetching: who has a slow line owes no more than this at the end.
const FETCHING_ALLOWANCE_MAX: u32 = 16;
/// Chunks that a source is asked for at a time though another is their fetcher, which does not have them yet or owes many,
/// once our own are here.
const SPARE_COUNT: u32 = 2;
/// After how many chunks of a job those who did not have one are asked again. More often in the beginning, when all learn
/// of each other.
const ROUND_COUNT: u64 = 16;

/// The fetcher of a chunk: 0 is us.
pub(super) type Slot = u16;
/// Our own.
pub(super) const OURS: Slot = 0;

/// What is known of those who may be asked for the chunks of one job.
#[derive(Debug)]
pub(super) struct Sharing {
    us: DeviceId,
    peers: BTreeMap<DeviceId, Standing>,
    /// Who is fetching the same, by slot.
    fetching: BTreeMap<Slot, DeviceId>,
    next_slot: Slot,
    arrived_count: u64,
    /// Counted up when those who did not have a chunk may have it by now.
    round: u64,
    /// Whether fetchers don't matter, until the next chunk comes: nothing was under way.
    is_plain: bool,
}

#[derive(Debug)]
struct Standing {
    /// Its slot, if it is fetching.
    slot: Option<Slot>,
    /// How many chunks it may owe us.
    allowance: u32,
    /// How many it does.
    owed_count: u32,
    /// The round in which it last did not have one.
    denied_in: Option<u64>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { slot: None, allowance: FIRST_ALLOWANCE, owed_count: 0, denied_in: None }
    }
}

impl Sharing {
    pub(super) fn new(us: DeviceId) -> Self {
        let (peers, fetching) = (BTreeMap::new(), BTreeMap::new());
        Self { us, peers, fetching, next_slot: OURS + 1, arrived_count: 0, round: 0, is_plain: false }
    }

    /// Counted up when those who did not have a chunk may be asked again.
    pub(super) const fn round(&self) -> u64 {
        self.round
    }

    /// The fetcher of a chunk.
    pub(super) fn slot_of(&self, chunk: &ChunkId) -> Slot {
        let all = std::iter::once((OURS, &self.us)).chain(self.fetching.iter().map(|(slot, device)| (*slot, device)));
        all.max_by_key(|(_, device)| (weight(device, chunk), **device)).map_or(OURS, |(slot, _)| slot)
    }

    /// Whether a peer may be asked for one more chunk of this fetcher.
    pub(super) fn may_ask(&self, peer: DeviceId, slot: Slot) -> bool {
        if self.is_plain {
            return true;
        }
        let Some(standing) = self.peers.get(&peer) else { return slot == OURS };
        if standing.denied_in == Some(self.round) || standing.owed_count >= standing.allowance {
            return false;
        }
        match standing.slot {
            Some(its) => slot == its,
            None => slot == OURS || (standing.owed_count < SPARE_COUNT && self.is_behind(slot)),
        }
    }

    /// Whether a fetcher did not have a chunk a moment ago, or owes all that it may.
    fn is_behind(&self, slot: Slot) -> bool {
        let standing = self.fetching.get(&slot).and_then(|device| self.peers.get(device));
        standing.is_none_or(|it| it.denied_in == Some(self.round) || it.owed_count >= it.allowance)
    }

    /// A peer was asked for a chunk.
    pub(super) fn note_asked(&mut self, peer: DeviceId) {
        self.peers.entry(peer).or_default().owed_count += 1;
    }

    /// A peer's answer came, whatever it was.
    pub(super) fn note_answered(&mut self, peer: DeviceId) {
        if let Some(standing) = self.peers.get_mut(&peer) {
            standing.owed_count = standing.owed_count.saturating_sub(1);
        }
    }

    /// A peer gave a chunk.
    pub(super) fn note_arrived(&mut self, peer: DeviceId) {
        if let Some(standing) = self.peers.get_mut(&peer) {
            let max = if standing.slot.is_some() { FETCHING_ALLOWANCE_MAX } else { u32::MAX };
            standing.allowance = standing.allowance.saturating_add(1).min(max);
        }
        self.arrived_count += 1;
        self.is_plain = false;
        if self.arrived_count.is_multiple_of(ROUND_COUNT) || self.arrived_count.is_power_of_two() {
            self.round += 1;
        }
    }

    /// A peer does not have a chunk. `is_fetching`: it said that it knows the file. Says whether chunks have other fetchers
    /// now.
    pub(super) fn note_denied(&mut self, peer: DeviceId, is_fetching: bool) -> bool {
        let standing = self.peers.entry(peer).or_default();
        standing.denied_in = Some(self.round);
        standing.allowance = (standing.allowance / 2).max(1);
        if !is_fetching || standing.slot.is_some() || self.next_slot == Slot::MAX {
            return false;
        }
        standing.slot = Some(self.next_slot);
        standing.allowance = standing.allowance.min(FETCHING_ALLOWANCE_MAX);
        self.fetching.insert(self.next_slot, peer);
        self.next_slot += 1;
        true
    }

    /// A peer is gone. Says whether chunks have other fetchers now.
    pub(super) fn forget(&mut self, peer: DeviceId) -> bool {
        let slot = self.peers.remove(&peer).and_then(|standing| standing.slot);
        slot.is_some_and(|slot| self.fetching.remove(&slot).is_some())
    }

    /// Asks anybody for anything from now on, if nothing is under way; says whether that is news.
    pub(super) fn unbind(&mut self) -> bool {
        let is_idle = self.peers.values().all(|standing| standing.owed_count == 0);
        is_idle && !std::mem::replace(&mut self.is_plain, true)
    }
}

/// Whose number is the largest fetches a chunk. Ids of chunks are hashes and those of devices keys, so that the first
/// bytes of both are as good as random; the multiplications spread them (the finaliser of SplitMix64).
fn weight(device: &DeviceId, chunk: &ChunkId) -> u64 {
    let first = |bytes: &[u8; 32]| {
        let [a, b, c, d, e, f, g, h, ..] = *bytes;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    };
    let mut mixed = first(&device.0) ^ first(&chunk.0).rotate_left(32);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
