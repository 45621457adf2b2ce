//! Changes of the index: their encoding, and what they do to registers and the view.

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::{Result, Unstructured};
use sha2::{Digest, Sha256};
use zerocloud_crdt::change::Change;
use zerocloud_crdt::id::{ActorId, ContentHash, EpochId, FileId, OpId, SpaceId};
use zerocloud_crdt::index::MemoryIndex;
use zerocloud_crdt::manifest::{Body, ChunkRef, Class, Manifest, Profile};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, FileContent, FileTime, Meta, Op, Place, Write};
use zerocloud_crdt::view::{View, ViewEntry, conflict, file_id, lost_and_found};

use super::choose;

const SPACE: SpaceId = SpaceId([3; 32]);
const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const CHANGE_CHUNK: u8 = 1;

/// The bytes of a change: as they come, or a body behind a right length and checksum.
pub fn change(data: &[u8]) -> bool {
    match choose(data, 2) {
        None => false,
        Some((0, bytes)) => look(bytes),
        Some((_, body)) => look(&chunk_of(body)),
    }
}

/// A chunk of Automerge's format around a body.
pub(crate) fn chunk_of(body: &[u8]) -> Vec<u8> {
    let mut hashed = vec![CHANGE_CHUNK];
    let mut len = body.len();
    while len >= 0x80 {
        hashed.push(len as u8 | 0x80);
        len >>= 7;
    }
    hashed.push(len as u8);
    hashed.extend_from_slice(body);
    let checksum = Sha256::digest(&hashed);
    [&MAGIC[..], &checksum[..4], &hashed].concat()
}

fn look(bytes: &[u8]) -> bool {
    let Ok((change, hash)) = Change::decode(bytes) else { return false };
    let encoded = change.encode().unwrap();
    assert_eq!((&encoded.bytes[..], encoded.hash), (bytes, hash));
    assert_eq!(change.end_op() - change.start_op + 1, change.ops.len() as u32);
    // Who reads our history by Automerge alone reads the same change.
    let theirs = automerge::Change::from_bytes(bytes.to_vec()).unwrap();
    assert_eq!((theirs.hash().0, theirs.len()), (hash.0, change.ops.len()));
    // What is superseded need not be here: a store that was checked knows it, the index must not fall over it.
    let mut index = MemoryIndex::new(SPACE);
    index.apply(&change.ops);
    shown(&index);
    true
}

/// Every entry of the view; names are told apart in each directory.
fn shown(index: &MemoryIndex) -> BTreeMap<FileId, ViewEntry> {
    let view = View::new(index);
    let sources: BTreeSet<FileId> = index.items().keys().copied().chain([lost_and_found(SPACE)]).collect();
    let mut all = BTreeMap::new();
    for source in sources {
        let Ok(entries) = view.entries(source);
        for entry in entries {
            let Ok(found) = view.entry(entry.id, entry.source);
            assert_eq!(found.as_ref(), Some(&entry));
            // A member may give an item the id of a loser that it leaves as it is: there the item counts.
            match entry.is_virtual() {
                true => drop(all.entry(entry.id).or_insert(entry)),
                false => drop(all.insert(entry.id, entry)),
            }
        }
    }
    let mut names = BTreeSet::new();
    for entry in all.values() {
        assert!(names.insert((entry.parent, entry.name.clone())), "two of one name: {entry:?}");
        let is_taken = entry.is_virtual() && index.items().get(&entry.id).is_some_and(|item| !item.content.is_empty());
        let Ok(directory) = view.directory(entry.parent);
        assert!(is_taken || directory.iter().any(|other| other == entry), "{entry:?} is not in its directory");
        let Ok(_) = conflict::count(index, entry.parent);
        is_below_root(entry, &all);
    }
    all
}

/// Nothing stands in a circle or in what is not shown. What holds something may be a file: a member wrote so.
fn is_below_root(entry: &ViewEntry, all: &BTreeMap<FileId, ViewEntry>) {
    let (mut parent, mut steps) = (entry.parent, 0);
    while parent != FileId::ROOT {
        let Some(above) = all.get(&parent) else { panic!("{entry:?} is in nothing") };
        parent = above.parent;
        steps += 1;
        assert!(steps <= all.len(), "a circle above {entry:?}");
    }
}

/// Changes by three devices that hear of each other now and then; in the end all have the same.
pub fn ops(data: &[u8]) -> bool {
    act(&mut Unstructured::new(data)).is_ok_and(|batch_count| batch_count > 1)
}

/// One device and the batches that it has.
struct Device {
    actor: ActorId,
    index: MemoryIndex,
    seen: BTreeSet<usize>,
    counter: u32,
}

/// The operations of one entry, and the batches that its author had.
struct Batch {
    ops: Vec<Op>,
    past: BTreeSet<usize>,
}

const STEP_COUNT_MAX: usize = 40;

fn act(input: &mut Unstructured<'_>) -> Result<usize> {
    let mut devices: Vec<Device> = (1..4)
        .map(|n| Device { actor: ActorId([n; 16]), index: MemoryIndex::new(SPACE), seen: BTreeSet::new(), counter: 0 })
        .collect();
    let mut batches: Vec<Batch> = Vec::new();
    for _ in 0..STEP_COUNT_MAX {
        if input.is_empty() {
            break;
        }
        let who = input.choose_index(devices.len())?;
        let device = &mut devices[who];
        if input.arbitrary::<u8>()? % 3 > 0 || batches.is_empty() {
            let ops = draw_batch(input, device)?;
            check_encoding(device.actor, device.seen.len() as u64 + 1, &ops);
            device.index.apply(&ops);
            device.counter += ops.len() as u32;
            batches.push(Batch { ops, past: device.seen.clone() });
            device.seen.insert(batches.len() - 1);
        } else {
            let which = input.choose_index(batches.len())?;
            hear(device, &batches, which);
        }
    }
    for device in &mut devices {
        for which in 0..batches.len() {
            hear(device, &batches, which);
        }
    }
    let trees: Vec<_> = devices.iter().map(|device| shown(&device.index)).collect();
    for (device, tree) in devices.iter().zip(&trees) {
        assert_eq!(device.index.items(), devices[0].index.items());
        assert_eq!(tree, &trees[0], "the same operations in another order");
    }
    Ok(batches.len())
}

/// Applies a batch and all that its author had.
fn hear(device: &mut Device, batches: &[Batch], which: usize) {
    for earlier in batches[which].past.iter().copied().chain([which]) {
        if device.seen.insert(earlier) {
            device.index.apply(&batches[earlier].ops);
            let last = batches[earlier].ops.iter().map(|op| op.id.counter).max();
            device.counter = device.counter.max(last.unwrap_or(0));
        }
    }
}

fn check_encoding(actor: ActorId, seq: u64, ops: &[Op]) {
    let start_op = ops[0].id.counter;
    let change = Change { actor, seq, deps: Vec::new(), start_op, ops: ops.to_vec() };
    let encoded = change.encode().unwrap();
    assert_eq!(Change::decode(&encoded.bytes), Ok((change, encoded.hash)));
}

fn draw_batch(input: &mut Unstructured<'_>, device: &Device) -> Result<Vec<Op>> {
    let tree = shown(&device.index);
    let mut pool: Vec<FileId> = vec![lost_and_found(SPACE)];
    pool.extend((0..3).map(|n| file_id(SPACE, FileId::ROOT, true, n, b"d")));
    pool.extend((0..3).map(|n| file_id(SPACE, FileId::ROOT, false, n, b"f")));
    pool.extend(tree.values().filter(|entry| entry.is_virtual()).map(|entry| entry.id));
    let (mut index, mut ops): (_, Vec<Op>) = (device.index.clone(), Vec::new());
    for counter in device.counter + 1..=device.counter + u32::from(input.arbitrary::<u8>()? % 3) + 1 {
        let item = pool[input.choose_index(pool.len())?];
        let op = draw_op(input, &index, &pool, &tree, OpId { counter, actor: device.actor }, item)?;
        index.apply([&op]);
        ops.push(op);
    }
    Ok(ops)
}

fn draw_op(
    input: &mut Unstructured<'_>,
    index: &MemoryIndex,
    pool: &[FileId],
    tree: &BTreeMap<FileId, ViewEntry>,
    id: OpId,
    item: FileId,
) -> Result<Op> {
    let live = index.items().get(&item).cloned().unwrap_or_default();
    let about = live.content.last_key_value().map(|(id, _)| *id);
    let kind = input.arbitrary::<u8>()? % 8;
    let (write, known): (_, Vec<OpId>) = match (kind, about) {
        (0..=2, _) => {
            let previous = input.arbitrary::<bool>()?.then(|| pool[usize::from(kind)]);
            let loser_of = tree.get(&item).filter(|entry| entry.is_virtual()).map(|entry| entry.source);
            let parent = pool.get(input.choose_index(pool.len() + 1)?).copied().unwrap_or(FileId::ROOT);
            let name = draw_name(input)?;
            (Write::Place(Place { parent, name, previous, loser_of }), live.place.into_keys().collect())
        }
        (7, Some(about)) => {
            let (secs, executable, executable_differs) = input.arbitrary()?;
            let mtime = FileTime { secs, nanos: 0 };
            let meta = Meta { mtime, executable, executable_differs, about };
            (Write::Meta(Some(meta)), live.meta.into_keys().collect())
        }
        _ => (Write::Content(draw_content(input)?), live.content.into_keys().collect()),
    };
    let mut pred = Vec::new();
    for id in known {
        if input.ratio(4, 5)? {
            pred.push(id);
        }
    }
    // What deletes supersedes something.
    let is_empty = write.is_delete() && pred.is_empty();
    let write = if is_empty { Write::Content(Some(Content::Directory)) } else { write };
    Ok(Op { id, item, write, pred })
}

fn draw_name(input: &mut Unstructured<'_>) -> Result<Name> {
    const NAMES: [&str; 5] = ["a", "b", "Lost and found", "a (conflict  1970-01-01).txt", "a.txt"];
    let name = NAMES[input.choose_index(NAMES.len())?];
    Name::parse(name.as_bytes()).map_err(|_| arbitrary::Error::IncorrectFormat)
}

fn draw_content(input: &mut Unstructured<'_>) -> Result<Option<Content>> {
    let byte: u8 = input.arbitrary()?;
    let epoch = EpochId([0; 32]);
    Ok(match byte % 5 {
        0 => None,
        1 => Some(Content::Directory),
        2 => Some(Content::Symlink { target: vec![byte | 1] }),
        _ => Some(Content::File(FileContent {
            mtime: FileTime { secs: i64::from(byte), nanos: 0 },
            executable: byte & 0x80 > 0,
            hash: ContentHash([byte; 32]),
            manifest: Manifest {
                profile: Profile { chunker: 1, class: Class::Single, epoch },
                len: u64::from(byte) + 1,
                epochs: vec![epoch],
                body: Body::Inline(vec![ChunkRef {
                    id: zerocloud_crdt::id::ChunkId([byte; 32]),
                    epoch_index: 0,
                    len: u32::from(byte) + 1,
                }]),
            },
        })),
    })
}
