//! Nodes as processes on one ground, their users, and what is done to both in rounds.
//!
//! In a round users act and nodes are killed and started, in the middle of whatever they do. Then all run and settle, and
//! what the [`Oracle`] knows is held against what lies on the disks.

use std::path::Path;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use zerocloud::clock::{Clock, SystemClock};
use zerocloud::home::Home;
use zerocloud::store::SpaceStore;
use zerocloud_crdt::log::{Frontier, LogRead};
use zerocloud_crdt::name::CONTROL;

use super::ground::Ground;
use super::owner::FolderOwner;
use crate::nodes::harness::{Device, Lab, settle_through, until};
use crate::sim::device::is_of_hard_links;
use crate::sim::oracle::{Acted, Oracle};
use crate::sim::scenario::generator;
use crate::sim::story::{Story, difference, shown};
use crate::sim::user::{FolderUser, VERB_COUNT, act, below, content, other_case};
use crate::sim::volume::Tree;

/// How devices and their folders are called.
pub(super) const NAMES: [&str; 3] = ["laptop", "desk", "phone"];
/// The stream of a seed's generator that no round draws from.
const FOUNDING_STREAM: u32 = u32::MAX - 1;
/// Contents that a round may write: no round comes that far.
const ROUND_CONTENT_COUNT: u32 = 1 << 12;
/// Files that are unpacked at once, and how long each is, at most.
const UNPACKED_COUNT_MAX: usize = 120;
const UNPACKED_LEN_MAX: usize = 8_000;
/// How long users and nodes are left alone between two steps, in milliseconds: below and above the time that a file must
/// rest before it is taken.
const WAITS_MS: [u64; 6] = [0, 5, 30, 90, 150, 500];

/// What happened, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rounds that hold.
    pub round_count: u64,
    /// Acts of users.
    pub act_count: u64,
    /// Nodes that were killed.
    pub kill_count: u64,
    /// Nodes that ended by themselves, on a full disk.
    pub end_count: u64,
    /// Times that a disk was filled.
    pub full_count: u64,
    /// Conflict copies, counted at the end of each round.
    pub copy_count: u64,
    /// Trees that could not hold all that another has, at the end of a round.
    pub collision_count: u64,
    /// Acts that may have taken away more than their user saw, after which the oracle knows less.
    pub unsure_count: u64,
}

impl Tally {
    /// Adds what happened in another world.
    pub(super) const fn add(&mut self, other: &Self) {
        self.round_count += other.round_count;
        self.act_count += other.act_count;
        self.kill_count += other.kill_count;
        self.end_count += other.end_count;
        self.full_count += other.full_count;
        self.copy_count += other.copy_count;
        self.collision_count += other.collision_count;
        self.unsure_count += other.unsure_count;
    }
}

/// A node and the owner of its folder.
struct Node {
    device: Device,
    owner: FolderOwner,
    is_on: bool,
    /// What its user did in this round.
    acts: Vec<Acted>,
    /// The tree when all had settled.
    settled: Tree,
    /// Whether its disk could not hold all of the view then.
    has_collisions: bool,
}

/// See the module.
pub(super) struct World<'g> {
    // Before the ground, which lies below them.
    nodes: Vec<Node>,
    ground: &'g Ground,
    seed: u64,
    rng: ChaCha8Rng,
    /// What lies beside the folders, where links lead.
    outside: Tree,
    oracle: Oracle,
    next_content: u32,
    tally: Tally,
    story: Story,
}

impl<'g> World<'g> {
    /// Nodes that have joined one space and settled.
    pub(super) fn found(ground: &'g Ground, program: &Path, seed: u64, story: Story) -> Self {
        let mut rng = generator(seed, FOUNDING_STREAM);
        let count = 2 + usize::from(below(&mut rng, 3) == 0);
        let lab = Lab::at(ground.lab(), program);
        let nodes: Vec<Node> = NAMES.iter().take(count).map(|name| Node::found(&lab, name)).collect();
        nodes[0].device.add_space();
        for node in &nodes[1..] {
            node.device.join(&nodes[0].device.invite(&["--me"]));
        }
        let outside = ground.lab().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("y"), "not yours").unwrap();
        let outside = FolderOwner::new(&outside).whole_tree();
        nodes[0].owner.create_symlink(b"out", b"../outside").unwrap();
        // What a user had seen when he acted is not known here, unlike in the simulator.
        let oracle = Oracle::new(count, true);
        let mut world =
            Self { nodes, ground, seed, rng, outside, oracle, next_content: 0, tally: Tally::default(), story };
        world.settle();
        for node in &mut world.nodes {
            node.settled = node.owner.tree();
        }
        world
    }

    /// Acts, kills, and what must hold after them.
    pub(super) fn play(&mut self, round: u32) {
        self.rng = generator(self.seed, round);
        self.next_content = round * ROUND_CONTENT_COUNT;
        self.story.tell(|| format!("-- round {round}"));
        for n in 0..self.nodes.len() {
            if below(&mut self.rng, 2) == 0 {
                self.spawn(n);
            }
        }
        for _ in 0..20 + below(&mut self.rng, 40) {
            self.step();
        }
        self.ground.make_room();
        self.settle();
        self.check();
        self.check_quiet();
        self.tally.round_count += 1;
    }

    /// What happened so far.
    pub(super) const fn tally(&self) -> Tally {
        self.tally
    }

    fn step(&mut self) {
        let n = below(&mut self.rng, self.nodes.len());
        match below(&mut self.rng, 24) {
            0..=10 => {
                let count = if below(&mut self.rng, 4) == 0 { 2 + below(&mut self.rng, 5) } else { 1 };
                (0..count).for_each(|_| self.act(n));
            }
            11 => self.unpack(n),
            12..=15 => self.wait(),
            16..=19 if self.nodes[n].is_on => self.kill(n),
            16..=22 => self.spawn(n),
            _ if self.ground.folds(1) => self.collide(),
            _ if below(&mut self.rng, 2) == 0 => {
                if let Some(line) = self.ground.fill(&mut self.rng) {
                    self.tally.full_count += 1;
                    self.story.tell(|| line);
                }
            }
            _ => self.ground.empty(),
        }
    }

    /// A user puts a directory full of files into the folder, as from an archive: work in which a kill can meet a node.
    fn unpack(&mut self, n: usize) {
        let owner = &self.nodes[n].owner;
        if owner.tree().len() > UNPACKED_COUNT_MAX {
            return;
        }
        let directory = format!("unpacked {}", self.next_content).into_bytes();
        let count = 1 + below(&mut self.rng, UNPACKED_COUNT_MAX);
        let mut outcome = owner.create_directory(&directory);
        for number in 0..count {
            self.next_content += 1;
            let mut bytes = format!("file {}\n", self.next_content).into_bytes();
            bytes.resize(bytes.len() + below(&mut self.rng, UNPACKED_LEN_MAX), b'.');
            let path = [&*directory, format!("/{number}").as_bytes()].concat();
            outcome = outcome.and_then(|()| owner.write(&path, &bytes));
        }
        self.note(n, &format!("unpacks {count} files into {}: {outcome:?}", shown(&directory)));
    }

    /// The first user, on whose disk names don't fold, gives something a name that is one with another's elsewhere.
    fn collide(&mut self) {
        let paths: Vec<Box<[u8]>> = self.nodes[0].owner.tree().into_keys().collect();
        if paths.is_empty() {
            return;
        }
        let path = other_case(&paths[below(&mut self.rng, paths.len())]);
        self.next_content += 1;
        let bytes = content(&mut self.rng, self.next_content);
        let outcome = self.nodes[0].owner.write(&path, &bytes);
        self.note(0, &format!("writes {} beside its like with {}: {outcome:?}", shown(&path), self.next_content));
    }

    fn wait(&mut self) {
        let wait = WAITS_MS[below(&mut self.rng, WAITS_MS.len())];
        std::thread::sleep(Duration::from_millis(wait));
    }

    fn act(&mut self, n: usize) {
        self.next_content += 1;
        let line = act(&self.nodes[n].owner, &mut self.rng, self.next_content, VERB_COUNT);
        self.note(n, &line);
    }

    /// A user acted, as `line` tells.
    fn note(&mut self, n: usize, line: &str) {
        let (mut acts, is_unsure) = self.nodes[n].owner.take_acted(line);
        if is_unsure {
            self.tally.unsure_count += 1;
            let trees = self.nodes.iter().enumerate().map(|(n, node)| (NAMES[n].as_bytes(), node.owner.whole_tree()));
            let at = |name: &[u8], path: &[u8]| [name, b"/", path].concat().into_boxed_slice();
            let all =
                trees.flat_map(|(name, tree)| tree.into_iter().map(move |(path, entry)| (at(name, &path), entry)));
            let all = all.collect();
            let line = "may have taken away anything".to_owned();
            acts.push(Acted { before: all, after: Tree::new(), disk: None, line });
        }
        for act in &acts {
            self.oracle.note_act(n, &act.before, &act.after);
        }
        self.tally.act_count += 1;
        self.story.tell(|| format!("user of {} {line}", NAMES[n]));
        self.nodes[n].acts.append(&mut acts);
    }

    fn spawn(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        if !node.is_on {
            node.device.spawn();
            node.is_on = true;
            self.story.tell(|| format!("{} is started", NAMES[n]));
        }
    }

    fn kill(&mut self, n: usize) {
        if self.nodes[n].is_on && !self.has_ended(n) {
            self.nodes[n].device.kill();
            self.nodes[n].is_on = false;
            self.tally.kill_count += 1;
            self.story.tell(|| format!("{} is killed", NAMES[n]));
        }
    }

    /// Whether a node gave up, which it may where a disk was full, and nowhere else.
    fn has_ended(&mut self, n: usize) -> bool {
        let node = &mut self.nodes[n];
        let Some(status) = node.device.ended().filter(|_| node.is_on) else { return false };
        assert!(self.ground.fills_up(), "{} ended by itself: {status}", NAMES[n]);
        node.device.kill();
        node.is_on = false;
        self.tally.end_count += 1;
        self.story.tell(|| format!("{} ends on a full disk: {status}", NAMES[n]));
        true
    }

    /// All nodes run and have time, until they agree.
    fn settle(&mut self) {
        for n in 0..self.nodes.len() {
            self.has_ended(n);
            self.spawn(n);
        }
        for node in &mut self.nodes {
            node.device.await_answer();
        }
        // What a full disk stopped is tried again after a while.
        for node in self.nodes.iter().filter(|_| self.ground.fills_up()) {
            until(&format!("{} sees that there is room", node.device.name()), || {
                let status = node.device.space_status();
                status["state"] != "error" && problem_count(&status) == 0
            });
        }
        let others: Vec<&Device> = self.nodes[1..].iter().map(|node| &node.device).collect();
        settle_through(&self.nodes[0].device, &others);
        self.check_trees();
    }

    /// Trees are the same, as far as disks can hold them, and no node has a problem but where they can't.
    fn check_trees(&mut self) {
        let first = self.nodes[0].owner.tree();
        for (n, node) in self.nodes.iter_mut().enumerate() {
            let (status, tree) = (node.device.space_status(), node.owner.tree());
            assert!(!node.device.log().contains("panicked at"), "{} panicked", NAMES[n]);
            let problems = problem_count(&status);
            node.has_collisions = self.ground.folds(n) && problems > 0;
            assert!(node.has_collisions || problems == 0, "{}: {status:#}", NAMES[n]);
            // What has no place here is told, and what waits for it to move stays as it was.
            if !node.has_collisions {
                assert!(tree == first, "{} and {} differ: {}", NAMES[0], NAMES[n], difference(&first, &tree));
            }
        }
        let outside = FolderOwner::new(&self.ground.lab().join("outside")).whole_tree();
        assert!(outside == self.outside, "what lies outside changed: {}", difference(&self.outside, &outside));
    }

    /// Nothing is lost, and nothing is there that nobody wrote.
    fn check(&mut self) {
        let now = SystemClock::new().wall_time();
        for (n, node) in self.nodes.iter_mut().enumerate() {
            let (tree, disk) = (node.owner.tree(), node.owner.whole_tree());
            let acts = std::mem::take(&mut node.acts);
            self.oracle.check_turn((n, now), &node.settled, &acts, &tree, &disk);
            node.settled = tree;
            self.tally.collision_count += u64::from(node.has_collisions);
        }
        let tree = &self.nodes[0].settled;
        self.oracle.check_end(tree, &self.nodes.iter().map(|node| &node.settled).collect::<Vec<_>>());
        self.tally.copy_count +=
            tree.keys().filter(|path| path.windows(6).any(|part| part == b"(confl")).count() as u64;
    }

    /// Nodes that are stopped, started and left alone have nothing to say, change nothing and leave nothing behind. Then
    /// none runs.
    fn check_quiet(&mut self) {
        let before = self.stop_all();
        self.settle();
        let after = self.stop_all();
        for (n, node) in self.nodes.iter().enumerate() {
            let (name, tree) = (NAMES[n], node.owner.tree());
            assert!(before[n] == before[0], "{name} has another log than {}", NAMES[0]);
            assert!(after[n] == before[n], "{name} had something to say of what had settled");
            assert!(tree == node.settled, "{name} changed what had settled: {}", difference(&node.settled, &tree));
            let tmp = [CONTROL.as_bytes(), b"/tmp/"].concat();
            let left: Vec<String> =
                node.owner.whole_tree().into_keys().filter(|path| path.starts_with(&tmp)).map(shown).collect();
            // What is at hand for something that has no place stays so.
            assert!(left.is_empty() || node.has_collisions, "{name} left {left:?}");
        }
    }

    /// Ends all nodes as a user does; gives what each has of the log.
    fn stop_all(&mut self) -> Vec<Frontier> {
        let stop = |node: &mut Node| {
            let (status, _) = node.device.stop();
            node.is_on = false;
            assert!(status.success(), "{} ended with {status}", node.device.name());
            frontier(node.device.home())
        };
        self.nodes.iter_mut().map(stop).collect()
    }
}

impl Node {
    /// A node that runs and has no space.
    fn found(lab: &Lab, name: &str) -> Self {
        let home = lab.path().join(format!("{name}.home"));
        std::fs::create_dir_all(&home).unwrap();
        // What the oracle knows is whole contents: a merge would be one that no user wrote.
        std::fs::write(home.join("config.toml"), format!("lan = false\nmerge = false\nname = \"{name}\"\n")).unwrap();
        let device = lab.device(name);
        let owner = FolderOwner::new(device.folder());
        Self { device, owner, is_on: true, acts: Vec::new(), settled: Tree::new(), has_collisions: false }
    }
}

/// How many problems a space has, other than files that users gave several names.
fn problem_count(status: &serde_json::Value) -> usize {
    let is_lasting = |problem: &serde_json::Value| problem["reason"].as_str().is_some_and(is_of_hard_links);
    status["problems"].as_array().into_iter().flatten().filter(|problem| !is_lasting(problem)).count()
}

/// What the only space of a home has of the log, while no node runs.
fn frontier(home: &Path) -> Frontier {
    let home = Home::open(home).unwrap();
    let space = home.stored_spaces().unwrap()[0];
    SpaceStore::open(&home.store_path(space), space).unwrap().snapshot().unwrap().frontier().unwrap()
}
