//! The watcher on the real kernel. Nothing here sleeps: a test waits for the event of a marker that it writes last.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::*;
use crate::volume::{At, LinuxVolume, Volume};

struct Watched {
    directory: TempDir,
    volume: LinuxVolume,
    events: Receiver<WatchEvent>,
    marker_count: u32,
    _watcher: Watcher,
}

impl Watched {
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let volume = LinuxVolume::open(directory.path()).unwrap();
        let (tell, events) = channel();
        let watcher = Watcher::start(&volume, move |event| drop(tell.send(event))).unwrap();
        Self { directory, volume, events, marker_count: 0, _watcher: watcher }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    /// All that was told so far, without the marker's own events.
    fn told(&mut self) -> Vec<(String, Hint, bool)> {
        self.marker_count += 1;
        let marker = format!("marker-{}", self.marker_count);
        fs::create_dir(self.path(&marker)).unwrap();
        let mut told = Vec::new();
        loop {
            match self.events.recv().unwrap() {
                WatchEvent::Change(change) if *change.path == *marker.as_bytes() => return told,
                WatchEvent::Change(change) => {
                    told.push((String::from_utf8(change.path.to_vec()).unwrap(), change.hint, change.is_directory))
                }
                other => unreachable!("{other:?}"),
            }
        }
    }

    fn paths(&mut self) -> Vec<String> {
        let mut paths: Vec<_> = self.told().into_iter().map(|(path, ..)| path).collect();
        paths.dedup();
        paths
    }
}

#[test]
fn a_write_is_told_with_its_end() {
    let mut watched = Watched::new(|root| fs::create_dir(root.join("a")).unwrap());
    fs::write(watched.path("a/file"), b"1").unwrap();
    let told = watched.told();
    let file = |hint| (String::from("a/file"), hint, false);
    assert_eq!(told, [file(Hint::Created), file(Hint::Changed), file(Hint::ClosedAfterWrite)]);
    fs::rename(watched.path("a/file"), watched.path("a/moved")).unwrap();
    fs::remove_file(watched.path("a/moved")).unwrap();
    let moved = |hint| (String::from("a/moved"), hint, false);
    assert_eq!(watched.told(), [file(Hint::RenamedAway), moved(Hint::RenamedHere), moved(Hint::Removed)]);
}

#[test]
fn reading_and_scanning_tells_nothing() {
    let mut watched = Watched::new(|root| fs::write(root.join("file"), b"1").unwrap());
    let root = watched.volume.root();
    root.open_file(b"file").unwrap().read_at(&mut [0; 4], 0).unwrap();
    root.list().unwrap();
    assert_eq!(watched.told(), []);
}

#[test]
fn a_moved_directory_stays_watched_under_its_new_path() {
    let mut watched = Watched::new(|root| {
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir(root.join("x")).unwrap();
    });
    fs::rename(watched.path("a"), watched.path("x/y")).unwrap();
    // No pause: the watch is the inode's, so what follows at once is told too.
    fs::write(watched.path("x/y/b/c/file"), b"1").unwrap();
    let told = watched.told();
    assert!(told.contains(&("x/y".into(), Hint::RenamedHere, true)), "{told:?}");
    assert!(told.contains(&("x/y/b/c/file".into(), Hint::ClosedAfterWrite, false)), "{told:?}");
    // A directory made at the old path is another one.
    fs::create_dir(watched.path("a")).unwrap();
    fs::write(watched.path("a/file"), b"1").unwrap();
    fs::write(watched.path("x/y/b/c/file"), b"2").unwrap();
    watched.told();
    fs::write(watched.path("a/file"), b"2").unwrap();
    fs::write(watched.path("x/y/b/c/file"), b"3").unwrap();
    assert_eq!(watched.paths(), ["a/file", "x/y/b/c/file"]);
}

#[test]
fn a_directory_moved_into_one_that_was_just_made_stays_watched() {
    let mut watched = Watched::new(|root| fs::create_dir_all(root.join("a/b")).unwrap());
    fs::create_dir(watched.path("x")).unwrap();
    fs::rename(watched.path("a"), watched.path("x/y")).unwrap();
    // Whether the move itself is told depends on who was faster, but then the made directory stands for it.
    assert_eq!(watched.told().first(), Some(&("x".into(), Hint::Created, true)));
    fs::write(watched.path("x/y/b/file"), b"1").unwrap();
    assert_eq!(watched.paths(), ["x/y/b/file"]);
}

#[test]
fn exchanged_directories_keep_their_own_watches() {
    let mut watched = Watched::new(|root| {
        fs::create_dir_all(root.join("a/in-a")).unwrap();
        fs::create_dir_all(root.join("b/in-b")).unwrap();
    });
    renameat_with(CWD, watched.path("a"), CWD, watched.path("b"), RenameFlags::EXCHANGE).unwrap();
    watched.told();
    fs::write(watched.path("b/in-a/file"), b"1").unwrap();
    fs::write(watched.path("a/in-b/file"), b"1").unwrap();
    assert_eq!(watched.paths(), ["b/in-a/file", "a/in-b/file"]);
}

#[test]
fn directories_moved_in_circles_end_under_the_right_path() {
    let mut watched = Watched::new(|root| {
        for name in ["a", "b", "c"] {
            fs::create_dir_all(root.join(name).join(name)).unwrap();
        }
    });
    for _ in 0..50 {
        for (from, to) in [("a", "t"), ("b", "a"), ("c", "b"), ("t", "c")] {
            fs::rename(watched.path(from), watched.path(to)).unwrap();
        }
    }
    watched.told();
    // Which of them stands where is looked up instead of counted.
    for place in ["a", "b", "c"] {
        let inner = fs::read_dir(watched.path(place)).unwrap().next().unwrap().unwrap().path();
        fs::write(inner.join("file"), b"1").unwrap();
        let expected = inner.join("file").strip_prefix(watched.directory.path()).unwrap().to_str().unwrap().to_owned();
        assert_eq!(watched.paths(), [expected]);
    }
}

#[test]
fn what_leaves_the_space_is_told_once_and_then_not_watched() {
    let outside = tempfile::tempdir().unwrap();
    let mut watched = Watched::new(|root| fs::create_dir_all(root.join("a/b")).unwrap());
    fs::rename(watched.path("a"), outside.path().join("a")).unwrap();
    assert_eq!(watched.told(), [("a".into(), Hint::RenamedAway, true)]);
    fs::write(outside.path().join("a/b/file"), b"1").unwrap();
    assert_eq!(watched.told(), []);
    fs::rename(outside.path().join("a"), watched.path("back")).unwrap();
    assert_eq!(watched.told(), [("back".into(), Hint::RenamedHere, true)]);
    fs::write(watched.path("back/b/file"), b"2").unwrap();
    assert_eq!(watched.paths(), ["back/b/file"]);
}

#[test]
fn a_tree_that_is_made_at_once_is_watched_to_its_end() {
    let mut watched = Watched::new(|_| {});
    fs::create_dir_all(watched.path("1/2/3/4/5/6/7/8")).unwrap();
    let told = watched.told();
    assert_eq!(told.first(), Some(&("1".into(), Hint::Created, true)));
    fs::write(watched.path("1/2/3/4/5/6/7/8/file"), b"1").unwrap();
    assert_eq!(watched.paths().last().map(String::as_str), Some("1/2/3/4/5/6/7/8/file"));
}

#[test]
fn our_own_directory_causes_no_events_and_a_link_is_not_entered() {
    let outside = tempfile::tempdir().unwrap();
    let mut watched = Watched::new(|root| {
        fs::create_dir(root.join("a")).unwrap();
        fs::write(root.join("a/file"), b"old").unwrap();
    });
    std::os::unix::fs::symlink(outside.path(), watched.path("link")).unwrap();
    assert_eq!(watched.paths(), ["link"]);
    fs::write(outside.path().join("file"), b"1").unwrap();
    let control = watched.volume.control().unwrap();
    let file = control.tmp.create_file(b"t").unwrap();
    file.write_at(b"new", 0).unwrap();
    file.sync().unwrap();
    drop(file);
    assert_eq!(watched.told(), []);
    let directory = watched.volume.root().open_directory(b"a").unwrap();
    let here = At { directory: &*directory, name: b"file" };
    watched.volume.exchange(At { directory: &*control.tmp, name: b"t" }, here).unwrap();
    assert_eq!(watched.paths(), ["a/file"]);
    control.tmp.remove_file(b"t").unwrap();
    assert_eq!(watched.told(), []);
}

#[test]
fn a_dropped_watcher_tells_no_more() {
    let Watched { directory, events, _watcher: watcher, .. } = Watched::new(|_| {});
    fs::write(directory.path().join("before"), b"1").unwrap();
    drop(watcher);
    fs::write(directory.path().join("after"), b"1").unwrap();
    // The sending end went with the thread, so this ends.
    for event in events {
        assert!(matches!(event, WatchEvent::Change(change) if *change.path == *b"before"));
    }
}

#[test]
fn a_watcher_of_a_removed_root_can_be_dropped() {
    let Watched { directory, volume, events, _watcher: watcher, .. } = Watched::new(|_| {});
    drop(directory);
    assert_eq!(volume.check_root().unwrap_err().kind(), crate::volume::VolumeErrorKind::Gone);
    drop(watcher);
    // It may have told that the root is gone before it was dropped, and has nothing else to tell.
    assert!(events.into_iter().all(|event| matches!(event, WatchEvent::Root)));
}

#[test]
fn a_root_that_is_moved_or_removed_is_told() {
    let watched = Watched::new(|_| {});
    let moved = tempfile::tempdir().unwrap();
    fs::rename(watched.directory.path(), moved.path()).unwrap();
    while !matches!(watched.events.recv().unwrap(), WatchEvent::Root) {}
    assert!(watched.volume.check_root().is_err());

    let watched = Watched::new(|_| {});
    // A volume may have made its own directory.
    fs::remove_dir_all(watched.directory.path()).unwrap();
    while !matches!(watched.events.recv().unwrap(), WatchEvent::Root) {}
    assert!(watched.volume.check_root().is_err());
}
