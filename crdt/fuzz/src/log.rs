//! One entry of a log: frame, header, sealed payload, and what it says.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zerocloud_crdt::FORMAT;
use zerocloud_crdt::codec::encode;
use zerocloud_crdt::id::{EntryHash, EpochId, Incarnation, LogId, RecordHash, SpaceId};
use zerocloud_crdt::keys::{EpochSecret, Purpose};
use zerocloud_crdt::log::{Body, Entry, Header, Kind};
use zerocloud_crdt::padding::padded_len;
use zerocloud_crdt::sign::{Signature, Signed, sign};

use super::proofs::{DEVICES, LOG_SECRET, LOG_SPACE, prefixed};
use super::{choose, take_part};

/// The suite of payloads.
const SUITE: u8 = 1;

/// Seals what is padded, for an entry with this header. All nonces are zeros: nobody but this test reads it.
pub(crate) fn seal(secret: &EpochSecret, header: &[u8], plain: &[u8]) -> Vec<u8> {
    let cipher = XChaCha20Poly1305::new(secret.key(Purpose::Log).expose().into());
    let sealed = cipher.encrypt(&XNonce::from([0; 24]), Payload { msg: plain, aad: header }).unwrap();
    [&[SUITE][..], &[0; 24], &sealed].concat()
}

/// A body as a payload says it, uncompressed and padded.
pub(crate) fn plain_of(body: &[u8]) -> Vec<u8> {
    packed(0, body.len() as u32, body)
}

fn packed(flags: u8, len: u32, stored: &[u8]) -> Vec<u8> {
    let mut plain = vec![flags];
    plain.extend(len.to_le_bytes());
    plain.extend((stored.len() as u32).to_le_bytes());
    plain.extend_from_slice(stored);
    plain.resize(padded_len(plain.len() as u64) as usize, 0);
    plain
}

/// Header and payload with a signature behind them.
pub(crate) fn framed(key: Option<&ed25519_dalek::SigningKey>, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = [vec![FORMAT], prefixed(header), prefixed(payload)].concat();
    let signature = key.map_or(Signature::Ed25519([0; 64]), |key| sign(key, Signed::Entry, LOG_SPACE, &bytes));
    bytes.extend(encode(&signature));
    bytes
}

/// The header of an entry of this kind that may stand alone.
fn header_of(kind: Kind) -> Header {
    let number = if kind == Kind::Start { 1 } else { 2 };
    Header {
        space: LOG_SPACE,
        log: LogId { author: DEVICES[1].0.id(), incarnation: Incarnation([0x66; 8]) },
        number,
        previous: (number > 1).then_some(EntryHash([0x77; 32])),
        heads: Vec::new(),
        membership: vec![RecordHash(LOG_SPACE.0)],
        epoch: EpochId([0x22; 32]),
        kind,
    }
}

const KINDS: [Kind; 3] = [Kind::Start, Kind::Index, Kind::Seen];

/// An entry as it comes, one whose header and payload a device has signed, and what a member may have sealed in one.
pub fn entry(data: &[u8]) -> bool {
    let Some((way, mut data)) = choose(data, 8) else { return false };
    match way {
        0 => read(data.to_vec(), false),
        1 => {
            let mut header = take_part(&mut data).to_vec();
            // Format, space and author, so that the rest is read.
            let known = [&[FORMAT][..], LOG_SPACE.as_bytes(), DEVICES[1].0.id().as_bytes()].concat();
            header.splice(..known.len().min(header.len()), known);
            read(framed(Some(&DEVICES[1].1), &header, data), true)
        }
        2..=4 => sealed(KINDS[usize::from(way - 2)], &plain_of(data)),
        5 | 6 => {
            let Some((&len, frame)) = data.split_first_chunk() else { return false };
            sealed(KINDS[usize::from(way - 5)], &packed(1, u32::from_le_bytes(len), frame))
        }
        _ => {
            let mut plain = data.to_vec();
            plain.resize(padded_len(plain.len() as u64) as usize, 0);
            sealed(Kind::Index, &plain)
        }
    }
}

fn read(bytes: Vec<u8>, is_signed: bool) -> bool {
    let decoded = Entry::decode_stored(LOG_SPACE, bytes.clone());
    let whole = Entry::decode(LOG_SPACE, bytes.clone());
    if is_signed {
        assert_eq!(decoded, whole, "the author signed it");
    }
    let Ok(entry) = decoded else {
        assert!(whole.is_err(), "an entry that counts can't be read from the store");
        return false;
    };
    assert_eq!(entry.as_bytes(), bytes);
    let header = entry.header();
    let encoded = prefixed(&header.encode());
    assert_eq!(bytes.get(1..=encoded.len()), Some(&encoded[..]), "the header is written as it was read");
    assert!(Entry::decode_stored(SpaceId([0x12; 32]), bytes).is_err(), "an entry of another space");
    open(&entry);
    true
}

fn sealed(kind: Kind, plain: &[u8]) -> bool {
    let header = header_of(kind).encode();
    let bytes = framed(None, &header, &seal(&LOG_SECRET, &header, plain));
    let Ok(entry) = Entry::decode_stored(LOG_SPACE, bytes) else { return false };
    open(&entry)
}

fn open(entry: &Entry) -> bool {
    let Ok(body) = entry.open(&LOG_SECRET) else { return false };
    assert_eq!(body.kind(), entry.header().kind);
    match &body {
        Body::Start(start) => assert!(start.is_well_formed(entry.header().log.incarnation)),
        Body::Index(change, hash) => assert_eq!(change.encode().map(|encoded| encoded.hash), Ok(*hash)),
        Body::Seen => assert!(body.ops().is_empty()),
    }
    true
}
