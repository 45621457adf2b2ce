//! What users do to their files, drawn from a generator: whatever a file manager, an editor and a shell do.

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use zerocloud::volume::{FileTime, VolumeErrorKind};

use super::volume::{SimPerson, Tree, TreeEntry};

/// Names that users give.
const NAMES: [&[u8]; 6] = [b"x.t", b"y", b"a", b"b", b"c.txt", b"d"];
/// Kinds of acts. New ones are added at the end, so that a scenario with fewer plays as it did before them.
pub const VERB_COUNT: usize = 31;
/// How deep users' trees are.
const DEPTH_MAX: usize = 3;

/// One of the numbers below `n`.
pub fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    (rng.next_u32() as usize) % n
}

fn pick<'t, T>(rng: &mut ChaCha8Rng, of: &'t [T]) -> Option<&'t T> {
    if of.is_empty() { None } else { of.get(below(rng, of.len())) }
}

/// A content that nobody has written before: `number` makes it so. Mostly a line, now and then some chunks.
pub fn content(rng: &mut ChaCha8Rng, number: u32) -> Vec<u8> {
    let mut bytes = format!("content {number}\n").into_bytes();
    if below(rng, 12) == 0 {
        let len = 100_000 + below(rng, 200_000);
        let start = bytes.len();
        bytes.resize(start + len, 0);
        rng.fill_bytes(&mut bytes[start..]);
    }
    bytes
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn is_under(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// One act of a user, of the first `verb_count` kinds, told as a line. What a file manager would refuse is not done.
pub fn act(person: &SimPerson, rng: &mut ChaCha8Rng, number: u32, verb_count: usize) -> String {
    let tree = person.tree();
    let paths: Vec<&Box<[u8]>> = tree.keys().collect();
    let files: Vec<&Box<[u8]>> =
        tree.iter().filter(|(_, entry)| matches!(entry, TreeEntry::File { .. })).map(|(path, _)| path).collect();
    let mut directories: Vec<&[u8]> = tree
        .iter()
        .filter(|(path, entry)| **entry == TreeEntry::Directory && count_slashes(path) + 1 < DEPTH_MAX)
        .map(|(path, _)| &**path)
        .collect();
    directories.push(b"");
    let (directory, name) = (pick(rng, &directories).copied(), pick(rng, &NAMES).copied());
    let new = join(directory.unwrap_or_default(), name.unwrap_or(b"z"));
    let bytes = content(rng, number);
    let (file, path) = (pick(rng, &files), pick(rng, &paths));
    let verb = below(rng, verb_count);
    let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let (line, outcome) = match (verb, file, path) {
        (0..=3, ..) if !tree.contains_key(&*new) => {
            let line = format!("creates {} with {number}", shown(&new));
            (line, person.write(&new, &bytes))
        }
        (4, ..) if !tree.contains_key(&*new) => {
            let line = format!("makes directory {}", shown(&new));
            (line, person.create_directory(&new))
        }
        (5, ..) if !tree.contains_key(&*new) => {
            let line = format!("makes link {}", shown(&new));
            (line, person.create_symlink(&new, format!("to {number}").as_bytes()))
        }
        (6, ..) if !tree.contains_key(&*new) => {
            let line = format!("makes empty {}", shown(&new));
            (line, person.write(&new, b""))
        }
        (7, Some(file), _) => {
            let line = format!("overwrites {} with {number}", shown(file));
            (line, person.write(file, &bytes))
        }
        (8, Some(file), _) => {
            let line = format!("saves {} with {number}", shown(file));
            (line, person.save_by_rename(file, &bytes))
        }
        (9, Some(file), _) => {
            let old = person.read(file).unwrap_or_default();
            let line = format!("appends {number} to {}", shown(file));
            (line, person.write(file, &[&old[..], format!("and {number}\n").as_bytes()].concat()))
        }
        (10, Some(file), _) => {
            let line = format!("touches {}", shown(file));
            (line, person.set_mtime(file, FileTime { seconds: i64::from(number), nanoseconds: number }))
        }
        (11, Some(file), _) => {
            let line = format!("changes the mode of {}", shown(file));
            (line, person.set_mode(file, if number.is_multiple_of(2) { 0o755 } else { 0o644 }))
        }
        (12, Some(file), _) if !tree.contains_key(&*new) => {
            let line = format!("copies {} to {}", shown(file), shown(&new));
            (line, person.write(&new, &person.read(file).unwrap_or_default()))
        }
        (13 | 14, _, Some(path)) => {
            let line = format!("deletes {}", shown(path));
            (line, person.remove_all(path))
        }
        (15..=17, _, Some(path)) if *new != ***path && !is_under(&new, path) => {
            (format!("renames {} to {}", shown(path), shown(&new)), person.rename(path, &new))
        }
        (18, _, Some(path)) => swap(person, &tree, rng, path),
        (19, Some(file), _) => {
            (format!("saves {} as vim does with {number}", shown(file)), save_with_backup(person, file, &bytes))
        }
        (20, Some(file), _) => {
            let line = format!("puts a directory or link in place of {}", shown(file));
            let is_link = number.is_multiple_of(2);
            let make = |()| match is_link {
                true => person.create_symlink(file, format!("to {number}").as_bytes()),
                false => person.create_directory(file),
            };
            (line, person.remove(file).and_then(make))
        }
        (21, _, Some(path)) if !matches!(tree.get(*path), Some(TreeEntry::File { .. })) => {
            let line = format!("puts a file in place of {} with {number}", shown(path));
            (line, person.remove_all(path).and_then(|()| person.write(path, &bytes)))
        }
        (22, _, Some(path)) if !tree.contains_key(&*other_case(path)) => {
            let other = other_case(path);
            (format!("renames {} to {}", shown(path), shown(&other)), person.rename(path, &other))
        }
        (23, _, Some(path)) if !tree.contains_key(&*new) && !is_under(&new, path) => {
            (format!("copies {} and all below to {}", shown(path), shown(&new)), copy_all(person, &tree, path, &new))
        }
        (24..=26, ..) => resolve(person, &tree, rng, &bytes),
        (28..=30, Some(file), _) => edit_in_place(person, file, number),
        _ => ("waits".to_owned(), Ok(())),
    };
    match outcome {
        Ok(()) => line,
        Err(kind) => format!("{line}, but {kind}"),
    }
}

/// Writes as many bytes as there were: nothing but time tells that they are others.
fn edit_in_place(person: &SimPerson, path: &[u8], number: u32) -> (String, Result<(), VolumeErrorKind>) {
    let mut bytes = format!("{number}.").into_bytes();
    let len = person.read(path).map_or(0, |old| old.len());
    if len < bytes.len() {
        return ("waits".to_owned(), Ok(()));
    }
    bytes.resize(len, b'.');
    (format!("edits {} to {number} in place", String::from_utf8_lossy(path)), person.write(path, &bytes))
}

/// Two things take each other's places, by way of a third.
fn swap(person: &SimPerson, tree: &Tree, rng: &mut ChaCha8Rng, path: &[u8]) -> (String, Result<(), VolumeErrorKind>) {
    let others: Vec<&[u8]> =
        tree.keys().map(|other| &**other).filter(|o| *o != path && !is_under(o, path) && !is_under(path, o)).collect();
    let Some(other) = pick(rng, &others) else { return ("waits".to_owned(), Ok(())) };
    let aside = b"aside";
    let is_swapped = person.rename(path, aside).is_ok() && person.rename(other, path).is_ok();
    let outcome = person.rename(aside, if is_swapped { other } else { path });
    let line = format!("swaps {} and {}", String::from_utf8_lossy(path), String::from_utf8_lossy(other));
    (line, outcome)
}

/// As vim saves with a backup: the old file goes aside, a new one comes, the old one goes.
fn save_with_backup(person: &SimPerson, path: &[u8], bytes: &[u8]) -> Result<(), VolumeErrorKind> {
    let backup = [path, b"~"].concat();
    person.rename(path, &backup)?;
    let written = person.write(path, bytes);
    // A disk that is full leaves the old file.
    if written.is_ok() { person.remove(&backup) } else { person.rename(&backup, path) }
}

/// The path with the letters of its last name in the other case.
fn other_case(path: &[u8]) -> Vec<u8> {
    let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let letter =
        |byte: u8| if byte.is_ascii_uppercase() { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() };
    path.iter().enumerate().map(|(at, byte)| if at < name { *byte } else { letter(*byte) }).collect()
}

fn copy_all(person: &SimPerson, tree: &Tree, from: &[u8], to: &[u8]) -> Result<(), VolumeErrorKind> {
    for (path, entry) in tree.iter().filter(|(path, _)| ***path == *from || is_under(path, from)) {
        let target = [to, path.get(from.len()..).unwrap_or_default()].concat();
        match entry {
            TreeEntry::Directory => person.create_directory(&target)?,
            TreeEntry::File { content, .. } => person.write(&target, content)?,
            TreeEntry::Symlink(link) => person.create_symlink(&target, link)?,
            TreeEntry::Other => {}
        }
    }
    Ok(())
}

/// What people do with a conflict copy: edit it, give it a name, throw it away, or put it in place of the other.
fn resolve(
    person: &SimPerson,
    tree: &Tree,
    rng: &mut ChaCha8Rng,
    bytes: &[u8],
) -> (String, Result<(), VolumeErrorKind>) {
    const MARK: &[u8] = b" (conflict ";
    let mark_of = |path: &[u8]| path.windows(MARK.len()).rposition(|part| part == MARK);
    let is_file = |entry: &TreeEntry| matches!(entry, TreeEntry::File { .. });
    let copies: Vec<(&[u8], usize)> = tree
        .iter()
        .filter(|(_, entry)| is_file(entry))
        .filter_map(|(path, _)| Some((&**path, mark_of(path)?)))
        .filter(|(path, mark)| !path.get(*mark..).is_some_and(|rest| rest.contains(&b'/')))
        .collect();
    let Some((copy, mark)) = pick(rng, &copies).copied() else { return ("waits".to_owned(), Ok(())) };
    let stem = copy.get(..mark).unwrap_or_default();
    let extension = copy.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > mark);
    let original = [stem, extension.and_then(|dot| copy.get(dot..)).unwrap_or_default()].concat();
    let (verb, outcome) = match below(rng, 4) {
        0 => ("edits", person.write(copy, bytes)),
        1 => ("deletes", person.remove(copy)),
        2 if !tree.contains_key(&*[stem, b" mine"].concat()) => {
            ("names", person.rename(copy, &[stem, b" mine"].concat()))
        }
        _ if tree.get(&*original).is_none_or(is_file) => ("puts in place", person.rename(copy, &original)),
        _ => ("looks at", Ok(())),
    };
    (format!("{verb} {}", String::from_utf8_lossy(copy)), outcome)
}

fn count_slashes(path: &[u8]) -> usize {
    path.iter().filter(|byte| **byte == b'/').count()
}
