//! What a log costs: writing an entry, and checking and applying one, of one file and of 1,000.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that can't set up must stop and say so")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use zerocloud_crdt::id::{ChunkId, ContentHash, DeviceId, EpochId, FileId, Incarnation, OpId, RecordHash, SpaceId};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::log::{Draft, DraftOp, Entry, LogWriter, Membership, MemoryLog, Setting, Start};
use zerocloud_crdt::manifest::{Body, ChunkRef, Class, Manifest, Profile};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, FileContent, FileTime, Place, Write};

const SPACE: SpaceId = SpaceId([1; 32]);
const EPOCH: EpochId = EpochId([1; 32]);

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

fn file_id(number: u32) -> FileId {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(&number.to_le_bytes()).as_bytes()[..16]);
    FileId(id)
}

/// New files, or (`pred`) new contents of old ones.
fn files(count: u32, pred: Option<&dyn Fn(u32) -> OpId>) -> Draft {
    let mut ops = Vec::new();
    for number in 0..count {
        let hash = blake3::hash(&[&number.to_le_bytes()[..], &[u8::from(pred.is_some())]].concat());
        let item = file_id(number);
        let chunk = ChunkRef { id: ChunkId(*hash.as_bytes()), epoch_index: 0, len: 10_000 };
        let manifest = Manifest {
            profile: Profile { chunker: 1, class: Class::Single, epoch: EPOCH },
            len: 10_000,
            epochs: vec![EPOCH],
            body: Body::Inline(vec![chunk]),
        };
        let mtime = FileTime { secs: 1_700_000_000 + i64::from(number), nanos: number };
        let file = FileContent { mtime, executable: false, hash: ContentHash(*hash.as_bytes()), manifest };
        if pred.is_none() {
            let name = Name::parse(format!("IMG_{number:05}.jpg").as_bytes()).unwrap();
            let place = Place { parent: FileId::ROOT, name, previous: None, loser_of: None };
            ops.push(DraftOp { item, write: Write::Place(place), pred: vec![] });
        }
        let pred = pred.map(|pred| vec![pred(number)]).unwrap_or_default();
        ops.push(DraftOp { item, write: Write::Content(Some(Content::File(file))), pred });
    }
    Draft::Index(ops)
}

fn log(c: &mut Criterion) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let key = DeviceKeys::from_seed(Secret::new([1; 32])).signing_key();
    let secret = EpochSecret::new(SPACE, EPOCH, Secret::new([2; 32]));
    let writer = LogWriter::new(&key, SPACE, Incarnation([0; 8]));
    let setting = Setting { heads: &[], membership: &[RecordHash([1; 32])], secret: &secret };
    let mut base = MemoryLog::default();
    let start = Draft::Start(Start { label: Name::parse(b"laptop").unwrap(), earlier: vec![] });
    for draft in [start, files(1_000, None)] {
        let written = writer.write(&base, &Everyone, &setting, draft, &mut rng).unwrap();
        base.apply(written.entry, &written.checked);
    }
    let content_of = |number| OpId { counter: 2 * number + 2, actor: writer.actor() };
    for count in [1, 1_000] {
        let mut group = c.benchmark_group(format!("entry of {count} edits"));
        group.throughput(Throughput::Elements(u64::from(count)));
        let draft = files(count, Some(&content_of));
        group.bench_function("append", |b| {
            b.iter_batched(
                || draft.clone(),
                |draft| writer.write(&base, &Everyone, &setting, draft, &mut rng).unwrap(),
                BatchSize::SmallInput,
            );
        });
        let written = writer.write(&base, &Everyone, &setting, draft, &mut rng).unwrap();
        let bytes = written.entry.into_bytes();
        group.bench_function("verify, check and apply", |b| {
            b.iter_batched(
                || (base.clone(), bytes.clone()),
                |(mut log, bytes)| {
                    let entry = Entry::decode(SPACE, bytes).unwrap();
                    black_box(log.receive(entry, &Everyone, |_| Some(&secret)).unwrap());
                    log
                },
                BatchSize::LargeInput,
            );
        });
        group.finish();
        println!("an entry of {count} edits has {} bytes", bytes.len());
    }
}

criterion_group!(benches, log);
criterion_main!(benches);
