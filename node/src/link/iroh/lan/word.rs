//! What is said on the LAN in one datagram: bytes in, a word out. No socket.
//!
//! ```text
//! Word
//!   magic    6   "zc-lan"
//!   format   1   1
//!   kind     1   0 = question, 1 = answer
//! question:
//!   asked    32  the device that is looked for
//! answer:
//!   device   32  who speaks, and is where this datagram comes from
//!   port     2   big endian, not 0: the UDP port on which it takes connections
//! ```
//! A question does not say who asks. Nothing here is signed: an answer is a hint, and whoever is dialled by it must
//! still prove the device's key.

use std::num::NonZeroU16;

use zerocloud_crdt::id::DeviceId;

const MAGIC: &[u8; 6] = b"zc-lan";
const FORMAT: u8 = 1;
const HEAD_LEN: usize = MAGIC.len() + 2;
const QUESTION: u8 = 0;
const ANSWER: u8 = 1;
const QUESTION_LEN: usize = HEAD_LEN + 32;
const ANSWER_LEN: usize = QUESTION_LEN + 2;

/// The longest datagram that is a word, and one byte more: by that a longer one is known.
pub const BUFFER_LEN: usize = ANSWER_LEN + 1;

/// What a datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Where is this device?
    Question {
        /// Who is looked for.
        asked: DeviceId,
    },
    /// Here, on this port.
    Answer {
        /// Who speaks.
        device: DeviceId,
        /// Where it takes connections.
        port: NonZeroU16,
    },
}

impl Word {
    /// Reads a datagram. `None`: it is another program's, or of another version.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&[FORMAT])?;
        let (&kind, rest) = rest.split_first()?;
        let (device, rest) = rest.split_first_chunk()?;
        let device = DeviceId(*device);
        match (kind, rest) {
            (QUESTION, []) => Some(Self::Question { asked: device }),
            (ANSWER, &[high, low]) => {
                Some(Self::Answer { device, port: NonZeroU16::new(u16::from_be_bytes([high, low]))? })
            }
            _ => None,
        }
    }

    /// The datagram.
    pub fn to_bytes(self) -> Vec<u8> {
        let (kind, device, port) = match self {
            Self::Question { asked } => (QUESTION, asked, None),
            Self::Answer { device, port } => (ANSWER, device, Some(port)),
        };
        let port = port.map(|port| port.get().to_be_bytes());
        [&MAGIC[..], &[FORMAT, kind], device.as_bytes(), port.as_ref().map_or(&[], <[u8; 2]>::as_slice)].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words() -> impl Strategy<Value = Word> {
        let port = (1..=u16::MAX).prop_map(|port| NonZeroU16::new(port).unwrap());
        prop_oneof![
            any::<[u8; 32]>().prop_map(|asked| Word::Question { asked: DeviceId(asked) }),
            (any::<[u8; 32]>(), port).prop_map(|(device, port)| Word::Answer { device: DeviceId(device), port }),
        ]
    }

    proptest! {
        #[test]
        fn a_word_is_read_as_it_was_said_and_no_other_length_is_one(word in words(), more: u8, at in 0_usize..40) {
            let bytes = word.to_bytes();
            prop_assert!(bytes.len() < BUFFER_LEN);
            prop_assert_eq!(Word::parse(&bytes), Some(word));
            prop_assert_eq!(Word::parse(&[&bytes[..], &[more]].concat()).filter(|_| bytes.len() + 1 != ANSWER_LEN), None);
            prop_assert_eq!(Word::parse(&bytes[..at]), None);
        }

        #[test]
        fn any_datagram_is_a_word_that_is_written_the_same_or_none(
            start in prop_oneof![Just(&b""[..]), Just(&b"zc-lan"[..]), Just(&b"zc-lan\x01\x00"[..]), Just(&b"zc-lan\x01\x01"[..])],
            rest in proptest::collection::vec(any::<u8>(), 0..48),
        ) {
            let bytes = [start, &rest].concat();
            if let Some(word) = Word::parse(&bytes) {
                prop_assert_eq!(word.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn the_bytes_of_words_stay_as_they_are() {
        let device = DeviceId([0xab; 32]);
        let question = Word::Question { asked: device }.to_bytes();
        assert_eq!(question, [&b"zc-lan\x01\x00"[..], &[0xab; 32]].concat());
        let answer = Word::Answer { device, port: NonZeroU16::new(0x1234).unwrap() }.to_bytes();
        assert_eq!(answer, [&b"zc-lan\x01\x01"[..], &[0xab; 32], &[0x12, 0x34]].concat());
        let no_port = [&b"zc-lan\x01\x01"[..], &[0xab; 32], &[0, 0]].concat();
        assert_eq!(Word::parse(&no_port), None);
    }
}
