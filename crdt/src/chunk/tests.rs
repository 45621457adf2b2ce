use proptest::prelude::*;

use super::*;
use crate::{
    id::{ChunkId, ContentHash, SpaceId},
    keys::{EpochSecret, Secret},
    manifest::Chunk,
    seal::ChunkKeys,
};

const KIB: usize = 1 << 10;

fn secret(seed: u8) -> EpochSecret {
    EpochSecret::new(SpaceId([1; 32]), EpochId([2; 32]), Secret::new([seed; 32]))
}

fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes
}

fn cuts(class: Class, gear: &Gear, content: &[u8]) -> Vec<usize> {
    let mut end = 0;
    let mut ends = Vec::new();
    Chunker::cut_whole(class, gear, content, |chunk| {
        end += chunk.len();
        ends.push(end);
    });
    ends
}

fn profile(class: Class) -> Profile {
    Profile { chunker: CHUNKER, class, epoch: EpochId([2; 32]) }
}

#[test]
fn a_file_takes_the_class_of_its_length() {
    for (len, class) in [
        (0, Class::Single),
        ((128 << 10) - 1, Class::Single),
        (128 << 10, Class::Small),
        (64 << 20, Class::Small),
        ((64 << 20) + 1, Class::Medium),
        (4 << 30, Class::Medium),
        ((4 << 30) + 1, Class::Large),
        (u64::MAX, Class::Large),
    ] {
        assert_eq!(Class::of_len(len), class, "{len}");
    }
}

#[test]
fn no_chunk_of_any_class_is_above_the_limit_of_chunks() {
    for class in Class::ALL {
        let lens = class.chunk_lens();
        assert!(lens.max as usize <= crate::limits::CHUNK_LEN_MAX);
        assert!(lens.min <= lens.average && lens.average <= lens.max);
        assert!(lens.min.is_multiple_of(2), "the cutting loop takes two bytes at a time");
    }
}

#[test]
fn a_version_keeps_the_profile_while_its_length_stays_near() {
    let (old, new) = (EpochId([1; 32]), EpochId([2; 32]));
    let small = Profile::of_new_file(1 << 20, old);
    assert_eq!(small.of_next_version(32 << 10, new), small, "a quarter of the lower bound");
    assert_eq!(small.of_next_version((32 << 10) - 1, new), Profile::of_new_file(0, new));
    assert_eq!(small.of_next_version(256 << 20, new), small, "four times the upper bound");
    assert_eq!(small.of_next_version((256 << 20) + 1, new).class, Class::Medium);
    let single = Profile::of_new_file(5, old);
    assert_eq!(single.of_next_version(0, new), single);
    assert_eq!(single.of_next_version(512 << 10, new), single);
    assert_eq!(single.of_next_version((512 << 10) + 1, new), Profile::of_new_file(1 << 20, new));
    let large = Profile::of_new_file(5 << 30, old);
    assert_eq!(large.of_next_version(1 << 30, new), large);
    assert_eq!(large.of_next_version((1 << 30) - 1, new).class, Class::Medium);
    let later = Profile { chunker: 2, ..small };
    assert_eq!(later.of_next_version(1 << 20, new), Profile::of_new_file(1 << 20, new));
}

#[test]
fn chunk_lengths_keep_to_their_class() {
    let gear = Gear::of_epoch(&secret(3));
    for (class, len) in [(Class::Small, 4 << 20), (Class::Medium, 8 << 20), (Class::Large, 24 << 20)] {
        let content = noise(1, len);
        let lens = class.chunk_lens();
        let mut chunks = Vec::new();
        Chunker::cut_whole(class, &gear, &content, |chunk| chunks.push(chunk.to_vec()));
        assert_eq!(chunks.concat(), content);
        let (last, others) = chunks.split_last().unwrap();
        assert!(others.iter().all(|chunk| (lens.min as usize..=lens.max as usize).contains(&chunk.len())));
        assert!(last.len() <= lens.max as usize);
        let mean = len / chunks.len();
        assert!(mean > lens.average as usize / 2 && mean < lens.average as usize * 2, "{class:?}: {mean}");
    }
}

#[test]
fn content_without_cuts_is_cut_at_the_maximum() {
    let gear = Gear::of_epoch(&secret(3));
    assert_eq!(cuts(Class::Small, &gear, &vec![0; 1 << 20]), [256 * KIB, 512 * KIB, 768 * KIB, 1024 * KIB]);
    assert_eq!(cuts(Class::Single, &gear, &vec![0; 600 * KIB]), [512 * KIB, 600 * KIB]);
    assert_eq!(cuts(Class::Single, &gear, &[]), []);
    assert_eq!(cuts(Class::Small, &gear, &[7]), [1]);
}

#[test]
fn cuts_are_found_again_behind_an_insertion() {
    let gear = Gear::of_epoch(&secret(3));
    let content = noise(4, 4 << 20);
    let mut edited = content.clone();
    edited.splice(1_000_000..1_000_000, *b"inserted");
    let old: Vec<_> = cuts(Class::Small, &gear, &content);
    let new: Vec<_> = cuts(Class::Small, &gear, &edited);
    let kept = old.iter().filter(|cut| new.contains(cut) || new.contains(&(*cut + 8))).count();
    assert!(kept + 4 >= old.len(), "{kept} of {} cuts kept", old.len());
}

#[test]
fn threat_24_two_secrets_cut_independently() {
    let content = noise(5, 16 << 20);
    let one = cuts(Class::Small, &Gear::of_epoch(&secret(1)), &content);
    let other = cuts(Class::Small, &Gear::of_epoch(&secret(2)), &content);
    assert!(one.len() > 150 && other.len() > 150);
    // Of 16 Mi places about 230 are cuts: by chance two lists share 0.003 of them.
    let shared = one.iter().filter(|cut| other.contains(cut) && **cut != content.len()).count();
    assert_eq!(shared, 0);
    let in_another_space = EpochSecret::new(SpaceId([9; 32]), EpochId([2; 32]), Secret::new([1; 32]));
    let other = cuts(Class::Small, &Gear::of_epoch(&in_another_space), &content);
    assert!(one.iter().all(|cut| !other.contains(cut) || *cut == content.len()));
}

#[test]
fn threat_24_the_gear_table_is_not_shown_by_debug() {
    assert_eq!(format!("{:?}", Gear::of_epoch(&secret(1))), "Gear(..)");
}

/// A file of five chunks, its content hash, and the bytes of each chunk.
fn five_chunks(seed: u8) -> (Vec<Chunk>, ContentHash, Vec<Vec<u8>>) {
    let keys = ChunkKeys::of_chunks(&secret(1));
    // Equal lengths: no check may rest on them.
    let bytes: Vec<_> = (0..5).map(|i| noise(seed + i, 100)).collect();
    (bytes.iter().map(|chunk| keys.chunk(chunk)).collect(), ContentHash::of(&bytes.concat()), bytes)
}

fn check(expected: &[Chunk], hash: ContentHash, given: &[(ChunkId, &[u8])]) -> Result<(), ContentError> {
    let mut check = ContentCheck::new(expected, hash);
    for (id, bytes) in given {
        check.accept(id, bytes)?;
    }
    check.finish()
}

fn permutations(items: &[usize]) -> Vec<Vec<usize>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (place, first) in items.iter().enumerate() {
        let rest = [&items[..place], &items[place + 1..]].concat();
        all.extend(permutations(&rest).into_iter().map(|behind| [vec![*first], behind].concat()));
    }
    all
}

#[test]
fn threat_13_chunks_are_accepted_in_one_order_only() {
    let (expected, hash, bytes) = five_chunks(10);
    let given: Vec<(ChunkId, &[u8])> =
        expected.iter().zip(&bytes).map(|(chunk, bytes)| (chunk.id, bytes.as_slice())).collect();
    assert_eq!(check(&expected, hash, &given), Ok(()));

    let orders = permutations(&[0, 1, 2, 3, 4]);
    assert_eq!(orders.len(), 120);
    for order in orders.into_iter().filter(|order| *order != [0, 1, 2, 3, 4]) {
        let given: Vec<_> = order.iter().map(|i| given[*i]).collect();
        assert!(matches!(check(&expected, hash, &given), Err(ContentError::NotTheNextChunk { .. })), "{order:?}");
        // The manifest itself in that order, and chunks that fit it: the content hash refuses.
        let reordered: Vec<_> = order.iter().map(|i| expected[*i]).collect();
        assert_eq!(check(&reordered, hash, &given), Err(ContentError::WrongHash), "{order:?}");
    }
}

#[test]
fn threat_13_a_missing_repeated_or_foreign_chunk_is_refused() {
    let (expected, hash, bytes) = five_chunks(10);
    let (other, other_hash, other_bytes) = five_chunks(50);
    let given: Vec<(ChunkId, &[u8])> =
        expected.iter().zip(&bytes).map(|(chunk, bytes)| (chunk.id, bytes.as_slice())).collect();
    for i in 0..5 {
        let mut removed = given.clone();
        removed.remove(i);
        assert!(check(&expected, hash, &removed).is_err(), "without {i}");
        let mut short = expected.clone();
        short.remove(i);
        assert_eq!(check(&short, hash, &removed), Err(ContentError::WrongHash), "manifest without {i}");

        let mut doubled = given.clone();
        doubled.insert(i, given[i]);
        assert!(check(&expected, hash, &doubled).is_err(), "{i} twice");
        let mut long = expected.clone();
        long.insert(i, expected[i]);
        assert_eq!(check(&long, hash, &doubled), Err(ContentError::WrongHash), "manifest with {i} twice");

        // A chunk of another file, or of another version of this one.
        let mut mixed = given.clone();
        mixed[i] = (other[i].id, &other_bytes[i]);
        assert_eq!(check(&expected, hash, &mixed), Err(ContentError::NotTheNextChunk { index: i }));
        let mut mixed_list = expected.clone();
        mixed_list[i] = other[i];
        assert_eq!(check(&mixed_list, hash, &mixed), Err(ContentError::WrongHash));
    }
    assert_eq!(check(&expected, hash, &[]), Err(ContentError::Incomplete { found: 0, expected: 5 }));
    assert_eq!(check(&[], hash, &[]), Err(ContentError::WrongHash));
    assert_eq!(check(&expected, other_hash, &given), Err(ContentError::WrongHash));
    assert_eq!(check(&[], ContentHash::of(b""), &[]), Ok(()));
}

#[test]
fn threat_26_two_spaces_share_no_id() {
    let keys = ChunkKeys::of_chunks(&secret(1));
    let other = EpochSecret::new(SpaceId([9; 32]), EpochId([2; 32]), Secret::new([1; 32]));
    assert_ne!(keys.id(b"same"), ChunkKeys::of_chunks(&other).id(b"same"));
    assert_ne!(keys.id(b"same"), ChunkKeys::of_pages(&secret(1)).id(b"same"));
    assert_ne!(keys.id(b"same").as_bytes(), blake3::hash(b"same").as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn cutting_in_buffers_equals_cutting_the_whole(
        seed: u8,
        len in 0usize..3 << 20,
        // Runs without a cut lead to chunks of the maximum length.
        zeros in 0usize..700_000,
        class in prop::sample::select(vec![Class::Single, Class::Small, Class::Medium]),
        splits in prop::collection::vec(prop_oneof![0usize..600, 10_000usize..1_500_000], 1..40),
    ) {
        let secret = secret(seed);
        let (gear, keys) = (Gear::of_epoch(&secret), ChunkKeys::of_chunks(&secret));
        let mut content = noise(seed, len);
        content.splice(len / 2..len / 2, vec![0; zeros]);
        let whole = Content::of(&profile(class), &gear, |chunk| keys.chunk(chunk), &content);

        let mut chunker = Chunker::new(class, &gear);
        let mut namer = Namer::new(|chunk: &[u8]| keys.chunk(chunk));
        let mut rest = content.as_slice();
        for split in &splits {
            let (now, later) = rest.split_at(rest.len().min(*split));
            namer.update(now, &chunker.update_lens(now));
            rest = later;
        }
        namer.update(rest, &chunker.update_lens(rest));
        prop_assert_eq!(&namer.finish(&chunker.finish_lens()), &whole.chunks);
        prop_assert_eq!(whole.len, content.len() as u64);
        prop_assert_eq!(whole.hash, ContentHash::of(&content));
        prop_assert_eq!(whole.chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>(), whole.len);
    }

    #[test]
    fn small_buffers_hold_at_most_three_maximum_lengths(step in 1usize..60_000) {
        let gear = Gear::of_epoch(&secret(3));
        let content = noise(8, 2 << 20);
        let mut chunker = Chunker::new(Class::Small, &gear);
        let mut found = Vec::new();
        let mut end = 0;
        for buffer in content.chunks(step) {
            chunker.update(buffer, |chunk| {
                end += chunk.len();
                found.push(end);
            });
            prop_assert!(chunker.held_len() <= 3 * 256 * KIB);
        }
        chunker.finish(|chunk| {
            end += chunk.len();
            found.push(end);
        });
        prop_assert_eq!(found, cuts(Class::Small, &gear, &content));
    }
}
