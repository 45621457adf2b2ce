//! A folder as a test compares it: all that a user put there, and nothing of ours.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Everything below a folder, by the bytes of its path; without `.zerocloud` in its root.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<Vec<u8>, Thing>);

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// The hash of its content.
        hash: String,
        /// Its length in bytes.
        len: usize,
        /// Whether it may be run.
        is_executable: bool,
    },
    /// A symbolic link, and what it says.
    Link(String),
    /// Anything else.
    Special,
}

impl Tree {
    /// Reads the tree below `root`.
    pub(crate) fn read(root: &Path) -> Self {
        let mut things = BTreeMap::new();
        let mut stack = vec![root.to_path_buf()];
        while let Some(directory) = stack.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let below = path.strip_prefix(root).unwrap();
                if below == Path::new(".zerocloud") {
                    continue;
                }
                let metadata = path.symlink_metadata().unwrap();
                let thing = if metadata.is_symlink() {
                    Thing::Link(shown(path.read_link().unwrap().into_os_string().into_vec().as_slice()))
                } else if metadata.is_dir() {
                    stack.push(path.clone());
                    Thing::Directory
                } else if metadata.is_file() {
                    let content = std::fs::read(&path).unwrap();
                    let hash = blake3::hash(&content).to_hex()[..16].to_owned();
                    let is_executable = metadata.permissions().mode() & 0o100 != 0;
                    Thing::File { hash, len: content.len(), is_executable }
                } else {
                    Thing::Special
                };
                things.insert(below.as_os_str().as_bytes().to_vec(), thing);
            }
        }
        Self(things)
    }

    /// How many files there are.
    pub(crate) fn file_count(&self) -> usize {
        self.0.values().filter(|thing| matches!(thing, Thing::File { .. })).count()
    }

    /// Whether something lies at this path.
    pub(crate) fn has(&self, path: impl AsRef<[u8]>) -> bool {
        self.0.contains_key(path.as_ref())
    }

    /// All paths, as text.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.keys().map(|path| shown(path)).collect()
    }

    /// Asserts that this tree, of the device `name`, is the one of another; shows where it is not.
    pub(crate) fn assert_same(&self, name: &str, other: &Self, other_name: &str) {
        let mut differences = String::new();
        for path in self.0.keys().chain(other.0.keys()).collect::<std::collections::BTreeSet<_>>() {
            let (ours, theirs) = (self.0.get(path), other.0.get(path));
            if ours != theirs {
                differences += &format!("{}: {name}: {ours:?}, {other_name}: {theirs:?}\n", shown(path));
            }
        }
        assert!(differences.is_empty(), "the trees of {name} and {other_name} differ:\n{differences}");
    }
}

/// Bytes as text that shows each of them.
pub(crate) fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
