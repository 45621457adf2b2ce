//! A disk on which names fold, as on phones and other systems: what differs in the case of letters alone is one name. It
//! keeps the spelling that it was given, and takes no Unicode form for another.
//!
//! A FUSE file system over a directory, which holds everything: each inode is a handle there, so that a rename moves
//! nothing but names. One thread serves it, so that each call is whole. Mounting it needs no libfuse.

mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, FileAttr, FileHandle, FileType, Generation, INodeNo, MountOption, OpenFlags,
    RenameFlags, TimeOrNow,
};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

/// The kernel asks each time: a name that was one spelling is another after a rename.
const NO_TIME: Duration = Duration::ZERO;
/// Nothing is served twice under one number: an inode that the kernel knows is held, so that its number is not given
/// away.
const GENERATION: Generation = Generation(0);

/// Mounts a disk that folds names at `at`, over the directory `backing`. It is there until what is given is dropped.
pub(super) fn mount(backing: &Path, at: &Path) -> std::io::Result<BackgroundSession> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, backing, flags, Mode::empty())?;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("folding".to_owned()), MountOption::NoDev, MountOption::NoSuid];
    fuser::spawn_mount(Folding { root: Arc::new(root), held: Mutex::default() }, at, &config)
}

/// What two spellings of one name have in common.
fn folded(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_lowercase()
}

struct Folding {
    root: Arc<OwnedFd>,
    /// What the kernel knows. Held for one look or note.
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// By number: a handle for the path alone, and how often the kernel was told of it.
    inodes: BTreeMap<u64, (Arc<OwnedFd>, u64)>,
    files: BTreeMap<u64, Arc<File>>,
    /// What each open directory lists.
    lists: BTreeMap<u64, Vec<(u64, FileType, Vec<u8>)>>,
    next_handle: u64,
}

impl Held {
    fn new_handle(&mut self) -> u64 {
        self.next_handle += 1;
        self.next_handle
    }
}

impl Folding {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inode(&self, number: INodeNo) -> Result<Arc<OwnedFd>, Errno> {
        if number == INodeNo::ROOT {
            return Ok(self.root.clone());
        }
        self.held().inodes.get(&number.0).map(|(handle, _)| handle.clone()).ok_or(Errno::STALE)
    }

    fn file(&self, handle: FileHandle) -> Result<Arc<File>, Errno> {
        self.held().files.get(&handle.0).cloned().ok_or(Errno::BADF)
    }

    /// How a name of a directory is spelled there.
    fn spelling(&self, directory: &OwnedFd, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let name = name.as_bytes();
        if rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Ok(name.to_vec());
        }
        let wanted = folded(name);
        let found = list(directory)?.into_iter().find(|(_, _, there)| folded(there) == wanted);
        found.map(|(_, _, there)| there).ok_or(Errno::NOENT)
    }

    /// A name as it is to be made: free, in whatever case.
    fn free(&self, directory: &OwnedFd, name: &OsStr) -> Result<Vec<u8>, Errno> {
        match self.spelling(directory, name) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => Ok(name.as_bytes().to_vec()),
            Err(errno) => Err(errno),
        }
    }

    /// Tells the kernel of what stands at a name.
    fn tell(&self, directory: &OwnedFd, name: &[u8]) -> Result<FileAttr, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(directory, name, flags, Mode::empty())?;
        let attributes = attributes(&rustix::fs::fstat(&handle)?);
        let mut held = self.held();
        let (_, count) = held.inodes.entry(attributes.ino.0).or_insert_with(|| (Arc::new(handle), 0));
        *count += 1;
        Ok(attributes)
    }

    fn stat(&self, number: INodeNo) -> Result<FileAttr, Errno> {
        let mut attributes = attributes(&rustix::fs::fstat(&*self.inode(number)?)?);
        attributes.ino = number;
        Ok(attributes)
    }

    fn make(
        &self,
        parent: INodeNo,
        name: &OsStr,
        make: impl FnOnce(&OwnedFd, &[u8]) -> Result<(), Errno>,
    ) -> Result<FileAttr, Errno> {
        let directory = self.inode(parent)?;
        let name = self.free(&directory, name)?;
        make(&directory, &name)?;
        self.tell(&directory, &name)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr, flags: AtFlags) -> Result<(), Errno> {
        let directory = self.inode(parent)?;
        let name = self.spelling(&directory, name)?;
        rustix::fs::unlinkat(&*directory, &*name, flags)
    }

    fn open_file(&self, number: INodeNo, flags: OpenFlags) -> Result<FileHandle, Errno> {
        let flags = OFlags::from_bits_retain(flags.0.cast_unsigned()) - OFlags::NOFOLLOW - OFlags::APPEND;
        let file = rustix::fs::open(path_of(&*self.inode(number)?), flags | OFlags::CLOEXEC, Mode::empty())?;
        Ok(self.keep(file.into()))
    }

    fn keep(&self, file: File) -> FileHandle {
        let mut held = self.held();
        let handle = held.new_handle();
        held.files.insert(handle, Arc::new(file));
        FileHandle(handle)
    }

    fn create_file(
        &self,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        flags: i32,
    ) -> Result<(FileAttr, FileHandle), Errno> {
        let directory = self.inode(parent)?;
        let name = self.spelling(&directory, name).unwrap_or_else(|_| name.as_bytes().to_vec());
        let flags = OFlags::from_bits_retain(flags.cast_unsigned()) - OFlags::APPEND;
        let flags = flags | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&*directory, &*name, flags, Mode::from_raw_mode(mode))?;
        Ok((self.tell(&directory, &name)?, self.keep(file.into())))
    }

    /// A thing that goes over another one takes its place and brings its own spelling.
    fn move_name(&self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr), flags: RenameFlags) -> Result<(), Errno> {
        let (source, target) = (self.inode(from.0)?, self.inode(to.0)?);
        let old = self.spelling(&source, from.1)?;
        let there = self.spelling(&target, to.1).ok();
        let new = to.1.as_bytes();
        let moved = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        let at = there.as_deref().unwrap_or(new);
        rustix::fs::renameat_with(&*source, &*old, &*target, at, moved)?;
        if at != new && !flags.contains(RenameFlags::RENAME_EXCHANGE) {
            rustix::fs::renameat(&*target, at, &*target, new)?;
        }
        Ok(())
    }

    fn change(&self, number: INodeNo, change: &Change) -> Result<FileAttr, Errno> {
        let handle = self.inode(number)?;
        let path = path_of(&handle);
        if let Some(mode) = change.mode {
            rustix::fs::chmod(&path, Mode::from_raw_mode(mode))?;
        }
        if let Some(len) = change.len {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::ftruncate(rustix::fs::open(&path, flags, Mode::empty())?, len)?;
        }
        if change.accessed.is_some() || change.modified.is_some() {
            let [last_access, last_modification] = [change.accessed, change.modified].map(time_of);
            let times = Timestamps { last_access, last_modification };
            // A link has no path that leads to itself and not on.
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty())?;
        }
        self.stat(number)
    }
}

/// What is to change about an inode.
struct Change {
    mode: Option<u32>,
    len: Option<u64>,
    accessed: Option<TimeOrNow>,
    modified: Option<TimeOrNow>,
}

/// A path that leads to what a handle stands for.
fn path_of(handle: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

fn list(directory: impl AsFd) -> Result<Vec<(u64, FileType, Vec<u8>)>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entries = Dir::new(rustix::fs::openat(directory, ".", flags, Mode::empty())?)?;
    let mut list = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            list.push((entry.ino(), kind_of(entry.file_type()), name.to_vec()));
        }
    }
    Ok(list)
}

const fn kind_of(file_type: rustix::fs::FileType) -> FileType {
    match file_type {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::NamedPipe,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        rustix::fs::FileType::RegularFile | rustix::fs::FileType::Unknown => FileType::RegularFile,
    }
}

/// A time before 1970 is behind the epoch and has its nanoseconds counted forward.
fn system_time(seconds: i64, nanoseconds: u64) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let second = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
    second + Duration::from_nanos(nanoseconds)
}

fn time_of(time: Option<TimeOrNow>) -> Timespec {
    let since = |time: SystemTime| match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos()),
        Err(_) => (0, 0),
    };
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(TimeOrNow::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(TimeOrNow::SpecificTime(time)) => {
            let (tv_sec, nanoseconds) = since(time);
            Timespec { tv_sec, tv_nsec: nanoseconds.into() }
        }
    }
}

fn attributes(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(stat.st_ino),
        size: stat.st_size.unsigned_abs(),
        blocks: stat.st_blocks.unsigned_abs(),
        atime: system_time(stat.st_atime, stat.st_atime_nsec),
        mtime: system_time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: system_time(stat.st_ctime, stat.st_ctime_nsec),
        crtime: UNIX_EPOCH,
        kind: kind_of(rustix::fs::FileType::from_raw_mode(stat.st_mode)),
        perm: (stat.st_mode & 0o7777) as u16,
        nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
