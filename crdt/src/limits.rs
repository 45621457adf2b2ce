//! Every bound on what comes from the network or from a store, in one table, each with its reason.
//!
//! Nothing is allocated for a peer before its bound has been checked. Lengths are in bytes unless the name says
//! otherwise.

/// A control frame: small messages and frontiers of up to a few hundred logs.
pub const CONTROL_FRAME_LEN_MAX: usize = 64 << 10;
/// A record: a row with keys of several KEM suites fits many times.
pub const RECORD_LEN_MAX: usize = 64 << 10;
/// Previous records that one record names.
pub const RECORD_PREVIOUS_COUNT_MAX: usize = 16;
/// Records of one space: a table is evaluated in memory.
pub const RECORD_COUNT_MAX: usize = 10_000;
/// A grant: X-Wing's encapsulation (1,120) and one sealed secret, with room for a second suite.
pub const GRANT_LEN_MAX: usize = 8 << 10;
/// The sealed payload of an entry. Bounds what is decrypted and decompressed at a time.
pub const ENTRY_PAYLOAD_LEN_MAX: usize = 1 << 20;
/// An opened, decompressed payload: Automerge changes of 1,000 files stay far below.
pub const ENTRY_PLAIN_LEN_MAX: usize = 4 << 20;
/// The header of an entry: 64 heads and 64 membership heads fit eight times.
pub const ENTRY_HEADER_LEN_MAX: usize = 64 << 10;
/// A whole entry as it travels: header, payload, signature and their lengths.
pub const ENTRY_LEN_MAX: usize = ENTRY_HEADER_LEN_MAX + ENTRY_PAYLOAD_LEN_MAX + 256;
/// Heads (of other logs, or of membership) that one entry names.
pub const ENTRY_HEADS_COUNT_MAX: usize = 64;
/// Files that one index entry touches; what one transaction applies.
pub const ENTRY_FILE_COUNT_MAX: usize = 1_000;
/// Operations in one index entry: place, content and metas of each file, and what *a scan moves nothing else* adds.
pub const ENTRY_OP_COUNT_MAX: usize = 16_000;
/// Live operations of one register: more than this many concurrent values is an attack.
pub const REGISTER_LIVE_COUNT_MAX: usize = 1_000;
/// A log's label.
pub const LABEL_LEN_MAX: usize = 64;
/// Earlier incarnations that a `start` entry names.
pub const INCARNATION_COUNT_MAX: usize = 1_000;
/// A chunk's plaintext.
pub const CHUNK_LEN_MAX: usize = 4 << 20;
/// A sealed chunk: the largest plaintext, Padmé's 12 % on top, nonce, tag and header.
pub const SEALED_CHUNK_LEN_MAX: usize = CHUNK_LEN_MAX + CHUNK_LEN_MAX / 8 + 128;
/// A piece of a sealed chunk on the wire.
pub const FRAGMENT_LEN_MAX: usize = 256 << 10;
/// A page of a manifest, opened.
pub const MANIFEST_PAGE_LEN_MAX: usize = 256 << 10;
/// Chunks that stand in the content value itself.
pub const MANIFEST_INLINE_COUNT_MAX: usize = 8;
/// Epochs that one manifest names: one for each time that members changed while the file lived.
pub const MANIFEST_EPOCH_COUNT_MAX: usize = 1_000;
/// Depth of a manifest's tree of pages: fan-out 1,000 reaches 10^12 chunks.
pub const MANIFEST_DEPTH_MAX: usize = 4;
/// Total length of a file: 2^56, so that no sum of lengths overflows.
pub const FILE_LEN_MAX: u64 = 1 << 56;
/// A name in a directory: what common file systems hold.
pub const NAME_LEN_MAX: usize = 255;
/// A symlink's target (Linux' PATH_MAX).
pub const LINK_TARGET_LEN_MAX: usize = 4096;
/// Names in a path.
pub const PATH_DEPTH_MAX: usize = 256;
/// Log streams of one connection: one for each shared space.
pub const LOG_STREAM_COUNT_MAX: usize = 256;
/// Other streams of one connection.
pub const OTHER_STREAM_COUNT_MAX: usize = 16;
/// Bytes of one connection that wait for their readers, over all streams: eight full streams and a reserve.
pub const CONN_WINDOW_LEN_MAX: u32 = 16 << 20;
/// Incoming connections that are between the first packet and the proof of the peer's key.
pub const HANDSHAKE_COUNT_MAX: usize = 64;
/// What a peer says when it closes: shown to the user, so a line.
pub const CLOSE_REASON_LEN_MAX: usize = 256;
/// Entries of one peer that wait for their parents.
pub const WAITING_ENTRY_COUNT_MAX: usize = 10_000;
/// Bytes of such entries.
pub const WAITING_ENTRY_BYTES_MAX: usize = 64 << 20;
/// Chunks that one request names.
pub const REQUEST_COUNT_MAX: usize = 512;
/// An answer frame of packed chunks: 1 MiB of them and one that begins below that.
pub const ANSWER_FRAME_LEN_MAX: usize = (1 << 20) + FRAGMENT_LEN_MAX + 4096;
/// Address hints in a ticket or an address record.
pub const ADDRESS_HINT_COUNT_MAX: usize = 16;
/// A ticket, decoded.
pub const TICKET_LEN_MAX: usize = 1024;
/// A pairing message: records and grants of a whole space.
pub const PAIRING_LEN_MAX: usize = 4 << 20;
/// Spaces that one peer names in its hello.
pub const HELLO_SPACE_COUNT_MAX: usize = 256;
