//! The one encoding of all our formats: `postcard`, strict.
//!
//! A decoder accepts exactly the bytes that the encoder would write: it re-encodes what it read and compares, so
//! that no two byte strings mean the same object and nothing can trail. The caller has checked the size cap of the
//! object (see [`crate::limits`]) before it hands bytes to this module; no allocation here grows beyond the length of
//! the bytes at hand.

use serde::{Serialize, de::DeserializeOwned};

use crate::FORMAT;

/// Why bytes are not an object of the expected format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Refused by its length, before anything else was looked at.
    #[error("object of {len} bytes is above the limit of {limit} bytes")]
    TooLong {
        /// Length as received, in bytes.
        len: usize,
        /// The bound, in bytes.
        limit: usize,
    },
    /// The format byte names a version that this program does not read.
    #[error("format version {found} is not read by this version; {}", advice(*found))]
    UnknownFormat {
        /// The version byte.
        found: u8,
    },
    /// Not the canonical encoding of any value.
    #[error("malformed object")]
    Malformed,
}

/// What to do about an object of another format than [`FORMAT`].
pub const fn advice(found: u8) -> &'static str {
    if found > FORMAT {
        "update ZeroCloud"
    } else {
        "it is from a draft of ZeroCloud: make the space anew with a new home; your files stay where they are"
    }
}

/// Encodes `value`.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Serialising our types into memory has no way to fail: no type of ours has a custom serializer that errs.
    postcard::to_allocvec(value).unwrap_or_default()
}

/// Decodes the canonical encoding of a `T` of at most `limit` bytes.
///
/// # Errors
/// [`DecodeError::TooLong`] and [`DecodeError::Malformed`].
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { len: bytes.len(), limit });
    }
    let value = postcard::from_bytes(bytes).map_err(|_| DecodeError::Malformed)?;
    if encode(&value) != bytes {
        return Err(DecodeError::Malformed);
    }
    Ok(value)
}

/// Encodes `value` behind the format byte.
pub fn encode_object<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&encode(value));
    bytes
}

/// Decodes an object that begins with the format byte.
///
/// # Errors
/// As [`decode`], and [`DecodeError::UnknownFormat`] for any other format byte.
pub fn decode_object<T: Serialize + DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { len: bytes.len(), limit });
    }
    match bytes.split_first() {
        Some((&FORMAT, body)) => decode(body, limit),
        Some((&found, _)) => Err(DecodeError::UnknownFormat { found }),
        None => Err(DecodeError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_encoding_is_read() {
        assert_eq!(decode::<u32>(&encode(&300u32), 8), Ok(300));
        assert_eq!(decode::<u32>(&[0x81, 0x00], 8), Err(DecodeError::Malformed), "an overlong varint");
        assert_eq!(decode::<u32>(&[1, 0], 8), Err(DecodeError::Malformed), "a trailing byte");
        assert_eq!(decode::<u32>(&[], 8), Err(DecodeError::Malformed));
        assert_eq!(decode::<[u8; 4]>(&[0; 4], 3), Err(DecodeError::TooLong { len: 4, limit: 3 }));
    }

    #[test]
    fn another_format_byte_is_refused() {
        assert_eq!(decode_object::<u32>(&encode_object(&7u32), 8), Ok(7));
        for found in (0..=u8::MAX).filter(|found| *found != FORMAT) {
            assert_eq!(decode_object::<u32>(&[found, 7], 8), Err(DecodeError::UnknownFormat { found }));
        }
        assert_eq!(advice(FORMAT + 1), "update ZeroCloud");
        assert_ne!(advice(0), advice(FORMAT + 1), "an update does not help with a draft");
    }
}
