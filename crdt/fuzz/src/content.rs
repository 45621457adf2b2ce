//! What files are made of: manifests with their pages, sealed chunks, names, and texts that are merged.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zerocloud_crdt::FORMAT;
use zerocloud_crdt::change::Key;
use zerocloud_crdt::codec;
use zerocloud_crdt::id::{ChunkId, EpochId};
use zerocloud_crdt::keys::{Purpose, Secret};
use zerocloud_crdt::limits::VALUE_LEN_MAX;
use zerocloud_crdt::manifest::{Chunk, Class, Manifest, ManifestBuilder, PageAddress, Profile, Visited};
use zerocloud_crdt::merge;
use zerocloud_crdt::name::{Name, escape};
use zerocloud_crdt::seal::{ChunkKeys, Compression, Opener, Sealer, Suite, padded_len, suite_of};
use zerocloud_crdt::words;

use super::proofs::CONTENT_SECRET;
use super::{choose, take_part};

/// Chunks and pages that are looked at of one manifest: pages that list each other stand for any number.
const VISIT_COUNT_MAX: usize = 5_000;

/// A manifest with the pages that come behind it, in the place of those that it names; or chunks to be listed.
pub fn manifest(data: &[u8]) -> bool {
    let Some((way, mut data)) = choose(data, 3) else { return false };
    if way == 2 {
        return list(data);
    }
    let Ok(manifest) = codec::decode::<Manifest>(take_part(&mut data), VALUE_LEN_MAX) else { return false };
    let mut pages = Vec::new();
    while !data.is_empty() {
        pages.push(take_part(&mut data).to_vec());
    }
    walk(&manifest, way == 1, |address| pages.iter().find(|page| page.len() == address.len as usize).cloned())
}

/// Goes through a manifest; `is_honest`: through the middle of it alone.
fn walk(manifest: &Manifest, is_part: bool, page: impl Fn(&PageAddress) -> Option<Vec<u8>>) -> bool {
    let range = if is_part { manifest.len / 3..manifest.len / 2 } else { 0..manifest.len };
    let (mut count, mut end, mut is_whole) = (0, None, true);
    let mut source = |address: &PageAddress| page(address).ok_or("no such page");
    let walked = manifest.walk(range.clone(), &mut source, |visited| {
        count += 1;
        if let Visited::Chunk { offset, chunk } = visited {
            assert!(end.is_none_or(|end| end == offset), "chunks follow each other");
            assert!(offset < range.end && offset + u64::from(chunk.len) > range.start, "a chunk out of range");
            end = Some(offset + u64::from(chunk.len));
        }
        is_whole = count < VISIT_COUNT_MAX;
        if is_whole { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if walked.is_err() {
        return false;
    }
    assert!(manifest.check().is_ok());
    if is_whole && !range.is_empty() {
        assert!(end.is_some_and(|end| end >= range.end), "the chunks cover the range");
    }
    true
}

/// Chunks of any lengths and epochs make a manifest that lists them, or none.
fn list(data: &[u8]) -> bool {
    let keys = ChunkKeys::of_pages(&CONTENT_SECRET);
    let class = [Class::Single, Class::Small, Class::Medium, Class::Large][data.len() % 4];
    let lens = class.chunk_lens();
    let profile = Profile { chunker: 1, class, epoch: CONTENT_SECRET.epoch };
    let chunks: Vec<Chunk> = data
        .iter()
        .enumerate()
        .flat_map(|(at, byte)| (0..u32::from(*byte % 8) * 3).map(move |n| (at, *byte, n)))
        .map(|(at, byte, n)| Chunk {
            id: ChunkId(*blake3::hash(&[at as u8, byte, n as u8]).as_bytes()),
            epoch: EpochId([byte >> 6; 32]),
            len: (lens.min + u32::from(byte) * n).min(lens.max),
        })
        .collect();
    let built = ManifestBuilder::build(profile, chunks.iter().copied(), |page: &[u8]| (keys.id(page), keys.epoch()));
    let Ok((manifest, pages)) = built else { return false };
    let pages: BTreeMap<ChunkId, Vec<u8>> = pages.into_iter().map(|page| (page.id, page.plaintext)).collect();
    let read = manifest.chunks(|address| pages.get(&address.id).cloned().ok_or("no such page"));
    assert_eq!(read.unwrap(), chunks);
    assert_eq!(codec::decode(&codec::encode(&manifest), VALUE_LEN_MAX).as_ref(), Ok(&manifest));
    walk(&manifest, true, |address| pages.get(&address.id).cloned())
}

/// A sealed chunk or page: as it comes, with a text that a member has sealed, and sealed as it should be.
pub fn chunk(data: &[u8]) -> bool {
    let Some((way, data)) = choose(data, 8) else { return false };
    let keys = if way & 1 == 0 { ChunkKeys::of_chunks(&CONTENT_SECRET) } else { ChunkKeys::of_pages(&CONTENT_SECRET) };
    match way >> 1 {
        0 => {
            let Some((id, sealed)) = data.split_first_chunk() else { return false };
            let is_sealed = suite_of(sealed).is_ok();
            let opened = Opener::new().open(&keys, &ChunkId(*id), sealed);
            assert!(is_sealed || opened.is_err());
            opened.is_ok()
        }
        1 => {
            let Some((&[flags, l0, l1, l2], stored)) = data.split_first_chunk() else { return false };
            let len = u32::from_le_bytes([l0, l1, l2, 0]);
            let id = keys.id(stored);
            let sealed = seal(way & 1 > 0, &id, &packed(flags % 3, len, stored));
            let opened = Opener::new().open(&keys, &id, &sealed);
            assert!(opened.as_ref().is_ok_and(|opened| opened == stored) || opened.is_err());
            opened.is_ok()
        }
        way => {
            let suite = if way == 2 { Suite::XChaCha20Poly1305 } else { Suite::Aes256Gcm };
            let named = keys.name(data);
            let mut rng = ChaCha20Rng::seed_from_u64(data.len() as u64);
            let Ok(mut sealed) = Sealer::new(suite, Compression::ON).seal(&named, &mut rng) else { return false };
            assert_eq!(Opener::new().open(&keys, &named.id(), &sealed).as_deref(), Ok(data));
            let at = data.len() % sealed.len();
            sealed[at] ^= 1;
            assert!(Opener::new().open(&keys, &named.id(), &sealed).is_err(), "byte {at}");
            true
        }
    }
}

/// Salt and tag of suite 1, and what stands around the text.
const HEAD_LEN: usize = 2 + 24;
const TAG_LEN: usize = 16;
const TRAILER_LEN: usize = 9;

/// The text of a sealed chunk (`crdt/src/seal.rs`).
fn packed(flags: u8, len: u32, stored: &[u8]) -> Vec<u8> {
    let len = if flags == 0 { stored.len() as u32 } else { len };
    let total = padded_len(HEAD_LEN + stored.len() + TRAILER_LEN + TAG_LEN);
    let mut text = stored.to_vec();
    text.resize(total - HEAD_LEN - TAG_LEN - TRAILER_LEN, 0);
    text.push(flags);
    text.extend(len.to_le_bytes());
    text.extend((stored.len() as u32).to_le_bytes());
    text
}

/// Seals a text by suite 1 (`crdt/src/seal/keys.rs`).
fn seal(is_page: bool, id: &ChunkId, text: &[u8]) -> Vec<u8> {
    let secret = &*CONTENT_SECRET;
    let (purpose, context): (_, &[u8]) = match is_page {
        false => (Purpose::Sealing, b"zerocloud/1 sealed chunk"),
        true => (Purpose::ManifestSealing, b"zerocloud/1 sealed pages"),
    };
    let key = blake3::keyed_hash(secret.key(purpose).expose(), id.as_bytes());
    let head = [FORMAT, Suite::XChaCha20Poly1305.number()];
    let aad = [context, &head, secret.space.as_bytes(), secret.epoch.as_bytes(), id.as_bytes()].concat();
    let cipher = XChaCha20Poly1305::new(key.as_bytes().into());
    let sealed = cipher.encrypt(&XNonce::from([0; 24]), Payload { msg: text, aad: &aad }).unwrap();
    [&head[..], &[0; 24], &sealed].concat()
}

/// Names, words and keys; and three texts of which two are changes of the first.
pub fn text(data: &[u8]) -> bool {
    let Some((way, mut data)) = choose(data, 5) else { return false };
    match way {
        0 => name(data),
        1 => {
            let Some(seed) = std::str::from_utf8(data).ok().and_then(|text| words::to_seed(text).ok()) else {
                return false;
            };
            assert_eq!(words::to_seed(&words::of_seed(&seed)).as_ref().map(Secret::expose), Ok(seed.expose()));
            true
        }
        2 => {
            let Ok(key) = Key::parse(data) else { return false };
            assert_eq!(key.to_string().as_bytes(), data);
            true
        }
        3 => {
            let (ancestor, a) = (take_part(&mut data), take_part(&mut data));
            merged(ancestor, a, data)
        }
        // Few different lines: they meet often.
        _ => {
            let lines = |bytes: &[u8]| -> Vec<u8> {
                bytes.iter().flat_map(|byte| [b'a' + byte % 3, if byte & 0x80 > 0 { b'a' } else { b'\n' }]).collect()
            };
            let (ancestor, a) = (take_part(&mut data), take_part(&mut data));
            merged(&lines(ancestor), &lines(a), &lines(data))
        }
    }
}

fn name(data: &[u8]) -> bool {
    let encoded = codec::encode(&serde_bytes::Bytes::new(data));
    let decoded = codec::decode::<Name>(&encoded, encoded.len());
    let Ok(name) = Name::parse(data) else {
        assert!(decoded.is_err(), "a name that no gate lets through");
        return false;
    };
    assert_eq!(name.as_bytes(), data);
    assert_eq!(codec::encode(&name), encoded);
    assert_eq!(decoded, Ok(name));
    assert!(!data.is_empty() && data.len() <= 255 && !data.iter().any(|byte| matches!(byte, b'/' | 0)));
    assert!(data != b"." && data != b"..");
    assert!(!escape(data).chars().any(char::is_control), "what is shown moves no cursor");
    true
}

fn merged(ancestor: &[u8], a: &[u8], b: &[u8]) -> bool {
    let both = merge::merge(ancestor, a, b);
    assert_eq!(merge::merge(ancestor, b, a), both, "the sides are the same");
    if let Ok(alone) = merge::merge(ancestor, a, ancestor) {
        assert_eq!(alone, a, "who alone has changed something has it");
    }
    let Ok(both) = both else { return false };
    assert!(std::str::from_utf8(&both).is_ok());
    assert_eq!(merge::merge(ancestor, a, a).as_deref().unwrap_or(a), a);
    true
}
