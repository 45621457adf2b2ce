//! Handles of a simulated disk: directories and files, as the node holds them.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use zerocloud::volume::{
    DirectoryEntry, FileTime, Kind, Permissions, Stat, VolumeDirectory, VolumeError, VolumeErrorKind, VolumeFile,
    VolumeWriter, check_name,
};
use zerocloud::watch::Hint;
use zerocloud_crdt::limits::{FILE_LEN_MAX, LINK_TARGET_LEN_MAX};

use super::image::{Body, Ino};
use super::{Disk, Session, UMASK, call, lock};

/// A handle: one inode of one disk, for one process and one mounting.
#[derive(Clone)]
struct Handle {
    disk: Arc<Mutex<Disk>>,
    session: Session,
    ino: Ino,
}

impl Handle {
    fn call<T>(
        &self,
        verb: &'static str,
        name: &[u8],
        act: impl FnOnce(&mut Disk) -> Result<T, VolumeErrorKind>,
    ) -> Result<T, VolumeError> {
        call(&self.disk, self.session, verb, name, act)
    }

    fn with_ino(&self, ino: Ino) -> Self {
        Self { ino, ..self.clone() }
    }
}

/// An open directory.
pub(super) struct SimDirectory {
    handle: Handle,
    is_in_control: bool,
}

impl SimDirectory {
    pub(super) const fn new(disk: Arc<Mutex<Disk>>, session: Session, ino: Ino, is_in_control: bool) -> Self {
        Self { handle: Handle { disk, session, ino }, is_in_control }
    }

    pub(super) const fn ino(&self) -> Ino {
        self.handle.ino
    }

    pub(super) fn is_of(&self, disk: &Arc<Mutex<Disk>>) -> bool {
        Arc::ptr_eq(&self.handle.disk, disk)
    }

    pub(super) fn check_same_session(&self, other: &Self, verb: &'static str, name: &[u8]) -> Result<(), VolumeError> {
        let (own, others) = (self.handle.session, other.handle.session);
        if own == others {
            return Ok(());
        }
        let kind = if own.process == others.process { VolumeErrorKind::Gone } else { VolumeErrorKind::Crashed };
        Err(VolumeError::new(kind, verb, name))
    }

    pub(super) fn call<T>(
        &self,
        verb: &'static str,
        name: &[u8],
        act: impl FnOnce(&mut Disk) -> Result<T, VolumeErrorKind>,
    ) -> Result<T, VolumeError> {
        self.handle.call(verb, name, act)
    }

    /// Opens one of our own directories, after making it if it is missing.
    pub(super) fn make_control(&self, name: &[u8]) -> Result<Self, VolumeError> {
        self.call("make", name, |disk| {
            let now = disk.tick();
            match disk.live.create(self.ino(), name, Body::Directory(BTreeMap::new()), 0o700, now) {
                Ok(_) | Err(VolumeErrorKind::Exists) => Ok(()),
                Err(kind) => Err(kind),
            }
        })?;
        self.open_child(name, true)
    }

    fn open_child(&self, name: &[u8], is_in_control: bool) -> Result<Self, VolumeError> {
        check_name("open", name)?;
        let ino = self.call("open", name, |disk| {
            let ino = disk.live.child(self.ino(), name)?;
            match disk.live.stat(ino)?.kind {
                Kind::Directory => Ok(ino),
                Kind::Symlink => Err(VolumeErrorKind::IsALink),
                Kind::File | Kind::Other => Err(VolumeErrorKind::NotADirectory),
            }
        })?;
        Ok(Self { handle: self.handle.with_ino(ino), is_in_control })
    }

    fn create(&self, name: &[u8], body: Body, mode: u32) -> Result<Ino, VolumeError> {
        let is_directory = matches!(body, Body::Directory(_));
        self.call("make", name, |disk| {
            let now = disk.tick();
            let ino = disk.live.create(self.ino(), name, body, mode, now)?;
            disk.note(self.ino(), name, Hint::Created, is_directory);
            Ok(ino)
        })
    }

    fn check_in_control(&self, verb: &'static str, name: &[u8]) -> Result<(), VolumeError> {
        check_name(verb, name)?;
        if self.is_in_control { Ok(()) } else { Err(VolumeError::new(VolumeErrorKind::NotInControl, verb, name)) }
    }

    fn unlink(&self, name: &[u8], refused: impl Fn(Kind) -> Option<VolumeErrorKind>) -> Result<(), VolumeError> {
        self.call("remove", name, |disk| {
            let ino = disk.live.child(self.ino(), name)?;
            let kind = disk.live.stat(ino)?.kind;
            if let Some(refusal) = refused(kind) {
                return Err(refusal);
            }
            let now = disk.tick();
            disk.live.unlink(self.ino(), name, now)?;
            disk.note(self.ino(), name, Hint::Removed, kind == Kind::Directory);
            Ok(())
        })
    }
}

impl VolumeDirectory for SimDirectory {
    fn open_directory(&self, name: &[u8]) -> Result<Arc<dyn VolumeDirectory>, VolumeError> {
        Ok(Arc::new(self.open_child(name, self.is_in_control)?))
    }

    fn list(&self) -> Result<Vec<DirectoryEntry>, VolumeError> {
        self.call("list the directory", b"", |disk| {
            if !disk.live.is_placed(self.ino()) {
                return Err(VolumeErrorKind::NotFound);
            }
            disk.check_readable(self.ino())?;
            let names = disk.live.names(self.ino())?;
            names
                .iter()
                .map(|(name, &ino)| {
                    let kind = Some(disk.live.stat(ino)?.kind);
                    Ok(DirectoryEntry { name: name.clone(), kind, ino })
                })
                .collect()
        })
    }

    fn stat(&self, name: &[u8]) -> Result<Stat, VolumeError> {
        check_name("look at", name)?;
        self.call("look at", name, |disk| disk.live.stat(disk.live.child(self.ino(), name)?))
    }

    fn stat_self(&self) -> Result<Stat, VolumeError> {
        self.call("look at the directory", b"", |disk| disk.live.stat(self.ino()))
    }

    fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, VolumeError> {
        check_name("read", name)?;
        self.call("read", name, |disk| match &disk.live.inode(disk.live.child(self.ino(), name)?)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            Body::Directory(_) | Body::File(_) | Body::Fifo => Err(VolumeErrorKind::WrongKind),
        })
    }

    fn open_file(&self, name: &[u8]) -> Result<Arc<dyn VolumeFile>, VolumeError> {
        check_name("open", name)?;
        let ino = self.call("open", name, |disk| {
            let ino = disk.live.child(self.ino(), name)?;
            match disk.live.stat(ino)?.kind {
                Kind::File => disk.check_readable(ino).map(|()| ino),
                Kind::Symlink => Err(VolumeErrorKind::IsALink),
                Kind::Directory | Kind::Other => Err(VolumeErrorKind::WrongKind),
            }
        })?;
        Ok(Arc::new(SimFile { handle: self.handle.with_ino(ino) }))
    }

    fn create_file(&self, name: &[u8]) -> Result<Arc<dyn VolumeWriter>, VolumeError> {
        self.check_in_control("make", name)?;
        let ino = self.create(name, Body::File(Vec::new()), 0o600)?;
        Ok(Arc::new(SimFile { handle: self.handle.with_ino(ino) }))
    }

    fn create_symlink(&self, name: &[u8], target: &[u8]) -> Result<(), VolumeError> {
        self.check_in_control("make", name)?;
        if target.is_empty() || target.contains(&0) {
            return Err(VolumeError::new(VolumeErrorKind::InvalidName, "make a link to", target));
        }
        if target.len() >= LINK_TARGET_LEN_MAX {
            return Err(VolumeError::new(VolumeErrorKind::NameTooLong, "make a link to", target));
        }
        self.create(name, Body::Symlink(target.to_vec()), 0o777).map(drop)
    }

    fn create_directory(&self, name: &[u8]) -> Result<(), VolumeError> {
        check_name("make", name)?;
        let mode = if self.is_in_control { 0o700 } else { 0o777 & !UMASK };
        self.create(name, Body::Directory(BTreeMap::new()), mode).map(drop)
    }

    fn remove_directory(&self, name: &[u8]) -> Result<(), VolumeError> {
        check_name("remove", name)?;
        self.unlink(name, |kind| (kind != Kind::Directory).then_some(VolumeErrorKind::NotADirectory))
    }

    fn remove_file(&self, name: &[u8]) -> Result<(), VolumeError> {
        self.check_in_control("remove", name)?;
        self.unlink(name, |kind| (kind == Kind::Directory).then_some(VolumeErrorKind::WrongKind))
    }

    fn sync(&self) -> Result<(), VolumeError> {
        self.call("sync the directory", b"", |disk| {
            let live = disk.live.clone();
            disk.durable.copy_names(&live);
            Ok(())
        })
    }

    fn is_in_control(&self) -> bool {
        self.is_in_control
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open file.
struct SimFile {
    handle: Handle,
}

impl SimFile {
    fn edit(&self, verb: &'static str, edit: impl FnOnce(&mut Vec<u8>)) -> Result<(), VolumeError> {
        self.handle.call(verb, b"", |disk| {
            let now = disk.tick();
            disk.live.edit(self.handle.ino, now, edit)?;
            disk.note_inode(self.handle.ino, Hint::Changed);
            Ok(())
        })
    }

    fn change(&self, verb: &'static str, change: impl FnOnce(&mut super::image::Inode)) -> Result<(), VolumeError> {
        self.handle.call(verb, b"", |disk| {
            let now = disk.tick();
            let inode = disk.live.inode_mut(self.handle.ino)?;
            change(inode);
            inode.ctime = now;
            disk.note_inode(self.handle.ino, Hint::Changed);
            Ok(())
        })
    }
}

/// An offset into simulated bytes, which lie in memory.
fn index(verb: &'static str, offset: u64) -> Result<usize, VolumeError> {
    let too_large = || VolumeError::new(VolumeErrorKind::TooLarge, verb, b"");
    if offset > FILE_LEN_MAX.min(1 << 32) {
        return Err(too_large());
    }
    usize::try_from(offset).map_err(|_| too_large())
}

impl VolumeFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, VolumeError> {
        self.handle.call("read", b"", |disk| {
            disk.check_readable(self.handle.ino)?;
            let Body::File(content) = &disk.live.inode(self.handle.ino)?.body else {
                return Err(VolumeErrorKind::WrongKind);
            };
            let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
            let len = rest.len().min(buffer.len());
            if let (Some(to), Some(from)) = (buffer.get_mut(..len), rest.get(..len)) {
                to.copy_from_slice(from);
            }
            Ok(len)
        })
    }

    fn stat(&self) -> Result<Stat, VolumeError> {
        self.handle.call("look at the open file", b"", |disk| disk.live.stat(self.handle.ino))
    }

    fn set_mtime(&self, mtime: FileTime) -> Result<(), VolumeError> {
        let mtime = lock(&self.handle.disk).rounded(mtime);
        self.change("set the time", |inode| inode.mtime = mtime)
    }

    fn set_executable(&self, executable: bool) -> Result<(), VolumeError> {
        self.change("set the executable bit", |inode| {
            inode.mode = Permissions::Like { mode: inode.mode, executable }.mode(UMASK);
        })
    }

    fn is_in_memory(&self, _: u64) -> bool {
        true
    }

    fn let_go(&self, _: u64, _: u64) {}

    fn sync(&self) -> Result<(), VolumeError> {
        self.handle.call("sync the open file", b"", |disk| {
            disk.durable.copy_body(&disk.live, self.handle.ino);
            Ok(())
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl VolumeWriter for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), VolumeError> {
        let start = index("write", offset)?;
        let end = index("write", offset.saturating_add(bytes.len() as u64))?;
        self.edit("write", |content| {
            content.resize(content.len().max(end), 0);
            if let Some(part) = content.get_mut(start..end) {
                part.copy_from_slice(bytes);
            }
        })
    }

    fn set_len(&self, len: u64) -> Result<(), VolumeError> {
        let len = index("set the length", len)?;
        self.edit("set the length", |content| content.resize(len, 0))
    }

    fn share(&self, source: &dyn VolumeFile) -> Result<bool, VolumeError> {
        let verb = "share blocks";
        let source = source
            .as_any()
            .downcast_ref::<Self>()
            .filter(|source| Arc::ptr_eq(&source.handle.disk, &self.handle.disk))
            .ok_or_else(|| VolumeError::new(VolumeErrorKind::CrossDevice, verb, b""))?;
        // Both kinds of file system in one, so that every run meets both.
        if self.handle.ino.is_multiple_of(2) {
            return Ok(false);
        }
        let mut content = vec![0; index(verb, source.stat()?.size)?];
        let len = source.read_at(&mut content, 0)?;
        content.truncate(len);
        self.edit(verb, |own| *own = content)?;
        Ok(true)
    }

    fn set_permissions(&self, permissions: Permissions) -> Result<(), VolumeError> {
        self.change("set the mode", |inode| inode.mode = permissions.mode(UMASK))
    }
}
