//! The values of `config.toml` that are more than a number or a switch.

use serde::Deserialize;
use zerocloud_crdt::projection::NameRules;

/// What becomes of files that a peer replaced or deleted. Written `"none"`, `"keep-days N"` (N from 1 to 36,500) or
/// `"staggered"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Versions {
    /// Nothing is kept.
    None,
    /// Each version stays for so many days.
    KeepDays(u16),
    /// Fewer stay the older they are, and the newest of each file for good: see
    /// [`Retention::Staggered`](crate::tree::versions::Retention::Staggered).
    Staggered,
}

impl Default for Versions {
    fn default() -> Self {
        Self::KeepDays(30)
    }
}

impl TryFrom<String> for Versions {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "none" => return Ok(Self::None),
            "staggered" => return Ok(Self::Staggered),
            _ => {}
        }
        match text.strip_prefix("keep-days ").and_then(|days| days.trim().parse().ok()) {
            Some(days @ 1..=36_500) => Ok(Self::KeepDays(days)),
            _ => Err("versions must be \"none\", \"staggered\" or \"keep-days N\" with N from 1 to 36500"),
        }
    }
}

/// When a large change by a peer waits for the user's word. Written `"normal"`, `"strict"` or `"off"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// Counts what no version policy protects.
    #[default]
    Normal,
    /// Counts everything.
    Strict,
    /// Holds nothing.
    Off,
}

/// Which names files can have in the folders of this device: those that can't stand get others that are read back.
/// Written `"auto"`, `"linux"`, `"macos"` or `"windows"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    /// As each folder's disk is.
    #[default]
    Auto,
    /// Any.
    Linux,
    /// What macOS can have.
    MacOs,
    /// What Windows can have: for a folder that a Windows computer reads, too.
    Windows,
}

impl Names {
    /// The rules; `None` as the disk is.
    pub const fn rules(self) -> Option<NameRules> {
        match self {
            Self::Auto => None,
            Self::Linux => Some(NameRules::Linux),
            Self::MacOs => Some(NameRules::MacOs),
            Self::Windows => Some(NameRules::Windows),
        }
    }
}

/// By which cipher suite this device seals. Written `"auto"`, `1` or `2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "IntegerOrText")]
pub enum Suite {
    /// The faster one on this device.
    #[default]
    Auto,
    /// XChaCha20-Poly1305.
    One,
    /// AES-256-GCM.
    Two,
}

/// Bytes per second, at least 1 KiB. Written as a number of bytes or like `"10 MiB"`; `"10 MiB/s"` is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "IntegerOrText")]
pub struct Rate {
    /// The limit in bytes per second.
    pub bytes_per_second: u64,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or a text in quotes")]
enum IntegerOrText {
    Integer(u64),
    Text(String),
}

impl TryFrom<IntegerOrText> for Suite {
    type Error = &'static str;

    fn try_from(value: IntegerOrText) -> Result<Self, Self::Error> {
        match value {
            IntegerOrText::Integer(1) => Ok(Self::One),
            IntegerOrText::Integer(2) => Ok(Self::Two),
            IntegerOrText::Text(text) if text == "auto" => Ok(Self::Auto),
            _ => Err("suite must be \"auto\", 1 or 2"),
        }
    }
}

impl TryFrom<IntegerOrText> for Rate {
    type Error = &'static str;

    fn try_from(value: IntegerOrText) -> Result<Self, Self::Error> {
        let bytes_per_second = match value {
            IntegerOrText::Integer(bytes) => Some(bytes),
            IntegerOrText::Text(text) => parse_bytes(text.trim_end_matches("/s")),
        };
        match bytes_per_second {
            Some(bytes_per_second @ 1_024..) => Ok(Self { bytes_per_second }),
            _ => Err("a rate must be at least 1024 bytes per second, written like \"10 MiB\""),
        }
    }
}

/// Reads `4096`, `64 KiB`, `10MB`.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text.get(digits.len()..)? {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(unit)
}
