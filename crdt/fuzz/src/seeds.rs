//! The seeds of the corpora: every known answer (`tests/golden`), as the target takes it in.

use data_encoding::HEXLOWER;
use serde_json::Value;

use super::proofs::{DEVICES, body_of};

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
    [wire(), members(), log(), content(), drawn()].concat()
}

impl Clone for Seed {
    fn clone(&self) -> Self {
        Self { target: self.target, name: self.name.clone(), bytes: self.bytes.clone() }
    }
}

fn seed(target: &'static str, name: &str, parts: &[&[u8]]) -> Seed {
    Seed { target, name: name.replace(' ', "-"), bytes: parts.concat() }
}

fn known(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn unhex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn part(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat()
}

fn wire() -> Vec<Seed> {
    let known = known(include_str!("../../tests/golden/wire.json"));
    let messages = known.as_object().unwrap().iter();
    messages
        .map(|(name, hex)| {
            let kind = match name.split(' ').next() {
                Some("opening") => 0,
                Some("control") => 1,
                Some("log") => 2,
                Some("request") => 3,
                _ => 4,
            };
            seed("wire", name, &[&[kind], &unhex(hex)])
        })
        .collect()
}

fn members() -> Vec<Seed> {
    let known = known(include_str!("../../tests/golden/members.json"));
    let bytes = |name: &str| unhex(&known[name]);
    let mut seeds = vec![
        seed("members", "genesis", &[&[1], &bytes("genesis")]),
        seed("members", "grant", &[&[5], &bytes("grant")]),
        seed("pairing", "ticket", &[&[0], known["ticket"].as_str().unwrap().as_bytes()]),
        seed("pairing", "t1", &[&[2], &bytes("t1")]),
        seed("pairing", "t1 body", &[&[3], &body_of(&bytes("t1")).unwrap()]),
        seed("pairing", "t2", &[&[5], &bytes("t2")]),
        seed("pairing", "t2 body", &[&[6], &body_of(&bytes("t2")).unwrap()[33..]]),
        seed("pairing", "nonce", &[&[7], &bytes("nonce")]),
        seed("text", "words", &[&[1], known["device 0 words"].as_str().unwrap().as_bytes()]),
        seed("addresses", "record", &[&[0], &bytes("address record")]),
        seed("addresses", "record body", &[&[1], &body_of(&bytes("address record")).unwrap()[32..]]),
        seed("addresses", "relay", &[&[2], b"https://relay.example:7843/"]),
    ];
    for name in ["add", "remove", "remove person", "set", "rekey", "retire"] {
        let record = bytes(name);
        seeds.push(seed("members", name, &[&[0], &record]));
    }
    seeds
}

fn log() -> Vec<Seed> {
    let known = known(include_str!("../../tests/golden/log.json"));
    let signed = unhex(&known["signed_frontier"]);
    // Behind format, space and device; the signature has 65 bytes.
    let body = &signed[1 + 32 + 32..signed.len() - 65];
    let mut seeds = vec![
        seed("addresses", "frontier", &[&[3], &unhex(&known["frontier"])]),
        seed("addresses", "frontier body", &[&[4], body]),
    ];
    for (at, entry) in known["entries"].as_array().unwrap().iter().enumerate() {
        let (bytes, header) = (unhex(&entry["entry"]), unhex(&entry["header"]));
        seeds.push(seed("entry", &format!("{at}"), &[&[0], &bytes]));
        if DEVICES[1].0.id().as_bytes()[..] == header[33..65] {
            seeds.push(seed("entry", &format!("{at} header"), &[&[1], &part(&header), b"payload"]));
        }
        if let Some(change) = entry["body"].get("change") {
            let change = unhex(change);
            seeds.push(seed("entry", &format!("{at} body"), &[&[3], &change]));
            seeds.push(seed("change", &format!("{at}"), &[&[0], &change]));
            seeds.push(seed("change", &format!("{at} body"), &[&[1], &change_body(&change)]));
        }
    }
    seeds.push(seed("entry", "start body", &[&[2], &[6], b"laptop", &[1], &[0x65; 8]]));
    seeds.push(seed("entry", "seen body", &[&[4]]));
    seeds
}

/// What stands behind magic, checksum, kind and length.
fn change_body(change: &[u8]) -> Vec<u8> {
    let (len, body) = super::proofs::read_varint(&change[9..]).unwrap();
    assert_eq!(len, body.len());
    body.to_vec()
}

fn content() -> Vec<Seed> {
    let known = known(include_str!("../../tests/golden/sealing.json"));
    let mut seeds = Vec::new();
    for manifest in known["manifests"].as_array().unwrap() {
        let count = manifest["chunk_count"].as_u64().unwrap();
        let page = manifest.get("page").map(|page| part(&unhex(page))).unwrap_or_default();
        if count < 100 {
            seeds.push(seed("manifest", &format!("{count}"), &[&[0], &part(&unhex(&manifest["value"])), &page]));
        }
    }
    for sealed in known["sealed"].as_array().unwrap() {
        let way = u8::from(sealed["is_page"].as_bool().unwrap());
        let name = format!("{} {}", sealed["name"].as_str().unwrap(), sealed["suite"]);
        seeds.push(seed("chunk", &name, &[&[way], &unhex(&sealed["id"]), &unhex(&sealed["sealed"])]));
    }
    seeds
}

/// A device begins its log and makes a directory; another begins, hears of the first and makes one beside.
const TWO_DEVICES: [u8; 29] = [0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 16, 1, 1, 1, 0, 0, 1, 1, 1, 2, 1, 1, 0, 0, 1, 0, 17, 1, 1];

/// Where the known answers have nothing: structured input, names and texts.
fn drawn() -> Vec<Seed> {
    let count: Vec<u8> = (0..=255).collect();
    let mixed: Vec<u8> = count.iter().map(|byte| byte.wrapping_mul(151).wrapping_add(43)).collect();
    let merge = [&part(b"a\nb\nc\n")[..], &part(b"A\nb\nc\n"), b"a\nb\nC\n"].concat();
    vec![
        seed("chunk", "raw", &[&[2], &[0, 0, 0, 0], b"stored"]),
        seed("chunk", "sealed", &[&[4], b"a chunk"]),
        seed("chunk", "sealed page", &[&[7], b"a page"]),
        seed("history", "two devices", &[&TWO_DEVICES]),
        seed("manifest", "list", &[&[2], &count[60..120]]),
        seed("members", "found", &[&[2], &[1; 400]]),
        seed("members", "granted", &[&[6], &[1; 400]]),
        seed("ops", "mixed", &[&mixed]),
        seed("pairing", "ask", &[&[4], &[1; 100]]),
        seed("text", "name", &[&[0], "Größe (conflict).txt".as_bytes()]),
        seed("text", "key", &[&[2], b"AAAAAAAAAAAAAAAAAAAAAAp"]),
        seed("text", "merge", &[&[3], &merge]),
        seed("text", "merge lines", &[&[4], &part(&[0, 1, 2, 0, 1]), &part(&[1, 1, 2, 0, 1]), &[0, 1, 2, 0, 2]]),
    ]
}
