//! Each format of the log.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use zerocloud_crdt::change::Change;
use zerocloud_crdt::id::{
    ActorId, ChunkId, ContentHash, DeviceId, EpochId, FileId, Incarnation, OpId, RecordHash, SpaceId,
};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::log::heads::current_heads;
use zerocloud_crdt::log::{
    Body, Draft, DraftOp, Entry, Frontier, LogRead, LogWriter, Membership, MemoryLog, Setting, SignedFrontier, Start,
};
use zerocloud_crdt::manifest::{self, ChunkRef, Class, Manifest, Profile};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, FileContent, FileTime, Meta, Place, Write};

use super::{bless, is_blessed, stored};

const SPACE: SpaceId = SpaceId([0x11; 32]);
const GENESIS: RecordHash = RecordHash([0x11; 32]);

struct Everyone;

impl Membership for Everyone {
    fn knows(&self, _: &[RecordHash]) -> bool {
        true
    }
    fn may_write(&self, _: &[RecordHash], _: DeviceId) -> bool {
        true
    }
    fn follows(&self, _: &[RecordHash], _: &[RecordHash]) -> bool {
        true
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn unhex(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn secret() -> EpochSecret {
    EpochSecret::new(SPACE, EpochId([0x22; 32]), Secret::new([0x33; 32]))
}

fn draft() -> Vec<DraftOp> {
    let item = FileId([0x44; 16]);
    let mtime = FileTime { secs: -1, nanos: 999_999_999 };
    let epoch = EpochId([0x22; 32]);
    let manifest = Manifest {
        profile: Profile { chunker: 1, class: Class::Single, epoch },
        len: 3,
        epochs: vec![epoch],
        body: manifest::Body::Inline(vec![ChunkRef { id: ChunkId([0x55; 32]), epoch_index: 0, len: 3 }]),
    };
    let file = FileContent { mtime, executable: true, hash: ContentHash::of(b"abc"), manifest };
    let place = Place { parent: FileId::ROOT, name: Name::parse(b"a.txt").unwrap(), previous: None, loser_of: None };
    vec![
        DraftOp { item, write: Write::Place(place), pred: vec![] },
        DraftOp { item, write: Write::Content(Some(Content::File(file))), pred: vec![] },
        DraftOp { item: FileId([0x45; 16]), write: Write::Content(Some(Content::Directory)), pred: vec![] },
        DraftOp {
            item: FileId([0x46; 16]),
            write: Write::Content(Some(Content::Symlink { target: b"../x".to_vec() })),
            pred: vec![],
        },
    ]
}

/// Two logs of two devices: start, index, an index that deletes, touches and moves, seen; and a signed frontier.
fn entries() -> (MemoryLog, Vec<Entry>, SignedFrontier) {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let (mut log, mut entries) = (MemoryLog::default(), Vec::new());
    let keys = [1, 2].map(|byte| DeviceKeys::from_seed(Secret::new([byte; 32])).signing_key());
    let writers = keys.each_ref().map(|key| LogWriter::new(key, SPACE, Incarnation([0x66; 8])));
    let start = |label: &[u8], earlier| Draft::Start(Start { label: Name::parse(label).unwrap(), earlier });
    let id = |counter, actor: ActorId| OpId { counter, actor };
    let item = FileId([0x44; 16]);
    let about = id(2, writers[0].actor());
    let meta = Meta { mtime: FileTime { secs: 1, nanos: 2 }, executable: false, executable_differs: true, about };
    let moved = Place {
        parent: FileId([0x45; 16]),
        name: Name::parse(b"b").unwrap(),
        previous: Some(FileId::ROOT),
        loser_of: None,
    };
    let second = vec![
        DraftOp { item, write: Write::Meta(Some(meta)), pred: vec![] },
        DraftOp { item, write: Write::Place(moved), pred: vec![id(1, writers[0].actor())] },
        DraftOp { item: FileId([0x46; 16]), write: Write::Content(None), pred: vec![id(4, writers[0].actor())] },
    ];
    for (index, draft) in [
        (0, start(b"laptop", vec![])),
        (0, Draft::Index(draft())),
        (1, start(b"phone", vec![Incarnation([0x65; 8])])),
        (1, Draft::Index(second)),
        (0, Draft::Seen),
    ] {
        let heads = current_heads(&log, writers[index].log()).unwrap();
        let secret = secret();
        let setting = Setting { heads: &heads, membership: &[GENESIS], secret: &secret };
        let written = writers[index].write(&log, &Everyone, &setting, draft, &mut rng).unwrap();
        log.apply(written.entry.clone(), &written.checked);
        entries.push(written.entry);
    }
    let frontier = SignedFrontier::sign(&keys[0], SPACE, log.frontier().unwrap()).unwrap();
    (log, entries, frontier)
}

fn describe() -> Value {
    let (_, entries, frontier) = entries();
    let entry = |entry: &Entry| {
        let body = match entry.open(&secret()).unwrap() {
            Body::Start(start) => json!({ "start": start.label.to_string(), "earlier": start.earlier.len() }),
            Body::Index(change, hash) => json!({
                "change": hex(&change.encode().unwrap().bytes),
                "change_hash": hash.to_string(),
                "actor": change.actor.to_string(),
            }),
            Body::Seen => json!("seen"),
        };
        json!({
            "entry": hex(entry.as_bytes()),
            "hash": entry.hash().to_string(),
            "header": hex(&entry.header().encode()),
            "body": body,
        })
    };
    json!({
        "format": zerocloud_crdt::FORMAT,
        "entries": entries.iter().map(entry).collect::<Vec<_>>(),
        "frontier": hex(&frontier.frontier.encode().unwrap()),
        "signed_frontier": hex(frontier.as_bytes()),
    })
}

fn golden() -> Value {
    if is_blessed() {
        for (name, told) in describe().as_object().unwrap() {
            bless("log.json", name, told);
        }
    }
    stored("log.json").into()
}

#[test]
fn the_known_entries_are_read_to_the_known_values() {
    let (golden, told) = (golden(), describe());
    let mut log = MemoryLog::default();
    for (known, told) in golden["entries"].as_array().unwrap().iter().zip(told["entries"].as_array().unwrap()) {
        let entry = Entry::decode(SPACE, unhex(&known["entry"])).unwrap();
        assert_eq!(known["hash"], json!(entry.hash().to_string()));
        assert_eq!(known["header"], json!(hex(&entry.header().encode())));
        assert_eq!(known["body"], told["body"]);
        if let Body::Index(change, hash) = entry.open(&secret()).unwrap() {
            let bytes = unhex(&known["body"]["change"]);
            assert_eq!(Change::decode(&bytes), Ok((change, hash)));
            assert_eq!(automerge::Change::from_bytes(bytes).unwrap().hash().0, hash.0);
        }
        let secret = secret();
        log.receive(entry, &Everyone, |_| Some(&secret)).unwrap();
    }
    let frontier = Frontier::decode(&unhex(&golden["frontier"])).unwrap();
    assert_eq!(log.frontier().unwrap(), frontier);
    assert_eq!(SignedFrontier::decode(SPACE, &unhex(&golden["signed_frontier"])).unwrap().frontier, frontier);
}

#[test]
fn the_known_inputs_are_written_to_the_known_bytes() {
    // The compressor's bytes may change with its version; what it is given may not. The rest is exact.
    let (golden, told) = (golden(), describe());
    assert_eq!(golden["format"], told["format"]);
    for (known, told) in golden["entries"].as_array().unwrap().iter().zip(told["entries"].as_array().unwrap()) {
        assert_eq!(known["body"], told["body"]);
    }
    assert_eq!(golden["entries"].as_array().map(Vec::len), told["entries"].as_array().map(Vec::len));
    assert_eq!(golden["entries"][0]["entry"], told["entries"][0]["entry"], "a start is too short to be compressed");
}
