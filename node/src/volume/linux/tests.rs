//! The Linux volume on real file systems: the conformance suite, and what only a kernel can show.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::AtomicBool;

use rustix::fs::{FileType, inotify};
use tempfile::TempDir;

use super::*;
use crate::volume::conformance::{self, Person, Subject};

/// The owner of a real directory, which goes with him.
struct Owner(TempDir);

impl Person for Owner {
    fn write(&self, path: &str, content: &[u8]) {
        fs::write(self.0.path().join(path), content).unwrap();
    }
    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let path = self.0.path().join(path);
        fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file).map(|_| fs::read(&path).unwrap())
    }
    fn create_directory(&self, path: &str) {
        fs::create_dir(self.0.path().join(path)).unwrap();
    }
    fn create_symlink(&self, path: &str, target: &str) {
        symlink(target, self.0.path().join(path)).unwrap();
    }
    fn create_fifo(&self, path: &str) {
        rustix::fs::mkfifoat(CWD, self.0.path().join(path), Mode::RWXU).unwrap();
    }
    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.0.path().join(from), self.0.path().join(to)).unwrap();
    }
    fn remove(&self, path: &str) {
        let path = self.0.path().join(path);
        if fs::symlink_metadata(&path).unwrap().is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
            .unwrap();
    }
    fn set_mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.0.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn fixture() -> (TempDir, LinuxVolume) {
    let directory = tempfile::tempdir().unwrap();
    let volume = LinuxVolume::open(directory.path()).unwrap();
    (directory, volume)
}

fn at<'a>(directory: &'a dyn VolumeDirectory, name: &'a [u8]) -> At<'a> {
    At { directory, name }
}

fn kind<T>(outcome: Result<T, VolumeError>) -> VolumeErrorKind {
    outcome.err().expect("the call must fail").kind()
}

#[test]
fn a_volume_on_disk_conforms() {
    conformance::run(&|| {
        let directory = tempfile::tempdir().unwrap();
        Subject { volume: Arc::new(LinuxVolume::open(directory.path()).unwrap()), person: Box::new(Owner(directory)) }
    });
}

#[test]
fn a_volume_in_memory_conforms() {
    conformance::run(&|| {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        Subject { volume: Arc::new(LinuxVolume::open(directory.path()).unwrap()), person: Box::new(Owner(directory)) }
    });
}

#[test]
fn a_volume_conforms_on_a_kernel_without_openat2() {
    conformance::run(&|| {
        let directory = tempfile::tempdir().unwrap();
        let mut volume = LinuxVolume::open(directory.path()).unwrap();
        let mount = Arc::new(Mount { dev: volume.mount.dev, umask: volume.mount.umask, has_openat2: false });
        let fd = volume.root.as_fd().try_clone_to_owned().unwrap();
        volume.root = Arc::new(LinuxDirectory::new(fd, mount.clone(), Place::Space));
        volume.mount = mount;
        Subject { volume: Arc::new(volume), person: Box::new(Owner(directory)) }
    });
}

#[test]
fn threat_34_a_link_swapped_in_under_an_open_handle_redirects_nothing() {
    let (directory, volume) = fixture();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), b"outside").unwrap();
    fs::create_dir(directory.path().join("a")).unwrap();
    fs::write(directory.path().join("a/file"), b"inside").unwrap();
    let a = volume.root().open_directory(b"a").unwrap();
    let control = volume.control().unwrap();
    fs::rename(directory.path().join("a"), directory.path().join("b")).unwrap();
    symlink(outside.path(), directory.path().join("a")).unwrap();

    control.tmp.create_file(b"new").unwrap().write_at(b"new", 0).unwrap();
    volume.exchange(at(&*control.tmp, b"new"), at(&*a, b"file")).unwrap();
    a.open_file(b"file").unwrap().set_executable(true).unwrap();
    volume.park(at(&*a, b"file"), at(&*control.versions, b"parked")).unwrap();
    a.create_directory(b"child").unwrap();
    a.remove_directory(b"child").unwrap();
    assert_eq!(kind(volume.root().open_directory(b"a")), VolumeErrorKind::IsALink);

    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"outside");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(directory.path().join("b")).unwrap().count(), 0);
}

#[test]
fn threat_35_a_directory_that_flips_to_a_link_leads_nowhere() {
    let (directory, volume) = fixture();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), b"outside").unwrap();
    let real = directory.path().join("real");
    fs::create_dir(&real).unwrap();
    fs::write(real.join("file"), b"inside").unwrap();
    symlink(outside.path(), directory.path().join("link")).unwrap();
    let control = volume.control().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The attacker swaps the two as fast as the kernel lets him.
            let root = rustix::fs::open(directory.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                rustix::fs::renameat_with(&root, "real", &root, "link", RenameFlags::EXCHANGE).unwrap();
            }
        });
        let root = volume.root();
        for number in 0..2_000_u32 {
            let name = number.to_string().into_bytes();
            let Ok(open) = root.open_directory(b"real") else { continue };
            let mut content = [0; 16];
            let file = open.open_file(b"file").unwrap();
            let len = file.read_at(&mut content, 0).unwrap();
            assert_ne!(&content[..len], b"outside");
            open.create_directory(&name).unwrap();
            control.tmp.create_file(&name).unwrap().write_at(b"inside", 0).unwrap();
            volume.exchange(at(&*control.tmp, &name), at(&*open, b"file")).unwrap();
            open.open_file(b"file").unwrap().set_executable(true).unwrap();
            open.remove_directory(&name).unwrap();
            control.tmp.remove_file(&name).unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"outside");
    assert_eq!(fs::metadata(outside.path().join("file")).unwrap().permissions().mode() & 0o111, 0);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn threat_39_special_files_are_never_opened() {
    let (directory, volume) = fixture();
    let root = volume.root();
    rustix::fs::mkfifoat(CWD, directory.path().join("fifo"), Mode::RWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
    // Only root may make a device; where that is refused, the two others stand for it.
    let device = rustix::fs::mknodat(
        CWD,
        directory.path().join("null"),
        FileType::CharacterDevice,
        Mode::RWXU,
        rustix::fs::makedev(1, 3),
    );
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, directory.path().join("fifo"), inotify::WatchFlags::OPEN).unwrap();
    let names: &[&[u8]] = if device.is_ok() { &[b"fifo", b"socket", b"null"] } else { &[b"fifo", b"socket"] };
    for name in names {
        assert_eq!(root.stat(name).unwrap().kind, Kind::Other);
        assert_eq!(kind(root.open_file(name)), VolumeErrorKind::WrongKind);
        assert_eq!(kind(root.open_directory(name)), VolumeErrorKind::NotADirectory);
    }
    assert_eq!(root.list().unwrap().len(), names.len());
    let mut buffer = [MaybeUninit::uninit(); 512];
    let event = inotify::Reader::new(&watch, &mut buffer).next().map(|event| event.events());
    assert_eq!(event.unwrap_err(), Errno::AGAIN, "the kernel saw the FIFO being opened");
}

#[test]
fn threat_39_a_hard_link_outside_keeps_its_content() {
    let (directory, volume) = fixture();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("theirs"), b"precious").unwrap();
    fs::hard_link(outside.path().join("theirs"), directory.path().join("file")).unwrap();
    let before = fs::metadata(outside.path().join("theirs")).unwrap();
    assert_eq!(volume.root().stat(b"file").unwrap().link_count, 2);
    let control = volume.control().unwrap();
    let new = control.tmp.create_file(b"new").unwrap();
    new.write_at(b"replaced", 0).unwrap();
    new.set_permissions(crate::volume::Permissions::New { executable: true }).unwrap();
    volume.exchange(at(&*control.tmp, b"new"), at(&*volume.root(), b"file")).unwrap();
    assert_eq!(fs::read(directory.path().join("file")).unwrap(), b"replaced");
    let after = fs::metadata(outside.path().join("theirs")).unwrap();
    assert_eq!(fs::read(outside.path().join("theirs")).unwrap(), b"precious");
    assert_eq!((after.ino(), after.mode(), after.nlink()), (before.ino(), before.mode(), 2));
    assert_eq!(after.mtime_nsec(), before.mtime_nsec());
}

#[test]
fn threat_40_a_wish_for_all_bits_gives_only_the_executable_one() {
    let (directory, volume) = fixture();
    let control = volume.control().unwrap();
    let file = control.tmp.create_file(b"t").unwrap();
    file.set_permissions(crate::volume::Permissions::New { executable: true }).unwrap();
    volume.rename_noreplace(at(&*control.tmp, b"t"), at(&*volume.root(), b"file")).unwrap();
    let path = directory.path().join("file");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777 & !process_umask());
    // What a setuid file of the user's is told by a peer costs it the bit, and never gives it one.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4744)).unwrap();
    volume.root().open_file(b"file").unwrap().set_executable(false).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
}

#[test]
fn a_root_that_was_moved_or_replaced_is_gone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("space");
    fs::create_dir(&path).unwrap();
    let volume = LinuxVolume::open(&path).unwrap();
    volume.check_root().unwrap();
    fs::rename(&path, parent.path().join("moved")).unwrap();
    assert_eq!(kind(volume.check_root()), VolumeErrorKind::Gone);
    fs::create_dir(&path).unwrap();
    assert_eq!(kind(volume.check_root()), VolumeErrorKind::Gone);
    fs::remove_dir(&path).unwrap();
    fs::rename(parent.path().join("moved"), &path).unwrap();
    volume.check_root().unwrap();
    assert_eq!(kind(LinuxVolume::open(&parent.path().join("none"))), VolumeErrorKind::NotFound);
    fs::write(parent.path().join("file"), b"").unwrap();
    assert_eq!(kind(LinuxVolume::open(&parent.path().join("file"))), VolumeErrorKind::NotADirectory);
}

#[test]
fn another_file_system_is_not_entered() {
    // procfs is mounted below the root directory everywhere, and its own directories are on it.
    let volume = LinuxVolume::open(Path::new("/")).unwrap();
    assert_eq!(kind(volume.root().open_directory(b"proc")), VolumeErrorKind::CrossDevice);
    let mount = Arc::new(Mount { dev: volume.mount.dev, umask: 0o022, has_openat2: false });
    let root = LinuxDirectory::new(volume.root.as_fd().try_clone_to_owned().unwrap(), mount, Place::Space);
    assert_eq!(kind(root.open_directory(b"proc")), VolumeErrorKind::CrossDevice);
}

#[test]
fn without_renameat2_nothing_is_replaced_either() {
    let (directory, volume) = fixture();
    let path = |name: &str| directory.path().join(name);
    let root = &*volume.root;
    fs::write(path("a"), b"a").unwrap();
    fs::write(path("b"), b"b").unwrap();
    symlink("nowhere", path("link")).unwrap();
    fs::create_dir(path("directory")).unwrap();
    fs::create_dir(path("full")).unwrap();
    fs::write(path("full/file"), b"1").unwrap();
    for (from, to) in [("a", "b"), ("a", "directory"), ("link", "b"), ("full", "directory"), ("full", "b")] {
        let outcome = rename_without_flags(root, from.as_bytes(), root, to.as_bytes());
        assert_eq!(kind(outcome), VolumeErrorKind::Exists, "{from} to {to}");
    }
    for (from, to) in [("a", "a2"), ("link", "link2"), ("full", "full2")] {
        rename_without_flags(root, from.as_bytes(), root, to.as_bytes()).unwrap();
        assert_eq!(root.stat(from.as_bytes()).unwrap_err().kind(), VolumeErrorKind::NotFound);
    }
    assert_eq!(fs::read(path("a2")).unwrap(), b"a");
    assert_eq!(root.stat(b"a2").unwrap().link_count, 1);
    assert_eq!(fs::read_link(path("link2")).unwrap().as_os_str(), OsStr::new("nowhere"));
    assert_eq!(fs::read(path("full2/file")).unwrap(), b"1");
    assert_eq!(fs::read(path("b")).unwrap(), b"b");
}

#[test]
fn a_list_does_not_come_short_while_names_come_and_go() {
    let (directory, volume) = fixture();
    for number in 0..3_000 {
        fs::write(directory.path().join(format!("kept-{number}")), b"").unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let path = directory.path().join("transient");
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(&path, b"").unwrap();
                fs::remove_file(&path).unwrap();
            }
        });
        let root = volume.root();
        // Two threads on one handle: each gets a whole list.
        let lister = scope.spawn({
            let root = root.clone();
            move || (0..20).map(|_| root.list().unwrap()).collect::<Vec<_>>()
        });
        let mut lists: Vec<_> = (0..20).map(|_| root.list().unwrap()).collect();
        lists.extend(lister.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        for list in lists {
            let mut kept: Vec<_> = list.into_iter().filter(|entry| entry.name.starts_with(b"kept-")).collect();
            kept.sort_by(|a, b| a.name.cmp(&b.name));
            kept.dedup_by(|a, b| a.name == b.name);
            assert_eq!(kept.len(), 3_000);
        }
    });
}

#[test]
fn umask_and_filesystem_are_those_of_the_process_and_disk() {
    let (_directory, volume) = fixture();
    // Made by the standard library, so by the same umask.
    let file = tempfile::tempdir().unwrap();
    fs::write(file.path().join("x"), b"").unwrap();
    let mode = fs::metadata(file.path().join("x")).unwrap().mode() & 0o777;
    assert_eq!(mode, 0o666 & !volume.umask());
    let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let other = LinuxVolume::open(in_memory.path()).unwrap();
    let (ours, theirs) = (volume.filesystem_id().unwrap(), other.filesystem_id().unwrap());
    assert_eq!(ours.is_same(&theirs), volume.mount.dev == other.mount.dev);
}
