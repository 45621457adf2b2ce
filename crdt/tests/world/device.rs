//! One device: its disk in memory, what it notes of it, and how a walk finds its files.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::{BaseRead, Fingerprint, MemoryBase, PARKED, RowKey};
use zerocloud_crdt::id::{ActorId, ContentHash, EpochId, FileId};
use zerocloud_crdt::index::MemoryIndex;
use zerocloud_crdt::manifest::{Body, Class, Manifest, Profile};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{FileTime, Kind};
use zerocloud_crdt::scan::{Findings, Listed, Parent, Seen, Walk};
use zerocloud_crdt::view::View;

use super::name;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) inode: u64,
    pub(super) kind: Kind,
    /// Which content; 0 for directories.
    pub(super) content: u32,
    pub(super) mtime: i64,
    pub(super) executable: bool,
}

pub(super) fn hash(content: u32) -> ContentHash {
    ContentHash::of(&content.to_be_bytes())
}

pub(super) fn manifest() -> Manifest {
    Manifest {
        profile: Profile { chunker: 1, class: Class::Single, epoch: EpochId([0; 32]) },
        len: 4,
        epochs: Vec::new(),
        body: Body::Inline(Vec::new()),
    }
}

pub(super) fn print(node: &Node) -> Fingerprint {
    let mtime = FileTime { secs: node.mtime, nanos: 0 };
    let mode = if node.executable { 0o755 } else { 0o644 };
    Fingerprint { inode: node.inode, birth: None, len: 4, mtime, ctime: mtime, mode }
}

/// A path on the disk of a device: names joined by `/`; the root is empty.
pub(super) type Path = String;

pub(super) struct Device {
    pub(super) actor: ActorId,
    pub(super) index: MemoryIndex,
    pub(super) base: MemoryBase,
    pub(super) disk: BTreeMap<Path, Node>,
    pub(super) seen: BTreeSet<usize>,
    pub(super) pending: BTreeSet<FileId>,
    /// Contents that were on this disk, and those that its user took away.
    pub(super) ever: BTreeSet<u32>,
    pub(super) killed: BTreeSet<u32>,
    pub(super) versions: BTreeSet<u32>,
}

pub(super) fn up(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(up, _)| up)
}

pub(super) fn leaf(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, leaf)| leaf)
}

pub(super) fn join(directory: &str, name: &str) -> Path {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

pub(super) fn is_under(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

impl Device {
    /// The path of a directory by its row's id, as base has it.
    pub(super) fn directory(&self, id: FileId) -> Option<Path> {
        match id {
            FileId::ROOT => Some(String::new()),
            PARKED => Some(".tmp".to_owned()),
            _ => {
                let Ok(key) = self.base.find(id, id);
                self.path(&key?)
            }
        }
    }

    pub(super) fn path(&self, key: &RowKey) -> Option<Path> {
        Some(join(&self.directory(key.parent)?, std::str::from_utf8(key.local.as_bytes()).unwrap()))
    }

    pub(super) fn list(&self, directory: &str) -> Vec<Listed> {
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

    /// The names that a watcher tells of in a directory: those under which something is not as base has it. `None` if
    /// the directory itself is not.
    fn told(&self, directory: FileId) -> Option<BTreeSet<Name>> {
        let path = self.directory(directory)?;
        let is_as_in_base = match self.base.find(directory, directory) {
            Ok(Some(key)) => {
                let Ok(row) = self.base.row(&key);
                row.is_some_and(|row| self.disk.get(&path).is_some_and(|node| node.inode == row.print.inode))
            }
            Ok(None) => directory == FileId::ROOT,
        };
        let Ok(rows) = self.base.rows(directory);
        let mut told: BTreeMap<Name, Fingerprint> = rows.into_iter().map(|(local, row)| (local, row.print)).collect();
        for listed in self.list(&path) {
            if told.get(&listed.local).is_some_and(|print| print.is_unchanged(&listed.print, listed.kind)) {
                told.remove(&listed.local);
            } else {
                told.insert(listed.local, listed.print);
            }
        }
        is_as_in_base.then(|| told.into_keys().collect())
    }

    /// Walks, whole or only over the directories that `dirty` names, or over what a watcher tells of them.
    pub(super) fn walk(&self, dirty: Option<&BTreeSet<FileId>>, is_told: bool) -> Findings {
        let mut whole: BTreeSet<FileId> = BTreeSet::new();
        let walk = loop {
            let mut walk = match dirty {
                None => Walk::full(&self.base),
                Some(dirty) => dirty.iter().fold(Walk::of_directories(&self.base, []), |walk, directory| {
                    let is_partly = is_told && !whole.contains(directory);
                    match self.told(*directory).filter(|_| is_partly) {
                        Some(names) => walk.with_names(*directory, names),
                        None => walk.with_directory(*directory),
                    }
                }),
            };
            self.list_all(&mut walk);
            if walk.short().is_empty() {
                break walk;
            }
            whole.extend(walk.short());
        };
        let Ok((mut findings, unread)) = walk.finish();
        for at in unread {
            let sighting = &findings.sightings[at];
            let node = self.disk.values().find(|node| node.inode == sighting.print.inode).unwrap();
            findings.sightings[at].seen = Seen::File { hash: hash(node.content), manifest: manifest() };
        }
        findings
    }

    fn list_all(&self, walk: &mut Walk<'_, MemoryBase>) {
        loop {
            let Ok(next) = walk.next_directory();
            let Some(directory) = next else { break };
            let path = self.walked_path(walk, directory);
            let is_directory = path.as_ref().is_some_and(|path| {
                path.is_empty()
                    || path == ".tmp"
                    || self.disk.get(path).is_some_and(|node| node.kind == Kind::Directory)
            });
            let Ok(()) = match path.filter(|_| is_directory) {
                Some(path) => {
                    let inode = self.disk.get(&path).map_or(0, |node| node.inode);
                    let mut listing = self.list(&path);
                    if let Some(names) = walk.names(directory) {
                        listing.retain(|listed| names.contains(&listed.local));
                    }
                    walk.handle_listing(directory, inode, listing)
                }
                None => walk.handle_missing(directory),
            };
        }
    }

    pub(super) fn walked_path(&self, walk: &Walk<'_, MemoryBase>, directory: Parent) -> Option<Path> {
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

    pub(super) fn tree(&self) -> BTreeMap<Path, (Kind, u32, i64, bool)> {
        let file = |node: &Node| match node.kind {
            Kind::File => (node.kind, node.content, node.mtime, node.executable),
            _ => (node.kind, 0, 0, false),
        };
        self.disk.iter().map(|(path, node)| (path.clone(), file(node))).collect()
    }
}

pub(super) fn rename(disk: &mut BTreeMap<Path, Node>, from: &str, to: &str) {
    let all: Vec<Path> = disk.keys().filter(|path| *path == from || is_under(path, from)).cloned().collect();
    for path in all {
        let node = disk.remove(&path).unwrap();
        disk.insert(format!("{to}{}", &path[from.len()..]), node);
    }
}

pub(super) fn shown(device: &Device) -> BTreeMap<Path, (Kind, u32, i64, bool)> {
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
