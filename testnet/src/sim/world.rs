//! Devices, links and users of one space, and what happens to them in one [`Scenario`].
//!
//! First anything may happen, then faults end and everything must become one (`settling`); twice, and then all devices
//! are started anew. What goes between devices is in `links`, what breaks in `weather`. What must hold is the
//! [`Oracle`]'s; each event is told as one line.
#![allow(clippy::panic, reason = "a simulation ends where a promise is broken")]

mod churn;
mod cloning;
mod leaving;
mod links;
mod settling;
mod texts;
mod weather;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use zerocloud::clock::Clock;
use zerocloud::folder::Phase;

pub use self::churn::Hour;
use self::cloning::Cloning;
use self::leaving::Leaver;
use self::links::{Answer, Link};
use super::device::{Device, FileSystem};
use super::faults::{Fault, Faults};
use super::founding::Founding;
use super::oracle::{Acted, Oracle};
use super::runner::Tally;
use super::scenario::{Manner, Scenario};
use super::story::{Story, difference, shown};
use super::user::{EARLY_VERB_COUNT, act, act_aimed, act_on_text, below, content};
use super::volume::{Before, Crash, SimPerson};

/// Streams of the seed's generator that no step draws from.
const FOUNDING_STREAM: u32 = u32::MAX - 1;
const TIMES_STREAM: u32 = u32::MAX - 2;
const FILE_SYSTEMS_STREAM: u32 = u32::MAX - 3;
const WRITER_STREAM: u32 = u32::MAX - 4;
/// Kinds of steps, and how many of them there were at first: what was drawn from those plays as it did.
const STEP_KIND_COUNT: usize = 51;
const EARLY_STEP_KIND_COUNT: usize = 42;
/// How finely file systems tell time: to the nanosecond, to a tick of the kernel's clock, as HFS does, as FAT does.
const GRANULARITIES: [Duration; 4] =
    [Duration::from_nanos(1), Duration::from_millis(4), Duration::from_secs(1), Duration::from_secs(2)];
/// Contents that are written in one step at most.
const STEP_CONTENT_COUNT: u32 = 8;
/// The first stream of what is drawn while the world settles.
const SETTLING: u32 = 1 << 30;
/// The first number of contents that are written then, of which each time has so many: no step comes that far.
const SETTLING_CONTENT: u32 = 1 << 28;
const SETTLING_CONTENT_COUNT: u32 = 1 << 16;
/// Calls to its disk that a device makes in one turn at most. A hundred times what is usual.
const CALL_COUNT_MAX: u64 = 200_000;
/// The stream of what is drawn while a device is wiped, and the first number of contents that are written then.
const WIPING: u32 = SETTLING - 1;
const WIPING_CONTENT: u32 = SETTLING_CONTENT - 64;
/// The same of a device whose home is rolled back.
const ROLLING_BACK: u32 = SETTLING - 2;
const ROLLING_BACK_CONTENT: u32 = SETTLING_CONTENT - 128;
/// The streams that say who goes away, and who is copied.
const LEAVING: u32 = SETTLING - 3;
const CLONING: u32 = SETTLING - 4;
/// Days that a device is left alone: more than versions are kept.
const LONG_WAIT: Duration = Duration::from_secs(17 * 24 * 60 * 60);

/// See the module.
pub struct World {
    scenario: Scenario,
    /// What the present step draws from.
    rng: ChaCha8Rng,
    devices: Vec<Device>,
    /// What users did while the node worked, by device. Held for one act.
    interrupted: Vec<Arc<Mutex<Vec<Acted>>>>,
    links: Vec<Link>,
    /// Who is to go away.
    leavers: Vec<Leaver>,
    /// Who went away for good.
    left: BTreeSet<usize>,
    /// Who is to be copied.
    cloning: Option<Cloning>,
    /// Who alone acts, in a scenario of one writer.
    writer: Option<usize>,
    /// Chunks on their way, by the device that asked.
    answers: Vec<VecDeque<Answer>>,
    /// Messages that there may be in all.
    message_count_max: u64,
    oracle: Oracle,
    /// The number of the next content.
    next_content: u32,
    /// Whether some watcher has left changes untold: only a walk finds them.
    is_blind: bool,
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
        if scenario.faults.has(Fault::Merges) {
            world.agree_on_texts();
        }
        match scenario.manner {
            Manner::AtOnce | Manner::OneWriter => {
                let middle = scenario.length * 3 / 5;
                world.run(|step| step < middle / 2);
                world.devices.iter_mut().for_each(Device::keep_home);
                world.run(|step| (middle / 2..middle).contains(&step));
                world.leave_until(middle);
                world.settle();
                world.wipe_one();
                world.roll_back_one();
                world.run(|step| step >= middle);
                world.leave_until(scenario.length);
                world.settle();
            }
            Manner::OneByOne => world.run_one_by_one(),
        }
        world.restart_all();
        world.tally.copy_count = world.copy_count() as u64;
        world.tally.merge_count = world.oracle.merge_count() as u64;
        assert!(
            world.writer.is_none() || !world.is_memory_safe() || world.tally.copy_count == 0,
            "a conflict copy with one writer"
        );
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
        let mut traits = scenario.generator(FILE_SYSTEMS_STREAM);
        let device = |n: u8| {
            let [folds, keeps_modes, is_executable] = [0; 3].map(|_| below(&mut traits, 2) == 0);
            let file_system = FileSystem {
                has_exchange: has_exchange(&mut rng),
                granularity: granularity(),
                // The first can hold whatever the others can: its tree is what theirs are compared with.
                folds_names: n > 0 && folds && faults.has(Fault::FoldedNames),
                fixed_mode: (n > 0 && !keeps_modes && faults.has(Fault::NoModes)).then_some(if is_executable {
                    0o755
                } else {
                    0o644
                }),
            };
            Device::new(founding.clone(), n, file_system, *seed)
        };
        let mut devices: Vec<Device> = (0..*count).map(device).collect();
        let mut oracle = Oracle::new(usize::from(*count), faults.has(Fault::FoldedNames));
        if faults.has(Fault::Merges) {
            devices.iter_mut().for_each(|device| device.merges = true);
            oracle = oracle.with_merges();
        }
        // What has no place on a device is not passed on by it.
        let is_line = faults.has(Fault::Line) && !faults.has(Fault::FoldedNames);
        let links = links::between(usize::from(*count), is_line);
        let mut writers = scenario.generator(WRITER_STREAM);
        let mut world = Self {
            scenario: scenario.clone(),
            rng,
            interrupted: devices.iter().map(|_| Arc::default()).collect(),
            devices,
            links,
            leavers: leaving::draw(scenario, is_line),
            left: BTreeSet::new(),
            cloning: Cloning::draw(scenario),
            writer: (scenario.manner == Manner::OneWriter).then(|| below(&mut writers, usize::from(*count))),
            answers: (0..*count).map(|_| VecDeque::new()).collect(),
            message_count_max: u64::MAX,
            oracle,
            next_content: 0,
            is_blind: false,
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
        // The first never leaves.
        let tree = self.devices.first().map(|device| device.person.tree()).unwrap_or_default();
        tree.keys().filter(|path| path.windows(6).any(|part| part == b"(confl")).count()
    }

    /// Begins a step: what it draws depends on nothing that happened before.
    fn begin(&mut self, step: u32) {
        self.rng = self.scenario.generator(step);
        self.next_content = step.wrapping_mul(STEP_CONTENT_COUNT);
    }

    /// Everything at once, in those steps.
    fn run(&mut self, is_wanted: impl Fn(u32) -> bool) {
        let steps: Vec<u32> = self.scenario.steps.0.iter().copied().filter(|step| is_wanted(*step)).collect();
        for step in steps {
            self.leave_until(step);
            self.clone_until(step);
            self.begin(step);
            self.story.tell(|| format!("-- step {step}"));
            let device = below(&mut self.rng, self.devices.len());
            let device = self.present_from(device);
            let is_early = self.scenario.verb_count <= EARLY_VERB_COUNT;
            match below(&mut self.rng, if is_early { EARLY_STEP_KIND_COUNT } else { STEP_KIND_COUNT }) {
                0..=6 => self.act_in_a_row(self.writer.unwrap_or(device)),
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
                40 | 41 => self.start(device),
                42..=44 => self.interrupt(self.writer.unwrap_or(device)),
                45 | 46 => self.strike_files(device),
                47 | 48 => self.strike_mount(device),
                49 => self.wait(LONG_WAIT),
                _ => {
                    self.devices[device].coalesces = below(&mut self.rng, 2) == 0 && self.faults().has(Fault::Watchers)
                }
            }
            self.strike_turns();
        }
    }

    /// One user acts on one device, everything settles, and nothing but that act may show; and so on.
    fn run_one_by_one(&mut self) {
        let copies = self.copy_count();
        let mut is_blind = false;
        for step in self.scenario.steps.0.clone() {
            self.leave_until(step);
            self.clone_until(step);
            self.begin(step);
            let device = below(&mut self.rng, self.devices.len());
            let device = self.present_from(device);
            for _ in 0..=below(&mut self.rng, 3) {
                self.act(device);
            }
            let before = self.devices[device].person.tree();
            let lost_count = self.tally.lost_count;
            self.settle();
            let after = self.devices[device].person.tree();
            // Where names fold, what had no place comes when another makes room; and users end what lost its bytes.
            if !self.devices[device].file_system.folds_names && self.tally.lost_count == lost_count {
                settling::assert_same(&before, &after, "with nothing concurrent, the actor's tree changed by itself");
            }
            // Whoever takes a name does not see that another has it where it has no place.
            is_blind |= self.devices.iter().any(Device::has_collisions);
        }
        assert!(is_blind || self.copy_count() <= copies, "a conflict copy with nothing concurrent");
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
        // Also while a device serves what it has a user may have acted.
        drop(self.note_interruptions(n));
        let device = &self.devices[n];
        if !device.volume.is_mounted() || self.left.contains(&n) {
            return;
        }
        self.tally.act_count += 1;
        self.next_content += 1;
        let person = device.person.clone();
        let acted = Acted::by(&person, |person| {
            if self.is_about_texts() {
                act_on_text(person, b"", &mut self.rng, self.next_content)
            } else {
                act(person, &mut self.rng, self.next_content, self.scenario.verb_count)
            }
        });
        self.note_act(n, &acted);
    }

    fn note_act(&mut self, n: usize, act: &Acted) {
        self.oracle.note_act(n, &act.before, &act.after);
        if let Some((before, after)) = &act.disk {
            self.oracle.note_act_aside(n, before, after);
        }
        self.is_blind |= self.devices[n].person.has_hard_links();
        if act.line.starts_with("touches") {
            self.oracle.note_touch(&act.before);
        }
        self.story.tell(|| format!("user {n} {}", act.line));
    }

    /// A user will act in the middle of what the node does next.
    fn interrupt(&mut self, n: usize) {
        let calls = below(&mut self.rng, 60);
        self.next_content += 1;
        if !self.devices[n].volume.is_mounted() || self.left.contains(&n) {
            return;
        }
        if self.faults().has(Fault::Aims) {
            return self.interrupt_aimed(n, calls);
        }
        if !self.faults().has(Fault::Interruptions) {
            return;
        }
        self.story.tell(|| format!("user {n} is to act after {calls} calls of the device"));
        let (mut rng, number, verb_count) = (self.rng.clone(), self.next_content, self.scenario.verb_count);
        let is_about_texts = self.is_about_texts();
        let act = self.in_between(n, move |person, _| match is_about_texts {
            true => act_on_text(person, b"", &mut rng, number),
            false => act(person, &mut rng, number, verb_count),
        });
        self.devices[n].volume.interrupt_after(calls as u64, Before::Any, act);
    }

    /// The same, with what stands otherwise elsewhere: that is what the node will read or change.
    fn interrupt_aimed(&mut self, n: usize, calls: usize) {
        let others: Vec<SimPerson> =
            self.devices.iter().enumerate().filter(|(at, _)| *at != n).map(|(_, other)| other.person.clone()).collect();
        let (mut rng, number) = (self.rng.clone(), self.next_content);
        self.story.tell(|| format!("user {n} is to act on what device {n} is about to touch ({calls})"));
        let is_about_texts = self.is_about_texts();
        let act = self.in_between(n, move |person, name| match is_about_texts {
            true => act_on_text(person, name, &mut rng, number),
            false => act_aimed(person, (&others, name), &mut rng, number),
        });
        let (before, calls) =
            if calls.is_multiple_of(2) { (Before::Naming, calls / 2 % 2) } else { (Before::Any, calls / 2) };
        self.devices[n].volume.interrupt_after(calls as u64, before, act);
    }

    /// What a user does while the node works, to be made known later.
    fn in_between(
        &self,
        n: usize,
        act: impl FnOnce(&SimPerson, &[u8]) -> String + Send + 'static,
    ) -> impl FnOnce(&[u8]) + Send + 'static {
        let (person, told) = (self.devices[n].person.clone(), self.interrupted[n].clone());
        move |name| {
            let acted = Acted::by(&person, |person| format!("in between {}", act(person, name)));
            told.lock().unwrap_or_else(PoisonError::into_inner).push(acted);
        }
    }

    /// What a user did while the node worked is made known; gives it.
    fn note_interruptions(&mut self, n: usize) -> Vec<Acted> {
        let acted = std::mem::take(&mut *self.interrupted[n].lock().unwrap_or_else(PoisonError::into_inner));
        self.tally.act_count += acted.len() as u64;
        for act in &acted {
            self.note_act(n, act);
        }
        acted
    }

    /// A user is told of files that lost their bytes to a power loss, and deletes or writes them, and of versions that no
    /// device has, and gives them up; says whether there were any.
    fn decide(&mut self, n: usize) -> bool {
        // Who still scans may find out that it has another version, or has it after all.
        let are_idle = self.present().all(|n| self.devices[n].phase() == Some(Phase::Idle));
        // What a copy of a device has, nobody can tell from what it has not.
        let is_old = self.devices[n].is_loss_old();
        let is_first = self.present().take_while(|m| *m < n).all(|m| self.devices[m].lost_count() == 0);
        let may_end = are_idle && !self.has_clones() && is_old && is_first;
        let ended_count = if may_end { self.devices[n].forget(false) } else { 0 };
        if ended_count > 0 {
            self.oracle.note_given_up(n, ended_count, &self.devices[n].person.tree());
            self.story.tell(|| format!("user {n} gives up what no device has"));
        }
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
        ended_count > 0 || !lost.is_empty()
    }

    /// The folder of a device does what is due.
    fn turn(&mut self, n: usize) {
        if !self.devices[n].is_on() {
            return;
        }
        drop(self.note_interruptions(n));
        self.devices[n].watch();
        let before = self.devices[n].person.tree();
        let changes = self.devices[n].volume.change_count();
        self.devices[n].volume.end_after(CALL_COUNT_MAX);
        let lives = self.devices[n].turn();
        let meanwhile = self.note_interruptions(n);
        if self.devices[n].volume.change_count() != changes || !lives {
            let person = &self.devices[n].person;
            let after = person.tree();
            let is_mounted = self.devices[n].volume.is_mounted();
            assert!(is_mounted || after.is_empty(), "device {n} worked in the directory under its disk");
            self.story.tell(|| {
                format!("device {n} turns: {}{}", difference(&before, &after), if lives { "" } else { " and stops" })
            });
            if self.writer == Some(n) && meanwhile.is_empty() && self.is_memory_safe() {
                settling::assert_same(&before, &after, "nobody else acts, and the writer's tree changed by itself");
            }
            if is_mounted {
                let now = self.devices[n].clock.wall_time();
                self.oracle.check_turn((n, now), &before, &meanwhile, &after, &person.whole_tree());
            }
        }
        self.after(n);
    }

    /// Whether no device forgets what its user did, or does it twice.
    fn is_memory_safe(&self) -> bool {
        [Fault::PowerLosses, Fault::Wipes, Fault::Rollbacks, Fault::Clones]
            .iter()
            .all(|fault| !self.faults().has(*fault))
    }

    /// A device did something: what it said is on its way, and if it stopped, that is seen.
    fn after(&mut self, n: usize) {
        drop(self.note_interruptions(n));
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

    /// When all have what all know, a device may lose its home. Its user goes on, and it joins with the folder that it has,
    /// let in by another. (What only the lost home knew, others would wait for.)
    fn wipe_one(&mut self) {
        self.begin(WIPING);
        self.next_content = WIPING_CONTENT;
        let n = below(&mut self.rng, self.devices.len());
        let inviter = self.present_from(n + 1);
        if !self.faults().has(Fault::Wipes) || self.left.contains(&n) || inviter == n {
            return;
        }
        self.disconnect(n);
        self.devices[n].close();
        (0..below(&mut self.rng, 8)).for_each(|_| self.act(self.writer.unwrap_or(n)));
        let before = self.devices[n].person.whole_tree();
        if let Ok([device, inviter]) = self.devices.get_disjoint_mut([n, inviter]) {
            device.join_anew(inviter);
        }
        self.answers[n].clear();
        self.oracle.note_wipe(n, &before, &self.devices[n].person.whole_tree());
        self.story.tell(|| format!("device {n} joins anew"));
        self.devices.iter().for_each(Device::hear_who_joined);
        self.start(n);
    }

    /// The home of a device becomes what it was some time ago, as a machine that is rolled back; the folder does not.
    fn roll_back_one(&mut self) {
        self.begin(ROLLING_BACK);
        self.next_content = ROLLING_BACK_CONTENT;
        let n = below(&mut self.rng, self.devices.len());
        if !self.faults().has(Fault::Rollbacks) || self.faults().has(Fault::Wipes) || self.left.contains(&n) {
            return;
        }
        self.disconnect(n);
        self.devices[n].close();
        (0..below(&mut self.rng, 8)).for_each(|_| self.act(self.writer.unwrap_or(n)));
        self.devices[n].restore_home();
        self.answers[n].clear();
        self.oracle.note_rollback(n);
        self.story.tell(|| format!("device {n} gets an old home"));
        self.start(n);
    }

    fn start(&mut self, n: usize) {
        self.after(n);
        if self.devices[n].is_on() || self.left.contains(&n) {
            return;
        }
        self.story.tell(|| format!("device {n} starts"));
        self.devices[n].start();
        self.after(n);
        self.connect();
    }
}
