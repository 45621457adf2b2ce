//! Devices, links and users of one space, and what happens to them, drawn from one seed.
//!
//! First anything may happen ([`World::run`]), then faults end and everything must become one ([`World::settle`]). What
//! must hold is the [`Oracle`]'s; each event is told as one line, so that two runs can be compared.
#![allow(clippy::panic, reason = "a simulation ends where a promise is broken")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use zerocloud::clock::Clock;
use zerocloud::folder::Phase;
use zerocloud_crdt::id::DeviceId;
use zerocloud_crdt::name::CONTROL;
use zerocloud_crdt::wire::Log;

use super::device::{Device, Founding, ROOMY};
use super::oracle::Oracle;
use super::user::{act, below, content};
use super::volume::{Crash, Tree, TreeEntry};

/// Rounds in which everything must have become one.
const ROUND_COUNT_MAX: usize = 1_500;
/// The longest step of time while the world settles.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What may happen beside users, scans and messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Processes are killed.
    pub kills: bool,
    /// Power is lost.
    pub power_losses: bool,
    /// Disks are full for a while.
    pub full_disks: bool,
    /// Disks are gone for a while.
    pub lost_disks: bool,
    /// Not every two devices are ever connected.
    pub line: bool,
}

/// The lines of what happened.
pub type Trace = Arc<Mutex<Vec<String>>>;

/// See the module.
pub struct World {
    rng: ChaCha8Rng,
    devices: Vec<Device>,
    links: Vec<Link>,
    oracle: Oracle,
    weather: Weather,
    /// Acts of users so far.
    act_count: u32,
    crash_count: usize,
    lost_count: usize,
    trace: Trace,
}

struct Link {
    ends: [usize; 2],
    is_up: bool,
    /// Both ends run and know of each other.
    is_connected: bool,
    /// What is on its way to each end.
    ways: [VecDeque<Log>; 2],
}

impl Link {
    /// The place of a device among the ends.
    fn end(&self, device: usize) -> Option<usize> {
        self.ends.iter().position(|end| *end == device)
    }
}

impl World {
    /// Two to four devices, all on and connected.
    pub fn new(seed: u64, weather: Weather, trace: Trace) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = 2 + u8::from(below(&mut rng, 3) == 0) + u8::from(below(&mut rng, 6) == 0);
        let founding = Arc::new(Founding::new(count, seed));
        let devices = (0..count).map(|n| Device::new(founding.clone(), n, below(&mut rng, 5) > 0, seed)).collect();
        let mut links = Vec::new();
        for a in 0..usize::from(count) {
            for b in a + 1..usize::from(count) {
                if !weather.line || b == a + 1 {
                    links.push(Link { ends: [a, b], is_up: true, is_connected: false, ways: Default::default() });
                }
            }
        }
        let oracle = Oracle::new(usize::from(count));
        let mut world =
            Self { rng, devices, links, oracle, weather, act_count: 0, crash_count: 0, lost_count: 0, trace };
        (0..usize::from(count)).for_each(|n| world.start(n));
        world
    }

    /// How often a process stopped that was not asked to.
    pub const fn crash_count(&self) -> usize {
        self.crash_count
    }

    /// How many files lost their bytes to a power loss and waited for their users.
    pub const fn lost_count(&self) -> usize {
        self.lost_count
    }

    /// How many conflict copies there are.
    pub fn copy_count(&self) -> usize {
        let tree = self.devices.first().map(|device| device.person.tree()).unwrap_or_default();
        tree.keys().filter(|path| path.windows(6).any(|part| part == b"(confl")).count()
    }

    /// Everything at once, for `step_count` events.
    pub fn run(&mut self, step_count: usize) {
        for _ in 0..step_count {
            let device = below(&mut self.rng, self.devices.len());
            match below(&mut self.rng, 40) {
                0..=5 => self.act(device),
                6..=15 => self.turn(device),
                16..=21 => self.deliver_one(),
                22..=26 => drop(self.answer_one(device)),
                27 | 28 => self.flip_link(),
                29..=34 => {
                    let wait = [1, 12, 110, 400, 2_500, 11_000][below(&mut self.rng, 6)];
                    self.wait(Duration::from_millis(wait));
                }
                35 => {
                    self.devices[device].watch(true);
                    self.tell(format!("device {device}: the watcher lost track"));
                }
                36 | 37 => self.weather_strikes(device),
                _ => self.start(device),
            }
        }
    }

    /// One user acts on one device, everything settles, and nothing but that act may show: `count` times.
    pub fn run_one_by_one(&mut self, count: usize) {
        let copies = self.copy_count();
        for _ in 0..count {
            let device = below(&mut self.rng, self.devices.len());
            for _ in 0..=below(&mut self.rng, 3) {
                self.act(device);
            }
            let before = self.devices[device].person.tree();
            self.settle();
            let after = self.devices[device].person.tree();
            assert_same(&before, &after, "with nothing concurrent, the actor's tree changed by itself");
        }
        assert!(self.copy_count() <= copies, "a conflict copy with nothing concurrent");
    }

    /// Faults end, all are connected and have time: every device comes to the same tree, and nothing is wrong with it.
    pub fn settle(&mut self) {
        self.tell("faults end".to_owned());
        for device in 0..self.devices.len() {
            self.after(device);
            self.devices[device].volume.set_root_gone(false);
            self.devices[device].volume.set_capacity(ROOMY);
            self.devices[device].volume.crash_after(u64::MAX);
            self.start(device);
        }
        self.links.iter_mut().for_each(|link| link.is_up = true);
        self.connect();
        self.devices.iter().for_each(Device::rescan);
        self.quiet();
        let tree = self.devices[0].person.tree();
        for (n, device) in self.devices.iter().enumerate() {
            assert_same(&tree, &device.person.tree(), &format!("device {n} has another tree"));
            assert_eq!(device.frontier(), self.devices[0].frontier(), "device {n} has another log");
            let pending = device.store().and_then(|store| store.snapshot().ok()?.pending_count().ok());
            assert_eq!(pending, Some(0), "device {n} has items to be planned");
        }
        self.oracle.check_end(&tree);
    }

    /// Every device is closed and started again: nothing is left over, and there is nothing to say.
    pub fn restart_all(&mut self) {
        let before = self.devices[0].frontier();
        for n in 0..self.devices.len() {
            self.disconnect(n);
            self.devices[n].close();
            self.start(n);
        }
        self.settle();
        for (n, device) in self.devices.iter().enumerate() {
            assert_eq!(device.frontier(), before, "device {n} had something to say of what it had said");
            let tmp = [CONTROL.as_bytes(), b"/tmp/"].concat();
            let left: Vec<String> =
                device.person.whole_tree().into_keys().filter(|p| p.starts_with(&tmp)).map(shown).collect();
            assert!(left.is_empty(), "device {n} left {left:?}");
        }
    }

    fn tell(&self, line: String) {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn wait(&self, time: Duration) {
        self.devices.iter().for_each(|device| device.clock.advance(time));
    }

    fn act(&mut self, n: usize) {
        self.act_count += 1;
        let device = &self.devices[n];
        let before = device.person.tree();
        let line = act(&device.person, &mut self.rng, self.act_count);
        self.oracle.note_act(n, &before, &device.person.tree());
        if line.starts_with("touches") {
            self.oracle.note_touch(&before);
        }
        self.tell(format!("user {n} {line}"));
    }

    /// A user is told of files that lost their bytes to a power loss, and deletes or writes them; says whether there
    /// were any.
    fn decide(&mut self, n: usize) -> bool {
        let lost = self.devices[n].lost_paths();
        for path in &lost {
            self.act_count += 1;
            let person = &self.devices[n].person;
            let before = person.tree();
            let is_kept = below(&mut self.rng, 2) == 0;
            let bytes = content(&mut self.rng, self.act_count);
            let outcome = if is_kept { person.write(path, &bytes) } else { person.remove(path) };
            self.oracle.note_act(n, &before, &person.tree());
            let verb = if is_kept { "writes" } else { "deletes" };
            self.tell(format!("user {n} {verb} {}, which lost its bytes: {outcome:?}", shown(path)));
            self.lost_count += 1;
        }
        !lost.is_empty()
    }

    /// The folder of a device does what is due.
    fn turn(&mut self, n: usize) {
        if !self.devices[n].is_on() {
            return;
        }
        self.devices[n].watch(false);
        let before = self.devices[n].person.tree();
        let lives = self.devices[n].turn();
        let person = &self.devices[n].person;
        let after = person.tree();
        if before != after || !lives {
            self.tell(format!(
                "device {n} turns: {}{}",
                difference(&before, &after),
                if lives { "" } else { " and stops" }
            ));
        }
        self.oracle.check_turn(n, &before, &after, &person.whole_tree());
        self.after(n);
    }

    /// A device did something: what it said is on its way, and if it stopped, that is seen.
    fn after(&mut self, n: usize) {
        if self.devices[n].volume.has_crashed() {
            return self.stop(n);
        }
        for (peer, message) in self.devices[n].sent() {
            let way = self.links.iter_mut().filter(|link| link.is_connected).find_map(|link| {
                let other = *link.ends.get(1 - link.end(n)?)?;
                (self.devices[other].id() == peer).then_some(link)
            });
            if let Some(link) = way
                && let Some(end) = link.end(n)
            {
                link.ways[1 - end].push_back(message);
            }
        }
    }

    /// Takes a stopped process away.
    fn stop(&mut self, n: usize) {
        self.crash_count += 1;
        self.disconnect(n);
        let is_loss = self.weather.power_losses && (!self.weather.kills || below(&mut self.rng, 2) == 0);
        let crash = if is_loss { Crash::PowerLoss } else { Crash::Killed };
        if is_loss && below(&mut self.rng, 2) == 0 {
            self.devices[n].volume.commit_names();
        }
        let before = self.devices[n].person.whole_tree();
        self.devices[n].stop(crash);
        let after = self.devices[n].person.whole_tree();
        if crash == Crash::PowerLoss {
            self.oracle.note_power_loss(n, &before, &after);
        }
        self.tell(format!("device {n} is stopped ({crash:?}): {}", difference(&before, &after)));
    }

    fn start(&mut self, n: usize) {
        self.after(n);
        if self.devices[n].is_on() {
            return;
        }
        self.tell(format!("device {n} starts"));
        self.devices[n].start();
        self.after(n);
        self.connect();
    }

    /// Connects whatever can be.
    fn connect(&mut self) {
        for at in 0..self.links.len() {
            let [a, b] = self.links[at].ends;
            let link = &self.links[at];
            if link.is_up && !link.is_connected && self.devices[a].is_on() && self.devices[b].is_on() {
                self.links[at].is_connected = true;
                let (id_a, id_b) = (self.devices[a].id(), self.devices[b].id());
                self.devices[a].connect(id_b);
                self.devices[b].connect(id_a);
                self.tell(format!("devices {a} and {b} are connected"));
                self.after(a);
                self.after(b);
            }
        }
    }

    /// Ends all connections of a device, and with them what was on its way.
    fn disconnect(&mut self, n: usize) {
        for at in 0..self.links.len() {
            if self.links[at].end(n).is_some() {
                self.cut(at);
            }
        }
    }

    fn cut(&mut self, at: usize) {
        let link = &mut self.links[at];
        let [a, b] = link.ends;
        if std::mem::take(&mut link.is_connected) {
            link.ways = Default::default();
            let (id_a, id_b) = (self.devices[a].id(), self.devices[b].id());
            self.devices[a].disconnect(id_b);
            self.devices[b].disconnect(id_a);
            self.tell(format!("devices {a} and {b} are cut"));
        }
    }

    fn flip_link(&mut self) {
        let at = below(&mut self.rng, self.links.len());
        self.links[at].is_up = !self.links[at].is_up;
        if self.links[at].is_up {
            self.connect();
        } else {
            self.cut(at);
        }
    }

    /// Brings the next message on some way; says whether there was one.
    fn deliver(&mut self, at: usize, end: usize) -> bool {
        let link = &mut self.links[at];
        let Some(message) = link.ways[end].pop_front() else { return false };
        let (to, from) = (link.ends[end], link.ends[1 - end]);
        let (id_to, id_from) = (self.devices[to].id(), self.devices[from].id());
        self.tell(format!("device {to} hears of {from}: {}", kind_of(&message)));
        self.devices[from].note_sent(id_to, message.entries_len());
        self.after(from);
        self.devices[to].hear(id_from, message);
        self.after(to);
        true
    }

    fn deliver_one(&mut self) {
        let at = below(&mut self.rng, self.links.len());
        let end = below(&mut self.rng, 2);
        self.deliver(at, end);
    }

    /// Has a device ask one chunk of somebody, and brings the answer; says whether it asked.
    fn answer_one(&mut self, n: usize) -> bool {
        let Some(asked) = self.devices[n].supply().and_then(super::supply::SimSupply::next_asked) else { return false };
        let Some(other) = self.find(asked.peer) else { return false };
        let sealed = self.devices[other].sealed(&asked.ask);
        self.tell(format!(
            "device {n} asks {other} for a chunk: {}",
            if sealed.is_some() { "here" } else { "missing" }
        ));
        if self.devices[other].volume.has_crashed() {
            // The connection ends with it, and the answer with the connection.
            self.after(other);
            return true;
        }
        if let Some(supply) = self.devices[n].supply() {
            supply.answer(&asked, sealed);
        }
        self.after(n);
        true
    }

    fn find(&self, peer: DeviceId) -> Option<usize> {
        self.devices.iter().position(|device| device.id() == peer)
    }

    fn weather_strikes(&mut self, n: usize) {
        let volume = self.devices[n].volume.clone();
        let Weather { kills, power_losses, full_disks, lost_disks, .. } = self.weather;
        match below(&mut self.rng, 4) {
            0 | 1 if kills || power_losses => {
                let calls = [3, 20, 100][below(&mut self.rng, 3)];
                let calls = below(&mut self.rng, calls) as u64;
                self.tell(format!("device {n} is to stop after {calls} calls"));
                volume.crash_after(calls);
            }
            2 | 1 if full_disks => {
                let is_full = below(&mut self.rng, 3) > 0;
                let capacity = if is_full { 200 + below(&mut self.rng, 600_000) as u64 } else { ROOMY };
                self.tell(format!("the disk of device {n} has {capacity} bytes"));
                volume.set_capacity(capacity);
            }
            3 | 0 if lost_disks => {
                let is_gone = below(&mut self.rng, 2) == 0;
                self.tell(format!("the disk of device {n} is {}", if is_gone { "gone" } else { "there" }));
                volume.set_root_gone(is_gone);
            }
            _ => {}
        }
    }

    /// Lets everything go on until nothing is to be done.
    fn quiet(&mut self) {
        let mut quiet_count = 0;
        for _ in 0..ROUND_COUNT_MAX {
            let mut is_moved = false;
            for n in 0..self.devices.len() {
                self.turn(n);
                is_moved |= self.decide(n);
                while self.answer_one(n) {
                    is_moved = true;
                }
            }
            for at in 0..self.links.len() {
                for end in 0..2 {
                    while self.deliver(at, end) {
                        is_moved = true;
                    }
                }
            }
            let is_idle =
                self.devices.iter().all(|device| device.phase() == Some(Phase::Idle) && device.problem_count() == 0);
            quiet_count = if is_moved || !is_idle { 0 } else { quiet_count + 1 };
            if quiet_count == 2 {
                return;
            }
            if !is_moved && quiet_count == 0 {
                let waits = self.devices.iter().filter_map(|d| Some(d.timeout()?.since(d.clock.now())));
                let wait = waits.min().unwrap_or(WAIT_MAX).clamp(Duration::from_millis(1), WAIT_MAX);
                self.wait(wait);
            }
        }
        let states: Vec<String> = self.devices.iter().map(Device::describe).collect();
        panic!("no end: {states:#?}");
    }
}

fn shown(path: impl AsRef<[u8]>) -> String {
    String::from_utf8_lossy(path.as_ref()).into_owned()
}

const fn kind_of(message: &Log) -> &'static str {
    match message {
        Log::Records { .. } => "records",
        Log::Frontier(_) => "frontier",
        Log::Entries(_) => "entries",
        Log::Materialised(_) => "materialised",
        Log::Chunks(_) => "chunks",
    }
}

/// What was at a path and what is there, as a line.
fn difference(before: &Tree, after: &Tree) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(
        before.iter().filter(|(p, e)| after.get(*p) != Some(e)).map(|(p, e)| format!("-{}={}", shown(p), text(e))),
    );
    parts.extend(
        after.iter().filter(|(p, e)| before.get(*p) != Some(e)).map(|(p, e)| format!("+{}={}", shown(p), text(e))),
    );
    parts.join(" ")
}

/// An entry, short.
fn text(entry: &TreeEntry) -> String {
    match entry {
        TreeEntry::Directory => "/".to_owned(),
        TreeEntry::File { content, executable } => {
            let start = content.get(..content.len().min(40)).unwrap_or_default();
            format!("{:?}{}", shown(start), if *executable { "*" } else { "" })
        }
        TreeEntry::Symlink(target) => format!("-> {}", shown(target)),
        TreeEntry::Other => "?".to_owned(),
    }
}

fn assert_same(expected: &Tree, found: &Tree, claim: &str) {
    assert!(expected == found, "{claim}: {}", difference(expected, found));
}
