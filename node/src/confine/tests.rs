use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// Runs on a thread of its own, as a layer does not go away; `None` where the kernel has none.
#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
fn confined<T: Send>(confine: impl FnOnce() -> Confined + Send, work: impl FnOnce() -> T + Send) -> Option<T> {
    let run = || (confine() == Confined::Yes).then(work);
    let done = std::thread::scope(|scope| scope.spawn(run).join().unwrap());
    if done.is_none() {
        eprintln!("SKIPPED: this kernel has no Landlock");
    }
    done
}

fn open(root: &Path) -> fs::File {
    fs::File::open(root).unwrap()
}

fn kind(result: std::io::Result<impl Sized>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn threat_34_a_confined_thread_and_those_that_it_starts_reach_nothing_outside_their_folder() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (root, secret) = (root.path(), outside.path().join("secret"));
    fs::write(&secret, "decoy").unwrap();
    symlink(&secret, root.join("link")).unwrap();
    fs::create_dir_all(root.join("a/b")).unwrap();
    let fd = open(root);
    let done = confined(
        || folder(fd.as_fd()),
        || {
            let denied = Some(ErrorKind::PermissionDenied);
            let tries = || {
                assert_eq!(kind(fs::read(&secret)), denied);
                assert_eq!(kind(fs::read(root.join("link"))), denied);
                assert_eq!(kind(fs::write(&secret, "written")), denied);
                assert_eq!(kind(fs::write(outside.path().join("new"), "")), denied);
                assert_eq!(kind(fs::remove_file(&secret)), denied);
                assert_eq!(kind(fs::create_dir(outside.path().join("new"))), denied);
                assert_eq!(kind(fs::read_dir(outside.path())), denied);
                // EXDEV, where the source could be moved but not there.
                fs::write(root.join("own"), "own").unwrap();
                assert!(fs::rename(root.join("own"), outside.path().join("own")).is_err());
                assert!(fs::hard_link(&secret, root.join("hard")).is_err());
            };
            tries();
            std::thread::scope(|scope| scope.spawn(tries).join().unwrap());
        },
    );
    if done.is_some() {
        assert_eq!(fs::read(&secret).unwrap(), b"decoy");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }
    // Who started the confined thread is as free as before.
    fs::write(outside.path().join("new"), "").unwrap();
}

#[test]
fn a_confined_thread_does_in_its_folder_what_a_folder_needs() {
    use rustix::fs::RenameFlags;
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let fd = open(root);
    confined(
        || folder(fd.as_fd()),
        || {
            fs::create_dir_all(root.join("a/b")).unwrap();
            fs::write(root.join("a/b/file"), "1").unwrap();
            fs::rename(root.join("a/b/file"), root.join("file")).unwrap();
            fs::write(root.join("a/other"), "2").unwrap();
            let (one, other) = (root.join("file"), root.join("a/other"));
            rustix::fs::renameat_with(rustix::fs::CWD, &one, rustix::fs::CWD, &other, RenameFlags::EXCHANGE).unwrap();
            assert_eq!(fs::read(&one).unwrap(), b"2");
            fs::hard_link(&one, root.join("a/hard")).unwrap();
            symlink("../anywhere", root.join("a/link")).unwrap();
            fs::File::options().write(true).truncate(true).open(&one).unwrap();
            assert!(fs::read_dir(root).unwrap().count() > 0);
            fs::remove_dir_all(root.join("a")).unwrap();
            assert!(fs::read("/proc/self/mountinfo").is_ok_and(|mounts| !mounts.is_empty()));
            let denied = Some(ErrorKind::PermissionDenied);
            let mode = rustix::fs::Mode::from(0o600);
            let fifo = rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, mode, 0);
            assert_eq!(kind(fifo.map_err(std::io::Error::from)), denied);
            assert_eq!(kind(std::os::unix::net::UnixListener::bind(root.join("socket"))), denied);
        },
    );
}

#[test]
fn a_confined_process_runs_no_program() {
    let outside = tempfile::tempdir().unwrap();
    confined(process, || {
        assert_eq!(kind(std::process::Command::new("/bin/true").status()), Some(ErrorKind::PermissionDenied));
        // All else is as it was, and a folder's layer fits over this one.
        fs::write(outside.path().join("before"), "x").unwrap();
        fs::create_dir(outside.path().join("d")).unwrap();
        fs::rename(outside.path().join("before"), outside.path().join("d/file")).unwrap();
        fs::hard_link(outside.path().join("d/file"), outside.path().join("file")).unwrap();
        let fd = open(outside.path());
        assert_eq!(folder(fd.as_fd()), Confined::Yes);
        assert!(fs::read("/etc/hostname").is_err() && fs::read(outside.path().join("file")).is_ok());
        fs::rename(outside.path().join("d/file"), outside.path().join("after")).unwrap();
    });
}
