//! Whether two files of holes are the same, without reading the holes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// What is compared at a time, in bytes.
const PIECE_LEN: u64 = 1 << 20;

/// Where data begins and ends in a file, in bytes, in its order.
fn extents(file: &File) -> Vec<(u64, u64)> {
    let mut extents = Vec::new();
    let mut end = 0;
    loop {
        let start = match seek(file, SeekFrom::Data(end)) {
            Ok(start) => start,
            // No more data.
            Err(Errno::NXIO) => return extents,
            Err(errno) => panic!("where data lies can't be told: {errno}"),
        };
        end = seek(file, SeekFrom::Hole(start)).unwrap();
        extents.push((start, end));
    }
}

/// Asserts that two files have the same length and the same bytes wherever one of them has data; elsewhere both have
/// zeros. Reads neither's holes.
///
/// # Panics
/// When they differ.
pub(super) fn assert_same(one: &Path, other: &Path) {
    let [one, other] = [one, other].map(|path| File::open(path).unwrap());
    assert_eq!(one.metadata().unwrap().len(), other.metadata().unwrap().len(), "their lengths differ");
    let (mut of_one, mut of_other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for (start, end) in extents(&one).into_iter().chain(extents(&other)) {
        let mut at = start;
        while at < end {
            let len = usize::try_from((end - at).min(PIECE_LEN)).unwrap();
            let (of_one, of_other) = (&mut of_one[..len], &mut of_other[..len]);
            one.read_exact_at(of_one, at).unwrap();
            other.read_exact_at(of_other, at).unwrap();
            assert!(of_one == of_other, "they differ between {at} and {end}");
            at += len as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_the_same_whatever_of_their_zeros_is_a_hole() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str, pieces: &[(u64, u8)]| {
            let path = directory.path().join(name);
            let file = File::create(&path).unwrap();
            file.set_len(64 << 20).unwrap();
            pieces.iter().for_each(|(at, byte)| file.write_all_at(&[*byte; 70_000], *at).unwrap());
            path
        };
        let original = make("original", &[(1 << 20, 7), (40 << 20, 8)]);
        assert_same(&original, &make("copy", &[(1 << 20, 7), (40 << 20, 8), (20 << 20, 0)]));
        for other in
            [&[(1 << 20, 7)][..], &[(1 << 20, 7), (40 << 20, 8), (20 << 20, 1)], &[(1 << 20, 7), (40 << 20, 9)]]
        {
            let other = make("other", other);
            assert!(std::panic::catch_unwind(|| assert_same(&original, &other)).is_err());
        }
    }
}
