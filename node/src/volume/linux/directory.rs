//! An open directory on Linux.

use std::any::Any;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;
use zerocloud_crdt::limits::LINK_TARGET_LEN_MAX;

use super::file::LinuxFile;
use super::{Mount, Place, as_any, failure, kind_of, open_at, retry, stat_of, statx};
use crate::volume::{
    DirectoryEntry, Kind, Stat, VolumeDirectory, VolumeError, VolumeErrorKind, VolumeFile, VolumeWriter, check_name,
};

/// What is read from a directory at a time: some 1,500 names.
const LIST_BUFFER_LEN: usize = 64 << 10;

/// An open directory.
#[derive(Debug)]
pub(super) struct LinuxDirectory {
    fd: OwnedFd,
    mount: Arc<Mount>,
    place: Place,
    /// Held while names are read: the position in a directory belongs to its descriptor.
    listing: Mutex<()>,
}

impl LinuxDirectory {
    pub(super) const fn new(fd: OwnedFd, mount: Arc<Mount>, place: Place) -> Self {
        Self { fd, mount, place, listing: Mutex::new(()) }
    }

    pub(super) const fn mount(&self) -> &Arc<Mount> {
        &self.mount
    }

    /// Opens one of our own directories in this one, after making it if it is missing.
    pub(super) fn make_control(&self, name: &[u8]) -> Result<Arc<Self>, VolumeError> {
        match retry(|| rustix::fs::mkdirat(&self.fd, name, Mode::RWXU)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failure("make", name)(errno)),
        }
        let directory = self.open_child(name, Place::Control)?;
        if directory.stat_self()?.mode & 0o7777 != 0o700 {
            retry(|| rustix::fs::fchmod(&directory.fd, Mode::RWXU)).map_err(failure("protect", name))?;
        }
        Ok(Arc::new(directory))
    }

    fn open_child(&self, name: &[u8], place: Place) -> Result<Self, VolumeError> {
        let verb = "open";
        check_name(verb, name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
        let fd = match open_at(self.fd.as_fd(), name, flags, Mode::empty(), &self.mount) {
            Ok(fd) => fd,
            // Kernels differ in which of the two a link gives.
            Err(errno @ (Errno::NOTDIR | Errno::LOOP)) => {
                let is_link = self.stat(name).is_ok_and(|stat| stat.kind == Kind::Symlink);
                let kind = if is_link { VolumeErrorKind::IsALink } else { VolumeErrorKind::NotADirectory };
                return Err(VolumeError::new(kind, verb, name).with_source(errno.into()));
            }
            Err(errno) => return Err(failure(verb, name)(errno)),
        };
        // A subvolume has no mount of its own, and a kernel without openat2 does not look for one.
        if stat_of(fd.as_fd()).map_err(failure(verb, name))?.dev != self.mount.dev {
            return Err(VolumeError::new(VolumeErrorKind::CrossDevice, verb, name));
        }
        Ok(Self::new(fd, self.mount.clone(), place))
    }

    fn check_in_control(&self, verb: &'static str, name: &[u8]) -> Result<(), VolumeError> {
        check_name(verb, name)?;
        if self.is_in_control() { Ok(()) } else { Err(VolumeError::new(VolumeErrorKind::NotInControl, verb, name)) }
    }
}

impl AsFd for LinuxDirectory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl VolumeDirectory for LinuxDirectory {
    fn open_directory(&self, name: &[u8]) -> Result<Arc<dyn VolumeDirectory>, VolumeError> {
        Ok(Arc::new(self.open_child(name, self.place)?))
    }

    fn list(&self) -> Result<Vec<DirectoryEntry>, VolumeError> {
        let verb = "list the directory";
        let _listing = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        retry(|| rustix::fs::seek(&self.fd, SeekFrom::Start(0))).map_err(failure(verb, b""))?;
        let mut buffer = Vec::with_capacity(LIST_BUFFER_LEN);
        let mut names = RawDir::new(&self.fd, buffer.spare_capacity_mut());
        let mut entries = Vec::new();
        while let Some(entry) = names.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failure(verb, b"")(errno)),
            };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                rustix::fs::FileType::Unknown => None,
                file_type => Some(kind_of(file_type)),
            };
            entries.push(DirectoryEntry { name: name.into(), kind, ino: entry.ino() });
        }
        Ok(entries)
    }

    fn stat(&self, name: &[u8]) -> Result<Stat, VolumeError> {
        check_name("look at", name)?;
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        statx(&self.fd, name, flags).map_err(failure("look at", name))
    }

    fn stat_self(&self) -> Result<Stat, VolumeError> {
        stat_of(self.fd.as_fd()).map_err(failure("look at the directory", b""))
    }

    fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, VolumeError> {
        check_name("read", name)?;
        let target = retry(|| rustix::fs::readlinkat(&self.fd, name, Vec::new())).map_err(|errno| match errno {
            Errno::INVAL => VolumeError::new(VolumeErrorKind::WrongKind, "read", name),
            errno => failure("read", name)(errno),
        })?;
        Ok(target.into_bytes())
    }

    fn open_file(&self, name: &[u8]) -> Result<Arc<dyn VolumeFile>, VolumeError> {
        let verb = "open";
        // Looked at before it is opened: already opening a FIFO wakes its writer, and some devices act on it.
        check_regular(self.stat(name)?.kind, name)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = open_at(self.fd.as_fd(), name, flags, Mode::empty(), &self.mount).map_err(failure(verb, name))?;
        check_regular(stat_of(fd.as_fd()).map_err(failure(verb, name))?.kind, name)?;
        Ok(Arc::new(LinuxFile::new(fd, self.mount.clone())))
    }

    fn create_file(&self, name: &[u8]) -> Result<Arc<dyn VolumeWriter>, VolumeError> {
        self.check_in_control("make", name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = open_at(self.fd.as_fd(), name, flags, mode, &self.mount).map_err(failure("make", name))?;
        Ok(Arc::new(LinuxFile::new(fd, self.mount.clone())))
    }

    fn create_symlink(&self, name: &[u8], target: &[u8]) -> Result<(), VolumeError> {
        self.check_in_control("make", name)?;
        if target.is_empty() || target.contains(&0) {
            return Err(VolumeError::new(VolumeErrorKind::InvalidName, "make a link to", target));
        }
        if target.len() >= LINK_TARGET_LEN_MAX {
            return Err(VolumeError::new(VolumeErrorKind::NameTooLong, "make a link to", target));
        }
        retry(|| rustix::fs::symlinkat(target, &self.fd, name)).map_err(|errno| match errno {
            // Linux' answer of a file system without links.
            Errno::PERM => VolumeError::new(VolumeErrorKind::Unsupported, "make", name).with_source(errno.into()),
            errno => failure("make", name)(errno),
        })
    }

    fn create_directory(&self, name: &[u8]) -> Result<(), VolumeError> {
        check_name("make", name)?;
        let mode = match self.place {
            Place::Space => Mode::RWXU | Mode::RWXG | Mode::RWXO,
            Place::Control => Mode::RWXU,
        };
        retry(|| rustix::fs::mkdirat(&self.fd, name, mode)).map_err(failure("make", name))
    }

    fn remove_directory(&self, name: &[u8]) -> Result<(), VolumeError> {
        check_name("remove", name)?;
        retry(|| rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)).map_err(|errno| match errno {
            // POSIX lets a file system say either.
            Errno::EXIST => failure("remove", name)(Errno::NOTEMPTY),
            errno => failure("remove", name)(errno),
        })
    }

    fn remove_file(&self, name: &[u8]) -> Result<(), VolumeError> {
        self.check_in_control("remove", name)?;
        retry(|| rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())).map_err(failure("remove", name))
    }

    fn sync(&self) -> Result<(), VolumeError> {
        retry(|| rustix::fs::fsync(&self.fd)).map_err(failure("sync the directory", b""))
    }

    fn is_in_control(&self) -> bool {
        self.place == Place::Control
    }

    fn as_any(&self) -> &dyn Any {
        as_any(self)
    }
}

fn check_regular(kind: Kind, name: &[u8]) -> Result<(), VolumeError> {
    match kind {
        Kind::File => Ok(()),
        Kind::Symlink => Err(VolumeError::new(VolumeErrorKind::IsALink, "open", name)),
        Kind::Directory | Kind::Other => Err(VolumeError::new(VolumeErrorKind::WrongKind, "open", name)),
    }
}
