//! The seeds of the corpora: what gets past the checks of each target.

use serde_bytes::{ByteBuf, Bytes};
use zerocloud_crdt::id::{ChunkId, EntryHash, EpochId, Incarnation, LogId, RecordHash};
use zerocloud_crdt::log::frontier::Position;
use zerocloud_crdt::log::{Frontier, SignedFrontier};
use zerocloud_crdt::wire::{Answer, Ask, Control, Log, Message, Piece, PieceBody, Request, What};

use super::part;
use super::session::{GROUND, NO_SPACE, framed};
use super::stream::TOKEN;

/// Where a fuzzer begins.
pub struct Seed {
    /// For which target.
    pub target: &'static str,
    /// What it is; a part of the file's name.
    pub name: String,
    /// What the target is given.
    pub bytes: Vec<u8>,
}

/// All seeds. Each gets past the checks of its target.
pub fn all() -> Vec<Seed> {
    let mut all = streams();
    all.extend(sessions());
    all.extend(rules());
    all.extend(requests());
    all
}

fn seed(target: &'static str, name: &str, parts: &[&[u8]]) -> Seed {
    Seed { target, name: name.replace(' ', "-"), bytes: parts.concat() }
}

fn streams() -> Vec<Seed> {
    vec![
        seed("frame", "two frames", &[&[0, 10], &framed(b""), &framed(&[7; 300])]),
        seed("frame", "at once", &[&[255, 20], &framed(&[1; 3000])]),
        seed("lan", "question", &[b"zc-lan\x01\x00", &[7; 32]]),
        seed("lan", "answer", &[b"zc-lan\x01\x01", &[7; 32], &[0x12, 0x34]]),
        seed("lane", "hello", &[&[1], &TOKEN, &[2]]),
    ]
}

/// What is said on a stream of a session.
fn said(kind: u8, message: &[u8]) -> Vec<u8> {
    [&[kind][..], &part(message)].concat()
}

fn sessions() -> Vec<Seed> {
    let ground = &*GROUND;
    let ask = |n| Ask { what: What::Chunk, epoch: EpochId([9; 32]), id: ChunkId([n; 32]), at: None };
    let request = Request { first: 0, asks: vec![ask(2), ask(3)] }.to_bytes();
    let share = Control::Share { space: ground.space }.to_bytes();
    let frontier = |claimed| {
        let mut frontier = Frontier::default();
        if claimed {
            let log = LogId { author: ground.keys[1].id(), incarnation: Incarnation([5; 8]) };
            frontier.advance(log, Position { number: 9, hash: EntryHash([4; 32]) });
        }
        let signed = SignedFrontier::sign(&ground.keys[1].signing_key(), ground.space, frontier).unwrap();
        Log::Frontier(ByteBuf::from(signed.as_bytes().to_vec())).to_bytes()
    };
    let heads = Log::Records { heads: vec![RecordHash(ground.space.0)], records: Vec::new() }.to_bytes();
    let nothing = Log::Entries(Vec::new()).to_bytes();
    let synced = |frontier: &[u8]| [said(6, &heads), said(5, frontier), said(5, &nothing)].concat();
    let chunk = |bytes: &'static [u8]| PieceBody::Fragment { total_len: 600, bytes: Bytes::new(bytes) };
    let pieces = vec![
        Piece { ask: 1, body: chunk(&[5; 300]) },
        Piece { ask: 2, body: PieceBody::Missing },
        Piece { ask: 1, body: chunk(&[5; 300]) },
    ];
    let answer = Answer { pieces }.to_bytes();
    vec![
        seed("session", "greets", &[&[0]]),
        seed("session", "is dialled", &[&[2]]),
        seed("session", "a stranger", &[&[1]]),
        seed("session", "shares", &[&[0], &said(0, &share), &said(3 | 16, b"")]),
        seed("session", "has nothing", &[&[0], &synced(&frontier(false))]),
        seed("session", "claims much", &[&[0], &synced(&frontier(true))]),
        seed("session", "asks", &[&[0], &said(4, &request), &said(5, &request)]),
        seed("session", "asks for a space that is not here", &[&[0], &said(3, &request)]),
        seed("session", "answers", &[&[8], &said(0, &answer)]),
        seed("session", "shares what is not here", &[&[2], &said(0, &Control::Share { space: NO_SPACE }.to_bytes())]),
    ]
}

fn rules() -> Vec<Seed> {
    let rules = |name, root: &str, inner: &str, selection: &str, path: &[u8]| {
        let parts = [part(root.as_bytes()), part(inner.as_bytes()), part(selection.as_bytes())].concat();
        seed("rules", name, &[&[1], &parts, path])
    };
    vec![
        rules("plain", "*.log\n/build/\n!keep.log\n# comment\n", "a\\ b\n", "raw/\n", b"build/x.log"),
        rules("deep", "**/node_modules/**\n", "[a-z]?x*\n", "", b"a/node_modules/b/c"),
        rules("selection", "", "", "raw/\n*.nef\n", b"raw/1.nef"),
        rules("classes", "[[:alpha:]]*.{a,b}\n[!x]\n[]]\n\\!\\#\n", "", "", b"q/]"),
    ]
}

fn requests() -> Vec<Seed> {
    let bodies = [
        "{}",
        r#"{"dir":"/home/anna/x","name":"X"}"#,
        "{}",
        r#"{"space":{"text":"Photos","cwd":"/"}}"#,
        r#"{"space":{"text":"111111","cwd":"/"}}"#,
        r#"{"space":{"text":".","cwd":"/srv/docs"}}"#,
        r#"{"space":{"text":"Photos","cwd":"/"},"guest":{"me":{"confirm":true}},"expires_secs":60}"#,
        r#"{"device":"aa","accept":true}"#,
        r#"{"ticket":"zc1","dir":{"hex":"2f61ff"}}"#,
        r#"{"space":{"text":"Docs","cwd":"/"}}"#,
        r#"{"space":{"text":"Docs","cwd":"/"},"wait":true,"timeout_secs":60}"#,
        r#"{"target":{"text":"Photos/2024/../x","cwd":"/"}}"#,
        r#"{"target":{"text":{"hex":"2f737276ff"},"cwd":"/"}}"#,
        r#"{"target":{"text":"/srv/docs/in/a","cwd":"/"},"at_ms":-5,"exact":true}"#,
        r#"{"space":{"text":"Photos","cwd":"/"},"without":["raw/"]}"#,
        r#"{"target":{"text":"../../x","cwd":"/srv/docs"},"awaited":true}"#,
        r#"{"space":{"text":"Photos","cwd":"/"}}"#,
        r#"{"space":{"text":"Photos","cwd":"/"},"decision":"reject"}"#,
        r#"{"space":{"text":"Photos","cwd":"/"},"older_secs":7}"#,
        "{}",
        "{}",
        "{}",
    ];
    let seeds = bodies.iter().enumerate();
    seeds.map(|(which, body)| seed("api", &format!("request {which}"), &[&[which as u8], body.as_bytes()])).collect()
}
