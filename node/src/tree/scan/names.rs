//! Some names of a directory instead of all: an edit in one of 100,000 files costs no look at the others.

use super::*;

/// A walk of this extent, in which the directories `whole` are listed whatever it says.
pub(super) fn walk_of<'a, B: BaseRead>(
    base: &'a B,
    extent: &Extent,
    rules: NameRules,
    whole: &BTreeSet<FileId>,
) -> Walk<'a, B> {
    match extent {
        Extent::Full => Walk::full(base),
        Extent::Directories { directories, are_moved_whole } => {
            let mut walk = Walk::of_directories(base, []);
            for (directory, names) in directories {
                walk = match names {
                    // Other systems' disks have several names for one file.
                    Some(names) if rules == NameRules::Linux && !whole.contains(directory) => {
                        walk.with_names(*directory, names.clone())
                    }
                    _ => walk.with_directory(*directory),
                };
            }
            if *are_moved_whole { walk.with_moved_whole() } else { walk }
        }
        Extent::Paced { is_full, left, room } => {
            let walk = if *is_full { Walk::full(base) } else { Walk::of_directories(base, []) };
            walk.with_room(*room, left.iter().copied())
        }
    }
}

impl<B: BaseRead> Lister<'_, B> {
    /// Looks at these names of a directory only.
    pub(super) fn look_at_names(
        &mut self,
        locate: &InWalk<'_, '_, B>,
        directory: Parent,
        handle: &dyn VolumeDirectory,
        names: &BTreeSet<Name>,
    ) -> Result<Listing, TreeError<B::Error>> {
        let inode = match handle.stat_self() {
            Ok(stat) => stat.ino,
            Err(error) => return self.unlisted(locate, directory, error),
        };
        let Parent::Known(parent) = directory else { return Ok(Listing::Ambiguous) };
        self.judge.left_out.insert(directory, BTreeSet::new());
        let mut entries = Vec::new();
        for local in names {
            let key = RowKey { parent, local: local.clone() };
            let row = self.base.row(&key).map_err(TreeError::Store)?;
            match (self.look(locate, directory, handle, local.as_bytes())?, row) {
                (Some(listed), None) if !is_one_of_its_own(handle, &listed) => return Ok(Listing::Ambiguous),
                (Some(listed), _) => entries.push(listed),
                // Without its file, too.
                (None, Some(row)) if self.judge.standing(directory, local, row.kind)? == Standing::Asleep => {
                    entries.extend(self.as_before(directory, key.local)?);
                }
                (None, _) => {}
            }
        }
        Ok(Listing::Complete { inode, entries })
    }
}

/// Whether a name leads to a file that no other does. A disk that takes two spellings for one may have the file under
/// the other; it would take capitals for small letters, whatever else it does.
fn is_one_of_its_own(directory: &dyn VolumeDirectory, listed: &Listed) -> bool {
    let name = listed.local.as_bytes();
    let swap =
        |byte: &u8| if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
    let other: Vec<u8> = name.iter().map(swap).collect();
    if mutated!(NamesAlone) {
        return true;
    }
    if !name.is_ascii() || other == name {
        return name.is_ascii();
    }
    match directory.stat(&other) {
        Ok(stat) => stat.ino != listed.print.inode,
        Err(error) => error.kind() == VolumeErrorKind::NotFound,
    }
}
