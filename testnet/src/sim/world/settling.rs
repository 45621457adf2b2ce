//! Faults have ended and everything gets the time that it needs: what must hold then.

use std::time::Duration;

use zerocloud::clock::Clock;
use zerocloud::folder::Phase;
use zerocloud_crdt::log::Frontier;
use zerocloud_crdt::name::CONTROL;

use super::{SETTLING, SETTLING_CONTENT, SETTLING_CONTENT_COUNT, World};
use crate::sim::device::{Device, FileSystem};
use crate::sim::faults::Fault;
use crate::sim::story::{difference, shown};
use crate::sim::volume::{Tree, TreeEntry};

/// Rounds in which everything must have become one.
const ROUND_COUNT_MAX: usize = 1_500;
/// Rounds after which users no longer wait for what only members may have that are not there: those whose homes are gone.
const PATIENCE_ROUND_COUNT: usize = 400;
/// Rounds after which those that are one to everyone else take turns, while something is to be done, and another user
/// loses patience.
const TURN_ROUND_COUNT: usize = 50;
/// Turns after which they must have nothing to say.
const TURN_COUNT_MAX: usize = 40;
/// Longer than the time in which every file system's clock goes on, and what it hid is looked at again.
const TICK_MAX: Duration = Duration::from_secs(4);
/// Longer than texts wait to be kept for merges.
const TEXTS_WAIT: Duration = Duration::from_secs(2);
/// The longest step of time while the world settles.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Messages and chunks while the world settles, above which something chases its tail. A thousand times what is usual.
const MESSAGE_COUNT_MAX: u64 = 100_000;

impl World {
    /// Faults end, all are connected and have time: every device comes to the same tree, nothing is wrong with it, and
    /// another look at everything finds nothing to say.
    pub(super) fn settle(&mut self) {
        self.settling_count += 1;
        self.begin(SETTLING + self.settling_count);
        self.next_content = SETTLING_CONTENT + self.settling_count * SETTLING_CONTENT_COUNT;
        self.message_count_max = self.tally.message_count + MESSAGE_COUNT_MAX;
        self.clear_up();
        // What was edited just now may look as it did, until its file system tells another time.
        if self.faults().has(Fault::CoarseTimes) {
            self.wait(TICK_MAX);
        }
        // Where every change was told, in whatever way, all is found without being asked for.
        if self.is_blind || self.faults().has(Fault::Unreadable) {
            self.present().for_each(|n| self.devices[n].rescan());
        }
        self.quiet();
        // What was edited at once may be what others came from: it is kept when nothing else was to be done for a while.
        if self.faults().has(Fault::Merges) {
            self.wait(TEXTS_WAIT);
            self.quiet();
        }
        let tree = self.devices[0].person.tree();
        let frontier = self.devices[0].frontier();
        let trees: Vec<Tree> = self.devices.iter().map(|device| device.person.tree()).collect();
        for n in self.present() {
            let (device, found) = (&self.devices[n], &trees[n]);
            let claim = format!("device {n} has another tree ({})", device.describe());
            // What has no place here is told, and what waits for it to move stays as it was.
            if !device.has_collisions() {
                assert_alike(&tree, found, &device.file_system, &claim);
            }
            assert_eq!(device.frontier(), frontier, "device {n} has another log");
            let pending = device.store().and_then(|store| store.snapshot().ok()?.pending_count().ok());
            assert!(pending == Some(0) || device.has_collisions(), "device {n} has items to be planned");
        }
        self.oracle.check_end(&tree, &self.present().map(|n| &trees[n]).collect::<Vec<_>>());
        self.present().for_each(|n| self.devices[n].rescan());
        self.quiet();
        for n in self.present() {
            let (device, tree) = (&self.devices[n], &trees[n]);
            assert_eq!(device.frontier(), frontier, "device {n} found something to say in what had settled");
            assert_same(tree, &device.person.tree(), &format!("device {n} changed what had settled"));
            let mut named = device.discrepancies().into_iter();
            let named = named.find(|(id, _)| self.present().any(|other| self.devices[other].id() == *id));
            assert!(named.is_none(), "device {n} names a member that is honest: {named:?}");
        }
        self.message_count_max = u64::MAX;
    }

    /// Every device is closed and started again: nothing is left over, and there is nothing to say.
    pub(super) fn restart_all(&mut self) {
        if self.settling_count == 0 {
            self.settle();
        }
        // A history that is to begin anew begins with a start.
        if self.faults().has(Fault::Clones) || self.faults().has(Fault::Rollbacks) {
            self.start_anew();
        }
        let before = self.devices[0].frontier();
        self.start_anew();
        for n in self.present() {
            let device = &self.devices[n];
            assert_eq!(device.frontier(), before, "device {n} had something to say of what it had said");
            let tmp = [CONTROL.as_bytes(), b"/tmp/"].concat();
            let left: Vec<String> =
                device.person.whole_tree().into_keys().filter(|p| p.starts_with(&tmp)).map(shown).collect();
            // What is at hand for something that has no place stays so.
            assert!(left.is_empty() || device.has_collisions(), "device {n} left {left:?}");
        }
    }

    fn start_anew(&mut self) {
        for n in self.present().collect::<Vec<_>>() {
            self.disconnect(n);
            self.devices[n].close();
            self.start(n);
        }
        self.settle();
    }

    /// Lets everything go on until nothing is to be done, whoever of those that are one to everyone else has the turn.
    fn quiet(&mut self) {
        self.rest();
        let mut same_count = 0;
        for _ in 0..TURN_COUNT_MAX {
            if !self.has_clones() || same_count == 2 {
                return;
            }
            let before = self.state();
            self.turn_all();
            self.rest();
            same_count = if self.state() == before { same_count + 1 } else { 0 };
        }
        panic!("no end: those that are one to others have something to say at each turn");
    }

    /// What all have, and show.
    fn state(&self) -> Vec<(Frontier, Tree)> {
        self.present().map(|n| (self.devices[n].frontier(), self.devices[n].person.tree())).collect()
    }

    /// Users go on without what others know, and one gives up what he waits for: if two did at once, each would have what
    /// stands on his disk stand.
    fn lose_patience(&mut self) {
        // What others have, who has to wait until another is off can't know.
        let users: Vec<usize> = self.present().filter(|n| !self.is_waiting(*n)).collect();
        for n in &users {
            if self.devices[*n].resume() {
                self.oracle.note_alone();
                self.story.tell(|| format!("user {n} goes on without what others know"));
            }
        }
        for n in users {
            let count = self.devices[n].forget(true);
            if count > 0 {
                self.oracle.note_given_up(n, count, &self.devices[n].person.tree());
                self.story.tell(|| format!("user {n} waits no longer for what no device here has"));
                return;
            }
        }
    }

    /// Lets everything go on until nothing is to be done.
    fn rest(&mut self) {
        let mut quiet_count = 0;
        for round in 1..=ROUND_COUNT_MAX {
            let mut is_moved = false;
            // What one of two alone has comes to the other by way of a third.
            if round % TURN_ROUND_COUNT == 0 && self.has_clones() {
                self.turn_all();
            }
            if round >= PATIENCE_ROUND_COUNT && round % TURN_ROUND_COUNT == 0 {
                self.lose_patience();
            }
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
            let is_done = |device: &Device| device.phase() == Some(Phase::Idle) && device.problem_count() == 0;
            let is_idle = self.present().all(|n| self.is_waiting(n) || is_done(&self.devices[n]));
            quiet_count = if is_moved || !is_idle { 0 } else { quiet_count + 1 };
            if quiet_count == 2 {
                return;
            }
            if !is_moved && quiet_count == 0 {
                let present = self.present().map(|n| &self.devices[n]);
                let waits = present.filter_map(|d| Some(d.timeout()?.since(d.clock.now())));
                let wait = waits.min().unwrap_or(WAIT_MAX).clamp(Duration::from_millis(1), WAIT_MAX);
                self.wait(wait);
            }
        }
        let states: Vec<String> = self.devices.iter().map(Device::describe).collect();
        panic!("no end: {states:#?}");
    }
}

/// Holds a tree to the one that all should have, as far as its file system can have it.
fn assert_alike(expected: &Tree, found: &Tree, file_system: &FileSystem, claim: &str) {
    let (mut expected, mut found) = (expected.clone(), found.clone());
    if file_system.fixed_mode.is_some() {
        for entry in expected.values_mut().chain(found.values_mut()) {
            if let TreeEntry::File { executable, .. } = entry {
                *executable = false;
            }
        }
    }
    assert_same(&expected, &found, claim);
}

pub(super) fn assert_same(expected: &Tree, found: &Tree, claim: &str) {
    assert!(expected == found, "{claim}: {}", difference(expected, found));
}
