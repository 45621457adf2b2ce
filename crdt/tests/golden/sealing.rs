//! Everything that is cut, named, sealed and listed.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::{Value, json};
use zerocloud_crdt::{
    chunk::{CHUNKER, Chunker, Content, Gear, Namer},
    codec,
    id::{ChunkId, ContentHash, EpochId, SpaceId},
    keys::{EpochSecret, Purpose, Secret},
    manifest::{Chunk, Class, Manifest, ManifestBuilder, Profile},
    seal::{ChunkKeys, Compression, Opener, Sealer, Suite, padded_len},
};

const FILE: &str = "sealing.json";

fn stored() -> Value {
    super::stored(FILE).into()
}

fn secret() -> EpochSecret {
    EpochSecret::new(SpaceId([0x51; 32]), EpochId([0xe9; 32]), Secret::new([0x5e; 32]))
}

/// The first bytes of BLAKE3's extended output over a label.
fn noise(label: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(label.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn text(len: usize) -> Vec<u8> {
    b"the quick brown fox jumps over the lazy dog. ".iter().copied().cycle().take(len).collect()
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn unhex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

#[track_caller]
fn compare(name: &str, recomputed: &Value) {
    super::compare(FILE, name, recomputed);
}

#[test]
fn purpose_keys_are_derived_as_ever() {
    let keys = Purpose::ALL.map(|purpose| (format!("{purpose:?}"), hex(secret().key(purpose).expose())));
    compare("keys", &json!(BTreeMap::from(keys)));
}

#[test]
fn the_gear_table_is_expanded_as_ever() {
    let gear = Gear::of_epoch(&secret());
    let bytes: Vec<u8> = gear.words().iter().flat_map(|word| word.to_le_bytes()).collect();
    compare(
        "gear",
        &json!({ "first": format!("{:016x}", gear.words()[0]), "blake3": hex(blake3::hash(&bytes).as_bytes()) }),
    );
}

#[test]
fn lengths_are_padded_as_ever() {
    let table: Vec<_> = [1, 1024, 1025, 16_384, 16_385, 17_409, 32_768, 32_769, 65_537, 100_000, 1_000_000, 4_194_353]
        .into_iter()
        .map(|len| json!([len, padded_len(len)]))
        .collect();
    compare("padding", &json!(table));
}

/// Content of every class with all the secrets of the epoch; what is cut, in one pass over odd buffers.
fn contents() -> Vec<(&'static str, Class, Vec<u8>)> {
    vec![
        ("empty", Class::Single, Vec::new()),
        ("single", Class::Single, noise("single", 100_000)),
        ("small", Class::Small, noise("small", 3 << 20)),
        ("small without cuts", Class::Small, vec![0; 600_001]),
        ("medium", Class::Medium, noise("medium", 4 << 20)),
        ("large", Class::Large, noise("large", 12 << 20)),
    ]
}

fn cut(class: Class, content: &[u8]) -> Content {
    let (gear, keys) = (Gear::of_epoch(&secret()), ChunkKeys::of_chunks(&secret()));
    let profile = Profile { chunker: CHUNKER, class, epoch: secret().epoch };
    let mut chunker = Chunker::new(profile.class, &gear);
    let mut namer = Namer::new(|chunk: &[u8]| keys.chunk(chunk));
    for buffer in content.chunks(1_000_003) {
        namer.update(buffer, &chunker.update_lens(buffer));
    }
    Content { hash: ContentHash::of(content), len: content.len() as u64, chunks: namer.finish(&chunker.finish_lens()) }
}

#[test]
fn content_is_cut_and_named_as_ever() {
    let cuts: Vec<_> = contents()
        .into_iter()
        .map(|(name, class, content)| {
            let Content { hash, len, chunks } = cut(class, &content);
            let lens: Vec<_> = chunks.iter().map(|chunk| chunk.len).collect();
            let ids: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.id.0).collect();
            json!({
                "name": name,
                "class": format!("{class:?}"),
                "len": len,
                "content_hash": hash.to_string(),
                "chunk_lens": lens,
                "first_id": chunks.first().map(|chunk| chunk.id.to_string()),
                "ids_blake3": hex(blake3::hash(&ids).as_bytes()),
            })
        })
        .collect();
    compare("cuts", &json!(cuts));
}

fn sealings() -> Vec<(&'static str, bool, Vec<u8>)> {
    vec![
        ("empty chunk", false, Vec::new()),
        ("short chunk", false, b"a short chunk".to_vec()),
        ("chunk of noise", false, noise("sealed", 2_000)),
        ("page", true, b"as if it were a page".to_vec()),
    ]
}

fn keys(is_page: bool) -> ChunkKeys {
    if is_page { ChunkKeys::of_pages(&secret()) } else { ChunkKeys::of_chunks(&secret()) }
}

#[test]
fn plaintexts_are_sealed_as_ever() {
    // Without compression: another release of zstd may write other bytes, and may do so.
    let mut sealed = Vec::new();
    for (name, is_page, plaintext) in sealings() {
        for suite in Suite::ALL {
            let keys = keys(is_page);
            let named = keys.name(&plaintext);
            let mut rng = ChaCha20Rng::from_seed([suite.number(); 32]);
            let bytes = Sealer::new(suite, Compression::Off).seal(&named, &mut rng).unwrap();
            sealed.push(json!({
                "name": name,
                "suite": suite.number(),
                "is_page": is_page,
                "id": named.id().to_string(),
                "plaintext": hex(&plaintext),
                "sealed": hex(&bytes),
            }));
        }
    }
    compare("sealed", &json!(sealed));
}

#[test]
fn stored_sealed_bytes_open() {
    let stored = stored();
    let mut opener = Opener::new();
    let mut count = 0;
    for sealed in stored["sealed"].as_array().unwrap() {
        let keys = keys(sealed["is_page"].as_bool().unwrap());
        let id = ChunkId::from_hex(sealed["id"].as_str().unwrap()).unwrap();
        let bytes = unhex(&sealed["sealed"]);
        assert_eq!(u64::from(bytes[1]), sealed["suite"].as_u64().unwrap());
        assert_eq!(opener.open(&keys, &id, &bytes).unwrap(), unhex(&sealed["plaintext"]), "{}", sealed["name"]);
        count += 1;
    }
    assert_eq!(count, 8);
}

/// Texts whose sealed form holds a zstd frame, as zstd 1.5.7 writes it at level 1.
#[test]
fn stored_compressed_chunks_open() {
    let stored = stored();
    let keys = keys(false);
    let compressed = stored["compressed"].as_array().unwrap();
    assert_eq!(compressed.len(), 2);
    for sealed in compressed {
        let plaintext = text(sealed["text_len"].as_u64().unwrap() as usize);
        let bytes = unhex(&sealed["sealed"]);
        assert!(bytes.len() < plaintext.len());
        assert_eq!(Opener::new().open(&keys, &keys.id(&plaintext), &bytes).unwrap(), plaintext);
    }
}

#[test]
fn compressed_chunks_seal_to_the_stored_length() {
    let seal = |text_len: usize, suite: Suite| {
        let mut rng = ChaCha20Rng::from_seed([suite.number(); 32]);
        Sealer::new(suite, Compression::ON).seal(&keys(false).name(&text(text_len)), &mut rng).unwrap()
    };
    if super::is_blessed() {
        let told = [(5_000, 1), (70_000, 2)].map(|(text_len, suite)| {
            let sealed = seal(text_len, Suite::from_number(suite).unwrap());
            json!({ "text_len": text_len, "suite": suite, "sealed": hex(&sealed) })
        });
        super::bless(FILE, "compressed", &json!(told));
    }
    for sealed in stored()["compressed"].as_array().unwrap() {
        let suite = Suite::from_number(sealed["suite"].as_u64().unwrap() as u8).unwrap();
        let bytes = seal(sealed["text_len"].as_u64().unwrap() as usize, suite);
        assert_eq!(bytes.len(), unhex(&sealed["sealed"]).len(), "recomputed:\n{}", hex(&bytes));
    }
}

fn listed(chunk_count: u32) -> (Manifest, Vec<(ChunkId, Vec<u8>)>) {
    let chunks = (0..chunk_count).map(|i| Chunk {
        id: ChunkId(ContentHash::of(&i.to_le_bytes()).0),
        epoch: if i % 900 < 800 { EpochId([0xaa; 32]) } else { secret().epoch },
        len: 20_000 + i % 7,
    });
    let profile = Profile { chunker: CHUNKER, class: Class::Small, epoch: secret().epoch };
    let keys = ChunkKeys::of_pages(&secret());
    let (manifest, pages) =
        ManifestBuilder::build(profile, chunks, |page: &[u8]| (keys.id(page), keys.epoch())).unwrap();
    (manifest, pages.into_iter().map(|page| (page.id, page.plaintext)).collect())
}

#[test]
fn manifests_and_pages_are_written_as_ever() {
    let manifests: Vec<_> = [0, 2, 9, 5_000]
        .into_iter()
        .map(|chunk_count| {
            let (manifest, pages) = listed(chunk_count);
            let mut value = json!({
                "chunk_count": chunk_count,
                "value": hex(&codec::encode(&manifest)),
                "page_lens": pages.iter().map(|(_, page)| page.len()).collect::<Vec<_>>(),
                "page_ids": pages.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(),
            });
            if let [(_, page)] = pages.as_slice() {
                value["page"] = json!(hex(page));
            }
            value
        })
        .collect();
    compare("manifests", &json!(manifests));
}

#[test]
fn a_stored_manifest_reads_back() {
    let stored = stored();
    let entry = &stored["manifests"][2];
    let manifest: Manifest = codec::decode(&unhex(&entry["value"]), 4096).unwrap();
    let chunks = manifest.chunks(|_| Ok::<_, std::convert::Infallible>(unhex(&entry["page"]))).unwrap();
    assert_eq!(chunks.len(), 9);
    assert_eq!(chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>(), manifest.len);
}
