//! An hour of real use: two nodes as processes, edits on both sides all the time, and what the nodes take meanwhile.
//!
//! Every half minute it is read how much memory and how many files each node has open, and how large its store and its
//! version store are. Memory and open files must stay; the stores must grow no faster for an edit at the end than in the
//! middle (what peers replace is kept for 30 days, and the log for good).

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::growth::{Growth, Series};
use crate::nodes::harness::{Device, Lab, agree};
use crate::sim::user::below;

/// Between two samples, in a run that is long enough for it.
const INTERVAL: Duration = Duration::from_secs(30);
/// A run has so many samples at least.
const SAMPLE_COUNT_MIN: u32 = 18;
/// Files that are edited on each side, and directories that they lie in.
const FILE_COUNT: usize = 40;
const DIRECTORY_COUNT: usize = 5;
/// Bytes of a usual file, and of one in a hundred.
const LEN_MAX: usize = 48 << 10;
const LARGE_LEN: usize = 3 << 20;
/// Growth below this is noise: KiB of memory, files, KiB for an edit.
const MEMORY_KIB_LEAST: f64 = 12.0 * 1024.0;
const FILES_LEAST: f64 = 10.0;
const FOR_EDIT_KIB_LEAST: f64 = 24.0;

/// What is wanted.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// The program; without it the one that was built beside this one.
    #[arg(long)]
    pub binary: Option<PathBuf>,
    /// Minutes of edits.
    #[arg(long, default_value_t = 60)]
    pub minutes: u32,
    /// Milliseconds between two edits of one side. Fewer show sooner what grows with edits.
    #[arg(long, default_value_t = 150)]
    pub pause_ms: u64,
    /// What edits are drawn from.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// What one node took at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the first edit.
    pub at: Duration,
    /// Edits by then, on both sides.
    pub edit_count: u64,
    /// Resident memory in KiB.
    pub memory_kib: u64,
    /// Of that, what is no file's: without the program's own code.
    pub own_kib: u64,
    /// Open files.
    pub file_count: usize,
    /// The version store in KiB on disk.
    pub versions_kib: u64,
    /// The home in KiB on disk: its stores, and in them the log.
    pub home_kib: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// By node, in the order of time.
    pub samples: Vec<(&'static str, Vec<Sample>)>,
    /// What grows.
    pub growths: Vec<(&'static str, Growth)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>8} {:>8} {:>8} {:>11} {:>8} {:>6} {:>13} {:>9}",
            "node", "s", "edits", "memory KiB", "own KiB", "files", "versions KiB", "home KiB"
        )?;
        for (name, samples) in &self.samples {
            for sample in samples {
                let Sample { at, edit_count, memory_kib, own_kib, file_count, versions_kib, home_kib } = sample;
                writeln!(
                    f,
                    "{name:>8} {:>8} {edit_count:>8} {memory_kib:>11} {own_kib:>8} {file_count:>6} {versions_kib:>13} {home_kib:>9}",
                    at.as_secs()
                )?;
            }
        }
        self.growths.iter().try_for_each(|(name, growth)| writeln!(f, "{name}: {growth}"))
    }
}

/// Runs it.
///
/// # Panics
/// Where a node ends by itself, or both do not come to the same tree.
pub fn run(wanted: &Wanted) -> Report {
    let program = wanted.binary.clone().unwrap_or_else(super::program_beside);
    let lab = Lab::new(std::path::absolute(program).unwrap());
    let (mut laptop, mut desk) = lab.pair();
    let (begun, length) = (Instant::now(), Duration::from_secs(60) * wanted.minutes);
    let interval = INTERVAL.min(length / SAMPLE_COUNT_MIN);
    let mut samples = [("laptop", Vec::new()), ("desk", Vec::new())];
    let (mut rng, mut edit_count) = (ChaCha8Rng::seed_from_u64(wanted.seed), 0);
    while begun.elapsed() < length {
        let due = interval * u32::try_from(samples[0].1.len() + 1).unwrap();
        while begun.elapsed() < due {
            for device in [&laptop, &desk] {
                edit(device, &mut rng);
                edit_count += 1;
            }
            std::thread::sleep(Duration::from_millis(wanted.pause_ms));
        }
        for ((_, samples), device) in samples.iter_mut().zip([&laptop, &desk]) {
            samples.push(sample(device, begun.elapsed(), edit_count));
        }
    }
    agree(&[&laptop, &desk]);
    let mut growths = Vec::new();
    for (name, samples) in &samples {
        growths.extend(growths_of(samples).into_iter().map(|growth| (*name, growth)));
    }
    laptop.stop();
    desk.stop();
    Report { samples: samples.to_vec(), growths }
}

/// One edit on one side: what a person does in an hour, again and again.
fn edit(device: &Device, rng: &mut ChaCha8Rng) {
    let directory = below(rng, DIRECTORY_COUNT);
    let path = |n: usize| format!("{}/{directory}/{n}.txt", device.name());
    let (file, other) =
        (path(below(rng, FILE_COUNT / DIRECTORY_COUNT)), path(below(rng, FILE_COUNT / DIRECTORY_COUNT)));
    let is_there = device.at(&file).is_file();
    match below(rng, 10) {
        0 if is_there => std::fs::remove_file(device.at(&file)).unwrap(),
        1 if is_there && !device.at(&other).exists() => device.rename(&file, &other),
        2 if is_there => {
            let mut text = std::fs::read(device.at(&file)).unwrap();
            text.truncate(LEN_MAX);
            text.extend_from_slice(b"one line more\n");
            device.write(&file, text);
        }
        _ => {
            let is_large = below(rng, 100) == 0;
            let mut bytes = vec![0; if is_large { LARGE_LEN } else { below(rng, LEN_MAX) }];
            rng.fill_bytes(&mut bytes);
            device.write(&file, bytes);
        }
    }
}

fn sample(device: &Device, at: Duration, edit_count: u64) -> Sample {
    let process = PathBuf::from(format!("/proc/{}", device.process_id()));
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    let kib = |name| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        value.trim_end_matches("kB").trim().parse().unwrap()
    };
    Sample {
        at,
        edit_count,
        memory_kib: kib("VmRSS:"),
        own_kib: kib("RssAnon:"),
        file_count: std::fs::read_dir(process.join("fd")).unwrap().count(),
        versions_kib: kib_in(&device.at(".zerocloud/versions")),
        home_kib: kib_in(device.home()),
    }
}

/// What the files at or below a path take on disk. What goes meanwhile takes nothing.
fn kib_in(path: &Path) -> u64 {
    let Ok(found) = std::fs::symlink_metadata(path) else { return 0 };
    let below = match std::fs::read_dir(path) {
        Ok(entries) if found.is_dir() => entries.flatten().map(|entry| kib_in(&entry.path())).sum(),
        _ => 0,
    };
    found.blocks() / 2 + below
}

/// What grows of one node that must not.
fn growths_of(samples: &[Sample]) -> Vec<Growth> {
    let level = |name, margin, least, of: &dyn Fn(&Sample) -> f64| Series {
        samples: samples.iter().map(of).collect(),
        ..Series::new(name, margin, least)
    };
    let for_edit = |name, of: &dyn Fn(&Sample) -> f64| {
        let pairs = samples.windows(2).filter_map(|pair| <&[Sample; 2]>::try_from(pair).ok());
        let rate = |[one, next]: &[Sample; 2]| {
            let edits = next.edit_count.saturating_sub(one.edit_count).max(1);
            (of(next) - of(one)) / edits as f64
        };
        Series { samples: pairs.map(rate).collect(), ..Series::new(name, 0.5, FOR_EDIT_KIB_LEAST) }
    };
    let all = [
        level("memory (KiB)", 0.1, MEMORY_KIB_LEAST, &|sample| sample.memory_kib as f64),
        level("open files", 0.1, FILES_LEAST, &|sample| sample.file_count as f64),
        for_edit("the version store (KiB for an edit)", &|sample| sample.versions_kib as f64),
        for_edit("the home (KiB for an edit)", &|sample| sample.home_kib as f64),
    ];
    all.iter().filter_map(Series::growth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(of: impl Fn(u64) -> Sample) -> Vec<Sample> {
        (0..24).map(of).collect()
    }

    fn steady(n: u64) -> Sample {
        Sample {
            at: Duration::from_secs(30 * n),
            edit_count: 100 * n,
            memory_kib: 90_000 + 500 * (n % 3),
            own_kib: 70_000,
            file_count: 40 + (n % 5) as usize,
            versions_kib: 2_400 * n,
            home_kib: 20_000 + 900 * n,
        }
    }

    #[test]
    fn what_grows_is_named_and_stores_that_grow_with_edits_are_not() {
        assert_eq!(growths_of(&samples(steady)), []);
        let named = |of: fn(u64) -> Sample| {
            let grown = growths_of(&samples(of));
            grown.iter().map(|growth| growth.name).collect::<Vec<_>>()
        };
        assert_eq!(named(|n| Sample { memory_kib: 90_000 + 4_000 * n, ..steady(n) }), ["memory (KiB)"]);
        assert_eq!(named(|n| Sample { file_count: 40 + 4 * n as usize, ..steady(n) }), ["open files"]);
        let squared = named(|n| Sample { home_kib: 4_000 * n * n, ..steady(n) });
        assert_eq!(squared, ["the home (KiB for an edit)"]);
    }

    #[test]
    fn files_of_a_directory_are_counted_with_those_below_it() {
        let directory = tempfile::tempdir().unwrap();
        let before = kib_in(directory.path());
        std::fs::create_dir(directory.path().join("below")).unwrap();
        std::fs::write(directory.path().join("below/file"), vec![1; 1 << 20]).unwrap();
        assert!(kib_in(directory.path()) >= before + 1024);
        assert_eq!(kib_in(&directory.path().join("none")), 0);
    }
}
