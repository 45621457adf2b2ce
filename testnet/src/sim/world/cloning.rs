//! Devices whose home and folder are copied, and both are used from then on. To everyone else they are one device: a peer
//! is connected with one of them at a time.

use std::sync::Arc;

use super::{CLONING, World};
use crate::sim::device::Copying;
use crate::sim::faults::Fault;
use crate::sim::scenario::Scenario;
use crate::sim::user::below;

/// Who is to be copied, before which step, and how. One in a world: each fork costs every device a replay.
pub(super) struct Cloning {
    device: usize,
    step: u32,
    how: Copying,
}

impl Cloning {
    /// What is to be copied, if anything may.
    pub(super) fn draw(scenario: &Scenario) -> Option<Self> {
        if !scenario.faults.has(Fault::Clones) {
            return None;
        }
        let mut rng = scenario.generator(CLONING);
        // What has no place on a device is not passed on by it: the first has a place for all.
        let first = usize::from(scenario.faults.has(Fault::FoldedNames));
        let device = first + below(&mut rng, usize::from(scenario.device_count) - first);
        let step = below(&mut rng, scenario.length.max(1) as usize);
        let how = [Copying::Machine, Copying::Machine, Copying::Disk, Copying::Files][below(&mut rng, 4)];
        Some(Self { device, step: u32::try_from(step).unwrap_or(u32::MAX), how })
    }
}

impl World {
    /// Whoever is to be copied before a step, or before it was, is copied.
    pub(super) fn clone_until(&mut self, step: u32) {
        if let Some(Cloning { device, how, .. }) = self.cloning.take_if(|cloning| cloning.step <= step)
            && !self.left.contains(&device)
            // Else copy and copied never hear of each other.
            && self.links.iter().filter_map(|link| link.other_end(device)).any(|other| !self.left.contains(&other))
        {
            self.clone_device(device, how);
        }
    }

    fn clone_device(&mut self, n: usize, how: Copying) {
        self.after(n);
        let copy = self.devices.len();
        let device = self.devices[n].copy(u8::try_from(copy).unwrap_or(u8::MAX), how);
        self.devices.push(device);
        self.interrupted.push(Arc::default());
        self.answers.push(Default::default());
        self.add_links_of_copy(n, copy);
        self.oracle.note_copy(n, &self.devices[n].person.tree());
        self.story.tell(|| format!("device {n} is copied ({how:?}) and is also {copy}"));
        self.start(copy);
    }

    /// Whether two devices are one to everyone else.
    pub(super) fn are_one(&self, a: usize, b: usize) -> bool {
        a != b && self.devices[a].id() == self.devices[b].id()
    }

    /// Whether there are devices that are one to everyone else.
    pub(super) fn has_clones(&self) -> bool {
        (0..self.devices.len()).any(|a| (0..a).any(|b| self.are_one(a, b)))
    }

    /// A peer is connected with the other one of two, now and then.
    pub(super) fn strike_turns(&mut self) {
        if self.has_clones() && below(&mut self.rng, 5) == 0 {
            let at = below(&mut self.rng, self.links.len());
            self.turn_to(at);
        }
    }

    /// All who are connected with one of two are connected with the other.
    pub(super) fn turn_all(&mut self) {
        self.story.tell(|| "those that are one to others take turns".to_owned());
        let waiting: Vec<usize> = (0..self.links.len()).filter(|at| self.has_to_wait(*at)).collect();
        waiting.into_iter().for_each(|at| self.turn_to(at));
    }

    /// Whether a device has to wait until another that is one with it is off.
    pub(super) fn is_waiting(&self, n: usize) -> bool {
        self.has_clones() && !self.links.iter().any(|link| link.is_connected && link.end(n).is_some())
    }
}
