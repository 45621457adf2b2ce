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
/// Bytes of all records of one space, which are held in memory: an `add` is about 1.5 KiB.
pub const RECORD_BYTES_MAX: usize = 32 << 20;
/// Entries that a record's frontier names: 82 bytes each must fit the record.
pub const RECORD_FRONTIER_COUNT_MAX: usize = 500;
/// Older secrets in a record: 104 bytes each must fit the record.
pub const RECORD_OLDER_COUNT_MAX: usize = 200;
/// Records that wait for others: an honest peer sends them in causal order, so that none has to.
pub const WAITING_RECORD_COUNT_MAX: usize = 256;
/// KEM keys of a device: one for each suite, and there are few.
pub const KEM_KEY_COUNT_MAX: usize = 4;
/// A KEM key: X-Wing's has 1,216 bytes, ML-KEM-1024's with a curve 1,700.
pub const KEM_KEY_LEN_MAX: usize = 4 << 10;
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
/// Operations that one index entry supersedes, all together: 64 registers full to [`REGISTER_LIVE_COUNT_MAX`]. An
/// honest author that needs more writes two entries.
pub const ENTRY_PRED_COUNT_MAX: usize = 64_000;
/// A register's value, encoded: a manifest with every epoch that it may name (32 KiB) or the longest link target.
pub const VALUE_LEN_MAX: usize = 64 << 10;
/// The base-2 logarithm of the window that a compressed payload may ask for (8 MiB, as zstd's own default).
pub const ENTRY_WINDOW_LOG_MAX: u32 = 23;
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
/// Window of a zstd frame, as a power of two: twice the largest chunk.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// A piece of a sealed chunk on the wire.
pub const FRAGMENT_LEN_MAX: usize = 256 << 10;
/// A page of a manifest, opened.
pub const MANIFEST_PAGE_LEN_MAX: usize = 256 << 10;
/// Chunks that stand in the content value itself.
pub const MANIFEST_INLINE_COUNT_MAX: usize = 8;
/// Epochs that one manifest names: one for each time that members changed while the file lived.
pub const MANIFEST_EPOCH_COUNT_MAX: usize = 1_000;
/// A sealed page of a manifest: the largest page, padding, salt, tag and trailer.
pub const SEALED_PAGE_LEN_MAX: usize = MANIFEST_PAGE_LEN_MAX + MANIFEST_PAGE_LEN_MAX / 8 + 128;
/// References in one page of a manifest: with their table of epochs they stay below [`MANIFEST_PAGE_LEN_MAX`].
pub const MANIFEST_FAN_OUT_MAX: usize = 1_024;
/// Depth of a manifest's tree of pages: fan-out 1,000 reaches 10^12 chunks.
pub const MANIFEST_DEPTH_MAX: usize = 4;
/// Chunks that are read into memory at once: a file of 4 TiB, in some 300 MB.
pub const MANIFEST_READ_COUNT_MAX: usize = 1 << 22;
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
/// Chunk streams of one connection that travel beside it, from each side.
pub const LANE_COUNT_MAX: usize = 16;
/// A signed frontier, which must fit a control frame beside its frame header: about 800 logs.
pub const FRONTIER_LEN_MAX: usize = CONTROL_FRAME_LEN_MAX - 1024;
/// Frontiers of other members that a device hands on at a contact: at full length 4 MiB, and there are rarely as many.
pub const HANDED_ON_COUNT_MAX: usize = 64;
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
/// Pieces in one answer frame: one for each chunk of a request that is missing or small, and the fragments of a large one.
pub const ANSWER_PIECE_COUNT_MAX: usize = 2 * REQUEST_COUNT_MAX;
/// An answer frame of packed chunks: 1 MiB of them and one that begins below that.
pub const ANSWER_FRAME_LEN_MAX: usize = (1 << 20) + FRAGMENT_LEN_MAX + 4096;
/// Address hints in a ticket or an address record.
pub const ADDRESS_HINT_COUNT_MAX: usize = 16;
/// Devices that are looked for on the LAN at the same time: each costs a few datagrams, and more are not dialled at once.
pub const LAN_SEARCH_COUNT_MAX: usize = 64;
/// Answers to questions on the LAN in a second: all devices of a household ask one at the same time.
pub const LAN_ANSWER_COUNT_MAX: usize = 20;
/// The URL of a relay.
pub const RELAY_URL_LEN_MAX: usize = 256;
/// An address record: all hints at full length.
pub const ADDRESS_RECORD_LEN_MAX: usize = 8 << 10;
/// Address records that one message passes on: as many as a control frame holds at full length.
pub const PASSED_ADDRESSES_COUNT_MAX: usize = CONTROL_FRAME_LEN_MAX / ADDRESS_RECORD_LEN_MAX - 1;
/// The text of a seed's 24 words of at most 8 letters, with spaces.
pub const WORDS_LEN_MAX: usize = 24 * 9;
/// A ticket, decoded.
pub const TICKET_LEN_MAX: usize = 1024;
/// A pairing message: records and grants of a whole space.
pub const PAIRING_LEN_MAX: usize = 4 << 20;
/// The first message of a pairing: an introduction with all its keys.
pub const PAIRING_REQUEST_LEN_MAX: usize = 32 << 10;
/// What else a pairing message holds for the joiner: the signed frontier of the space.
pub const PAIRING_FRONTIER_LEN_MAX: usize = 1 << 20;
/// Grants in a pairing message: one for each epoch that no newer record holds sealed.
pub const PAIRING_GRANT_COUNT_MAX: usize = 64;
/// Spaces that one peer names in its hello.
pub const HELLO_SPACE_COUNT_MAX: usize = 256;
/// A frame of a log stream: one entry of the largest size and what is packed beside it.
pub const LOG_FRAME_LEN_MAX: usize = ENTRY_LEN_MAX + (256 << 10);
/// Entries or records in one frame of a log stream: a signature, an author and a hash alone have 128 bytes, and an empty
/// element would cost a reader a dozen times what it costs to send.
pub const LOG_FRAME_COUNT_MAX: usize = LOG_FRAME_LEN_MAX / 128;
/// Heads of a space's records: one for each device that adds at the same time.
pub const RECORD_HEADS_COUNT_MAX: usize = 256;
/// What a peer calls its program.
pub const AGENT_LEN_MAX: usize = 64;
/// New chunks that follow their entry unasked, in bytes.
pub const UNASKED_CHUNKS_LEN_MAX: usize = 64 << 10;
/// A text that is merged line by line, in bytes: what people write by hand is far below. All three, and the way from
/// one to the other, are in memory at once.
pub const MERGE_TEXT_LEN_MAX: usize = 1 << 20;
/// Lines of such a text: with [`MERGE_EDIT_COUNT_MAX`] the bound of the time that a merge may take.
pub const MERGE_LINE_COUNT_MAX: usize = 100_000;
/// Lines that one side added and removed, together: the memory of a comparison grows with the square, here 32 MB.
pub const MERGE_EDIT_COUNT_MAX: usize = 2_000;
/// Operations of one register that are read to find what two values came from: each is an entry to be opened.
pub const MERGE_HISTORY_COUNT_MAX: usize = 1_000;
