//! The one door to a space's files: scanner, materialiser and chunk server touch them through [`Volume`] alone.
//!
//! Here live the trait, what it tells and what it promises; the Linux volume is [`LinuxVolume`], its simulated twin is
//! in the test network, and one conformance suite holds for both. What to read, write or rename is decided elsewhere:
//! nothing here compares, retries or cleans up.
//!
//! Everything goes by *directory handle* and one *name*, never by a path. A name is raw bytes that the volume checks
//! to be exactly one component. **No verb ever follows a symbolic link or leaves the file system of the root**, also
//! not while somebody swaps directories for links: a handle stands for the directory that it was opened on, wherever
//! that is moved to. No file but a regular one is ever opened.

#[cfg(any(test, feature = "conformance"))]
#[doc(hidden)]
pub mod conformance;
mod error;
#[cfg(target_os = "linux")]
mod linux;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zerocloud_crdt::projection::NameRules;

pub use error::{VolumeError, VolumeErrorKind};
#[cfg(target_os = "linux")]
pub use linux::LinuxVolume;
#[cfg(target_os = "linux")]
pub(crate) use linux::magic;

/// The name of the temporary files' directory inside the control directory.
pub const TMP: &[u8] = b"tmp";
/// The name of the version store's directory inside the control directory.
pub const VERSIONS: &[u8] = b"versions";

/// What stands at a name, as `lstat` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link, which is data and never followed.
    Symlink,
    /// A FIFO, socket or device: reported, never opened, never created.
    Other,
}

/// A file's time: seconds since 1970 and nanoseconds within that second, below 1,000,000,000. Before 1970 the seconds
/// are negative and the nanoseconds still count forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// The rest.
    pub nanoseconds: u32,
}

/// What a volume tells about a file, directory or link without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Inode number.
    pub ino: u64,
    /// Device number. May change when the file system is mounted again.
    pub dev: u64,
    /// When the inode was made, where the file system keeps it.
    pub birth: Option<FileTime>,
    /// Length in bytes; of a link's target for a link.
    pub size: u64,
    /// When the content last changed; anyone can set it.
    pub mtime: FileTime,
    /// When content or inode last changed; nobody can set it.
    pub ctime: FileTime,
    /// Permission bits, with setuid, setgid and sticky: `mode & 0o7777`.
    pub mode: u32,
    /// Names of this inode.
    pub link_count: u64,
    /// Units of 512 bytes that are allocated; fewer than the size says for a sparse file.
    pub block_count: u64,
}

impl Stat {
    /// Whether the owner may execute it: the one mode bit that is kept.
    pub const fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0
    }
}

/// One name of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name, byte for byte, without `.` and `..`.
    pub name: Box<[u8]>,
    /// What it was when the directory was read; `None` where the file system does not say. A hint: `stat` decides.
    pub kind: Option<Kind>,
    /// Inode number as the directory notes it; differs from `stat` at a mount point.
    pub ino: u64,
}

/// A name in an open directory: the place that a verb with two places takes twice.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// The open directory.
    pub directory: &'a dyn VolumeDirectory,
    /// One name in it.
    pub name: &'a [u8],
}

/// What the file system has left for this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpace {
    /// Bytes; `u64::MAX` where the file system has no bound.
    pub bytes: u64,
    /// Inodes; `None` where the file system makes them as needed.
    pub inode_count: Option<u64>,
}

/// What a root's file system is known by, to notice that another one is mounted there.
///
/// `st_dev` is no part of it: on some file systems that changes at each boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemId {
    /// The UUID as udev writes it, where the device has one.
    pub uuid: Option<Box<str>>,
    /// `f_fsid`; 0 where the file system has none.
    pub fsid: u64,
}

impl FilesystemId {
    /// Whether both name the same file system: by UUID where both have one (udev may be late at boot), else by
    /// `f_fsid`.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.uuid, &other.uuid) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.fsid == other.fsid,
        }
    }
}

/// Which permission bits a file that we wrote gets. Never more than `0o777`, never an owner or an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permissions {
    /// A file that was not there: `0o666` or `0o777`, without the umask's bits.
    New {
        /// Whether it may be executed.
        executable: bool,
    },
    /// A file that replaces one whose bits the user chose: those, and the executable bits set where the read bits
    /// are, or cleared.
    Like {
        /// The mode of the file that it replaces.
        mode: u32,
        /// Whether it may be executed.
        executable: bool,
    },
}

impl Permissions {
    /// The mode that a file gets under `umask`.
    ///
    /// Executable bits come only where there is a read bit and the umask lets them; bits above `0o777` never come,
    /// and those of a file that is replaced are dropped.
    pub const fn mode(self, umask: u32) -> u32 {
        match self {
            Self::New { executable: false } => 0o666 & !umask,
            Self::New { executable: true } => 0o777 & !umask,
            Self::Like { mode, executable: false } => mode & 0o666,
            Self::Like { mode, executable: true } => {
                let readable = mode & 0o444;
                // Bits that the user has set stay, whatever the umask says about files made today.
                (mode & 0o777) | ((readable >> 2) & !umask)
            }
        }
    }
}

/// The control directory `.zerocloud` of a root, open.
#[derive(Clone)]
pub struct Control {
    /// The directory itself: the marker's place.
    pub directory: Arc<dyn VolumeDirectory>,
    /// Temporary files.
    pub tmp: Arc<dyn VolumeDirectory>,
    /// Displaced files.
    pub versions: Arc<dyn VolumeDirectory>,
}

/// The files of one space.
///
/// Errors are [`VolumeError`]s; any call may give `PermissionDenied`, `TooManyOpenFiles`, `Busy`, `ReadOnly`, `Gone`,
/// `Io`, and in the simulator `Crashed`. Each method says which others a caller has to expect.
pub trait Volume: Send + Sync {
    /// The root, open since the volume was.
    fn root(&self) -> Arc<dyn VolumeDirectory>;

    /// Opens the control directory, with `tmp` and `versions` in it, and makes what is missing with mode `0o700`. The
    /// first call of a volume also finds out what [`supports_exchange`](Self::supports_exchange) tells.
    ///
    /// # Errors
    /// `IsALink` or `NotADirectory` if something else has one of these names, `CrossDevice` if one is a mount point,
    /// `NoSpace`.
    fn control(&self) -> Result<Control, VolumeError>;

    /// Whether the path that was opened still leads to the root that is open.
    ///
    /// # Errors
    /// `Gone` if it does not: moved away, removed, unmounted, or something mounted over it.
    fn check_root(&self) -> Result<(), VolumeError>;

    /// Whether [`exchange`](Self::exchange) and an atomic [`rename_noreplace`](Self::rename_noreplace) of anything
    /// work here. Tried once, on two files in `tmp`.
    ///
    /// # Errors
    /// Those of [`control`](Self::control).
    fn supports_exchange(&self) -> Result<bool, VolumeError>;

    /// Swaps two names atomically, of whatever kinds.
    ///
    /// # Errors
    /// `NotFound` if one is missing, `IntoItself`, `CrossDevice`, `Unsupported`.
    fn exchange(&self, a: At<'_>, b: At<'_>) -> Result<(), VolumeError>;

    /// Renames, and never replaces anything.
    ///
    /// Where the file system has no such call, a file is linked and unlinked, which replaces nothing either but can
    /// leave both names at a crash, and a directory is renamed, which can replace nothing but an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `Exists`, `IntoItself`, `CrossDevice`, `NoSpace`, `Unsupported`.
    fn rename_noreplace(&self, from: At<'_>, to: At<'_>) -> Result<(), VolumeError>;

    /// Renames something into the control directory (or within it), also where the file system can't rename without
    /// replacing: the caller has chosen a name there that nothing has.
    ///
    /// # Errors
    /// `NotInControl` if `to` is elsewhere; `NotFound`, `Exists`, `IntoItself`, `CrossDevice`, `NoSpace`.
    fn park(&self, from: At<'_>, to: At<'_>) -> Result<(), VolumeError>;

    /// Brings everything that was done to this file system so far to stable storage (`syncfs`).
    ///
    /// # Errors
    /// `Io` and `NoSpace` also for an earlier write that could not be brought there.
    fn sync_all(&self) -> Result<(), VolumeError>;

    /// What is free for this user.
    ///
    /// # Errors
    /// None but the common ones.
    fn free_space(&self) -> Result<FreeSpace, VolumeError>;

    /// What the root's file system is known by.
    ///
    /// # Errors
    /// None but the common ones.
    fn filesystem_id(&self) -> Result<FilesystemId, VolumeError>;

    /// Which names its files can have: what else the view calls a file, it gets another name here.
    fn name_rules(&self) -> NameRules;

    /// The permission bits that files made by this process don't get.
    fn umask(&self) -> u32;
}

/// An open directory. Stands for the directory that it was opened on, wherever that is moved to.
///
/// All names are checked to be one component: else `InvalidName`, or `NameTooLong`.
pub trait VolumeDirectory: Send + Sync {
    /// Opens a directory in this one.
    ///
    /// # Errors
    /// `NotFound`, `IsALink`, `NotADirectory`, `CrossDevice` for a mount point.
    fn open_directory(&self, name: &[u8]) -> Result<Arc<dyn VolumeDirectory>, VolumeError>;

    /// All names, in no order that a caller may rely on. What others make or remove meanwhile may or may not be there;
    /// everything else is there once.
    ///
    /// # Errors
    /// `NotFound` if the directory itself was removed. Any error means that the list is not complete: there is no
    /// short list.
    fn list(&self) -> Result<Vec<DirectoryEntry>, VolumeError>;

    /// What stands at a name.
    ///
    /// # Errors
    /// `NotFound`.
    fn stat(&self, name: &[u8]) -> Result<Stat, VolumeError>;

    /// This directory's own state.
    ///
    /// # Errors
    /// None but the common ones.
    fn stat_self(&self) -> Result<Stat, VolumeError>;

    /// The target of a link, byte for byte.
    ///
    /// # Errors
    /// `NotFound`; `WrongKind` if it is no link.
    fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, VolumeError>;

    /// Opens a regular file for reading. Anything else is looked at, not opened.
    ///
    /// # Errors
    /// `NotFound`, `IsALink`, `WrongKind`, `CrossDevice`.
    fn open_file(&self, name: &[u8]) -> Result<Arc<dyn VolumeFile>, VolumeError>;

    /// Makes a file that did not exist, mode `0o600`, in the control directory only.
    ///
    /// # Errors
    /// `NotInControl`, `Exists`, `NoSpace`.
    fn create_file(&self, name: &[u8]) -> Result<Arc<dyn VolumeWriter>, VolumeError>;

    /// Makes a link with this target as it is, in the control directory only.
    ///
    /// # Errors
    /// `NotInControl`, `Exists`, `NameTooLong` for the target too, `InvalidName` for one that is empty or has a NUL,
    /// `NoSpace`, `Unsupported`.
    fn create_symlink(&self, name: &[u8], target: &[u8]) -> Result<(), VolumeError>;

    /// Makes a directory at its place, mode `0o777` without the umask's bits (`0o700` in the control directory).
    ///
    /// # Errors
    /// `Exists`, `NoSpace`; `NotFound` if this directory was removed.
    fn create_directory(&self, name: &[u8]) -> Result<(), VolumeError>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `NotFound`, `NotEmpty`, `NotADirectory` (also for a link).
    fn remove_directory(&self, name: &[u8]) -> Result<(), VolumeError>;

    /// Removes a file or link in the control directory. No verb removes one elsewhere: it is parked.
    ///
    /// # Errors
    /// `NotInControl`, `NotFound`; `WrongKind` for a directory.
    fn remove_file(&self, name: &[u8]) -> Result<(), VolumeError>;

    /// Brings the names of this directory to stable storage.
    ///
    /// # Errors
    /// None but the common ones.
    fn sync(&self) -> Result<(), VolumeError>;

    /// Whether this is the control directory or lies in it.
    fn is_in_control(&self) -> bool;

    /// For the volume, which takes back the type that it gave out.
    fn as_any(&self) -> &dyn Any;
}

/// An open regular file.
pub trait VolumeFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// None but the common ones.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, VolumeError>;

    /// The file's state as it is, under whatever name.
    ///
    /// # Errors
    /// None but the common ones.
    fn stat(&self) -> Result<Stat, VolumeError>;

    /// Sets the time of the last change of content. The time of the last access stays. A file system may round or
    /// clamp it: `stat` tells what it became.
    ///
    /// # Errors
    /// None but the common ones.
    fn set_mtime(&self, mtime: FileTime) -> Result<(), VolumeError>;

    /// Sets or clears the executable bits, as [`Permissions::Like`] with the file's own mode.
    ///
    /// # Errors
    /// None but the common ones.
    fn set_executable(&self, executable: bool) -> Result<(), VolumeError>;

    /// Whether the system has the byte at `offset` in memory, as far as it says: `true` where it does not.
    fn is_in_memory(&self, offset: u64) -> bool;

    /// These bytes will not be read soon: the system may bring to the disk what is new of them, and need not keep them
    /// in memory. A hint: nothing says whether it was taken.
    fn let_go(&self, offset: u64, len: u64);

    /// Brings content and inode to stable storage; not the name, which is its directory's.
    ///
    /// # Errors
    /// `Io` and `NoSpace` also for an earlier write that could not be brought there.
    fn sync(&self) -> Result<(), VolumeError>;

    /// For the volume, which takes back the type that it gave out.
    fn as_any(&self) -> &dyn Any;
}

/// A temporary file, open for writing.
pub trait VolumeWriter: VolumeFile {
    /// Writes all of `bytes` at `offset`. What lies between the old end and `offset` becomes a hole.
    ///
    /// # Errors
    /// `NoSpace`, `TooLarge`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), VolumeError>;

    /// Sets the length; what is added is a hole.
    ///
    /// # Errors
    /// `TooLarge`, `NoSpace`.
    fn set_len(&self, len: u64) -> Result<(), VolumeError>;

    /// Makes this file, of which nothing was written, share the whole content of another of this volume (a reflink).
    /// Says whether it does: `false`, and nothing was changed, where the file system shares no blocks. The caller
    /// checks the hash: `source` may have changed.
    ///
    /// # Errors
    /// `CrossDevice` if `source` is a file of another volume; `NoSpace`.
    fn share(&self, source: &dyn VolumeFile) -> Result<bool, VolumeError>;

    /// Gives the file the permission bits that it will have at its place.
    ///
    /// # Errors
    /// None but the common ones.
    fn set_permissions(&self, permissions: Permissions) -> Result<(), VolumeError>;
}

impl fmt::Debug for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "At({})", zerocloud_crdt::name::escape(self.name))
    }
}

/// Checks that `name` is one component of a path. `verb` is for the error.
///
/// # Errors
/// `InvalidName`, or `NameTooLong` above 255 bytes, which no file system that we know holds.
pub fn check_name(verb: &'static str, name: &[u8]) -> Result<(), VolumeError> {
    let is_component =
        !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|&byte| byte == b'/' || byte == 0);
    if !is_component {
        return Err(VolumeError::new(VolumeErrorKind::InvalidName, verb, name));
    }
    if name.len() > zerocloud_crdt::limits::NAME_LEN_MAX {
        return Err(VolumeError::new(VolumeErrorKind::NameTooLong, verb, name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn threat_40_a_mode_keeps_only_the_executable_bit_and_the_umask() {
        assert_eq!(Permissions::New { executable: true }.mode(0o022), 0o755);
        assert_eq!(Permissions::New { executable: false }.mode(0o077), 0o600);
        assert_eq!(Permissions::Like { mode: 0o7777, executable: true }.mode(0o022), 0o777);
        assert_eq!(Permissions::Like { mode: 0o7640, executable: true }.mode(0o022), 0o750);
        assert_eq!(Permissions::Like { mode: 0o640, executable: true }.mode(0o077), 0o740);
        assert_eq!(Permissions::Like { mode: 0o4755, executable: false }.mode(0), 0o644);
    }

    proptest! {
        #[test]
        fn threat_40_no_mode_has_a_special_bit_or_more_write_bits(mode in 0u32..0o10000, umask in 0u32..0o1000,
                                                                  executable: bool) {
            let like = Permissions::Like { mode, executable }.mode(umask);
            prop_assert_eq!(like & !0o777, 0);
            prop_assert_eq!(like & 0o666, mode & 0o666);
            prop_assert_eq!(Permissions::New { executable }.mode(umask) & umask, 0);
        }

        #[test]
        fn threat_33_a_checked_name_is_one_component(name in proptest::collection::vec(any::<u8>(), 0..300)) {
            let path = std::path::Path::new(std::str::from_utf8(&name).unwrap_or("x"));
            if check_name("test", &name).is_ok() {
                prop_assert_eq!(path.components().count(), 1);
                prop_assert!(matches!(path.components().next(), Some(std::path::Component::Normal(_))));
            }
        }
    }

    #[test]
    fn threat_33_dots_separators_and_nul_are_no_names() {
        for name in [&b""[..], b".", b"..", b"/", b"a/b", b"../a", b"a/", b"a\0"] {
            assert_eq!(check_name("open", name).unwrap_err().kind(), VolumeErrorKind::InvalidName);
        }
        assert_eq!(check_name("open", &[b'a'; 256]).unwrap_err().kind(), VolumeErrorKind::NameTooLong);
        for name in [&b"..."[..], b".a", b"\xff\xfe", &[b'a'; 255], b"a\nb", b"\\"] {
            check_name("open", name).unwrap();
        }
    }

    #[test]
    fn a_filesystem_is_known_by_its_uuid_before_its_number() {
        let id = |uuid: Option<&str>, fsid| FilesystemId { uuid: uuid.map(Into::into), fsid };
        assert!(id(Some("a"), 1).is_same(&id(Some("a"), 2)));
        assert!(!id(Some("a"), 1).is_same(&id(Some("b"), 1)));
        assert!(id(None, 1).is_same(&id(Some("b"), 1)));
        assert!(!id(None, 1).is_same(&id(None, 2)));
    }

    #[test]
    fn threat_38_an_error_shows_its_name_escaped() {
        let error = VolumeError::new(VolumeErrorKind::NotFound, "open", "a\u{202e}b\n".as_bytes());
        assert_eq!(
            error.to_string(),
            "can't open a\\u{202e}b\\n: there is nothing of this name; put it back if it is missed"
        );
    }
}
