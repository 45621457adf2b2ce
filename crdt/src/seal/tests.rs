use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::{
    id::SpaceId,
    keys::{EpochSecret, Secret},
    limits::{CHUNK_LEN_MAX, MANIFEST_PAGE_LEN_MAX, SEALED_PAGE_LEN_MAX},
};

fn secret(space: u8, epoch: u8) -> EpochSecret {
    EpochSecret::new(SpaceId([space; 32]), EpochId([epoch; 32]), Secret::new([7; 32]))
}

fn keys() -> ChunkKeys {
    ChunkKeys::of_chunks(&secret(1, 2))
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng(seed).fill_bytes(&mut bytes);
    bytes
}

fn text(len: usize) -> Vec<u8> {
    b"the same procedure as every year, ".iter().copied().cycle().take(len).collect()
}

const NOT_AUTHENTIC: OpenError = OpenError::NotAuthentic { epoch: EpochId([2; 32]) };

/// Seals a text of one's own making under the right keys: what a hostile member can do.
fn seal_text(suite: Suite, keys: &ChunkKeys, id: &ChunkId, stored: &[u8], trailer: (u8, u32, u32)) -> Vec<u8> {
    let (flags, len, stored_len) = trailer;
    let mut sealed = vec![FORMAT, suite.number()];
    let salt = vec![5; suite.salt_len()];
    sealed.extend_from_slice(&salt);
    let head_len = sealed.len();
    sealed.extend_from_slice(stored);
    sealed.resize(sealed_len(suite, stored.len()) - TAG_LEN - TRAILER_LEN, 0);
    sealed.push(flags);
    sealed.extend_from_slice(&len.to_le_bytes());
    sealed.extend_from_slice(&stored_len.to_le_bytes());
    let additional = keys.additional(suite, id);
    let tag = suite.encrypt(&keys.chunk_key(id), &salt, &additional, &mut sealed[head_len..]).unwrap();
    sealed.extend_from_slice(&tag);
    sealed
}

#[test]
fn lengths_of_every_kind_are_sealed_and_opened() {
    let keys = keys();
    let mut opener = Opener::new();
    let (mut sealed, mut opened) = (Vec::new(), Vec::new());
    for suite in Suite::ALL {
        for compression in [Compression::Off, Compression::ON] {
            let mut sealer = Sealer::new(suite, compression);
            for len in [0, 1, 900, 16 << 10, 100_000, CHUNK_LEN_MAX] {
                for plaintext in [noise(1, len), text(len)] {
                    let named = keys.name(&plaintext);
                    sealer.seal_into(&named, &mut rng(9), &mut sealed).unwrap();
                    assert_eq!(padded_len(sealed.len()), sealed.len());
                    assert_eq!(suite_of(&sealed), Ok(suite));
                    opener.open_into(&keys, &named.id(), &sealed, &mut opened).unwrap();
                    assert_eq!(opened, plaintext);
                }
            }
        }
    }
}

#[test]
fn only_what_shrinks_is_compressed() {
    let keys = keys();
    let seal = |plaintext: &[u8], compression| {
        Sealer::new(Suite::Aes256Gcm, compression).seal(&keys.name(plaintext), &mut rng(1)).unwrap().len()
    };
    let (text, noise) = (text(256 << 10), noise(1, 256 << 10));
    assert!(seal(&text, Compression::ON) <= 2048);
    assert!(seal(&text, Compression::Off) > 256 << 10);
    assert_eq!(seal(&noise, Compression::ON), seal(&noise, Compression::Off));
    let half = [noise, text].concat();
    assert!(seal(&half, Compression::ON) < 300 << 10, "the middle sample shrinks");
}

#[test]
fn what_is_too_long_is_not_sealed_and_not_opened() {
    let (chunks, pages) = (keys(), ChunkKeys::of_pages(&secret(1, 2)));
    let mut sealer = Sealer::new(Suite::Aes256Gcm, Compression::ON);
    let long = text(CHUNK_LEN_MAX + 1);
    assert_eq!(
        sealer.seal(&chunks.name(&long), &mut rng(1)),
        Err(SealError::TooLong { len: CHUNK_LEN_MAX + 1, limit: CHUNK_LEN_MAX })
    );
    assert!(sealer.seal(&pages.name(&long[..MANIFEST_PAGE_LEN_MAX]), &mut rng(1)).is_ok());
    assert!(sealer.seal(&pages.name(&long[..MANIFEST_PAGE_LEN_MAX + 1]), &mut rng(1)).is_err());
    let id = chunks.id(b"");
    assert_eq!(
        Opener::new().open(&chunks, &id, &vec![0; SEALED_CHUNK_LEN_MAX + 1]),
        Err(OpenError::TooLong { len: SEALED_CHUNK_LEN_MAX + 1, limit: SEALED_CHUNK_LEN_MAX })
    );
    assert_eq!(
        Opener::new().open(&pages, &id, &vec![0; SEALED_PAGE_LEN_MAX + 1]),
        Err(OpenError::TooLong { len: SEALED_PAGE_LEN_MAX + 1, limit: SEALED_PAGE_LEN_MAX })
    );
}

#[test]
fn a_plaintext_that_changed_is_not_named_as_the_old_chunk() {
    let keys = keys();
    let id = keys.id(b"as scanned");
    assert!(keys.check(&id, b"as scanned").is_some());
    assert!(keys.check(&id, b"as read later").is_none());
}

#[test]
fn threat_09_an_unknown_format_or_suite_is_refused_before_any_key_is_used() {
    let keys = keys();
    let named = keys.name(b"content");
    let sealed = Sealer::new(Suite::Aes256Gcm, Compression::ON).seal(&named, &mut rng(1)).unwrap();
    let mut opener = Opener::new();
    for number in (0..=u8::MAX).filter(|number| *number != FORMAT) {
        let mut other = sealed.clone();
        other[0] = number;
        assert_eq!(opener.open(&keys, &named.id(), &other), Err(OpenError::UnknownFormat { found: number }));
    }
    for number in (0..=u8::MAX).filter(|number| Suite::from_number(*number).is_none()) {
        let mut other = sealed.clone();
        other[1] = number;
        assert_eq!(opener.open(&keys, &named.id(), &other), Err(OpenError::UnknownSuite { suite: number }));
    }
    // The other suite's number on the same bytes: the additional data and the salt's length differ.
    let mut other = sealed.clone();
    other[1] = Suite::XChaCha20Poly1305.number();
    assert_eq!(opener.open(&keys, &named.id(), &other), Err(NOT_AUTHENTIC));
}

#[test]
fn threat_10_every_flipped_bit_is_refused_with_one_error() {
    let keys = keys();
    let named = keys.name(b"a small chunk");
    let mut opener = Opener::new();
    for suite in Suite::ALL {
        let sealed = Sealer::new(suite, Compression::ON).seal(&named, &mut rng(1)).unwrap();
        for bit in HEAD_LEN * 8..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut out = b"left from before".to_vec();
            assert_eq!(opener.open_into(&keys, &named.id(), &flipped, &mut out), Err(NOT_AUTHENTIC), "bit {bit}");
            assert!(out.is_empty());
        }
    }
}

#[test]
fn threat_10_every_truncation_is_refused() {
    let keys = keys();
    let plaintext = noise(3, 3000);
    let named = keys.name(&plaintext);
    let mut opener = Opener::new();
    for suite in Suite::ALL {
        let sealed = Sealer::new(suite, Compression::ON).seal(&named, &mut rng(1)).unwrap();
        for len in 0..sealed.len() {
            let expected = match len {
                1024 | 2048 | 3072 => NOT_AUTHENTIC,
                _ => OpenError::NotSealed { len },
            };
            assert_eq!(opener.open(&keys, &named.id(), &sealed[..len]), Err(expected));
        }
        let extended = [sealed.as_slice(), &[0; 1024]].concat();
        assert_eq!(opener.open(&keys, &named.id(), &extended), Err(NOT_AUTHENTIC));
    }
}

#[test]
fn threat_11_a_sealed_object_opens_as_what_it_is_and_nothing_else() {
    let plaintext = b"content";
    let all: Vec<ChunkKeys> = [(1, 2), (1, 3), (4, 2)]
        .into_iter()
        .flat_map(|(space, epoch)| {
            let secret = secret(space, epoch);
            [ChunkKeys::of_chunks(&secret), ChunkKeys::of_pages(&secret)]
        })
        .collect();
    for (i, sealing) in all.iter().enumerate() {
        let named = sealing.name(plaintext);
        let sealed = Sealer::new(Suite::fastest(), Compression::ON).seal(&named, &mut rng(1)).unwrap();
        for (j, opening) in all.iter().enumerate() {
            for id in all.iter().map(|keys| keys.id(plaintext)) {
                let opened = Opener::new().open(opening, &id, &sealed);
                assert_eq!(opened.is_ok(), i == j && id == named.id());
            }
        }
    }
}

#[test]
fn threat_13_a_sealed_chunk_does_not_open_in_the_place_of_another() {
    let keys = keys();
    let plaintexts: Vec<_> = (0..5).map(|i| noise(i, 100)).collect();
    let sealed: Vec<_> = plaintexts
        .iter()
        .map(|plaintext| {
            Sealer::new(Suite::fastest(), Compression::ON).seal(&keys.name(plaintext), &mut rng(1)).unwrap()
        })
        .collect();
    for (i, sealed) in sealed.iter().enumerate() {
        for (j, plaintext) in plaintexts.iter().enumerate() {
            assert_eq!(Opener::new().open(&keys, &keys.id(plaintext), sealed).is_ok(), i == j);
        }
    }
}

#[test]
fn threat_25_small_files_have_at_most_seventeen_sealed_lengths() {
    let keys = keys();
    for suite in Suite::ALL {
        let mut sealer = Sealer::new(suite, Compression::Off);
        let lens: BTreeSet<usize> = (0..1000)
            .map(|i| sealer.seal(&keys.name(&noise(1, i * 16_383 / 999)), &mut rng(1)).unwrap().len())
            .collect();
        assert!(lens.len() <= 17);
        assert!(lens.iter().all(|len| len % 1024 == 0 && *len <= 17 << 10));
    }
}

#[test]
fn threat_27_a_text_that_is_authentic_and_not_the_named_one_is_refused() {
    // What a crafted collision of two keys comes to: the tag is right for this reader too, the text is another.
    let keys = keys();
    let id = keys.id(b"what everybody else reads");
    for suite in Suite::ALL {
        let other = b"what this reader should read";
        let len = other.len() as u32;
        let crafted = seal_text(suite, &keys, &id, other, (FLAG_RAW, len, len));
        assert_eq!(Opener::new().open(&keys, &id, &crafted), Err(NOT_AUTHENTIC));
        // The same with the id that belongs to it: only the id was wrong.
        let honest = seal_text(suite, &keys, &keys.id(other), other, (FLAG_RAW, len, len));
        assert_eq!(Opener::new().open(&keys, &keys.id(other), &honest).as_deref(), Ok(other.as_slice()));
    }
}

/// A generator that remembers what it gave.
struct Recording {
    rng: ChaCha20Rng,
    drawn: Vec<u8>,
}

impl rand_core::TryRng for Recording {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        panic!("only bytes are drawn")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        panic!("only bytes are drawn")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.rng.fill_bytes(bytes);
        self.drawn.extend_from_slice(bytes);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Recording {}

#[test]
fn threat_28_no_key_and_nonce_seal_two_texts() {
    let keys = keys();
    let mut rng = Recording { rng: rng(4), drawn: Vec::new() };
    let mut messages: BTreeMap<([u8; 32], Vec<u8>), Vec<u8>> = BTreeMap::new();
    let mut count = 0;
    for plaintext in [text(50_000), text(50_001), noise(1, 5000)] {
        let named = keys.name(&plaintext);
        for suite in Suite::ALL {
            for compression in [Compression::Off, Compression::Zstd { level: 1 }, Compression::Zstd { level: 19 }] {
                for _ in 0..20 {
                    rng.drawn.clear();
                    let sealed = Sealer::new(suite, compression).seal(&named, &mut rng).unwrap();
                    let salt = &sealed[HEAD_LEN..HEAD_LEN + suite.salt_len()];
                    assert_eq!(salt, rng.drawn, "the salt is drawn, all of it, and nothing else is");
                    let chunk_key = keys.chunk_key(&named.id());
                    let used = match suite {
                        Suite::XChaCha20Poly1305 => (*chunk_key.expose(), salt.to_vec()),
                        Suite::Aes256Gcm => (*blake3::keyed_hash(chunk_key.expose(), salt).as_bytes(), vec![0; 12]),
                    };
                    messages.insert(used, sealed);
                    count += 1;
                }
            }
        }
    }
    assert_eq!(messages.len(), count, "each message has a key and nonce of its own");
}

#[test]
fn threat_43_a_bomb_is_refused_within_the_declared_length() {
    // A frame of 100 kB that expands to 3 GiB: blocks of one repeated byte, 128 KiB each.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1100_0000, 13 << 3];
    bomb.extend_from_slice(&(3u64 << 30).to_le_bytes());
    for _ in 0..24_576 {
        let header: u32 = (128 << 10) << 3 | 1 << 1;
        bomb.extend_from_slice(&header.to_le_bytes()[..3]);
        bomb.push(0);
    }
    let keys = keys();
    let id = keys.id(b"whatever");
    let stored_len = bomb.len() as u32;
    let mut opener = Opener::new();
    for declared in [0, stored_len + 1, 1 << 20, CHUNK_LEN_MAX as u32, CHUNK_LEN_MAX as u32 + 1, u32::MAX] {
        let sealed = seal_text(Suite::Aes256Gcm, &keys, &id, &bomb, (FLAG_ZSTD, declared, stored_len));
        let mut out = Vec::new();
        assert_eq!(opener.open_into(&keys, &id, &sealed, &mut out), Err(NOT_AUTHENTIC), "{declared}");
        assert!(out.capacity() + opener.frame.capacity() < 8 << 20);
    }
    // The same with a content size that is the declared one: the blocks give more than they say.
    let mut lying = bomb.clone();
    lying[6..14].copy_from_slice(&(1u64 << 20).to_le_bytes());
    let sealed = seal_text(Suite::Aes256Gcm, &keys, &id, &lying, (FLAG_ZSTD, 1 << 20, stored_len));
    assert_eq!(opener.open(&keys, &id, &sealed), Err(NOT_AUTHENTIC));
}

#[test]
fn a_text_that_is_not_in_canonical_form_is_refused() {
    let keys = keys();
    let plaintext = text(3000);
    let id = keys.id(&plaintext);
    let frame = zstd::bulk::compress(&plaintext, 1).unwrap();
    let (len, frame_len) = (3000, frame.len() as u32);
    let open = |stored: &[u8], trailer| {
        Opener::new().open(&keys, &id, &seal_text(Suite::XChaCha20Poly1305, &keys, &id, stored, trailer))
    };
    assert!(open(&frame, (FLAG_ZSTD, len, frame_len)).is_ok());
    assert!(open(&plaintext, (FLAG_RAW, len, len)).is_ok());
    assert_eq!(open(&plaintext, (2, len, len)), Err(NOT_AUTHENTIC), "an unknown flag");
    assert_eq!(open(&plaintext, (FLAG_RAW, len, len - 1)), Err(NOT_AUTHENTIC), "two lengths");
    assert_eq!(open(&plaintext, (FLAG_RAW, len - 1, len)), Err(NOT_AUTHENTIC), "two lengths");
    assert_eq!(open(&plaintext, (FLAG_RAW, u32::MAX, u32::MAX)), Err(NOT_AUTHENTIC), "beyond the text");
    assert_eq!(open(&frame, (FLAG_ZSTD, len, frame_len + 1)), Err(NOT_AUTHENTIC), "padding as data");
    let mut dirty = frame.clone();
    dirty.push(1);
    assert_eq!(open(&dirty, (FLAG_ZSTD, len, frame_len)), Err(NOT_AUTHENTIC), "padding that is not zero");
    let roomy = [frame.as_slice(), &[0; 2000]].concat();
    assert_eq!(open(&roomy, (FLAG_ZSTD, len, frame_len)), Err(NOT_AUTHENTIC), "more padding than needed");
}

#[test]
fn threat_58_keys_are_not_shown_by_debug() {
    let shown = format!("{:?} {:?}", keys(), Sealer::new(Suite::Aes256Gcm, Compression::ON));
    assert_eq!(shown, "ChunkKeys(Chunk, EpochId(..0202020202)) Sealer(Aes256Gcm)");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_opens(
        seed: u64,
        noise_len in 0usize..40_000,
        text_len in 0usize..40_000,
        suite in prop::sample::select(Suite::ALL.to_vec()),
        compression in prop::sample::select(vec![Compression::Off, Compression::ON]),
        of_pages: bool,
    ) {
        let secret = secret(1, 2);
        let keys = if of_pages { ChunkKeys::of_pages(&secret) } else { ChunkKeys::of_chunks(&secret) };
        let plaintext = [noise(seed, noise_len), text(text_len)].concat();
        let named = keys.name(&plaintext);
        let sealed = Sealer::new(suite, compression).seal(&named, &mut rng(seed)).unwrap();
        prop_assert_eq!(&Opener::new().open(&keys, &named.id(), &sealed).unwrap(), &plaintext);
        let again = Sealer::new(suite, compression).seal(&named, &mut rng(seed)).unwrap();
        prop_assert_eq!(sealed, again, "a function of plaintext, keys and what is drawn");
    }

    #[test]
    fn any_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..2500), suite in 0u8..4) {
        if let [format, number, ..] = bytes.as_mut_slice() {
            (*format, *number) = (FORMAT, suite);
        }
        bytes.resize(padded_len(bytes.len()), 0);
        let keys = keys();
        prop_assert!(Opener::new().open(&keys, &keys.id(b""), &bytes).is_err());
    }
}

#[test]
fn threat_26_who_has_the_plaintext_can_not_tell_whether_it_is_there() {
    let (known, other) = (text(5_000), noise(26, 5_000));
    let mut ones = [0_u32; 2];
    let mut seen = BTreeSet::new();
    const SPACE_COUNT: u8 = 200;
    for n in 0..SPACE_COUNT {
        let space = SpaceId([n; 32]);
        let secret = EpochSecret::new(space, EpochId([n; 32]), Secret::draw(&mut rng(n.into())));
        let keys = ChunkKeys::of_chunks(&secret);
        // All that an outsider can make of the plaintext and of what is public.
        let guesses = [
            *blake3::hash(&known).as_bytes(),
            *blake3::keyed_hash(space.as_bytes(), &known).as_bytes(),
            *blake3::keyed_hash(secret.epoch.as_bytes(), &known).as_bytes(),
            *blake3::keyed_hash(&[0; 32], &known).as_bytes(),
        ];
        for (at, content) in [&known, &other].into_iter().enumerate() {
            let id = keys.id(content);
            assert!(!guesses.contains(id.as_bytes()), "space {n}");
            assert!(seen.insert(id), "two spaces share an id");
            ones[at] += id.as_bytes().iter().map(|byte| byte.count_ones()).sum::<u32>();
        }
        let incompressible = [noise(n.into(), 5_000), other.clone()];
        let lens = incompressible.map(|content| {
            let named = keys.name(&content);
            Sealer::new(Suite::XChaCha20Poly1305, Compression::Off).seal(&named, &mut rng(n.into())).unwrap().len()
        });
        assert_eq!(lens[0], lens[1], "equally long whatever it says");
    }
    // Each bit is a fair coin: 200 ids of 256 bits, five standard deviations.
    let (mean, deviation) = (f64::from(SPACE_COUNT) * 128.0, (f64::from(SPACE_COUNT) * 64.0).sqrt());
    for ones in ones {
        assert!((f64::from(ones) - mean).abs() < 5.0 * deviation, "{ones} of {mean}");
    }
}
