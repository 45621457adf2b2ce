//! Reading a whole file: piece by piece, with its content hash made on the way.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use zerocloud_crdt::id::ContentHash;

use crate::volume::{VolumeError, VolumeFile};

/// How much is read at a time, in bytes: long runs are what BLAKE3 is fastest on.
const PIECE_LEN: usize = 1 << 20;
/// The least, so that a file that grows meanwhile is not read byte by byte.
const PIECE_LEN_MIN: usize = 4 << 10;
/// From this length on, in bytes, a file is hashed on a thread of its own, and read in longer pieces: a cutter copies
/// what lies within a longest chunk of a piece's end.
const LONG_LEN: u64 = 16 << 20;
const LONG_PIECE_LEN: usize = 4 << 20;
/// Pieces of a long file that are in memory at a time: one is read and taken, one is hashed, one waits.
const LONG_PIECE_COUNT: usize = 3;

/// Reads a file from its beginning to its end, hands each piece to `take`, and gives the hash and the length in bytes
/// of what was read. `len` is what it is thought to have.
///
/// # Errors
/// Those of the volume and of `take`.
pub(super) fn read_hashed<E: From<VolumeError>>(
    file: &dyn VolumeFile,
    len: u64,
    take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(ContentHash, u64), E> {
    if len >= LONG_LEN {
        return read_long(file, take);
    }
    // One more byte shows that there is no more.
    let wanted = usize::try_from(len).unwrap_or(PIECE_LEN).saturating_add(1);
    read_short(file, wanted.clamp(PIECE_LEN_MIN, PIECE_LEN), take)
}

/// The hash of a file's content.
///
/// # Errors
/// Those of the volume.
pub(crate) fn read_content_hash(file: &dyn VolumeFile) -> Result<ContentHash, VolumeError> {
    let len = file.stat()?.size;
    read_hashed(file, len, |_| Ok::<_, VolumeError>(())).map(|(hash, _)| hash)
}

/// Reads, hashes and takes on this thread, in pieces of `piece_len` bytes.
fn read_short<E: From<VolumeError>>(
    file: &dyn VolumeFile,
    piece_len: usize,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(ContentHash, u64), E> {
    let (mut hasher, mut buffer, mut offset) = (blake3::Hasher::new(), vec![0; piece_len], 0);
    loop {
        let len = file.read_at(&mut buffer, offset)?;
        let Some(piece) = buffer.get(..len).filter(|piece| !piece.is_empty()) else { break };
        hasher.update(piece);
        take(piece)?;
        offset += len as u64;
    }
    Ok((ContentHash(*hasher.finalize().as_bytes()), offset))
}

/// Reads and takes on this thread while another one hashes what was taken before.
fn read_long<E: From<VolumeError>>(
    file: &dyn VolumeFile,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(ContentHash, u64), E> {
    let (to_hash, taken) = mpsc::sync_channel(LONG_PIECE_COUNT);
    let (to_fill, hashed) = mpsc::sync_channel(LONG_PIECE_COUNT);
    thread::scope(|scope| {
        let beside = thread::Builder::new().name("hash".into()).spawn_scoped(scope, move || hash(&taken, &to_fill));
        let Ok(beside) = beside else {
            // No more threads: it takes longer.
            return read_short(file, LONG_PIECE_LEN, take);
        };
        let read = read_ahead(file, &mut take, to_hash, &hashed);
        let hash = beside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        read.map(|len| (hash, len))
    })
}

/// A piece on its way to be hashed: a buffer, and how much of it counts.
type Piece = (Vec<u8>, usize);

fn read_ahead<E: From<VolumeError>>(
    file: &dyn VolumeFile,
    take: &mut impl FnMut(&[u8]) -> Result<(), E>,
    to_hash: SyncSender<Piece>,
    hashed: &Receiver<Vec<u8>>,
) -> Result<u64, E> {
    let mut fresh = (0..LONG_PIECE_COUNT).map(|_| vec![0; LONG_PIECE_LEN]);
    let mut offset = 0;
    while let Some(mut buffer) = fresh.next().or_else(|| hashed.recv().ok()) {
        let len = file.read_at(&mut buffer, offset)?;
        match buffer.get(..len) {
            Some(piece) if len > 0 => take(piece)?,
            _ => break,
        }
        offset += len as u64;
        if to_hash.send((buffer, len)).is_err() {
            break;
        }
    }
    Ok(offset)
}

fn hash(taken: &Receiver<Piece>, to_fill: &SyncSender<Vec<u8>>) -> ContentHash {
    let mut hasher = blake3::Hasher::new();
    for (buffer, len) in taken {
        hasher.update(buffer.get(..len).unwrap_or_default());
        // The file has been read to its end: nobody fills it again.
        let _ = to_fill.send(buffer);
    }
    ContentHash(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{LinuxVolume, Volume, VolumeErrorKind};

    fn with_file(len: usize, look: impl FnOnce(&[u8], &dyn VolumeFile)) {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..len).map(|at| (at / 251) as u8).collect();
        std::fs::write(directory.path().join("file"), &bytes).unwrap();
        let volume = LinuxVolume::open(directory.path()).unwrap();
        look(&bytes, &*volume.root().open_file(b"file").unwrap());
    }

    #[test]
    fn every_byte_is_taken_once_in_order_and_hashed() {
        let long = LONG_LEN as usize;
        for len in [0, 1, 4095, 4096, PIECE_LEN, PIECE_LEN + 1, long - 1, long, long + 3 * LONG_PIECE_LEN + 5] {
            with_file(len, |bytes, file| {
                // The length is a guess: a file may have grown or shrunk since.
                for guess in [0, len as u64, LONG_LEN] {
                    let mut taken = Vec::new();
                    let read = read_hashed(file, guess, |piece| {
                        taken.extend_from_slice(piece);
                        Ok::<_, VolumeError>(())
                    });
                    assert_eq!(read.unwrap(), (ContentHash::of(bytes), len as u64));
                    assert!(taken == bytes, "{len} {guess}");
                }
                assert_eq!(read_content_hash(file).unwrap(), ContentHash::of(bytes));
            });
        }
    }

    #[test]
    fn an_error_of_whoever_takes_ends_the_reading() {
        with_file(4 * LONG_PIECE_LEN, |_, file| {
            for guess in [0, LONG_LEN] {
                let mut count = 0;
                let read = read_hashed(file, guess, |_| {
                    count += 1;
                    if count == 2 { Err(VolumeError::new(VolumeErrorKind::NoSpace, "write", b"")) } else { Ok(()) }
                });
                assert_eq!((read.unwrap_err().kind(), count), (VolumeErrorKind::NoSpace, 2));
            }
        });
    }
}
