//! What users do to their files, drawn from a generator: whatever a file manager, an editor and a shell do.

mod texts;

use std::collections::{BTreeMap, BTreeSet};

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use zerocloud::volume::{FileTime, VolumeErrorKind};

use super::volume::{Tree, TreeEntry};

pub use texts::{act_on_text, text};

/// What a user does to a folder, of whatever it is made. Paths are relative to its root, with `/`. Every method fails as
/// a file manager would, with the kind that a volume has for it.
pub trait FolderUser {
    /// All that there is, without our own directory.
    fn tree(&self) -> Tree;
    /// A file's content.
    fn read(&self, path: &[u8]) -> Outcome<Vec<u8>>;
    /// Makes a file, or overwrites one in place: same inode.
    fn write(&self, path: &[u8], content: &[u8]) -> Outcome<()>;
    /// Saves as editors do: a new file under another name, renamed over the old one. A new inode.
    fn save_by_rename(&self, path: &[u8], content: &[u8]) -> Outcome<()> {
        let temporary = [path, b".saving"].concat();
        self.write(&temporary, content)?;
        self.rename(&temporary, path)
    }
    /// Renames; a file or link at the new path is replaced, and an empty directory by a directory.
    fn rename(&self, from: &[u8], to: &[u8]) -> Outcome<()>;
    /// Removes a file, a link or an empty directory.
    fn remove(&self, path: &[u8]) -> Outcome<()>;
    /// Removes a file or link, or a directory with all that is in it.
    fn remove_all(&self, path: &[u8]) -> Outcome<()>;
    /// Makes a directory.
    fn create_directory(&self, path: &[u8]) -> Outcome<()>;
    /// Gives a file another name beside the one that it has (a hard link).
    fn link(&self, from: &[u8], to: &[u8]) -> Outcome<()>;
    /// Makes a link.
    fn create_symlink(&self, path: &[u8], target: &[u8]) -> Outcome<()>;
    /// Sets the time of the last change of content.
    fn set_mtime(&self, path: &[u8], mtime: FileTime) -> Outcome<()>;
    /// Sets the permission bits.
    fn set_mode(&self, path: &[u8], mode: u32) -> Outcome<()>;
    /// Copies all that there is to another disk, in place of what was copied before.
    fn keep_backup(&self);
    /// What was copied the last time.
    fn backup(&self) -> Tree;
}

/// What comes of an act.
pub type Outcome<T> = Result<T, VolumeErrorKind>;

/// Names that users give.
const NAMES: [&[u8]; 6] = [b"x.t", b"y", b"a", b"b", b"c.txt", b"d"];
/// Kinds of acts. New ones are added at the end, so that a scenario with fewer plays as it did before them.
pub const VERB_COUNT: usize = 43;
/// How many there were when scenarios had the first kinds of steps alone.
pub const EARLY_VERB_COUNT: usize = 31;
/// Two names that are one to a person, and to some file systems.
const FORMS: [&[u8]; 2] = ["caf\u{e9}.t".as_bytes(), "cafe\u{301}.t".as_bytes()];
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

fn leaf(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

fn is_under(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// One act of a user, of the first `verb_count` kinds, told as a line. What a file manager would refuse is not done.
pub fn act(person: &impl FolderUser, rng: &mut ChaCha8Rng, number: u32, verb_count: usize) -> String {
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
        (31.., ..) => {
            let files: Vec<&[u8]> = files.iter().map(|path| &***path).collect();
            let picked = Picked { files: &files, directories: &directories, new, bytes, number };
            act_later(person, &tree, rng, verb, &picked)
        }
        _ => ("waits".to_owned(), Ok(())),
    };
    match outcome {
        Ok(()) => line,
        Err(kind) => format!("{line}, but {kind}"),
    }
}

/// What an act is drawn from.
struct Picked<'t> {
    files: &'t [&'t [u8]],
    directories: &'t [&'t [u8]],
    /// A path.
    new: Vec<u8>,
    /// A content.
    bytes: Vec<u8>,
    number: u32,
}

/// The acts of which the first scenarios knew nothing.
fn act_later(
    person: &impl FolderUser,
    tree: &Tree,
    rng: &mut ChaCha8Rng,
    verb: usize,
    picked: &Picked<'_>,
) -> (String, Outcome<()>) {
    let Picked { files, directories, new, bytes, number } = picked;
    let shown = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let (file, other) = (pick(rng, files).copied(), pick(rng, files).copied());
    let is_free = !tree.contains_key(&**new);
    match (verb, file) {
        (31, Some(file)) => {
            let mut bytes = person.read(file).unwrap_or_default();
            // What is left of a line may be what is left of another.
            if bytes.len() < 1_000 {
                return ("waits".to_owned(), Ok(()));
            }
            bytes.truncate(bytes.len() / 2);
            (format!("truncates {}", shown(file)), person.write(file, &bytes))
        }
        (32, Some(file)) => {
            let line = format!("deletes {} and makes it again with {number}", shown(file));
            (line, person.remove(file).and_then(|()| person.write(file, bytes)))
        }
        (34 | 35, _) => move_into(person, tree, rng, directories),
        (36, _) => {
            person.keep_backup();
            ("makes a backup".to_owned(), Ok(()))
        }
        (37, _) => ("puts the backup over the folder".to_owned(), put_back(person, tree)),
        (38, _) => {
            let [directory, form] = [below(rng, directories.len()), below(rng, FORMS.len())];
            let path = join(directories.get(directory).copied().unwrap_or_default(), FORMS[form]);
            (format!("writes {} ({form}) with {number}", shown(&path)), person.write(&path, bytes))
        }
        (39, _) => respell(person, tree, rng),
        (40, Some(file)) if is_free => {
            let line = format!("edits {} with {number} and renames it to {}", shown(file), shown(new));
            (line, person.write(file, bytes).and_then(|()| person.rename(file, new)))
        }
        (41, Some(file)) => {
            let from = other.unwrap_or(file);
            let line = format!("copies {} over {}", shown(from), shown(file));
            (line, person.write(file, &person.read(from).unwrap_or_default()))
        }
        (42, Some(file)) if is_free => (format!("names {} also {}", shown(file), shown(new)), person.link(file, new)),
        _ => ("waits".to_owned(), Ok(())),
    }
}

/// Something at a path that is otherwise on another disk, of this name if there is one, told as a line.
pub fn act_aimed<U: FolderUser>(
    person: &U,
    (others, name): (&[U], &[u8]),
    rng: &mut ChaCha8Rng,
    number: u32,
) -> String {
    let here = person.tree();
    let there: Vec<Tree> = others.iter().map(U::tree).collect();
    let is_other = |path: &&[u8]| there.iter().any(|tree| tree.get(*path) != here.get(*path));
    let all = here.keys().chain(there.iter().flat_map(BTreeMap::keys)).map(|path| &**path);
    let paths: BTreeSet<&[u8]> = all.filter(is_other).collect();
    let mut paths: Vec<&[u8]> = paths.into_iter().collect();
    if paths.iter().any(|path| leaf(path) == name) {
        paths.retain(|path| leaf(path) == name);
    }
    let bytes = content(rng, number);
    let verb = below(rng, 6);
    let Some(path) = pick(rng, &paths) else { return "waits".to_owned() };
    let shown = String::from_utf8_lossy(path);
    let (line, outcome) = match (verb, here.get(*path)) {
        (_, None) => (format!("creates {shown} with {number}"), person.write(path, &bytes)),
        (0, Some(_)) => (format!("deletes {shown}"), person.remove_all(path)),
        (1, Some(TreeEntry::File { .. })) => {
            (format!("saves {shown} with {number}"), person.save_by_rename(path, &bytes))
        }
        (2 | 3, Some(TreeEntry::File { .. })) => edit_in_place(person, path, number),
        (_, Some(TreeEntry::File { .. })) => (format!("overwrites {shown} with {number}"), person.write(path, &bytes)),
        (_, Some(_)) => ("waits".to_owned(), Ok(())),
    };
    match outcome {
        Ok(()) => line,
        Err(kind) => format!("{line}, but {kind}"),
    }
}

/// A directory with all that is in it goes into another; elsewhere the other may go into it.
fn move_into(
    person: &impl FolderUser,
    tree: &Tree,
    rng: &mut ChaCha8Rng,
    directories: &[&[u8]],
) -> (String, Outcome<()>) {
    let moved: Vec<&[u8]> = directories.iter().copied().filter(|path| !path.is_empty()).collect();
    let (from, into) = (pick(rng, &moved).copied(), pick(rng, &moved).copied());
    let (Some(from), Some(into)) = (from, into) else { return ("waits".to_owned(), Ok(())) };
    let to = join(into, leaf(from));
    if from == into || is_under(into, from) || tree.contains_key(&*to) {
        return ("waits".to_owned(), Ok(()));
    }
    (format!("moves {} to {}", String::from_utf8_lossy(from), String::from_utf8_lossy(&to)), person.rename(from, &to))
}

/// A backup is put over the folder: its files replace what stands at their paths, all else stays.
fn put_back(person: &impl FolderUser, tree: &Tree) -> Outcome<()> {
    for (path, entry) in person.backup() {
        match (entry, tree.get(&path)) {
            (TreeEntry::Directory, None) => person.create_directory(&path)?,
            (TreeEntry::File { content, .. }, None | Some(TreeEntry::File { .. })) => {
                // Its directory may be a file by now.
                match person.write(&path, &content) {
                    Err(VolumeErrorKind::NotADirectory | VolumeErrorKind::NotFound) => {}
                    outcome => outcome?,
                }
            }
            (TreeEntry::Directory | TreeEntry::File { .. } | TreeEntry::Symlink(_) | TreeEntry::Other, _) => {}
        }
    }
    Ok(())
}

/// Something gets its name in the other Unicode form.
fn respell(person: &impl FolderUser, tree: &Tree, rng: &mut ChaCha8Rng) -> (String, Outcome<()>) {
    let named: Vec<(&[u8], usize)> =
        tree.keys().filter_map(|path| Some((&**path, FORMS.iter().position(|form| path.ends_with(form))?))).collect();
    let Some((path, form)) = pick(rng, &named).copied() else { return ("waits".to_owned(), Ok(())) };
    let to = [path.strip_suffix(FORMS[form]).unwrap_or_default(), FORMS[1 - form]].concat();
    if tree.contains_key(&*to) {
        return ("waits".to_owned(), Ok(()));
    }
    (format!("gives {} its name in form {}", String::from_utf8_lossy(path), 1 - form), person.rename(path, &to))
}

/// Writes as many bytes as there were: nothing but time tells that they are others.
fn edit_in_place(person: &impl FolderUser, path: &[u8], number: u32) -> (String, Outcome<()>) {
    let mut bytes = format!("{number}.").into_bytes();
    let len = person.read(path).map_or(0, |old| old.len());
    if len < bytes.len() {
        return ("waits".to_owned(), Ok(()));
    }
    bytes.resize(len, b'.');
    (format!("edits {} to {number} in place", String::from_utf8_lossy(path)), person.write(path, &bytes))
}

/// Two things take each other's places, by way of a third.
fn swap(person: &impl FolderUser, tree: &Tree, rng: &mut ChaCha8Rng, path: &[u8]) -> (String, Outcome<()>) {
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
fn save_with_backup(person: &impl FolderUser, path: &[u8], bytes: &[u8]) -> Outcome<()> {
    let backup = [path, b"~"].concat();
    person.rename(path, &backup)?;
    let written = person.write(path, bytes);
    // A disk that is full leaves the old file.
    if written.is_ok() { person.remove(&backup) } else { person.rename(&backup, path) }
}

/// The path with the letters of its last name in the other case.
pub(crate) fn other_case(path: &[u8]) -> Vec<u8> {
    let name = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let letter =
        |byte: u8| if byte.is_ascii_uppercase() { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() };
    path.iter().enumerate().map(|(at, byte)| if at < name { *byte } else { letter(*byte) }).collect()
}

fn copy_all(person: &impl FolderUser, tree: &Tree, from: &[u8], to: &[u8]) -> Outcome<()> {
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
fn resolve(person: &impl FolderUser, tree: &Tree, rng: &mut ChaCha8Rng, bytes: &[u8]) -> (String, Outcome<()>) {
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
