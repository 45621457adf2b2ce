//! A device without a network: an index, a ledger in memory, a simulated disk, and the tree code that ships.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zerocloud::clock::{Clock, WallTime};
use zerocloud::tree::marker::Marker;
use zerocloud::tree::materialise::{Batch, Blocked, Job, Materialiser, Outcome, Recovered, Trust};
use zerocloud::tree::scan::{Extent, Problem, ReadError, read_findings, read_stored, scan};
use zerocloud::tree::stage::{FileSpec, Staging};
use zerocloud::tree::{Displaced, Inline, Keyring, MemoryLedger, TempNames, TreeError};
use zerocloud::volume::{Volume, VolumeErrorKind};
use zerocloud_crdt::base::{BaseRead, RowKey};
use zerocloud_crdt::id::{ActorId, ContentHash, EpochId, FileId, SpaceId};
use zerocloud_crdt::index::{IndexRead, MemoryIndex, Overlay};
use zerocloud_crdt::keys::{EpochSecret, Secret};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::plan::{Action, Situation, plan, unstick};
use zerocloud_crdt::register::{Content, Kind, Op};
use zerocloud_crdt::scan::{Findings, Parent, Sighting, batches, diff};
use zerocloud_crdt::view::{View, ViewEntry};
use zerocloud_testnet::sim::clock::SimClock;
use zerocloud_testnet::sim::volume::{SimPerson, SimVolume, Tree, TreeEntry};

pub(crate) const SPACE: SpaceId = SpaceId([3; 32]);

/// Files that operations of one part of a scan may touch: few, so that scans have many parts.
const PART_LEN: usize = 5;

pub(crate) type Error = TreeError<std::convert::Infallible>;

/// Contents by hash: what the other devices could send.
pub(crate) type Contents = BTreeMap<ContentHash, Vec<u8>>;

pub(crate) struct Device {
    pub(crate) actor: ActorId,
    pub(crate) index: MemoryIndex,
    pub(crate) ledger: MemoryLedger,
    pub(crate) volume: SimVolume,
    /// What the tree code works through: the volume, or somebody who meddles.
    pub(crate) door: Arc<dyn Volume>,
    pub(crate) person: SimPerson,
    pub(crate) keyring: Keyring,
    pub(crate) clock: SimClock,
    pub(crate) pending: BTreeSet<FileId>,
    blocked: BTreeSet<FileId>,
    /// How often something had no place because of how names are spelled.
    pub(crate) collisions: usize,
    /// Operations that were made for displaced files and not handed out: as durable as the index.
    outbox: Vec<Op>,
    starts: u64,
    names: Arc<TempNames>,
    pub(crate) problems: Vec<Problem>,
}

struct Ready<'a>(&'a Contents, &'a BTreeSet<FileId>);

impl Situation for Ready<'_> {
    fn has_content(&self, entry: &ViewEntry) -> bool {
        self.0.contains_key(&entry.hash)
    }
    fn is_held(&self, id: FileId) -> bool {
        self.1.contains(&id)
    }
}

pub(crate) fn keyring() -> Keyring {
    Keyring::new(&EpochSecret::new(SPACE, EpochId([3; 32]), Secret::new([7; 32])), [])
}

impl Device {
    /// One whose disk takes names for one that differ in case or Unicode form alone.
    pub(crate) fn folding(n: u8) -> Self {
        let device = Self::new(n, true);
        let volume = device.volume.clone().folding_names();
        Self { volume, ..device }
    }

    pub(crate) fn new(n: u8, has_exchange: bool) -> Self {
        // Apart, so that no two disks give one time to two edits of a file.
        let clock = SimClock::new(WallTime(1_700_000_000_000_000_000 + i64::from(n) * 1_000_000));
        let volume = SimVolume::new(Arc::new(clock.clone()), 2 << 20);
        let volume = if has_exchange { volume } else { volume.without_exchange() };
        let mut index = MemoryIndex::new(SPACE);
        let mut overlay = Overlay::new(&index);
        for n in 1..=3 {
            overlay.put_label(ActorId([n; 16]), Name::parse(format!("device{n}").as_bytes()).unwrap());
        }
        let changes = overlay.into_changes();
        index.commit(changes);
        Marker { space: SPACE, counter: 1 }.write(&volume).unwrap();
        Self {
            actor: ActorId([n; 16]),
            index,
            ledger: MemoryLedger::default(),
            door: Arc::new(volume.clone()),
            person: volume.person(),
            volume,
            keyring: keyring(),
            clock,
            pending: BTreeSet::new(),
            blocked: BTreeSet::new(),
            collisions: 0,
            outbox: Vec::new(),
            starts: 0,
            names: Arc::new(TempNames::new(0)),
            problems: Vec::new(),
        }
    }

    pub(crate) fn materialiser(&self) -> Materialiser {
        Materialiser::new(self.door.clone(), self.names.clone())
    }

    /// Starts the process again after the disk was restarted.
    pub(crate) fn start(&mut self) {
        self.starts += 1;
        self.names = Arc::new(TempNames::new(self.starts));
    }

    pub(crate) fn recover(&mut self, trust: Trust) -> Result<Recovered, Error> {
        let now = self.clock.wall_time();
        self.materialiser().recover(&mut self.ledger, trust, now)
    }

    /// Scans, reads, and makes operations of what is new.
    pub(crate) fn scan(&mut self) -> Vec<Op> {
        let scanned = scan(&*self.door, &self.ledger, SPACE, &Extent::Full).unwrap();
        self.problems = scanned.problems;
        let (mut created, mut ops) = (BTreeMap::new(), Vec::new());
        for part in batches(scanned.findings, PART_LEN) {
            let indices = part.indices();
            let part = part.resolve(|at| created.get(&at).copied());
            let read = read_findings(&*self.door, &self.ledger, part, &self.keyring, |_| None, &Inline).unwrap();
            self.problems.extend(read.problems);
            let Ok(outcome) = diff(&self.index, &self.ledger, self.actor, &read.findings);
            // A row can go without an operation: a directory that stands only because something in it does.
            for (key, row) in &outcome.base {
                let Ok(old) = self.ledger.row(key);
                self.pending.extend(old.iter().chain(row).map(|row| row.source));
            }
            self.ledger.base.commit(outcome.base);
            created.extend(read.kept.iter().map(|at| indices[*at]).zip(outcome.ids));
            self.pending.extend(self.index.apply(&outcome.ops));
            ops.extend(outcome.ops);
        }
        self.blocked.clear();
        ops
    }

    /// Publishes what was displaced by a batch and is not what base had.
    fn publish(&mut self, displaced: &Displaced) -> Result<(), Error> {
        let control = self.door.control()?;
        let read = match read_stored(&control, &displaced.stored, None, &self.keyring) {
            Err(ReadError::Volume(error)) => return Err(error.into()),
            read => read.unwrap(),
        };
        // The base that the file was edited on.
        let mut base = self.ledger.base.clone();
        let elsewhere: Vec<RowKey> =
            base.all().iter().filter(|(_, row)| row.id == displaced.row.id).map(|(key, _)| key.clone()).collect();
        base.commit(elsewhere.into_iter().map(|key| (key, None)).collect());
        base.commit(BTreeMap::from([(displaced.key.clone(), Some(displaced.row.clone()))]));
        let sighting = Sighting {
            parent: Parent::Known(displaced.key.parent),
            local: displaced.key.local.clone(),
            kind: displaced.kind.unwrap(),
            print: read.print,
            links: 1,
            from: Some(displaced.key.clone()),
            seen: read.seen,
        };
        let findings = Findings { sightings: vec![sighting], ..Findings::default() };
        let Ok(outcome) = diff(&self.index, &base, self.actor, &findings);
        self.pending.extend(self.index.apply(&outcome.ops));
        let now_ms = self.clock.wall_time().as_milliseconds();
        self.ledger.confirm(&displaced.stored, now_ms, None);
        self.outbox.extend(outcome.ops);
        Ok(())
    }

    /// Publishes whatever was displaced and not published before a crash.
    pub(crate) fn publish_all(&mut self) -> Vec<Op> {
        let displaced: Vec<Displaced> = self.ledger.displaced.values().cloned().collect();
        displaced.iter().for_each(|displaced| self.publish(displaced).unwrap());
        std::mem::take(&mut self.outbox)
    }

    pub(crate) fn hear(&mut self, ops: &[Op]) {
        self.pending.extend(self.index.apply(ops));
    }

    /// Brings the tree to the view as far as it goes. Returns what has to be published.
    pub(crate) fn materialise(&mut self, contents: &Contents, limit: usize) -> Result<Vec<Op>, Error> {
        for round in 0.. {
            assert!(round < 200, "no end of plans: {:?}", self.pending);
            let situation = Ready(contents, &self.blocked);
            let Ok(plan) = plan(&self.index, &self.ledger, self.pending.clone(), &situation, limit);
            for source in &plan.settled {
                self.pending.remove(source);
            }
            let mut actions = plan.actions;
            if actions.is_empty() {
                let Ok(aside) = unstick(&self.ledger, &plan.waiting);
                actions = aside;
                actions.retain(|action| !self.blocked.contains(&action.id()));
            }
            if actions.is_empty() {
                return Ok(std::mem::take(&mut self.outbox));
            }
            let batch = self.run(&actions, contents)?;
            for (action, outcome) in actions.iter().zip(&batch.outcomes) {
                match outcome {
                    Outcome::Done(_) => {}
                    Outcome::Failed(VolumeErrorKind::NoSpace) | Outcome::NotTried => {
                        return Ok(std::mem::take(&mut self.outbox));
                    }
                    Outcome::Blocked(Blocked::Collides) => {
                        self.collisions += 1;
                        self.blocked.insert(action.id());
                    }
                    Outcome::Blocked(_) | Outcome::Failed(_) => drop(self.blocked.insert(action.id())),
                }
            }
            for displaced in &batch.displaced {
                self.publish(displaced)?;
            }
        }
        Ok(std::mem::take(&mut self.outbox))
    }

    pub(crate) fn run(&mut self, actions: &[Action], contents: &Contents) -> Result<Batch, Error> {
        let staging = Staging::new(&*self.door, self.names.clone())?;
        let mut jobs = Vec::new();
        for action in actions {
            let (entry, old) = match action {
                Action::Create { entry, .. } => (Some(entry), None),
                Action::Replace { entry, old, .. } => (Some(entry), Some(old)),
                _ => (None, None),
            };
            let staged = match entry {
                Some(entry) if entry.kind == Kind::File => {
                    let spec = FileSpec::of_entry(entry, old);
                    match staging.stage_whole(&spec, &contents[&entry.hash]) {
                        Ok(staged) => Some(staged),
                        Err(zerocloud::tree::stage::StageError::Volume(error))
                            if error.kind() == VolumeErrorKind::NoSpace =>
                        {
                            None
                        }
                        Err(zerocloud::tree::stage::StageError::Volume(error)) => return Err(error.into()),
                        Err(error) => panic!("{error}"),
                    }
                }
                Some(entry) if entry.kind == Kind::Symlink => match self.staged_link(&staging, entry) {
                    Ok(staged) => Some(staged),
                    Err(zerocloud::tree::stage::StageError::Volume(error)) => return Err(error.into()),
                    Err(error) => panic!("{error}"),
                },
                _ => None,
            };
            jobs.push(Job { action: action.clone(), staged, single: None });
        }
        let now = self.clock.wall_time();
        self.materialiser().run(&mut self.ledger, &jobs, now)
    }

    fn staged_link(
        &self,
        staging: &Staging,
        entry: &ViewEntry,
    ) -> Result<zerocloud::tree::stage::Staged, zerocloud::tree::stage::StageError> {
        let Ok(item) = self.index.item(entry.source);
        match &item.unwrap().content[&entry.content_op().unwrap()] {
            Content::Symlink { target } => staging.stage_symlink(target),
            _ => panic!("no link"),
        }
    }

    /// Every content on this disk, by hash.
    pub(crate) fn contents(&self) -> Contents {
        let tree = self.person.whole_tree();
        let contents = tree.into_values().filter_map(|entry| match entry {
            TreeEntry::File { content, .. } => Some((ContentHash::of(&content), content)),
            _ => None,
        });
        contents.collect()
    }

    /// The tree that the index stands for.
    pub(crate) fn shown(&self, contents: &Contents) -> Tree {
        let view = View::new(&self.index);
        let (mut tree, mut queue) = (Tree::new(), vec![(FileId::ROOT, Vec::new())]);
        while let Some((directory, path)) = queue.pop() {
            let Ok(entries) = view.directory(directory);
            for entry in entries {
                let mut at: Vec<u8> = path.clone();
                if !at.is_empty() {
                    at.push(b'/');
                }
                at.extend_from_slice(entry.name.as_bytes());
                let shown = match entry.kind {
                    Kind::Directory => TreeEntry::Directory,
                    Kind::File => TreeEntry::File {
                        content: contents.get(&entry.hash).cloned().unwrap_or_default(),
                        executable: entry.executable,
                    },
                    Kind::Symlink => {
                        let Ok(item) = self.index.item(entry.source);
                        match &item.unwrap().content[&entry.content_op().unwrap()] {
                            Content::Symlink { target } => TreeEntry::Symlink(target.clone()),
                            _ => panic!("no link"),
                        }
                    }
                };
                tree.insert(at.clone().into(), shown);
                if entry.kind == Kind::Directory {
                    queue.push((entry.id, at));
                }
            }
        }
        tree
    }
}
