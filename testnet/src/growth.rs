//! Whether what was measured again and again grows without bound.
//!
//! A run is cut into thirds. In the first a program warms up; what it has then it may keep. What still grows from the
//! second to the third, by more than a margin, grows for as long as it runs.

use std::fmt;

/// What was measured, and by how much it may differ from one third of a run to the next.
#[derive(Clone, Debug)]
pub struct Series {
    /// What it is, with its unit.
    pub name: &'static str,
    /// In the order in which they were taken.
    pub samples: Vec<f64>,
    /// As a part of the second third's median.
    pub margin: f64,
    /// Below so much no growth is told from noise.
    pub least: f64,
}

/// Something that grows.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// What.
    pub name: &'static str,
    /// The median of the second third.
    pub before: f64,
    /// The median of the last.
    pub after: f64,
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, before, after } = self;
        write!(f, "{name} grows without bound: {before:.0} in the middle third of the run, {after:.0} in the last")
    }
}

impl Series {
    /// Nothing was measured yet.
    pub const fn new(name: &'static str, margin: f64, least: f64) -> Self {
        Self { name, samples: Vec::new(), margin, least }
    }

    /// How it grows, if it does. A run of fewer than six samples says nothing.
    pub fn growth(&self) -> Option<Growth> {
        let third = self.samples.len() / 3;
        if third < 2 {
            return None;
        }
        let (_, rest) = self.samples.split_at(self.samples.len() - 2 * third);
        let (middle, last) = rest.split_at(third);
        let (before, after) = (median(middle), median(last));
        (after > before * (1.0 + self.margin) + self.least).then_some(Growth { name: self.name, before, after })
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(samples: impl IntoIterator<Item = u32>) -> Series {
        Series { samples: samples.into_iter().map(f64::from).collect(), ..Series::new("memory", 0.1, 5.0) }
    }

    #[test]
    fn what_rises_with_time_grows_and_what_warms_up_does_not() {
        assert!(series((0..30).map(|n| 100 + 5 * n)).growth().is_some());
        assert_eq!(series((0..30).map(|n| 100 + 5 * n.min(9))).growth(), None);
        assert_eq!(series((0..30).map(|n| 100 + 40 * (n % 2))).growth(), None, "it goes up and down");
        assert_eq!(series((0..30).map(|n| n / 10)).growth(), None, "too little to tell");
        assert_eq!(series((0..30).map(|n| if n == 25 { 9_000 } else { 100 })).growth(), None, "one is none");
        assert_eq!(series([1, 100, 10_000, 1, 100]).growth(), None, "too few");
    }
}
