//! One process per home.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// The home is ours until this is dropped. The file stays; its lock (flock(2)) ends with the process, so a crash
/// leaves nothing to clean up.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

/// Why a home is not ours to run on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process holds it.
    #[error(
        "a node is already running on this home{}; `zerocloud status` shows what it does, `zerocloud stop` ends it; a second \
         node needs a second --home",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Running {
        /// The process, where it has noted itself.
        pid: Option<u32>,
    },
    /// The file can't be opened or locked.
    #[error("{} can't be locked ({source}); check its owner and mode, and that its file system has locks", path.display())]
    Io {
        /// The lock's file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl HomeLock {
    pub(super) fn take(path: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io { path: path.to_owned(), source };
        let mut options = File::options();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Running { pid: noted_pid(&mut file) }),
            Err(errno) => return Err(io(errno.into())),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Self { _file: file })
    }
}

fn noted_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_is_told_which_process_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "4194304 left by a crash").unwrap();
        let first = HomeLock::take(&path).unwrap();
        let error = HomeLock::take(&path).unwrap_err();
        assert!(matches!(error, LockError::Running { pid: Some(pid) } if pid == std::process::id()));
        assert!(error.to_string().contains(&format!("already running on this home (process {})", std::process::id())));
        drop(first);
        HomeLock::take(&path).unwrap();
    }
}
