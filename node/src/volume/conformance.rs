//! What every [`Volume`] must do, as a suite that takes a maker: it runs on the real file systems and on the simulated
//! volume, so that what the simulator shows holds on a disk.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that other crates call")]

mod threats;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{At, FileTime, Kind, TMP, VERSIONS, Volume, VolumeDirectory, VolumeError, VolumeErrorKind, VolumeWriter};

/// What the owner of the files does behind the volume's back. Paths are relative to the root, with `/`.
pub trait Person {
    /// Makes or overwrites a file in place.
    fn write(&self, path: &str, content: &[u8]);
    /// A file's content, or `None` if there is no regular file of that path.
    fn read(&self, path: &str) -> Option<Vec<u8>>;
    /// Makes a directory.
    fn create_directory(&self, path: &str);
    /// Makes a link.
    fn create_symlink(&self, path: &str, target: &str);
    /// Makes a FIFO.
    fn create_fifo(&self, path: &str);
    /// Renames, replacing what a rename replaces.
    fn rename(&self, from: &str, to: &str);
    /// Removes a file, a link or an empty directory.
    fn remove(&self, path: &str);
    /// Sets the permission bits.
    fn set_mode(&self, path: &str, mode: u32);
}

/// A fresh volume and its owner.
pub struct Subject {
    /// The volume, its root empty.
    pub volume: Arc<dyn Volume>,
    /// Who else writes there.
    pub person: Box<dyn Person>,
}

/// Runs the whole suite, each case on a fresh subject.
///
/// # Panics
/// Where a volume does not do what it must.
pub fn run(make: &dyn Fn() -> Subject) {
    for case in CASES {
        case(&make());
    }
    handles_of_another_volume_are_refused(&make(), &make());
}

const CASES: &[fn(&Subject)] = &[
    a_list_has_every_name_once,
    stat_tells_what_stands_there,
    threats::threat_33_a_name_is_one_component,
    threats::threat_34_no_verb_follows_a_link,
    threats::threat_34_a_handle_keeps_to_its_directory,
    threats::threat_39_a_fifo_is_not_opened,
    threats::threat_40_modes_are_only_ours_to_make_executable,
    threats::threat_42_a_temporary_file_becomes_visible_whole,
    control_is_made_once_and_found_again,
    only_the_control_directory_has_files_of_ours,
    exchange_swaps_whatever_stands_there,
    nothing_is_replaced,
    directories_are_removed_only_when_empty,
    a_directory_does_not_move_into_itself,
    a_shared_file_has_the_content_or_is_untouched,
    a_displaced_file_stays_readable,
    what_was_let_go_is_still_there,
    a_removed_directory_is_noticed,
    changes_show_in_the_times,
    symlinks_are_kept_as_they_are,
    the_disk_is_described,
];

fn kind<T>(outcome: Result<T, VolumeError>) -> VolumeErrorKind {
    outcome.err().expect("the call must fail").kind()
}

fn at<'a>(directory: &'a Arc<dyn VolumeDirectory>, name: &'a [u8]) -> At<'a> {
    At { directory: &**directory, name }
}

fn read(directory: &Arc<dyn VolumeDirectory>, name: &[u8]) -> Vec<u8> {
    let file = directory.open_file(name).unwrap();
    let mut content = vec![0; usize::try_from(file.stat().unwrap().size).unwrap() + 1];
    let len = file.read_at(&mut content, 0).unwrap();
    content.truncate(len);
    content
}

/// A temporary file with this content.
fn temporary(subject: &Subject, name: &[u8], content: &[u8]) -> Arc<dyn VolumeWriter> {
    let file = subject.volume.control().unwrap().tmp.create_file(name).unwrap();
    file.write_at(content, 0).unwrap();
    file
}

fn a_list_has_every_name_once(subject: &Subject) {
    let root = subject.volume.root();
    assert_eq!(root.list().unwrap(), Vec::new());
    let mut expected = BTreeMap::new();
    // More than one buffer full, with names that are no UTF-8 and that look like options or escapes.
    for number in 0..2_000 {
        let name = format!("{number:05}-{}", "x".repeat(number % 200)).into_bytes();
        root.create_directory(&name).unwrap();
        expected.insert(name, Kind::Directory);
    }
    for name in [&b"\xff\xfe"[..], b"-rf", b"a\nb", b"..a", "\u{e9}".as_bytes(), "e\u{301}".as_bytes()] {
        root.create_directory(name).unwrap();
        expected.insert(name.to_vec(), Kind::Directory);
    }
    subject.person.write("file", b"1");
    subject.person.create_symlink("link", "file");
    expected.extend([(b"file".to_vec(), Kind::File), (b"link".to_vec(), Kind::Symlink)]);
    // Twice on one handle: the second list is as whole as the first.
    for _ in 0..2 {
        let listed = root.list().unwrap();
        assert_eq!(listed.len(), expected.len());
        for entry in listed {
            let kind = expected.get(&*entry.name).expect("a name that was made");
            assert!(entry.kind.is_none_or(|hint| hint == *kind));
            assert_eq!(entry.ino, root.stat(&entry.name).unwrap().ino);
        }
    }
}

fn stat_tells_what_stands_there(subject: &Subject) {
    let root = subject.volume.root();
    subject.person.write("file", b"12345");
    subject.person.create_directory("directory");
    subject.person.create_symlink("link", "to nowhere");
    let file = root.stat(b"file").unwrap();
    assert_eq!((file.kind, file.size, file.link_count), (Kind::File, 5, 1));
    assert_eq!(root.stat(b"directory").unwrap().kind, Kind::Directory);
    let link = root.stat(b"link").unwrap();
    assert_eq!((link.kind, link.size), (Kind::Symlink, 10));
    assert_ne!(file.ino, link.ino);
    assert_eq!(root.open_file(b"file").unwrap().stat().unwrap(), file);
    let directory = root.open_directory(b"directory").unwrap();
    assert_eq!(directory.stat_self().unwrap().ino, root.stat(b"directory").unwrap().ino);
    assert_eq!(kind(root.stat(b"missing")), VolumeErrorKind::NotFound);
    assert_eq!(kind(root.open_file(b"missing")), VolumeErrorKind::NotFound);
    assert_eq!(kind(root.open_directory(b"missing")), VolumeErrorKind::NotFound);
    assert_eq!(kind(root.open_file(b"directory")), VolumeErrorKind::WrongKind);
    assert_eq!(kind(root.open_directory(b"file")), VolumeErrorKind::NotADirectory);
}

fn control_is_made_once_and_found_again(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    let first = volume.control().unwrap();
    first.versions.create_file(b"old").unwrap();
    let again = volume.control().unwrap();
    assert_eq!(first.tmp.stat_self().unwrap().ino, again.tmp.stat_self().unwrap().ino);
    assert_eq!(again.versions.list().unwrap().len(), 1);
    assert_eq!(first.tmp.list().unwrap(), Vec::new());
    // Moved away by the user: what is open there is not ours any more, and a directory is made again.
    subject.person.rename(".zerocloud", "taken");
    let remade = volume.control().unwrap();
    assert_eq!(remade.versions.list().unwrap(), Vec::new());
    assert_ne!(remade.tmp.stat_self().unwrap().ino, first.tmp.stat_self().unwrap().ino);
    assert!(root.stat(b"taken").is_ok());
    // Something else of that name is refused and left alone.
    subject.person.rename(".zerocloud", "taken-again");
    subject.person.create_symlink(".zerocloud", "taken");
    assert_eq!(kind(volume.control()), VolumeErrorKind::IsALink);
    subject.person.remove(".zerocloud");
    subject.person.write(".zerocloud", b"mine");
    assert_eq!(kind(volume.control()), VolumeErrorKind::NotADirectory);
    assert_eq!(subject.person.read(".zerocloud").unwrap(), b"mine");
}

fn only_the_control_directory_has_files_of_ours(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    let control = volume.control().unwrap();
    subject.person.create_directory("a");
    subject.person.write("a/file", b"1");
    let inner = root.open_directory(b"a").unwrap();
    for directory in [&root, &inner] {
        assert!(!directory.is_in_control());
        assert_eq!(kind(directory.create_file(b"new")), VolumeErrorKind::NotInControl);
        assert_eq!(kind(directory.create_symlink(b"new", b"x")), VolumeErrorKind::NotInControl);
        assert_eq!(kind(directory.remove_file(b"file")), VolumeErrorKind::NotInControl);
    }
    assert_eq!(kind(volume.park(at(&inner, b"file"), at(&root, b"file"))), VolumeErrorKind::NotInControl);
    assert_eq!(subject.person.read("a/file").unwrap(), b"1");
    control.versions.create_directory(b"2024").unwrap();
    let year = control.versions.open_directory(b"2024").unwrap();
    assert!(year.is_in_control());
    volume.park(at(&inner, b"file"), at(&year, b"file")).unwrap();
    assert_eq!(kind(control.versions.remove_file(b"2024")), VolumeErrorKind::WrongKind);
    year.remove_file(b"file").unwrap();
    assert_eq!(kind(year.remove_file(b"file")), VolumeErrorKind::NotFound);
    let names: Vec<_> = control.directory.list().unwrap().into_iter().map(|entry| entry.name).collect();
    assert!(names.iter().any(|name| &**name == TMP) && names.iter().any(|name| &**name == VERSIONS));
}

fn exchange_swaps_whatever_stands_there(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    assert!(volume.supports_exchange().unwrap());
    let control = volume.control().unwrap();
    subject.person.write("file", b"old");
    let old = root.stat(b"file").unwrap();
    let new = temporary(subject, b"t", b"new").stat().unwrap();
    volume.exchange(at(&control.tmp, b"t"), at(&root, b"file")).unwrap();
    assert_eq!(root.stat(b"file").unwrap().ino, new.ino);
    let displaced = control.tmp.stat(b"t").unwrap();
    assert_eq!((displaced.ino, displaced.birth, displaced.mtime), (old.ino, old.birth, old.mtime));
    assert_eq!(read(&control.tmp, b"t"), b"old");
    assert_eq!(subject.person.read("file").unwrap(), b"new");
    // Another kind, with something in it, and back.
    subject.person.create_directory("directory");
    subject.person.write("directory/inner", b"2");
    volume.exchange(at(&control.tmp, b"t"), at(&root, b"directory")).unwrap();
    assert_eq!(subject.person.read("directory").unwrap(), b"old");
    volume.exchange(at(&control.tmp, b"t"), at(&root, b"directory")).unwrap();
    assert_eq!(subject.person.read("directory/inner").unwrap(), b"2");
    assert_eq!(kind(volume.exchange(at(&control.tmp, b"t"), at(&root, b"none"))), VolumeErrorKind::NotFound);
    assert_eq!(kind(volume.exchange(at(&control.tmp, b"none"), at(&root, b"file"))), VolumeErrorKind::NotFound);
}

fn nothing_is_replaced(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    let control = volume.control().unwrap();
    temporary(subject, b"t", b"new");
    subject.person.write("file", b"mine");
    subject.person.create_directory("empty");
    subject.person.create_symlink("link", "nowhere");
    for name in [&b"file"[..], b"empty", b"link"] {
        let outcome = volume.rename_noreplace(at(&control.tmp, b"t"), at(&root, name));
        assert_eq!(kind(outcome), VolumeErrorKind::Exists);
    }
    assert_eq!(kind(volume.rename_noreplace(at(&root, b"empty"), at(&root, b"link"))), VolumeErrorKind::Exists);
    assert_eq!(kind(volume.park(at(&root, b"file"), at(&control.tmp, b"t"))), VolumeErrorKind::Exists);
    assert_eq!(kind(volume.rename_noreplace(at(&root, b"no"), at(&root, b"x"))), VolumeErrorKind::NotFound);
    assert_eq!(subject.person.read("file").unwrap(), b"mine");
    assert_eq!(read(&control.tmp, b"t"), b"new");
    assert_eq!(kind(root.create_directory(b"file")), VolumeErrorKind::Exists);
}

fn directories_are_removed_only_when_empty(subject: &Subject) {
    let root = subject.volume.root();
    subject.person.create_directory("a");
    subject.person.write("a/file", b"1");
    assert_eq!(kind(root.remove_directory(b"a")), VolumeErrorKind::NotEmpty);
    assert_eq!(kind(root.open_directory(b"a").unwrap().remove_directory(b"file")), VolumeErrorKind::NotADirectory);
    subject.person.remove("a/file");
    root.remove_directory(b"a").unwrap();
    assert_eq!(kind(root.remove_directory(b"a")), VolumeErrorKind::NotFound);
}

fn a_directory_does_not_move_into_itself(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    volume.control().unwrap();
    subject.person.create_directory("a");
    subject.person.create_directory("a/b");
    let a = root.open_directory(b"a").unwrap();
    let b = a.open_directory(b"b").unwrap();
    assert_eq!(kind(volume.rename_noreplace(at(&root, b"a"), at(&b, b"c"))), VolumeErrorKind::IntoItself);
    assert_eq!(kind(volume.rename_noreplace(at(&root, b"a"), at(&a, b"c"))), VolumeErrorKind::IntoItself);
    assert_eq!(kind(volume.exchange(at(&root, b"a"), at(&a, b"b"))), VolumeErrorKind::IntoItself);
    volume.rename_noreplace(at(&a, b"b"), at(&root, b"b")).unwrap();
    volume.rename_noreplace(at(&root, b"a"), at(&b, b"a")).unwrap();
    assert_eq!(root.open_directory(b"b").unwrap().open_directory(b"a").unwrap().list().unwrap(), Vec::new());
}

fn a_shared_file_has_the_content_or_is_untouched(subject: &Subject) {
    let root = subject.volume.root();
    let control = subject.volume.control().unwrap();
    // A user's file, open for reading only; its length is no multiple of a block.
    subject.person.write("user", &[7; 10_001]);
    let user = root.open_file(b"user").unwrap();
    for name in [b"first".as_slice(), b"second"] {
        let copy = temporary(subject, name, b"");
        let expected = if copy.share(&*user).unwrap() { vec![7; 10_001] } else { Vec::new() };
        assert_eq!(read(&control.tmp, name), expected);
        copy.write_at(b"own", 0).unwrap();
    }
    assert_eq!(user.stat().unwrap().size, 10_001);
    let mut start = [0; 3];
    user.read_at(&mut start, 0).unwrap();
    assert_eq!(start, [7; 3], "what is written to a copy is the copy's");
}

fn what_was_let_go_is_still_there(subject: &Subject) {
    let control = subject.volume.control().unwrap();
    let file = temporary(subject, b"let-go", &[9; 20_000]);
    file.let_go(0, 20_000);
    file.let_go(0, 20_000);
    file.let_go(5, 0);
    file.let_go(u64::MAX, u64::MAX);
    // Nothing more can be asked of an answer that a file system need not give.
    file.is_in_memory(0);
    assert!(file.is_in_memory(20_000), "there is nothing to be read from the disk behind the end");
    assert_eq!(read(&control.tmp, b"let-go"), [9; 20_000]);
}

fn a_displaced_file_stays_readable(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    let control = volume.control().unwrap();
    subject.person.write("file", b"the old content");
    let open = root.open_file(b"file").unwrap();
    temporary(subject, b"t", b"new");
    volume.exchange(at(&control.tmp, b"t"), at(&root, b"file")).unwrap();
    control.tmp.remove_file(b"t").unwrap();
    let mut buffer = [0; 8];
    assert_eq!(open.read_at(&mut buffer, 4).unwrap(), 8);
    assert_eq!(&buffer, b"old cont");
    assert_eq!(open.read_at(&mut buffer, 12).unwrap(), 3);
    assert_eq!(open.read_at(&mut buffer, 100).unwrap(), 0);
    assert_eq!(open.stat().unwrap().link_count, 0);
}

fn a_removed_directory_is_noticed(subject: &Subject) {
    let root = subject.volume.root();
    subject.person.create_directory("a");
    let open = root.open_directory(b"a").unwrap();
    subject.person.remove("a");
    assert_eq!(kind(open.list()), VolumeErrorKind::NotFound);
    assert_eq!(kind(open.create_directory(b"b")), VolumeErrorKind::NotFound);
    assert_eq!(open.stat_self().unwrap().link_count, 0);
    subject.volume.check_root().unwrap();
}

fn changes_show_in_the_times(subject: &Subject) {
    let root = subject.volume.root();
    subject.person.write("file", b"1");
    let file = root.open_file(b"file").unwrap();
    let first = file.stat().unwrap();
    file.set_mtime(FileTime { seconds: 1, nanoseconds: 0 }).unwrap();
    let touched = root.stat(b"file").unwrap();
    assert!(touched.ctime >= first.ctime);
    subject.person.write("file", b"2");
    let written = root.stat(b"file").unwrap();
    assert!(written.mtime > touched.mtime, "a write leaves an old mtime");
    assert_eq!((written.ino, written.birth), (first.ino, first.birth));
    subject.person.rename("file", "moved");
    let moved = root.stat(b"moved").unwrap();
    assert_eq!((moved.ino, moved.birth, moved.mtime), (written.ino, written.birth, written.mtime));
    assert!(moved.ctime >= written.ctime);
}

fn symlinks_are_kept_as_they_are(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    let control = volume.control().unwrap();
    for (name, target) in [(&b"a"[..], &b"/etc/passwd"[..]), (b"b", b"../../up"), (b"c", b"\xff\n"), (b"d", b"d")] {
        control.tmp.create_symlink(name, target).unwrap();
        volume.rename_noreplace(at(&control.tmp, name), at(&root, name)).unwrap();
        assert_eq!(root.read_link(name).unwrap(), target);
        assert_eq!(root.stat(name).unwrap().kind, Kind::Symlink);
    }
    assert_eq!(kind(control.tmp.create_symlink(b"e", b"")), VolumeErrorKind::InvalidName);
    assert_eq!(kind(control.tmp.create_symlink(b"e", b"a\0b")), VolumeErrorKind::InvalidName);
    assert_eq!(kind(control.tmp.create_symlink(b"e", &[b'x'; 4096])), VolumeErrorKind::NameTooLong);
    subject.person.write("file", b"1");
    assert_eq!(kind(root.read_link(b"file")), VolumeErrorKind::WrongKind);
    assert_eq!(kind(root.read_link(b"missing")), VolumeErrorKind::NotFound);
}

fn the_disk_is_described(subject: &Subject) {
    let volume = &subject.volume;
    assert!(volume.free_space().unwrap().bytes > 0);
    assert!(volume.filesystem_id().unwrap().is_same(&volume.filesystem_id().unwrap()));
    assert_eq!(volume.umask() & !0o777, 0);
    volume.check_root().unwrap();
}

fn handles_of_another_volume_are_refused(subject: &Subject, other: &Subject) {
    let volume = &subject.volume;
    subject.person.write("file", b"1");
    other.person.write("file", b"2");
    let (ours, theirs) = (volume.root(), other.volume.root());
    assert_eq!(kind(volume.exchange(at(&ours, b"file"), at(&theirs, b"file"))), VolumeErrorKind::CrossDevice);
    assert_eq!(kind(volume.rename_noreplace(at(&theirs, b"file"), at(&ours, b"x"))), VolumeErrorKind::CrossDevice);
    let copy = temporary(subject, b"t", b"");
    let foreign = theirs.open_file(b"file").unwrap();
    assert_eq!(kind(copy.share(&*foreign)), VolumeErrorKind::CrossDevice);
}
