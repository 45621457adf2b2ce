//! The one encoding of all our formats: `postcard`, strict.
//!
//! A decoder accepts exactly the bytes that the encoder would write: it re-encodes what it read and compares, so
//! that no two byte strings mean the same object and nothing can trail. The caller has checked the size cap of the
//! object (see [`crate::limits`]) before it hands bytes to this module; no allocation here grows beyond the length of
//! the bytes at hand.

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crate::FORMAT;

/// What is set aside for an encoding before its length is known, in bytes: a row or a small message.
const CAPACITY: usize = 256;

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
    encode_behind(Vec::with_capacity(CAPACITY), value)
}

/// Encodes `value` behind what `bytes` holds already. Where much is to come, room for it set aside before spares copies.
pub(crate) fn encode_behind<T: Serialize>(bytes: Vec<u8>, value: &T) -> Vec<u8> {
    // Serialising our types into memory has no way to fail: no type of ours has a custom serializer that errs.
    postcard::serialize_with_flavor(value, Appended(bytes)).unwrap_or_default()
}

/// Decodes the canonical encoding of a `T` of at most `limit` bytes.
///
/// # Errors
/// [`DecodeError::TooLong`] and [`DecodeError::Malformed`].
pub fn decode<'b, T: Serialize + Deserialize<'b>>(bytes: &'b [u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { len: bytes.len(), limit });
    }
    let value = postcard::from_bytes(bytes).map_err(|_| DecodeError::Malformed)?;
    // Encoded again only to be compared: nothing is kept of it.
    let left = postcard::serialize_with_flavor(&value, Compared(bytes)).map_err(|_| DecodeError::Malformed)?;
    if left.is_empty() { Ok(value) } else { Err(DecodeError::Malformed) }
}

/// Takes an encoding in behind other bytes.
struct Appended(Vec<u8>);

impl Flavor for Appended {
    type Output = Vec<u8>;

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<Vec<u8>> {
        Ok(self.0)
    }
}

/// Compares an encoding with bytes as it comes, and fails where they differ. Gives what is left of the bytes.
struct Compared<'b>(&'b [u8]);

impl<'b> Flavor for Compared<'b> {
    type Output = &'b [u8];

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0 = self.0.strip_prefix(data).ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        match self.0.split_first() {
            Some((first, rest)) if *first == data => self.0 = rest,
            _ => return Err(postcard::Error::SerializeBufferFull),
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<&'b [u8]> {
        Ok(self.0)
    }
}

/// Encodes `value` behind the format byte.
pub fn encode_object<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CAPACITY);
    bytes.push(FORMAT);
    encode_behind(bytes, value)
}

/// Decodes an object that begins with the format byte.
///
/// # Errors
/// As [`decode`], and [`DecodeError::UnknownFormat`] for any other format byte.
pub fn decode_object<'b, T: Serialize + Deserialize<'b>>(bytes: &'b [u8], limit: usize) -> Result<T, DecodeError> {
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
