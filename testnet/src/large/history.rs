//! A long history of few files: what a log of many entries costs.
//!
//! Two replicas in this process, each over its own store on the disk, without folders and networks: one writes edit after
//! edit as entries of its log, durable one by one as in a node, and the other is then sent all of them, checks and applies
//! them. What is measured is the log, the index and the store; not scans, chunks and files.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use zerocloud::engine::found::Found;
use zerocloud::engine::replica::{Action, Replica};
use zerocloud::store::{SpaceStore, StoreError};
use zerocloud_crdt::id::{ActorId, ChunkId, ContentHash, FileId, OpId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::manifest::{Body, ChunkRef, Class, Manifest, Profile};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::{Content, FileContent, FileTime, Op, Place, Write};
use zerocloud_crdt::scan::ScanOutcome;
use zerocloud_crdt::view::file_id;
use zerocloud_crdt::wire::Log;

use crate::sim::founding::Founding;

/// Length that each version of a file is said to have, in bytes.
const FILE_LEN: u32 = 700;
/// Parts of the history after which one line says how far it is.
const PART_COUNT: u64 = 10;

/// A history that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct HistoryWanted {
    /// How many edits.
    pub edit_count: u64,
    /// Of how many files, one after the other.
    pub file_count: u64,
    /// How many edits one entry holds: 1 is what a user makes who saves file after file.
    pub entry_edit_count: u64,
}

/// What a history costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// What all this is about.
    pub what: String,
    /// How many edits.
    pub edit_count: u64,
    /// Of how many files.
    pub file_count: u64,
    /// How many entries that were.
    pub entry_count: u64,
    /// What writing them took, and how much of that was processor, in seconds.
    pub append_secs: [f64; 2],
    /// What the last tenth of them took, in seconds.
    pub last_append_secs: f64,
    /// What sending, checking and applying them took, and how much of that was processor, in seconds.
    pub apply_secs: [f64; 2],
    /// The entries as they went to the other replica, in bytes.
    pub sent_len: u64,
    /// The writer's store, in bytes.
    pub store_len: u64,
    /// The same after its file was rewritten without what is not in use, in bytes.
    pub compact_len: u64,
    /// What opening the writer's store and replica again took, in seconds.
    pub open_secs: f64,
    /// Memory of this process before anything, with the writer, and with both, in bytes (`RssAnon`).
    pub anonymous_len: [u64; 3],
    /// The most that this process had, in bytes (`VmHWM`).
    pub peak_len: u64,
}

type Device = Replica<Arc<SpaceStore>>;

/// Memory of this process: what belongs to no file, and the most that it had, in bytes.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    (super::process::field(&status, "RssAnon"), super::process::field(&status, "VmHWM"))
}

/// Seconds since a moment, and of those of the processor.
struct Watch(Instant, f64);

impl Watch {
    fn begin() -> Self {
        Self(Instant::now(), super::process::cpu_secs_of("self"))
    }

    fn secs(&self) -> [f64; 2] {
        [self.0.elapsed().as_secs_f64(), super::process::cpu_secs_of("self") - self.1]
    }
}

/// What a file of this number is, and one version of it.
fn content(founding: &Founding, file: u64, version: u64) -> Content {
    let hash = blake3::hash(&[file.to_le_bytes(), version.to_le_bytes()].concat());
    let epoch = founding.secret.epoch;
    let id = ChunkId(*blake3::hash(hash.as_bytes()).as_bytes());
    let body = Body::Inline(vec![ChunkRef { id, epoch_index: 0, len: FILE_LEN }]);
    let profile = Profile { chunker: 1, class: Class::Single, epoch };
    let manifest = Manifest { profile, len: FILE_LEN.into(), epochs: vec![epoch], body };
    let mtime = FileTime { secs: i64::try_from(version).unwrap(), nanos: 0 };
    Content::File(FileContent { mtime, executable: false, hash: ContentHash(*hash.as_bytes()), manifest })
}

/// The edits, one after the other, as operations.
struct Edits<'a> {
    founding: &'a Founding,
    actor: ActorId,
    file_count: u64,
    /// Of each file: its item, and the operation that put its last version.
    files: Vec<(FileId, Option<OpId>)>,
    next: u64,
}

impl Edits<'_> {
    /// The operations of the next edit: the first of a file makes it.
    fn ops(&mut self, counter: u32) -> Vec<Op> {
        let (file, version) = (self.next % self.file_count, self.next / self.file_count);
        self.next += 1;
        let (item, last) = &mut self.files[usize::try_from(file).unwrap()];
        let mut ops = Vec::new();
        let mut put = |write, pred: Vec<OpId>| {
            let id = OpId { counter: counter + 1 + u32::try_from(ops.len()).unwrap(), actor: self.actor };
            ops.push(Op { id, item: *item, write, pred });
            id
        };
        if last.is_none() {
            let name = Name::parse(format!("file {file}").as_bytes()).unwrap();
            put(Write::Place(Place { parent: FileId::ROOT, name, previous: None, loser_of: None }), Vec::new());
        }
        let pred = last.iter().copied().collect();
        *last = Some(put(Write::Content(Some(content(self.founding, file, version))), pred));
        ops
    }
}

fn open(founding: &Founding, work: &Path, n: u8, rng: &mut ChaCha20Rng) -> Device {
    let path = work.join(format!("replica {n}.redb"));
    let store = Arc::new(SpaceStore::open(&path, founding.space).unwrap());
    let records = founding.known_records();
    store
        .write::<_, StoreError>(|write| {
            records.iter().try_for_each(|(hash, bytes)| write.put_record(*hash, bytes).map(drop))
        })
        .unwrap();
    Replica::open(store, founding.records.clone(), founding.identity(n), rng).unwrap()
}

/// Brings all that two replicas have to say to each other; gives the bytes of the entries in it.
fn exchange(a: &mut Device, b: &mut Device) -> u64 {
    let mut sent_len = 0;
    // What is sent and not yet taken is bounded by the replica itself.
    let mut queues: [VecDeque<(Log, usize)>; 2] = Default::default();
    let ids = [a.log().author, b.log().author];
    let mut devices = [a, b];
    loop {
        for (device, queue) in devices.iter_mut().zip(&mut queues) {
            while let Some(action) = device.poll_action() {
                if let Action::Send { message, .. } = action {
                    let len = message.entries_len();
                    sent_len += len as u64;
                    queue.push_back((message, len));
                }
            }
        }
        let mut is_quiet = true;
        for from in [0, 1] {
            while let Some((message, len)) = queues[from].pop_front() {
                is_quiet = false;
                devices[from].handle_sent(ids[1 - from], len).unwrap();
                devices[1 - from].handle_message(ids[from], message).unwrap();
            }
        }
        if is_quiet {
            return sent_len;
        }
    }
}

pub(super) fn measure(work: &Path, wanted: &HistoryWanted) -> History {
    std::fs::create_dir_all(work).unwrap();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let founding = Founding::new(2, 1);
    let before = memory().0;
    let mut a = open(&founding, work, 0, &mut rng);
    let actor = ActorId::of_log(founding.space, a.log());
    let item = |file: u64| file_id(founding.space, FileId::ROOT, false, 0, format!("file {file}").as_bytes());
    let files = (0..wanted.file_count).map(|file| (item(file), None)).collect();
    let mut edits = Edits { founding: &founding, actor, file_count: wanted.file_count, files, next: 0 };
    let (watch, mut last, mut entry_count) = (Watch::begin(), Watch::begin(), 0);
    let part_len = (wanted.edit_count / PART_COUNT).max(1);
    while edits.next < wanted.edit_count {
        let first = a.shelf().snapshot().unwrap().max_counter().unwrap();
        let mut ops = Vec::new();
        for _ in 0..wanted.entry_edit_count.min(wanted.edit_count - edits.next) {
            if edits.next.is_multiple_of(part_len) {
                eprintln!("{} of {} edits: {:.1} s", edits.next, wanted.edit_count, watch.secs()[0]);
                last = Watch::begin();
            }
            let more = edits.ops(first + u32::try_from(ops.len()).unwrap());
            ops.extend(more);
        }
        let outcome = ScanOutcome { ops, ..ScanOutcome::default() };
        a.append(vec![Found::Decided(outcome).into()], &mut rng).unwrap();
        while a.poll_action().is_some() {}
        entry_count += 1;
    }
    let (append_secs, last_append_secs) = (watch.secs(), last.secs()[0]);
    let with_writer = memory().0;

    let mut b = open(&founding, work, 1, &mut rng);
    let watch = Watch::begin();
    a.connect(b.log().author).unwrap();
    b.connect(a.log().author).unwrap();
    let sent_len = exchange(&mut a, &mut b);
    let apply_secs = watch.secs();
    for file in 0..wanted.file_count {
        let [of_a, of_b] = [&a, &b].map(|device| device.shelf().snapshot().unwrap().item(item(file)).unwrap());
        assert_eq!(of_a, of_b, "the replicas differ");
        assert_eq!(of_a.map(|item| item.content.len()), Some(1));
    }
    let (with_both, peak_len) = memory();
    drop((a, b));

    let path = work.join("replica 0.redb");
    let store_len = path.metadata().unwrap().len();
    let begun = Instant::now();
    drop(open(&founding, work, 0, &mut rng));
    let open_secs = begun.elapsed().as_secs_f64();
    redb::Database::open(&path).unwrap().compact().unwrap();
    let compact_len = path.metadata().unwrap().len();
    History {
        what: "two replicas and their stores in one process: no folders, chunks or network; nothing of a log is folded, so \
               what remains of it is all of it"
            .to_owned(),
        edit_count: wanted.edit_count,
        file_count: wanted.file_count,
        entry_count,
        append_secs,
        last_append_secs,
        apply_secs,
        sent_len,
        store_len,
        compact_len,
        open_secs,
        anonymous_len: [before, with_writer, with_both],
        peak_len,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_reaches_the_other_replica_as_it_was_written() {
        let work = tempfile::tempdir().unwrap();
        let wanted = HistoryWanted { edit_count: 95, file_count: 10, entry_edit_count: 2 };
        let history = measure(work.path(), &wanted);
        assert_eq!((history.edit_count, history.entry_count), (95, 48));
        assert!(history.sent_len > 95 * 100, "each edit has two hashes and a signature: {}", history.sent_len);
        assert!(history.compact_len <= history.store_len);
    }
}
