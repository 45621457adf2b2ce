//! Makes a failing run small: fewer devices, faults and steps, as long as the same promise is broken.

use std::collections::BTreeSet;

use super::runner::{Broken, Present, run_watched};
use super::scenario::{Scenario, Steps};
use super::story::Story;

/// The smallest scenario that was found by so many trials at most and fails where this one does.
pub(super) fn shrink(scenario: &Scenario, broken: &Broken, present: &Present, count_max: usize) -> Scenario {
    let mut trials = Trials { smallest: scenario.clone(), broken, present, count: 0, count_max };
    loop {
        let before = trials.smallest.clone();
        for device_count in 2..before.device_count {
            if trials.holds(Scenario { device_count, ..trials.smallest.clone() }) {
                break;
            }
        }
        for fault in before.faults.iter() {
            trials.holds(Scenario { faults: trials.smallest.faults.without(fault), ..trials.smallest.clone() });
        }
        trials.drop_steps();
        if trials.smallest == before || trials.count >= count_max {
            return trials.smallest;
        }
    }
}

struct Trials<'a> {
    smallest: Scenario,
    broken: &'a Broken,
    present: &'a Present,
    count: usize,
    count_max: usize,
}

impl Trials<'_> {
    /// Takes a scenario if it fails in the same place.
    fn holds(&mut self, scenario: Scenario) -> bool {
        if self.count >= self.count_max {
            return false;
        }
        self.count += 1;
        let outcome = run_watched(&scenario, &Story::default(), self.present);
        let is_same = outcome.is_err_and(|broken| broken.at == self.broken.at);
        if is_same {
            self.smallest = scenario;
        }
        is_same
    }

    /// Leaves out ever shorter stretches of steps (Zeller and Hildebrandt's delta debugging, from the end: what comes
    /// after the cause goes first).
    fn drop_steps(&mut self) {
        let mut len = self.smallest.steps.0.len().div_ceil(2);
        while len > 0 {
            let steps: Vec<u32> = self.smallest.steps.0.iter().copied().collect();
            let mut is_dropped = false;
            for stretch in steps.rchunks(len) {
                let dropped: BTreeSet<u32> = stretch.iter().copied().collect();
                let steps = Steps(self.smallest.steps.0.difference(&dropped).copied().collect());
                is_dropped |= self.holds(Scenario { steps, ..self.smallest.clone() });
            }
            if !is_dropped || len > 1 {
                len /= 2;
            }
        }
    }
}
