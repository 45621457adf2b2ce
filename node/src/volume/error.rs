//! Why something on a volume was not done.

use std::fmt;
use std::io;

use zerocloud_crdt::name::escape;

/// What a caller decides on. The text says what a user can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeErrorKind {
    /// Nothing has this name.
    #[error("there is nothing of this name; put it back if it is missed")]
    NotFound,
    /// Something has this name already.
    #[error("something of this name exists already; rename or move it if it is in the way")]
    Exists,
    /// A directory to be removed has something in it.
    #[error("the directory is not empty; move away what is in it, or keep it")]
    NotEmpty,
    /// A directory was asked for, and something else that is not a link stands there.
    #[error("it is not a directory; move away what has its name")]
    NotADirectory,
    /// A symbolic link stands there, and no link is ever followed.
    #[error("it is a symbolic link, and links are not followed; put what it points to in its place")]
    IsALink,
    /// A directory, FIFO, socket or device where a regular file or link was asked for.
    #[error("it is not the kind of file that was expected; move away what has its name")]
    WrongKind,
    /// A directory can't become its own descendant.
    #[error("a directory can't be moved into itself; it will be tried again")]
    IntoItself,
    /// Not one name of a directory: empty, `.`, `..`, or with `/` or NUL inside.
    #[error("this is not the name of a file; choose another")]
    InvalidName,
    /// The file system can't hold a name or target of this length.
    #[error("the name is too long for this file system; rename it on a device that has it")]
    NameTooLong,
    /// No space, no inodes, or the user's quota is used up.
    #[error("the disk is full or the quota is used up; free some space")]
    NoSpace,
    /// The file system can't hold a file of this length.
    #[error("the file is too large for this file system; move the space to one that holds such files")]
    TooLarge,
    /// The process may not do this.
    #[error("permission denied; check owner and mode")]
    PermissionDenied,
    /// A verb that may only touch names inside the control directory was used elsewhere: a mistake of the caller.
    #[error("only files in ZeroCloud's own directory may be removed or replaced; report this")]
    NotInControl,
    /// In use in a way that forbids it for a moment: a lease, or a mount point. Try again later.
    #[error("it is in use; it will be tried again")]
    Busy,
    /// The process or the system has no file descriptors left. Close some and try again.
    #[error("too many open files; raise the limit (ulimit -n)")]
    TooManyOpenFiles,
    /// On another file system, or a handle of another volume.
    #[error("it is on another file system, and a space ends where one is mounted; make that a space of its own")]
    CrossDevice,
    /// The kernel or file system has no such call.
    #[error("the file system can't do this; move the space to another one, ext4, XFS or Btrfs for example")]
    Unsupported,
    /// The file system is mounted read-only.
    #[error("the file system is read-only; mount it writable, or let the service write there (ReadWritePaths=)")]
    ReadOnly,
    /// The root is no longer where it was opened, or its file system went away.
    #[error("the folder is gone; is its disk mounted? Mount it, or move the folder back here")]
    Gone,
    /// The disk failed, or an error that has no kind of its own.
    #[error("input or output failed; check the disk")]
    Io,
    /// The simulator stopped this process.
    #[error("the simulated process has crashed")]
    Crashed,
}

/// Why something on a volume was not done: the kind, what was tried, and on which name.
#[derive(Debug)]
pub struct VolumeError {
    kind: VolumeErrorKind,
    verb: &'static str,
    name: Box<[u8]>,
    source: Option<io::Error>,
}

impl VolumeError {
    /// An error of `kind` while trying to `verb` (a bare infinitive, as in "can't open") `name`, which may be empty.
    pub fn new(kind: VolumeErrorKind, verb: &'static str, name: &[u8]) -> Self {
        Self { kind, verb, name: name.into(), source: None }
    }

    /// The same with the operating system's own error.
    pub fn with_source(self, source: io::Error) -> Self {
        Self { source: Some(source), ..self }
    }

    /// What a caller decides on.
    pub const fn kind(&self) -> VolumeErrorKind {
        self.kind
    }

    /// The last name of the path that it is about; empty if it is about an open handle.
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't {}", self.verb)?;
        if !self.name.is_empty() {
            write!(f, " {}", escape(&self.name))?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl std::error::Error for VolumeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
