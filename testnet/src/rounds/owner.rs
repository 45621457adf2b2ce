//! The owner of a real folder, who acts on it beside the node.
//!
//! Each act notes what it made of which paths, as bytes that it read and wrote by one handle: a node that replaces a file
//! at the same moment leaves the handle's bytes alone, so that what the user took away is known to the byte. No link is
//! followed.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use zerocloud::volume::{FileTime, VolumeErrorKind};
use zerocloud_crdt::name::CONTROL;

use crate::sim::oracle::Acted;
use crate::sim::user::{FolderUser, Outcome};
use crate::sim::volume::{Tree, TreeEntry};

/// How often a call that the kernel asks to repeat is repeated: `openat2` says so while somebody renames.
const TRY_COUNT_MAX: usize = 64;

/// See the module.
pub(super) struct FolderOwner {
    root: PathBuf,
    /// What was put away elsewhere.
    backup: RefCell<Tree>,
    /// What acts found at the paths that they changed, and left there, since [`Self::take_acted`].
    acted: RefCell<Vec<(Tree, Tree)>>,
    /// Whether an act may have taken away what it had not read: something came to its path in between.
    is_unsure: Cell<bool>,
}

impl FolderOwner {
    pub(super) fn new(root: &Path) -> Self {
        let root = root.to_path_buf();
        Self { root, backup: RefCell::default(), acted: RefCell::default(), is_unsure: Cell::new(false) }
    }

    /// What was done since the last call, told as `line`; whether it may have taken away more is said beside it.
    pub(super) fn take_acted(&self, line: &str) -> (Vec<Acted>, bool) {
        let acted = self.acted.take().into_iter();
        let acted = acted.map(|(before, after)| Acted { before, after, disk: None, line: line.to_owned() }).collect();
        (acted, self.is_unsure.take())
    }

    /// All that there is, our own directory too.
    pub(super) fn whole_tree(&self) -> Tree {
        let mut tree = Tree::new();
        if let Ok(root) = rustix::fs::openat(CWD, &self.root, DIRECTORY, Mode::empty()) {
            read_below(&root, b"", &mut tree);
        }
        tree
    }

    fn note(&self, before: Tree, after: Tree) {
        self.acted.borrow_mut().push((before, after));
    }

    /// The directory that holds the last name of `path`, and that name.
    fn parent<'p>(&self, path: &'p [u8]) -> Outcome<(OwnedFd, &'p [u8])> {
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
            None => (&b"."[..], path),
        };
        let root = rustix::fs::openat(CWD, &self.root, DIRECTORY, Mode::empty()).map_err(kind_of)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let open = || rustix::fs::openat2(&root, parent, DIRECTORY, Mode::empty(), resolve);
        let mut opened = open();
        for _ in 0..TRY_COUNT_MAX {
            if opened.as_ref().err() != Some(&Errno::AGAIN) {
                break;
            }
            opened = open();
        }
        Ok((opened.map_err(kind_of)?, name))
    }

    /// All names of a file in the folder, of which `path` is one.
    fn all_names_of(&self, file: &File, path: &[u8]) -> Outcome<Vec<Box<[u8]>>> {
        let metadata = file.metadata().map_err(|error| kind_of_io(&error))?;
        if metadata.nlink() < 2 {
            return Ok(vec![path.into()]);
        }
        let is_it = |path: &[u8]| {
            let there = self.parent(path).ok().and_then(|(directory, name)| Standing::at(&directory, name));
            there.is_some_and(|there| there.inode == metadata.ino())
        };
        let others = self.tree().into_keys().filter(|name| **name != *path && is_it(name));
        Ok(others.chain([path.into()]).collect())
    }

    /// What stands at `path`, with all below it.
    fn read_at(&self, directory: impl AsFd, name: &[u8], path: &[u8]) -> Tree {
        let mut tree = Tree::new();
        read_entry(directory, name, path, &mut tree);
        tree
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl FolderUser for FolderOwner {
    fn tree(&self) -> Tree {
        let mut tree = self.whole_tree();
        let control = CONTROL.as_bytes();
        tree.retain(|path, _| {
            path.strip_prefix(control).is_none_or(|rest| !rest.is_empty() && !rest.starts_with(b"/"))
        });
        tree
    }

    fn read(&self, path: &[u8]) -> Outcome<Vec<u8>> {
        let (directory, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(rustix::fs::openat(&directory, name, flags, Mode::empty()).map_err(kind_of)?);
        content_of(&file)
    }

    fn write(&self, path: &[u8], content: &[u8]) -> Outcome<()> {
        let (directory, name) = self.parent(path)?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fresh = flags | OFlags::CREATE | OFlags::EXCL;
        let (mut file, is_new) = match rustix::fs::openat(&directory, name, fresh, Mode::from_raw_mode(0o644)) {
            Ok(file) => (File::from(file), true),
            Err(Errno::EXIST) => {
                (File::from(rustix::fs::openat(&directory, name, flags, Mode::empty()).map_err(kind_of)?), false)
            }
            Err(errno) => return Err(kind_of(errno)),
        };
        let names = if is_new { vec![path.into()] } else { self.all_names_of(&file, path)? };
        let at_all = |entry: TreeEntry| names.iter().map(|name| (name.clone(), entry.clone())).collect::<Tree>();
        let before = if is_new { Tree::new() } else { at_all(entry_of(&file)?) };
        let outcome = file.set_len(0).and_then(|()| file.write_all(content));
        // A full disk takes a part of it.
        self.note(before, at_all(entry_of(&file)?));
        outcome.map_err(|error| kind_of_io(&error))
    }

    fn rename(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        let ((source, old), (target, new)) = (self.parent(from)?, self.parent(to)?);
        let replaced = Standing::at(&target, new);
        let mut before = self.read_at(&source, old, from);
        let moved = before.clone();
        before.append(&mut self.read_at(&target, new, to));
        rustix::fs::renameat(&source, old, &target, new).map_err(kind_of)?;
        let moved = moved
            .into_iter()
            .map(|(path, entry)| ([to, path.get(from.len()..).unwrap_or_default()].concat().into_boxed_slice(), entry));
        let after: Tree = moved.collect();
        // Two spellings or two names of one file stay as they were, or one of them.
        let is_same =
            replaced.as_ref().is_some_and(|standing| standing.is_at(&source, old) || standing.is_at(&target, new));
        if !is_same {
            self.is_unsure.set(self.is_unsure.get() || replaced.is_some_and(|standing| standing.has_name()));
            self.note(before, after);
        }
        Ok(())
    }

    fn remove(&self, path: &[u8]) -> Outcome<()> {
        let (directory, name) = self.parent(path)?;
        let standing = Standing::at(&directory, name).ok_or(VolumeErrorKind::NotFound)?;
        let before = self.read_at(&directory, name, path);
        let flags = if standing.is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&directory, name, flags).map_err(kind_of)?;
        self.is_unsure.set(self.is_unsure.get() || standing.has_name());
        self.note(before, Tree::new());
        Ok(())
    }

    fn remove_all(&self, path: &[u8]) -> Outcome<()> {
        let (directory, name) = self.parent(path)?;
        let is_directory = Standing::at(&directory, name).ok_or(VolumeErrorKind::NotFound)?.is_directory;
        if is_directory {
            for name in names_of(&directory, name) {
                match self.remove_all(&[path, b"/", &name].concat()) {
                    Ok(()) | Err(VolumeErrorKind::NotFound) => {}
                    Err(kind) => return Err(kind),
                }
            }
        }
        self.remove(path)
    }

    fn create_directory(&self, path: &[u8]) -> Outcome<()> {
        let (directory, name) = self.parent(path)?;
        rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)).map_err(kind_of)
    }

    fn link(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        let ((source, old), (target, new)) = (self.parent(from)?, self.parent(to)?);
        rustix::fs::linkat(&source, old, &target, new, AtFlags::empty()).map_err(kind_of)?;
        self.note(Tree::new(), self.read_at(&target, new, to));
        Ok(())
    }

    fn create_symlink(&self, path: &[u8], target: &[u8]) -> Outcome<()> {
        let (directory, name) = self.parent(path)?;
        rustix::fs::symlinkat(target, &directory, name).map_err(kind_of)
    }

    fn set_mtime(&self, path: &[u8], mtime: FileTime) -> Outcome<()> {
        let (directory, name) = self.parent(path)?;
        let last_modification = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
        let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access, last_modification };
        rustix::fs::utimensat(&directory, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(kind_of)
    }

    fn set_mode(&self, path: &[u8], mode: u32) -> Outcome<()> {
        let (directory, name) = self.parent(path)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&directory, name, flags, Mode::empty()).map_err(kind_of)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(kind_of)
    }

    fn keep_backup(&self) {
        self.backup.replace(self.tree());
    }

    fn backup(&self) -> Tree {
        self.backup.borrow().clone()
    }
}

/// What stood at a path when it was looked at, by a handle.
struct Standing {
    handle: OwnedFd,
    inode: u64,
    is_directory: bool,
}

impl Standing {
    fn at(directory: impl AsFd, name: &[u8]) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(directory, name, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&handle).ok()?;
        let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
        Some(Self { handle, inode: stat.st_ino, is_directory })
    }

    /// Whether a file still has a name: the act took another one away.
    fn has_name(&self) -> bool {
        !self.is_directory && rustix::fs::fstat(&self.handle).is_ok_and(|stat| stat.st_nlink > 0)
    }

    fn is_at(&self, directory: impl AsFd, name: &[u8]) -> bool {
        Self::at(directory, name).is_some_and(|there| there.inode == self.inode)
    }
}

fn content_of(mut file: &File) -> Outcome<Vec<u8>> {
    let metadata = file.metadata().map_err(|error| kind_of_io(&error))?;
    if !metadata.is_file() {
        return Err(VolumeErrorKind::WrongKind);
    }
    let mut content = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut content)).map_err(|error| kind_of_io(&error))?;
    Ok(content)
}

fn entry_of(file: &File) -> Outcome<TreeEntry> {
    let content = content_of(file)?;
    let mode = file.metadata().map_err(|error| kind_of_io(&error))?.mode();
    file.try_clone().and_then(|mut file| file.rewind()).map_err(|error| kind_of_io(&error))?;
    Ok(TreeEntry::File { content, executable: mode & 0o100 != 0 })
}

fn names_of(directory: impl AsFd, name: &[u8]) -> Vec<Vec<u8>> {
    let opened = rustix::fs::openat(directory, name, DIRECTORY, Mode::empty());
    let Some(entries) = opened.ok().and_then(|opened| rustix::fs::Dir::new(opened).ok()) else { return Vec::new() };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_bytes().to_vec()));
    names.filter(|name| !matches!(&**name, b"." | b"..")).collect()
}

/// Puts what stands at a name into `tree` under `path`, with all below it. What goes away meanwhile is not in it.
fn read_entry(directory: impl AsFd, name: &[u8], path: &[u8], tree: &mut Tree) {
    let Ok(stat) = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
    let entry = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Some(TreeEntry::Directory),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&directory, name, Vec::new()).ok();
            target.map(|target| TreeEntry::Symlink(target.into_bytes()))
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = rustix::fs::openat(&directory, name, flags, Mode::empty());
            file.ok().and_then(|file| entry_of(&File::from(file)).ok())
        }
        _ => Some(TreeEntry::Other),
    };
    let Some(entry) = entry else { return };
    let is_directory = entry == TreeEntry::Directory;
    tree.insert(path.into(), entry);
    if is_directory && let Ok(directory) = rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty()) {
        read_below(&directory, path, tree);
    }
}

fn read_below(directory: &OwnedFd, path: &[u8], tree: &mut Tree) {
    for name in names_of(directory, b".") {
        let below = if path.is_empty() { name.clone() } else { [path, b"/", &name].concat() };
        read_entry(directory, &name, &below, tree);
    }
}

fn kind_of(errno: Errno) -> VolumeErrorKind {
    kind_of_io(&errno.into())
}

fn kind_of_io(error: &std::io::Error) -> VolumeErrorKind {
    match error.kind() {
        std::io::ErrorKind::NotFound => VolumeErrorKind::NotFound,
        std::io::ErrorKind::AlreadyExists => VolumeErrorKind::Exists,
        std::io::ErrorKind::DirectoryNotEmpty => VolumeErrorKind::NotEmpty,
        std::io::ErrorKind::NotADirectory => VolumeErrorKind::NotADirectory,
        std::io::ErrorKind::IsADirectory => VolumeErrorKind::WrongKind,
        std::io::ErrorKind::InvalidInput => VolumeErrorKind::IntoItself,
        std::io::ErrorKind::StorageFull => VolumeErrorKind::NoSpace,
        std::io::ErrorKind::PermissionDenied => VolumeErrorKind::PermissionDenied,
        _ => VolumeErrorKind::Io,
    }
}
