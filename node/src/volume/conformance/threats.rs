//! The cases that stand for rows of the table of threats.

use super::{Subject, at, kind, read, temporary};
use crate::volume::{FileTime, Kind, Permissions, VolumeErrorKind};

pub(super) fn threat_33_a_name_is_one_component(subject: &Subject) {
    let root = subject.volume.root();
    let control = subject.volume.control().unwrap();
    subject.person.create_directory("a");
    subject.person.write("a/b", b"1");
    for name in [&b""[..], b".", b"..", b"a/b", b"a/", b"/", b"a\0b", b"../outside"] {
        let refusals = [
            kind(root.open_directory(name)),
            kind(root.open_file(name)),
            kind(root.stat(name)),
            kind(root.read_link(name)),
            kind(root.create_directory(name)),
            kind(root.remove_directory(name)),
            kind(control.tmp.create_file(name)),
            kind(control.tmp.create_symlink(name, b"x")),
            kind(control.tmp.remove_file(name)),
            kind(subject.volume.exchange(at(&root, name), at(&root, b"a"))),
            kind(subject.volume.rename_noreplace(at(&root, b"a"), at(&root, name))),
            kind(subject.volume.park(at(&root, b"a"), at(&control.tmp, name))),
        ];
        assert!(refusals.iter().all(|kind| *kind == VolumeErrorKind::InvalidName), "{name:?}: {refusals:?}");
    }
    assert_eq!(kind(root.create_directory(&[b'n'; 256])), VolumeErrorKind::NameTooLong);
    root.create_directory(&[b'n'; 255]).unwrap();
}

pub(super) fn threat_34_no_verb_follows_a_link(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    let control = volume.control().unwrap();
    subject.person.create_directory("target");
    subject.person.write("target/file", b"kept");
    subject.person.create_symlink("to-directory", "target");
    subject.person.create_symlink("to-file", "target/file");
    assert_eq!(kind(root.open_directory(b"to-directory")), VolumeErrorKind::IsALink);
    assert_eq!(kind(root.open_directory(b"to-file")), VolumeErrorKind::IsALink);
    assert_eq!(kind(root.open_file(b"to-file")), VolumeErrorKind::IsALink);
    assert_eq!(kind(root.open_file(b"to-directory")), VolumeErrorKind::IsALink);
    assert_eq!(kind(root.remove_directory(b"to-directory")), VolumeErrorKind::NotADirectory);
    assert_eq!(kind(root.create_directory(b"to-directory")), VolumeErrorKind::Exists);
    assert_eq!(root.stat(b"to-directory").unwrap().kind, Kind::Symlink);
    // A link in the way of a file: the link itself is swapped, parked and removed.
    temporary(subject, b"new", b"new content");
    volume.exchange(at(&control.tmp, b"new"), at(&root, b"to-file")).unwrap();
    assert_eq!(read(&root, b"to-file"), b"new content");
    assert_eq!(control.tmp.read_link(b"new").unwrap(), b"target/file");
    volume.park(at(&root, b"to-directory"), at(&control.versions, b"parked")).unwrap();
    control.versions.remove_file(b"parked").unwrap();
    control.tmp.remove_file(b"new").unwrap();
    // A link among the temporary names is not written through either.
    control.tmp.create_symlink(b"trap", b"../../target/file").unwrap();
    assert_eq!(kind(control.tmp.create_file(b"trap")), VolumeErrorKind::Exists);
    assert_eq!(subject.person.read("target/file").unwrap(), b"kept");
}

pub(super) fn threat_34_a_handle_keeps_to_its_directory(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    subject.person.create_directory("decoy");
    subject.person.create_directory("a");
    let open = root.open_directory(b"a").unwrap();
    subject.person.rename("a", "moved");
    subject.person.create_symlink("a", "decoy");
    open.create_directory(b"child").unwrap();
    temporary(subject, b"new", b"1");
    let control = volume.control().unwrap();
    volume.rename_noreplace(at(&control.tmp, b"new"), at(&open, b"file")).unwrap();
    assert_eq!(subject.person.read("moved/file").unwrap(), b"1");
    let decoy = root.open_directory(b"decoy").unwrap();
    assert_eq!(decoy.list().unwrap(), Vec::new());
    assert_eq!(open.list().unwrap().len(), 2);
}

pub(super) fn threat_39_a_fifo_is_not_opened(subject: &Subject) {
    let root = subject.volume.root();
    subject.person.create_fifo("fifo");
    assert_eq!(root.stat(b"fifo").unwrap().kind, Kind::Other);
    assert_eq!(kind(root.open_file(b"fifo")), VolumeErrorKind::WrongKind);
    assert_eq!(kind(root.open_directory(b"fifo")), VolumeErrorKind::NotADirectory);
    assert_eq!(root.list().unwrap().len(), 1);
}

pub(super) fn threat_40_modes_are_only_ours_to_make_executable(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    let umask = volume.umask();
    let file = temporary(subject, b"t", b"#!");
    assert_eq!(file.stat().unwrap().mode, 0o600);
    let cases = [
        (Permissions::New { executable: false }, 0o666 & !umask),
        (Permissions::New { executable: true }, 0o777 & !umask),
        (Permissions::Like { mode: 0o7600, executable: false }, 0o600),
        (Permissions::Like { mode: 0o6640, executable: true }, 0o640 | (0o110 & !umask)),
    ];
    for (permissions, mode) in cases {
        file.set_permissions(permissions).unwrap();
        assert_eq!(file.stat().unwrap().mode, mode);
    }
    subject.person.write("script", b"#!");
    subject.person.set_mode("script", 0o640);
    let script = root.open_file(b"script").unwrap();
    script.set_executable(true).unwrap();
    assert_eq!(root.stat(b"script").unwrap().mode, 0o640 | (0o110 & !umask));
    assert!(root.stat(b"script").unwrap().is_executable());
    script.set_executable(false).unwrap();
    assert_eq!(root.stat(b"script").unwrap().mode, 0o640);
    root.create_directory(b"directory").unwrap();
    assert_eq!(root.stat(b"directory").unwrap().mode & 0o777, 0o777 & !umask);
    let control = volume.control().unwrap();
    for directory in [&control.directory, &control.tmp, &control.versions] {
        assert_eq!(directory.stat_self().unwrap().mode, 0o700);
    }
}

pub(super) fn threat_42_a_temporary_file_becomes_visible_whole(subject: &Subject) {
    let (volume, root) = (&subject.volume, subject.volume.root());
    let control = volume.control().unwrap();
    let file = control.tmp.create_file(b"t").unwrap();
    assert_eq!(kind(control.tmp.create_file(b"t")), VolumeErrorKind::Exists);
    file.write_at(b"end", 5).unwrap();
    file.write_at(b"st", 0).unwrap();
    file.set_len(10).unwrap();
    let mtime = FileTime { seconds: 1_000_000_000, nanoseconds: 123_456_789 };
    file.set_mtime(mtime).unwrap();
    file.sync().unwrap();
    assert_eq!(root.list().unwrap().iter().filter(|entry| &*entry.name != b".zerocloud").count(), 0);
    let ino = file.stat().unwrap().ino;
    volume.rename_noreplace(at(&control.tmp, b"t"), at(&root, b"file")).unwrap();
    root.sync().unwrap();
    volume.sync_all().unwrap();
    assert_eq!(read(&root, b"file"), b"st\0\0\0end\0\0");
    let stat = root.stat(b"file").unwrap();
    assert_eq!((stat.ino, stat.size, stat.mtime), (ino, 10, mtime));
    assert_eq!(control.tmp.list().unwrap(), Vec::new());
    let before_1970 = FileTime { seconds: -5, nanoseconds: 7 };
    root.open_file(b"file").unwrap().set_mtime(before_1970).unwrap();
    assert_eq!(root.stat(b"file").unwrap().mtime, before_1970);
}
