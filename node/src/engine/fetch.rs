//! Which chunk to ask of whom next.
//!
//! A policy without a peer: jobs (files that are wanted, as lists of chunks) come in, requests for connected peers
//! come out, answers are handed back. Small files go first, so that a tree fills up while a large file is on its way;
//! several peers are asked at once, each within a window of bytes; what one peer lacks is asked of the others, and what
//! was asked of a peer that left is asked again elsewhere. What several files have is asked for where one of them has it,
//! and, of peers that all lack that, where the others do. Who fetches the same file is asked for what it has of it
//! (`sharing`). Opening, checking and writing chunks is the driver's.

mod sharing;

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::id::{ChunkId, DeviceId, EpochId};
use zerocloud_crdt::limits::REQUEST_COUNT_MAX;
use zerocloud_crdt::mutated;
use zerocloud_crdt::wire::{Ask, Request, What, Whereabouts};

use self::sharing::{OURS, SHARED_COUNT_MIN, Sharing, Slot};

/// Bytes of plaintext that are asked of one peer and not yet here: a long path's worth (75 MiB/s at 200 ms).
pub const WINDOW_LEN: u64 = 16 << 20;
/// What a chunk counts for in the window beside its bytes: frames, tags, the look-up at the other side.
const CHUNK_OVERHEAD_LEN: u64 = 1 << 10;
/// Asks of one request, so that answers begin before a long list was read.
const ASK_COUNT_MAX: usize = 128;
const _: () = assert!(ASK_COUNT_MAX <= REQUEST_COUNT_MAX);

/// Names a job: given by the caller, unique while the job lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// One chunk or page that a job wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Chunk or manifest page.
    pub what: What,
    /// Under which epoch it is named and sealed.
    pub epoch: EpochId,
    /// Its address.
    pub id: ChunkId,
    /// Where members find the plaintext.
    pub at: Whereabouts,
}

/// What became of an ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was asked for.
    pub want: Want,
    /// The jobs that want it.
    pub jobs: Vec<JobId>,
}

/// Why a peer does not give what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// It knows of no file or version here that has it.
    Missing,
    /// It knows of one, and can't read it now: the disk is away, the file changed since it was scanned, or it is still
    /// being fetched.
    NotNow,
}

/// A peer answered something that it was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer answered what it was not asked")]
pub struct NotAsked;

/// What a thing is known by: the same chunk in two files is fetched once.
type Key = (EpochId, ChunkId);
/// A place in the queue, smallest job first: bytes of the job, job, fetcher of the chunk, ordinal.
type Rank = (u64, JobId, Slot, u64);

/// The state of everything that is wanted.
#[derive(Debug)]
pub struct Fetch {
    us: DeviceId,
    wants: BTreeMap<Key, State>,
    /// What is not asked of anybody.
    queue: BTreeMap<Rank, Key>,
    jobs: BTreeMap<JobId, Job>,
    /// Those of them that are shared: few, where thousands of small ones are on their way.
    shared: BTreeSet<JobId>,
    peers: BTreeMap<DeviceId, PeerState>,
    /// Jobs of which something can't be had from anyone connected.
    starved: BTreeSet<JobId>,
}

#[derive(Debug)]
struct Job {
    /// Its length, in bytes.
    len: u64,
    /// What it still lacks.
    lacks: BTreeSet<Key>,
    /// Who may have what of it; `None` for a small one.
    sharing: Option<Sharing>,
}

#[derive(Debug)]
struct State {
    what: What,
    /// Who wants it, and where it is in the file of each.
    jobs: BTreeMap<JobId, Whereabouts>,
    /// Its place in the queue; the queue no longer has it while it is asked of a peer.
    rank: Rank,
    is_asked: bool,
    /// Peers that did not give it, for which jobs they were asked, and in which round of the job.
    refused: BTreeMap<DeviceId, BTreeMap<JobId, (Lack, u64)>>,
}

/// The round of a job: what was not there in an earlier one may have come.
fn round_of(jobs: &BTreeMap<JobId, Job>, job: JobId) -> u64 {
    jobs.get(&job).and_then(|job| job.sharing.as_ref()).map_or(0, Sharing::round)
}

impl State {
    /// For which job a peer is to be asked, if it may be: one after the other, once all `others` refused it, too.
    fn next_job(&self, peer: DeviceId, others: &BTreeSet<DeviceId>, all: &BTreeMap<JobId, Job>) -> Option<JobId> {
        let Some(refused) = self.refused.get(&peer) else { return self.jobs.keys().next().copied() };
        let may_have_come = |job: &JobId| refused.get(job).is_some_and(|(_, round)| *round < round_of(all, *job));
        if let Some(job) = self.jobs.keys().find(|job| may_have_come(job)) {
            return Some(*job);
        }
        let mut jobs = self.jobs.keys().filter(|job| !refused.contains_key(job));
        if others.iter().all(|other| self.refused.contains_key(other)) { jobs.next().copied() } else { None }
    }

    /// What a peer said to a job.
    fn lack(&self, peer: DeviceId, job: JobId) -> Option<Lack> {
        self.refused.get(&peer)?.get(&job).map(|(lack, _)| *lack)
    }

    /// Whether a peer said in this round of a job that it does not have it.
    fn is_denied(&self, peer: DeviceId, job: JobId, all: &BTreeMap<JobId, Job>) -> bool {
        let said = self.refused.get(&peer).and_then(|refused| refused.get(&job));
        said.is_some_and(|(_, round)| *round == round_of(all, job))
    }
}

#[derive(Debug, Default)]
struct PeerState {
    next_ask: u64,
    asked: BTreeMap<u64, Asked>,
    in_flight_len: u64,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    /// For which job, whose file is named.
    job: JobId,
    /// The job in whose place of the queue it stood.
    home: JobId,
    want: Want,
}

impl Fetch {
    /// Wants nothing and knows nobody. `us`: this device.
    pub fn new(us: DeviceId) -> Self {
        let (wants, queue, jobs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (shared, peers, starved) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        Self { us, wants, queue, jobs, shared, peers, starved }
    }

    /// Adds a job. What it wants and another job wants, too, is fetched once.
    pub fn add_job(&mut self, job: JobId, wants: Vec<Want>) {
        let len = wants.iter().map(|want| u64::from(want.at.len)).sum();
        let lacks = wants.iter().map(|want| (want.epoch, want.id)).collect();
        let sharing = (wants.len() >= SHARED_COUNT_MIN).then(|| Sharing::new(self.us));
        if sharing.is_some() {
            self.shared.insert(job);
        }
        self.jobs.insert(job, Job { len, lacks, sharing });
        for want in wants {
            let key = (want.epoch, want.id);
            let rank = (len, job, OURS, want.at.ordinal);
            let state = self.wants.entry(key).or_insert_with(|| {
                self.queue.insert(rank, key);
                let (what, jobs, refused) = (want.what, BTreeMap::new(), BTreeMap::new());
                State { what, jobs, rank, is_asked: false, refused }
            });
            state.jobs.entry(job).or_insert(want.at);
        }
    }

    /// Takes a job out; what only it wanted is not asked for any more. Answers on their way are accepted.
    pub fn remove_job(&mut self, job: JobId) {
        let Some(Job { lacks, .. }) = self.jobs.remove(&job) else { return };
        self.starved.remove(&job);
        self.shared.remove(&job);
        for key in lacks {
            if let Some(state) = self.wants.get_mut(&key) {
                state.jobs.remove(&job);
                if state.jobs.is_empty() && !state.is_asked {
                    self.queue.remove(&state.rank);
                    self.wants.remove(&key);
                }
            }
        }
    }

    /// A peer that may have chunks is there.
    pub fn connect(&mut self, peer: DeviceId) {
        self.peers.entry(peer).or_default();
        self.starved.clear();
    }

    /// A peer is gone: what it was asked is asked of others, and what it lacked it may have when it comes back. It may have
    /// been the last that could have something: see [`Fetch::take_starved`].
    pub fn disconnect(&mut self, peer: DeviceId) {
        let asked = self.peers.remove(&peer).map(|gone| gone.asked).unwrap_or_default();
        for job in self.shared.clone() {
            let sharing = self.jobs.get_mut(&job).and_then(|job| job.sharing.as_mut());
            if sharing.is_some_and(|sharing| sharing.forget(peer)) {
                self.rank_anew(job);
            }
        }
        let asked = asked.into_values().filter(|_| !mutated!(LostAsks));
        asked.for_each(|Asked { want, .. }| self.requeue((want.epoch, want.id)));
        for state in self.wants.values_mut() {
            state.refused.remove(&peer);
        }
        if !self.peers.is_empty() {
            let wants = self.wants.values();
            let starved = wants.flat_map(|state| state.jobs.keys().filter(|job| self.is_starved(state, **job)));
            let starved: Vec<JobId> = starved.copied().collect();
            self.starved.extend(starved);
        }
    }

    fn requeue(&mut self, key: Key) {
        if let Some(state) = self.wants.get_mut(&key) {
            state.is_asked = false;
            if state.jobs.is_empty() {
                self.wants.remove(&key);
            } else {
                let sharing = self.jobs.get(&state.rank.1).and_then(|job| job.sharing.as_ref());
                state.rank.2 = sharing.map_or(OURS, |sharing| sharing.slot_of(&key.1));
                self.queue.insert(state.rank, key);
            }
        }
    }

    /// Gives what a job has in the queue its places after its chunks got other fetchers.
    fn rank_anew(&mut self, job: JobId) {
        let Some(len) = self.jobs.get(&job).map(|job| job.len) else { return };
        let all = (len, job, Slot::MIN, u64::MIN)..=(len, job, Slot::MAX, u64::MAX);
        let queued: Vec<(Rank, Key)> = self.queue.range(all).map(|(rank, key)| (*rank, *key)).collect();
        for (rank, key) in queued {
            self.queue.remove(&rank);
            self.requeue(key);
        }
    }

    /// The next request, and whom to ask.
    pub fn poll_request(&mut self) -> Option<(DeviceId, Request)> {
        let mut idlest: Vec<(u64, DeviceId)> = self
            .peers
            .iter()
            .map(|(id, peer)| (peer.in_flight_len, *id))
            .filter(|(len, _)| *len < WINDOW_LEN)
            .collect();
        idlest.sort_unstable();
        loop {
            let next = idlest.iter().find_map(|(_, peer)| Some((*peer, self.request_of(*peer)?)));
            if next.is_some() || !self.unbind() {
                return next;
            }
        }
    }

    /// Lets jobs of which nothing is under way ask whom they can; says whether one could not before.
    fn unbind(&mut self) -> bool {
        let mut is_news = false;
        if self.peers.len() < 2 {
            return is_news;
        }
        for id in &self.shared {
            let Some(job) = self.jobs.get_mut(id) else { continue };
            if let Some(sharing) = &mut job.sharing {
                let all = (job.len, *id, Slot::MIN, u64::MIN)..=(job.len, *id, Slot::MAX, u64::MAX);
                is_news |= self.queue.range(all).next().is_some() && sharing.unbind();
            }
        }
        is_news
    }

    fn request_of(&mut self, id: DeviceId) -> Option<Request> {
        let others: BTreeSet<DeviceId> = self.peers.keys().filter(|other| **other != id).copied().collect();
        let peer = self.peers.get_mut(&id)?;
        let first = peer.next_ask;
        let mut asks = Vec::new();
        let mut from: Rank = (0, JobId(0), Slot::MIN, 0);
        while let Some((&rank, &key)) = self.queue.range(from..).next() {
            let (len, home, slot, ordinal) = rank;
            let sharing = self.jobs.get(&home).and_then(|job| job.sharing.as_ref()).filter(|_| !others.is_empty());
            if sharing.is_some_and(|sharing| !sharing.may_ask(id, slot)) {
                match slot.checked_add(1) {
                    Some(next) => from = (len, home, next, 0),
                    None => from = (len, JobId(home.0.saturating_add(1)), Slot::MIN, 0),
                }
                continue;
            }
            from = (len, home, slot, ordinal.saturating_add(1));
            let Some(state) = self.wants.get_mut(&key) else { continue };
            let next = state.next_job(id, &others, &self.jobs).and_then(|job| Some((job, *state.jobs.get(&job)?)));
            let Some((job, at)) = next else { continue };
            state.is_asked = true;
            self.queue.remove(&rank);
            if let Some(sharing) = self.jobs.get_mut(&home).and_then(|job| job.sharing.as_mut()) {
                sharing.note_asked(id);
            }
            let want = Want { what: state.what, epoch: key.0, id: key.1, at };
            peer.asked.insert(peer.next_ask, Asked { job, home, want });
            peer.next_ask += 1;
            peer.in_flight_len += u64::from(at.len) + CHUNK_OVERHEAD_LEN;
            asks.push(Ask { what: want.what, epoch: want.epoch, id: want.id, at: Some(at) });
            if asks.len() == ASK_COUNT_MAX || peer.in_flight_len >= WINDOW_LEN {
                break;
            }
        }
        (!asks.is_empty()).then_some(Request { first, asks })
    }

    /// Whether a peer was asked something that it has not answered.
    pub fn is_owing(&self, peer: DeviceId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| !peer.asked.is_empty())
    }

    /// What an ask of a peer was for, without ending it: the driver opens and checks the answer first.
    ///
    /// # Errors
    /// [`NotAsked`] if the peer was not asked this, or answered already.
    pub fn asked(&self, peer: DeviceId, ask: u64) -> Result<Want, NotAsked> {
        let Asked { want, .. } = self.peers.get(&peer).and_then(|peer| peer.asked.get(&ask)).ok_or(NotAsked)?;
        if self.wants.contains_key(&(want.epoch, want.id)) { Ok(*want) } else { Err(NotAsked) }
    }

    /// A peer's answer was opened and is what was asked for.
    ///
    /// # Errors
    /// [`NotAsked`] if the peer was not asked this, or answered already.
    pub fn handle_chunk(&mut self, peer: DeviceId, ask: u64) -> Result<Answered, NotAsked> {
        let Asked { home, want, .. } = self.end(peer, ask)?;
        if let Some(sharing) = self.jobs.get_mut(&home).and_then(|job| job.sharing.as_mut()) {
            sharing.note_arrived(peer);
        }
        let key = (want.epoch, want.id);
        let state = self.wants.remove(&key).ok_or(NotAsked)?;
        for job in state.jobs.keys() {
            if let Some(job) = self.jobs.get_mut(job) {
                job.lacks.remove(&key);
            }
        }
        Ok(Answered { want, jobs: state.jobs.into_keys().collect() })
    }

    /// A peer does not give it, or its answer did not open: it is asked of others.
    ///
    /// # Errors
    /// [`NotAsked`] if the peer was not asked this, or answered already.
    pub fn handle_missing(&mut self, peer: DeviceId, ask: u64, lack: Lack) -> Result<(), NotAsked> {
        let Asked { job, home, want } = self.end(peer, ask)?;
        let key = (want.epoch, want.id);
        let round = round_of(&self.jobs, job);
        if let Some(state) = self.wants.get_mut(&key) {
            state.refused.entry(peer).or_default().insert(job, (lack, round));
        }
        if let Some(state) = self.wants.get(&key) {
            let starved: Vec<JobId> = state.jobs.keys().filter(|job| self.is_starved(state, **job)).copied().collect();
            self.starved.extend(starved);
        }
        self.requeue(key);
        let sharing = self.jobs.get_mut(&home).and_then(|job| job.sharing.as_mut());
        if sharing.is_some_and(|sharing| sharing.note_denied(peer, lack == Lack::NotNow)) {
            self.rank_anew(home);
        }
        Ok(())
    }

    fn end(&mut self, peer: DeviceId, ask: u64) -> Result<Asked, NotAsked> {
        let state = self.peers.get_mut(&peer).ok_or(NotAsked)?;
        let asked = state.asked.remove(&ask).ok_or(NotAsked)?;
        let len = u64::from(asked.want.at.len) + CHUNK_OVERHEAD_LEN;
        state.in_flight_len = state.in_flight_len.saturating_sub(len);
        if let Some(sharing) = self.jobs.get_mut(&asked.home).and_then(|job| job.sharing.as_mut()) {
            sharing.note_answered(peer);
        }
        Ok(asked)
    }

    /// A chunk that came by itself, or was found on this disk: the jobs that want it.
    pub fn handle_found(&mut self, epoch: EpochId, id: ChunkId) -> Option<Answered> {
        let state = self.wants.get_mut(&(epoch, id))?;
        let wanting = std::mem::take(&mut state.jobs);
        let want = Want { what: state.what, epoch, id, at: *wanting.values().next()? };
        let jobs: Vec<JobId> = wanting.into_keys().collect();
        for job in &jobs {
            if let Some(job) = self.jobs.get_mut(job) {
                job.lacks.remove(&(epoch, id));
            }
        }
        if !state.is_asked {
            self.queue.remove(&state.rank);
            self.wants.remove(&(epoch, id));
        }
        Some(Answered { want, jobs })
    }

    /// Whether a job lacks nothing any more.
    pub fn is_complete(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|job| job.lacks.is_empty())
    }

    /// Jobs of which nobody who is connected has something.
    pub const fn starved(&self) -> &BTreeSet<JobId> {
        &self.starved
    }

    /// Takes out the jobs of which nobody who is connected has something, each with who denied to have it.
    pub fn take_starved(&mut self) -> Vec<(JobId, BTreeSet<DeviceId>)> {
        let starved: Vec<JobId> = self.starved.iter().copied().collect();
        let denied = starved.into_iter().map(|job| {
            let deniers = self.deniers(job);
            self.remove_job(job);
            (job, deniers)
        });
        denied.collect()
    }

    /// Who can be asked and, of a job that starves, said to have nothing of what is wanting: not for now alone.
    fn deniers(&self, job: JobId) -> BTreeSet<DeviceId> {
        let keys = self.jobs.get(&job).into_iter().flat_map(|job| &job.lacks);
        let states: Vec<&State> = keys.filter_map(|key| self.wants.get(key)).collect();
        let has_hope = |peer: &DeviceId| states.iter().any(|state| state.lack(*peer, job) == Some(Lack::NotNow));
        self.peers.keys().filter(|peer| !has_hope(peer)).copied().collect()
    }

    /// Whether all who can be asked said that they do not have what a job wants.
    fn is_starved(&self, state: &State, job: JobId) -> bool {
        self.peers.keys().all(|peer| state.is_denied(*peer, job, &self.jobs))
    }

    /// How many chunks and pages are still to come.
    pub fn missing_count(&self) -> usize {
        self.wants.values().filter(|state| !state.jobs.is_empty()).count()
    }
}

#[cfg(test)]
mod tests;
