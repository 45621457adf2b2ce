//! More in one scan than one entry holds.

use std::collections::{BTreeMap, BTreeSet};

use super::batches;
use crate::base::{Fingerprint, MemoryBase, RowKey};
use crate::id::{ActorId, FileId, SpaceId};
use crate::index::MemoryIndex;
use crate::limits::ENTRY_FILE_COUNT_MAX;
use crate::name::Name;
use crate::register::{FileTime, Kind};
use crate::scan::identity::identify;
use crate::scan::{Findings, Parent, Seen, Sighting, diff};
use crate::view::View;

/// Links in the root: name to inode, which is in the target too.
type Disk = BTreeMap<String, u64>;

fn sighting(name: &str, inode: u64, kind: Kind) -> Sighting {
    let time = FileTime { secs: 1, nanos: 0 };
    let print = Fingerprint { inode, birth: Some(time), len: 1, mtime: time, ctime: time, mode: 0o755 };
    let seen = match kind {
        Kind::Directory => Seen::Directory,
        _ => Seen::Symlink { target: inode.to_string().into_bytes() },
    };
    let local = Name::parse(name.as_bytes()).unwrap();
    Sighting { parent: Parent::Known(FileId::ROOT), local, kind, print, links: 1, from: None, seen }
}

struct Device {
    index: MemoryIndex,
    base: MemoryBase,
    ids: BTreeMap<u64, FileId>,
}

impl Device {
    fn new(disk: &Disk) -> Self {
        let index = MemoryIndex::new(SpaceId([3; 32]));
        let mut new = Self { index, base: MemoryBase::default(), ids: BTreeMap::new() };
        new.scan(disk, Kind::Symlink);
        new.ids = new.by_inode();
        new
    }

    fn by_inode(&self) -> BTreeMap<u64, FileId> {
        self.base.all().values().map(|row| (row.print.inode, row.id)).collect()
    }

    /// Scans, and gives how many files each entry touches.
    fn scan(&mut self, disk: &Disk, kind: Kind) -> Vec<usize> {
        let rows: BTreeMap<RowKey, u64> =
            self.base.all().iter().map(|(key, row)| (key.clone(), row.print.inode)).collect();
        let is_same = |it: &Sighting| it.key().and_then(|key| rows.get(&key)) == Some(&it.print.inode);
        let on_disk: Vec<Sighting> = disk.iter().map(|(name, inode)| sighting(name, *inode, kind)).collect();
        let there: BTreeSet<RowKey> = on_disk.iter().filter_map(Sighting::key).collect();
        let mut findings = Findings {
            gone: rows.keys().filter(|key| !there.contains(*key)).cloned().collect(),
            sightings: on_disk.into_iter().filter(|it| !is_same(it)).collect(),
            ..Findings::default()
        };
        identify(&self.base, &mut findings, 0).unwrap();
        self.take(findings)
    }

    fn take(&mut self, findings: Findings) -> Vec<usize> {
        let mut created = BTreeMap::new();
        let mut counts = Vec::new();
        for part in batches(findings, ENTRY_FILE_COUNT_MAX) {
            let indices = part.indices();
            let part = part.resolve(|at| created.get(&at).copied());
            let outcome = diff(&self.index, &self.base, ActorId([1; 16]), &part).unwrap();
            counts.push(outcome.ops.iter().map(|op| op.item).collect::<BTreeSet<_>>().len());
            self.base.commit(outcome.base);
            self.index.apply(&outcome.ops);
            created.extend(indices.into_iter().zip(outcome.ids));
        }
        assert!(counts.iter().all(|count| *count <= ENTRY_FILE_COUNT_MAX), "{counts:?}");
        counts
    }

    /// What the view shows in the root: names, and the inodes whose rows stand there.
    fn shown(&self) -> Disk {
        let mut shown = Disk::new();
        for (key, row) in self.base.all() {
            let entry = View::new(&self.index).entry(row.id, row.source).unwrap().unwrap();
            assert_eq!((entry.parent, &entry.name), (key.parent, &key.local), "base and view have it elsewhere");
            if entry.parent == FileId::ROOT {
                shown.insert(String::from_utf8(entry.name.as_bytes().to_vec()).unwrap(), row.print.inode);
            }
        }
        shown
    }
}

fn numbered(count: u64) -> Disk {
    (0..count).map(|n| (format!("IMG_{n:05}"), n + 1)).collect()
}

#[test]
fn files_that_are_all_numbered_anew_are_told_of_entry_by_entry() {
    let mut device = Device::new(&numbered(2600));
    // No circle: every path that stays keeps its file, which has other bytes now.
    let shifted: Disk = (0..2600).map(|n| (format!("IMG_{:05}", n + 1), n + 1)).collect();
    let counts = device.scan(&shifted, Kind::Symlink);
    assert_eq!(counts.iter().sum::<usize>(), 2601);
    assert_eq!(device.shown(), shifted);
}

#[test]
fn a_circle_of_names_that_no_entry_holds_is_gone_round_by_way_of_another_name() {
    let mut device = Device::new(&numbered(1500));
    let turned: Disk = (0..1500).map(|n| (format!("IMG_{:05}", (n + 1) % 1500), n + 1)).collect();
    let counts = device.scan(&turned, Kind::Symlink);
    assert!(counts.len() > 1);
    assert_eq!(device.shown(), turned);
    assert_eq!(device.by_inode(), device.ids, "each is the file that it was");
    assert_eq!(device.scan(&turned, Kind::Symlink), [0_usize; 0], "nothing is left to be found");
}

#[test]
fn files_that_all_become_directories_end_and_begin_entry_by_entry() {
    let mut device = Device::new(&numbered(900));
    let other: Disk = (0..900).map(|n| (format!("IMG_{n:05}"), 10_000 + n)).collect();
    let counts = device.scan(&other, Kind::Directory);
    assert_eq!(counts.iter().sum::<usize>(), 1800);
    assert_eq!(device.shown(), other);
}

#[test]
fn what_takes_a_path_comes_after_what_left_it_for_a_new_directory() {
    let mut device = Device::new(&numbered(1200));
    // All go into a directory that is new, and the first thousand of other names take their paths.
    let mut findings = Findings { sightings: vec![sighting("all", 9_000, Kind::Directory)], ..Findings::default() };
    for (name, inode) in numbered(1200) {
        let from = Some(RowKey { parent: FileId::ROOT, local: Name::parse(name.as_bytes()).unwrap() });
        let moved = sighting(&name, inode, Kind::Symlink);
        findings.sightings.push(Sighting { parent: Parent::New(0), from, seen: Seen::AsBefore, ..moved });
        findings.sightings.push(sighting(&name, 20_000 + inode, Kind::Symlink));
    }
    device.take(findings);
    let now = device.by_inode();
    assert!(device.ids.iter().all(|(inode, id)| now.get(inode) == Some(id)), "each is the file that it was");
    let mut root: Disk = (0..1200).map(|n| (format!("IMG_{n:05}"), 20_001 + n)).collect();
    root.insert("all".into(), 9_000);
    assert_eq!(device.shown(), root);
    assert_eq!(device.base.all().len(), 2401);
}

#[test]
fn a_directory_that_is_wrapped_in_one_of_its_name_goes_with_it() {
    let mut device = Device::new(&Disk::from([("photos".into(), 1)]));
    let from = Some(RowKey { parent: FileId::ROOT, local: Name::parse(b"photos").unwrap() });
    let inner = Sighting { from, seen: Seen::AsBefore, ..sighting("photos", 1, Kind::Symlink) };
    let outer = sighting("photos", 2, Kind::Directory);
    let sightings = vec![outer, Sighting { parent: Parent::New(0), ..inner }];
    device.take(Findings { sightings, ..Findings::default() });
    assert_eq!(device.shown(), Disk::from([("photos".into(), 2)]));
    assert_eq!(device.by_inode().get(&1), device.ids.get(&1));
}
