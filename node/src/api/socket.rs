//! The Unix socket in the home.
//!
//! A socket's address holds about a hundred bytes, and a home can lie deeper than that. On Linux such a home is
//! reached through `/proc/self/fd`, by a handle of its directory; elsewhere it is refused with advice.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// What `sun_path` holds everywhere, with its NUL: 104 bytes on the BSDs and macOS, 108 on Linux.
const ADDRESS_LEN_MAX: usize = 103;

/// Listens at `path`, mode 0600, in the place of whatever a node that crashed has left there. The caller holds the
/// home's lock, so nobody else listens.
///
/// # Errors
/// What the system says; [`ErrorKind::InvalidFilename`] for a path that is too long for it.
pub fn listen(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let address = Address::of(path)?;
    let listener = UnixListener::bind(&address.path)?;
    // The home is 0700, so nobody else got in before this.
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to a node that listens at `path`.
///
/// # Errors
/// As [`listen`]; [`ErrorKind::NotFound`] and [`ErrorKind::ConnectionRefused`] mean that no node runs.
pub async fn connect(path: &Path) -> Result<UnixStream> {
    let address = Address::of(path)?;
    UnixStream::connect(&address.path).await
}

/// An address that fits, valid as long as the value lives.
struct Address {
    path: PathBuf,
    /// Keeps the number in `path` ours.
    _dir: Option<File>,
}

impl Address {
    fn of(path: &Path) -> Result<Self> {
        if path.as_os_str().len() <= ADDRESS_LEN_MAX {
            return Ok(Self { path: path.to_owned(), _dir: None });
        }
        let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(ErrorKind::InvalidFilename.into());
        };
        if !cfg!(target_os = "linux") {
            let message = "the home's path is too long for a socket; choose a shorter one with --home";
            return Err(Error::new(ErrorKind::InvalidFilename, message));
        }
        let dir = File::open(dir)?;
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _dir: Some(dir) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(dir: &Path) {
        let path = dir.join("node.sock");
        assert_eq!(connect(&path).await.unwrap_err().kind(), ErrorKind::NotFound);
        let listener = listen(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (accepted, connected) = tokio::join!(listener.accept(), connect(&path));
        assert!(accepted.is_ok() && connected.is_ok());

        drop(listener);
        assert_eq!(connect(&path).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        listen(&path).expect("what a crash left is replaced");
    }

    #[tokio::test]
    async fn a_node_is_reached_and_a_dead_one_is_not() {
        check(tempfile::tempdir().unwrap().path()).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_home_may_lie_deeper_than_a_socket_address_is_long() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        check(&deep).await;
    }
}
