//! An open regular file on Linux: one that is read, or a temporary one that is written.

use std::any::Any;
use std::io::IoSliceMut;
use std::num::NonZero;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Advice, Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Mount, as_any, failure, retry, stat_of};
use crate::volume::{FileTime, Permissions, Stat, VolumeError, VolumeErrorKind, VolumeFile, VolumeWriter};

/// An open regular file.
#[derive(Debug)]
pub(super) struct LinuxFile {
    fd: OwnedFd,
    mount: Arc<Mount>,
}

impl LinuxFile {
    pub(super) const fn new(fd: OwnedFd, mount: Arc<Mount>) -> Self {
        Self { fd, mount }
    }
}

impl VolumeFile for LinuxFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, VolumeError> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let read = retry(|| rustix::io::pread(&self.fd, &mut *rest, offset.saturating_add(done as u64)));
            match read.map_err(failure("read", b""))? {
                0 => break,
                len => done += len,
            }
        }
        Ok(done)
    }

    fn stat(&self) -> Result<Stat, VolumeError> {
        stat_of(self.fd.as_fd()).map_err(failure("look at the open file", b""))
    }

    fn set_mtime(&self, mtime: FileTime) -> Result<(), VolumeError> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.min(999_999_999).into() },
        };
        retry(|| rustix::fs::futimens(&self.fd, &times)).map_err(failure("set the time", b""))
    }

    fn set_executable(&self, executable: bool) -> Result<(), VolumeError> {
        let mode = self.stat()?.mode;
        let wanted = Permissions::Like { mode, executable }.mode(self.mount.umask);
        if wanted == mode {
            return Ok(());
        }
        let wanted = Mode::from_raw_mode(wanted);
        retry(|| rustix::fs::fchmod(&self.fd, wanted)).map_err(failure("set the executable bit", b""))
    }

    fn is_in_memory(&self, offset: u64) -> bool {
        let mut byte = [0];
        let mut buffers = [IoSliceMut::new(&mut byte)];
        rustix::io::preadv2(&self.fd, &mut buffers, offset, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN)
    }

    fn let_go(&self, offset: u64, len: u64) {
        // Begins to write what is dirty, and forgets what is not.
        if let Some(len) = NonZero::new(len) {
            let _ = rustix::fs::fadvise(&self.fd, offset, Some(len), Advice::DontNeed);
        }
    }

    fn sync(&self) -> Result<(), VolumeError> {
        retry(|| rustix::fs::fsync(&self.fd)).map_err(failure("sync the open file", b""))
    }

    fn as_any(&self) -> &dyn Any {
        as_any(self)
    }
}

impl VolumeWriter for LinuxFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), VolumeError> {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let written = retry(|| rustix::io::pwrite(&self.fd, rest, at)).map_err(failure("write", b""))?;
            if written == 0 {
                return Err(VolumeError::new(VolumeErrorKind::Io, "write", b""));
            }
            rest = rest.get(written..).unwrap_or_default();
            at = at.saturating_add(written as u64);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), VolumeError> {
        retry(|| rustix::fs::ftruncate(&self.fd, len)).map_err(|errno| match errno {
            Errno::INVAL => VolumeError::new(VolumeErrorKind::TooLarge, "set the length", b""),
            errno => failure("set the length", b"")(errno),
        })
    }

    fn share(&self, source: &dyn VolumeFile) -> Result<bool, VolumeError> {
        let source = source
            .as_any()
            .downcast_ref::<Self>()
            .filter(|source| Arc::ptr_eq(&source.mount, &self.mount))
            .ok_or_else(|| VolumeError::new(VolumeErrorKind::CrossDevice, "share blocks", b""))?;
        match retry(|| rustix::fs::ioctl_ficlone(&self.fd, &source.fd)) {
            Ok(()) => Ok(true),
            // A file system that can't, or can't with these two (one is not checksummed, say).
            Err(
                Errno::OPNOTSUPP
                | Errno::NOTTY
                | Errno::NOSYS
                | Errno::INVAL
                | Errno::XDEV
                | Errno::PERM
                | Errno::TXTBSY,
            ) => Ok(false),
            Err(errno) => Err(failure("share blocks", b"")(errno)),
        }
    }

    fn set_permissions(&self, permissions: Permissions) -> Result<(), VolumeError> {
        let mode = Mode::from_raw_mode(permissions.mode(self.mount.umask));
        retry(|| rustix::fs::fchmod(&self.fd, mode)).map_err(failure("set the mode", b""))
    }
}
