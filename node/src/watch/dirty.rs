//! What is to be looked at, and how much of it.

use std::collections::{BTreeMap, BTreeSet};

/// Names of one directory that are looked at one by one; above it, the directory is listed instead.
pub const NAME_COUNT_MAX: usize = 64;

/// How much of a directory is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Depth {
    /// These of its names.
    Some(BTreeSet<Box<[u8]>>),
    /// All its own names.
    Names,
    /// All below it.
    Subtree,
}

impl Depth {
    /// What is to be looked at if both are.
    #[must_use]
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Subtree, _) | (_, Self::Subtree) => Self::Subtree,
            (Self::Some(mut names), Self::Some(mut more)) if names.len() + more.len() <= NAME_COUNT_MAX => {
                names.append(&mut more);
                Self::Some(names)
            }
            (Self::Names | Self::Some(_), Self::Names | Self::Some(_)) => Self::Names,
        }
    }
}

/// Directories that changed, by their names from the root, joined by `/` and empty for the root. Any may be gone by now,
/// or lie below another one that is to be looked at with [`Depth::Subtree`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirtySet(BTreeMap<Box<[u8]>, Depth>);

impl DirtySet {
    /// The whole tree.
    pub fn everything() -> Self {
        Self(BTreeMap::from([(Box::default(), Depth::Subtree)]))
    }

    /// Adds a directory; what is noted of it already counts, too.
    pub fn add(&mut self, directory: &[u8], depth: Depth) {
        let depth = match self.0.remove(directory) {
            Some(noted) => noted.and(depth),
            None => depth,
        };
        self.0.insert(directory.into(), depth);
    }

    /// Adds one name in a directory, whatever is below it.
    pub fn add_path(&mut self, path: &[u8]) {
        let directory = parent_of(path);
        let name = path.get(directory.len()..).unwrap_or_default();
        self.add_name(directory, name.strip_prefix(b"/").unwrap_or(name));
    }

    /// The same, by the directory and the name in it.
    pub fn add_name(&mut self, directory: &[u8], name: &[u8]) {
        self.add(directory, Depth::Some(BTreeSet::from([name.into()])));
    }

    /// Adds the whole tree.
    pub fn add_everything(&mut self) {
        self.append(Self::everything());
    }

    /// Adds all that another has.
    pub fn append(&mut self, other: Self) {
        other.0.into_iter().for_each(|(directory, depth)| self.add(&directory, depth));
    }

    /// Whether it is the whole tree.
    pub fn is_everything(&self) -> bool {
        self.0.get(&[][..]) == Some(&Depth::Subtree)
    }

    /// Whether nothing is to be looked at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many directories are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Each directory, with how much of it.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Depth)> {
        self.0.iter().map(|(directory, depth)| (&**directory, depth))
    }

    /// Whether what stands at a path is looked at, by itself and not as something below.
    pub fn has_path(&self, path: &[u8]) -> bool {
        let directory = parent_of(path);
        match self.0.get(directory) {
            Some(Depth::Some(names)) => {
                path.rsplit(|byte| *byte == b'/').next().is_some_and(|name| names.contains(name))
            }
            Some(Depth::Names | Depth::Subtree) => true,
            None => false,
        }
    }

    /// Without the directories of which `counts` says no.
    ///
    /// # Errors
    /// What `counts` fails with.
    pub fn filter<E>(&self, mut counts: impl FnMut(&[u8]) -> Result<bool, E>) -> Result<Self, E> {
        let mut left = Self::default();
        for (directory, depth) in &self.0 {
            if counts(directory)? {
                left.0.insert(directory.clone(), depth.clone());
            }
        }
        Ok(left)
    }
}

/// The directory in which a path stands.
pub fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').and_then(|slash| path.get(..slash)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_told_of_one_directory_the_most_counts() {
        let mut dirty = DirtySet::default();
        for path in ["a/f", "a/g", "f", "a/f"] {
            dirty.add_path(path.as_bytes());
        }
        assert!(["f", "a/f", "a/g"].iter().all(|path| dirty.has_path(path.as_bytes())));
        assert!(["a", "g", "a/h", "b/f", "a/f/f"].iter().all(|path| !dirty.has_path(path.as_bytes())));
        let mut more = DirtySet::default();
        more.add(b"a", Depth::Names);
        more.add_path(b"b/f");
        dirty.append(more);
        dirty.add_path(b"a/f");
        assert!(dirty.has_path(b"a/h") && dirty.has_path(b"b/f") && !dirty.has_path(b"a/h/f"));
        dirty.add(b"a", Depth::Subtree);
        dirty.add(b"a", Depth::Names);
        assert!(dirty.iter().any(|(directory, depth)| directory == b"a" && *depth == Depth::Subtree));
        assert_eq!((dirty.len(), dirty.is_everything()), (3, false));
        dirty.add_everything();
        assert!(dirty.is_everything() && !dirty.is_empty());
    }

    #[test]
    fn of_many_names_a_directory_is_listed_instead() {
        let mut dirty = DirtySet::default();
        for number in 0..NAME_COUNT_MAX {
            dirty.add_path(format!("d/{number}").as_bytes());
        }
        assert!(!dirty.has_path(b"d/other"));
        dirty.add_path(b"d/last");
        assert!(dirty.has_path(b"d/other"));
    }
}
