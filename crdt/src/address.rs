//! Where a device can be reached: hints, and the signed record of a device's own.
//!
//! ```text
//! AddressHint    varint 0: ip (varint 0: 4 bytes | 1: 16 bytes), port varint
//!                varint 1: length varint, then the URL of a relay
//! AddressRecord
//!   format       1     0
//!   body_len     varint
//!   body:
//!     device     32
//!     counter    varint  grows with each record of the device
//!     hints      count varint, each an AddressHint
//!   scheme       varint 0 = Ed25519
//!   signature    64      by the device, over the body, about no space
//! ```
//! Hints are only ever hints: who answers there must still prove the device's key.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::{DecodeError, decode, encode};
use crate::envelope::Envelope;
use crate::id::{DeviceId, SpaceId};
use crate::keys::DeviceKeys;
use crate::limits::{ADDRESS_HINT_COUNT_MAX, ADDRESS_RECORD_LEN_MAX, RELAY_URL_LEN_MAX};
use crate::sign::Signed;

/// One place where a device may be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AddressHint {
    /// An IP address and UDP port.
    Direct(DirectAddress),
    /// By way of a relay.
    Relay(RelayUrl),
}

/// An address to which a packet can be sent: a port above zero, an address that is one host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct DirectAddress {
    ip: IpAddr,
    port: u16,
}

/// The URL of a relay: `https://` (or `http://`), then printable ASCII without quotes, spaces, `<` and `>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RelayUrl(String);

/// Why this is no address hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Port zero, or an address that is no single host's.
    #[error("nobody can be reached at this address")]
    Unreachable,
    /// No URL of a relay.
    #[error("a relay's address begins with https:// and has at most {RELAY_URL_LEN_MAX} characters")]
    NotRelay,
}

impl DirectAddress {
    /// Takes an address; scope and flow of IPv6 are local matters and left out.
    ///
    /// # Errors
    /// [`AddressError::Unreachable`] for port 0 and for unspecified, broadcast and multicast addresses: a hint must
    /// not make us send to a whole network.
    pub fn new(ip: IpAddr, port: u16) -> Result<Self, AddressError> {
        let is_broadcast = matches!(ip.to_canonical(), IpAddr::V4(ip) if ip.is_broadcast());
        let ip_plain = ip.to_canonical();
        if port == 0 || ip_plain.is_unspecified() || ip_plain.is_multicast() || is_broadcast {
            return Err(AddressError::Unreachable);
        }
        Ok(Self { ip, port })
    }

    /// As the standard library's type.
    pub const fn to_socket(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

impl RelayUrl {
    /// Takes a URL.
    ///
    /// # Errors
    /// [`AddressError::NotRelay`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'\\' | b'`');
        let is_host = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'));
        if text.len() > RELAY_URL_LEN_MAX || !is_host || !text.bytes().all(is_plain) {
            return Err(AddressError::NotRelay);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text of the URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for DirectAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (ip, port) = <(IpAddr, u16)>::deserialize(deserializer)?;
        Self::new(ip, port).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for RelayUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// What a device says of where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRecord {
    /// Whose addresses these are.
    pub device: DeviceId,
    /// Grows with each record of the device.
    pub counter: u64,
    /// Where it may be reached, best first: at most [`ADDRESS_HINT_COUNT_MAX`].
    pub hints: Vec<AddressHint>,
}

/// Why bytes are no address record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressRecordError {
    /// Not of this format.
    #[error("address record: {0}")]
    Decode(#[from] DecodeError),
    /// The device did not sign it.
    #[error("address record is not signed by its device")]
    BadSignature,
    /// More hints than allowed.
    #[error("address record with more than {ADDRESS_HINT_COUNT_MAX} addresses")]
    TooMany,
}

impl AddressRecord {
    /// Signs the addresses of the device with these keys. Hints beyond [`ADDRESS_HINT_COUNT_MAX`] are left out.
    pub fn make(keys: &DeviceKeys, counter: u64, mut hints: Vec<AddressHint>) -> Vec<u8> {
        hints.truncate(ADDRESS_HINT_COUNT_MAX);
        let record = Self { device: keys.id(), counter, hints };
        Envelope::seal(&keys.signing_key(), Signed::Address, SpaceId::NONE, encode(&record))
    }

    /// Reads and verifies a record. Whether anything is asked of its device is the caller's to know.
    ///
    /// # Errors
    /// One variant of [`AddressRecordError`] for each check.
    pub fn decode(bytes: &[u8]) -> Result<Self, AddressRecordError> {
        let envelope = Envelope::decode(bytes, ADDRESS_RECORD_LEN_MAX)?;
        let (device, _) = postcard::take_from_bytes::<DeviceId>(&envelope.body).map_err(|_| DecodeError::Malformed)?;
        let verified = envelope.verify(device, Signed::Address, SpaceId::NONE);
        if verified.is_err() && !crate::mutated!(UnsignedAddresses) {
            return Err(AddressRecordError::BadSignature);
        }
        let record: Self = decode(&envelope.body, ADDRESS_RECORD_LEN_MAX)?;
        if record.hints.len() > ADDRESS_HINT_COUNT_MAX { Err(AddressRecordError::TooMany) } else { Ok(record) }
    }

    /// Whether this is news to who has `known` of the same device. An equal or smaller counter is a replay.
    pub fn replaces(&self, known: &Self) -> bool {
        self.device == known.device && self.counter > known.counter
    }
}

/// An address record with the bytes that its device has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAddresses {
    record: AddressRecord,
    bytes: Vec<u8>,
}

impl SignedAddresses {
    /// Reads and verifies a record.
    ///
    /// # Errors
    /// Those of [`AddressRecord::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self, AddressRecordError> {
        Ok(Self { record: AddressRecord::decode(bytes)?, bytes: bytes.to_vec() })
    }

    /// What it says.
    pub const fn record(&self) -> &AddressRecord {
        &self.record
    }

    /// As it was signed.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::Secret;

    fn hints() -> Vec<AddressHint> {
        let direct = |text: &str| {
            let address: SocketAddr = text.parse().unwrap();
            AddressHint::Direct(DirectAddress::new(address.ip(), address.port()).unwrap())
        };
        let relay = AddressHint::Relay(RelayUrl::parse("https://relay.example:7843/").unwrap());
        vec![direct("192.0.2.7:4433"), direct("[2001:db8::7]:65535"), relay]
    }

    #[test]
    fn threat_47_a_hint_is_one_host_or_a_relay() {
        for text in ["0.0.0.0:1", "[::]:1", "255.255.255.255:1", "224.0.0.251:5353", "[ff02::1]:1", "192.0.2.7:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(DirectAddress::new(address.ip(), address.port()), Err(AddressError::Unreachable), "{text}");
        }
        let mapped: SocketAddr = "[::ffff:255.255.255.255]:9".parse().unwrap();
        assert_eq!(DirectAddress::new(mapped.ip(), mapped.port()), Err(AddressError::Unreachable));
        let long = format!("https://{}", "a".repeat(RELAY_URL_LEN_MAX));
        for text in
            ["", "https://", "https:///x", "ftp://a", "file:///etc", "https://a b", "https://a\n", "https://ä", &long]
        {
            assert_eq!(RelayUrl::parse(text), Err(AddressError::NotRelay), "{text}");
        }
    }

    #[test]
    fn a_hint_that_is_refused_by_itself_is_refused_in_a_record() {
        let bad = encode(&(0u8, (IpAddr::from([0, 0, 0, 0]), 9u16)));
        assert_eq!(decode::<AddressHint>(&bad, 64), Err(DecodeError::Malformed));
        let good = encode(&hints()[0]);
        assert_eq!(decode::<AddressHint>(&good, 64), Ok(hints()[0].clone()));
    }

    #[test]
    fn threat_10_each_flipped_bit_and_truncation_is_refused() {
        let keys = DeviceKeys::from_seed(Secret::new([3; 32]));
        let bytes = AddressRecord::make(&keys, 7, hints());
        let expected = AddressRecord { device: keys.id(), counter: 7, hints: hints() };
        assert_eq!(AddressRecord::decode(&bytes), Ok(expected));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(AddressRecord::decode(&bytes).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(AddressRecord::decode(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn only_a_higher_counter_is_news() {
        let record = |seed, counter| AddressRecord { device: DeviceId([seed; 32]), counter, hints: hints() };
        assert!(record(1, 2).replaces(&record(1, 1)));
        assert!(!record(1, 2).replaces(&record(1, 2)));
        assert!(!record(1, 1).replaces(&record(1, 2)));
        assert!(!record(2, 9).replaces(&record(1, 2)));
    }

    #[test]
    fn more_hints_than_allowed_are_refused() {
        let keys = DeviceKeys::from_seed(Secret::new([3; 32]));
        let record = AddressRecord { device: keys.id(), counter: 1, hints: vec![hints()[0].clone(); 17] };
        let bytes = Envelope::seal(&keys.signing_key(), Signed::Address, SpaceId::NONE, encode(&record));
        assert_eq!(AddressRecord::decode(&bytes), Err(AddressRecordError::TooMany));
        let made = AddressRecord::make(&keys, 1, record.hints);
        assert_eq!(AddressRecord::decode(&made).unwrap().hints.len(), ADDRESS_HINT_COUNT_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes: Vec<u8>) {
            prop_assert!(AddressRecord::decode(&bytes).is_err());
            prop_assert!(SignedAddresses::decode(&bytes).is_err());
        }

        #[test]
        fn any_body_that_a_device_signs_is_a_record_or_an_error(body: Vec<u8>) {
            let keys = DeviceKeys::from_seed(Secret::new([3; 32]));
            let body = [&keys.id().as_bytes()[..], &body].concat();
            let bytes = Envelope::seal(&keys.signing_key(), Signed::Address, SpaceId::NONE, body);
            if let Ok(record) = AddressRecord::decode(&bytes) {
                prop_assert_eq!(AddressRecord::make(&keys, record.counter, record.hints), bytes);
            }
        }

        #[test]
        fn any_text_is_a_relay_or_an_error(text in "(https?://)?.{0,300}") {
            if let Ok(url) = RelayUrl::parse(&text) {
                prop_assert_eq!(url.as_str(), &text);
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()) && text.len() <= RELAY_URL_LEN_MAX);
            }
        }
    }
}
