//! Scan, plan and view together: devices with a disk in memory, users who do what users do, and an oracle.
//!
//! This is the design's model (DESIGN.md §7 and §8) run on the shipping functions, without crashes and without a real
//! materialiser: those are the simulator's in `testnet`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own mistakes may end it")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use zerocloud_crdt::base::{BaseRead, BaseRow, Fingerprint, MemoryBase, PARKED, RowKey};
use zerocloud_crdt::id::{ActorId, ContentHash, EpochId, FileId, SpaceId};
use zerocloud_crdt::index::{IndexRead, MemoryIndex, Overlay};
use zerocloud_crdt::manifest::{Body, Class, Manifest, Profile};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::plan::{Action, Situation, is_possible, plan, unstick};
use zerocloud_crdt::register::{FileTime, Kind, Op};
use zerocloud_crdt::scan::{Findings, Listed, Parent, Seen, Walk, batches, diff};
use zerocloud_crdt::view::{View, ViewEntry};

const SPACE: SpaceId = SpaceId([3; 32]);

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    (rng.next_u32() as usize) % n
}

fn pick<T: Clone>(rng: &mut ChaCha8Rng, of: &[T]) -> T {
    of[below(rng, of.len())].clone()
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    inode: u64,
    kind: Kind,
    /// Which content; 0 for directories.
    content: u32,
    mtime: i64,
    executable: bool,
}

fn hash(content: u32) -> ContentHash {
    ContentHash::of(&content.to_be_bytes())
}

fn manifest() -> Manifest {
    Manifest {
        profile: Profile { chunker: 1, class: Class::Single, epoch: EpochId([0; 32]) },
        len: 4,
        epochs: Vec::new(),
        body: Body::Inline(Vec::new()),
    }
}

fn print(node: &Node) -> Fingerprint {
    let mtime = FileTime { secs: node.mtime, nanos: 0 };
    let mode = if node.executable { 0o755 } else { 0o644 };
    Fingerprint { inode: node.inode, birth: None, len: 4, mtime, ctime: mtime, mode }
}

struct Ready;

impl Situation for Ready {
    fn has_content(&self, _: &ViewEntry) -> bool {
        true
    }
    fn is_held(&self, _: FileId) -> bool {
        false
    }
}

/// A path on the disk of a device: names joined by `/`; the root is empty.
type Path = String;

struct Device {
    actor: ActorId,
    index: MemoryIndex,
    base: MemoryBase,
    disk: BTreeMap<Path, Node>,
    seen: BTreeSet<usize>,
    pending: BTreeSet<FileId>,
    /// Contents that were on this disk, and those that its user took away.
    ever: BTreeSet<u32>,
    killed: BTreeSet<u32>,
    versions: BTreeSet<u32>,
}

struct World {
    rng: ChaCha8Rng,
    devices: Vec<Device>,
    log: Vec<(Vec<Op>, BTreeSet<usize>)>,
    inodes: u64,
    clock: i64,
    contents: u32,
    /// Contents that some user replaced or deleted: they may be gone.
    gone: BTreeSet<u32>,
    /// Contents that some user moved or touched: that may have been done on two devices at once.
    handled: BTreeSet<u32>,
}

fn up(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(up, _)| up)
}

fn leaf(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, leaf)| leaf)
}

fn join(directory: &str, name: &str) -> Path {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

fn is_under(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

impl Device {
    /// The path of a directory by its row's id, as base has it.
    fn directory(&self, id: FileId) -> Option<Path> {
        match id {
            FileId::ROOT => Some(String::new()),
            PARKED => Some(".tmp".to_owned()),
            _ => {
                let Ok(key) = self.base.find(id, id);
                self.path(&key?)
            }
        }
    }

    fn path(&self, key: &RowKey) -> Option<Path> {
        Some(join(&self.directory(key.parent)?, std::str::from_utf8(key.local.as_bytes()).unwrap()))
    }

    fn list(&self, directory: &str) -> Vec<Listed> {
        self.disk
            .iter()
            .filter(|(path, _)| !path.is_empty() && up(path) == directory && **path != ".tmp")
            .map(|(path, node)| Listed {
                local: name(leaf(path)),
                kind: node.kind,
                print: print(node),
                links: 1,
                is_doubted: false,
            })
            .collect()
    }

    /// Walks, whole or only over the directories that `dirty` names.
    fn walk(&self, dirty: Option<BTreeSet<FileId>>) -> Findings {
        let mut walk = match dirty {
            None => Walk::full(&self.base),
            Some(dirty) => Walk::of_directories(&self.base, dirty),
        };
        loop {
            let Ok(next) = walk.next_directory();
            let Some(directory) = next else { break };
            let path = self.walked_path(&walk, directory);
            let is_directory = path.as_ref().is_some_and(|path| {
                path.is_empty()
                    || path == ".tmp"
                    || self.disk.get(path).is_some_and(|node| node.kind == Kind::Directory)
            });
            let Ok(()) = match path.filter(|_| is_directory) {
                Some(path) => {
                    let inode = self.disk.get(&path).map_or(0, |node| node.inode);
                    walk.handle_listing(directory, inode, self.list(&path))
                }
                None => walk.handle_missing(directory),
            };
        }
        let Ok((mut findings, unread)) = walk.finish();
        for at in unread {
            let sighting = &findings.sightings[at];
            let node = self.disk.values().find(|node| node.inode == sighting.print.inode).unwrap();
            findings.sightings[at].seen = Seen::File { hash: hash(node.content), manifest: manifest() };
        }
        findings
    }

    fn walked_path(&self, walk: &Walk<'_, MemoryBase>, directory: Parent) -> Option<Path> {
        let (id, names) = walk.path(directory);
        let Ok(found) = walk.found(id);
        let mut path = match found {
            Some((parent, local)) => {
                join(&self.walked_path(walk, parent)?, std::str::from_utf8(local.as_bytes()).unwrap())
            }
            None if id == FileId::ROOT || id == PARKED => self.directory(id)?,
            None => {
                let Ok(key) = self.base.find(id, id);
                let key = key?;
                join(
                    &self.walked_path(walk, Parent::Known(key.parent))?,
                    std::str::from_utf8(key.local.as_bytes()).unwrap(),
                )
            }
        };
        for name in names {
            path = join(&path, std::str::from_utf8(name.as_bytes()).unwrap());
        }
        Some(path)
    }

    fn tree(&self) -> BTreeMap<Path, (Kind, u32, i64, bool)> {
        let file = |node: &Node| match node.kind {
            Kind::File => (node.kind, node.content, node.mtime, node.executable),
            _ => (node.kind, 0, 0, false),
        };
        self.disk.iter().map(|(path, node)| (path.clone(), file(node))).collect()
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = 2 + below(&mut rng, 2);
        let devices = (0..count)
            .map(|n| {
                let mut index = MemoryIndex::new(SPACE);
                let mut overlay = Overlay::new(&index);
                for n in 0..count {
                    overlay.put_label(ActorId([n as u8 + 1; 16]), name(&format!("device{n}")));
                }
                let changes = overlay.into_changes();
                index.commit(changes);
                Device {
                    actor: ActorId([n as u8 + 1; 16]),
                    index,
                    base: MemoryBase::default(),
                    disk: BTreeMap::new(),
                    seen: BTreeSet::new(),
                    pending: BTreeSet::new(),
                    ever: BTreeSet::new(),
                    killed: BTreeSet::new(),
                    versions: BTreeSet::new(),
                }
            })
            .collect();
        Self {
            rng,
            devices,
            log: Vec::new(),
            inodes: 1,
            clock: 1,
            contents: 0,
            gone: BTreeSet::new(),
            handled: BTreeSet::new(),
        }
    }

    fn inode(&mut self) -> u64 {
        self.inodes += 1;
        self.inodes
    }

    fn kill(&mut self, at: usize, content: u32) {
        self.gone.insert(content);
        self.devices[at].killed.insert(content);
    }

    /// One act of a user.
    fn user(&mut self, at: usize) {
        self.clock += 1;
        let (inode, mtime) = (self.inode(), self.clock);
        self.contents += 1;
        let content = self.contents;
        let paths: Vec<Path> = self.devices[at].disk.keys().filter(|p| !p.starts_with(".tmp")).cloned().collect();
        let mut directories: Vec<Path> = paths
            .iter()
            .filter(|p| self.devices[at].disk[*p].kind == Kind::Directory && p.matches('/').count() < 2)
            .cloned()
            .collect();
        directories.push(String::new());
        let copies: Vec<Path> = paths.iter().filter(|p| p.contains("(conf")).cloned().collect();
        let verb = below(&mut self.rng, 16);
        let path = if !copies.is_empty() && below(&mut self.rng, 5) < 2 {
            Some(pick(&mut self.rng, &copies))
        } else if paths.is_empty() {
            None
        } else {
            Some(pick(&mut self.rng, &paths))
        };
        let directory = pick(&mut self.rng, &directories);
        let new = join(&directory, ["x.t", "y", "a", "b"][below(&mut self.rng, 4)]);
        if matches!(verb, 7 | 8 | 11..=14) {
            for handled in path.iter().chain([&new]) {
                let disk = self.devices[at].disk.iter();
                let under = disk.filter(|(p, _)| *p == handled || is_under(p, handled)).map(|(_, node)| node.content);
                self.handled.extend(under);
            }
        }
        let device = &mut self.devices[at];
        match (verb, path) {
            (0..=2, _) if !device.disk.contains_key(&new) => {
                device.disk.insert(new, Node { inode, kind: Kind::File, content, mtime, executable: false });
                device.ever.insert(content);
            }
            (3, _) if !device.disk.contains_key(&new) => {
                let node = Node { inode, kind: Kind::Directory, content: 0, mtime, executable: false };
                device.disk.insert(new, node);
            }
            (4..=6, Some(path)) if device.disk[&path].kind == Kind::File => {
                let node = device.disk.get_mut(&path).unwrap();
                let old = node.content;
                (node.content, node.mtime) = (content, mtime);
                if verb == 6 {
                    node.inode = inode; // Saved by rename.
                }
                device.ever.insert(content);
                self.kill(at, old);
            }
            (7, Some(path)) if device.disk[&path].kind == Kind::File => {
                device.disk.get_mut(&path).unwrap().mtime = mtime;
            }
            (8, Some(path)) if device.disk[&path].kind == Kind::File => {
                let node = device.disk.get_mut(&path).unwrap();
                node.executable = !node.executable;
            }
            (9 | 10, Some(path)) => {
                let all: Vec<Path> =
                    device.disk.keys().filter(|p| **p == path || is_under(p, &path)).cloned().collect();
                for path in all {
                    let node = self.devices[at].disk.remove(&path).unwrap();
                    if node.kind == Kind::File {
                        self.kill(at, node.content);
                    }
                }
            }
            (11..=13, Some(path)) if new != path && !is_under(&new, &path) && !device.disk.contains_key(&new) => {
                rename(&mut device.disk, &path, &new);
            }
            (14, Some(path))
                if new != path
                    && device.disk.contains_key(&new)
                    && !is_under(&new, &path)
                    && !is_under(&path, &new) =>
            {
                rename(&mut device.disk, &path, ".swap");
                rename(&mut device.disk, &new, &path);
                rename(&mut device.disk, ".swap", &new);
            }
            _ => {}
        }
    }

    fn scan(&mut self, at: usize, is_full: bool) -> usize {
        let device = &self.devices[at];
        let dirty = (!is_full).then(|| {
            let directories = device.base.all().values().filter(|row| row.kind == Kind::Directory).map(|row| row.id);
            directories.chain([FileId::ROOT, PARKED]).collect()
        });
        let findings = device.walk(dirty);
        let mut created: BTreeMap<usize, FileId> = BTreeMap::new();
        let mut count = 0;
        for part in batches(findings) {
            let indices = part.indices();
            let part = part.resolve(|at| created.get(&at).copied());
            let device = &mut self.devices[at];
            let Ok(outcome) = diff(&device.index, &device.base, device.actor, &part);
            count += outcome.ops.len();
            device.base.commit(outcome.base);
            device.pending.extend(outcome.unsettled);
            created.extend(indices.into_iter().zip(outcome.ids));
            if !outcome.ops.is_empty() {
                let touched = device.index.apply(&outcome.ops);
                device.pending.extend(touched);
                self.log.push((outcome.ops, device.seen.clone()));
                device.seen.insert(self.log.len() - 1);
            }
        }
        count
    }

    fn receive(&mut self, at: usize, entry: usize) {
        let device = &mut self.devices[at];
        if device.seen.contains(&entry) || !self.log[entry].1.is_subset(&device.seen) {
            return;
        }
        device.seen.insert(entry);
        let touched = device.index.apply(&self.log[entry].0);
        device.pending.extend(touched);
    }

    /// Brings a disk to the view; what was not scanned yet is in the way of an action and stops it.
    fn materialise(&mut self, at: usize) {
        for round in 0.. {
            assert!(round < 100, "no end of plans");
            let device = &self.devices[at];
            let Ok(plan) = plan(&device.index, &device.base, device.pending.clone(), &Ready, 7);
            let mut actions = plan.actions;
            for source in &plan.settled {
                self.devices[at].pending.remove(source);
            }
            if actions.is_empty() {
                let Ok(aside) = unstick(&self.devices[at].base, &plan.waiting);
                actions = aside;
            }
            let mut is_stuck = true;
            for action in actions {
                is_stuck &= !self.act(at, action);
            }
            if is_stuck {
                return;
            }
        }
    }

    /// Does one action; false if the disk is not as base has it.
    fn act(&mut self, at: usize, action: Action) -> bool {
        let inode = self.inode();
        let device = &mut self.devices[at];
        let as_base = |device: &Device, key: &RowKey, old: &BaseRow| -> Option<Path> {
            let path = device.path(key)?;
            device.disk.get(&path).filter(|node| node.kind == old.kind && print(node) == old.print).map(|_| path)
        };
        let node_of = |entry: &ViewEntry| Node {
            inode,
            kind: entry.kind,
            content: (0..10_000).find(|n| entry.kind == Kind::File && hash(*n) == entry.hash).unwrap_or(0),
            mtime: entry.mtime.map_or(0, |time| time.secs),
            executable: entry.executable,
        };
        let Ok(true) = is_possible(&device.base, &action) else { return false };
        let mut changes = BTreeMap::new();
        match action {
            Action::Note { key, row } => drop(changes.insert(key, Some(row))),
            Action::Create { key, entry } => {
                let Some(path) = device.path(&key) else { return false };
                let parent = up(&path);
                let is_free = !device.disk.contains_key(&path)
                    && (parent.is_empty() || device.disk.get(parent).is_some_and(|n| n.kind == Kind::Directory));
                if !is_free {
                    return false;
                }
                let node = node_of(&entry);
                changes.insert(key, Some(BaseRow::of_entry(&entry, print(&node))));
                if node.kind == Kind::File {
                    device.ever.insert(node.content);
                }
                device.disk.insert(path, node);
            }
            Action::Replace { key, old, entry } => {
                let Some(path) = as_base(device, &key, &old) else { return false };
                let node = node_of(&entry);
                let mut row = BaseRow::of_entry(&entry, print(&node));
                (row.view_parent, row.view_name) = (old.view_parent, old.view_name);
                changes.insert(key, Some(row));
                device.ever.insert(node.content);
                let old = device.disk.insert(path, node).unwrap();
                device.versions.insert(old.content);
            }
            Action::SetMeta { key, old, entry } => {
                let Some(path) = as_base(device, &key, &old) else { return false };
                let node = device.disk.get_mut(&path).unwrap();
                (node.mtime, node.executable) = (entry.mtime.unwrap().secs, entry.executable);
                let mut row = BaseRow::of_entry(&entry, print(node));
                (row.view_parent, row.view_name) = (old.view_parent, old.view_name);
                changes.insert(key, Some(row));
            }
            Action::Move { from, to, old, at } => {
                let (Some(source), Some(target)) = (device.path(&from), device.path(&to)) else { return false };
                let is_there = device.disk.get(&source).is_some_and(|node| node.kind == old.kind);
                let parent = up(&target);
                let is_free = parent.is_empty() || device.disk.get(parent).is_some_and(|n| n.kind == Kind::Directory);
                if !is_there || !is_free || device.disk.contains_key(&target) || is_under(&target, &source) {
                    return false;
                }
                rename(&mut device.disk, &source, &target);
                let mut row = old;
                (row.view_parent, row.view_name) = at;
                changes.insert(from, None);
                changes.insert(to, Some(row));
            }
            Action::Park { from, old } => {
                let Some(source) = device.path(&from) else { return false };
                let key = RowKey { parent: PARKED, local: name(&format!("parked-{}", old.id)) };
                let target = device.path(&key).unwrap();
                if device.disk.get(&source).is_none_or(|node| node.kind != old.kind) {
                    return false;
                }
                rename(&mut device.disk, &source, &target);
                changes.insert(from, None);
                changes.insert(key, Some(old));
            }
            Action::Delete { key, old } => {
                let Some(path) = as_base(device, &key, &old) else { return false };
                let old = device.disk.remove(&path).unwrap();
                device.versions.insert(old.content);
                changes.insert(key, None);
            }
            Action::RemoveDirectory { key, old } => {
                let Some(path) = device.path(&key) else { return false };
                let is_there = device.disk.get(&path).is_some_and(|node| node.kind == old.kind);
                if !is_there || device.disk.keys().any(|p| is_under(p, &path)) {
                    return false;
                }
                device.disk.remove(&path);
                changes.insert(key, None);
            }
        }
        device.base.commit(changes);
        true
    }

    /// Everybody scans, hears of everything and brings the tree to the view, until nothing changes.
    fn quiesce(&mut self) {
        for at in 0..self.devices.len() {
            self.scan(at, true);
            assert_eq!(self.scan(at, true), 0, "a second scan made operations");
        }
        for _ in 0..8 {
            for at in 0..self.devices.len() {
                for entry in 0..self.log.len() {
                    self.receive(at, entry);
                }
                self.materialise(at);
            }
            let made: usize = (0..self.devices.len()).map(|at| self.scan(at, true)).sum();
            assert_eq!(made, 0, "a scan after materialise made operations");
        }
        let tree = self.devices[0].tree();
        for device in &self.devices {
            assert_eq!(device.seen.len(), self.log.len());
            let shown = shown(device);
            assert_eq!(device.tree(), shown, "a tree is not its view; pending: {:?}", device.pending);
            assert_eq!(device.tree(), tree, "two trees differ");
            let here: BTreeSet<u32> = device.disk.values().map(|node| node.content).collect();
            for content in &device.ever {
                let is_safe =
                    here.contains(content) || device.killed.contains(content) || device.versions.contains(content);
                assert!(is_safe, "content {content} was taken away without a version");
            }
        }
        let here: Vec<u32> = tree.values().filter(|node| node.0 == Kind::File).map(|node| node.1).collect();
        for content in 1..=self.contents {
            let count = here.iter().filter(|c| **c == content).count();
            // A file that was moved while another took its path is a new file, wherever that was done.
            assert!(count <= 1 || self.handled.contains(&content), "content {content} multiplied");
            let was_written = self.devices.iter().any(|device| device.ever.contains(&content));
            assert!(count >= 1 || !was_written || self.gone.contains(&content), "content {content} is lost");
        }
    }
}

fn rename(disk: &mut BTreeMap<Path, Node>, from: &str, to: &str) {
    let all: Vec<Path> = disk.keys().filter(|path| *path == from || is_under(path, from)).cloned().collect();
    for path in all {
        let node = disk.remove(&path).unwrap();
        disk.insert(format!("{to}{}", &path[from.len()..]), node);
    }
}

fn shown(device: &Device) -> BTreeMap<Path, (Kind, u32, i64, bool)> {
    let view = View::new(&device.index);
    let (mut tree, mut queue) = (BTreeMap::new(), vec![(FileId::ROOT, String::new())]);
    while let Some((directory, path)) = queue.pop() {
        let Ok(entries) = view.directory(directory);
        for entry in entries {
            let at = join(&path, std::str::from_utf8(entry.name.as_bytes()).unwrap());
            let content = (1..10_000).find(|n| entry.kind == Kind::File && hash(*n) == entry.hash).unwrap_or(0);
            let mtime = entry.mtime.map_or(0, |time| time.secs);
            tree.insert(at.clone(), (entry.kind, content, mtime, entry.executable));
            if entry.kind == Kind::Directory {
                queue.push((entry.id, at));
            }
        }
    }
    tree
}

/// Concurrent histories: everybody acts, scans, hears and materialises at random.
fn concurrent(seed: u64) -> usize {
    let mut world = World::new(seed);
    let count = world.devices.len();
    for _ in 0..below(&mut world.rng, 6) {
        world.user(0);
    }
    world.quiesce();
    for _ in 0..40 {
        let at = below(&mut world.rng, count);
        match below(&mut world.rng, 10) {
            0..=3 => world.user(at),
            4 | 5 => drop(world.scan(at, false)),
            6 | 7 => {
                for entry in 0..world.log.len() {
                    if below(&mut world.rng, 4) > 0 {
                        world.receive(at, entry);
                    }
                }
            }
            _ => world.materialise(at),
        }
    }
    world.quiesce();
    let copies = world.devices[0].disk.keys().filter(|path| path.contains("(conf")).count();
    // Once more, one user at a time: the actor's tree must not change by itself.
    for _ in 0..4 {
        let at = below(&mut world.rng, count);
        world.user(at);
        world.scan(at, true);
        let before = world.devices[at].tree();
        world.quiesce();
        assert_eq!(world.devices[at].tree(), before, "with nothing concurrent, the actor's tree changed by itself");
    }
    copies
}

/// One user at a time: no conflict copy ever.
fn sequential(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..12 {
        let at = below(&mut world.rng, world.devices.len());
        for _ in 0..=below(&mut world.rng, 3) {
            world.user(at);
        }
        world.scan(at, true);
        let before = world.devices[at].tree();
        world.quiesce();
        assert_eq!(world.devices[at].tree(), before, "with nothing concurrent, the actor's tree changed by itself");
        assert!(!before.keys().any(|path| path.contains("(conf")), "a conflict copy with nothing concurrent");
    }
}

fn run(history: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let rounds: u64 = std::env::var("ZEROCLOUD_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    let first: u64 = std::env::var("ZEROCLOUD_TEST_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    for seed in first..first + rounds {
        if let Err(panic) = std::panic::catch_unwind(|| history(seed)) {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            panic!("seed {seed} (replay: ZEROCLOUD_TEST_SEED={seed} ZEROCLOUD_TEST_ROUNDS=1): {text}");
        }
    }
}

#[test]
fn devices_converge_and_lose_nothing_whatever_their_users_do_at_once() {
    let copies = std::sync::atomic::AtomicUsize::new(0);
    run(|seed| {
        copies.fetch_add(concurrent(seed), std::sync::atomic::Ordering::Relaxed);
    });
    let alone = std::env::var("ZEROCLOUD_TEST_ROUNDS").is_ok_and(|n| n == "1");
    assert!(alone || copies.into_inner() > 0, "no history met a conflict: they test nothing");
}

#[test]
fn with_one_user_at_a_time_no_tree_changes_by_itself_and_no_copy_arises() {
    run(sequential);
}

#[test]
fn nothing_in_this_world_can_fail_to_be_read() {
    // The memory stores' error is uninhabited: the diffs above are total.
    fn total<T>(result: Result<T, Infallible>) -> T {
        let Ok(value) = result;
        value
    }
    assert_eq!(total(MemoryIndex::new(SPACE).max_counter()), 0);
}
