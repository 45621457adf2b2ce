//! A disk that folds names, as the kernel sees it.

use super::*;

#[test]
fn two_spellings_are_one_name_and_the_first_one_stays() {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        eprintln!("NOT RUN: a disk that folds names; it needs root and /dev/fuse");
        return;
    }
    let (backing, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let session = mount(backing.path(), at.path()).unwrap();
    let path = |name: &str| at.path().join(name);
    let names = || {
        let names = std::fs::read_dir(at.path()).unwrap();
        let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    std::fs::write(path("Letter"), "1").unwrap();
    assert_eq!(std::fs::read(path("lETTER")).unwrap(), b"1");
    std::fs::write(path("letter"), "second").unwrap();
    assert_eq!(names(), ["Letter"]);
    let taken = File::create_new(path("LETTER")).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AlreadyExists);
    let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path(name)).unwrap());
    assert_eq!(inode("Letter"), inode("letter"));

    // What goes over another brings its spelling; the accent makes another name.
    std::fs::write(path("other"), "third").unwrap();
    std::fs::rename(path("other"), path("LETTER")).unwrap();
    std::fs::write(path("caf\u{e9}"), "4").unwrap();
    std::fs::write(path("cafe\u{301}"), "5").unwrap();
    assert_eq!(names(), ["LETTER", "cafe\u{301}", "caf\u{e9}"]);
    assert_eq!(std::fs::read(path("Letter")).unwrap(), b"third");

    std::fs::create_dir(path("Desk")).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_000, 123_456_789);
    std::fs::write(path("desk/page"), "6").unwrap();
    File::options().write(true).open(path("DESK/Page")).unwrap().set_modified(time).unwrap();
    assert_eq!(std::fs::metadata(path("Desk/page")).unwrap().modified().unwrap(), time);
    std::fs::remove_file(path("Desk/PAGE")).unwrap();
    std::fs::remove_dir(path("desk")).unwrap();
    assert_eq!(names(), ["LETTER", "cafe\u{301}", "caf\u{e9}"]);
    session.umount_and_join().unwrap();
}
