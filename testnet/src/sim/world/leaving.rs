//! Devices that go away for good: nobody hears of them again, nor of what they alone had.

use std::collections::BTreeSet;

use super::{LEAVING, World};
use crate::sim::faults::Fault;
use crate::sim::scenario::Scenario;
use crate::sim::user::below;
use crate::sim::volume::{Crash, Tree};

/// Who is to go away, and before which step.
pub(super) struct Leaver {
    device: usize,
    step: u32,
}

/// Who goes away, if any may. The first device stays, and of more than two also another.
pub(super) fn draw(scenario: &Scenario, is_line: bool) -> Vec<Leaver> {
    let faults = &scenario.faults;
    if !faults.has(Fault::Leavers) {
        return Vec::new();
    }
    let mut rng = scenario.generator(LEAVING);
    let mut others: Vec<usize> = (1..usize::from(scenario.device_count)).collect();
    let count = 1 + below(&mut rng, others.len().saturating_sub(1).max(1));
    let mut steps: Vec<usize> = (0..count).map(|_| below(&mut rng, scenario.length.max(1) as usize)).collect();
    steps.sort_unstable();
    let mut leavers = Vec::new();
    for step in steps {
        // In a line, others hear of each other through those between them.
        let at = if is_line { others.len() - 1 } else { below(&mut rng, others.len()) };
        leavers.push(Leaver { device: others.remove(at), step: u32::try_from(step).unwrap_or(u32::MAX) });
    }
    leavers
}

impl World {
    /// Those who have not gone away.
    pub(super) fn present(&self) -> impl Iterator<Item = usize> + use<> {
        let left = self.left.clone();
        (0..self.devices.len()).filter(move |n| !left.contains(n))
    }

    /// A device, or the next one that has not gone away.
    pub(super) fn present_from(&self, n: usize) -> usize {
        let count = self.devices.len();
        (n..n + count).map(|n| n % count).find(|n| !self.left.contains(n)).unwrap_or_default()
    }

    /// Whoever is to go away before a step, or before it was, is away.
    pub(super) fn leave_until(&mut self, step: u32) {
        let (due, later) = std::mem::take(&mut self.leavers).into_iter().partition(|leaver| leaver.step <= step);
        self.leavers = later;
        for Leaver { device, .. } in due {
            if self.are_linked_without(device) {
                self.leave(device);
            }
        }
    }

    /// Whether all others hear of each other when a device is away: a copy of another is linked only with those with whom
    /// that one was.
    fn are_linked_without(&self, n: usize) -> bool {
        let others: BTreeSet<usize> = self.present().filter(|other| *other != n).collect();
        let mut heard: BTreeSet<usize> = others.first().copied().into_iter().collect();
        let mut ways: Vec<usize> = heard.iter().copied().collect();
        while let Some(at) = ways.pop() {
            let next = self.links.iter().filter_map(|link| link.other_end(at)).filter(|other| others.contains(other));
            let new: Vec<usize> = next.filter(|other| heard.insert(*other)).collect();
            ways.extend(new);
        }
        heard == others
    }

    fn leave(&mut self, n: usize) {
        self.after(n);
        self.disconnect(n);
        self.devices[n].stop(Crash::Killed);
        self.answers[n].clear();
        self.left.insert(n);
        self.devices[n].volume.set_mounted(true);
        let disk = self.devices[n].person.whole_tree();
        let stays: Vec<Tree> = self.present().map(|n| self.devices[n].person.whole_tree()).collect();
        self.oracle.note_leaver(n, &disk, &stays);
        self.story.tell(|| format!("device {n} goes away for good"));
    }
}
