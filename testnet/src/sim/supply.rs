//! Chunks from other devices: the policy that ships, asked one chunk at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zerocloud::engine::fetch::{Fetch, JobId, Lack, Want};
use zerocloud::fetcher::{Receiver, Supply};
use zerocloud::tree::Keyring;
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::seal::Opener;
use zerocloud_crdt::wire::Ask;

/// One device's wants. The world takes what is asked from here and brings the answers.
pub struct SimSupply {
    keyring: Arc<Keyring>,
    /// Held for one call; receivers are called without it, because they may ask for more.
    state: Mutex<State>,
}

struct State {
    fetch: Fetch,
    receivers: BTreeMap<JobId, Arc<dyn Receiver>>,
    asked: VecDeque<Asked>,
    peers: BTreeSet<DeviceId>,
}

/// Whose job nobody can do, and who said to have nothing of it.
type GivenUp = (Arc<dyn Receiver>, BTreeSet<DeviceId>);

impl State {
    fn given_up(&mut self) -> Vec<GivenUp> {
        let starved = self.fetch.take_starved().into_iter();
        starved.filter_map(|(job, deniers)| Some((self.receivers.remove(&job)?, deniers))).collect()
    }
}

/// One chunk that a peer is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Whom.
    pub peer: DeviceId,
    /// The number of the ask.
    pub number: u64,
    /// What.
    pub ask: Ask,
}

impl SimSupply {
    /// Wants nothing, knows nobody. `us`: whose it is.
    pub fn new(us: DeviceId, keyring: Arc<Keyring>) -> Self {
        let (receivers, asked, peers) = (BTreeMap::new(), VecDeque::new(), BTreeSet::new());
        Self { keyring, state: Mutex::new(State { fetch: Fetch::new(us), receivers, asked, peers }) }
    }

    /// A peer may be asked.
    pub fn connect(&self, peer: DeviceId) {
        let mut state = self.lock();
        state.peers.insert(peer);
        state.fetch.connect(peer);
    }

    /// A peer may not be asked any more, and answers nothing more.
    pub fn disconnect(&self, peer: DeviceId) {
        let mut state = self.lock();
        state.asked.retain(|asked| asked.peer != peer);
        state.peers.remove(&peer);
        state.fetch.disconnect(peer);
        let given_up = state.given_up();
        drop(state);
        given_up.iter().for_each(|(receiver, deniers)| receiver.give_up(deniers));
    }

    /// The next chunk that is asked of somebody.
    pub fn next_asked(&self) -> Option<Asked> {
        let mut state = self.lock();
        while let Some((peer, request)) = state.fetch.poll_request() {
            let asked = request.asks.iter().zip(request.first..).map(|(ask, number)| Asked { peer, number, ask: *ask });
            state.asked.extend(asked);
        }
        state.asked.pop_front()
    }

    /// A peer answered.
    pub fn answer(&self, asked: &Asked, sealed: Result<Vec<u8>, Lack>) {
        let Ok(want) = self.lock().fetch.asked(asked.peer, asked.number) else { return };
        match sealed.and_then(|sealed| self.open(&want, &sealed).ok_or(Lack::Missing)) {
            Ok(plaintext) => {
                for receiver in self.arrived(asked) {
                    receiver.receive(&want, &plaintext);
                }
            }
            Err(lack) => {
                let given_up = self.lacked(asked, lack);
                given_up.iter().for_each(|(receiver, deniers)| receiver.give_up(deniers));
            }
        }
    }

    fn open(&self, want: &Want, sealed: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keyring.keys_of(want.what, &want.epoch);
        Opener::new().open(keys?, &want.id, sealed).ok()
    }

    fn arrived(&self, asked: &Asked) -> Vec<Arc<dyn Receiver>> {
        let mut state = self.lock();
        let Ok(answered) = state.fetch.handle_chunk(asked.peer, asked.number) else { return Vec::new() };
        let receivers = answered.jobs.iter().filter_map(|job| state.receivers.get(job).cloned()).collect();
        for job in answered.jobs {
            if state.fetch.is_complete(job) {
                state.fetch.remove_job(job);
                state.receivers.remove(&job);
            }
        }
        receivers
    }

    fn lacked(&self, asked: &Asked, lack: Lack) -> Vec<GivenUp> {
        let mut state = self.lock();
        if state.fetch.handle_missing(asked.peer, asked.number, lack).is_err() {
            return Vec::new();
        }
        state.given_up()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supply for SimSupply {
    fn add(&self, job: JobId, wants: Vec<Want>, receiver: Arc<dyn Receiver>) {
        let mut state = self.lock();
        state.receivers.insert(job, receiver);
        state.fetch.add_job(job, wants);
    }

    fn remove(&self, job: JobId) {
        let mut state = self.lock();
        state.fetch.remove_job(job);
        state.receivers.remove(&job);
    }

    fn missing_count(&self) -> usize {
        self.lock().fetch.missing_count()
    }

    fn has_members(&self) -> bool {
        !self.lock().peers.is_empty()
    }
}
