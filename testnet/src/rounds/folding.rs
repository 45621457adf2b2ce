//! A disk on which names fold, as on phones and other systems: what differs in the case of letters alone is one name. It
//! keeps the spelling that it was given, and takes no Unicode form for another.
//!
//! A FUSE file system over a directory, which holds everything: each inode is a handle there, so that a rename moves
//! nothing but names. One thread serves it, so that each call is whole. Mounting it needs no libfuse.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
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

fn errno(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.raw_os_error())
}

fn errno_of(error: &std::io::Error) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()))
}

fn answer_entry(outcome: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match outcome {
        Ok(attributes) => reply.entry(&NO_TIME, &attributes, GENERATION),
        Err(failure) => reply.error(errno(failure)),
    }
}

fn answer_attributes(outcome: Result<FileAttr, Errno>, reply: ReplyAttr) {
    match outcome {
        Ok(attributes) => reply.attr(&NO_TIME, &attributes),
        Err(failure) => reply.error(errno(failure)),
    }
}

fn answer(outcome: Result<(), Errno>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(failure) => reply.error(errno(failure)),
    }
}

impl Filesystem for Folding {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.inode(parent).and_then(|directory| {
            let name = self.spelling(&directory, name)?;
            self.tell(&directory, &name)
        });
        answer_entry(found, reply);
    }

    fn forget(&self, _: &Request, number: INodeNo, told_count: u64) {
        let mut held = self.held();
        if let Some((_, count)) = held.inodes.get_mut(&number.0) {
            *count = count.saturating_sub(told_count);
            if *count == 0 {
                held.inodes.remove(&number.0);
            }
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer_attributes(self.stat(number), reply);
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        len: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        answer_attributes(self.change(number, &Change { mode, len, accessed, modified }), reply);
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        let target = self.inode(number).and_then(|link| rustix::fs::readlinkat(&*link, "", Vec::new()));
        match target {
            Ok(target) => reply.data(target.as_bytes()),
            Err(failure) => reply.error(errno(failure)),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        let make = |directory: &OwnedFd, name: &[u8]| rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(mode));
        answer_entry(self.make(parent, name, make), reply);
    }

    fn symlink(&self, _: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let make = |directory: &OwnedFd, name: &[u8]| rustix::fs::symlinkat(target, directory, name);
        answer_entry(self.make(parent, name, make), reply);
    }

    fn link(&self, _: &Request, number: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let made = self.inode(number).and_then(|file| {
            let make = |directory: &OwnedFd, name: &[u8]| {
                rustix::fs::linkat(CWD, path_of(&file), directory, name, AtFlags::SYMLINK_FOLLOW)
            };
            self.make(parent, name, make)
        });
        answer_entry(made, reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.remove(parent, name, AtFlags::empty()), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.remove(parent, name, AtFlags::REMOVEDIR), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer(self.move_name((parent, name), (new_parent, new_name), flags), reply);
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, flags: i32, reply: ReplyCreate) {
        match self.create_file(parent, name, mode, flags) {
            Ok((attributes, handle)) => {
                reply.created(&NO_TIME, &attributes, GENERATION, handle, FopenFlags::empty());
            }
            Err(failure) => reply.error(errno(failure)),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(number, flags) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(failure) => reply.error(errno(failure)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut bytes = vec![0; len as usize];
        let read = self.file(handle).map_err(Into::into).and_then(|file| {
            let mut count = 0;
            while let Some(rest) = bytes.get_mut(count..).filter(|rest| !rest.is_empty()) {
                match file.read_at(rest, offset + count as u64)? {
                    0 => break,
                    read => count += read,
                }
            }
            Ok(count)
        });
        match read {
            Ok(count) => reply.data(bytes.get(..count).unwrap_or_default()),
            Err(error) => reply.error(errno_of(&error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.file(handle).map_err(Into::into).and_then(|file| file.write_all_at(data, offset));
        match written {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(errno_of(&error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.held().files.remove(&handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, data_only: bool, reply: ReplyEmpty) {
        let sync = |file: Arc<File>| if data_only { rustix::fs::fdatasync(&*file) } else { rustix::fs::fsync(&*file) };
        answer(self.file(handle).and_then(sync), reply);
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.inode(number).and_then(|directory| list(&*directory)) {
            Ok(list) => {
                let mut held = self.held();
                let handle = held.new_handle();
                held.lists.insert(handle, list);
                reply.opened(FileHandle(handle), FopenFlags::empty());
            }
            Err(failure) => reply.error(errno(failure)),
        }
    }

    fn readdir(&self, _: &Request, number: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        // From its beginning a directory is read as it is then.
        let fresh = if offset == 0 { self.inode(number).and_then(|directory| list(&*directory)).ok() } else { None };
        let mut held = self.held();
        if let Some(fresh) = fresh {
            held.lists.insert(handle.0, fresh);
        }
        let Some(list) = held.lists.get(&handle.0) else { return reply.error(fuser::Errno::EBADF) };
        for (at, (number, kind, name)) in (1..).zip(list).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if reply.add(INodeNo(*number), at, *kind, OsStr::from_bytes(name)) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.held().lists.remove(&handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let sync =
            |directory: Arc<OwnedFd>| rustix::fs::fsync(rustix::fs::openat(&*directory, ".", flags, Mode::empty())?);
        answer(self.inode(number).and_then(sync), reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        match rustix::fs::fstatvfs(&*self.root) {
            Ok(s) => {
                let [block_len, name_len, unit] =
                    [s.f_bsize, s.f_namemax, s.f_frsize].map(|n| u32::try_from(n).unwrap_or(4096));
                reply.statfs(s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree, block_len, name_len, unit);
            }
            Err(failure) => reply.error(errno(failure)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_are_one_name_and_the_first_one_stays() {
        if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
            eprintln!("NOT RUN: a disk that folds names; it needs root and /dev/fuse");
            return;
        }
        let (backing, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let session = mount(backing.path(), at.path()).unwrap();
        let path = |name: &str| at.path().join(name);
        let names = || {
            let names = std::fs::read_dir(at.path()).unwrap();
            let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        std::fs::write(path("Letter"), "1").unwrap();
        assert_eq!(std::fs::read(path("lETTER")).unwrap(), b"1");
        std::fs::write(path("letter"), "second").unwrap();
        assert_eq!(names(), ["Letter"]);
        let taken = File::create_new(path("LETTER")).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::AlreadyExists);
        let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path(name)).unwrap());
        assert_eq!(inode("Letter"), inode("letter"));

        // What goes over another brings its spelling; the accent makes another name.
        std::fs::write(path("other"), "third").unwrap();
        std::fs::rename(path("other"), path("LETTER")).unwrap();
        std::fs::write(path("caf\u{e9}"), "4").unwrap();
        std::fs::write(path("cafe\u{301}"), "5").unwrap();
        assert_eq!(names(), ["LETTER", "cafe\u{301}", "caf\u{e9}"]);
        assert_eq!(std::fs::read(path("Letter")).unwrap(), b"third");

        std::fs::create_dir(path("Desk")).unwrap();
        let time = UNIX_EPOCH + Duration::new(1_000, 123_456_789);
        std::fs::write(path("desk/page"), "6").unwrap();
        File::options().write(true).open(path("DESK/Page")).unwrap().set_modified(time).unwrap();
        assert_eq!(std::fs::metadata(path("Desk/page")).unwrap().modified().unwrap(), time);
        std::fs::remove_file(path("Desk/PAGE")).unwrap();
        std::fs::remove_dir(path("desk")).unwrap();
        assert_eq!(names(), ["LETTER", "cafe\u{301}", "caf\u{e9}"]);
        session.umount_and_join().unwrap();
    }
}
