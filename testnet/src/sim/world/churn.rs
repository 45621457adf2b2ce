//! Hours of ordinary use on a virtual clock: users edit, rename and delete, devices come and go, and nothing that a device
//! keeps may grow with time alone.
//!
//! Every fourth hour nobody acts. What was kept is counted when each hour has settled; the log may then have grown with
//! what was written, and with nothing in an hour in which nothing was.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use zerocloud_crdt::name::CONTROL;

use super::World;
use crate::growth::{Growth, Series};
use crate::sim::faults::Faults;
use crate::sim::scenario::{Manner, Scenario, Steps};
use crate::sim::story::Story;
use crate::sim::user::{VERB_COUNT, below};

const MINUTES: u32 = 60;
/// Of so many hours one is idle.
const IDLE_EVERY: u32 = 4;
/// In a minute time goes on in such steps.
const STEP: Duration = Duration::from_secs(15);
/// When users act: in one minute of so many.
const ACTIVE_MINUTE: usize = 3;
/// How often a connection ends or begins: in one minute of so many.
const STRIKE_MINUTE: usize = 10;
/// What may be kept of anything by a device that has nothing to do: a few for each of its peers.
const KEPT_MAX: usize = 12;
/// Days after which what a peer replaced is pruned, and an hour for the pruning.
const AFTER_RETENTION: Duration = Duration::from_secs((31 * 24 + 1) * 60 * 60);

/// What was counted at the end of an hour, over all devices.
#[derive(Clone, Debug)]
pub struct Hour {
    /// Which, from 0.
    pub number: u32,
    /// Acts of users in it.
    pub acts: u64,
    /// Messages in it.
    pub messages: u64,
    /// Entries of all logs.
    pub entries: u64,
    /// Files, directories and links of the tree.
    pub tree: usize,
    /// Files in the version stores.
    pub versions: usize,
    /// Files that are staged.
    pub staged: usize,
    /// Of what is kept in memory, the most on one device of each.
    pub kept: BTreeMap<&'static str, usize>,
}

impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, acts, messages, entries, tree, versions, staged, kept } = self;
        let most = kept.values().max().copied().unwrap_or_default();
        write!(
            f,
            "hour {number:>3}: {acts:>4} acts, {messages:>6} messages, {entries:>6} entries, {tree:>3} in the tree, \
             {versions:>5} versions, {staged} staged, at most {most} kept of anything"
        )
    }
}

impl World {
    /// Plays so many hours with three devices; gives what was counted. The same seed gives the same.
    ///
    /// # Panics
    /// Where a promise is broken: also where something grows that must not.
    pub fn churn(seed: u64, hours: u32, story: Story) -> Vec<Hour> {
        let steps = Steps::default();
        let manner = Manner::AtOnce;
        let (faults, length, verb_count) = (Faults::default(), hours * MINUTES, VERB_COUNT);
        let scenario = Scenario { seed, manner, device_count: 3, faults, length, verb_count, steps };
        let mut world = Self::new(&scenario, story);
        let mut counted: Vec<Hour> = Vec::new();
        for number in 0..hours {
            let (acts, messages) = (world.tally.act_count, world.tally.message_count);
            let is_idle = number % IDLE_EVERY == IDLE_EVERY - 1;
            (0..MINUTES).for_each(|minute| world.minute(number * MINUTES + minute, is_idle));
            world.settle();
            let (acts, messages) = (world.tally.act_count - acts, world.tally.message_count - messages);
            let hour = world.count(number, acts, messages);
            world.check_hour(&hour, counted.last(), is_idle);
            counted.push(hour);
        }
        world.check_versions();
        let grown: Vec<String> = growths(&counted).iter().map(Growth::to_string).collect();
        assert!(grown.is_empty(), "{}", grown.join("; "));
        counted
    }

    /// A minute of it.
    fn minute(&mut self, number: u32, is_idle: bool) {
        self.begin(number);
        let device = below(&mut self.rng, self.devices.len());
        if !is_idle && below(&mut self.rng, ACTIVE_MINUTE) == 0 {
            self.act_in_a_row(device);
        }
        if below(&mut self.rng, STRIKE_MINUTE) == 0 {
            let at = below(&mut self.rng, self.links.len());
            let is_up = !self.links[at].is_up;
            self.links[at].is_up = is_up;
            if is_up { self.connect() } else { self.cut(at) }
        }
        let mut left = Duration::from_secs(60);
        while left > Duration::ZERO {
            // Twice: what is heard is acted on, and what was done is told.
            for _ in 0..2 {
                for n in 0..self.devices.len() {
                    self.turn(n);
                    while self.answer_one(n) {}
                }
                for at in 0..self.links.len() {
                    for end in 0..2 {
                        while self.deliver(at, end) {}
                    }
                }
            }
            self.wait(STEP);
            left = left.saturating_sub(STEP);
        }
    }

    fn count(&self, number: u32, acts: u64, messages: u64) -> Hour {
        let mut kept: BTreeMap<&'static str, usize> = BTreeMap::new();
        let (mut versions, mut staged) = (0, 0);
        for device in &self.devices {
            for (name, count) in device.kept_counts() {
                let most = kept.entry(name).or_default();
                *most = (*most).max(count);
            }
            versions += self.files_in(device, b"/versions/");
            staged += self.files_in(device, b"/tmp/");
        }
        let entries = self.devices[0].frontier().iter().map(|(_, position)| position.number).sum();
        let tree = self.devices[0].person.tree().len();
        Hour { number, acts, messages, entries, tree, versions, staged, kept }
    }

    fn files_in(&self, device: &crate::sim::device::Device, of_control: &[u8]) -> usize {
        let directory = [CONTROL.as_bytes(), of_control].concat();
        device.person.whole_tree().keys().filter(|path| path.starts_with(&directory)).count()
    }

    fn check_hour(&self, hour: &Hour, before: Option<&Hour>, is_idle: bool) {
        assert_eq!(hour.staged, 0, "{hour}: something is staged for nothing");
        for (name, count) in &hour.kept {
            assert!(*count <= KEPT_MAX, "{hour}: {count} {name} are kept by a device that has nothing to do");
        }
        let Some(before) = before else { return };
        if is_idle {
            assert_eq!(hour.entries, before.entries, "{hour}: the log grows while nobody writes");
            assert_eq!(hour.versions, before.versions, "{hour}: versions come while nobody writes");
        }
        // An act is told in an entry or two; those that follow it (a conflict, a place that must be told) and the words
        // by which members hear of them are as many for each device.
        let most = 8 * hour.acts + 8;
        assert!(hour.entries - before.entries <= most, "{hour}: more than {most} entries for these acts");
    }

    /// What was kept of what peers replaced goes when its time is over.
    fn check_versions(&mut self) {
        self.wait(AFTER_RETENTION);
        self.settle();
        let left: usize = self.devices.iter().map(|device| self.files_in(device, b"/versions/")).sum();
        assert_eq!(left, 0, "versions stay for longer than they are kept");
    }
}

/// What grows over the hours that must not: what is kept, and the room of what is there.
fn growths(hours: &[Hour]) -> Vec<Growth> {
    let series = |name, of: &dyn Fn(&Hour) -> usize| {
        let samples = hours.iter().map(|hour| of(hour) as f64).collect();
        Series { samples, ..Series::new(name, 0.5, 12.0) }
    };
    let kept = |hour: &Hour| hour.kept.values().sum();
    let messages = |hour: &Hour| usize::try_from(hour.messages / (hour.acts + 10)).unwrap_or(usize::MAX);
    let all = [series("what is kept in memory", &kept), series("messages for each act", &messages)];
    all.iter().filter_map(Series::growth).collect()
}
