//! Devices, links and users of one space, and what happens to them in one [`Scenario`].
//!
//! First anything may happen, then faults end and everything must become one (`settling`); twice, and then all devices
//! are started anew. What goes between devices is in `links`, what breaks in `weather`. What must hold is the
//! [`Oracle`]'s; each event is told as one line.
#![allow(clippy::panic, reason = "a simulation ends where a promise is broken")]

mod links;
mod settling;
mod weather;

use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;

use self::links::Link;
use super::device::{Device, Founding};
use super::faults::{Fault, Faults};
use super::oracle::Oracle;
use super::runner::Tally;
use super::scenario::{Manner, Scenario};
use super::story::{Story, difference, shown};
use super::user::{act, below, content};
use super::volume::Crash;

/// Streams of the seed's generator that no step draws from.
const FOUNDING_STREAM: u32 = u32::MAX - 1;
const TIMES_STREAM: u32 = u32::MAX - 2;
/// How finely file systems tell time: to the nanosecond, to a tick of the kernel's clock, as HFS does, as FAT does.
const GRANULARITIES: [Duration; 4] =
    [Duration::from_nanos(1), Duration::from_millis(4), Duration::from_secs(1), Duration::from_secs(2)];
/// The first stream of what is drawn while the world settles, and the first number of contents that are written then.
const SETTLING: u32 = 1 << 30;

/// See the module.
pub struct World {
    scenario: Scenario,
    /// What the present step draws from.
    rng: ChaCha8Rng,
    devices: Vec<Device>,
    links: Vec<Link>,
    oracle: Oracle,
    /// The number of the next content.
    next_content: u32,
    /// How often the world settled.
    settling_count: u32,
    tally: Tally,
    story: Story,
}

impl World {
    /// Plays a scenario from its beginning to its end.
    ///
    /// # Panics
    /// Where a promise is broken.
    pub fn play(scenario: &Scenario, story: Story) -> Tally {
        let mut world = Self::new(scenario, story);
        match scenario.manner {
            Manner::AtOnce => {
                let middle = scenario.length * 3 / 5;
                world.run(|step| step < middle);
                world.settle();
                world.run(|step| step >= middle);
                world.settle();
            }
            Manner::OneByOne => world.run_one_by_one(),
        }
        world.restart_all();
        world.tally.copy_count = world.copy_count() as u64;
        world.tally
    }

    /// All devices are on and connected.
    fn new(scenario: &Scenario, story: Story) -> Self {
        let mut rng = scenario.generator(FOUNDING_STREAM);
        let Scenario { seed, device_count: count, faults, .. } = scenario;
        let founding = Arc::new(Founding::new(*count, *seed));
        let has_exchange = |rng: &mut ChaCha8Rng| below(rng, 2) == 0 || !faults.has(Fault::NoExchange);
        let mut times = scenario.generator(TIMES_STREAM);
        let mut granularity = || match faults.has(Fault::CoarseTimes) {
            true => GRANULARITIES[below(&mut times, GRANULARITIES.len())],
            false => Duration::from_nanos(1),
        };
        let device = |n| Device::new(founding.clone(), n, has_exchange(&mut rng), granularity(), *seed);
        let devices = (0..*count).map(device).collect();
        let links = links::between(usize::from(*count), faults.has(Fault::Line));
        let mut world = Self {
            scenario: scenario.clone(),
            rng,
            devices,
            links,
            oracle: Oracle::new(usize::from(*count)),
            next_content: 0,
            settling_count: 0,
            tally: Tally::default(),
            story,
        };
        (0..usize::from(*count)).for_each(|n| world.start(n));
        world
    }

    const fn faults(&self) -> &Faults {
        &self.scenario.faults
    }

    /// How many conflict copies there are.
    fn copy_count(&self) -> usize {
        let tree = self.devices.first().map(|device| device.person.tree()).unwrap_or_default();
        tree.keys().filter(|path| path.windows(6).any(|part| part == b"(confl")).count()
    }

    /// Begins a step: what it draws depends on nothing that happened before.
    fn begin(&mut self, step: u32) {
        self.rng = self.scenario.generator(step);
        self.next_content = step.wrapping_mul(8);
    }

    /// Everything at once, in those steps.
    fn run(&mut self, is_wanted: impl Fn(u32) -> bool) {
        let steps: Vec<u32> = self.scenario.steps.0.iter().copied().filter(|step| is_wanted(*step)).collect();
        for step in steps {
            self.begin(step);
            self.story.tell(|| format!("-- step {step}"));
            let device = below(&mut self.rng, self.devices.len());
            match below(&mut self.rng, 42) {
                0..=6 => self.act_in_a_row(device),
                7..=16 => self.turn(device),
                17..=22 => self.deliver_one(),
                23..=27 => drop(self.answer_one(device)),
                28..=30 => self.strike_links(device),
                31..=36 => {
                    let wait = [1, 12, 110, 400, 2_500, 11_000][below(&mut self.rng, 6)];
                    self.wait(Duration::from_millis(wait));
                }
                37 | 38 => self.strike(device),
                39 => self.strike_watcher(device),
                _ => self.start(device),
            }
        }
    }

    /// One user acts on one device, everything settles, and nothing but that act may show; and so on.
    fn run_one_by_one(&mut self) {
        let copies = self.copy_count();
        for step in self.scenario.steps.0.clone() {
            self.begin(step);
            let device = below(&mut self.rng, self.devices.len());
            for _ in 0..=below(&mut self.rng, 3) {
                self.act(device);
            }
            let before = self.devices[device].person.tree();
            self.settle();
            let after = self.devices[device].person.tree();
            settling::assert_same(&before, &after, "with nothing concurrent, the actor's tree changed by itself");
        }
        assert!(self.copy_count() <= copies, "a conflict copy with nothing concurrent");
    }

    fn wait(&self, time: Duration) {
        self.devices.iter().for_each(|device| device.clock.advance(time));
    }

    /// One act, now and then some in a row.
    fn act_in_a_row(&mut self, n: usize) {
        let count = if below(&mut self.rng, 4) == 0 { 2 + below(&mut self.rng, 5) } else { 1 };
        (0..count).for_each(|_| self.act(n));
    }

    fn act(&mut self, n: usize) {
        self.tally.act_count += 1;
        self.next_content += 1;
        let device = &self.devices[n];
        let before = device.person.tree();
        let line = act(&device.person, &mut self.rng, self.next_content, self.scenario.verb_count);
        self.oracle.note_act(n, &before, &device.person.tree());
        if line.starts_with("touches") {
            self.oracle.note_touch(&before);
        }
        self.story.tell(|| format!("user {n} {line}"));
    }

    /// A user is told of files that lost their bytes to a power loss, and deletes or writes them; says whether there
    /// were any.
    fn decide(&mut self, n: usize) -> bool {
        let lost = self.devices[n].lost_paths();
        for path in &lost {
            self.next_content += 1;
            let person = &self.devices[n].person;
            let before = person.tree();
            let is_kept = below(&mut self.rng, 2) == 0;
            let bytes = content(&mut self.rng, self.next_content);
            let outcome = if is_kept { person.write(path, &bytes) } else { person.remove(path) };
            self.oracle.note_act(n, &before, &person.tree());
            let verb = if is_kept { "writes" } else { "deletes" };
            self.story.tell(|| format!("user {n} {verb} {}, which lost its bytes: {outcome:?}", shown(path)));
            self.tally.lost_count += 1;
        }
        !lost.is_empty()
    }

    /// The folder of a device does what is due.
    fn turn(&mut self, n: usize) {
        if !self.devices[n].is_on() {
            return;
        }
        self.devices[n].watch();
        let before = self.devices[n].person.tree();
        let changes = self.devices[n].volume.change_count();
        let lives = self.devices[n].turn();
        if self.devices[n].volume.change_count() != changes || !lives {
            let person = &self.devices[n].person;
            let after = person.tree();
            self.story.tell(|| {
                format!("device {n} turns: {}{}", difference(&before, &after), if lives { "" } else { " and stops" })
            });
            self.oracle.check_turn(n, &before, &after, &person.whole_tree());
        }
        self.after(n);
    }

    /// A device did something: what it said is on its way, and if it stopped, that is seen.
    fn after(&mut self, n: usize) {
        if self.devices[n].volume.has_crashed() {
            return self.stop(n);
        }
        self.post(n);
    }

    /// Takes a stopped process away.
    fn stop(&mut self, n: usize) {
        self.tally.crash_count += 1;
        self.disconnect(n);
        let (kills, losses) = (self.faults().has(Fault::Kills), self.faults().has(Fault::PowerLosses));
        let is_loss = losses && (!kills || below(&mut self.rng, 2) == 0);
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
        self.story.tell(|| format!("device {n} is stopped ({crash:?}): {}", difference(&before, &after)));
    }

    fn start(&mut self, n: usize) {
        self.after(n);
        if self.devices[n].is_on() {
            return;
        }
        self.story.tell(|| format!("device {n} starts"));
        self.devices[n].start();
        self.after(n);
        self.connect();
    }
}
