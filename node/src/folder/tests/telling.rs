//! What folders tell of their users and of each other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::api::types::Change;
use crate::folder::work::telling::{FolderEvent, Listener};

/// Everything that a folder told, unless nobody listened.
#[derive(Default)]
pub(super) struct Heard {
    events: Mutex<Vec<FolderEvent>>,
    is_deaf: AtomicBool,
    /// Whether a thread that told something could open a file that is in no folder.
    reaches_outside: AtomicBool,
}

impl Listener for Heard {
    fn is_listening(&self) -> bool {
        !self.is_deaf.load(Ordering::SeqCst)
    }

    fn tell(&self, event: FolderEvent) {
        assert!(self.is_listening(), "{event:?} is told to nobody");
        self.events.lock().unwrap().push(event);
        let outside = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        self.reaches_outside.fetch_or(outside.is_ok(), Ordering::SeqCst);
    }
}

impl Heard {
    /// What was told since this was last asked.
    fn take(&self) -> Vec<FolderEvent> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

fn path(change: Change, path: &str, to: Option<&str>, device_name: Option<&str>) -> FolderEvent {
    let (path, to) = (BytePath::from(path), to.map(BytePath::from));
    FolderEvent::Path { path, change, to, device_name: device_name.map(str::to_owned) }
}

/// What both told of one change of a's user, once each: by nobody's name there, by a's name here.
async fn heard_by_both(a: &Device, b: &Device) -> [Vec<FolderEvent>; 2] {
    agree(a, b).await;
    [a, b].map(|device| {
        let mut heard = device.heard.take();
        // One scan may have seen a file before all was written.
        heard.dedup();
        heard
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_does_is_told_there_and_by_the_devices_name_elsewhere() {
    let (a, b) = two(31).await;
    let by = Some("device0");
    agree(&a, &b).await;
    for device in [&a, &b] {
        assert_eq!(device.heard.take(), []);
    }

    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::create_dir(elsewhere.path().join("d")).unwrap();
    std::fs::write(elsewhere.path().join("d/file"), b"1").unwrap();
    std::fs::rename(elsewhere.path().join("d"), a.path().join("d")).unwrap();
    let made = |device_name| {
        vec![path(Change::Created, "d", None, device_name), path(Change::Created, "d/file", None, device_name)]
    };
    assert_eq!(heard_by_both(&a, &b).await, [made(None), made(by)]);

    std::fs::write(a.path().join("d/file"), b"another").unwrap();
    let modified = |device_name| vec![path(Change::Modified, "d/file", None, device_name)];
    assert_eq!(heard_by_both(&a, &b).await, [modified(None), modified(by)]);

    std::fs::rename(a.path().join("d"), a.path().join("e")).unwrap();
    let moved = |device_name| vec![path(Change::Moved, "d", Some("e"), device_name)];
    assert_eq!(heard_by_both(&a, &b).await, [moved(None), moved(by)]);

    std::fs::remove_dir_all(a.path().join("e")).unwrap();
    let heard = heard_by_both(&a, &b).await;
    for (mut heard, by) in heard.into_iter().zip([None, by]) {
        heard.sort_by_key(|event| format!("{event:?}"));
        assert_eq!(heard, [path(Change::Deleted, "e", None, by), path(Change::Deleted, "e/file", None, by)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_copy_is_told_on_both() {
    let (a, b) = apart(32);
    // Whole from its first moment on, or a scan may see it before it is written.
    let elsewhere = tempfile::tempdir().unwrap();
    for device in [&a, &b] {
        let written = elsewhere.path().join("note.txt");
        std::fs::write(&written, device.link.id().to_string()).unwrap();
        std::fs::rename(&written, device.path().join("note.txt")).unwrap();
        device.folder.rescan().await.unwrap();
        assert_eq!(device.heard.take(), [path(Change::Created, "note.txt", None, None)]);
    }
    a.dial(&b).await;
    agree(&a, &b).await;
    let tree = a.tree();
    let copy = tree.keys().find(|name| name.starts_with("note (conflict")).unwrap();
    let copy = FolderEvent::Conflict { copy: BytePath::from(copy.as_str()) };
    for device in [&a, &b] {
        let heard = device.heard.take();
        assert_eq!(heard.iter().filter(|event| **event == copy).count(), 1, "{heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nobody_listens_nothing_is_told() {
    let (a, b) = two(33).await;
    for device in [&a, &b] {
        device.heard.is_deaf.store(true, Ordering::SeqCst);
    }
    std::fs::write(a.path().join("file"), b"1").unwrap();
    agree(&a, &b).await;
    std::fs::remove_file(b.path().join("file")).unwrap();
    agree(&a, &b).await;
    assert_eq!((a.tree().len(), b.tree().len()), (0, 0));
    for device in [&a, &b] {
        assert_eq!(device.heard.take(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn threat_34_the_thread_of_a_folder_can_open_nothing_outside_it() {
    let (a, b) = two(33).await;
    std::fs::write(a.path().join("file"), "by a").unwrap();
    let told = heard_by_both(&a, &b).await;
    assert!(told.iter().all(|events| !events.is_empty()), "{told:?}");
    for device in [&a, &b] {
        let is_free = device.heard.reaches_outside.load(Ordering::SeqCst);
        assert_eq!(is_free, !crate::confine::is_possible(), "only a kernel without Landlock leaves it free");
    }
}
