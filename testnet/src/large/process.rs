//! What a process costs, as the kernel counts it.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::nodes::harness::Device;

/// What one step took of one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Of which device: `a` has the files first, `b` gets them.
    pub device: String,
    /// CPU seconds of the process, of user and kernel, in this step.
    pub cpu_secs: f64,
    /// Resident memory at the end, in bytes (`VmRSS`).
    pub resident_len: u64,
    /// Most resident memory in this step, in bytes (`VmHWM`, set back before the step).
    pub peak_len: u64,
    /// Resident memory at the end that belongs to no file, in bytes (`RssAnon`).
    pub anonymous_len: u64,
    /// Threads at the end.
    pub thread_count: u64,
    /// Open file handles at the end.
    pub handle_count: u64,
    /// All files of the device's home, in bytes: nearly all of it is the store of the space.
    pub home_len: u64,
}

/// One step of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// How long it took.
    pub wall_secs: f64,
    /// What it took of each node that ran.
    pub costs: Vec<Cost>,
}

/// A field of `/proc/PID/status`, in bytes or as a plain number.
pub(super) fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default();
    let mut words = line.split_whitespace();
    let number: u64 = words.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    if words.next() == Some("kB") { number << 10 } else { number }
}

/// CPU seconds of a node's process since it began.
fn cpu_secs(device: &Device) -> f64 {
    cpu_secs_of(&device.process_id().to_string())
}

/// CPU seconds of a process since it began, by its number or `self`.
pub(super) fn cpu_secs_of(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name before the last parenthesis may hold anything. Field 3 follows it; 14 and 15 are user and system time.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The lengths of all files below a directory, in bytes.
fn len_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let lens = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => len_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        // What goes while it is looked at counts nothing.
        Err(_) => 0,
    });
    lens.sum()
}

/// What a node takes now; `cpu_before`: what it had taken before the step.
pub(crate) fn cost(device: &Device, cpu_before: f64) -> Cost {
    let status = std::fs::read_to_string(format!("/proc/{}/status", device.process_id())).unwrap();
    Cost {
        device: device.name().to_owned(),
        cpu_secs: cpu_secs(device) - cpu_before,
        resident_len: field(&status, "VmRSS"),
        peak_len: field(&status, "VmHWM"),
        anonymous_len: field(&status, "RssAnon"),
        thread_count: field(&status, "Threads"),
        handle_count: std::fs::read_dir(format!("/proc/{}/fd", device.process_id())).unwrap().count() as u64,
        home_len: len_below(device.home()),
    }
}

/// Does something and says what it took of these nodes.
pub(crate) fn measure(name: &str, devices: &[&Device], act: impl FnOnce()) -> Step {
    let before: Vec<f64> = devices.iter().map(|device| cpu_secs(device)).collect();
    for device in devices {
        // Sets the peak back to what is resident now (proc(5)).
        let _kept_by_a_kernel_that_does_not = std::fs::write(format!("/proc/{}/clear_refs", device.process_id()), "5");
    }
    let begun = Instant::now();
    act();
    let wall_secs = begun.elapsed().as_secs_f64();
    let costs = devices.iter().zip(before).map(|(device, before)| cost(device, before)).collect();
    Step { name: name.to_owned(), wall_secs, costs }
}

/// The most that may pass until something is so: a million files on a slow disk.
const LIMIT: Duration = Duration::from_secs(12 * 60 * 60);

/// Looks until something is so; the longer it takes, the more seldom, so that looking costs at most a few percent.
///
/// # Panics
/// When it is not so after half a day.
pub(crate) fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "it never came that {what}");
        std::thread::sleep((begun.elapsed() / 50).clamp(Duration::from_millis(20), Duration::from_secs(5)));
    }
}

/// The value below which so many of a hundred lie; `None` of nothing.
pub(crate) fn percentile(times: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_bytes() {
        let status = "Name:\tzerocloud\nVmHWM:\t  2048 kB\nVmRSS:\t    12 kB\nThreads:\t9\n";
        assert_eq!((field(status, "VmHWM"), field(status, "VmRSS"), field(status, "Threads")), (2 << 20, 12 << 10, 9));
        assert_eq!(field(status, "RssAnon"), 0);
    }

    #[test]
    fn percentiles_are_values_that_were_met() {
        let times: Vec<Duration> = (1..=50).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Some(Duration::from_millis(25)));
        assert_eq!(percentile(&times, 99), Some(Duration::from_millis(50)));
        assert_eq!(percentile(&times[..1], 50), Some(Duration::from_millis(50)));
        assert_eq!(percentile(&[], 50), None);
    }
}
