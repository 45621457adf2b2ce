//! Tickets: a one-time invitation, as text and as a picture.
//!
//! ```text
//! text         "zc1", then base32 (RFC 4648, lower case, no padding) of:
//!   format     1       0
//!   inviter    32
//!   space      32
//!   secret     16
//!   hints      count varint, each an AddressHint
//!   name       length varint, then the name of the space
//!   role       varint
//!   expiry     varint  seconds since 1970
//!   own_device option  32: BLAKE3 of the nonce; only for a device of one's own person
//!   checksum   4       of BLAKE3 over all before
//! ```
//! Base32, because a ticket is copied, typed and read out: it has one case, no look-alikes of `0` and `1` (the digits
//! are 2 to 7), nothing that a shell, a URL or a file name would escape, and a double click takes all of it. In upper
//! case it is in the alphanumeric set of QR codes, which makes the picture a third smaller; so a ticket wholly in
//! upper case is read, too. The digit of the prefix is the format version and none of base32's own.
//!
//! The checksum finds typing errors. What authenticates is the secret, in [`crate::pairing`].

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::FORMAT;
use crate::address::AddressHint;
use crate::codec::{decode_object, encode_object};
use crate::id::{DeviceId, SpaceId};
use crate::limits::{ADDRESS_HINT_COUNT_MAX, TICKET_LEN_MAX};
use crate::membership::Role;
use crate::name::Name;

/// The 16 secret bytes of a ticket. `Debug` shows none of them.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
pub struct TicketSecret([u8; 16]);

impl std::fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TicketSecret(..)")
    }
}

impl TicketSecret {
    /// Takes bytes over as a secret.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Draws a secret from `rng`.
    pub fn draw(rng: &mut impl rand_core::CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The secret bytes.
    pub const fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

/// A one-time invitation into a space. Only the device that made it honours it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// Who made it: exactly this device is dialled.
    pub inviter: DeviceId,
    /// Into which space.
    pub space: SpaceId,
    /// What proves that one holds the ticket.
    pub secret: TicketSecret,
    /// Where the inviter may be reached: at most [`ADDRESS_HINT_COUNT_MAX`].
    pub hints: Vec<AddressHint>,
    /// The name of the space, for display and as the name of a new folder.
    pub name: Name,
    /// The role that the joiner gets.
    pub role: Role,
    /// Until when the inviter honours it, in seconds since 1970; for display, the inviter's store decides.
    pub expiry_secs: u64,
    /// For a device of one's own: BLAKE3 of the nonce that the inviter shows after T1.
    pub own_device: Option<[u8; 32]>,
}

/// Why a text is no ticket.
///
/// Not open to new variants unseen: whoever shows it is to say for each what can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Something else altogether.
    #[error("this is not a ZeroCloud ticket: it begins with \"zc1\"")]
    NotTicket,
    /// Cut off, mistyped or altered.
    #[error("the ticket is damaged: copy it again, from the first letter to the last")]
    Damaged,
    /// Of a format that this version does not know.
    #[error("the ticket needs a newer version of ZeroCloud: update this device")]
    NewerVersion,
    /// Of the format of a draft.
    #[error("the ticket was made by a draft of ZeroCloud: update the device that made it, and make another")]
    Draft,
    /// A ticket that would be too long to be read.
    #[error("the ticket would be too long: use fewer addresses or a shorter name")]
    TooLong,
}

const PREFIX: &str = "zc";
const CHECKSUM_LEN: usize = 4;

impl Ticket {
    /// The text of the ticket. Whoever reads it can join: show it, and let it go.
    ///
    /// # Errors
    /// [`TicketError::TooLong`] above [`TICKET_LEN_MAX`] bytes or [`ADDRESS_HINT_COUNT_MAX`] hints.
    pub fn to_text(&self) -> Result<Zeroizing<String>, TicketError> {
        let mut bytes = Zeroizing::new(encode_object(self));
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        if bytes.len() > TICKET_LEN_MAX || self.hints.len() > ADDRESS_HINT_COUNT_MAX {
            return Err(TicketError::TooLong);
        }
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LEN_MAX));
        text.push_str(PREFIX);
        text.push(char::from(b'0' + FORMAT));
        data_encoding::BASE32_NOPAD.encode_append(&bytes, &mut text);
        text.make_ascii_lowercase();
        Ok(text)
    }

    /// Reads the text of a ticket, in lower or upper case, with space around it.
    ///
    /// # Errors
    /// One variant of [`TicketError`] for what is wrong.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let is_one_case =
            !text.bytes().any(|b| b.is_ascii_uppercase()) || !text.bytes().any(|b| b.is_ascii_lowercase());
        let prefix = text.get(..PREFIX.len()).ok_or(TicketError::NotTicket)?;
        let version = text.as_bytes().get(PREFIX.len()).copied().filter(u8::is_ascii_digit);
        let Some(version) = version.filter(|_| prefix.eq_ignore_ascii_case(PREFIX)) else {
            return Err(TicketError::NotTicket);
        };
        match version.cmp(&(b'0' + FORMAT)) {
            std::cmp::Ordering::Greater => return Err(TicketError::NewerVersion),
            std::cmp::Ordering::Less => return Err(TicketError::Draft),
            std::cmp::Ordering::Equal => {}
        }
        if !is_one_case || text.len() > TEXT_LEN_MAX {
            return Err(TicketError::Damaged);
        }
        let body = text.get(PREFIX.len() + 1..).ok_or(TicketError::Damaged)?;
        let body = Zeroizing::new(body.to_ascii_uppercase());
        let bytes = data_encoding::BASE32_NOPAD.decode(body.as_bytes()).map_err(|_| TicketError::Damaged)?;
        Self::decode(&Zeroizing::new(bytes))
    }

    fn decode(bytes: &[u8]) -> Result<Self, TicketError> {
        let (object, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(TicketError::Damaged)?;
        if checksum(object) != *sum {
            return Err(TicketError::Damaged);
        }
        let ticket: Self = decode_object(object, TICKET_LEN_MAX).map_err(|_| TicketError::Damaged)?;
        if ticket.hints.len() > ADDRESS_HINT_COUNT_MAX { Err(TicketError::Damaged) } else { Ok(ticket) }
    }
}

/// The prefix and the base32 form of the longest ticket.
const TEXT_LEN_MAX: usize = PREFIX.len() + 1 + (TICKET_LEN_MAX * 8).div_ceil(5);

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = [0; CHECKSUM_LEN];
    blake3::Hasher::new().update(bytes).finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::{DirectAddress, RelayUrl};

    fn ticket() -> Ticket {
        let direct = DirectAddress::new([192, 0, 2, 7].into(), 4433).unwrap();
        Ticket {
            inviter: DeviceId([1; 32]),
            space: SpaceId([2; 32]),
            secret: TicketSecret::new([0xab; 16]),
            hints: vec![AddressHint::Direct(direct)],
            name: Name::parse(b"Photos").unwrap(),
            role: Role::Editor,
            expiry_secs: 1_900_000_000,
            own_device: Some([4; 32]),
        }
    }

    #[test]
    fn a_ticket_is_read_back_in_either_case() {
        let text = ticket().to_text().unwrap();
        assert!(text.starts_with("zc1") && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
        for text in [text.to_string(), text.to_uppercase(), format!("  {}\n", text.as_str())] {
            assert_eq!(encode_object(&Ticket::parse(&text).unwrap()), encode_object(&ticket()));
        }
        let mixed: String = text[..9].to_uppercase() + &text[9..];
        assert_eq!(Ticket::parse(&mixed).unwrap_err(), TicketError::Damaged);
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        let text = ticket().to_text().unwrap();
        for other in ["", "z", "zc", "hello", "zcx", "https://relay/s/1#2", "ÄÖÜ"] {
            assert_eq!(Ticket::parse(other).unwrap_err(), TicketError::NotTicket, "{other}");
        }
        assert_eq!(Ticket::parse(&text.replacen("zc1", "zc2", 1)).unwrap_err(), TicketError::NewerVersion);
        assert_eq!(Ticket::parse(&text.replacen("zc1", "zc0", 1)).unwrap_err(), TicketError::Draft);
        assert_eq!(Ticket::parse(&format!("{}a", text.as_str())).unwrap_err(), TicketError::Damaged);
        assert_eq!(Ticket::parse(&format!("zc1{}", "a".repeat(4000))).unwrap_err(), TicketError::Damaged);
    }

    #[test]
    fn threat_10_each_flipped_bit_and_truncation_of_a_ticket_is_refused() {
        let text = ticket().to_text().unwrap();
        for bit in 0..text.len() * 8 {
            let mut bytes = text.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert!(Ticket::parse(&text).is_err(), "bit {bit}");
        }
        for len in 0..text.len() {
            assert!(Ticket::parse(&text[..len]).is_err(), "{len} letters");
        }
    }

    #[test]
    fn threat_58_the_secret_of_a_ticket_is_not_shown() {
        let shown = format!("{:?} {:#?}", ticket(), ticket());
        assert!(shown.contains("TicketSecret(..)"));
        for form in ["171", "0xab", "abab", "ab, ab"] {
            assert!(!shown.to_lowercase().contains(form), "{form}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_not_written() {
        let relay = AddressHint::Relay(RelayUrl::parse(&format!("https://{}", "r".repeat(200))).unwrap());
        let long = Ticket { hints: vec![relay; 5], ..ticket() };
        assert_eq!(long.to_text().unwrap_err(), TicketError::TooLong);
        let many = Ticket { hints: vec![ticket().hints[0].clone(); 17], ..ticket() };
        assert_eq!(many.to_text().unwrap_err(), TicketError::TooLong);
    }

    proptest! {
        #[test]
        fn any_text_is_a_ticket_or_an_error(text in "(zc1)?[a-z2-7]{0,300}|.*") {
            prop_assert!(Ticket::parse(&text).is_err());
        }

        #[test]
        fn any_bytes_with_a_right_checksum_are_a_ticket_or_an_error(mut bytes: Vec<u8>) {
            bytes.insert(0, FORMAT);
            let sum = checksum(&bytes);
            bytes.extend_from_slice(&sum);
            // Either answer is right; what is read is written the same way.
            if let Ok(ticket) = Ticket::decode(&bytes) {
                prop_assert_eq!(&encode_object(&ticket), &bytes[..bytes.len() - CHECKSUM_LEN]);
            }
        }

        #[test]
        fn every_ticket_is_read_back(secret: [u8; 16], expiry_secs: u64, role in 0usize..4, own_device: Option<[u8; 32]>) {
            let ticket = Ticket {
                secret: TicketSecret::new(secret), expiry_secs, role: Role::ALL[role], own_device, ..ticket()
            };
            let read = Ticket::parse(&ticket.to_text().unwrap()).unwrap();
            prop_assert_eq!(encode_object(&read), encode_object(&ticket));
        }
    }
}
