//! Which chunk to ask of whom next.
//!
//! A policy without a peer: jobs (files that are wanted, as lists of chunks) come in, requests for connected peers
//! come out, answers are handed back. Small files go first, so that a tree fills up while a large file is on its way;
//! several peers are asked at once, each within a window of bytes; what one peer lacks is asked of the others, and what
//! was asked of a peer that left is asked again elsewhere. What several files have is asked for where one of them has it,
//! and, of peers that all lack that, where the others do. Opening, checking and writing chunks is the driver's.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::id::{ChunkId, DeviceId, EpochId};
use zerocloud_crdt::limits::REQUEST_COUNT_MAX;
use zerocloud_crdt::mutated;
use zerocloud_crdt::wire::{Ask, Request, What, Whereabouts};

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
    /// It knows of one, and can't read it now: the disk is away, or the file changed since it was scanned.
    NotNow,
}

/// A peer answered something that it was not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer answered what it was not asked")]
pub struct NotAsked;

/// What a thing is known by: the same chunk in two files is fetched once.
type Key = (EpochId, ChunkId);

/// The state of everything that is wanted.
#[derive(Debug, Default)]
pub struct Fetch {
    wants: BTreeMap<Key, State>,
    /// What is not asked of anybody, smallest job first: (bytes of the job, job, ordinal).
    queue: BTreeMap<(u64, JobId, u64), Key>,
    /// Of each job: its length, and what it still lacks.
    jobs: BTreeMap<JobId, (u64, BTreeSet<Key>)>,
    peers: BTreeMap<DeviceId, PeerState>,
    /// Jobs of which something can't be had from anyone connected.
    starved: BTreeSet<JobId>,
}

#[derive(Debug)]
struct State {
    what: What,
    /// Who wants it, and where it is in the file of each.
    jobs: BTreeMap<JobId, Whereabouts>,
    /// Its place in the queue; the queue no longer has it while it is asked of a peer.
    rank: (u64, JobId, u64),
    is_asked: bool,
    /// Peers that did not give it, and for which jobs they were asked.
    refused: BTreeMap<DeviceId, BTreeMap<JobId, Lack>>,
}

impl State {
    /// For which job a peer is to be asked, if it may be: one after the other, once all `others` refused it, too.
    fn next_job(&self, peer: DeviceId, others: &BTreeSet<DeviceId>) -> Option<JobId> {
        let Some(refused) = self.refused.get(&peer) else { return self.jobs.keys().next().copied() };
        let mut jobs = self.jobs.keys().filter(|job| !refused.contains_key(job));
        if others.iter().all(|other| self.refused.contains_key(other)) { jobs.next().copied() } else { None }
    }

    /// What a peer said to a job.
    fn lack(&self, peer: DeviceId, job: JobId) -> Option<Lack> {
        self.refused.get(&peer)?.get(&job).copied()
    }
}

#[derive(Debug, Default)]
struct PeerState {
    next_ask: u64,
    asked: BTreeMap<u64, (JobId, Want)>,
    in_flight_len: u64,
}

impl Fetch {
    /// Adds a job. What it wants and another job wants, too, is fetched once.
    pub fn add_job(&mut self, job: JobId, wants: Vec<Want>) {
        let len = wants.iter().map(|want| u64::from(want.at.len)).sum();
        let keys = wants.iter().map(|want| (want.epoch, want.id)).collect();
        self.jobs.insert(job, (len, keys));
        for want in wants {
            let key = (want.epoch, want.id);
            let rank = (len, job, want.at.ordinal);
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
        let Some((_, keys)) = self.jobs.remove(&job) else { return };
        self.starved.remove(&job);
        for key in keys {
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
        let asked = asked.into_values().filter(|_| !mutated!(LostAsks));
        asked.for_each(|(_, want)| self.requeue((want.epoch, want.id)));
        for state in self.wants.values_mut() {
            state.refused.remove(&peer);
        }
        if !self.peers.is_empty() {
            let wants = self.wants.values();
            let starved = wants.flat_map(|state| state.jobs.keys().filter(|job| is_starved(&self.peers, state, **job)));
            self.starved.extend(starved);
        }
    }

    fn requeue(&mut self, key: Key) {
        if let Some(state) = self.wants.get_mut(&key) {
            state.is_asked = false;
            if state.jobs.is_empty() {
                self.wants.remove(&key);
            } else {
                self.queue.insert(state.rank, key);
            }
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
        idlest.into_iter().find_map(|(_, peer)| Some((peer, self.request_of(peer)?)))
    }

    fn request_of(&mut self, id: DeviceId) -> Option<Request> {
        let others: BTreeSet<DeviceId> = self.peers.keys().filter(|other| **other != id).copied().collect();
        let peer = self.peers.get_mut(&id)?;
        let first = peer.next_ask;
        let mut asks = Vec::new();
        let mut taken = Vec::new();
        for (rank, key) in &self.queue {
            let Some(state) = self.wants.get_mut(key) else { continue };
            let next = state.next_job(id, &others).and_then(|job| Some((job, *state.jobs.get(&job)?)));
            let Some((job, at)) = next else { continue };
            state.is_asked = true;
            taken.push(*rank);
            let want = Want { what: state.what, epoch: key.0, id: key.1, at };
            peer.asked.insert(peer.next_ask, (job, want));
            peer.next_ask += 1;
            peer.in_flight_len += u64::from(at.len) + CHUNK_OVERHEAD_LEN;
            asks.push(Ask { what: want.what, epoch: want.epoch, id: want.id, at: Some(at) });
            if asks.len() == ASK_COUNT_MAX || peer.in_flight_len >= WINDOW_LEN {
                break;
            }
        }
        for rank in &taken {
            self.queue.remove(rank);
        }
        (!asks.is_empty()).then_some(Request { first, asks })
    }

    /// What an ask of a peer was for, without ending it: the driver opens and checks the answer first.
    ///
    /// # Errors
    /// [`NotAsked`] if the peer was not asked this, or answered already.
    pub fn asked(&self, peer: DeviceId, ask: u64) -> Result<Want, NotAsked> {
        let (_, want) = self.peers.get(&peer).and_then(|peer| peer.asked.get(&ask)).ok_or(NotAsked)?;
        if self.wants.contains_key(&(want.epoch, want.id)) { Ok(*want) } else { Err(NotAsked) }
    }

    /// A peer's answer was opened and is what was asked for.
    ///
    /// # Errors
    /// [`NotAsked`] if the peer was not asked this, or answered already.
    pub fn handle_chunk(&mut self, peer: DeviceId, ask: u64) -> Result<Answered, NotAsked> {
        let (_, want) = self.end(peer, ask)?;
        let key = (want.epoch, want.id);
        let state = self.wants.remove(&key).ok_or(NotAsked)?;
        for job in state.jobs.keys() {
            if let Some((_, lacks)) = self.jobs.get_mut(job) {
                lacks.remove(&key);
            }
        }
        Ok(Answered { want, jobs: state.jobs.into_keys().collect() })
    }

    /// A peer does not give it, or its answer did not open: it is asked of others.
    ///
    /// # Errors
    /// [`NotAsked`] if the peer was not asked this, or answered already.
    pub fn handle_missing(&mut self, peer: DeviceId, ask: u64, lack: Lack) -> Result<(), NotAsked> {
        let (job, want) = self.end(peer, ask)?;
        let key = (want.epoch, want.id);
        if let Some(state) = self.wants.get_mut(&key) {
            state.refused.entry(peer).or_default().insert(job, lack);
            self.starved.extend(state.jobs.keys().filter(|job| is_starved(&self.peers, state, **job)));
        }
        self.requeue(key);
        Ok(())
    }

    fn end(&mut self, peer: DeviceId, ask: u64) -> Result<(JobId, Want), NotAsked> {
        let peer = self.peers.get_mut(&peer).ok_or(NotAsked)?;
        let (job, want) = peer.asked.remove(&ask).ok_or(NotAsked)?;
        let len = u64::from(want.at.len) + CHUNK_OVERHEAD_LEN;
        peer.in_flight_len = peer.in_flight_len.saturating_sub(len);
        Ok((job, want))
    }

    /// A chunk that came by itself, or was found on this disk: the jobs that want it.
    pub fn handle_found(&mut self, epoch: EpochId, id: ChunkId) -> Option<Answered> {
        let state = self.wants.get_mut(&(epoch, id))?;
        let wanting = std::mem::take(&mut state.jobs);
        let want = Want { what: state.what, epoch, id, at: *wanting.values().next()? };
        let jobs: Vec<JobId> = wanting.into_keys().collect();
        for job in &jobs {
            if let Some((_, lacks)) = self.jobs.get_mut(job) {
                lacks.remove(&(epoch, id));
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
        self.jobs.get(&job).is_some_and(|(_, lacks)| lacks.is_empty())
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
        let keys = self.jobs.get(&job).into_iter().flat_map(|(_, keys)| keys);
        let states: Vec<&State> = keys.filter_map(|key| self.wants.get(key)).collect();
        let has_hope = |peer: &DeviceId| states.iter().any(|state| state.lack(*peer, job) == Some(Lack::NotNow));
        self.peers.keys().filter(|peer| !has_hope(peer)).copied().collect()
    }

    /// How many chunks and pages are still to come.
    pub fn missing_count(&self) -> usize {
        self.wants.values().filter(|state| !state.jobs.is_empty()).count()
    }
}

/// Whether all who can be asked said that they do not have what a job wants.
fn is_starved(peers: &BTreeMap<DeviceId, PeerState>, state: &State, job: JobId) -> bool {
    peers.keys().all(|peer| state.lack(*peer, job).is_some())
}

#[cfg(test)]
mod tests;
