//! Reading a whole file: piece by piece, with its content hash made on the way.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use zerocloud_crdt::id::ContentHash;

use super::serve::read_up_to;
use crate::volume::{VolumeError, VolumeFile};

/// How much is read at a time, in bytes: long runs are what BLAKE3 is fastest on.
const PIECE_LEN: usize = 1 << 20;
/// The least, so that a file that grows meanwhile is not read byte by byte.
const PIECE_LEN_MIN: usize = 4 << 10;
/// From this length on, in bytes, a file is hashed on a thread of its own, and read in longer pieces: what lies within a
/// longest chunk of a piece's end is copied.
const LONG_LEN: u64 = 16 << 20;
const LONG_PIECE_LEN: usize = 4 << 20;
/// Pieces of a long file that are in memory at a time: one is read and taken, one is hashed, one waits.
const LONG_PIECE_COUNT: usize = 3;

/// Reads a file from its beginning to its end, hands each piece to `take`, and gives the hash and the length in bytes
/// of what was read. `len` is what it is thought to have. What `take` made of a piece goes with the piece to `beside`, on
/// the thread that hashes: of a long file, while the next piece is read and taken.
///
/// # Errors
/// Those of the volume and of `take`.
pub(super) fn read_hashed<T: Send, E: From<VolumeError>>(
    file: &dyn VolumeFile,
    len: u64,
    mut take: impl FnMut(&[u8]) -> Result<T, E>,
    mut beside: impl FnMut(&[u8], T) + Send,
) -> Result<(ContentHash, u64), E> {
    if len >= LONG_LEN
        && let Some(read) = read_long(file, &mut take, &mut beside)
    {
        return read;
    }
    // One more byte shows that there is no more.
    let wanted = usize::try_from(len).unwrap_or(PIECE_LEN).saturating_add(1);
    read_short(file, wanted.clamp(PIECE_LEN_MIN, PIECE_LEN), take, beside)
}

/// A file of `len` bytes, if it is so short that it is held in memory as a whole; one that is longer by now is given with
/// one byte more.
///
/// # Errors
/// Those of the volume.
pub(super) fn read_whole(file: &dyn VolumeFile, len: u64) -> Result<Option<Vec<u8>>, VolumeError> {
    let Some(len) = usize::try_from(len).ok().filter(|len| *len < PIECE_LEN) else { return Ok(None) };
    let mut bytes = vec![0; len + 1];
    let read_len = read_up_to(file, &mut bytes, 0)?;
    bytes.truncate(read_len);
    Ok(Some(bytes))
}

/// The hash of a file's content.
///
/// # Errors
/// Those of the volume.
pub(crate) fn read_content_hash(file: &dyn VolumeFile) -> Result<ContentHash, VolumeError> {
    let len = file.stat()?.size;
    read_hashed(file, len, |_| Ok::<_, VolumeError>(()), |_, ()| ()).map(|(hash, _)| hash)
}

/// Reads, hashes and takes on this thread, in pieces of `piece_len` bytes.
fn read_short<T, E: From<VolumeError>>(
    file: &dyn VolumeFile,
    piece_len: usize,
    mut take: impl FnMut(&[u8]) -> Result<T, E>,
    mut beside: impl FnMut(&[u8], T),
) -> Result<(ContentHash, u64), E> {
    let (mut hasher, mut buffer, mut offset) = (blake3::Hasher::new(), vec![0; piece_len], 0);
    loop {
        let len = file.read_at(&mut buffer, offset)?;
        let Some(piece) = buffer.get(..len).filter(|piece| !piece.is_empty()) else { break };
        hasher.update(piece);
        beside(piece, take(piece)?);
        offset += len as u64;
    }
    Ok((ContentHash(*hasher.finalize().as_bytes()), offset))
}

/// Reads and takes on this thread while another one hashes what was taken before. `None`, and nothing was done, if there
/// are no more threads.
fn read_long<T: Send, E: From<VolumeError>>(
    file: &dyn VolumeFile,
    take: &mut impl FnMut(&[u8]) -> Result<T, E>,
    beside: &mut (impl FnMut(&[u8], T) + Send),
) -> Option<Result<(ContentHash, u64), E>> {
    let (to_hash, taken) = mpsc::sync_channel(LONG_PIECE_COUNT);
    let (to_fill, hashed) = mpsc::sync_channel(LONG_PIECE_COUNT);
    thread::scope(|scope| {
        let hashing = move || hash(&taken, &to_fill, beside);
        let hashing = thread::Builder::new().name("hash".into()).spawn_scoped(scope, hashing).ok()?;
        let read = read_ahead(file, take, to_hash, &hashed);
        let hash = hashing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Some(read.map(|len| (hash, len)))
    })
}

/// A piece on its way to be hashed: a buffer, how much of it counts, and what was made of it.
type Piece<T> = (Vec<u8>, usize, T);

fn read_ahead<T, E: From<VolumeError>>(
    file: &dyn VolumeFile,
    take: &mut impl FnMut(&[u8]) -> Result<T, E>,
    to_hash: SyncSender<Piece<T>>,
    hashed: &Receiver<Vec<u8>>,
) -> Result<u64, E> {
    let mut fresh = (0..LONG_PIECE_COUNT).map(|_| vec![0; LONG_PIECE_LEN]);
    let mut offset = 0;
    while let Some(mut buffer) = fresh.next().or_else(|| hashed.recv().ok()) {
        let len = file.read_at(&mut buffer, offset)?;
        let made = match buffer.get(..len) {
            Some(piece) if len > 0 => take(piece)?,
            _ => break,
        };
        offset += len as u64;
        if to_hash.send((buffer, len, made)).is_err() {
            break;
        }
    }
    Ok(offset)
}

fn hash<T>(
    taken: &Receiver<Piece<T>>,
    to_fill: &SyncSender<Vec<u8>>,
    beside: &mut impl FnMut(&[u8], T),
) -> ContentHash {
    let mut hasher = blake3::Hasher::new();
    for (buffer, len, made) in taken {
        let piece = buffer.get(..len).unwrap_or_default();
        hasher.update(piece);
        beside(piece, made);
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
                    let (mut beside, mut count) = (Vec::new(), 0);
                    let read = read_hashed(
                        file,
                        guess,
                        |piece| {
                            taken.extend_from_slice(piece);
                            count += 1;
                            Ok::<_, VolumeError>(count)
                        },
                        |piece, count| beside.push((piece.to_vec(), count)),
                    );
                    assert_eq!(read.unwrap(), (ContentHash::of(bytes), len as u64));
                    assert!(taken == bytes, "{len} {guess}");
                    assert!(
                        beside.iter().map(|(_, count)| *count).eq(1..=count),
                        "each comes with what was made of it"
                    );
                    assert!(beside.iter().flat_map(|(piece, _)| piece).eq(bytes), "{len} {guess}");
                    let whole = read_whole(file, guess).unwrap();
                    let is_long = guess >= PIECE_LEN as u64;
                    assert_eq!(whole.is_none(), is_long);
                    assert!(is_long || whole.unwrap() == bytes[..len.min(guess as usize + 1)], "{len} {guess}");
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
                let take = |_: &[u8]| {
                    count += 1;
                    if count == 2 { Err(VolumeError::new(VolumeErrorKind::NoSpace, "write", b"")) } else { Ok(()) }
                };
                let read = read_hashed(file, guess, take, |_, ()| ());
                assert_eq!((read.unwrap_err().kind(), count), (VolumeErrorKind::NoSpace, 2));
            }
        });
    }
}
