//! Every message of the three kinds of streams.

use serde_bytes::{ByteBuf, Bytes};
use zerocloud_crdt::id::{
    ActorId, ChunkId, ContentHash, DeviceId, EpochId, FileId, Incarnation, LogId, OpId, RecordHash, SpaceId,
};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::wire::{
    Answer, Ask, Control, Hello, Log, Message, Opening, Piece, PieceBody, Request, SealedChunk, What, Whereabouts,
};

use super::{compare, stored};

const FILE: &str = "wire.json";
const SPACE: SpaceId = SpaceId([0x11; 32]);

/// Holds a message to its bytes, there and back. What was read borrows from the bytes, which are therefore never freed.
fn hold<M: Message<'static> + PartialEq + std::fmt::Debug>(name: &str, message: &M) {
    compare(FILE, name, &data_encoding::HEXLOWER.encode(&message.to_bytes()).into());
    let known = stored(FILE)[name].as_str().unwrap().to_owned();
    let bytes = data_encoding::HEXLOWER.decode(known.as_bytes()).unwrap();
    assert_eq!(M::from_bytes(bytes.leak()).as_ref(), Ok(message), "{name}");
}

fn bytes(len: usize) -> ByteBuf {
    ByteBuf::from(vec![0xab; len])
}

#[test]
fn streams_are_opened_and_devices_greet_as_ever() {
    hold("opening control", &Opening::Control);
    hold("opening log", &Opening::Log { space: SPACE });
    hold("opening chunks", &Opening::Chunks { space: SPACE });
    let name = Name::parse("Anna's laptop".as_bytes()).unwrap();
    let hello = Hello { agent: "zerocloud/1.0.0".into(), name, spaces: vec![SPACE], addresses: bytes(3) };
    hold("control hello", &Control::Hello(hello));
    hold("control share", &Control::Share { space: SPACE });
    hold("control addresses", &Control::Addresses(vec![bytes(2), bytes(1)]));
}

#[test]
fn the_log_is_told_as_ever() {
    let records = Log::Records { heads: vec![RecordHash([0x22; 32])], records: vec![bytes(4)] };
    hold("log records", &records);
    hold("log frontier", &Log::Frontier(bytes(5)));
    hold("log entries", &Log::Entries(vec![bytes(6), bytes(130)]));
    hold("log materialised", &Log::Materialised([0x33; 32]));
    let chunk = SealedChunk { epoch: EpochId([0x44; 32]), id: ChunkId([0x55; 32]), sealed: bytes(7) };
    hold("log chunks", &Log::Chunks(vec![chunk]));
    hold("log handed on", &Log::HandedOn(bytes(8)));
}

#[test]
fn chunks_are_asked_for_and_given_as_ever() {
    let log = LogId { author: DeviceId([0x66; 32]), incarnation: Incarnation([0x77; 8]) };
    let op = OpId { counter: 300, actor: ActorId::of_log(SPACE, log) };
    let file = FileId([0x88; 16]);
    let at = Whereabouts { file, op, ordinal: 1, offset: 65_536, len: 20_000 };
    let id = ChunkId(ContentHash::of(b"a chunk").0);
    let chunk = Ask { what: What::Chunk, epoch: EpochId([0x44; 32]), id, at: Some(at) };
    let page = Ask { what: What::Page, at: None, ..chunk };
    hold("request", &Request { first: 128, asks: vec![chunk, page] });
    let body = [
        PieceBody::Missing,
        PieceBody::NotNow,
        PieceBody::Fragment { total_len: 1_024, bytes: Bytes::new(&[0xab; 3]) },
    ];
    let pieces = body.into_iter().zip(128..).map(|(body, ask)| Piece { ask, body }).collect();
    hold("answer", &Answer { pieces });
}
