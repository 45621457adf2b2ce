//! The person whose files these are: works behind the node's back, is not stopped by its crashes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use zerocloud::volume::conformance::Person;
use zerocloud::volume::{FileTime, VolumeErrorKind};
use zerocloud::watch::Hint;
use zerocloud_crdt::name::CONTROL;

use super::image::{Body, Ino, ROOT, folded};
use super::{Disk, Tree, lock};
use crate::sim::user::{FolderUser, Outcome};

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeEntry {
    /// A directory.
    Directory,
    /// A file, its content, and whether it may be executed.
    File {
        /// Its bytes.
        content: Vec<u8>,
        /// Whether the owner may execute it.
        executable: bool,
    },
    /// A link and its target.
    Symlink(Vec<u8>),
    /// A FIFO.
    Other,
}

/// Acts on a simulated disk as its owner. Paths are relative to the root, with `/`. Every method fails as a file
/// manager would, with the kind that the volume has for it.
#[derive(Clone)]
pub struct SimPerson {
    disk: Arc<Mutex<Disk>>,
    /// What the person has put away elsewhere. Held for one call.
    backup: Arc<Mutex<Tree>>,
}

impl SimPerson {
    pub(super) fn new(disk: Arc<Mutex<Disk>>) -> Self {
        Self { disk, backup: Arc::default() }
    }

    /// Copies all that there is to another disk, in place of what was copied before.
    pub fn keep_backup(&self) {
        let tree = self.tree();
        *self.backup.lock().unwrap_or_else(PoisonError::into_inner) = tree;
    }

    /// What was copied the last time.
    pub fn backup(&self) -> Tree {
        self.backup.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a file, or overwrites one in place: same inode.
    pub fn write(&self, path: &[u8], content: &[u8]) -> Outcome<()> {
        self.at(path, |disk, directory, name, now| {
            match disk.live.child(directory, name) {
                Ok(ino) => disk.live.edit(ino, now, |bytes| *bytes = content.to_vec())?,
                Err(VolumeErrorKind::NotFound) => {
                    disk.live.create(directory, name, Body::File(content.to_vec()), 0o644, now)?;
                    disk.note(directory, name, Hint::Created, false);
                }
                Err(kind) => return Err(kind),
            }
            disk.note(directory, name, Hint::Changed, false);
            disk.note(directory, name, Hint::ClosedAfterWrite, false);
            Ok(())
        })
    }

    /// Renames; a file or link at the new path is replaced, and an empty directory by a directory.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        let (source, old) = self.at(from, |_, directory, name, _| Ok((directory, name.to_vec())))?;
        self.at(to, |disk, target, new, now| {
            let ino = disk.live.child(source, &old)?;
            match disk.live.child(target, new) {
                Ok(same) if same == ino => {
                    // Two names of one file, which stay as they are, or two spellings of one name.
                    let is_one_name = disk.live.folds_names && source == target && folded(&old) == folded(new);
                    if !is_one_name || old == new {
                        return Ok(());
                    }
                    disk.live.respell(source, &old, new, now)?;
                }
                Ok(there) => {
                    match (disk.live.names(ino).is_ok(), disk.live.names(there).is_ok()) {
                        (true, false) => return Err(VolumeErrorKind::NotADirectory),
                        (false, true) => return Err(VolumeErrorKind::WrongKind),
                        (true, true) | (false, false) => {}
                    }
                    // Tried first, so that a rename that fails has replaced nothing.
                    let mut trial = disk.live.clone();
                    trial.unlink(target, new, now)?;
                    trial.rename((source, &old), (target, new), now)?;
                    disk.live = trial;
                }
                Err(VolumeErrorKind::NotFound) => {
                    disk.live.rename((source, &old), (target, new), now)?;
                }
                Err(kind) => return Err(kind),
            }
            disk.note_rename(source, &old, target, new, ino);
            Ok(())
        })
    }

    /// Gives a file another name beside the one that it has (a hard link).
    pub fn link(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        let ino = resolve(&lock(&self.disk), from)?;
        self.at(to, |disk, directory, name, now| {
            disk.live.link(ino, (directory, name), now)?;
            disk.note(directory, name, Hint::Created, false);
            Ok(())
        })
    }

    /// Whether some file has several names: what is done to it by one of them shows at the others, and nobody is told so.
    pub fn has_hard_links(&self) -> bool {
        lock(&self.disk).live.has_hard_links()
    }

    /// Makes a file unreadable, for the node and not for the person, or a directory impossible to list.
    pub fn set_unreadable(&self, path: &[u8]) -> Outcome<()> {
        let mut disk = lock(&self.disk);
        let ino = resolve(&disk, path)?;
        disk.unreadable.insert(ino);
        Ok(())
    }

    /// Removes a file or link, or a directory with all that is in it.
    pub fn remove_all(&self, path: &[u8]) -> Outcome<()> {
        let below: Vec<_> = {
            let disk = lock(&self.disk);
            let ino = resolve(&disk, path)?;
            disk.live.names(ino).map(|names| names.keys().cloned().collect()).unwrap_or_default()
        };
        for name in below {
            self.remove_all(&[path, b"/", &name].concat())?;
        }
        self.remove(path)
    }

    /// Removes a file, a link or an empty directory.
    pub fn remove(&self, path: &[u8]) -> Outcome<()> {
        self.at(path, |disk, directory, name, now| {
            let ino = disk.live.unlink(directory, name, now)?;
            let is_directory = disk.live.names(ino).is_ok();
            disk.note(directory, name, Hint::Removed, is_directory);
            Ok(())
        })
    }

    /// Makes a directory.
    pub fn create_directory(&self, path: &[u8]) -> Outcome<()> {
        self.create(path, Body::Directory(BTreeMap::new()), 0o755)
    }

    /// Makes a link.
    pub fn create_symlink(&self, path: &[u8], target: &[u8]) -> Outcome<()> {
        self.create(path, Body::Symlink(target.to_vec()), 0o777)
    }

    /// Makes a FIFO.
    pub fn create_fifo(&self, path: &[u8]) -> Outcome<()> {
        self.create(path, Body::Fifo, 0o644)
    }

    /// Sets the time of the last change of content.
    pub fn set_mtime(&self, path: &[u8], mtime: FileTime) -> Outcome<()> {
        let mtime = lock(&self.disk).rounded(mtime);
        self.change(path, |inode| inode.mtime = mtime)
    }

    /// Sets the permission bits.
    pub fn set_mode(&self, path: &[u8], mode: u32) -> Outcome<()> {
        self.change(path, |inode| inode.mode = mode & 0o7777)
    }

    /// A file's content.
    pub fn read(&self, path: &[u8]) -> Outcome<Vec<u8>> {
        let disk = lock(&self.disk);
        match &disk.live.inode(resolve(&disk, path)?)?.body {
            Body::File(content) => Ok(content.clone()),
            Body::Directory(_) | Body::Symlink(_) | Body::Fifo => Err(VolumeErrorKind::WrongKind),
        }
    }

    /// All that there is, without our own directory.
    pub fn tree(&self) -> Tree {
        let mut tree = self.whole_tree();
        let control = CONTROL.as_bytes();
        tree.retain(|path, _| {
            path.strip_prefix(control).is_none_or(|rest| !rest.is_empty() && !rest.starts_with(b"/"))
        });
        tree
    }

    /// All that there is, our own directory too: a test looks there for what must not be lost.
    pub fn whole_tree(&self) -> Tree {
        let disk = lock(&self.disk);
        let mut tree = Tree::new();
        let mut waiting: Vec<(Vec<u8>, Ino)> = vec![(Vec::new(), ROOT)];
        while let Some((path, ino)) = waiting.pop() {
            let Ok(inode) = disk.live.inode(ino) else { continue };
            let entry = match &inode.body {
                Body::Directory(names) => {
                    for (name, child) in names {
                        let below = if path.is_empty() { name.to_vec() } else { [&path, &b"/"[..], name].concat() };
                        waiting.push((below, *child));
                    }
                    TreeEntry::Directory
                }
                Body::File(content) => {
                    TreeEntry::File { content: content.clone(), executable: disk.live.mode_of(inode) & 0o100 != 0 }
                }
                Body::Symlink(target) => TreeEntry::Symlink(target.clone()),
                Body::Fifo => TreeEntry::Other,
            };
            if ino != ROOT {
                tree.insert(path.into(), entry);
            }
        }
        tree
    }

    fn create(&self, path: &[u8], body: Body, mode: u32) -> Outcome<()> {
        let is_directory = matches!(body, Body::Directory(_));
        self.at(path, |disk, directory, name, now| {
            disk.live.create(directory, name, body, mode, now)?;
            disk.note(directory, name, Hint::Created, is_directory);
            Ok(())
        })
    }

    fn change(&self, path: &[u8], change: impl FnOnce(&mut super::image::Inode)) -> Outcome<()> {
        self.at(path, |disk, directory, name, now| {
            let ino = disk.live.child(directory, name)?;
            let inode = disk.live.inode_mut(ino)?;
            change(inode);
            inode.ctime = now;
            disk.note(directory, name, Hint::Changed, disk.live.names(ino).is_ok());
            Ok(())
        })
    }

    /// Runs `act` with the directory that holds the last name of `path`, and that name.
    fn at<T>(&self, path: &[u8], act: impl FnOnce(&mut Disk, Ino, &[u8], FileTime) -> Outcome<T>) -> Outcome<T> {
        let mut disk = lock(&self.disk);
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => path.split_at(slash),
            None => (&b""[..], path),
        };
        let name = name.strip_prefix(b"/").unwrap_or(name);
        let directory = resolve(&disk, parent)?;
        let now = disk.tick();
        act(&mut disk, directory, name, now)
    }
}

fn resolve(disk: &Disk, path: &[u8]) -> Outcome<Ino> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
        .try_fold(ROOT, |directory, name| disk.live.child(directory, name))
}

impl FolderUser for SimPerson {
    fn tree(&self) -> Tree {
        Self::tree(self)
    }
    fn read(&self, path: &[u8]) -> Outcome<Vec<u8>> {
        Self::read(self, path)
    }
    fn write(&self, path: &[u8], content: &[u8]) -> Outcome<()> {
        Self::write(self, path, content)
    }
    fn rename(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        Self::rename(self, from, to)
    }
    fn remove(&self, path: &[u8]) -> Outcome<()> {
        Self::remove(self, path)
    }
    fn remove_all(&self, path: &[u8]) -> Outcome<()> {
        Self::remove_all(self, path)
    }
    fn create_directory(&self, path: &[u8]) -> Outcome<()> {
        Self::create_directory(self, path)
    }
    fn link(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        Self::link(self, from, to)
    }
    fn create_symlink(&self, path: &[u8], target: &[u8]) -> Outcome<()> {
        Self::create_symlink(self, path, target)
    }
    fn set_mtime(&self, path: &[u8], mtime: FileTime) -> Outcome<()> {
        Self::set_mtime(self, path, mtime)
    }
    fn set_mode(&self, path: &[u8], mode: u32) -> Outcome<()> {
        Self::set_mode(self, path, mode)
    }
    fn keep_backup(&self) {
        Self::keep_backup(self);
    }
    fn backup(&self) -> Tree {
        Self::backup(self)
    }
}

#[allow(clippy::unwrap_used, reason = "the conformance suite's person does what must succeed")]
impl Person for SimPerson {
    fn write(&self, path: &str, content: &[u8]) {
        self.write(path.as_bytes(), content).unwrap();
    }
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        self.read(path.as_bytes()).ok()
    }
    fn create_directory(&self, path: &str) {
        self.create_directory(path.as_bytes()).unwrap();
    }
    fn create_symlink(&self, path: &str, target: &str) {
        self.create_symlink(path.as_bytes(), target.as_bytes()).unwrap();
    }
    fn create_fifo(&self, path: &str) {
        self.create_fifo(path.as_bytes()).unwrap();
    }
    fn rename(&self, from: &str, to: &str) {
        self.rename(from.as_bytes(), to.as_bytes()).unwrap();
    }
    fn remove(&self, path: &str) {
        self.remove(path.as_bytes()).unwrap();
    }
    fn set_mode(&self, path: &str, mode: u32) {
        self.set_mode(path.as_bytes(), mode).unwrap();
    }
}
