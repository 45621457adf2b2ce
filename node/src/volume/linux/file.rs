//! An open regular file on Linux: one that is read, or a temporary one that is written.

use std::any::Any;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, SeekFrom, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;

use super::{Mount, as_any, failure, retry, stat_of};
use crate::volume::{FileTime, Permissions, Stat, VolumeError, VolumeErrorKind, VolumeFile, VolumeWriter};

/// What is copied through this process at a time where the kernel can't copy.
const COPY_BUFFER_LEN: usize = 256 << 10;
/// What the kernel copies in one call, so that a signal does not wait for a whole disk.
const COPY_CALL_LEN: u64 = 256 << 20;

/// An open regular file.
#[derive(Debug)]
pub(super) struct LinuxFile {
    fd: OwnedFd,
    mount: Arc<Mount>,
    /// Nothing was written through this handle at or behind this offset: there, a hole need not be made. Relaxed,
    /// because whoever writes to one file from two threads at once must keep to ranges of its own.
    written_end: AtomicU64,
}

/// A part of a file as the file system keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Data { len: u64 },
    Hole { len: u64 },
    End,
}

impl LinuxFile {
    pub(super) const fn new(fd: OwnedFd, mount: Arc<Mount>) -> Self {
        Self { fd, mount, written_end: AtomicU64::new(0) }
    }

    /// What begins at `offset`, at most `len` long. A file system that knows no holes has only data.
    fn extent(&self, offset: u64, len: u64) -> Result<Extent, Errno> {
        let size = stat_of(self.fd.as_fd())?.size;
        let rest = size.saturating_sub(offset).min(len);
        if rest == 0 {
            return Ok(Extent::End);
        }
        match retry(|| rustix::fs::seek(&self.fd, SeekFrom::Data(offset))) {
            Ok(data) if data > offset => Ok(Extent::Hole { len: rest.min(data - offset) }),
            // No data up to the end.
            Err(Errno::NXIO) => Ok(Extent::Hole { len: rest }),
            Ok(_) => match retry(|| rustix::fs::seek(&self.fd, SeekFrom::Hole(offset))) {
                Ok(hole) if hole > offset => Ok(Extent::Data { len: rest.min(hole - offset) }),
                _ => Ok(Extent::Data { len: rest }),
            },
            Err(_) => Ok(Extent::Data { len: rest }),
        }
    }

    fn note_written(&self, end: u64) {
        self.written_end.fetch_max(end, Ordering::Relaxed);
    }

    /// Copies data, in the kernel if it can. Returns less than `len` only where `source` ends.
    fn copy_data(&self, source: &Self, source_offset: u64, offset: u64, len: u64) -> Result<u64, VolumeError> {
        let mut done = 0;
        while done < len {
            let (mut from, mut to) = (source_offset.saturating_add(done), offset.saturating_add(done));
            let step = usize::try_from((len - done).min(COPY_CALL_LEN)).unwrap_or(COPY_BUFFER_LEN);
            match rustix::fs::copy_file_range(&source.fd, Some(&mut from), &self.fd, Some(&mut to), step) {
                Ok(0) => break,
                Ok(copied) => done += copied as u64,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::BADF) => {
                    return Ok(done + self.copy_through(source, from, to, len - done)?);
                }
                Err(errno) => return Err(failure("copy", b"")(errno)),
            }
            self.note_written(to);
        }
        Ok(done)
    }

    /// Copies data through a buffer of this process.
    fn copy_through(&self, source: &Self, source_offset: u64, offset: u64, len: u64) -> Result<u64, VolumeError> {
        let mut buffer = vec![0; COPY_BUFFER_LEN];
        let mut done = 0;
        while done < len {
            let step = usize::try_from(len - done).unwrap_or(COPY_BUFFER_LEN).min(COPY_BUFFER_LEN);
            let Some(part) = buffer.get_mut(..step) else { break };
            let read = source.read_at(part, source_offset.saturating_add(done))?;
            let Some(part) = part.get(..read).filter(|part| !part.is_empty()) else { break };
            self.write_at(part, offset.saturating_add(done))?;
            done += read as u64;
        }
        Ok(done)
    }

    /// Makes `len` bytes at `offset` read as zeros.
    fn copy_hole(&self, offset: u64, len: u64) -> Result<(), VolumeError> {
        let end = offset.saturating_add(len);
        let mut at = offset;
        let written_end = self.written_end.load(Ordering::Relaxed).min(end);
        let zeros = vec![0; COPY_BUFFER_LEN.min(usize::try_from(written_end.saturating_sub(at)).unwrap_or(0))];
        while at < written_end {
            let step = usize::try_from(written_end - at).unwrap_or(zeros.len()).min(zeros.len());
            self.write_at(zeros.get(..step).unwrap_or_default(), at)?;
            at += step as u64;
        }
        if self.stat()?.size < end { self.set_len(end) } else { Ok(()) }
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
            self.note_written(at);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), VolumeError> {
        retry(|| rustix::fs::ftruncate(&self.fd, len)).map_err(|errno| match errno {
            Errno::INVAL => VolumeError::new(VolumeErrorKind::TooLarge, "set the length", b""),
            errno => failure("set the length", b"")(errno),
        })
    }

    fn copy_from(
        &self,
        source: &dyn VolumeFile,
        source_offset: u64,
        offset: u64,
        len: u64,
    ) -> Result<u64, VolumeError> {
        let source = source
            .as_any()
            .downcast_ref::<Self>()
            .filter(|source| Arc::ptr_eq(&source.mount, &self.mount))
            .ok_or_else(|| VolumeError::new(VolumeErrorKind::CrossDevice, "copy", b""))?;
        let mut done = 0;
        while done < len {
            let (from, to) = (source_offset.saturating_add(done), offset.saturating_add(done));
            match source.extent(from, len - done).map_err(failure("copy", b""))? {
                Extent::End => break,
                Extent::Hole { len } => {
                    self.copy_hole(to, len)?;
                    done += len;
                }
                Extent::Data { len } => match self.copy_data(source, from, to, len)? {
                    0 => break,
                    copied => done += copied,
                },
            }
        }
        Ok(done)
    }

    fn set_permissions(&self, permissions: Permissions) -> Result<(), VolumeError> {
        let mode = Mode::from_raw_mode(permissions.mode(self.mount.umask));
        retry(|| rustix::fs::fchmod(&self.fd, mode)).map_err(failure("set the mode", b""))
    }
}
