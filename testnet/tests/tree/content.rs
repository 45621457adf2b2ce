//! Staging chunk by chunk, serving, and the version store.

use std::sync::Arc;

use zerocloud::clock::{Clock, Moment};
use zerocloud::tree::TempNames;
use zerocloud::tree::materialise::{Job, Outcome, Trust};
use zerocloud::tree::serve::{Answer, ChunkReader, Source};
use zerocloud::tree::stage::{ChunkSource, CopySource, FileSpec, StageError, Staging};
use zerocloud::tree::versions::{self, Look, Retention, SECOND_LOOK_DELAY, SecondLooks};
use zerocloud::volume::{Permissions, Volume};
use zerocloud_crdt::base::{BaseRead, RowKey};
use zerocloud_crdt::chunk::Content;
use zerocloud_crdt::id::{ContentHash, EpochId, FileId};
use zerocloud_crdt::manifest::{Chunk, Class, Profile};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::plan::Action;
use zerocloud_testnet::sim::volume::Crash;

use super::device::{Device, keyring};
use super::meddle::one_file;

/// The bytes of a file of many chunks, the chunks, their places, and what it is to be.
type Large = (Vec<u8>, Arc<[Chunk]>, Vec<std::ops::Range<usize>>, FileSpec);

/// More than three of the longest chunks.
const LEN: usize = 800_000;

fn large() -> Large {
    let ring = keyring();
    let epoch = EpochId([3; 32]);
    let mut state = 1_u64;
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(LEN)
    .collect();
    bytes[100_000..300_000].fill(0);
    let profile = Profile { class: Class::Small, ..Profile::of_new_file(LEN as u64, epoch) };
    let keys = ring.chunks(&epoch).unwrap();
    let content = Content::of(&profile, ring.gear(&epoch).unwrap(), |chunk| keys.chunk(chunk), &bytes);
    let mut end = 0;
    let ranges = content.chunks.iter().map(|chunk| {
        let start = end;
        end += chunk.len as usize;
        start..end
    });
    let ranges: Vec<_> = ranges.collect();
    assert!(ranges.len() > 3);
    let permissions = Permissions::New { executable: false };
    let mtime = zerocloud_crdt::register::FileTime { secs: 5, nanos: 6 };
    let spec = FileSpec { id: FileId([9; 16]), hash: content.hash, len: LEN as u64, mtime, permissions };
    (bytes, content.chunks.into(), ranges, spec)
}

fn staging(device: &Device, nonce: u64) -> Staging {
    Staging::new(&device.volume, Arc::new(TempNames::new(nonce))).unwrap()
}

#[test]
fn a_file_comes_chunk_by_chunk_in_any_order_and_stays_sparse() {
    let device = Device::new(1, true);
    let (bytes, chunks, ranges, spec) = large();
    for is_reversed in [false, true] {
        let mut partial = staging(&device, 1 + u64::from(is_reversed)).begin(spec, chunks.clone()).unwrap();
        let mut order: Vec<usize> = (0..chunks.len()).collect();
        if is_reversed {
            order.reverse();
        }
        for index in order {
            partial.write(index, &chunks[index].id, &bytes[ranges[index].clone()]).unwrap();
        }
        let staged = partial.finish(&device.volume).unwrap();
        assert_eq!((staged.hash, staged.print.len, staged.print.mtime), (spec.hash, spec.len, spec.mtime));
        let path = [b".zerocloud/tmp/", staged.temp.as_bytes()].concat();
        assert_eq!(device.person.read(&path).unwrap(), bytes);
        let blocks = device.volume.control().unwrap().tmp.stat(staged.temp.as_bytes()).unwrap().block_count;
        assert!(blocks * 512 < LEN as u64 - 150_000, "{blocks}");
    }
}

#[test]
fn threat_13_swapped_chunks_never_materialise() {
    let device = Device::new(1, true);
    let (bytes, chunks, ranges, spec) = large();
    let mut partial = staging(&device, 1).begin(spec, chunks.clone()).unwrap();
    let outcome = partial.write(0, &chunks[1].id, &bytes[ranges[1].clone()]);
    assert!(matches!(outcome, Err(StageError::WrongChunk { index: 0 })));
    assert!(matches!(partial.finish(&device.volume), Err(StageError::Incomplete { .. })));
    // A manifest that lists the right chunks in another order, or one twice, is another file.
    let last = chunks.len() - 1;
    for (a, b) in [(0, 1), (1, last), (0, last)] {
        let mut order: Vec<usize> = (0..chunks.len()).collect();
        order.swap(a, b);
        let swapped: Arc<[Chunk]> = order.iter().map(|index| chunks[*index]).collect();
        let mut partial = staging(&device, 10 + a as u64 * 100 + b as u64).begin(spec, swapped.clone()).unwrap();
        for (at, index) in order.iter().enumerate() {
            partial.write(at, &swapped[at].id, &bytes[ranges[*index].clone()]).unwrap();
        }
        assert!(matches!(partial.finish(&device.volume), Err(StageError::WrongContent)), "{a} {b}");
    }
    let short: Arc<[Chunk]> = chunks[1..].into();
    assert!(matches!(staging(&device, 2).begin(spec, short), Err(StageError::WrongContent)));
    let whole = device.person.whole_tree();
    assert!(!whole.keys().any(|path| path.starts_with(b".zerocloud/tmp/put-")));
}

/// A file of five chunks of one length, so that no check may rest on lengths: bytes and chunks.
fn five(seed: u8) -> (Vec<Vec<u8>>, Vec<Chunk>, FileSpec) {
    let keys = keyring();
    let keys = keys.chunks(&EpochId([3; 32])).unwrap();
    let bytes: Vec<Vec<u8>> = (0..5).map(|n| vec![seed + n; 100]).collect();
    let chunks = bytes.iter().map(|bytes| keys.chunk(bytes)).collect();
    let hash = ContentHash::of(&bytes.concat());
    (bytes, chunks, FileSpec { hash, len: 500, ..large().3 })
}

fn orders(items: &[usize]) -> Vec<Vec<usize>> {
    let Some((first, rest)) = items.split_first() else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for order in orders(rest) {
        for at in 0..=order.len() {
            all.push([&order[..at], &[*first], &order[at..]].concat());
        }
    }
    all
}

#[test]
fn threat_13_of_all_lists_of_chunks_one_makes_the_file() {
    let device = Device::new(1, true);
    let (bytes, chunks, spec) = five(10);
    let (other_bytes, other_chunks, _) = five(50);
    let (all_bytes, all_chunks) = ([bytes, other_bytes].concat(), [chunks.clone(), other_chunks].concat());
    let right = [0, 1, 2, 3, 4];
    // Every order, every chunk twice in place of another, a chunk of another file or version in place of each.
    let mut lists = orders(&right);
    assert_eq!(lists.len(), 120);
    for at in 0..5 {
        for from in (0..10).filter(|from| *from != at) {
            let mut list = right.to_vec();
            list[at] = from;
            lists.push(list);
        }
    }
    let mut made_count = 0;
    for (nonce, list) in (1..).zip(&lists) {
        let listed: Arc<[Chunk]> = list.iter().map(|n| all_chunks[*n]).collect();
        let mut partial = staging(&device, nonce * 10).begin(spec, listed.clone()).unwrap();
        for (at, n) in list.iter().enumerate() {
            partial.write(at, &listed[at].id, &all_bytes[*n]).unwrap();
        }
        let outcome = partial.finish(&device.volume);
        if *list == right {
            made_count += 1;
            assert_eq!(outcome.unwrap().hash, spec.hash);
        } else {
            assert!(matches!(outcome, Err(StageError::WrongContent)), "{list:?}");
        }
        // A chunk is taken at its own place alone, whatever order chunks come in.
        let mut partial = staging(&device, nonce * 10 + 5).begin(spec, chunks.clone().into()).unwrap();
        for (at, n) in list.iter().enumerate().filter(|(at, n)| at != *n) {
            let outcome = partial.write(at, &all_chunks[*n].id, &all_bytes[*n]);
            assert!(matches!(outcome, Err(StageError::WrongChunk { index }) if index == at), "{list:?}");
        }
        partial.discard().unwrap();
    }
    assert_eq!(made_count, 1);
    // One less, one more, none.
    for list in [&chunks[1..], &chunks[..4], &[&chunks[..], &chunks[..1]].concat(), &[]] {
        assert!(matches!(staging(&device, 9).begin(spec, list.into()), Err(StageError::WrongContent)));
    }
    let whole = device.person.whole_tree();
    assert_eq!(whole.keys().filter(|path| path.starts_with(b".zerocloud/tmp/put-")).count(), made_count);
}

#[test]
fn a_partial_file_is_taken_up_again_with_what_is_right_of_it() {
    for crash in [Crash::Killed, Crash::PowerLoss] {
        let mut device = Device::new(1, true);
        let (bytes, chunks, ranges, spec) = large();
        let mut partial = staging(&device, 1).begin(spec, chunks.clone()).unwrap();
        for index in [0, 2] {
            partial.write(index, &chunks[index].id, &bytes[ranges[index].clone()]).unwrap();
        }
        device.volume.control().unwrap().tmp.sync().unwrap();
        device.volume.restart(crash);
        device.start();
        assert_eq!(device.recover(Trust::Same).unwrap().garbage_count, 0);
        let mut partial = staging(&device, 2).resume(spec, chunks.clone(), &device.keyring).unwrap();
        let missing: Vec<usize> = partial.missing().map(|(index, _)| index).collect();
        match crash {
            Crash::Killed => assert!(!missing.contains(&0) && !missing.contains(&2) && missing.contains(&3)),
            Crash::PowerLoss => assert!(missing.contains(&0), "zeros were taken for content"),
        }
        for index in missing {
            partial.write(index, &chunks[index].id, &bytes[ranges[index].clone()]).unwrap();
        }
        let staged = partial.finish(&device.volume).unwrap();
        let path = [b".zerocloud/tmp/", staged.temp.as_bytes()].concat();
        assert_eq!(device.person.read(&path).unwrap(), bytes);
        assert_eq!(device.volume.control().unwrap().tmp.list().unwrap().len(), 1);
    }
}

#[test]
fn chunks_are_copied_from_a_local_file_that_still_has_them() {
    let device = Device::new(1, true);
    let (bytes, chunks, ranges, spec) = large();
    device.person.write(b"source", &bytes).unwrap();
    let source = device.volume.root().open_file(b"source").unwrap();
    let mut partial = staging(&device, 1).begin(spec, chunks.clone()).unwrap();
    assert!(!partial.copy(0, &*source, 1, &device.keyring).unwrap(), "other bytes were taken");
    for (index, range) in ranges.iter().enumerate() {
        assert!(partial.copy(index, &*source, range.start as u64, &device.keyring).unwrap());
    }
    let staged = partial.finish(&device.volume).unwrap();
    assert_eq!(staged.hash, spec.hash);
}

#[test]
fn of_many_chunks_each_is_copied_from_the_first_file_that_has_it() {
    let device = Device::new(1, true);
    let (bytes, chunks, ranges, spec) = large();
    device.volume.set_capacity(1 << 30);
    device.person.write(b"source", &bytes).unwrap();
    device.person.write(b"shorter", &bytes[..9]).unwrap();
    let open = |name: &[u8]| CopySource::new(device.volume.root().open_file(name).unwrap()).unwrap();
    let (source, shorter) = (open(b"source"), open(b"shorter"));
    // The last is somewhere else than it is said, and the one before it nowhere.
    let last = ranges.len() - 1;
    let wanted = |indices: std::ops::Range<usize>| -> Vec<(usize, Vec<ChunkSource>)> {
        let sources = |index: usize| {
            let start = ranges[index].start as u64;
            match index {
                _ if index == last => vec![(source.clone(), start - 1)],
                _ if index + 1 == last => Vec::new(),
                _ if index.is_multiple_of(2) => vec![(source.clone(), start)],
                _ => vec![(shorter.clone(), start), (source.clone(), start + 1), (source.clone(), start)],
            }
        };
        indices.map(|index| (index, sources(index))).collect()
    };
    assert!(ranges.len() > 6, "some are read ahead");
    // With and without chunks that are read ahead, and not from the beginning.
    let all = ranges.len();
    for (nonce, parts) in [[0..all, 0..0], [2..all, 0..2], [0..3, 1..all]].into_iter().enumerate() {
        let mut partial = staging(&device, nonce as u64).begin(spec, chunks.clone()).unwrap();
        for part in parts {
            partial.copy_all(&wanted(part), &device.keyring).unwrap();
        }
        assert!(partial.missing().map(|(index, _)| index).eq([last - 1, last]));
        for index in [last - 1, last] {
            assert!(!partial.has(index));
            partial.write(index, &chunks[index].id, &bytes[ranges[index].clone()]).unwrap();
        }
        let staged = partial.finish(&device.volume).unwrap();
        let path = [b".zerocloud/tmp/", staged.temp.as_bytes()].concat();
        assert_eq!(device.person.read(&path).unwrap(), bytes);
    }
    let mut partial = staging(&device, 9).begin(spec, chunks.clone()).unwrap();
    let beyond: Vec<_> = (0..9).map(|n| (ranges.len() + n, vec![(source.clone(), 0)])).collect();
    assert!(matches!(partial.copy_all(&beyond, &device.keyring), Err(StageError::WrongChunk { .. })));
}

#[test]
fn a_whole_file_is_copied_from_one_that_has_its_content() {
    let device = Device::new(1, true);
    let (bytes, chunks, ranges, spec) = large();
    device.volume.set_capacity(1 << 30);
    device.person.write(b"same", &bytes).unwrap();
    device.person.write(b"shorter", &bytes[..9]).unwrap();
    // As long as the right one, and something where that has zeros.
    device.person.write(b"other", &[bytes[..200_000].to_vec(), vec![7; 200_000]].concat()).unwrap();
    let open = |name: &[u8]| CopySource::new(device.volume.root().open_file(name).unwrap()).unwrap();
    // The simulated disk shares the blocks of every second file.
    for nonce in 1..=2 {
        let mut partial = staging(&device, nonce).begin(spec, chunks.clone()).unwrap();
        for name in [b"shorter".as_slice(), b"other"] {
            assert!(!partial.copy_whole(&open(name)).unwrap());
            assert_eq!(partial.missing().count(), chunks.len());
        }
        if nonce == 1 {
            assert!(partial.copy_whole(&open(b"same")).unwrap());
        } else {
            // What a wrong one left does not shine through where nothing is written.
            for (index, range) in ranges.iter().enumerate() {
                partial.write(index, &chunks[index].id, &bytes[range.clone()]).unwrap();
            }
        }
        assert!(partial.is_complete());
        let staged = partial.finish(&device.volume).unwrap();
        assert_eq!((staged.hash, staged.print.len), (spec.hash, spec.len));
        let path = [b".zerocloud/tmp/", staged.temp.as_bytes()].concat();
        assert_eq!(device.person.read(&path).unwrap(), bytes);
        // Some of it is there already: nothing is copied over it.
        let mut begun = staging(&device, nonce + 10).begin(spec, chunks.clone()).unwrap();
        begun.write(1, &chunks[1].id, &bytes[ranges[1].clone()]).unwrap();
        assert!(!begun.copy_whole(&open(b"same")).unwrap());
    }
}

#[test]
fn threat_32_only_the_chunk_that_a_row_has_is_served() {
    let mut device = Device::new(1, true);
    device.person.write(b"f", b"content").unwrap();
    device.person.create_symlink(b"l", b"f").unwrap();
    device.person.create_directory(b"d").unwrap();
    device.scan();
    let keys = keyring();
    let epoch = EpochId([3; 32]);
    let chunk = keys.chunks(&epoch).unwrap().chunk(b"content");
    let key = |name: &[u8]| RowKey { parent: FileId::ROOT, local: Name::parse(name).unwrap() };
    let mut reader = ChunkReader::new(&device.volume).unwrap();
    let mut read = |device: &Device, source: Source<'_>, offset, chunk: &Chunk| match reader
        .read(&device.ledger, source, offset, chunk, &keys)
        .unwrap()
    {
        Answer::Chunk(named) => Some(named.plaintext().to_vec()),
        Answer::Missing => None,
    };
    assert_eq!(read(&device, Source::Row(&key(b"f")), 0, &chunk), Some(b"content".to_vec()));
    let other = keys.chunks(&epoch).unwrap().chunk(b"CONTENT");
    for (source, offset, chunk) in [
        (Source::Row(&key(b"f")), 0, &other),
        (Source::Row(&key(b"f")), 1, &chunk),
        (Source::Row(&key(b"f")), u64::MAX, &chunk),
        (Source::Row(&key(b"f")), 0, &Chunk { len: u32::MAX, ..chunk }),
        (Source::Row(&key(b"f")), 0, &Chunk { epoch: EpochId([4; 32]), ..chunk }),
        (Source::Row(&key(b"l")), 0, &chunk),
        (Source::Row(&key(b"d")), 0, &chunk),
        (Source::Row(&key(b"unknown")), 0, &chunk),
        (Source::Stored("../marker"), 0, &chunk),
        (Source::Stored("../../f"), 0, &chunk),
        (Source::Stored(""), 0, &chunk),
        (Source::Stored("nothing"), 0, &chunk),
    ] {
        assert_eq!(read(&device, source, offset, chunk), None, "{source:?}");
    }
    // A row whose file has become a link to the same bytes, or a FIFO, has nothing to give.
    device.person.rename(b"f", b"g").unwrap();
    device.person.create_symlink(b"f", b"g").unwrap();
    assert_eq!(read(&device, Source::Row(&key(b"f")), 0, &chunk), None);
    device.person.remove(b"f").unwrap();
    device.person.create_fifo(b"f").unwrap();
    assert_eq!(read(&device, Source::Row(&key(b"f")), 0, &chunk), None);
}

#[test]
fn a_version_is_kept_looked_at_and_goes_when_its_time_has_passed() {
    let (_, mut second, contents, _) = one_file(true, |user| user.write(b"f", b"theirs").unwrap());
    let jobs_before = second.ledger.versions.len();
    second.materialise(&contents, 9).unwrap();
    assert_eq!(second.ledger.versions.len(), jobs_before + 1);
    let version = second.ledger.versions.values().next().unwrap().clone();
    let control = second.volume.control().unwrap();
    let mut content = [0; 8];
    let len = versions::open(&control, &version.stored).unwrap().read_at(&mut content, 0).unwrap();
    assert_eq!(&content[..len], b"old");

    let mut looks = SecondLooks::default();
    looks.add(Moment(0), version.clone());
    assert_eq!(looks.deadline(), Some(Moment(0) + SECOND_LOOK_DELAY));
    assert!(looks.take_due(Moment(1)).is_empty());
    assert_eq!(looks.take_due(Moment(0) + SECOND_LOOK_DELAY), std::slice::from_ref(&version));
    assert_eq!(versions::look(&control, &version).unwrap(), Look::AsKept);

    let day_ms = 24 * 60 * 60 * 1000;
    let retention = Retention::default();
    assert!(!retention.is_over(version.kept_at_ms, None, version.kept_at_ms + 30 * day_ms - 1));
    assert!(!retention.is_over(version.kept_at_ms, None, version.kept_at_ms - 90 * day_ms));
    assert!(retention.is_over(version.kept_at_ms, None, version.kept_at_ms + 30 * day_ms));

    // A program that had the file open writes to it late.
    let path = [b".zerocloud/versions/", version.stored.as_bytes()].concat();
    second.person.write(&path, b"late").unwrap();
    assert!(matches!(versions::prune(&control, &version).unwrap(), Look::Changed(_)));
    assert_eq!(second.person.read(&path).unwrap(), b"late");
    let Look::Changed(print) = versions::look(&control, &version).unwrap() else { panic!("it changed") };
    let version = versions::VersionRow { print, ..version };
    assert_eq!(versions::prune(&control, &version).unwrap(), Look::AsKept);
    assert!(second.person.read(&path).is_err());
    assert_eq!(versions::look(&control, &version).unwrap(), Look::Missing);
}

#[test]
fn an_action_without_its_content_is_not_done() {
    let (_, second, contents, _) = one_file(true, |user| user.write(b"f", b"theirs").unwrap());
    let mut second = second;
    let key = RowKey { parent: FileId::ROOT, local: Name::parse(b"f").unwrap() };
    let Ok(old) = second.ledger.row(&key);
    let mut entry = zerocloud_crdt::view::View::new(&second.index).directory(FileId::ROOT).unwrap().remove(0);
    let job = |entry: &zerocloud_crdt::view::ViewEntry, staged| {
        let action = Action::Replace { key: key.clone(), old: old.clone().unwrap(), entry: entry.clone() };
        Job { action, staged, single: None }
    };
    let spec = FileSpec::of_entry(&entry, old.as_ref());
    let staged = staging(&second, 77).stage_whole(&spec, &contents[&entry.hash]).unwrap();
    entry.hash = ContentHash::of(b"another");
    let now = second.clock.wall_time();
    let jobs = [job(&entry, None)];
    let batch = second.materialiser().run(&mut second.ledger, &jobs, now).unwrap();
    assert!(matches!(batch.outcomes[..], [Outcome::Blocked(_)]));
    let jobs = [job(&entry, Some(staged))];
    let batch = second.materialiser().run(&mut second.ledger, &jobs, now).unwrap();
    assert!(matches!(batch.outcomes[..], [Outcome::Blocked(_)]));
    assert_eq!(second.person.read(b"f").unwrap(), b"old");
}

#[test]
fn what_is_deleted_in_a_directory_that_changes_places_with_the_one_above_is_seen_at_once() {
    let mut device = Device::new(1, true);
    device.person.create_directory(b"outer").unwrap();
    device.person.create_directory(b"outer/inner").unwrap();
    device.person.write(b"outer/inner/file", b"1").unwrap();
    device.scan();
    device.person.remove(b"outer/inner/file").unwrap();
    device.person.rename(b"outer/inner", b"inner").unwrap();
    device.person.rename(b"outer", b"inner/outer").unwrap();
    device.scan();
    assert_eq!(device.shown(&device.contents()), device.person.tree());
    assert_eq!(device.scan(), []);
}
