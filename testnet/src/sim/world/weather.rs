//! What breaks. Each step draws a fault whether it is switched on or not, so that leaving a class out leaves all else as
//! it was.

use std::time::Duration;

use zerocloud::clock::{Clock, WallTime};

use super::World;
use crate::sim::device::{ROOMY, Watching};
use crate::sim::faults::Fault;
use crate::sim::story::shown;
use crate::sim::user::below;

/// The longest way that a clock is set forwards or back.
const JUMP_MAX: Duration = Duration::from_secs(40 * 24 * 60 * 60);

impl World {
    /// Something happens to a device.
    pub(super) fn strike(&mut self, n: usize) {
        let volume = self.devices[n].volume.clone();
        let (fault, amount) = (below(&mut self.rng, 5), below(&mut self.rng, 1 << 20));
        match fault {
            0 | 1 if self.faults().has(Fault::Kills) || self.faults().has(Fault::PowerLosses) => {
                let calls = (amount % [3, 20, 100][amount % 3]) as u64;
                self.story.tell(|| format!("device {n} is to stop after {calls} calls"));
                volume.crash_after(calls);
            }
            2 if self.faults().has(Fault::FullDisks) => {
                let is_full = !amount.is_multiple_of(3);
                let capacity = if is_full { 200 + (amount % 600_000) as u64 } else { ROOMY };
                self.story.tell(|| format!("the disk of device {n} has {capacity} bytes"));
                volume.set_capacity(capacity);
            }
            3 if self.faults().has(Fault::LostDisks) => {
                let is_gone = amount.is_multiple_of(2);
                self.story.tell(|| format!("the disk of device {n} is {}", if is_gone { "gone" } else { "there" }));
                volume.set_root_gone(is_gone);
            }
            4 if self.faults().has(Fault::Clocks) => {
                let share = (amount % 2_001) as i64 - 1_000;
                let jump = i64::try_from(JUMP_MAX.as_nanos()).unwrap_or(i64::MAX) / 1_000 * share;
                let clock = &self.devices[n].clock;
                clock.set_wall_time(WallTime(clock.wall_time().0.saturating_add(jump)));
                self.story.tell(|| format!("the clock of device {n} is set by {} s", jump / 1_000_000_000));
            }
            _ => {}
        }
    }

    /// Something on a disk can't be read or listed, or everything can again.
    pub(super) fn strike_files(&mut self, n: usize) {
        let (fault, which) = (below(&mut self.rng, 4), below(&mut self.rng, 1 << 16));
        if !self.faults().has(Fault::Unreadable) || !self.devices[n].volume.is_mounted() {
            return;
        }
        if fault == 0 {
            self.story.tell(|| format!("all on the disk of device {n} can be read"));
            return self.devices[n].volume.clear_unreadable();
        }
        let person = &self.devices[n].person;
        let tree = person.tree();
        if let Some(path) = tree.keys().nth(which % tree.len().max(1)) {
            self.story.tell(|| format!("{} on device {n} can't be read", shown(path)));
            let _ = person.set_unreadable(path);
        }
    }

    /// A disk is unmounted, or mounted again.
    pub(super) fn strike_mount(&mut self, n: usize) {
        let device = &self.devices[n];
        // A folder that was never opened is new to the device, wherever it lies.
        if !self.faults().has(Fault::Unmounted) || device.phase().is_none() && device.volume.is_mounted() {
            return;
        }
        let is_mounted = !device.volume.is_mounted();
        device.volume.set_mounted(is_mounted);
        // The kernel tells whoever watches that its disk is gone, and what was not told by then is looked for.
        device.rescan();
        device.volume.clear_interruption();
        self.story.tell(|| format!("the disk of device {n} is {}", if is_mounted { "mounted" } else { "unmounted" }));
    }

    /// The watcher of a device has a bad time, or a good one again.
    pub(super) fn strike_watcher(&mut self, n: usize) {
        let watching = [Watching::Tells, Watching::LosesTrack, Watching::Waits, Watching::Drops];
        let watching = watching[below(&mut self.rng, watching.len())];
        if self.faults().has(Fault::Watchers) {
            self.devices[n].watching = watching;
            self.is_blind |= watching == Watching::Drops;
            self.story.tell(|| format!("device {n}: the watcher {watching:?}"));
        }
    }

    /// Something happens to a connection, or to all of a device.
    pub(super) fn strike_links(&mut self, n: usize) {
        let at = below(&mut self.rng, self.links.len());
        let (fault, end) = (below(&mut self.rng, 5), below(&mut self.rng, 2));
        match fault {
            0..=2 if self.faults().has(Fault::Cuts) => self.set_up(at, !self.links[at].is_up),
            3 if self.faults().has(Fault::OneWay) => {
                let is_stalled = !self.links[at].is_stalled[end];
                self.links[at].is_stalled[end] = is_stalled;
                self.story
                    .tell(|| format!("link {at}, to end {end}: {}", if is_stalled { "stalled" } else { "moves" }));
            }
            4 if self.faults().has(Fault::Partitions) => {
                let of_device: Vec<usize> = (0..self.links.len()).filter(|l| self.links[*l].end(n).is_some()).collect();
                let is_up = !of_device.iter().any(|link| self.links[*link].is_up);
                of_device.into_iter().for_each(|link| self.set_up(link, is_up));
            }
            _ => {}
        }
    }

    fn set_up(&mut self, at: usize, is_up: bool) {
        self.links[at].is_up = is_up;
        if is_up {
            self.connect();
        } else {
            self.cut(at);
        }
    }

    /// Nothing breaks any more, and what was broken is whole. Clocks stay as they are set.
    pub(super) fn clear_up(&mut self) {
        self.story.tell(|| "faults end".to_owned());
        for device in self.present().collect::<Vec<_>>() {
            self.after(device);
            self.devices[device].watching = Watching::Tells;
            self.devices[device].coalesces = false;
            self.devices[device].volume.clear_interruption();
            self.devices[device].volume.clear_unreadable();
            self.devices[device].volume.set_mounted(true);
            self.devices[device].volume.set_root_gone(false);
            self.devices[device].volume.set_capacity(ROOMY);
            self.devices[device].volume.crash_after(u64::MAX);
            self.start(device);
        }
        for link in &mut self.links {
            link.is_up = true;
            link.is_stalled = [false; 2];
        }
        self.connect();
    }
}
