//! The tree code on a real file system: what a simulated disk can't show. Crashes are in the test network.

mod ignoring;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use zerocloud_crdt::base::{BaseRead, RowKey};
use zerocloud_crdt::id::{ActorId, ContentHash, EpochId, FileId, SpaceId};
use zerocloud_crdt::index::MemoryIndex;
use zerocloud_crdt::keys::{EpochSecret, Secret};
use zerocloud_crdt::limits::ENTRY_FILE_COUNT_MAX;
use zerocloud_crdt::manifest::Body;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::plan::{Action, Situation, plan};
use zerocloud_crdt::register::{Content, Kind, Op};
use zerocloud_crdt::scan::{Seen, batches, diff};
use zerocloud_crdt::view::ViewEntry;

use super::marker::{Marker, MarkerError};
use super::materialise::{Blocked, Job, Materialiser, Outcome, Trust};
use super::scan::{Extent, Previous, Problem, Read, Reason, Scanned, read_content, read_findings, scan};
use super::stage::{FileSpec, Staging};
use super::{Keyring, MemoryLedger, TempNames, Threads};
use crate::clock::WallTime;
use crate::volume::{LinuxVolume, Volume};

const SPACE: SpaceId = SpaceId([3; 32]);
const FIRST: EpochId = EpochId([3; 32]);
const SECOND: EpochId = EpochId([4; 32]);

fn secret(epoch: EpochId) -> EpochSecret {
    EpochSecret::new(SPACE, epoch, Secret::new([epoch.0[0]; 32]))
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

/// One device on a directory of the real disk.
struct Disk {
    directory: TempDir,
    volume: Arc<LinuxVolume>,
    index: MemoryIndex,
    ledger: MemoryLedger,
    keyring: Keyring,
    names: Arc<TempNames>,
    problems: Vec<Problem>,
}

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("space");
        fs::create_dir(&root).unwrap();
        let volume = Arc::new(LinuxVolume::open(&root).unwrap());
        Marker { space: SPACE, counter: 1 }.write(&*volume).unwrap();
        Self {
            directory,
            volume,
            index: MemoryIndex::new(SPACE),
            ledger: MemoryLedger::default(),
            keyring: Keyring::new(&secret(FIRST), []),
            names: Arc::new(TempNames::new(1)),
            problems: Vec::new(),
        }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join("space").join(path)
    }

    fn scan(&mut self) -> Vec<Op> {
        let scanned = scan(&*self.volume, &self.ledger, SPACE, &Extent::Full).unwrap();
        self.take(scanned)
    }

    fn take(&mut self, scanned: Scanned) -> Vec<Op> {
        self.problems = scanned.problems;
        let (mut created, mut ops) = (BTreeMap::new(), Vec::new());
        for part in batches(scanned.findings, ENTRY_FILE_COUNT_MAX) {
            let indices = part.indices();
            let part = part.resolve(|at| created.get(&at).copied());
            let pool = Threads::of_cores();
            let read = read_findings(&*self.volume, &self.ledger, part, &self.keyring, |_| None, &pool).unwrap();
            self.problems.extend(read.problems);
            let Ok(outcome) = diff(&self.index, &self.ledger, ActorId([1; 16]), &read.findings);
            self.ledger.base.commit(outcome.base);
            created.extend(read.kept.iter().map(|at| indices[*at]).zip(outcome.ids));
            self.index.apply(&outcome.ops);
            ops.extend(outcome.ops);
        }
        ops
    }

    fn hear(&mut self, ops: &[Op]) -> BTreeSet<FileId> {
        self.index.apply(ops)
    }

    fn actions(&self, sources: BTreeSet<FileId>) -> Vec<Action> {
        let Ok(plan) = plan(&self.index, &self.ledger, sources, &Ready, 1000);
        plan.actions
    }

    fn run(&mut self, actions: &[Action], contents: &BTreeMap<ContentHash, Vec<u8>>) -> Vec<Outcome> {
        let staging = Staging::new(&*self.volume, self.names.clone()).unwrap();
        let job = |action: &Action| {
            let staged = match action {
                Action::Create { entry, .. } if entry.kind == Kind::Directory => None,
                Action::Create { entry, .. } | Action::Replace { entry, .. } => {
                    let old = if let Action::Replace { old, .. } = action { Some(old) } else { None };
                    let content = &contents[&entry.hash];
                    Some(match entry.kind {
                        Kind::Symlink => staging.stage_symlink(content).unwrap(),
                        _ => staging.stage_whole(&FileSpec::of_entry(entry, old), content).unwrap(),
                    })
                }
                _ => None,
            };
            Job { action: action.clone(), staged, single: None }
        };
        let jobs: Vec<Job> = actions.iter().map(job).collect();
        let materialiser = Materialiser::new(self.volume.clone(), self.names.clone());
        materialiser.run(&mut self.ledger, &jobs, WallTime(0)).unwrap().outcomes
    }

    fn problem(&self, path: &str) -> Option<Reason> {
        let is_there = |problem: &&Problem| problem.path.join(&b'/') == path.as_bytes();
        self.problems.iter().find(is_there).map(|problem| problem.reason)
    }
}

fn contents(texts: &[&[u8]]) -> BTreeMap<ContentHash, Vec<u8>> {
    texts.iter().map(|text| (ContentHash::of(text), text.to_vec())).collect()
}

fn key(parent: FileId, name: &str) -> RowKey {
    RowKey { parent, local: Name::parse(name.as_bytes()).unwrap() }
}

#[test]
fn a_tree_goes_from_disk_to_index_and_to_another_disk() {
    let (mut first, mut second) = (Disk::new(), Disk::new());
    fs::create_dir_all(first.path("a/b/c")).unwrap();
    fs::write(first.path("a/b/c/file"), b"text").unwrap();
    fs::write(first.path("run"), b"#!/bin/sh").unwrap();
    fs::set_permissions(first.path("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", first.path("link")).unwrap();
    for n in 0..30 {
        fs::write(first.path(&format!("a/{n}")), n.to_string()).unwrap();
    }
    let ops = first.scan();
    assert!(first.scan().is_empty());
    let numbers: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let mut all = contents(&[b"text", b"#!/bin/sh", b"/etc/passwd"]);
    all.extend(numbers.iter().map(|n| (ContentHash::of(n.as_bytes()), n.clone().into_bytes())));
    let sources = second.hear(&ops);
    let actions = second.actions(sources);
    let outcomes = second.run(&actions, &all);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done(_))), "{outcomes:?}");
    assert_eq!(fs::read(second.path("a/b/c/file")).unwrap(), b"text");
    assert_eq!(fs::read_link(second.path("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::metadata(second.path("run")).unwrap().mode() & 0o100, 0o100);
    let times = |disk: &Disk| {
        let metadata = fs::metadata(disk.path("a/b/c/file")).unwrap();
        (metadata.mtime(), metadata.mtime_nsec())
    };
    assert_eq!(times(&first), times(&second));
    assert!(second.scan().is_empty(), "a scan after materialise made operations");
    let materialiser = Materialiser::new(second.volume.clone(), second.names.clone());
    let recovered = materialiser.recover(&mut second.ledger, Trust::Same, WallTime(0)).unwrap();
    assert_eq!(recovered.garbage_count, 0);
}

#[test]
fn threat_39_special_files_and_hard_links_are_reported_and_nothing_outside_changes() {
    let mut disk = Disk::new();
    let outside = disk.directory.path().join("outside");
    fs::write(&outside, b"outside").unwrap();
    fs::hard_link(&outside, disk.path("inside")).unwrap();
    fs::write(disk.path("plain"), b"plain").unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        disk.path("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(disk.path("socket")).unwrap();
    let ops = disk.scan();
    assert_eq!(disk.problem("pipe"), Some(Reason::Special));
    assert_eq!(disk.problem("socket"), Some(Reason::Special));
    assert_eq!(disk.problem("inside"), Some(Reason::HardLinked { count: 2 }));
    assert_eq!(ops.len(), 4, "two files, each a place and a content: {ops:?}");

    // Another device writes the linked file: it is replaced by rename, so the outer name keeps its content.
    let Ok(row) = disk.ledger.row(&key(FileId::ROOT, "inside"));
    let row = row.unwrap();
    let mut writer = Disk::new();
    writer.hear(&ops);
    let entry = zerocloud_crdt::view::View::new(&writer.index).entry(row.id, row.id).unwrap().unwrap();
    let entry = ViewEntry { hash: ContentHash::of(b"theirs"), len: 6, ..entry };
    let action = Action::Replace { key: key(FileId::ROOT, "inside"), old: row, entry };
    let outcomes = disk.run(&[action], &contents(&[b"theirs"]));
    assert!(matches!(outcomes[..], [Outcome::Done(_)]), "{outcomes:?}");
    assert_eq!(fs::read(disk.path("inside")).unwrap(), b"theirs");
    assert_eq!(fs::read(&outside).unwrap(), b"outside");
}

#[test]
fn what_is_done_to_a_file_by_another_name_leaves_the_version_of_the_first_as_it_was() {
    let mut disk = Disk::new();
    fs::write(disk.path("here"), b"ours").unwrap();
    fs::hard_link(disk.path("here"), disk.path("there")).unwrap();
    let ops = disk.scan();
    let Ok(row) = disk.ledger.row(&key(FileId::ROOT, "here"));
    let row = row.unwrap();
    let mut writer = Disk::new();
    writer.hear(&ops);
    let entry = zerocloud_crdt::view::View::new(&writer.index).entry(row.id, row.id).unwrap().unwrap();
    let entry = ViewEntry { hash: ContentHash::of(b"theirs"), len: 6, ..entry };
    let action = Action::Replace { key: key(FileId::ROOT, "here"), old: row, entry };
    let outcomes = disk.run(&[action], &contents(&[b"theirs"]));
    assert!(matches!(outcomes[..], [Outcome::Done(_)]), "{outcomes:?}");

    fs::write(disk.path("there"), b"later").unwrap();
    let control = disk.volume.control().unwrap();
    let stored = disk.ledger.versions.values().next().unwrap();
    assert_eq!(super::versions::look(&control, stored).unwrap(), super::versions::Look::AsKept);
    assert_eq!(fs::read(disk.path(".zerocloud/versions").join(&stored.stored)).unwrap(), b"ours");
    assert_eq!(fs::read(disk.path("here")).unwrap(), b"theirs");
    assert_eq!(fs::read_dir(disk.path(".zerocloud/tmp")).unwrap().count(), 0);
}

#[test]
fn threat_34_a_link_planted_in_the_way_leads_nowhere() {
    let mut disk = Disk::new();
    fs::create_dir(disk.path("d")).unwrap();
    fs::write(disk.path("d/f"), b"old").unwrap();
    disk.scan();
    let Ok(directory) = disk.ledger.row(&key(FileId::ROOT, "d"));
    let directory = directory.unwrap().id;
    let Ok(row) = disk.ledger.row(&key(directory, "f"));
    let row = row.unwrap();
    let decoy = disk.directory.path().join("decoy");
    fs::rename(disk.path("d"), &decoy).unwrap();
    symlink(&decoy, disk.path("d")).unwrap();
    let entry = zerocloud_crdt::view::View::new(&disk.index).entry(row.id, row.id).unwrap().unwrap();
    let new = ViewEntry { hash: ContentHash::of(b"new"), len: 3, ..entry.clone() };
    let created =
        ViewEntry { id: FileId([8; 16]), source: FileId([8; 16]), name: key(directory, "g").local, ..new.clone() };
    let actions = [
        Action::Replace { key: key(directory, "f"), old: row.clone(), entry: new },
        Action::Create { key: key(directory, "g"), entry: created },
        Action::Delete { key: key(directory, "f"), old: row },
    ];
    for action in actions {
        let outcomes = disk.run(&[action], &contents(&[b"new"]));
        assert_eq!(outcomes, [Outcome::Blocked(Blocked::NoDirectory)]);
    }
    assert_eq!(fs::read(decoy.join("f")).unwrap(), b"old");
    assert_eq!(fs::read_dir(&decoy).unwrap().count(), 1);
}

#[test]
fn names_that_no_device_could_hold_are_reported_and_left_out() {
    let mut disk = Disk::new();
    fs::write(disk.path(".ZeroCloud"), b"not ours").unwrap();
    fs::write(disk.path("ok"), b"ok").unwrap();
    disk.scan();
    assert!(matches!(disk.problem(".ZeroCloud"), Some(Reason::Name(_))));
    assert_eq!(disk.ledger.base.all().len(), 1);
}

#[test]
fn an_edit_keeps_chunks_of_the_epoch_before_and_names_only_what_is_new() {
    let disk = Disk::new();
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"seed");
    let mut bytes = vec![0; 600_000];
    hasher.finalize_xof().fill(&mut bytes);
    fs::write(disk.path("f"), &bytes).unwrap();
    let open = || disk.volume.root().open_file(b"f").unwrap();
    let Read { seen: Seen::File { manifest, .. }, contents, .. } = read_content(&*open(), None, &disk.keyring).unwrap()
    else {
        panic!("no file");
    };
    bytes.extend_from_slice(b"more at the end");
    fs::write(disk.path("f"), &bytes).unwrap();
    let known = contents.chunks.iter().map(|chunk| (chunk.epoch, chunk.id)).collect();
    let previous = Previous { profile: manifest.profile, epochs: vec![FIRST], known };
    let ring = Keyring::new(&secret(SECOND), [&secret(FIRST)]);
    let read = read_content(&*open(), Some(&previous), &ring).unwrap();
    let (last, before) = read.contents.chunks.split_last().unwrap();
    assert!(before.len() > 1 && before.iter().all(|chunk| chunk.epoch == FIRST));
    assert_eq!(last.epoch, SECOND);
    let Seen::File { hash, manifest: now } = read.seen else { panic!("no file") };
    assert_eq!(hash, ContentHash::of(&bytes));
    assert_eq!(now.profile, manifest.profile);
    assert!(now.check().is_ok());
    let is_paged = matches!(now.body, Body::Paged(_));
    assert_eq!(is_paged, !read.contents.pages.is_empty());
}

#[test]
fn a_marker_is_found_checked_and_replaced() {
    let disk = Disk::new();
    let noted = Marker::read(&*disk.volume).unwrap();
    assert!(noted.check(&noted).is_ok());
    let next = Marker { counter: 2, ..noted };
    next.write(&*disk.volume).unwrap();
    let found = Marker::read(&*disk.volume).unwrap();
    assert_eq!(found, next);
    assert!(matches!(found.check(&noted), Err(MarkerError::Higher { marker: 2, store: 1 })));
    assert!(matches!(noted.check(&next), Err(MarkerError::Lower { marker: 1, store: 2 })));
    let other = Marker { space: SpaceId([9; 32]), ..next };
    assert!(matches!(found.check(&other), Err(MarkerError::OtherSpace { .. })));
    fs::write(disk.path(".zerocloud/marker"), b"nonsense").unwrap();
    assert!(matches!(Marker::read(&*disk.volume), Err(MarkerError::Damaged(_))));
    fs::remove_file(disk.path(".zerocloud/marker")).unwrap();
    assert!(matches!(Marker::read(&*disk.volume), Err(MarkerError::Missing)));
    let empty = tempfile::tempdir().unwrap();
    let volume = LinuxVolume::open(empty.path()).unwrap();
    assert!(matches!(Marker::read(&volume), Err(MarkerError::Missing)));
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0, "reading a marker made something");
}

#[test]
fn a_symlinks_content_is_its_target() {
    let mut disk = Disk::new();
    symlink("somewhere else", disk.path("l")).unwrap();
    let ops = disk.scan();
    let target = ops.iter().find_map(|op| match &op.write {
        zerocloud_crdt::register::Write::Content(Some(Content::Symlink { target })) => Some(target.clone()),
        _ => None,
    });
    assert_eq!(target.as_deref(), Some(&b"somewhere else"[..]));
}
