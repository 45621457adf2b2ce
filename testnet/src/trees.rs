//! Trees of files as people have them, only more: many small ones, one flat directory, one file that is mostly holes.
//!
//! Drawn from a seed: the same words give the same tree, byte for byte. What it takes to hold one is said before it is
//! made.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The shortest and the longest of the small files, in bytes.
const FILE_LEN: (u64, u64) = (100, 4_000);
/// How deep directories lie in each other.
const DEPTH_MAX: usize = 7;
/// Length of one piece of data in a sparse file, in bytes.
const EXTENT_LEN: u64 = 1 << 20;
/// Borders at which such a piece begins, in bytes: blocks of every file system.
const EXTENT_ALIGN: u64 = 64 << 10;
/// What one small file takes on the disk, in bytes: a block.
const FILE_COST: u64 = 4_096;

const WORDS: [&str; 32] = [
    "invoice", "lisbon", "draft", "garden", "budget", "summer", "notes", "kitchen", "contract", "music", "letter",
    "school", "travel", "photo", "recipe", "backup", "project", "meeting", "winter", "report", "family", "house",
    "design", "tax", "holiday", "sketch", "journal", "client", "review", "market", "ticket", "plan",
];
const EXTENSIONS: [&str; 12] = ["txt", "md", "json", "html", "css", "rs", "py", "xml", "csv", "toml", "log", "ini"];

/// A tree that is wanted.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// How many files.
    #[arg(long, default_value_t = 10_000)]
    pub files: u64,
    /// In how many directories below the root; without it one for 50 files.
    #[arg(long)]
    pub dirs: Option<u64>,
    /// What it is drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// All in the root.
    #[arg(long, conflicts_with = "dirs")]
    pub flat: bool,
}

/// A file of holes that is wanted.
#[derive(Clone, Debug, clap::Args)]
pub struct Sparse {
    /// Its length, in MiB.
    #[arg(long, default_value_t = 100 << 10)]
    pub len_mib: u64,
    /// How much of that is data, in MiB, in pieces of one.
    #[arg(long, default_value_t = 1 << 10)]
    pub data_mib: u64,
    /// What it is drawn from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// How many files.
    pub file_count: u64,
    /// How many directories below the root.
    pub directory_count: u64,
    /// The lengths of all files together, in bytes.
    pub content_len: u64,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The disk.
    #[error("{}: {source}; look at what is free there and who may write", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It would not fit.
    #[error("{} has no room for it ({what}): free some, or ask for fewer files", path.display())]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// What is short.
        what: &'static str,
    },
    /// Something is there.
    #[error("{} is not empty: give another directory, or empty it", path.display())]
    NotEmpty {
        /// Where.
        path: PathBuf,
    },
    /// More data than length.
    #[error("a file of {len_mib} MiB can't have {data_mib} MiB of data with holes between: ask for at most half")]
    TooDense {
        /// Its length.
        len_mib: u64,
        /// Its data.
        data_mib: u64,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    let path = path.to_path_buf();
    move |source| TreeError::Io { path, source }
}

/// A number below `bound`, which is above 0.
fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    rng.next_u64() % bound.max(1)
}

/// The number of a directory, of which there are so many.
fn index_of(rng: &mut ChaCha8Rng, count: usize) -> usize {
    usize::try_from(below(rng, count as u64)).unwrap_or(0)
}

fn word(rng: &mut ChaCha8Rng) -> &'static str {
    WORDS[index_of(rng, WORDS.len())]
}

/// A length of which the logarithm is spread around the middle, as lengths of files are.
fn file_len(rng: &mut ChaCha8Rng) -> u64 {
    let (min, max) = FILE_LEN;
    // The sum of four is nearly normal.
    let drawn: f64 = (0..4).map(|_| below(rng, 1_000) as f64 / 1_000.0).sum::<f64>() / 4.0;
    let len = min as f64 * (max as f64 / min as f64).powf(drawn);
    (len as u64).clamp(min, max)
}

/// Text of words, different from that of any other number.
fn text(rng: &mut ChaCha8Rng, number: u64, len: u64) -> Vec<u8> {
    let len = usize::try_from(len).unwrap_or(0);
    let mut text = format!("{number:x} {:x}\n", rng.next_u64()).into_bytes();
    while text.len() < len {
        text.extend_from_slice(word(rng).as_bytes());
        text.push(if text.len() % 70 < 8 { b'\n' } else { b' ' });
    }
    text.truncate(len);
    text
}

/// Makes a tree in a directory, which is made or empty.
///
/// # Errors
/// [`TreeError`]. What was made until then stays.
pub fn make(root: &Path, wanted: &Wanted) -> Result<Made, TreeError> {
    std::fs::create_dir_all(root).map_err(at(root))?;
    if std::fs::read_dir(root).map_err(at(root))?.next().is_some() {
        return Err(TreeError::NotEmpty { path: root.to_path_buf() });
    }
    let directory_count = if wanted.flat { 0 } else { wanted.dirs.unwrap_or((wanted.files / 50).clamp(1, 20_000)) };
    check_room(root, wanted.files.saturating_add(directory_count))?;
    let mut rng = ChaCha8Rng::seed_from_u64(wanted.seed);
    let mut directories = vec![(root.to_path_buf(), 0_usize)];
    for number in 0..directory_count {
        let (path, depth) = loop {
            let (path, depth) = &directories[index_of(&mut rng, directories.len())];
            if *depth < DEPTH_MAX {
                break (path.join(format!("{} {number}", word(&mut rng))), depth + 1);
            }
        };
        std::fs::create_dir(&path).map_err(at(&path))?;
        directories.push((path, depth));
    }
    let mut made = Made { directory_count, ..Made::default() };
    for number in 0..wanted.files {
        // Some directories have many files, most have few.
        let bound = 1 + index_of(&mut rng, directories.len());
        let (directory, _) = &directories[index_of(&mut rng, bound)];
        let extension = EXTENSIONS[index_of(&mut rng, EXTENSIONS.len())];
        let name = format!("{}-{}-{number}.{extension}", word(&mut rng), word(&mut rng));
        let len = file_len(&mut rng);
        let path = directory.join(name);
        std::fs::write(&path, text(&mut rng, number, len)).map_err(at(&path))?;
        made.file_count += 1;
        made.content_len += len;
    }
    Ok(made)
}

fn check_room(root: &Path, inode_count: u64) -> Result<(), TreeError> {
    let stat = rustix::fs::statvfs(root).map_err(|errno| at(root)(errno.into()))?;
    let no_room = |what| Err(TreeError::NoRoom { path: root.to_path_buf(), what });
    // Some file systems make inodes as they need them, and say that there are none at all.
    if stat.f_files > 0 && stat.f_favail < inode_count {
        return no_room("inodes");
    }
    if stat.f_bavail.saturating_mul(stat.f_frsize) < inode_count.saturating_mul(FILE_COST) {
        return no_room("bytes");
    }
    Ok(())
}

/// Makes a file of holes with some data, at a path where nothing is.
///
/// # Errors
/// [`TreeError`]. What was made until then stays.
pub fn make_sparse(path: &Path, wanted: &Sparse) -> Result<Made, TreeError> {
    let (len, data_len) = (wanted.len_mib << 20, wanted.data_mib << 20);
    if data_len > len / 2 {
        return Err(TreeError::TooDense { len_mib: wanted.len_mib, data_mib: wanted.data_mib });
    }
    let mut file = File::create_new(path).map_err(at(path))?;
    file.set_len(len).map_err(at(path))?;
    let mut rng = ChaCha8Rng::seed_from_u64(wanted.seed);
    let extent_count = data_len / EXTENT_LEN;
    let mut extent = vec![0; usize::try_from(EXTENT_LEN).unwrap_or(0)];
    for number in 0..extent_count {
        // Each somewhere in its own part of the file, so that none lies on another.
        let part = len / extent_count / EXTENT_ALIGN * EXTENT_ALIGN;
        let distance = below(&mut rng, (part - EXTENT_LEN) / EXTENT_ALIGN + 1) * EXTENT_ALIGN;
        rng.fill_bytes(&mut extent);
        file.write_all_at(&extent, number * part + distance).map_err(at(path))?;
    }
    file.flush().and_then(|()| file.sync_all()).map_err(at(path))?;
    Ok(Made { file_count: 1, directory_count: 0, content_len: len })
}

/// What a file takes on its disk, in bytes.
///
/// # Errors
/// Those of the disk.
pub fn allocated_len(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.blocks() * 512)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test's own mistakes may end it")]

    use std::collections::BTreeMap;

    use super::*;

    /// All files below a directory by their path, and how many directories there are.
    fn read(root: &Path) -> (BTreeMap<PathBuf, Vec<u8>>, u64) {
        let (mut files, mut directory_count, mut stack) = (BTreeMap::new(), 0, vec![root.to_path_buf()]);
        while let Some(directory) = stack.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directory_count += 1;
                    stack.push(path);
                } else {
                    files.insert(path.strip_prefix(root).unwrap().to_path_buf(), std::fs::read(&path).unwrap());
                }
            }
        }
        (files, directory_count)
    }

    #[test]
    fn one_seed_gives_one_tree() {
        let directory = tempfile::tempdir().unwrap();
        let tree_of = |name: &str, seed| {
            let root = directory.path().join(name);
            let made = make(&root, &Wanted { files: 300, dirs: Some(20), seed, flat: false }).unwrap();
            let (files, directory_count) = read(&root);
            let content_len = files.values().map(|content| content.len() as u64).sum();
            assert_eq!(made, Made { file_count: 300, directory_count: 20, content_len });
            assert_eq!((files.len(), directory_count), (300, 20));
            files
        };
        let (one, again, other) = (tree_of("one", 1), tree_of("again", 1), tree_of("other", 2));
        assert_eq!(one, again);
        assert_ne!(one, other);
        let contents: std::collections::BTreeSet<_> = one.values().collect();
        assert_eq!(contents.len(), 300, "no two have the same content");
        let lens: Vec<u64> = one.values().map(|content| content.len() as u64).collect();
        assert!(lens.iter().all(|len| (FILE_LEN.0..=FILE_LEN.1).contains(len)));
        let median = {
            let mut lens = lens;
            lens.sort_unstable();
            lens[150]
        };
        assert!((400..1_000).contains(&median), "{median}");
    }

    #[test]
    fn a_flat_tree_is_one_directory_and_nothing_is_made_among_other_things() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("flat");
        let wanted = Wanted { files: 100, dirs: None, seed: 1, flat: true };
        make(&root, &wanted).unwrap();
        assert_eq!(read(&root).1, 0);
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 100);
        assert!(matches!(make(&root, &wanted), Err(TreeError::NotEmpty { .. })));
        let many = Wanted { files: u64::MAX / 8_192, ..wanted };
        assert!(matches!(make(&directory.path().join("many"), &many), Err(TreeError::NoRoom { .. })));
    }

    #[test]
    fn a_sparse_file_takes_its_data_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sparse");
        let wanted = Sparse { len_mib: 1 << 10, data_mib: 8, seed: 1 };
        make_sparse(&path, &wanted).unwrap();
        assert_eq!(path.metadata().unwrap().len(), 1 << 30);
        let allocated = allocated_len(&path).unwrap();
        assert!((8 << 20..9 << 20).contains(&allocated), "{allocated}");
        let dense = Sparse { data_mib: 1_000, ..wanted };
        assert!(matches!(make_sparse(&directory.path().join("dense"), &dense), Err(TreeError::TooDense { .. })));
    }
}
