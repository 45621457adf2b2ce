//! Told by the kernel that something in a space changed: a hint where to scan, never the truth about what is there.
//!
//! Here live what is told and the [`Watcher`] that tells it; when to act on it is decided in [`debounce`], and what is to
//! be looked at stands in [`dirty`]. A watcher
//! may tell too much and, when the kernel's queue overflows or watches run out, says that it told too little.

pub mod debounce;
pub mod dirty;
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

#[cfg(target_os = "linux")]
pub use inotify::Watcher;

/// What happened to a path, as far as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hint {
    /// It was made. A file's writer may still be at work.
    Created,
    /// Content, mode, times or attributes changed.
    Changed,
    /// Somebody who had it open for writing closed it.
    ClosedAfterWrite,
    /// It was renamed away from this path, to another or out of sight.
    RenamedAway,
    /// It was renamed to this path, from another or from out of sight.
    RenamedHere,
    /// It was removed.
    Removed,
}

/// One change. For a directory that was made or renamed here, all below it may be news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Names from the root, joined by `/`; never empty, never in our own directory.
    pub path: Box<[u8]>,
    /// What happened.
    pub hint: Hint,
    /// Whether it is, or was, a directory.
    pub is_directory: bool,
}

/// What a watcher tells.
#[derive(Debug)]
pub enum WatchEvent {
    /// Something changed.
    Change(Change),
    /// Changes were missed: scan everything. From here on all are told again.
    Rescan,
    /// The root itself, or what is mounted, may be elsewhere: look whether it is still there.
    Root,
    /// Something won't be told.
    Warning(WatchWarning),
}

/// Why changes may go unnoticed until the next walk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchWarning {
    /// The user's limit of watches is used up. Told once.
    #[error(
        "the system has no watches left, so changes in some directories are found only by a walk over all of them each \
         minute; raise the limit with `sudo sysctl fs.inotify.max_user_watches=1048576`, write the same into a file in \
         /etc/sysctl.d to keep it, and restart ZeroCloud"
    )]
    OutOfWatches,
    /// A directory can't be opened.
    #[error("changes in {} are not noticed before the hourly walk: {source}", zerocloud_crdt::name::escape(path))]
    NotWatched {
        /// Names from the root, joined by `/`.
        path: Box<[u8]>,
        /// Why.
        source: crate::volume::VolumeError,
    },
    /// The kernel's queue can't be read. Nothing more is told.
    #[error("changes are no longer noticed, but walks go on ({0}); restart ZeroCloud")]
    Stopped(std::io::Error),
}

/// Why nothing is watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The system has no watch queue or no watches left.
    #[error("changes are found by walks only: {0}; raise fs.inotify.max_user_instances or max_user_watches")]
    Unavailable(#[source] std::io::Error),
}
