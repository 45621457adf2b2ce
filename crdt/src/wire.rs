//! Wire messages: what two devices say to each other, drawn once.
//!
//! Each message is one frame (a length and then these bytes); who reads a frame has checked its length against the
//! bound of its stream. Streams of a connection:
//!
//! ```text
//! control stream    opened by the dialler        Control, Control, ...          both ways
//! log stream        one for each shared space    LogOpen, Log, Log, ...         both ways
//! chunk stream      opened by who asks           ChunkOpen, then Request ...    and Answer ... back
//! ```
//!
//! The first frame of a stream says which kind it is ([`Opening`]). A device names a space only to a peer whose proven
//! key is in its table; who was newly added shows the records first. Nothing about sealing is negotiated here: the
//! version is the ALPN's.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use crate::codec::{DecodeError, decode, encode, encode_behind};
use crate::id::{ChunkId, EpochId, FileId, OpId, RecordHash, SpaceId};
use crate::limits;
use crate::name::Name;

/// The first frame of every stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// The control stream of the connection.
    Control,
    /// The log stream of one space.
    Log {
        /// The space.
        space: SpaceId,
    },
    /// A stream of requests for chunks of one space, and their answers.
    Chunks {
        /// The space.
        space: SpaceId,
    },
}

/// A message on the control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// First, from both sides.
    Hello(Hello),
    /// From now on the sender shares this space with the receiver, too.
    Share {
        /// The space.
        space: SpaceId,
    },
    /// Where other devices may be reached: their signed [`AddressRecord`](crate::address::AddressRecord)s. Each of a
    /// member of a space in which both sender and receiver are members; the receiver looks for itself.
    Addresses(Vec<ByteBuf>),
}

/// Who is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The program, for `status`: shown escaped, never acted on.
    pub agent: String,
    /// The device's name, as its user gave it.
    pub name: Name,
    /// The spaces in which the receiver's key is in the sender's table.
    pub spaces: Vec<SpaceId>,
    /// Where the sender may be reached: its signed [`AddressRecord`](crate::address::AddressRecord), or nothing.
    pub addresses: ByteBuf,
}

/// A message on a log stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Log {
    /// The sender's heads, and records in causal order that the receiver may lack. Before anything else.
    Records {
        /// The newest records that the sender has.
        heads: Vec<RecordHash>,
        /// Records, as received.
        records: Vec<ByteBuf>,
    },
    /// What the sender has: a signed frontier. Entries follow only after both sides have said it.
    Frontier(ByteBuf),
    /// Entries that the receiver lacks, in causal order, as received.
    Entries(Vec<ByteBuf>),
    /// The sender's tree shows everything up to the frontier with this BLAKE3.
    Materialised([u8; 32]),
    /// Small new chunks, unasked, after the entries that name them.
    Chunks(Vec<SealedChunk>),
    /// What another member said that it has, as it signed it, and of which the receiver lacks something. After the
    /// sender's own frontier.
    HandedOn(ByteBuf),
}

impl Log {
    /// Bytes of log entries in the message.
    pub fn entries_len(&self) -> usize {
        match self {
            Self::Entries(entries) => entries.iter().map(|entry| entry.len()).sum(),
            Self::Records { .. } | Self::Frontier(_) | Self::Materialised(_) | Self::Chunks(_) | Self::HandedOn(_) => 0,
        }
    }
}

/// A sealed chunk with its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedChunk {
    /// Under which epoch it is named and sealed.
    pub epoch: EpochId,
    /// Its address.
    pub id: ChunkId,
    /// The sealed bytes.
    pub sealed: ByteBuf,
}

/// A list of chunks that the sender wants, answered in any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Names the answers; each ask counts on from here.
    pub first: u64,
    /// What is wanted.
    pub asks: Vec<Ask>,
}

/// One chunk or page that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Chunk or manifest page.
    pub what: What,
    /// Under which epoch it is named and sealed.
    pub epoch: EpochId,
    /// Its address.
    pub id: ChunkId,
    /// Where a member finds the plaintext; never told to a keeper.
    pub at: Option<Whereabouts>,
}

/// The kinds of sealed things that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// A piece of content.
    Chunk,
    /// A page of a manifest.
    Page,
}

/// Where in a member's tree a chunk can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The item.
    pub file: FileId,
    /// The content operation whose bytes are meant.
    pub op: OpId,
    /// Which chunk of that version, from 0.
    pub ordinal: u64,
    /// Where it begins in that version, in bytes.
    pub offset: u64,
    /// Its length, in bytes.
    pub len: u32,
}

/// Pieces of answers, packed. They borrow the sealed bytes from where these were made, or from the frame in which they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<'b> {
    /// The pieces.
    #[serde(borrow)]
    pub pieces: Vec<Piece<'b>>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece<'b> {
    /// Which ask: counted on from [`Request::first`].
    pub ask: u64,
    /// What is said.
    #[serde(borrow)]
    pub body: PieceBody<'b>,
}

/// What a piece of an answer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PieceBody<'b> {
    /// The sender knows of no file or version that has it.
    Missing,
    /// The sender knows of one and can't read it now: its disk is away, or the file changed since it was scanned. What every
    /// member misses is lost; what one can't read now is not.
    NotNow,
    /// A fragment of the sealed bytes, in order, of at most [`limits::FRAGMENT_LEN_MAX`] bytes.
    Fragment {
        /// Length of the whole sealed chunk or page, in bytes.
        total_len: u32,
        /// The bytes.
        #[serde(borrow)]
        bytes: &'b Bytes,
    },
}

/// A message that has a bound and counts to check.
pub trait Message<'b>: Serialize + Deserialize<'b> {
    /// The longest frame that carries one, in bytes.
    const LEN_MAX: usize;

    /// Whether all counts and lengths inside are within their bounds.
    fn is_bounded(&self) -> bool;

    /// The bytes of the frame.
    fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] above [`Self::LEN_MAX`], [`DecodeError::Malformed`] for anything that is no canonical
    /// message within its bounds.
    fn from_bytes(bytes: &'b [u8]) -> Result<Self, DecodeError> {
        let message: Self = decode(bytes, Self::LEN_MAX)?;
        if message.is_bounded() { Ok(message) } else { Err(DecodeError::Malformed) }
    }
}

impl Message<'_> for Opening {
    const LEN_MAX: usize = 64;

    fn is_bounded(&self) -> bool {
        true
    }
}

impl Message<'_> for Control {
    const LEN_MAX: usize = limits::CONTROL_FRAME_LEN_MAX;

    fn is_bounded(&self) -> bool {
        match self {
            Self::Hello(hello) => {
                hello.spaces.len() <= limits::HELLO_SPACE_COUNT_MAX
                    && hello.agent.len() <= limits::AGENT_LEN_MAX
                    && hello.name.as_bytes().len() <= limits::LABEL_LEN_MAX
                    && hello.addresses.len() <= limits::ADDRESS_RECORD_LEN_MAX
            }
            Self::Share { .. } => true,
            Self::Addresses(records) => {
                !records.is_empty()
                    && records.len() <= limits::PASSED_ADDRESSES_COUNT_MAX
                    && records.iter().all(|record| record.len() <= limits::ADDRESS_RECORD_LEN_MAX)
            }
        }
    }
}

impl Message<'_> for Log {
    const LEN_MAX: usize = limits::LOG_FRAME_LEN_MAX;

    fn is_bounded(&self) -> bool {
        match self {
            Self::Records { heads, records } => {
                heads.len() <= limits::RECORD_HEADS_COUNT_MAX
                    && records.len() <= limits::LOG_FRAME_COUNT_MAX
                    && records.iter().all(|record| record.len() <= limits::RECORD_LEN_MAX)
            }
            Self::Frontier(bytes) | Self::HandedOn(bytes) => bytes.len() <= limits::FRONTIER_LEN_MAX + 256,
            Self::Entries(entries) => {
                entries.len() <= limits::LOG_FRAME_COUNT_MAX
                    && entries.iter().all(|entry| entry.len() <= limits::ENTRY_LEN_MAX)
            }
            Self::Materialised(_) => true,
            Self::Chunks(chunks) => chunks.iter().all(|chunk| chunk.sealed.len() <= limits::SEALED_CHUNK_LEN_MAX),
        }
    }
}

impl Message<'_> for Request {
    const LEN_MAX: usize = limits::CONTROL_FRAME_LEN_MAX;

    fn is_bounded(&self) -> bool {
        !self.asks.is_empty()
            && self.asks.len() <= limits::REQUEST_COUNT_MAX
            && self.first.checked_add(self.asks.len() as u64).is_some()
            && self.asks.iter().all(|ask| {
                ask.at.is_none_or(|at| at.len as usize <= limits::CHUNK_LEN_MAX && at.offset <= limits::FILE_LEN_MAX)
            })
    }
}

impl<'b> Message<'b> for Answer<'b> {
    const LEN_MAX: usize = limits::ANSWER_FRAME_LEN_MAX;

    fn to_bytes(&self) -> Vec<u8> {
        let len_of = |piece: &Piece<'_>| match piece.body {
            PieceBody::Missing | PieceBody::NotNow => 0,
            PieceBody::Fragment { bytes, .. } => bytes.len(),
        };
        let len: usize = self.pieces.iter().map(|piece| PIECE_HEAD_LEN_MAX + len_of(piece)).sum();
        encode_behind(Vec::with_capacity(PIECE_HEAD_LEN_MAX + len), self)
    }

    fn is_bounded(&self) -> bool {
        self.pieces.len() <= limits::ANSWER_PIECE_COUNT_MAX
            && self.pieces.iter().all(|piece| match &piece.body {
                PieceBody::Missing | PieceBody::NotNow => true,
                PieceBody::Fragment { total_len, bytes } => {
                    !bytes.is_empty()
                        && bytes.len() <= limits::FRAGMENT_LEN_MAX
                        && *total_len as usize <= limits::SEALED_CHUNK_LEN_MAX
                        && bytes.len() <= *total_len as usize
                }
            })
    }
}

/// What a piece takes beside its bytes, at most: ask, kind and two lengths.
const PIECE_HEAD_LEN_MAX: usize = 10 + 1 + 5 + 5;

/// Puts the pieces of one answer together, within what was announced.
#[derive(Debug, Default)]
pub struct Assembly {
    total_len: Option<u32>,
    bytes: Vec<u8>,
}

/// A peer's fragments do not fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the fragments of an answer do not fit each other")]
pub struct BadFragments;

impl Assembly {
    /// Takes the next fragment; the sealed bytes when they are complete.
    ///
    /// # Errors
    /// [`BadFragments`] if the announced length changes, or more comes than was announced.
    pub fn push(&mut self, total_len: u32, bytes: &[u8]) -> Result<Option<Vec<u8>>, BadFragments> {
        if self.total_len.is_some_and(|known| known != total_len)
            || self.bytes.len() + bytes.len() > total_len as usize
            || total_len as usize > limits::SEALED_CHUNK_LEN_MAX
        {
            return Err(BadFragments);
        }
        self.total_len = Some(total_len);
        self.bytes.extend_from_slice(bytes);
        Ok((self.bytes.len() == total_len as usize).then(|| std::mem::take(&mut self.bytes)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests() -> impl Strategy<Value = Request> {
        let ask = (any::<[u8; 32]>(), any::<[u8; 32]>(), any::<bool>(), proptest::option::of(any::<(u64, u32)>()))
            .prop_map(|(epoch, id, is_page, at)| Ask {
                what: if is_page { What::Page } else { What::Chunk },
                epoch: EpochId(epoch),
                id: ChunkId(id),
                at: at.map(|(offset, len)| Whereabouts {
                    file: FileId([1; 16]),
                    op: OpId::ZERO,
                    ordinal: offset,
                    offset: offset % limits::FILE_LEN_MAX,
                    len: len % limits::CHUNK_LEN_MAX as u32,
                }),
            });
        (any::<u32>(), proptest::collection::vec(ask, 1..20))
            .prop_map(|(first, asks)| Request { first: u64::from(first), asks })
    }

    /// Either answer is right; what is read is written the same way.
    fn read_back<'b, M: Message<'b>>(bytes: &'b [u8]) {
        if let Ok(message) = M::from_bytes(bytes) {
            assert_eq!(message.to_bytes(), bytes);
        }
    }

    proptest! {
        #[test]
        fn a_request_is_read_back_and_no_prefix_of_it_is(request in requests()) {
            let bytes = request.to_bytes();
            prop_assert_eq!(Request::from_bytes(&bytes), Ok(request));
            for len in 0..bytes.len() {
                prop_assert!(Request::from_bytes(&bytes[..len]).is_err());
            }
        }

        #[test]
        fn threat_44_any_bytes_give_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            read_back::<Opening>(&bytes);
            read_back::<Control>(&bytes);
            read_back::<Log>(&bytes);
            read_back::<Request>(&bytes);
            read_back::<Answer<'_>>(&bytes);
        }

        #[test]
        fn fragments_make_the_chunk_that_was_cut(chunk in proptest::collection::vec(any::<u8>(), 1..500), at in 1usize..100) {
            let mut assembly = Assembly::default();
            let mut whole = None;
            for fragment in chunk.chunks(at) {
                prop_assert!(whole.is_none());
                whole = assembly.push(chunk.len() as u32, fragment).unwrap();
            }
            prop_assert_eq!(whole, Some(chunk));
        }
    }

    #[test]
    fn threat_44_fragments_beyond_what_was_announced_are_refused() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.push(4, b"abc"), Ok(None));
        assert_eq!(assembly.push(4, b"de"), Err(BadFragments));
        assert_eq!(assembly.push(5, b"d"), Err(BadFragments));
        assert_eq!(Assembly::default().push(u32::MAX, b"a"), Err(BadFragments));
    }

    #[test]
    fn threat_44_a_hello_with_more_than_an_address_record_is_refused() {
        let hello = |len: usize, space_count: usize| {
            Control::Hello(Hello {
                agent: "a".repeat(limits::AGENT_LEN_MAX),
                name: Name::parse(&[b'n'; limits::LABEL_LEN_MAX]).unwrap(),
                spaces: vec![SpaceId([7; 32]); space_count],
                addresses: ByteBuf::from(vec![1; len]),
            })
        };
        let longest = hello(limits::ADDRESS_RECORD_LEN_MAX, limits::HELLO_SPACE_COUNT_MAX);
        assert_eq!(Control::from_bytes(&longest.to_bytes()), Ok(longest));
        assert!(Control::from_bytes(&hello(limits::ADDRESS_RECORD_LEN_MAX + 1, 0).to_bytes()).is_err());
        assert!(Control::from_bytes(&hello(0, limits::HELLO_SPACE_COUNT_MAX + 1).to_bytes()).is_err());
    }

    #[test]
    fn threat_44_addresses_beyond_what_a_message_holds_are_refused() {
        let addresses = |count: usize, len: usize| Control::Addresses(vec![ByteBuf::from(vec![1; len]); count]);
        let (count, len) = (limits::PASSED_ADDRESSES_COUNT_MAX, limits::ADDRESS_RECORD_LEN_MAX);
        let longest = addresses(count, len);
        assert!(longest.to_bytes().len() <= Control::LEN_MAX);
        assert_eq!(Control::from_bytes(&longest.to_bytes()), Ok(longest));
        for message in [addresses(0, 0), addresses(count + 1, 1), addresses(1, len + 1)] {
            assert!(Control::from_bytes(&message.to_bytes()).is_err());
        }
    }

    #[test]
    fn threat_44_more_elements_than_a_frame_of_real_ones_holds_are_refused() {
        let nothing = |count| vec![ByteBuf::new(); count];
        let records = |count| Log::Records { heads: Vec::new(), records: nothing(count) };
        let pieces = |count| Answer { pieces: vec![Piece { ask: 0, body: PieceBody::Missing }; count] };
        let (most, most_pieces) = (limits::LOG_FRAME_COUNT_MAX, limits::ANSWER_PIECE_COUNT_MAX);
        for (count, is_taken) in [(most, true), (most + 1, false), (limits::LOG_FRAME_LEN_MAX - 16, false)] {
            assert_eq!(Log::from_bytes(&Log::Entries(nothing(count)).to_bytes()).is_ok(), is_taken);
            assert_eq!(Log::from_bytes(&records(count).to_bytes()).is_ok(), is_taken);
        }
        assert!(Answer::from_bytes(&pieces(most_pieces).to_bytes()).is_ok());
        assert!(Answer::from_bytes(&pieces(most_pieces + 1).to_bytes()).is_err());
    }

    #[test]
    fn the_bytes_of_control_messages_stay_as_they_are() {
        let share = Control::Share { space: SpaceId([7; 32]) };
        assert_eq!(share.to_bytes(), [&[1][..], &[7; 32]].concat());
        let addresses = Control::Addresses(vec![ByteBuf::from(vec![8, 9]), ByteBuf::from(vec![5])]);
        assert_eq!(addresses.to_bytes(), [2, 2, 2, 8, 9, 1, 5]);
    }

    #[test]
    fn threat_44_a_request_for_nothing_or_too_much_is_refused() {
        let ask = Ask { what: What::Chunk, epoch: EpochId([0; 32]), id: ChunkId([0; 32]), at: None };
        for request in [
            Request { first: 0, asks: Vec::new() },
            Request { first: 0, asks: vec![ask; limits::REQUEST_COUNT_MAX + 1] },
            Request { first: u64::MAX, asks: vec![ask] },
        ] {
            assert!(Request::from_bytes(&request.to_bytes()).is_err());
        }
    }
}
