//! Ten devices in one space: whether a file reaches nine from one without being sent nine times, and how soon an edit is
//! on the last of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement ends where a node does wrong"
)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::large::{await_content, percentile};
use crate::nodes::harness::{Device, Lab, until};

/// How many devices there are.
pub const DEVICE_COUNT: usize = 10;
/// How long a file may take to be everywhere, before this gives up.
const FILE_LIMIT: Duration = Duration::from_secs(1_800);
/// How long between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What is wanted.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// The length of the file that one device gets, in MiB.
    #[arg(long, default_value_t = 256)]
    pub mib: u64,
    /// How many edits of a small file are made after that, one after the other.
    #[arg(long, default_value_t = 50)]
    pub edits: u32,
    /// The program.
    #[arg(long)]
    pub binary: PathBuf,
    /// Where the devices live, in a directory that is made, or empty, and stays.
    #[arg(long)]
    pub work: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The length of the file, in bytes.
    pub len: u64,
    /// Sealed chunks that the device that had it gave the others, in bytes.
    pub sent_len: u64,
    /// The same of each of the others, which had it from there and from each other.
    pub passed_len: Vec<u64>,
    /// How long it took until the last had it.
    pub took: Duration,
    /// How long each edit took until the last had it.
    pub edits: Vec<Duration>,
}

impl Report {
    /// How many times the file was sent by the device that had it.
    pub fn copies(&self) -> f64 {
        self.sent_len as f64 / self.len as f64
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let passed: Vec<String> =
            self.passed_len.iter().map(|passed| format!("{:.2}", *passed as f64 / self.len as f64)).collect();
        writeln!(
            f,
            "{} MiB were on nine other devices after {:.1} s: sent {:.2} times by the one that had it, and {} times by the others",
            self.len >> 20,
            self.took.as_secs_f64(),
            self.copies(),
            passed.join(", ")
        )?;
        let ms = |percent| percentile(&self.edits, percent).unwrap_or_default().as_secs_f64() * 1_000.0;
        write!(
            f,
            "{} edits were on the last of nine after {:.0} ms (p50) and {:.0} ms (p99)",
            self.edits.len(),
            ms(50),
            ms(99)
        )
    }
}

/// Content sealed by a device for others since its node began, in bytes.
fn sent_len(device: &Device) -> u64 {
    device.space_status()["sent_bytes"].as_u64().unwrap()
}

/// Runs ten nodes of `program` below `work`.
///
/// # Panics
/// When a node does wrong.
pub fn run(program: &Path, work: &Path, len: u64, edit_count: u32) -> Report {
    std::fs::create_dir_all(work).unwrap();
    // Nodes run in directories of their own.
    let [program, work] = [program, work].map(|path| std::path::absolute(path).unwrap());
    let lab = Lab::at(&work, program);
    let devices: Vec<Device> = (0..DEVICE_COUNT).map(|n| lab.device(&format!("device{n}"))).collect();
    let (first, others) = devices.split_first().unwrap();
    first.add_space();
    others.iter().for_each(|device| device.join(&first.invite(&["--me"])));
    for device in &devices {
        until("all are connected with all", || device.connected_count() == others.len());
    }

    let before: Vec<u64> = devices.iter().map(sent_len).collect();
    let made = lab.path().join("made");
    let hash = make(&made, len);
    std::fs::rename(made, first.at("film.mkv")).unwrap();
    let begun = Instant::now();
    for device in others {
        let path = device.at("film.mkv");
        // Nothing is under its name before it is whole.
        while !path.exists() {
            assert!(begun.elapsed() < FILE_LIMIT, "the file never came to {}", device.name());
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
    let took = begun.elapsed();
    for device in others {
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut std::fs::File::open(device.at("film.mkv")).unwrap(), &mut hasher).unwrap();
        assert_eq!(hasher.finalize(), hash, "{} has something else", device.name());
    }
    let mut sent: Vec<u64> = devices.iter().zip(before).map(|(device, before)| sent_len(device) - before).collect();
    let sent_by_first = sent.remove(0);

    let mut edits = Vec::new();
    for number in 0..edit_count {
        let content = format!("edit {number}\n");
        std::fs::write(first.at("notes.txt"), &content).unwrap();
        let begun = Instant::now();
        others.iter().for_each(|device| await_content(&device.at("notes.txt"), content.as_bytes()));
        edits.push(begun.elapsed());
    }
    Report { len, sent_len: sent_by_first, passed_len: sent, took, edits }
}

/// Writes a file of noise; gives its hash.
fn make(path: &Path, len: u64) -> blake3::Hash {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let (mut rng, mut hasher, mut rest) = (ChaCha8Rng::seed_from_u64(10), blake3::Hasher::new(), len);
    let mut piece = vec![0; 1 << 20];
    while rest > 0 {
        let piece = &mut piece[..usize::try_from(rest.min(1 << 20)).unwrap()];
        rng.fill_bytes(piece);
        hasher.update(piece);
        std::io::Write::write_all(&mut file, piece).unwrap();
        rest -= piece.len() as u64;
    }
    std::io::Write::flush(&mut file).unwrap();
    hasher.finalize()
}
