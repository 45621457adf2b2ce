//! Names: the gate that every name passes, and how names are shown.
//!
//! A path is a list of names, never a string with separators. What a volume can't hold is a matter of projection,
//! not of this gate.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::NAME_LEN_MAX;

/// The name of our control directory in a space's root.
pub const CONTROL: &str = ".zerocloud";

/// A name in a directory, kept byte for byte as its maker's disk gave it: 1 to 255 bytes without NUL and `/`, not
/// `.`, `..` nor any form of the control directory. UTF-8 is not required.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why bytes are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No bytes at all.
    #[error("a name can't be empty")]
    Empty,
    /// Above [`NAME_LEN_MAX`].
    #[error("a name of {len} bytes is above the limit of {NAME_LEN_MAX} bytes")]
    TooLong {
        /// Length in bytes.
        len: usize,
    },
    /// `.` or `..`, which mean a directory itself or its parent.
    #[error("`.` and `..` are no names")]
    Dots,
    /// A separator or NUL inside.
    #[error("a name can't hold `/` or NUL")]
    Separator,
    /// A form of our control directory or of something that some volume would take for it.
    #[error("the name is reserved for ZeroCloud's control directory")]
    Reserved,
}

impl Name {
    /// The one gate for every name from log, network, ticket or import.
    ///
    /// # Errors
    /// One variant of [`NameError`] for each rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, NameError> {
        match bytes {
            [] => Err(NameError::Empty),
            _ if bytes.len() > NAME_LEN_MAX => Err(NameError::TooLong { len: bytes.len() }),
            b"." | b".." => Err(NameError::Dots),
            _ if bytes.iter().any(|&byte| byte == b'/' || byte == 0) => Err(NameError::Separator),
            _ if is_control(bytes) => Err(NameError::Reserved),
            _ => Ok(Self(bytes.into())),
        }
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whether some volume would take `bytes` for the control directory: any case, ignorable characters inside (HFS+
/// drops them), trailing dots and spaces (Windows drops them), a stream suffix, or its 8.3 short forms.
fn is_control(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut folded: String =
        text.chars().filter(|c| !is_ignorable(*c)).flat_map(|c| unwidened(c).to_lowercase()).collect();
    if let Some(colon) = folded.find(':') {
        folded.truncate(colon);
    }
    let folded = folded.trim_end_matches(['.', ' ']);
    folded == CONTROL || is_short_form(folded)
}

/// NTFS makes `ZEROCL~1` of `.zerocloud`: up to six letters of the name without its leading dot, or two letters and
/// four hexadecimal digits of a checksum, then `~` and a number.
fn is_short_form(folded: &str) -> bool {
    let Some((stem, number)) = folded.split_once('~') else { return false };
    let is_number = !number.is_empty() && number.len() <= 6 && number.bytes().all(|b| b.is_ascii_digit());
    let is_hashed = stem.len() == 6 && stem.starts_with("ze") && stem.bytes().skip(2).all(|b| b.is_ascii_hexdigit());
    is_number && (stem == "zerocl" || stem == "zeroc" || is_hashed)
}

/// Full-width Latin letters and the Kelvin-like compatibility letters that fold to ASCII under NFKC.
fn unwidened(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        _ => c,
    }
}

/// Characters that HFS+ ignores in names, and others that show nothing.
pub(crate) const fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Escapes bytes for a terminal, a log or a page: controls, invisible and bidirectional characters, the backslash and
/// ill-formed UTF-8 become `\n`, `\u{202e}`, `\xff` and the like; all else stays as it is.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            if c.is_control() || is_ignorable(c) || matches!(c, '\u{2028}' | '\u{2029}' | '\\') {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in part.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        Self::parse(&bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn threat_33_what_could_leave_a_directory_is_no_name() {
        for (bytes, error) in [
            (&b""[..], NameError::Empty),
            (b".", NameError::Dots),
            (b"..", NameError::Dots),
            (b"a/b", NameError::Separator),
            (b"/", NameError::Separator),
            (b"../x", NameError::Separator),
            (b"a\0", NameError::Separator),
            (&[b'x'; 256], NameError::TooLong { len: 256 }),
        ] {
            assert_eq!(Name::parse(bytes), Err(error));
        }
        for bytes in [&b"..."[..], b"..dots", b"a\\b", b"C:", b"new\nline", b"\xff\xfe", &[b'x'; 255], b" ", b"CON"] {
            assert_eq!(Name::parse(bytes).unwrap().as_bytes(), bytes);
        }
    }

    #[test]
    fn threat_41_no_form_of_the_control_directory_is_a_name() {
        for text in [
            ".zerocloud",
            ".ZeroCloud",
            ".ZEROCLOUD",
            ".zerocloud.",
            ".zerocloud . .",
            ".zerocloud ",
            ".zero\u{200d}cloud",
            "\u{feff}.zerocloud",
            ".zerocloud::$INDEX_ALLOCATION",
            ".\u{ff5a}erocloud",
            "ZEROCL~1",
            "zerocl~12",
            "ZE1A2B~1",
        ] {
            assert_eq!(Name::parse(text.as_bytes()), Err(NameError::Reserved), "{text:?}");
        }
        for text in [".zerocloudignore", "zerocloud", ".zerocloud2", "zerocl", "PROGRA~1"] {
            assert!(Name::parse(text.as_bytes()).is_ok(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn threat_33_any_bytes_are_one_component_or_no_name(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'.'), Just(b'/'), Just(0)], 0..300),
        ) {
            let is_plain = !bytes.is_empty() && bytes.len() <= NAME_LEN_MAX && bytes != b"." && bytes != b".."
                && !bytes.contains(&b'/') && !bytes.contains(&0);
            match Name::parse(&bytes) {
                Ok(name) => prop_assert!(is_plain && name.as_bytes() == bytes),
                Err(error) => prop_assert!(!is_plain || error == NameError::Reserved),
            }
            // From a peer or the disk it is the same gate.
            let decoded = crate::codec::decode::<Name>(&crate::codec::encode(&serde_bytes::Bytes::new(&bytes)), 400);
            prop_assert_eq!(decoded.is_ok(), Name::parse(&bytes).is_ok());
        }

        #[test]
        fn threat_41_the_control_directory_is_no_name_however_it_is_written(
            upper in proptest::collection::vec(any::<bool>(), 10),
            ignored in prop::sample::select(vec!["", "\u{200d}", "\u{feff}", "\u{200c}"]),
            at in 0usize..11,
            tail in "[. ]{0,4}(:[a-z$:]{0,9})?",
        ) {
            let letters = ".zerocloud".chars().zip(upper);
            let mut name: Vec<char> =
                letters.map(|(letter, is_upper)| if is_upper { letter.to_ascii_uppercase() } else { letter }).collect();
            name.splice(at.min(name.len())..at.min(name.len()), ignored.chars());
            let name: String = name.into_iter().chain(tail.chars()).collect();
            prop_assert_eq!(Name::parse(name.as_bytes()), Err(NameError::Reserved), "{:?}", name);
        }
    }

    #[test]
    fn what_would_fool_a_reader_is_escaped() {
        assert_eq!(escape("rtl-\u{202e}gnp.exe".as_bytes()), "rtl-\\u{202e}gnp.exe");
        assert_eq!(escape(b"a\nb\x1b[0m\xff\\"), "a\\nb\\u{1b}[0m\\xff\\\\");
        assert_eq!(escape("Größe 漢".as_bytes()), "Größe 漢");
    }
}
