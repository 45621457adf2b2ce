//! A disk that loses power: what was committed is there, and nothing half.

use std::io;
use std::sync::{Arc, Mutex};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zerocloud_crdt::index::{IndexChanges, Seat};

use super::*;
use crate::tree::versions::VersionRow;
use crate::tree::{Commit, Deed, Intents};

/// What the disk holds for sure, and what it was told since: at power loss any part of that may be there.
#[derive(Debug, Default)]
struct Disk {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Writes, resizes and syncs so far.
    step: usize,
    /// The step from which on everything fails.
    fails_at: Option<usize>,
    error: Option<io::ErrorKind>,
}

#[derive(Clone, Debug)]
enum Change {
    Len(usize),
    Write(usize, Vec<u8>),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Len(len) => image.resize(*len, 0),
            Self::Write(offset, bytes) => {
                let end = offset + bytes.len();
                if image.len() < end {
                    image.resize(end, 0);
                }
                image[*offset..end].copy_from_slice(bytes);
            }
        }
    }
}

impl Disk {
    fn begin_step(&mut self) -> io::Result<()> {
        self.check()?;
        self.step += 1;
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        match self.fails_at {
            Some(at) if self.step >= at => Err(self.error.unwrap_or(io::ErrorKind::Other).into()),
            _ => Ok(()),
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    /// What is found after power loss: each page that was written and not synced is there or not.
    fn after_power_loss(&self, seed: u64) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut image = self.durable.clone();
        for change in &self.unsynced {
            match change {
                Change::Len(_) => change.apply(&mut image),
                Change::Write(offset, bytes) => {
                    for (index, sector) in bytes.chunks(512).enumerate() {
                        if rng.next_u32() % 2 == 0 {
                            Change::Write(offset + index * 512, sector.to_vec()).apply(&mut image);
                        }
                    }
                }
            }
        }
        image
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct CrashDisk(Arc<Mutex<Disk>>);

impl CrashDisk {
    fn of_image(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Disk { live: image.clone(), durable: image, ..Disk::default() })))
    }

    /// The disk as it is found after power loss.
    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        Self::of_image(self.0.lock().unwrap().after_power_loss(seed))
    }

    /// After so many steps more, everything fails.
    pub(super) fn fail_after(&self, step_count: usize) {
        let mut disk = self.0.lock().unwrap();
        disk.fails_at = Some(disk.step + step_count);
    }
}

impl StorageBackend for CrashDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.0.lock().unwrap();
        disk.check()?;
        let from = offset as usize;
        let bytes = disk.live.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.begin_step()?;
        disk.change(Change::Len(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.begin_step()?;
        for change in std::mem::take(&mut disk.unsynced) {
            change.apply(&mut disk.durable);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.begin_step()?;
        disk.change(Change::Write(offset as usize, data.to_vec()));
        Ok(())
    }
}

const BATCH_COUNT: u8 = 6;

/// Intents of several pieces.
fn intents(round: u8) -> Intents {
    let new = row(round, round, Kind::File, round, 9);
    let deed = |n| Deed::Create { key: key(0, &format!("{n}")), new: new.clone(), temp: format!("put-{n}") };
    Intents { tmp_inode: u64::from(round), deeds: (0..usize::from(round) * 8).map(deed).collect() }
}

/// One transaction that touches most tables and moves rows from one place to another.
fn batch(write: &mut Write<'_>, round: u8) -> Result<(), StoreError> {
    let seat = |round| Seat { parent: id(0), name_key: u64::from(round) };
    let mut index = IndexChanges { max_counter: Some(u32::from(round)), ..IndexChanges::default() };
    for byte in 0..20 {
        index.items.insert(id(byte), item(0, "n", u32::from(round)));
        index.present.insert((seat(round), id(byte)), true);
        index.present.insert((seat(round - 1), id(byte)), false);
        index.touched.insert(id(byte));
    }
    index.fallen = Some(BTreeMap::from([(id(round), id(0))]));
    write.apply_index(index)?;
    let base = (0..20_u8).map(|byte| {
        let row = row(byte, byte, Kind::File, round, u64::from(byte + round));
        (key(0, &format!("{byte}")), (!(byte + round).is_multiple_of(5)).then_some(row))
    });
    let versions = (0..3_u8).map(|byte| VersionRow {
        stored: format!("version-{}", byte + round),
        origin: (byte > 0).then(|| (key(0, "v"), row(byte, byte, Kind::File, round, 7))),
        print: row(byte, byte, Kind::File, round, 7).print,
        kept_at_ms: i64::from(round) - 3,
    });
    // What an earlier round noted is judged; what this one notes is judged by the next.
    write.apply_commit(&Commit {
        base: base.collect(),
        versions: versions.collect(),
        displaced: vec![displaced(&format!("displaced-{round}"), round)],
        done: [id(round)].into(),
        ..Commit::default()
    })?;
    write.confirm_displaced(&format!("displaced-{}", round - 1), i64::from(round), None)?;
    write.put_page(ChunkId([1; 32]), &vec![round; 5_000])?;
    if round.is_multiple_of(3) { Ok(()) } else { write.put_intents(&intents(round)) }
}

/// Opens a store on `disk` and writes until it fails; returns how many transactions were acknowledged.
fn run(disk: &CrashDisk) -> (u8, Option<StoreError>) {
    let store = match SpaceStore::with_backend(disk.clone(), SPACE) {
        Ok(store) => store,
        Err(error) => return (0, Some(error)),
    };
    for round in 1..=BATCH_COUNT {
        if let Err(error) = store.write(|write| batch(write, round)) {
            return (round - 1, Some(error));
        }
    }
    // As at a kill: nothing is tidied up.
    let mut held = disk.0.lock().unwrap();
    held.fails_at = held.fails_at.or(Some(0));
    drop(held);
    (BATCH_COUNT, None)
}

/// The states that a store may be in, by how many batches were committed.
fn states() -> Vec<Dump> {
    let store = in_memory();
    let mut states = vec![dump(&store.snapshot().unwrap())];
    for round in 1..=BATCH_COUNT {
        store.write(|write| batch(write, round)).unwrap();
        states.push(dump(&store.snapshot().unwrap()));
    }
    states
}

#[test]
fn threat_42_at_power_loss_what_was_committed_is_there_and_nothing_half() {
    let states = states();
    let whole = CrashDisk::default();
    assert!(run(&whole).1.is_none());
    let step_count = whole.0.lock().unwrap().step;
    assert!(step_count > 40, "{step_count}");
    let mut seen = std::collections::BTreeSet::new();
    for at in 0..=step_count {
        let disk = CrashDisk::default();
        disk.0.lock().unwrap().fails_at = Some(at);
        let (acknowledged, _) = run(&disk);
        for seed in 0..3 {
            let image = disk.0.lock().unwrap().after_power_loss(seed);
            let store = match SpaceStore::with_backend(CrashDisk::of_image(image), SPACE) {
                Ok(store) => store,
                // The store was never made whole: nobody was told that it was.
                Err(_) if acknowledged == 0 => continue,
                Err(error) => panic!("step {at}, {acknowledged} acknowledged: {error}"),
            };
            let snapshot = store.snapshot().unwrap();
            assert_eq!(snapshot.cache, Cache::load(&snapshot.tables).unwrap());
            let found = states.iter().position(|state| *state == dump(&snapshot)).map(|state| state as u8);
            let found = found.unwrap_or_else(|| panic!("step {at}: no state that ever was"));
            assert!(found == acknowledged || found == acknowledged + 1, "step {at}: {found}, not {acknowledged}");
            seen.insert(found);
            // And the store goes on from there.
            if found < BATCH_COUNT {
                store.write(|write| batch(write, found + 1)).unwrap();
                assert!(dump(&store.snapshot().unwrap()) == states[usize::from(found) + 1]);
            }
        }
    }
    assert_eq!(seen.len(), states.len(), "every state was crashed into");
}

#[test]
fn a_full_disk_is_told_from_a_broken_one() {
    for (kind, is_full) in [(io::ErrorKind::StorageFull, true), (io::ErrorKind::PermissionDenied, false)] {
        let disk = CrashDisk::default();
        let store = SpaceStore::with_backend(disk.clone(), SPACE).unwrap();
        let mut held = disk.0.lock().unwrap();
        (held.fails_at, held.error) = (Some(0), Some(kind));
        drop(held);
        let error = store.write(|write| batch(write, 1)).unwrap_err();
        assert_eq!(matches!(error, StoreError::DiskFull), is_full, "{error}");
        assert_eq!(matches!(error, StoreError::Io(_)), !is_full, "{error}");
        let error = store.write(|write| batch(write, 1)).unwrap_err();
        assert!(matches!(error, StoreError::FailedBefore), "{error}");
    }
}
