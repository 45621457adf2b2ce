//! What size costs: real nodes with many files, a long history, and one file that is mostly holes.
//!
//! Each measurement is one JSON object; [`report`] makes a table and a plot of several. Nodes run as they are shipped, each
//! with its own home, over the loopback; a history is fed to replicas in this process, because no disk sees a million
//! edits in a day. `docs/large.md` tells what came of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement ends where a node does wrong"
)]
#![allow(clippy::print_stderr, reason = "how far it is")]

mod history;
mod process;
pub mod report;
mod sparse;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

pub use self::history::{History, HistoryWanted};
pub(crate) use self::process::percentile;
pub use self::process::{Cost, Step};
use self::process::{await_that, cost, measure};
use crate::nodes::harness::{Device, Lab};
use crate::trees::{self, Made, Sparse, TreeError};

/// How long a file may take to come to the other device, before a measurement gives up.
const EDIT_LIMIT: Duration = Duration::from_secs(600);

/// One measurement, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Measured {
    /// Many files.
    Tree(TreeMeasured),
    /// Many edits of a few files.
    History(History),
    /// One file with holes.
    Sparse(SparseMeasured),
}

/// Two nodes with many files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TreeMeasured {
    /// How many files.
    pub file_count: u64,
    /// In how many directories below the root.
    pub directory_count: u64,
    /// The lengths of all files together, in bytes.
    pub content_len: u64,
    /// What was done, in this order.
    pub steps: Vec<Step>,
    /// From the end of a write on one device until the other device shows it, in milliseconds, one after the other.
    pub edit_ms: Vec<f64>,
}

/// Two nodes with one file of holes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SparseMeasured {
    /// Its length, in bytes.
    pub len: u64,
    /// How much of it is data, in bytes.
    pub data_len: u64,
    /// What it takes on the disk, in bytes.
    pub allocated_len: u64,
    /// What the other device's copy takes, in bytes.
    pub copy_allocated_len: u64,
    /// What was done, in this order.
    pub steps: Vec<Step>,
}

/// Many files that are wanted.
#[derive(Clone, Debug)]
pub struct TreeWanted {
    /// The tree.
    pub tree: trees::Wanted,
    /// How many edits are made, one after the other.
    pub edit_count: u32,
}

/// Measures two nodes of `program` with many files, in a directory in which nothing is.
///
/// # Errors
/// [`TreeError`], if there can't be such a tree.
///
/// # Panics
/// When a node does wrong.
pub fn measure_tree(program: &Path, work: &Path, wanted: &TreeWanted) -> Result<TreeMeasured, TreeError> {
    let lab = Lab::at(work, program);
    eprintln!("making {} files", wanted.tree.files);
    let Made { file_count, directory_count, content_len } = trees::make(&work.join("a"), &wanted.tree)?;
    let mut a = lab.device("a");
    let mut steps = vec![told(measure("nothing", &[&a], || {}))];
    steps.push(told(measure("first scan", &[&a], || {
        a.add_space();
        await_that("all files are known", || is_idle_with(&a, file_count));
    })));
    let b = lab.device("b");
    let ticket = a.invite(&["--me"]);
    steps.push(told(measure("first sync", &[&a, &b], || {
        b.join(&ticket);
        await_that("both are the same", || is_idle_with(&b, file_count) && is_in_sync(&a));
    })));
    let begun = Instant::now();
    steps.push(told(measure("scan without changes", &[&a], || scan(&a))));
    let edit_ms = edits(&a, &b, wanted.edit_count);
    steps.push(told(Step {
        name: "edits".to_owned(),
        wall_secs: begun.elapsed().as_secs_f64(),
        costs: vec![cost(&a, 0.0), cost(&b, 0.0)],
    }));
    a.stop();
    let begun = Instant::now();
    a.start();
    let wall_secs = begun.elapsed().as_secs_f64();
    steps.push(told(Step { name: "start until it answers".to_owned(), wall_secs, costs: vec![cost(&a, 0.0)] }));
    await_that("all files are known again", || is_idle_with(&a, file_count));
    let wall_secs = begun.elapsed().as_secs_f64();
    steps.push(told(Step { name: "start until it is idle".to_owned(), wall_secs, costs: vec![cost(&a, 0.0)] }));
    Ok(TreeMeasured { file_count, directory_count, content_len, steps, edit_ms })
}

/// Measures two nodes of `program` with one file of holes, in a directory in which nothing is.
///
/// # Errors
/// [`TreeError`], if there can't be such a file.
///
/// # Panics
/// When a node does wrong, or the copy is not the same.
pub fn measure_sparse(program: &Path, work: &Path, wanted: &Sparse) -> Result<SparseMeasured, TreeError> {
    let lab = Lab::at(work, program);
    let io = |source| TreeError::Io { path: work.to_path_buf(), source };
    std::fs::create_dir_all(work.join("a")).map_err(io)?;
    let name = "disk image.raw";
    let made = trees::make_sparse(&work.join("a").join(name), wanted)?;
    let a = lab.device("a");
    let mut steps = vec![told(measure("first scan", &[&a], || {
        a.add_space();
        await_that("the file is known", || is_idle_with(&a, 1));
    }))];
    let b = lab.device("b");
    let ticket = a.invite(&["--me"]);
    steps.push(told(measure("first sync", &[&a, &b], || {
        b.join(&ticket);
        await_that("both are the same", || is_idle_with(&b, 1) && is_in_sync(&a));
    })));
    let (original, copy) = (a.at(name), b.at(name));
    sparse::assert_same(&original, &copy);
    let allocated_len = trees::allocated_len(&original).map_err(io)?;
    let copy_allocated_len = trees::allocated_len(&copy).map_err(io)?;
    let data_len = wanted.data_mib << 20;
    Ok(SparseMeasured { len: made.content_len, data_len, allocated_len, copy_allocated_len, steps })
}

/// Measures a long history of few files.
///
/// # Panics
/// When a replica does wrong.
pub fn measure_history(work: &Path, wanted: &HistoryWanted) -> History {
    history::measure(work, wanted)
}

/// Says how far it is.
fn told(step: Step) -> Step {
    let costs: Vec<String> = step
        .costs
        .iter()
        .map(|cost| {
            let (cpu, resident, home) = (cost.cpu_secs, cost.resident_len >> 20, cost.home_len >> 20);
            format!("{}: {cpu:.2} s of CPU, {resident} MiB resident, {home} MiB in its home", cost.device)
        })
        .collect();
    eprintln!("{}: {:.2} s; {}", step.name, step.wall_secs, costs.join("; "));
    step
}

/// Whether a node has so many files and nothing to do.
fn is_idle_with(device: &Device, file_count: u64) -> bool {
    let status = device.space_status();
    assert_ne!(status["state"], "error", "{status}");
    status["state"] == "idle" && status["files"] == file_count
}

/// Whether the other device shows what this one has.
fn is_in_sync(device: &Device) -> bool {
    device.space_status()["peers"].as_array().unwrap().iter().any(|peer| peer["in_sync"] == true)
}

/// Has a node look at its whole folder.
fn scan(device: &Device) {
    let output = device.command(["sync"]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Edits files of one device, each when the one before is on the other; gives how long each took, in milliseconds.
fn edits(from: &Device, to: &Device, count: u32) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let files = some_files(from.folder(), 1_000);
    let edit = |number: u32| {
        let file = &files[usize::try_from(rng.next_u64() % files.len() as u64).unwrap()];
        let content = format!("edit {number}: {:x}\n", rng.next_u64());
        let there = to.at(file);
        std::fs::write(from.at(file), &content).unwrap();
        let begun = Instant::now();
        await_content(&there, content.as_bytes());
        begun.elapsed().as_secs_f64() * 1_000.0
    };
    (0..count).map(edit).collect()
}

/// Waits until a file has this content.
pub(crate) fn await_content(path: &Path, content: &[u8]) {
    let begun = Instant::now();
    while std::fs::read(path).ok().as_deref() != Some(content) {
        assert!(begun.elapsed() < EDIT_LIMIT, "an edit never came to {}", path.display());
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// The first files below a directory, in the order in which they are met, by their paths from there.
fn some_files(root: &Path, count: usize) -> Vec<PathBuf> {
    let (mut files, mut stack) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(directory) = stack.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == ".zerocloud" {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                stack.push(entry.path());
            } else if files.len() < count {
                files.push(entry.path().strip_prefix(root).unwrap().to_path_buf());
            }
        }
        if files.len() >= count {
            break;
        }
    }
    files
}
