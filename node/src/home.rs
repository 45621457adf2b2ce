//! The home: the directory in which a node keeps what is its own.
//!
//! ```text
//! HOME/              0700, owned by the user who runs the node
//!   config.toml      settings, the user's to edit                 (crate::config)
//!   lock             held by flock while a node runs; its pid     (lock)
//!   secrets          seeds and epoch secrets, 0600                (secrets)
//!   spaces/ID.redb   a space's store: index, log, base, versions  (crate::store)
//!   port             the UDP port of last time
//!   node.sock        the local API, 0600                          (crate::api::socket)
//! ```
//! Nothing of a user's files lies here. What is in the store and what the API says is not decided here.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zerocloud_crdt::id::SpaceId;

mod complete;
mod fingerprint;
mod lock;
mod process;
mod secrets;

pub(crate) use complete::put_complete;
pub use fingerprint::Fingerprint;
pub use lock::{HomeLock, LockError};
pub use process::{allow_many_open_files, forbid_core_dumps};
pub use secrets::{Recovery, Secrets, SecretsError};

const CONFIG: &str = "config.toml";
const LOCK: &str = "lock";
const SECRETS: &str = "secrets";
const SPACES: &str = "spaces";
const STORE_EXTENSION: &str = "redb";
const SOCKET: &str = "node.sock";
const PORT: &str = "port";

/// A home's directory. Having the value does not mean that this process may run a node on it: [`Home::lock`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    dir: PathBuf,
}

/// Why a directory can't be a home.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Neither `--home` nor anything that a default could be made of.
    #[error(
        "there is no default place for a home, as neither XDG_DATA_HOME nor HOME is set; choose a directory with --home"
    )]
    NoDefault,
    /// There is none yet.
    #[error("there is no home at {}; `zerocloud start` makes one", dir.display())]
    Absent {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A file, or a directory that holds something else.
    #[error("{} is no ZeroCloud home, but holds other files; choose an empty or new directory with --home or ZEROCLOUD_HOME", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
    },
    /// Secrets of one user must not be written by another.
    #[error("{} belongs to another user (id {owner}); run zerocloud as its owner, or choose another home with --home", dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// The system refuses.
    #[error("{} can't be used ({source}); check its owner and mode, and what is free on its disk", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Home {
    /// The home's directory: `given`, or the platform's default: `$XDG_DATA_HOME/zerocloud`, else
    /// `~/.local/share/zerocloud` (macOS: `~/Library/Application Support/zerocloud`). Looks at no disk.
    ///
    /// # Errors
    /// [`HomeError::NoDefault`].
    pub fn locate(given: Option<&Path>) -> Result<PathBuf, HomeError> {
        Self::locate_in(given, |name| std::env::var_os(name).map(PathBuf::from))
    }

    fn locate_in(given: Option<&Path>, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, HomeError> {
        if let Some(dir) = given {
            return Ok(dir.to_owned());
        }
        // The XDG specification: a relative value is invalid and must be ignored.
        if let Some(data) = variable("XDG_DATA_HOME").filter(|dir| dir.is_absolute()) {
            return Ok(data.join("zerocloud"));
        }
        let user = variable("HOME").filter(|dir| dir.is_absolute()).ok_or(HomeError::NoDefault)?;
        let data = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
        Ok(user.join(data).join("zerocloud"))
    }

    /// Opens the home at `dir`.
    ///
    /// # Errors
    /// All of [`HomeError`] but `NoDefault`.
    pub fn open(dir: &Path) -> Result<Self, HomeError> {
        let metadata = match std::fs::metadata(dir) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(HomeError::Absent { dir: dir.to_owned() });
            }
            Err(source) => return Err(HomeError::Io { dir: dir.to_owned(), source }),
        };
        let dir = std::path::absolute(dir).map_err(|source| HomeError::Io { dir: dir.to_owned(), source })?;
        if !metadata.is_dir() || !is_home_or_empty(&dir)? {
            return Err(HomeError::Foreign { dir });
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(HomeError::NotOurs { dir, owner: metadata.uid() });
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700))
                .map_err(|source| HomeError::Io { dir: dir.clone(), source })?;
        }
        Ok(Self { dir })
    }

    /// Opens the home at `dir`, and makes the directory if there is none.
    ///
    /// # Errors
    /// As [`Home::open`].
    pub fn open_or_create(dir: &Path) -> Result<Self, HomeError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .or_else(|error| if dir.exists() { Ok(()) } else { Err(error) })
            .map_err(|source| HomeError::Io { dir: dir.to_owned(), source })?;
        Self::open(dir)
    }

    /// The directory itself, absolute.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where [`crate::config::Config`] lies.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join(CONFIG)
    }

    /// Where the store of a space lies. The directory is made by [`Self::make_space_stores`].
    pub fn store_path(&self, space: SpaceId) -> PathBuf {
        self.dir.join(SPACES).join(space.to_string()).with_extension(STORE_EXTENSION)
    }

    /// Makes the directory of the spaces' stores, if there is none.
    ///
    /// # Errors
    /// What the system says.
    pub fn make_space_stores(&self) -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(self.dir.join(SPACES))
    }

    /// The spaces that have a store here, ascending. Other files in the directory are left alone.
    ///
    /// # Errors
    /// What the system says of the directory.
    pub fn stored_spaces(&self) -> std::io::Result<Vec<SpaceId>> {
        let entries = match std::fs::read_dir(self.dir.join(SPACES)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut spaces = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == STORE_EXTENSION) {
                spaces.extend(path.file_stem().and_then(|stem| SpaceId::from_hex(stem.to_str()?)));
            }
        }
        spaces.sort_unstable();
        Ok(spaces)
    }

    /// Where the local API listens. Possibly longer than a socket's address can be: see [`crate::api::socket`].
    pub fn socket_path(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// The UDP port of last time, if one was kept: taken again, so that what others know of this device stays true.
    pub fn last_port(&self) -> Option<u16> {
        std::fs::read_to_string(self.dir.join(PORT)).ok()?.trim().parse().ok()
    }

    /// Keeps the UDP port for the next time.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep_port(&self, port: u16) -> std::io::Result<()> {
        std::fs::write(self.dir.join(PORT), format!("{port}\n"))
    }

    /// Takes the home for this process, until the lock is dropped or the process ends.
    ///
    /// # Errors
    /// [`LockError::Running`] with the holder's process id, and [`LockError::Io`].
    pub fn lock(&self) -> Result<HomeLock, LockError> {
        HomeLock::take(&self.dir.join(LOCK))
    }

    /// Reads the secrets; `None` where the home has none yet.
    ///
    /// # Errors
    /// [`SecretsError`].
    pub fn load_secrets(&self) -> Result<Option<Secrets>, SecretsError> {
        let secrets = secrets::load(&self.dir.join(SECRETS))?;
        if secrets.is_none() && self.stored_spaces().is_ok_and(|spaces| !spaces.is_empty()) {
            return Err(SecretsError::Lost { path: self.dir.join(SECRETS) });
        }
        Ok(secrets)
    }

    /// Replaces the secrets, durably, or leaves the old ones as they are. Only the holder of the lock may call it.
    ///
    /// # Errors
    /// [`SecretsError::Io`].
    pub fn save_secrets(&self, secrets: &Secrets) -> Result<(), SecretsError> {
        secrets::save(&self.dir, SECRETS, secrets)
    }

    /// What tells this home from a copy of it.
    ///
    /// # Errors
    /// What the system says of the directory.
    pub fn fingerprint(&self) -> std::io::Result<Fingerprint> {
        Fingerprint::of(&self.dir)
    }
}

/// This host's name, for a device that was given none: at most 64 bytes, never empty.
pub fn device_name_default() -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    let host = host.split('.').next().unwrap_or_default();
    let end = (0..=zerocloud_crdt::limits::LABEL_LEN_MAX.min(host.len())).rev().find(|&end| host.is_char_boundary(end));
    match host.get(..end.unwrap_or(0)) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => "device".to_owned(),
    }
}

/// Guards a directory full of other things (`--home ~`) from becoming a home, and from its permissions being changed.
fn is_home_or_empty(dir: &Path) -> Result<bool, HomeError> {
    if [CONFIG, LOCK, SECRETS].iter().any(|name| dir.join(name).is_file()) {
        return Ok(true);
    }
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(source) => Err(HomeError::Io { dir: dir.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_platforms_data_directory() {
        let with = |given: Option<&str>, set: &[(&str, &str)]| {
            let variable = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value));
            Home::locate_in(given.map(Path::new), variable).ok()
        };
        let data = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
        assert_eq!(with(Some("zc"), &[("HOME", "/home/anna")]), Some("zc".into()));
        assert_eq!(with(None, &[("HOME", "/a"), ("XDG_DATA_HOME", "/d")]), Some("/d/zerocloud".into()));
        assert_eq!(with(None, &[("HOME", "/a"), ("XDG_DATA_HOME", "d")]), Some(format!("/a/{data}/zerocloud").into()));
        assert_eq!(with(None, &[("HOME", "")]), None);
    }

    #[test]
    fn a_home_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let fresh = dir.path().join("deep/down/zc");
        assert!(matches!(Home::open(&fresh), Err(HomeError::Absent { .. })));
        let home = Home::open_or_create(&fresh).unwrap();
        assert_eq!(std::fs::metadata(home.dir()).unwrap().mode() & 0o777, 0o700);

        std::fs::set_permissions(&fresh, PermissionsExt::from_mode(0o755)).unwrap();
        Home::open(&fresh).unwrap();
        assert_eq!(std::fs::metadata(&fresh).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_of_other_things_becomes_no_home() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(dir.path().join("photo.jpg"), b"x").unwrap();
        assert!(matches!(Home::open_or_create(dir.path()), Err(HomeError::Foreign { .. })));
        assert_eq!(std::fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o755);
        assert!(matches!(Home::open_or_create(&dir.path().join("photo.jpg")), Err(HomeError::Foreign { .. })));

        std::fs::write(dir.path().join(CONFIG), b"lan = false").unwrap();
        Home::open_or_create(dir.path()).expect("settings may be there before the first start");
    }

    #[test]
    fn a_device_has_a_name() {
        let name = device_name_default();
        assert!(!name.is_empty() && name.len() <= 64 && !name.contains('.'));
    }
}
