use std::{cell::Cell, collections::BTreeMap, ops::ControlFlow};

use proptest::prelude::*;

use super::*;
use crate::{
    chunk::CHUNKER,
    codec::{decode, encode, encode_object},
    id::SpaceId,
    keys::{EpochSecret, Secret},
    limits::{FILE_LEN_MAX, MANIFEST_FAN_OUT_MAX, MANIFEST_INLINE_COUNT_MAX, MANIFEST_PAGE_LEN_MAX},
    manifest::page::{ChildRef, Page, PageBody},
    seal::ChunkKeys,
};

type Pages = BTreeMap<ChunkId, Vec<u8>>;

const MIN: u32 = 16 << 10;
const PROFILE: Profile = Profile { chunker: CHUNKER, class: Class::Small, epoch: EpochId([0; 32]) };

fn epoch(number: u8) -> EpochId {
    EpochId([number; 32])
}

fn page_keys(number: u8) -> ChunkKeys {
    ChunkKeys::of_pages(&EpochSecret::new(SpaceId([1; 32]), epoch(number), Secret::new([number; 32])))
}

fn chunk(seed: u32, epoch_number: u8) -> Chunk {
    let id = ChunkId(*blake3::hash(&seed.to_le_bytes()).as_bytes());
    Chunk { id, epoch: epoch(epoch_number), len: MIN + seed % 1000 }
}

fn build(chunks: &[Chunk], page_epoch: u8) -> (Manifest, Pages) {
    let keys = page_keys(page_epoch);
    let (manifest, pages) =
        ManifestBuilder::build(PROFILE, chunks.iter().copied(), |page| (keys.id(page), keys.epoch())).unwrap();
    assert!(
        pages.iter().all(|page| page.plaintext.len() <= MANIFEST_PAGE_LEN_MAX && page.id == keys.id(&page.plaintext))
    );
    (manifest, pages.into_iter().map(|page| (page.id, page.plaintext)).collect())
}

fn source(pages: &Pages) -> impl FnMut(&PageAddress) -> Result<Vec<u8>, &'static str> {
    |address| pages.get(&address.id).cloned().ok_or("missing")
}

fn read(manifest: &Manifest, pages: &Pages) -> Result<Vec<Chunk>, ReadManifestError<&'static str>> {
    manifest.chunks(source(pages))
}

#[test]
fn up_to_eight_chunks_stand_in_the_value() {
    for count in [0, 1, 8, 9] {
        let chunks: Vec<_> = (0..count).map(|i| chunk(i, 1)).collect();
        let (manifest, pages) = build(&chunks, 1);
        assert_eq!(matches!(manifest.body, Body::Inline(_)), count <= 8);
        assert_eq!(pages.is_empty(), count <= 8);
        assert_eq!(read(&manifest, &pages), Ok(chunks));
        assert_eq!(decode::<Manifest>(&encode(&manifest), 4096), Ok(manifest.clone()));
    }
}

#[test]
fn a_tree_of_any_size_reads_back() {
    for count in [127, 128, 1024, 1025, 5_000, 200_000] {
        let chunks: Vec<_> = (0..count).map(|i| chunk(i, 1 + (i / 700 % 3) as u8)).collect();
        let (manifest, pages) = build(&chunks, 4);
        assert_eq!(read(&manifest, &pages), Ok(chunks), "{count}");
        let Body::Paged(root) = manifest.body else { panic!("{count} chunks inline") };
        let heights = match count {
            0..=128 => 0..=0,
            129..=1024 => 0..=1,
            1025..=16_384 => 1..=1,
            _ => 1..=2,
        };
        assert!(heights.contains(&root.height), "{count}: {}", root.height);
    }
}

#[test]
fn a_level_whose_only_page_ended_by_itself_is_the_root() {
    // 1,024 chunks fill a page whatever their ids; fewer do where an id ends it.
    let chunks: Vec<_> = (0..).map(|i| chunk(i, 1)).take(MANIFEST_FAN_OUT_MAX).collect();
    let ends = (128..MANIFEST_FAN_OUT_MAX).find(|count| {
        let [low, high, ..] = *chunks[count - 1].id.as_bytes();
        u16::from_le_bytes([low, high]) % 512 == 0
    });
    let ends = ends.unwrap();
    let (manifest, pages) = build(&chunks[..ends], 1);
    assert_eq!(pages.len(), 1);
    assert_eq!(read(&manifest, &pages).unwrap().len(), ends);
}

#[test]
fn an_edit_of_a_large_file_rewrites_a_few_pages() {
    let chunks: Vec<_> = (0..200_000).map(|i| chunk(i, 1)).collect();
    let (_, before) = build(&chunks, 1);
    assert!(before.len() > 300);
    let mut edits = Vec::new();
    // One chunk becomes three, near the start; one goes, in the middle; one is added at the end; the first is another.
    let mut edited = chunks.clone();
    edited.splice(500..501, [chunk(300_000, 1), chunk(300_001, 1), chunk(300_002, 1)]);
    edits.push(edited);
    let mut edited = chunks.clone();
    edited.remove(100_000);
    edits.push(edited);
    edits.push([chunks.as_slice(), &[chunk(400_000, 1)]].concat());
    let mut edited = chunks.clone();
    edited[0] = chunk(500_000, 2);
    edits.push(edited);
    for edited in edits {
        let (manifest, after) = build(&edited, 1);
        let written = after.keys().filter(|id| !before.contains_key(id)).count();
        assert!(written <= 8, "{written} of {} pages", after.len());
        assert_eq!(read(&manifest, &after), Ok(edited));
    }
}

#[test]
fn a_range_reads_only_its_pages() {
    let chunks: Vec<_> = (0..20_000).map(|i| chunk(i, 1)).collect();
    let (manifest, pages) = build(&chunks, 1);
    let mut starts = Vec::new();
    let mut offset = 0;
    for chunk in &chunks {
        starts.push(offset);
        offset += u64::from(chunk.len);
    }
    let fetched = Cell::new(0);
    let mut counting = |address: &PageAddress| {
        fetched.set(fetched.get() + 1);
        source(&pages)(address)
    };
    let begin = starts[7_000] + 5;
    let found = manifest.chunks_of_range(begin..starts[7_003], &mut counting).unwrap();
    assert_eq!(found, (7_000..7_003).map(|i| (starts[i], chunks[i])).collect::<Vec<_>>());
    assert!(fetched.get() <= 4, "{} pages", fetched.get());
    assert_eq!(manifest.chunks_of_range(begin..begin, &mut counting).unwrap(), []);
    assert_eq!(manifest.chunks_of_range(manifest.len..u64::MAX, &mut counting).unwrap(), []);
    assert_eq!(manifest.chunks_of_range(manifest.len - 1..u64::MAX, &mut counting).unwrap().len(), 1);
}

#[test]
fn a_page_that_is_not_at_hand_is_said_so() {
    let chunks: Vec<_> = (0..3_000).map(|i| chunk(i, 1)).collect();
    let (manifest, mut pages) = build(&chunks, 1);
    let ids: Vec<_> = pages.keys().copied().collect();
    for id in ids {
        let page = pages.remove(&id).unwrap();
        assert_eq!(read(&manifest, &pages), Err(ReadManifestError::Source("missing")));
        pages.insert(id, page);
    }
}

#[test]
fn pages_come_as_they_are_complete() {
    let keys = page_keys(1);
    let mut builder = ManifestBuilder::new(PROFILE, |page: &[u8]| (keys.id(page), keys.epoch()));
    let mut pages = Vec::new();
    for i in 0..5_000 {
        builder.push(chunk(i, 1)).unwrap();
        pages.extend(builder.take_pages());
    }
    assert!(pages.len() >= 4);
    let (manifest, rest) = builder.finish().unwrap();
    pages.extend(rest);
    let pages: Pages = pages.into_iter().map(|page| (page.id, page.plaintext)).collect();
    assert_eq!(build(&(0..5_000).map(|i| chunk(i, 1)).collect::<Vec<_>>(), 1), (manifest, pages));
}

#[test]
fn a_value_that_breaks_a_rule_is_refused() {
    let chunks: Vec<_> = [1, 2, 1].iter().zip(0..).map(|(number, i)| chunk(i, *number)).collect();
    let (good, _) = build(&chunks, 1);
    assert_eq!(good.check(), Ok(()));
    assert_eq!(good.epochs, [epoch(1), epoch(2)]);
    let changed = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        manifest.check().unwrap_err()
    };
    let inline = |change: fn(&mut Vec<ChunkRef>)| {
        changed(&|manifest| {
            let Body::Inline(chunks) = &mut manifest.body else { panic!("paged") };
            change(chunks);
            manifest.len = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
        })
    };
    assert_eq!(changed(&|m| m.profile.chunker = 2), ManifestError::UnknownChunker { chunker: 2 });
    assert_eq!(changed(&|m| m.len = u64::MAX), ManifestError::FileTooLong { len: u64::MAX });
    assert!(matches!(changed(&|m| m.len += 1), ManifestError::Sum { .. }));
    assert_eq!(changed(&|m| m.epochs.push(epoch(3))), ManifestError::Epochs, "an epoch that is not used");
    assert_eq!(changed(&|m| m.epochs = vec![epoch(1)]), ManifestError::Epochs, "an epoch that is not there");
    assert_eq!(changed(&|m| m.epochs = vec![epoch(1); 2]), ManifestError::Epochs, "an epoch twice");
    assert_eq!(changed(&|m| m.epochs = vec![epoch(1); 1001]), ManifestError::TooManyEpochs);
    assert_eq!(inline(|chunks| chunks.swap(0, 1)), ManifestError::Epochs, "not in order of first use");
    assert_eq!(inline(|chunks| chunks[1].len = 0), ManifestError::ChunkLen { len: 0 });
    assert_eq!(inline(|chunks| chunks[2].len = 0), ManifestError::ChunkLen { len: 0 }, "an empty last chunk");
    assert_eq!(inline(|chunks| chunks[1].len = MIN - 1), ManifestError::ChunkLen { len: MIN - 1 });
    assert_eq!(inline(|chunks| chunks[2].len = u32::MAX), ManifestError::ChunkLen { len: u32::MAX });
    assert_eq!(inline(|chunks| chunks.extend([chunks[0]; 6])), ManifestError::Count { count: 9 });

    let root = PageRef { id: ChunkId([1; 32]), epoch_index: 0, len: 100, height: 0 };
    let paged = |root, len| Manifest { body: Body::Paged(root), len, ..good.clone() }.check();
    assert_eq!(paged(root, 1 << 30), Ok(()));
    assert_eq!(paged(root, 0), Err(ManifestError::Count { count: 0 }));
    assert_eq!(paged(PageRef { height: 4, ..root }, 1 << 30), Err(ManifestError::TooDeep));
    assert_eq!(paged(PageRef { epoch_index: 2, ..root }, 1 << 30), Err(ManifestError::Epochs));
    assert_eq!(paged(PageRef { len: 0, ..root }, 1 << 30), Err(ManifestError::PageLen { len: 0 }));
    let long = MANIFEST_PAGE_LEN_MAX + 1;
    assert_eq!(paged(PageRef { len: long as u32, ..root }, 1), Err(ManifestError::PageLen { len: long }));
}

/// A manifest over one hand-made root page.
fn over(page: &Page, height: u8, len: u64, epochs: &[EpochId]) -> Result<Vec<Chunk>, ReadManifestError<&'static str>> {
    let bytes = encode_object(page);
    let root = PageRef { id: ChunkId([1; 32]), epoch_index: 0, len: bytes.len() as u32, height };
    let manifest = Manifest { profile: PROFILE, len, epochs: epochs.to_vec(), body: Body::Paged(root) };
    read(&manifest, &Pages::from([(root.id, bytes)]))
}

#[test]
fn a_page_that_breaks_a_rule_is_refused() {
    let refs = |count: u32| -> Vec<ChunkRef> {
        (0..count).map(|i| ChunkRef { id: chunk(i, 1).id, epoch_index: 0, len: MIN }).collect()
    };
    let leaf = |chunks: Vec<ChunkRef>| Page { epochs: vec![epoch(1)], body: PageBody::Leaf(chunks) };
    let len = |count: u64| count * u64::from(MIN);
    let one = &[epoch(1)];
    assert_eq!(over(&leaf(refs(9)), 0, len(9), one).unwrap().len(), 9);
    let refused = |page: &Page, height, len, epochs: &[EpochId]| match over(page, height, len, epochs).unwrap_err() {
        ReadManifestError::Manifest(error) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(refused(&leaf(refs(9)), 0, len(10), one), ManifestError::Sum { .. }));
    assert_eq!(refused(&leaf(refs(9)), 1, len(9), one), ManifestError::Height);
    assert_eq!(
        refused(&leaf(refs(8)), 0, len(8), one),
        ManifestError::Count { count: MANIFEST_INLINE_COUNT_MAX },
        "few enough to stand in the value"
    );
    assert_eq!(refused(&leaf(Vec::new()), 0, len(9), one), ManifestError::Count { count: 0 });
    assert_eq!(refused(&leaf(refs(1025)), 0, len(1025), one), ManifestError::Count { count: 1025 });
    assert_eq!(refused(&leaf(refs(9)), 0, len(9), &[epoch(2)]), ManifestError::Epochs, "of another table");
    assert_eq!(refused(&leaf(refs(9)), 0, len(9), &[epoch(1), epoch(2)]), ManifestError::Epochs, "never used");
    assert_eq!(refused(&leaf(refs(9)), 0, len(9), &[epoch(2), epoch(1)]), ManifestError::Epochs, "wrong order");
    let unused = Page { epochs: vec![epoch(1), epoch(2)], body: PageBody::Leaf(refs(9)) };
    assert_eq!(refused(&unused, 0, len(9), &[epoch(1), epoch(2)]), ManifestError::Epochs);
    let mut short = refs(10);
    short[4].len = 1;
    assert_eq!(refused(&leaf(short), 0, len(9) + 1, one), ManifestError::ChunkLen { len: 1 });

    let child = ChildRef { id: ChunkId([1; 32]), epoch_index: 0, len: 100, content_len: len(9) };
    let inner = |children: Vec<ChildRef>| Page { epochs: vec![epoch(1)], body: PageBody::Inner(children) };
    assert_eq!(refused(&inner(vec![child]), 0, len(9), one), ManifestError::Height);
    let wrap = ChildRef { content_len: u64::MAX, ..child };
    assert!(matches!(refused(&inner(vec![wrap, wrap]), 1, len(9), one), ManifestError::Sum { .. }));
    let empty = ChildRef { content_len: 0, ..child };
    assert_eq!(refused(&inner(vec![empty, child]), 1, len(9), one), ManifestError::Count { count: 0 });
    let long = ChildRef { len: u32::MAX, ..child };
    assert_eq!(refused(&inner(vec![long]), 1, len(9), one), ManifestError::PageLen { len: u32::MAX as usize });
    // A page that lists itself: the length of the page says no before the height does.
    assert!(over(&inner(vec![child, child]), 3, len(18), one).is_err());
}

#[test]
fn threat_44_pages_that_stand_for_endless_chunks_are_not_listed() {
    // Four pages, each of which lists the next 1,024 times: 10^12 chunks.
    let mut pages = Pages::new();
    let chunk = ChunkRef { id: ChunkId([9; 32]), epoch_index: 0, len: MIN };
    let mut page = Page { epochs: vec![epoch(1)], body: PageBody::Leaf(vec![chunk; MANIFEST_FAN_OUT_MAX]) };
    let mut content_len = u64::from(MIN) << 10;
    let mut root = None;
    for height in 0..4u8 {
        let bytes = encode_object(&page);
        let child = ChildRef { id: ChunkId([height; 32]), epoch_index: 0, len: bytes.len() as u32, content_len };
        root = Some(PageRef { id: child.id, epoch_index: 0, len: child.len, height });
        pages.insert(child.id, bytes);
        page = Page { epochs: vec![epoch(1)], body: PageBody::Inner(vec![child; MANIFEST_FAN_OUT_MAX]) };
        content_len <<= 10;
    }
    let body = Body::Paged(root.unwrap());
    let manifest = Manifest { profile: PROFILE, len: u64::from(MIN) << 40, epochs: vec![epoch(1)], body };
    assert_eq!(manifest.chunks_of_range(0..1, source(&pages)).unwrap().len(), 1);
    let mut seen = 0;
    let walked = manifest.walk(0..manifest.len, &mut source(&pages), |_| {
        seen += 1;
        if seen < 10_000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    assert_eq!((walked, seen), (Ok(()), 10_000));
    let listed = manifest.list(0..manifest.len, &mut source(&pages), 5_000);
    assert_eq!(listed, Err(ManifestError::TooManyChunks.into()));
    assert_eq!(manifest.list(0..u64::from(MIN) * 5_000, &mut source(&pages), 5_000).unwrap().len(), 5_000);
}

#[test]
fn a_builder_refuses_what_a_reader_would() {
    let keys = page_keys(1);
    let mut builder = ManifestBuilder::new(PROFILE, |page: &[u8]| (keys.id(page), keys.epoch()));
    assert_eq!(builder.push(Chunk { len: 0, ..chunk(1, 1) }), Err(ManifestError::ChunkLen { len: 0 }));
    builder.push(Chunk { len: 1, ..chunk(1, 1) }).unwrap();
    assert_eq!(builder.push(chunk(2, 1)), Err(ManifestError::ChunkLen { len: 1 }), "a short chunk is the last");
    let many = (0..1001u32).map(|i| {
        let mut epoch = [0; 32];
        epoch[..4].copy_from_slice(&i.to_le_bytes());
        Chunk { epoch: EpochId(epoch), ..chunk(i, 1) }
    });
    let built = ManifestBuilder::build(PROFILE, many, |page: &[u8]| (keys.id(page), keys.epoch()));
    assert_eq!(built.err(), Some(ManifestError::TooManyEpochs));
    assert!(u64::from(u32::MAX) < FILE_LEN_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_built_reads_back(
        runs in prop::collection::vec((1u8..6, 1u32..900), 0..12),
        page_epoch in 1u8..6,
        begin in 0u64..100_000_000,
        range_len in 0u64..2_000_000,
    ) {
        let mut chunks = Vec::new();
        for (number, count) in runs {
            for _ in 0..count {
                chunks.push(chunk(chunks.len() as u32, number));
            }
        }
        let (manifest, pages) = build(&chunks, page_epoch);
        prop_assert_eq!(manifest.check(), Ok(()));
        prop_assert_eq!(read(&manifest, &pages), Ok(chunks.clone()));

        let range = begin..begin + range_len;
        let mut expected = Vec::new();
        let mut offset = 0;
        for chunk in &chunks {
            let end = offset + u64::from(chunk.len);
            if offset < range.end && range.start < end && !range.is_empty() {
                expected.push((offset, *chunk));
            }
            offset = end;
        }
        prop_assert_eq!(manifest.chunks_of_range(range, source(&pages)), Ok(expected));
    }

    #[test]
    fn a_page_with_a_flipped_bit_never_reads_as_the_same_list(place in any::<prop::sample::Index>(), bit in 0u8..8) {
        let chunks: Vec<_> = (0..20).map(|i| chunk(i, 1 + (i % 2) as u8)).collect();
        let (manifest, mut pages) = build(&chunks, 1);
        let page = pages.values_mut().next().unwrap();
        let place = place.index(page.len());
        page[place] ^= 1 << bit;
        prop_assert_ne!(read(&manifest, &pages), Ok(chunks));
    }

    #[test]
    fn any_bytes_are_a_page_or_an_error(bytes in prop::collection::vec(any::<u8>(), 1..400), height in 0u8..4) {
        let root = PageRef { id: ChunkId([1; 32]), epoch_index: 0, len: bytes.len() as u32, height };
        let manifest = Manifest { profile: PROFILE, len: 1 << 20, epochs: vec![epoch(1)], body: Body::Paged(root) };
        prop_assert!(read(&manifest, &Pages::from([(root.id, bytes)])).is_err());
    }
}
