//! The kernel's questions, and how they are answered.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    FileAttr, FileHandle, Filesystem, FopenFlags, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{Change, Folding, GENERATION, NO_TIME, list, path_of};

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
