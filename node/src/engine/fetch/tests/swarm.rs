//! Several who fetch one file from one that has it, and from each other.

use std::collections::VecDeque;

use super::*;

const CHUNK_LEN: u32 = 64 << 10;

/// A device: what it wants, what it has, and what others ask of it.
struct Device {
    id: DeviceId,
    fetch: Fetch,
    /// None at whoever began.
    has: BTreeSet<u16>,
    has_come: bool,
    is_here: bool,
    /// Who asks, which ask, for what.
    inbox: VecDeque<(usize, u64, u16)>,
    sent_count: u64,
    /// How often the job was begun.
    job_count: u64,
}

impl Device {
    /// What starved is asked for again, as a folder does.
    fn begin_anew(&mut self, chunk_count: u16) {
        if self.fetch.take_starved().is_empty() {
            return;
        }
        self.has_come = false;
        self.job_count += 1;
        let lacking = (0..chunk_count).filter(|chunk| !self.has.contains(chunk));
        self.fetch.add_job(JobId(self.job_count), lacking.map(want_of).collect());
    }
}

struct Swarm {
    devices: Vec<Device>,
    chunk_count: u16,
}

impl Swarm {
    /// One that has a file of so many chunks, and others that do not; all know those that `knows` says.
    fn new(seed: u64, receiver_count: usize, chunk_count: u16, knows: impl Fn(usize, usize) -> bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ids: Vec<DeviceId> = (0..=receiver_count)
            .map(|_| {
                let mut id = [0; 32];
                rng.fill_bytes(&mut id);
                DeviceId(id)
            })
            .collect();
        let mut devices = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            let (has, mut fetch) = (if n == 0 { (0..chunk_count).collect() } else { BTreeSet::new() }, Fetch::new(*id));
            if n > 0 {
                fetch.add_job(JobId(1), (0..chunk_count).map(want_of).collect());
            }
            ids.iter()
                .enumerate()
                .filter(|(m, _)| *m != n && knows(n, *m))
                .for_each(|(_, other)| fetch.connect(*other));
            let (has_come, is_here, inbox, sent_count) = (n == 0, true, VecDeque::new(), 0);
            devices.push(Device { id: *id, fetch, has, has_come, is_here, inbox, sent_count, job_count: 1 });
        }
        Self { devices, chunk_count }
    }

    /// One turn: all ask what they may, and each answers as many asks as `speed` says.
    fn turn(&mut self, speed: impl Fn(usize) -> usize) {
        for n in 0..self.devices.len() {
            self.devices[n].begin_anew(self.chunk_count);
            while self.devices[n].is_here
                && let Some((peer, request)) = self.devices[n].fetch.poll_request()
            {
                let to = self.devices.iter().position(|device| device.id == peer).unwrap();
                let asks = request.asks.iter().zip(request.first..);
                let asks: Vec<_> = asks.map(|(ask, number)| (n, number, number_of(&ask.id))).collect();
                self.devices[to].inbox.extend(asks);
            }
        }
        for n in 0..self.devices.len() {
            let given = speed(n);
            let mut given_count = 0;
            while given_count < given && self.devices[n].is_here {
                let Some((to, ask, chunk)) = self.devices[n].inbox.pop_front() else { break };
                let (from, has_it) = (self.devices[n].id, self.devices[n].has.contains(&chunk));
                let lack = if self.devices[n].has_come { Lack::NotNow } else { Lack::Missing };
                let asker = &mut self.devices[to];
                if has_it && asker.fetch.handle_chunk(from, ask).is_ok() {
                    asker.has.insert(chunk);
                    asker.has_come = true;
                    self.devices[n].sent_count += 1;
                    given_count += 1;
                } else if !has_it {
                    let _gone = asker.fetch.handle_missing(from, ask, lack);
                }
            }
        }
    }

    /// Turns until all that are here have all; gives how many that took.
    fn play(&mut self, speed: impl Fn(usize) -> usize) -> usize {
        for turn in 0..20_000 {
            let count = usize::from(self.chunk_count);
            if self.devices.iter().all(|device| !device.is_here || device.has.len() == count) {
                return turn;
            }
            self.turn(&speed);
        }
        panic!("it never comes: {:?}", self.devices.iter().map(|device| device.has.len()).collect::<Vec<_>>())
    }

    /// How often the file left the one that had it.
    fn copies(&self) -> f64 {
        self.devices[0].sent_count as f64 / f64::from(self.chunk_count)
    }

    /// A device goes, with all that was asked of it and that it asked.
    fn leave(&mut self, n: usize) {
        let id = self.devices[n].id;
        self.devices[n].is_here = false;
        for device in &mut self.devices {
            device.fetch.disconnect(id);
            device.inbox.retain(|(asker, ..)| *asker != n);
        }
        self.devices[n].inbox.clear();
    }
}

fn want_of(chunk: u16) -> Want {
    let mut want = want(chunk, u64::from(chunk), CHUNK_LEN);
    // Ids are hashes.
    want.id.0[2..].copy_from_slice(&blake3::hash(&chunk.to_be_bytes()).as_bytes()[2..]);
    want.id.0.rotate_left(2);
    want
}

fn number_of(id: &ChunkId) -> u16 {
    u16::from_be_bytes([id.0[30], id.0[31]])
}

#[test]
fn nine_that_fetch_the_same_have_it_sent_once_or_little_more() {
    for seed in 0..3 {
        let mut swarm = Swarm::new(seed, 9, 1_000, |_, _| true);
        let turns = swarm.play(|_| 16);
        let copies = swarm.copies();
        assert!(copies < 1.6, "seed {seed}: {copies} copies, {turns} turns");
        assert!(
            turns < 2 * 1_000 / 16,
            "seed {seed}: as fast as from one that has nine times the speed: {turns} turns"
        );
    }
}

#[test]
fn who_knows_only_the_source_gets_all_of_it_from_there() {
    let mut swarm = Swarm::new(1, 3, 300, |n, m| n == 0 || m == 0);
    swarm.play(|_| 16);
    assert!((swarm.copies() - 3.0).abs() < 0.01, "{}", swarm.copies());
}

#[test]
fn a_chain_that_ends_at_the_source_brings_all() {
    for seed in 0..4 {
        let mut swarm = Swarm::new(seed, 5, 300, |n, m| n.abs_diff(m) <= 2);
        swarm.play(|_| 16);
        assert!(swarm.copies() < 2.5, "seed {seed}: {}", swarm.copies());
    }
}

#[test]
fn who_is_slow_or_gives_nothing_holds_nobody_up_for_long() {
    for seed in 0..2 {
        let mut swarm = Swarm::new(seed, 6, 600, |_, _| true);
        let even = swarm.play(|_| 16);
        let mut swarm = Swarm::new(seed, 6, 600, |_, _| true);
        let with_slow = swarm.play(|n| if n == 3 { 1 } else { 16 });
        assert!(with_slow < 3 * even, "seed {seed}: {with_slow} turns, and {even} without");
        assert!(swarm.copies() < 3.0, "seed {seed}: {}", swarm.copies());
    }
}

#[test]
fn what_the_source_gave_before_it_went_is_put_together() {
    for seed in 0..4 {
        let mut swarm = Swarm::new(seed, 4, 400, |_, _| true);
        // It goes when everything has left it once.
        while swarm.devices.iter().skip(1).flat_map(|device| &device.has).collect::<BTreeSet<_>>().len() < 400 {
            swarm.turn(|_| 16);
        }
        swarm.leave(0);
        swarm.play(|_| 16);
    }
}

#[test]
fn what_went_with_the_source_starves() {
    for seed in 0..4 {
        let mut swarm = Swarm::new(seed, 4, 400, |_, _| true);
        for _ in 0..4 {
            swarm.turn(|_| 16);
        }
        swarm.leave(0);
        for _ in 0..200 {
            swarm.turn(|_| 16);
        }
        for device in swarm.devices.iter_mut().skip(1) {
            assert!(device.has.len() < 400, "too late to say anything");
            assert!(device.job_count > 1, "seed {seed}: it waits for somebody who never comes");
            assert!(!device.has_come, "seed {seed}: it would have others believe that there is hope");
        }
        let has = |n: usize| &swarm.devices[n].has;
        assert!((2..5).all(|n| has(n) == has(1)), "seed {seed}: what one has all have");
    }
}
