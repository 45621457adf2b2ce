//! Paths in JSON.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path or name byte for byte. In JSON a string; where it is not UTF-8, `{"hex": "…"}` with all its bytes. Shown
/// on a terminal it is escaped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BytePath(Vec<u8>);

impl BytePath {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a path of this system.
    pub fn to_path(&self) -> PathBuf {
        PathBuf::from(std::ffi::OsString::from_vec(self.0.clone()))
    }
}

impl<T: AsRef<OsStr> + ?Sized> From<&T> for BytePath {
    fn from(path: &T) -> Self {
        Self(path.as_ref().as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for BytePath {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl AsRef<Path> for BytePath {
    fn as_ref(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl std::fmt::Display for BytePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&zerocloud_crdt::name::escape(&self.0))
    }
}

impl std::fmt::Debug for BytePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a path: a text, or {\"hex\": …}")]
enum Form<'a> {
    Text(std::borrow::Cow<'a, str>),
    Bytes { hex: String },
}

impl Serialize for BytePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => Form::Text(text.into()),
            Err(_) => Form::Bytes { hex: data_encoding::HEXLOWER.encode(&self.0) },
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for BytePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(Self(text.into_owned().into_bytes())),
            Form::Bytes { hex } => data_encoding::HEXLOWER
                .decode(hex.as_bytes())
                .map(Self)
                .map_err(|_| serde::de::Error::custom("`hex` must hold pairs of 0-9 and a-f")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_path_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let path = BytePath(bytes);
            let json = serde_json::to_string(&path).unwrap();
            prop_assert_eq!(serde_json::from_str::<BytePath>(&json).unwrap(), path);
        }
    }

    #[test]
    fn text_is_a_string_and_other_bytes_are_hexadecimal() {
        assert_eq!(serde_json::to_string(&BytePath::from("Größe\n")).unwrap(), "\"Größe\\n\"");
        assert_eq!(serde_json::to_string(&BytePath(vec![b'a', 0xff])).unwrap(), r#"{"hex":"61ff"}"#);
        assert!(serde_json::from_str::<BytePath>(r#"{"hex":"6"}"#).is_err());
        assert!(serde_json::from_str::<BytePath>("7").is_err());
    }

    #[test]
    fn threat_38_what_is_shown_is_escaped() {
        assert_eq!(BytePath(b"a\x1b[2J\xff".to_vec()).to_string(), "a\\u{1b}[2J\\xff");
    }
}
