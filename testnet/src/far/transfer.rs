//! Two nodes at the ends of paths, which send each other a file.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::{Conditions, Far, FarError, Tally};
use crate::nodes::harness::{Device, Lab, Place, agree};
use crate::nodes::program_beside;

/// How long a file may be under way, whatever the path.
const LIMIT: Duration = Duration::from_secs(300);
/// How long between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How much of a file has come when a path is taken away.
const REROUTE_LEN: u64 = 1 << 20;

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// By the first node to the second, in bytes.
    pub there_len: usize,
    /// By the second to the first, after that, in bytes.
    pub back_len: usize,
    /// The program; without it the one that was built beside this one.
    pub program: Option<PathBuf>,
}

/// How one file went.
#[derive(Clone, Debug)]
pub struct Direction {
    /// From when it was in the one folder until it was in the other.
    pub elapsed: Duration,
    /// By what the sender sent in the end, as its `status` says.
    pub congestion: String,
    /// What became of packets of the sender's.
    pub tally: Tally,
    /// What the sender's log has of its paths.
    pub log: Vec<String>,
}

/// How files went.
#[derive(Clone, Debug)]
pub struct Measured {
    /// From the first node to the second.
    pub there: Direction,
    /// And back, if something was sent.
    pub back: Option<Direction>,
}

/// What happened to a file whose path was taken away.
#[derive(Clone, Debug)]
pub struct Rerouted {
    /// From the cut until the file was there.
    pub elapsed: Duration,
    /// From the cut until as much had come by the other path as shows that it carries.
    pub gap: Duration,
    /// Bytes that came by the path that was taken away, and by the one that stayed.
    pub arrived_len: [u64; 2],
    /// Whether the connection lived through it; otherwise it was dialled again.
    pub is_same_connection: bool,
    /// Whether both nodes are the processes that they were.
    pub are_same_processes: bool,
}

/// Two nodes at the ends of paths, which share a space.
struct Nodes {
    // Before the directory in which they live, and the networks.
    devices: [Device; 2],
    lab: Lab,
    far: Far,
}

impl Nodes {
    fn found(
        paths: &[Conditions],
        program: Option<&Path>,
        address: impl Fn(usize) -> std::net::IpAddr,
    ) -> Result<Self, FarError> {
        let far = Far::new(paths)?;
        let lab = Lab::new(program.map_or_else(program_beside, Path::to_path_buf));
        let place = |end| Place { within: far.within(end), address: address(end) };
        let devices = [lab.device_in(place(0), "near"), lab.device_in(place(1), "far")];
        devices[0].add_space();
        devices[1].join(&devices[0].invite(&["--me"]));
        agree(&[&devices[0], &devices[1]]);
        Ok(Self { devices, lab, far })
    }

    /// Puts a file that does not shrink into the folder of a node at once; gives when.
    fn put(&self, from: usize, name: &str, len: usize) -> Instant {
        let mut content = vec![0; len];
        ChaCha8Rng::seed_from_u64(from as u64).fill_bytes(&mut content);
        let beside = self.lab.path().join(name);
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(beside, self.devices[from].at(name)).unwrap();
        Instant::now()
    }

    /// Waits until the other node has the file, whole as the tree shows it.
    fn await_file(&self, from: usize, name: &str) {
        await_that(&format!("{name} arrives"), || self.devices[1 - from].at(name).exists());
    }

    fn send(&self, from: usize, len: usize) -> Direction {
        let before = self.far.tallies(0)[from];
        let name = format!("from-{}", self.devices[from].name());
        let begun = self.put(from, &name, len);
        self.await_file(from, &name);
        let elapsed = begun.elapsed();
        let tally = self.far.tallies(0)[from].since(&before);
        let congestion = self.devices[from].space_status()["peers"][0]["congestion"].clone();
        agree(&[&self.devices[0], &self.devices[1]]);
        let log = self.devices[from].log().lines().filter(|line| line.contains("path")).map(str::to_owned).collect();
        Direction { elapsed, congestion: congestion.as_str().unwrap_or("none").to_owned(), tally, log }
    }
}

/// Has two nodes send each other a file over one path, and asserts that it arrives and is the same.
///
/// # Errors
/// If there is no such path on this machine.
///
/// # Panics
/// When the file does not arrive, or the trees differ in the end.
pub fn transfer(conditions: &Conditions, sent: &Sent) -> Result<Measured, FarError> {
    let nodes = Nodes::found(&[*conditions], sent.program.as_deref(), |end| Far::address(end, 0))?;
    let there = nodes.send(0, sent.there_len);
    let back = (sent.back_len > 0).then(|| nodes.send(1, sent.back_len));
    Ok(Measured { there, back })
}

/// Has a node that is reached by two paths send a file, takes the path that carries it away in the middle, and asserts that
/// the file arrives and is the same.
///
/// # Errors
/// If there are no such paths on this machine.
///
/// # Panics
/// When the file does not arrive, or the trees differ in the end.
pub fn reroute(conditions: &Conditions, sent: &Sent) -> Result<Rerouted, FarError> {
    let everywhere = std::net::Ipv4Addr::UNSPECIFIED.into();
    let mut nodes = Nodes::found(&[*conditions; 2], sent.program.as_deref(), |_| everywhere)?;
    let arrived = |far: &Far| [0, 1].map(|path| far.tallies(path)[0].arrived_len);
    let before = arrived(&nodes.far);
    nodes.put(0, "file", sent.there_len);
    let mut carrying = 0;
    await_that("a path carries the file", || {
        let now = arrived(&nodes.far);
        carrying = usize::from(now[1] - before[1] > now[0] - before[0]);
        now[carrying] - before[carrying] >= REROUTE_LEN
    });
    assert!(!nodes.devices[1].at("file").exists(), "the file came before the path was cut; send a longer one");
    nodes.far.pull(0, carrying)?;
    let cut = Instant::now();
    let at_cut = arrived(&nodes.far);
    let other = 1 - carrying;
    await_that("the other path carries the file", || {
        arrived(&nodes.far)[other] - at_cut[other] >= REROUTE_LEN / 2 || nodes.devices[1].at("file").exists()
    });
    let gap = cut.elapsed();
    nodes.await_file(0, "file");
    let elapsed = cut.elapsed();
    agree(&[&nodes.devices[0], &nodes.devices[1]]);
    let after = arrived(&nodes.far);
    Ok(Rerouted {
        elapsed,
        gap,
        arrived_len: [carrying, other].map(|path| after[path] - before[path]),
        is_same_connection: !nodes.devices.iter().any(|device| device.log().contains("disconnected")),
        are_same_processes: nodes.devices.iter_mut().all(|device| device.ended().is_none()),
    })
}

fn await_that(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LIMIT, "it never came that {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}
