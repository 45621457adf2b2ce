//! The disk of a space's store: it stops with the process that writes to it, and loses at a power loss what was not
//! synced, each sector by itself.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use redb::StorageBackend;

use super::volume::{Crash, SimVolume};

/// What a disk writes as a whole, in bytes.
const SECTOR_LEN: usize = 512;

/// A disk with one store on it. Clones are the same disk, used by the same process.
#[derive(Clone)]
pub struct SimDisk {
    /// Shared with all clones, also those of earlier processes. Held for one call.
    image: Arc<Mutex<Image>>,
    /// The folder's volume: the same process uses both, and stops on both at once.
    volume: SimVolume,
    process: u64,
}

#[derive(Default)]
struct Image {
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    process: u64,
}

enum Change {
    Len(usize),
    Write(usize, Vec<u8>),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::Write(offset, written) => {
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
        }
    }
}

impl SimDisk {
    /// An empty disk, for the process that uses `volume`.
    pub fn new(volume: SimVolume) -> Self {
        Self { image: Arc::default(), volume, process: 0 }
    }

    /// Another disk with all that is on this one.
    pub fn copy(&self) -> Self {
        self.copy_for(self.volume.clone())
    }

    /// The same, for a process that uses another volume.
    pub fn copy_for(&self, volume: SimVolume) -> Self {
        let live = self.lock().live.clone();
        let image = Image { durable: live.clone(), live, unsynced: Vec::new(), process: self.process };
        Self { image: Arc::new(Mutex::new(image)), volume, process: self.process }
    }

    /// The disk as the next process finds it. What holds an earlier clone can do nothing any more.
    #[must_use]
    pub fn restart(&self, crash: Crash, rng: &mut ChaCha8Rng) -> Self {
        let mut image = self.lock();
        if crash == Crash::PowerLoss {
            for change in std::mem::take(&mut image.unsynced) {
                match change {
                    Change::Len(_) => change.apply(&mut image.durable),
                    Change::Write(offset, bytes) => {
                        for (index, sector) in bytes.chunks(SECTOR_LEN).enumerate() {
                            if rng.next_u32().is_multiple_of(2) {
                                let written = Change::Write(offset + index * SECTOR_LEN, sector.to_vec());
                                written.apply(&mut image.durable);
                            }
                        }
                    }
                }
            }
            image.live = image.durable.clone();
        }
        image.process += 1;
        Self { process: image.process, ..self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Image> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image, if the process that this clone is of still runs.
    fn running(&self) -> io::Result<MutexGuard<'_, Image>> {
        let image = self.lock();
        if image.process == self.process && !self.volume.has_crashed() {
            Ok(image)
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut image = self.running()?;
        change.apply(&mut image.live);
        image.unsynced.push(change);
        Ok(())
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimDisk(process {})", self.process)
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl StorageBackend for SimDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.running()?.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (image, from) = (self.running()?, place(offset)?);
        let bytes = image.live.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(place(len)?))
    }

    fn sync_data(&self) -> io::Result<()> {
        drop(self.running()?);
        // A stop comes before what was written is safe.
        if !self.volume.count_call() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut image = self.lock();
        for change in std::mem::take(&mut image.unsynced) {
            change.apply(&mut image.durable);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(place(offset)?, data.to_vec()))
    }
}
