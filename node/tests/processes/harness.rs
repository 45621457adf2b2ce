//! Nodes as processes: starts the program, runs commands beside it, stops and kills it, and shows its log when a test
//! fails.
//!
//! Nothing in here knows where the program lies or what a test claims, so that tests of other crates can use it by path.
//! A [`Lab`] is one test's directory; a [`Device`] is a home, a folder, a port, and the process while there is one. A
//! [`Place`] is where it runs: as whom, in which network.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

// Also where this file is a module by path, and its directory another.
#[path = "harness/tree.rs"]
pub(crate) mod tree;

use tree::Tree;

/// How long anything may take before a test gives up. No test is right or wrong by how fast something is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Ports of devices. Below those that Linux gives away by itself, or another process could have taken a node's port
/// while it is restarted.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The ports that this process has given away, as a distance from where it began.
static PORT_COUNT: AtomicU16 = AtomicU16::new(0);

/// One test's directory, in which its devices live.
pub(crate) struct Lab {
    root: PathBuf,
    program: PathBuf,
    /// Goes with the lab, unless the directory is somebody else's.
    _own: Option<TempDir>,
}

impl Lab {
    /// A lab for the program at `program`.
    pub(crate) fn new(program: impl Into<PathBuf>) -> Self {
        let own = tempfile::tempdir().unwrap();
        Self { root: own.path().to_path_buf(), program: program.into(), _own: Some(own) }
    }

    /// A lab in a directory that stays.
    #[allow(dead_code, reason = "for rounds on real disks, which use this module by path")]
    pub(crate) fn at(root: &Path, program: impl Into<PathBuf>) -> Self {
        Self { root: root.to_path_buf(), program: program.into(), _own: None }
    }

    /// A directory for what belongs to no device.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// A device that runs on this machine, and has no space.
    pub(crate) fn device(&self, name: &str) -> Device {
        self.device_in(Place::default(), name)
    }

    /// A device that runs in a place, and has no space. Its home and its folder may be there already, as directories
    /// `NAME.home` and `NAME` of the lab, and a `config.toml` in its home.
    pub(crate) fn device_in(&self, place: Place, name: &str) -> Device {
        let home = self.root.join(format!("{name}.home"));
        std::fs::create_dir_all(&home).unwrap();
        let config = home.join("config.toml");
        if !config.exists() {
            std::fs::write(config, format!("lan = false\nname = \"{name}\"\n")).unwrap();
        }
        let mut device = Device {
            name: name.to_owned(),
            program: self.program.clone(),
            log: self.root.join(format!("{name}.log")),
            folder: self.root.join(name),
            home,
            listen: SocketAddr::new(place.address, free_port()),
            within: place.within,
            process: None,
        };
        std::fs::create_dir_all(&device.folder).unwrap();
        device.start();
        device
    }

    /// Two devices of one owner, the first of which has made its folder the space `Photos`.
    pub(crate) fn pair(&self) -> (Device, Device) {
        let (a, b) = (self.device("laptop"), self.device("desk"));
        a.add_space();
        b.join(&a.invite(&["--me"]));
        agree(&[&a, &b]);
        (a, b)
    }
}

/// Where a device runs.
pub(crate) struct Place {
    /// The command that runs the program there, which follows; empty for no other.
    pub(crate) within: Vec<String>,
    /// The address on which it listens.
    pub(crate) address: IpAddr,
}

impl Default for Place {
    /// This machine, as who runs the test.
    fn default() -> Self {
        Self { within: Vec::new(), address: Ipv4Addr::LOCALHOST.into() }
    }
}

/// A port on which nobody listens now.
fn free_port() -> u16 {
    let begin = std::process::id().wrapping_mul(61) % u32::from(PORTS.end - PORTS.start);
    loop {
        let count = PORT_COUNT.fetch_add(1, Ordering::Relaxed);
        let distance = (begin + u32::from(count)) % u32::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(distance).unwrap();
        if std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// An installation: its home, the folder of its space, and its node while one runs.
pub(crate) struct Device {
    name: String,
    program: PathBuf,
    log: PathBuf,
    folder: PathBuf,
    home: PathBuf,
    listen: SocketAddr,
    within: Vec<String>,
    process: Option<Child>,
}

/// What a command said.
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained about.
    pub(crate) stderr: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or_else(|| panic!("a command was killed: {}", output.status));
        Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Device {
    /// How it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The folder of its space.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its home.
    #[allow(dead_code, reason = "for rounds on real disks, which use this module by path")]
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// A path in the folder of its space.
    pub(crate) fn at(&self, path: impl AsRef<OsStr>) -> PathBuf {
        self.folder.join(Path::new(path.as_ref()))
    }

    /// Writes a file into the folder, with the directories above it.
    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Renames something in the folder.
    pub(crate) fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.at(from), self.at(to)).unwrap();
    }

    /// Reads a file of the folder as text.
    pub(crate) fn read(&self, path: &str) -> String {
        let path = self.at(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The folder as it is.
    pub(crate) fn tree(&self) -> Tree {
        Tree::read(&self.folder)
    }

    /// Logs to this path from the next start on.
    #[allow(dead_code, reason = "for one test of processes; others use this module by path")]
    pub(crate) fn log_to(&mut self, path: impl Into<PathBuf>) {
        self.log = path.into();
    }

    /// Takes the place of another in the network, which must be off while this one runs.
    pub(crate) fn listen_as(&mut self, other: &Self) {
        self.listen = other.listen;
    }

    /// Starts the node and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.spawn();
        self.await_answer();
    }

    /// Starts the node, whatever comes of it.
    pub(crate) fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let listen = self.listen.to_string();
        let mut node = self.command(["start", "--listen", &listen]);
        let node = node.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.process = Some(node.spawn().unwrap());
    }

    /// Waits until a node that was started answers.
    pub(crate) fn await_answer(&mut self) {
        until(&format!("{} answers", self.name), || {
            if let Some(status) = self.ended() {
                panic!("{} ended by itself: {status}", self.name);
            }
            self.say(["status", "--json"]).code == 0
        });
    }

    /// How the node ended, if it was started and ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.try_wait().unwrap()
    }

    /// Asks the node to end by SIGTERM; gives how it ended and how long that took.
    pub(crate) fn stop(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal(Signal::TERM);
        let mut process = self.process.take().unwrap();
        let mut status = None;
        until(&format!("{} ends", self.name), || {
            status = process.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap(), begun.elapsed())
    }

    /// Ends the node as a power cut would, but for what the kernel still writes.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The number of the node's process.
    #[allow(dead_code, reason = "for measurements, which use this module by path")]
    pub(crate) fn process_id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Has the node end as a program does that broke; gives how it ended.
    #[allow(dead_code, reason = "for one test of processes; others use this module by path")]
    pub(crate) fn break_off(&mut self) -> ExitStatus {
        self.signal(Signal::ABORT);
        self.process.take().unwrap().wait().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.process.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Bytes that the node has written since it was started, to files as to its log; what it sends is not among them.
    pub(crate) fn written_len(&self) -> u64 {
        let path = format!("/proc/{}/io", self.process_id());
        let counts = std::fs::read_to_string(path).unwrap();
        let line = counts.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
        line.parse().unwrap()
    }

    /// A command of the program on this device's home, still to be run.
    pub(crate) fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut words = self.within.iter().map(OsStr::new).chain([self.program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("--home").arg(&self.home).args(args).current_dir(self.folder.parent().unwrap());
        command.env_remove("RUST_LOG").env_remove("ZEROCLOUD_HOME");
        command
    }

    /// Runs a command, whatever comes of it.
    pub(crate) fn say(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Said {
        Said::of(&self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    /// Runs a command that must be done; gives what it printed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let said = self.say(args);
        assert_eq!(said.code, 0, "{}: {args:?}: {}{}", self.name, said.stdout, said.stderr);
        said.stdout
    }

    /// Runs a command with `--json` that must be done; gives its answer.
    pub(crate) fn ask(&self, args: &[&str]) -> Value {
        let answer = self.run(&[args, &["--json"]].concat());
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{args:?} is no JSON: {error}: {answer}"))
    }

    /// Runs a command that must fail with this code; gives what it complained about.
    pub(crate) fn refused(&self, code: i32, args: &[&str]) -> String {
        let said = self.say(args);
        assert_eq!(said.code, code, "{}: {args:?}: {}{}", self.name, said.stdout, said.stderr);
        said.stderr
    }

    /// Makes the folder the space `Photos`.
    pub(crate) fn add_space(&self) {
        self.run(&["space", "add", self.folder.to_str().unwrap(), "--name", "Photos"]);
    }

    /// A ticket to the space.
    pub(crate) fn invite(&self, options: &[&str]) -> String {
        let printed = self.run(&[&["invite", "Photos"], options].concat());
        printed.lines().last().expect("the ticket is the last line").to_owned()
    }

    /// Joins a space with the folder.
    pub(crate) fn join(&self, ticket: &str) {
        self.run(&["join", ticket, self.folder.to_str().unwrap()]);
    }

    /// What `status` says of the space.
    pub(crate) fn space_status(&self) -> Value {
        self.ask(&["status"])["spaces"][0].take()
    }

    /// How many peers are connected.
    pub(crate) fn connected_count(&self) -> usize {
        self.space_status()["peers"].as_array().unwrap().iter().filter(|peer| peer["connected"] == true).count()
    }

    /// What the node logged.
    pub(crate) fn log(&self) -> String {
        // A device that is written to may have no end to be read.
        if self.log.is_file() { std::fs::read_to_string(&self.log).unwrap_or_default() } else { String::new() }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.process.as_ref().map(|_| self.say(["status"]).stdout);
            eprintln!("--- log of {}\n{}--- its status\n{}", self.name, self.log(), status.unwrap_or_default());
        }
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Looks again and again until something is so.
///
/// # Panics
/// When it is not so after [`PATIENCE`].
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never came that {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Waits until two devices are connected, have nothing to do and agree; then their trees are the same.
pub(crate) fn agree(devices: &[&Device; 2]) {
    agree_through(devices[0], &[devices[1]]);
}

/// Waits until one device is connected with all others, none has anything to do, and it agrees with each; then their
/// trees are the same.
pub(crate) fn agree_through(middle: &Device, others: &[&Device]) {
    settle_through(middle, others);
    for other in others {
        assert_same(&[middle, other]);
    }
}

/// The same where trees may differ: a disk may have no place for what another one holds.
pub(crate) fn settle_through(middle: &Device, others: &[&Device]) {
    let is_connected = || middle.connected_count() == others.len();
    until(&format!("{} is connected with {} others", middle.name, others.len()), is_connected);
    for other in others {
        until(&format!("{} is connected", other.name), || other.connected_count() > 0);
    }
    // What the others find is in the log when theirs is done, and the last waits until all have all.
    for device in others.iter().chain([&middle]) {
        device.run(&["sync", "--wait", "--timeout", &format!("{}s", PATIENCE.as_secs())]);
    }
    until(&format!("{} agrees with {} others", middle.name, others.len()), || {
        let status = middle.space_status();
        let peers = status["peers"].as_array().unwrap();
        let count = peers.iter().filter(|peer| peer["connected"] == true && peer["in_sync"] == true).count();
        status["state"] == "idle" && count == others.len()
    });
    for other in others {
        until(&format!("{} is idle", other.name), || other.space_status()["state"] == "idle");
    }
}

/// Asserts that the trees of two devices are the same.
pub(crate) fn assert_same([one, other]: &[&Device; 2]) {
    one.tree().assert_same(&one.name, &other.tree(), &other.name);
}

/// The conflict copies that a device lists, by path.
pub(crate) fn conflict_copies(device: &Device) -> Vec<String> {
    let conflicts = device.ask(&["conflicts"]);
    let conflicts = conflicts["conflicts"].as_array().unwrap();
    conflicts.iter().map(|conflict| conflict["copy"].as_str().unwrap().to_owned()).collect()
}
