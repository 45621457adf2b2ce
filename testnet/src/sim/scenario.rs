//! What one run is made from: a seed, and whatever of that the seed would draw is given instead.
//!
//! Each step draws from a generator of its own, which the seed and the step's number make: a step does the same
//! (as far as it can) when others are left out. That is what makes a failing run small.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::faults::Faults;
use super::user::{VERB_COUNT, below};

/// Devices of a world at most.
pub const DEVICE_COUNT_MAX: u8 = 6;

/// Who acts when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Manner {
    /// Everybody at once, while anything breaks.
    AtOnce,
    /// As at once, but only one of the users acts: nothing may change his tree but he, and no conflict copy arises.
    OneWriter,
    /// One user at a time, and everything settles before the next: nothing may show but his acts.
    OneByOne,
}

/// Numbers of steps, as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps(pub BTreeSet<u32>);

impl Steps {
    /// The numbers as ranges, in order.
    fn ranges(&self) -> Vec<Range<u32>> {
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for step in &self.0 {
            match ranges.last_mut() {
                Some(last) if last.end == *step => last.end += 1,
                _ => ranges.push(*step..*step + 1),
            }
        }
        ranges
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = self.ranges().into_iter().map(|range| match range.len() {
            1 => range.start.to_string(),
            _ => format!("{}-{}", range.start, range.end - 1),
        });
        f.write_str(&texts.collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().map_err(|error| format!("{text}: {error}"));
        let mut steps = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            steps.extend(number(first)?..=number(last)?);
        }
        Ok(Self(steps))
    }
}

/// Which runs are wanted.
#[derive(Clone, Debug, clap::Args)]
pub struct Selection {
    /// How many seeds are run.
    #[arg(long, default_value_t = 100)]
    pub seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    pub first_seed: u64,
    /// How many devices there are, from 2; without it each seed draws.
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=i64::from(DEVICE_COUNT_MAX)))]
    pub devices: Option<u8>,
    /// What may break: `all`, `none`, or classes with commas between them; without it each seed draws.
    #[arg(long)]
    pub faults: Option<Faults>,
    /// Who acts when; without it each seed draws.
    #[arg(long, value_enum)]
    pub manner: Option<Manner>,
    /// How many steps a run has; without it each seed draws.
    #[arg(long)]
    pub length: Option<u32>,
    /// How many kinds of acts users know, of all that there are by now.
    #[arg(long, default_value_t = VERB_COUNT)]
    pub verbs: usize,
    /// Which of the steps are done (`0-7,12`); without it all.
    #[arg(long)]
    pub steps: Option<Steps>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// What all is drawn from.
    pub seed: u64,
    /// Who acts when.
    pub manner: Manner,
    /// How many devices there are.
    pub device_count: u8,
    /// What may break.
    pub faults: Faults,
    /// How many steps there would be.
    pub length: u32,
    /// How many kinds of acts users know.
    pub verb_count: usize,
    /// Which of them are done.
    pub steps: Steps,
}

impl Scenario {
    /// The run of a seed, with what is given in place of what it draws.
    pub fn new(seed: u64, selection: &Selection) -> Self {
        let mut rng = generator(seed, u32::MAX);
        let manner = match below(&mut rng, 10) {
            0 | 5 => Manner::OneByOne,
            1 => Manner::OneWriter,
            _ => Manner::AtOnce,
        };
        let device_count = 2 + u8::from(below(&mut rng, 3) == 0) + u8::from(below(&mut rng, 6) == 0);
        let lengths = [20, 60, 120, 250, 250, 250, 400, 700];
        let length = lengths[below(&mut rng, lengths.len())];
        let faults = Faults::draw(&mut rng);
        let manner = selection.manner.unwrap_or(manner);
        let length = selection.length.unwrap_or(match manner {
            Manner::AtOnce | Manner::OneWriter => length,
            Manner::OneByOne => 4 + length / 30,
        });
        Self {
            seed,
            manner,
            device_count: selection.devices.unwrap_or(device_count),
            faults: selection.faults.clone().unwrap_or(faults),
            length,
            verb_count: selection.verbs.clamp(1, VERB_COUNT),
            steps: selection.steps.clone().unwrap_or_else(|| Steps((0..length).collect())),
        }
    }

    /// What a step draws from.
    pub fn generator(&self, step: u32) -> ChaCha8Rng {
        generator(self.seed, step)
    }
}

/// What a step of a seed's run draws from.
pub(crate) fn generator(seed: u64, step: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(step));
    rng
}

/// The options that make this run again.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, manner, device_count, faults, length, verb_count, steps } = self;
        let manner = manner.to_possible_value();
        let manner = manner.as_ref().map_or("", |value| value.get_name());
        write!(f, "--first-seed {seed} --seeds 1 --manner {manner} --devices {device_count} --faults {faults}")?;
        write!(f, " --length {length} --verbs {verb_count}")?;
        if steps.0.len() < *length as usize {
            write!(f, " --steps {steps}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_as_they_are_written() {
        let steps: Steps = "0-2,5,7-8".parse().unwrap();
        assert_eq!(steps.0, BTreeSet::from([0, 1, 2, 5, 7, 8]));
        assert_eq!(steps.to_string(), "0-2,5,7-8");
        assert!("3-x".parse::<Steps>().is_err());
        assert_eq!(Steps::default().to_string().parse(), Ok(Steps::default()));
    }

    #[test]
    fn faults_are_read_as_they_are_written() {
        for text in ["none", "kills", "kills,one-way"] {
            assert_eq!(text.parse::<Faults>().unwrap().to_string(), text);
        }
        assert!("kils".parse::<Faults>().is_err());
    }
}
