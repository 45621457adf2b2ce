//! `config.toml` in the home: its types, defaults and limits.
//!
//! Every key is optional; an unknown key or a value out of range is an error that names file, line and key, because
//! a switch that silently does nothing is worse than a node that does not start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

mod relay;
mod value;

pub use relay::RelayAt;
pub use value::{Guard, Names, Rate, Suite, Versions};

/// What [`Config::load_or_create`] writes into a new home: every key with its default, commented out.
pub const TEMPLATE: &str = include_str!("config/template.toml");

/// Bounds of `debounce_ms`: below, a burst of writes becomes a burst of versions; above, edits seem lost.
const DEBOUNCE_MS: std::ops::RangeInclusive<u32> = 1..=60_000;

/// The node's settings. [`Config::default`] is what an empty file means.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// How this device is called where others see it. Default: the host's name.
    pub name: Option<String>,
    /// The address and port, UDP and TCP, on which peers reach this node. Default: all addresses, a free port.
    pub listen: Option<SocketAddr>,
    /// Whether the node connects to its peers directly. Off and without relays it works alone. Default: on.
    pub direct: bool,
    /// Relays of the user's own. Default: none, and then none is asked.
    pub relays: Vec<RelayAt>,
    /// Whether peers are looked for on the local network (mDNS, broadcast). Off: no packet leaves for an address
    /// that the user did not give. Default: on.
    pub lan: bool,
    /// Most that is sent to all peers together. Default: no limit.
    pub upload_max: Option<Rate>,
    /// Most that is fetched from all peers together. Default: no limit.
    pub download_max: Option<Rate>,
    /// How long a file that is still open must rest before it is scanned, in milliseconds, 1 to 60,000. A file that
    /// was closed is taken after 10 ms. Default: 100.
    pub debounce_ms: u32,
    /// What becomes of files that a peer replaced or deleted. Default: kept for 30 days.
    pub versions: Versions,
    /// Whether two changes of one text that were made at the same time become one text where they do not touch each
    /// other. Off: both stay, one as a conflict copy. Default: on.
    pub merge: bool,
    /// When a large change by a peer waits for the user. Default: normal.
    pub guard: Guard,
    /// Which names files can have in the folders of this device. Default: as each folder's disk is.
    pub names: Names,
    /// By which cipher suite this device seals; every device opens both. Default: the faster one here.
    pub suite: Suite,
    /// Whether each folder's thread gives up to reach anything but its folder ([`crate::confine`]). Default: on.
    pub landlock: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            listen: None,
            direct: true,
            relays: Vec::new(),
            lan: true,
            upload_max: None,
            download_max: None,
            debounce_ms: 100,
            versions: Versions::default(),
            merge: true,
            guard: Guard::default(),
            names: Names::default(),
            suite: Suite::default(),
            landlock: true,
        }
    }
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can't be read or, for a new home, written.
    #[error("{} can't be used ({source}); check its owner and mode, and what is free on its disk", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No TOML, an unknown key, or a value of another type.
    #[error("{} is not understood; mend it: {message}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, the line itself and what is wrong with it.
        message: String,
    },
    /// A value of the right type that makes no sense.
    #[error("{}: `{key}` {reason}; change it there", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is asked of its value.
        reason: &'static str,
    },
}

impl Config {
    /// Reads the file at `path`; where there is none, writes [`TEMPLATE`] and gives the defaults.
    ///
    /// # Errors
    /// As [`Config::load`], and [`ConfigError::Io`] when the template can't be written.
    pub fn load_or_create(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::File::create_new(path) {
            Ok(mut file) => std::io::Write::write_all(&mut file, TEMPLATE.as_bytes())
                .map(|()| Self::default())
                .map_err(|source| ConfigError::Io { path: path.to_owned(), source }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::load(path),
            Err(source) => Err(ConfigError::Io { path: path.to_owned(), source }),
        }
    }

    /// Reads the file at `path`; where there is none, gives the defaults.
    ///
    /// # Errors
    /// All variants of [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Io { path: path.to_owned(), source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })?;
        let out_of_range = |key, reason| Err(ConfigError::OutOfRange { path: path.to_owned(), key, reason });
        if !DEBOUNCE_MS.contains(&config.debounce_ms) {
            return out_of_range("debounce_ms", "must be a number of milliseconds from 1 to 60000");
        }
        if !config.relays.iter().all(RelayAt::is_reachable) {
            return out_of_range(
                "relays",
                "must be a list of relays like \"https://relay.example.org\" or { url = \"https://203.0.113.7\", \
                 certificate = \"relay.pem\" }, with a discovery_port above 0 if one is given",
            );
        }
        for relay in &mut config.relays {
            relay.resolve_beside(path);
        }
        if config.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > NAME_LEN_MAX) {
            return out_of_range("name", "must have 1 to 64 bytes");
        }
        Ok(config)
    }
}

/// A device's name in bytes: a label of its log, so the same bound.
const NAME_LEN_MAX: usize = zerocloud_crdt::limits::LABEL_LEN_MAX;

#[cfg(test)]
mod tests;
