//! The volume of Linux: `openat2`, `statx`, `renameat2` and `copy_file_range` by directory handle, through rustix.
//!
//! Here live the root, the control directory and the verbs with two places; directories and files have their own
//! modules. A kernel without `openat2` (before 5.6, or a seccomp filter) gets `openat` with `O_NOFOLLOW`: since a name
//! is one component, that follows nothing either.

mod directory;
mod file;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;
use zerocloud_crdt::mutated;
use zerocloud_crdt::name::CONTROL;
use zerocloud_crdt::projection::NameRules;

use self::directory::LinuxDirectory;
use super::{
    At, Control, FileTime, FilesystemId, FreeSpace, Kind, Stat, TMP, VERSIONS, Volume, VolumeDirectory, VolumeError,
    VolumeErrorKind, check_name,
};
use crate::confine::Confined;

/// How often a call that the kernel asks to repeat is repeated: `openat2` says so while somebody renames.
const TRY_COUNT_MAX: usize = 64;

/// A space's root on a Linux file system.
pub struct LinuxVolume {
    path: PathBuf,
    root: Arc<LinuxDirectory>,
    mount: Arc<Mount>,
    name_rules: NameRules,
    /// The control directory and whether names can be exchanged. Held while it is made, so that it is made once.
    control: Mutex<Option<OpenControl>>,
}

struct OpenControl {
    control: Control,
    supports_exchange: bool,
}

/// What all handles of a volume share.
#[derive(Debug)]
struct Mount {
    dev: u64,
    umask: u32,
    has_openat2: bool,
}

impl LinuxVolume {
    /// Opens `path` as the root of a space. The path is the user's own and may lead through links; from the root on
    /// none is followed.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, and the common ones.
    pub fn open(path: &Path) -> Result<Self, VolumeError> {
        let verb = "open the folder";
        let name = path.as_os_str().as_bytes();
        let path = std::path::absolute(path)
            .map_err(|error| VolumeError::new(VolumeErrorKind::Io, verb, name).with_source(error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry(|| rustix::fs::open(&path, flags, Mode::empty())).map_err(failure(verb, name))?;
        let stat = stat_of(fd.as_fd()).map_err(failure(verb, name))?;
        // A seccomp filter answers "not permitted" to what it does not know, so this is asked once and not per call.
        let has_openat2 = retry(|| rustix::fs::openat2(&fd, ".", flags, Mode::empty(), BENEATH)).is_ok();
        let mount = Arc::new(Mount { dev: stat.dev, umask: process_umask(), has_openat2 });
        let name_rules = rustix::fs::fstatfs(&fd).map_or(NameRules::Linux, |stat| name_rules_of(magic(&stat)));
        let root = Arc::new(LinuxDirectory::new(fd, mount.clone(), Place::Space));
        Ok(Self { path, root, mount, name_rules, control: Mutex::new(None) })
    }

    /// The same with names as the user says, whatever the disk can hold; as the disk is, with `None`.
    #[must_use]
    pub fn with_name_rules(self, name_rules: Option<NameRules>) -> Self {
        Self { name_rules: name_rules.unwrap_or(self.name_rules), ..self }
    }

    /// The absolute path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets this thread, and those that it starts, open nothing outside this volume from now on.
    pub fn confine_this_thread(&self) -> Confined {
        crate::confine::folder(self.root.as_fd())
    }

    /// The descriptor of a directory handle that a Linux volume gave out.
    pub(crate) fn descriptor(directory: &dyn VolumeDirectory) -> Option<BorrowedFd<'_>> {
        directory.as_any().downcast_ref::<LinuxDirectory>().map(AsFd::as_fd)
    }

    fn open_control(&self) -> Result<MutexGuard<'_, Option<OpenControl>>, VolumeError> {
        let mut guard = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.as_ref().is_none_or(|open| !self.is_in_place(&open.control)) {
            *guard = None;
            let directory = self.root.make_control(CONTROL.as_bytes())?;
            let tmp = directory.make_control(TMP)?;
            let versions = directory.make_control(VERSIONS)?;
            let supports_exchange = probe_exchange(&tmp)?;
            *guard = Some(OpenControl { control: Control { directory, tmp, versions }, supports_exchange });
        }
        Ok(guard)
    }

    /// Whether the three directories still stand where they were opened.
    fn is_in_place(&self, control: &Control) -> bool {
        let is_same = |parent: &dyn VolumeDirectory, name: &[u8], child: &dyn VolumeDirectory| matches!((parent.stat(name), child.stat_self()), (Ok(at), Ok(open)) if (at.dev, at.ino) == (open.dev, open.ino));
        is_same(&*self.root, CONTROL.as_bytes(), &*control.directory)
            && is_same(&*control.directory, TMP, &*control.tmp)
            && is_same(&*control.directory, VERSIONS, &*control.versions)
    }

    /// Takes back a handle of this volume.
    fn own<'a>(&self, at: At<'a>, verb: &'static str) -> Result<&'a LinuxDirectory, VolumeError> {
        check_name(verb, at.name)?;
        let own = at.directory.as_any().downcast_ref::<LinuxDirectory>();
        own.filter(|directory| Arc::ptr_eq(directory.mount(), &self.mount))
            .ok_or_else(|| VolumeError::new(VolumeErrorKind::CrossDevice, verb, at.name))
    }

    fn rename_with(&self, from: At<'_>, to: At<'_>, flags: RenameFlags) -> Result<Result<(), Errno>, VolumeError> {
        let (source, target) = (self.own(from, RENAME)?, self.own(to, RENAME)?);
        Ok(retry(|| rustix::fs::renameat_with(source, from.name, target, to.name, flags)))
    }

    /// What `EINVAL` of a rename means: without support for the flag it says so, else that a directory would have
    /// come to lie in itself.
    fn is_unsupported(&self, errno: Errno) -> Result<bool, VolumeError> {
        Ok(match errno {
            Errno::NOSYS | Errno::OPNOTSUPP => true,
            Errno::INVAL => !self.supports_exchange()?,
            _ => false,
        })
    }
}

/// File systems that are read by Windows, or are its servers', by the magic number of statfs(2): NTFS by both drivers,
/// exFAT, FAT, SMB.
const OF_WINDOWS: [u64; 7] = [0x5346_544e, 0x7366_746e, 0x2011_bab0, 0x4d44, 0x517b, 0xff53_4d42, 0xfe53_4d42];
/// The same of macOS: HFS, HFS+, APFS.
const OF_MACOS: [u64; 3] = [0x4244, 0x482b, 0x4253_584e];

fn name_rules_of(magic: u64) -> NameRules {
    match magic {
        magic if OF_WINDOWS.contains(&magic) => NameRules::Windows,
        magic if OF_MACOS.contains(&magic) => NameRules::MacOs,
        _ => NameRules::Linux,
    }
}

/// By which the kernel knows a file system.
pub(crate) fn magic(stat: &rustix::fs::StatFs) -> u64 {
    // The kernel's numbers have 32 bits; the field is signed, and shorter on some machines.
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs from machine to machine")]
    let magic = stat.f_type as u64;
    magic & 0xffff_ffff
}

const RENAME: &str = "rename";
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

impl Volume for LinuxVolume {
    fn root(&self) -> Arc<dyn VolumeDirectory> {
        self.root.clone()
    }

    fn control(&self) -> Result<Control, VolumeError> {
        let guard = self.open_control()?;
        let open = guard.as_ref().ok_or_else(|| VolumeError::new(VolumeErrorKind::Gone, "open", CONTROL.as_bytes()))?;
        Ok(open.control.clone())
    }

    fn check_root(&self) -> Result<(), VolumeError> {
        let gone = || VolumeError::new(VolumeErrorKind::Gone, "find the folder", self.path.as_os_str().as_bytes());
        let there = statx(CWD, self.path.as_os_str().as_bytes(), AtFlags::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => gone(),
            errno => failure("find the folder", self.path.as_os_str().as_bytes())(errno),
        })?;
        let open = self.root.stat_self()?;
        if (there.dev, there.ino) == (open.dev, open.ino) { Ok(()) } else { Err(gone()) }
    }

    fn supports_exchange(&self) -> Result<bool, VolumeError> {
        Ok(self.open_control()?.as_ref().is_some_and(|open| open.supports_exchange))
    }

    fn exchange(&self, a: At<'_>, b: At<'_>) -> Result<(), VolumeError> {
        let Err(errno) = self.rename_with(a, b, RenameFlags::EXCHANGE)? else { return Ok(()) };
        if self.is_unsupported(errno)? {
            return Err(VolumeError::new(VolumeErrorKind::Unsupported, "exchange", b.name));
        }
        Err(rename_failure("exchange", b.name, errno))
    }

    fn rename_noreplace(&self, from: At<'_>, to: At<'_>) -> Result<(), VolumeError> {
        let Err(errno) = self.rename_with(from, to, RenameFlags::NOREPLACE)? else { return Ok(()) };
        if self.is_unsupported(errno)? {
            return rename_without_flags(self.own(from, RENAME)?, from.name, self.own(to, RENAME)?, to.name);
        }
        Err(rename_failure(RENAME, to.name, errno))
    }

    fn park(&self, from: At<'_>, to: At<'_>) -> Result<(), VolumeError> {
        if !to.directory.is_in_control() {
            return Err(VolumeError::new(VolumeErrorKind::NotInControl, "park", to.name));
        }
        let Err(errno) = self.rename_with(from, to, RenameFlags::NOREPLACE)? else { return Ok(()) };
        if self.is_unsupported(errno)? {
            let (source, target) = (self.own(from, "park")?, self.own(to, "park")?);
            return retry(|| rustix::fs::renameat(source, from.name, target, to.name))
                .map_err(|errno| rename_failure("park", to.name, errno));
        }
        Err(rename_failure("park", to.name, errno))
    }

    fn sync_all(&self) -> Result<(), VolumeError> {
        retry(|| rustix::fs::syncfs(&*self.root)).map_err(failure("sync the folder", b""))
    }

    fn free_space(&self) -> Result<FreeSpace, VolumeError> {
        let stat = retry(|| rustix::fs::fstatvfs(&*self.root)).map_err(failure("measure the folder's disk", b""))?;
        // A file system without a count of blocks has no bound of its own.
        let bytes = if stat.f_blocks == 0 { u64::MAX } else { stat.f_bavail.saturating_mul(stat.f_frsize) };
        Ok(FreeSpace { bytes, inode_count: (stat.f_files > 0).then_some(stat.f_favail) })
    }

    fn filesystem_id(&self) -> Result<FilesystemId, VolumeError> {
        let stat = retry(|| rustix::fs::fstatvfs(&*self.root)).map_err(failure("identify the folder's disk", b""))?;
        Ok(FilesystemId { uuid: uuid_of(self.mount.dev), fsid: stat.f_fsid })
    }

    fn name_rules(&self) -> NameRules {
        self.name_rules
    }

    fn umask(&self) -> u32 {
        self.mount.umask
    }
}

/// Whether a handle's directory is the user's or ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Space,
    Control,
}

/// Opens one component below `directory`, following nothing.
fn open_at(directory: BorrowedFd<'_>, name: &[u8], flags: OFlags, mode: Mode, mount: &Mount) -> Result<OwnedFd, Errno> {
    if mutated!(FollowedLinks) {
        return retry(|| rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, mode));
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if mount.has_openat2 {
        retry(|| rustix::fs::openat2(directory, name, flags, mode, BENEATH))
    } else {
        retry(|| rustix::fs::openat(directory, name, flags, mode))
    }
}

/// `renameat2(NOREPLACE)` for file systems without it.
fn rename_without_flags(
    source: &LinuxDirectory,
    from: &[u8],
    target: &LinuxDirectory,
    to: &[u8],
) -> Result<(), VolumeError> {
    if source.stat(from)?.kind != Kind::Directory {
        // link(2) fails where anything stands; the kernel does not follow a link without AT_SYMLINK_FOLLOW.
        retry(|| rustix::fs::linkat(source, from, target, to, AtFlags::empty())).map_err(|errno| match errno {
            Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK => {
                VolumeError::new(VolumeErrorKind::Unsupported, RENAME, to)
            }
            errno => rename_failure(RENAME, to, errno),
        })?;
        return retry(|| rustix::fs::unlinkat(source, from, AtFlags::empty())).map_err(failure(RENAME, from));
    }
    match target.stat(to) {
        Ok(_) => Err(VolumeError::new(VolumeErrorKind::Exists, RENAME, to)),
        Err(error) if error.kind() == VolumeErrorKind::NotFound => {
            retry(|| rustix::fs::renameat(source, from, target, to)).map_err(|errno| rename_failure(RENAME, to, errno))
        }
        Err(error) => Err(error),
    }
}

/// Tries both flags of `renameat2` on files of our own: a file system answers only when there is something to rename.
fn probe_exchange(tmp: &LinuxDirectory) -> Result<bool, VolumeError> {
    // Several handles on one folder are opened at once, and each would take the others' files away.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let names: [&[u8]; 3] = [b"probe-1", b"probe-2", b"probe-3"];
    let clear = || {
        names.iter().try_for_each(|name| match tmp.remove_file(name) {
            Err(error) if error.kind() != VolumeErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    };
    clear()?;
    let [first, second, third] = names;
    tmp.create_file(first)?;
    tmp.create_file(second)?;
    let exchanged = retry(|| rustix::fs::renameat_with(tmp, first, tmp, second, RenameFlags::EXCHANGE));
    let renamed = retry(|| rustix::fs::renameat_with(tmp, first, tmp, third, RenameFlags::NOREPLACE));
    clear()?;
    let mut supports_both = true;
    for outcome in [exchanged, renamed] {
        match outcome {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => supports_both = false,
            Err(errno) => return Err(failure(RENAME, first)(errno)),
        }
    }
    Ok(supports_both)
}

/// `statx` of `name` below `directory`, or of `directory` itself for the empty name with `EMPTY_PATH`.
fn statx(directory: impl AsFd, name: &[u8], flags: AtFlags) -> Result<Stat, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    Ok(stat_from(&retry(|| rustix::fs::statx(&directory, name, flags, wanted))?))
}

fn stat_of(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    statx(fd, b"", AtFlags::EMPTY_PATH)
}

fn stat_from(statx: &Statx) -> Stat {
    let time = |time: StatxTimestamp| FileTime { seconds: time.tv_sec, nanoseconds: time.tv_nsec };
    let has_birth = statx.stx_mask & StatxFlags::BTIME.bits() != 0;
    Stat {
        kind: kind_of(rustix::fs::FileType::from_raw_mode(statx.stx_mode.into())),
        ino: statx.stx_ino,
        dev: rustix::fs::makedev(statx.stx_dev_major, statx.stx_dev_minor),
        birth: has_birth.then(|| time(statx.stx_btime)),
        size: statx.stx_size,
        mtime: time(statx.stx_mtime),
        ctime: time(statx.stx_ctime),
        mode: u32::from(statx.stx_mode) & 0o7777,
        link_count: statx.stx_nlink.into(),
        block_count: statx.stx_blocks,
    }
}

const fn kind_of(file_type: rustix::fs::FileType) -> Kind {
    match file_type {
        rustix::fs::FileType::Directory => Kind::Directory,
        rustix::fs::FileType::RegularFile => Kind::File,
        rustix::fs::FileType::Symlink => Kind::Symlink,
        _ => Kind::Other,
    }
}

/// Repeats a call that a signal interrupted or that the kernel asks to repeat, a bounded number of times.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 1..TRY_COUNT_MAX {
        match call() {
            Err(Errno::INTR | Errno::AGAIN) => {}
            outcome => return outcome,
        }
    }
    call()
}

/// Turns an error number into what a caller decides on.
fn failure<'a>(verb: &'static str, name: &'a [u8]) -> impl Fn(Errno) -> VolumeError + 'a {
    move |errno| VolumeError::new(kind_of_failure(errno), verb, name).with_source(errno.into())
}

/// As [`failure`], where a full directory means a taken name and "invalid" a directory moved into itself.
fn rename_failure(verb: &'static str, name: &[u8], errno: Errno) -> VolumeError {
    let kind = match errno {
        Errno::NOTEMPTY => VolumeErrorKind::Exists,
        Errno::INVAL => VolumeErrorKind::IntoItself,
        errno => kind_of_failure(errno),
    };
    VolumeError::new(kind, verb, name).with_source(errno.into())
}

const fn kind_of_failure(errno: Errno) -> VolumeErrorKind {
    match errno {
        Errno::NOENT => VolumeErrorKind::NotFound,
        Errno::EXIST => VolumeErrorKind::Exists,
        Errno::NOTEMPTY => VolumeErrorKind::NotEmpty,
        Errno::NOTDIR => VolumeErrorKind::NotADirectory,
        Errno::LOOP => VolumeErrorKind::IsALink,
        Errno::ISDIR | Errno::NXIO => VolumeErrorKind::WrongKind,
        Errno::NAMETOOLONG => VolumeErrorKind::NameTooLong,
        Errno::NOSPC | Errno::DQUOT => VolumeErrorKind::NoSpace,
        Errno::FBIG => VolumeErrorKind::TooLarge,
        Errno::ACCESS | Errno::PERM => VolumeErrorKind::PermissionDenied,
        Errno::BUSY | Errno::AGAIN | Errno::TXTBSY => VolumeErrorKind::Busy,
        Errno::MFILE | Errno::NFILE => VolumeErrorKind::TooManyOpenFiles,
        Errno::XDEV => VolumeErrorKind::CrossDevice,
        Errno::NOSYS | Errno::OPNOTSUPP => VolumeErrorKind::Unsupported,
        Errno::ROFS => VolumeErrorKind::ReadOnly,
        Errno::STALE | Errno::NOTCONN | Errno::NODEV | Errno::SHUTDOWN => VolumeErrorKind::Gone,
        _ => VolumeErrorKind::Io,
    }
}

/// The umask of this process. Read from `/proc`, because the system call sets it for a moment, and a file that
/// another thread makes in that moment would be world-writable.
fn process_umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let noted = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    match noted.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok()) {
        Some(umask) => umask,
        None => {
            // Without /proc: set to the strictest, so that the moment errs to the safe side, and back.
            let umask = rustix::process::umask(Mode::from_raw_mode(0o077));
            rustix::process::umask(umask);
            umask.as_raw_mode()
        }
    }
}

/// The UUID by which udev lists the block device `dev`.
fn uuid_of(dev: u64) -> Option<Box<str>> {
    let listed = fs::read_dir("/dev/disk/by-uuid").ok()?;
    let mut uuids: Vec<Box<str>> = listed
        .filter_map(Result::ok)
        .filter(|entry| fs::metadata(entry.path()).is_ok_and(|device| device.rdev() == dev))
        .filter_map(|entry| entry.file_name().to_str().map(Box::from))
        .collect();
    uuids.sort_unstable();
    uuids.into_iter().next()
}

impl std::fmt::Debug for LinuxVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinuxVolume").field("path", &self.path).field("mount", &self.mount).finish_non_exhaustive()
    }
}

/// Every handle is taken back by its own type.
fn as_any<T: Any>(handle: &T) -> &dyn Any {
    handle
}
