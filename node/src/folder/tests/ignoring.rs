//! Ignore rules between two devices.

use super::*;
use crate::folder::FolderState;

const RULES: &str = ".zerocloudignore";

fn write(device: &Device, path: &str, content: &str) {
    let path = device.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn read(device: &Device, path: &str) -> Option<String> {
    std::fs::read_to_string(device.path().join(path)).ok()
}

fn remove(device: &Device, path: &str) {
    std::fs::remove_file(device.path().join(path)).unwrap();
}

/// Whether the view shows something called `name`.
fn is_published(device: &Device, name: &str) -> bool {
    let snapshot = device.store.snapshot().unwrap();
    let view = zerocloud_crdt::view::View::new(&snapshot);
    let mut directories = vec![FileId::ROOT];
    while let Some(directory) = directories.pop() {
        for entry in view.directory(directory).unwrap() {
            if entry.name.as_bytes() == name.as_bytes() {
                return true;
            }
            directories.push(entry.id);
        }
    }
    false
}

/// As [`agree`], and once more: rules count from the scan on that follows the one that found them.
async fn settle(a: &Device, b: &Device) -> [FolderState; 2] {
    agree(a, b).await;
    agree(a, b).await;
    [a.folder.state(), b.folder.state()]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ignored_file_is_not_published() {
    let (a, b) = two(11).await;
    write(&a, RULES, "*.tmp\n");
    write(&a, "x.tmp", "1");
    write(&a, "deep/y.tmp", "2");
    write(&a, "deep/kept", "3");
    settle(&a, &b).await;
    write(&b, "z.tmp", "4");
    let states = settle(&a, &b).await;
    assert!(!is_published(&b, "x.tmp") && !is_published(&b, "y.tmp") && !is_published(&a, "z.tmp"));
    assert_eq!(read(&b, "deep/kept").as_deref(), Some("3"));
    assert_eq!(read(&b, RULES).as_deref(), Some("*.tmp\n"));
    assert_eq!((read(&a, "x.tmp").as_deref(), read(&b, "z.tmp").as_deref()), (Some("1"), Some("4")));
    assert!(states.iter().all(|state| state.problems.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_deletes_nothing_anywhere_and_a_sleeping_file_wakes_with_its_edit() {
    let (a, b) = two(12).await;
    write(&a, "d/x.log", "first");
    write(&a, "d/y.log", "first");
    write(&a, "d/kept", "k");
    settle(&a, &b).await;
    write(&b, RULES, "*.log\n");
    settle(&a, &b).await;
    for device in [&a, &b] {
        assert_eq!(read(device, "d/x.log").as_deref(), Some("first"));
    }
    // Asleep, an edit, a move with its directory and a removal are nobody else's business.
    write(&a, "d/x.log", "edited asleep");
    remove(&a, "d/y.log");
    std::fs::rename(b.path().join("d"), b.path().join("e")).unwrap();
    settle(&a, &b).await;
    assert_eq!(read(&a, "e/x.log").as_deref(), Some("edited asleep"));
    assert_eq!(read(&b, "e/x.log").as_deref(), Some("first"));
    assert_eq!((read(&a, "e/y.log"), read(&b, "e/y.log").as_deref()), (None, Some("first")));
    assert!(!a.path().join("d").exists());
    remove(&a, RULES);
    settle(&a, &b).await;
    assert_eq!(read(&b, "e/x.log").as_deref(), Some("edited asleep"));
    // What was removed while it slept is not removed from anybody: it comes back.
    assert_eq!(read(&a, "e/y.log").as_deref(), Some("first"));
    assert_eq!(a.tree(), b.tree());
    assert_eq!(b.store.snapshot().unwrap().pending_count().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_has_at_an_ignored_place_comes_when_the_rule_goes() {
    let (a, b) = apart(13);
    // B ignores it before it hears of it; A publishes it before it hears of the rule.
    write(&a, "build/out", "from a");
    write(&a, "one.obj", "from a");
    write(&b, RULES, "build/\n*.obj\n");
    write(&b, "one.obj", "of b alone");
    a.folder.rescan().await.unwrap();
    b.folder.rescan().await.unwrap();
    a.dial(&b).await;
    let states = settle(&a, &b).await;
    assert_eq!(read(&b, "build/out"), None);
    assert_eq!(read(&b, "one.obj").as_deref(), Some("of b alone"));
    assert_eq!(read(&a, "build/out").as_deref(), Some("from a"));
    assert!(is_published(&b, "out"));
    assert!(states.iter().all(|state| state.problems.is_empty() && state.phase == Phase::Idle));
    remove(&a, RULES);
    settle(&a, &b).await;
    assert_eq!(read(&b, "build/out").as_deref(), Some("from a"));
    // Both files with one name are there.
    let texts: Vec<_> = a.tree().into_iter().filter(|(path, _)| path.ends_with(".obj")).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert_eq!(a.tree(), b.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_directory_waits_for_the_ignored_file_in_it() {
    let (a, b) = two(14).await;
    write(&a, RULES, "*.o\n");
    write(&a, "src/main.c", "c");
    settle(&a, &b).await;
    write(&b, "src/main.o", "object");
    b.folder.rescan().await.unwrap();
    std::fs::remove_dir_all(a.path().join("src")).unwrap();
    let states = settle(&a, &b).await;
    assert_eq!(read(&b, "src/main.o").as_deref(), Some("object"));
    assert_eq!(read(&b, "src/main.c"), None);
    assert!(!a.path().join("src").exists());
    assert!(states.iter().all(|state| state.problems.is_empty() && state.phase == Phase::Idle));
    remove(&b, "src/main.o");
    settle(&a, &b).await;
    assert!(!b.path().join("src").exists());
    assert_eq!(a.tree(), b.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ignored_files_that_are_told_by_name_each_counts_until_it_goes() {
    let (a, b) = two(19).await;
    write(&a, RULES, "*.o\n");
    write(&a, "src/main.c", "c");
    settle(&a, &b).await;
    write(&b, "src/main.o", "object");
    b.folder.rescan().await.unwrap();
    // No look at everything from here on.
    write(&b, "src/more.o", "object");
    remove(&b, "src/main.o");
    std::fs::remove_dir_all(a.path().join("src")).unwrap();
    until(|| read(&b, "src/main.c").is_none()).await;
    write(&b, "kept", "k");
    until(|| read(&a, "kept").is_some()).await;
    assert_eq!(read(&b, "src/more.o").as_deref(), Some("object"));
    remove(&b, "src/more.o");
    until(|| !b.path().join("src").exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_waits_for_the_ignored_thing_that_has_its_place() {
    let (a, b) = two(15).await;
    write(&a, RULES, "cache/\n");
    settle(&a, &b).await;
    write(&b, "cache/mine", "b");
    b.folder.rescan().await.unwrap();
    write(&a, "cache", "a file");
    let states = settle(&a, &b).await;
    assert_eq!(read(&b, "cache/mine").as_deref(), Some("b"));
    assert!(states.iter().all(|state| state.problems.is_empty() && state.phase == Phase::Idle));
    std::fs::remove_dir_all(b.path().join("cache")).unwrap();
    settle(&a, &b).await;
    assert_eq!(read(&b, "cache").as_deref(), Some("a file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_to_an_ignored_place_leaves_the_disk_into_the_versions_and_is_deleted_nowhere() {
    let (a, b) = two(16).await;
    write(&a, "docs/x", "x");
    write(&a, "docs/in/y", "y");
    settle(&a, &b).await;
    // A moves before it hears of B's rule.
    let (at, peer) = (a.path().to_owned(), b.path().to_owned());
    a.folder.tell(Message::Pause(true));
    std::fs::rename(at.join("docs"), at.join("out")).unwrap();
    std::fs::write(peer.join(RULES), "out/\n").unwrap();
    b.folder.rescan().await.unwrap();
    a.folder.tell(Message::Pause(false));
    let states = settle(&a, &b).await;
    assert_eq!(read(&a, "out/in/y").as_deref(), Some("y"));
    assert_eq!((read(&b, "docs/x"), read(&b, "out/x")), (None, None));
    assert!(!b.path().join("docs").exists());
    assert!(is_published(&a, "x") && is_published(&b, "y"));
    assert!(states.iter().all(|state| state.problems.is_empty()));
    let kept = std::fs::read_dir(b.path().join(".zerocloud/versions")).unwrap().count();
    assert_eq!(kept, 2);
    remove(&b, RULES);
    settle(&a, &b).await;
    assert_eq!(read(&b, "out/in/y").as_deref(), Some("y"));
    assert_eq!(a.tree(), b.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_directory_with_a_sleeping_file_removes_that_file_from_nobody() {
    let (a, b) = two(17).await;
    write(&a, "d/x.log", "x");
    write(&a, "d/kept", "k");
    settle(&a, &b).await;
    write(&a, RULES, "*.log\n");
    settle(&a, &b).await;
    std::fs::remove_dir_all(a.path().join("d")).unwrap();
    settle(&a, &b).await;
    assert_eq!(read(&b, "d/x.log").as_deref(), Some("x"));
    assert_eq!(read(&b, "d/kept"), None);
    remove(&a, RULES);
    settle(&a, &b).await;
    assert_eq!(read(&a, "d/x.log").as_deref(), Some("x"));
    assert_eq!(a.tree(), b.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_leaves_an_ignored_place_is_a_new_one() {
    let (a, b) = two(18).await;
    write(&a, "in/x", "x");
    settle(&a, &b).await;
    write(&a, RULES, "in/\n");
    settle(&a, &b).await;
    std::fs::rename(a.path().join("in/x"), a.path().join("y")).unwrap();
    settle(&a, &b).await;
    assert_eq!((read(&b, "in/x").as_deref(), read(&b, "y").as_deref()), (Some("x"), Some("x")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_rule_is_told() {
    let (a, b) = two(19).await;
    write(&a, RULES, "[z-a]\n*.tmp\n");
    write(&a, "x.tmp", "1");
    let states = settle(&a, &b).await;
    for state in states {
        let [(path, reason)] = &**state.problems else { panic!("{:?}", state.problems) };
        assert_eq!(path.as_bytes(), RULES.as_bytes());
        assert!(reason.contains("line 1"), "{reason}");
    }
    assert!(!is_published(&a, "x.tmp"));
    write(&b, RULES, "*.tmp\n");
    let states = settle(&a, &b).await;
    assert!(states.iter().all(|state| state.problems.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_on_its_way_out_waits_whole_for_the_ignored_file_in_it() {
    let (a, b) = two(20).await;
    write(&a, "docs/x", "x");
    write(&a, "docs/in/y", "y");
    settle(&a, &b).await;
    a.folder.tell(Message::Pause(true));
    std::fs::rename(a.path().join("docs"), a.path().join("out")).unwrap();
    write(&b, RULES, "out/\n*.tmp\n");
    write(&b, "docs/in/mine.tmp", "m");
    b.folder.rescan().await.unwrap();
    a.folder.tell(Message::Pause(false));
    let states = settle(&a, &b).await;
    assert_eq!((read(&b, "docs/x").as_deref(), read(&b, "docs/in/y").as_deref()), (Some("x"), Some("y")));
    assert_eq!(read(&b, "docs/in/mine.tmp").as_deref(), Some("m"));
    assert!(states.iter().all(|state| state.problems.is_empty() && state.phase == Phase::Idle));
    remove(&b, "docs/in/mine.tmp");
    settle(&a, &b).await;
    assert!(!b.path().join("docs").exists());
    assert_eq!(read(&a, "out/in/y").as_deref(), Some("y"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_an_ignored_place_in_the_view_comes_and_the_sleeping_file_stays() {
    let (a, b) = two(21).await;
    write(&a, "logs/x.log", "x");
    settle(&a, &b).await;
    a.folder.tell(Message::Pause(true));
    std::fs::rename(a.path().join("logs"), a.path().join("texts")).unwrap();
    write(&b, RULES, "logs/\n");
    b.folder.rescan().await.unwrap();
    write(&b, "logs/x.log", "edited asleep");
    b.folder.rescan().await.unwrap();
    a.folder.tell(Message::Pause(false));
    settle(&a, &b).await;
    assert_eq!(read(&b, "texts/x.log").as_deref(), Some("x"));
    assert_eq!(read(&b, "logs/x.log").as_deref(), Some("edited asleep"));
    assert_eq!(read(&a, "texts/x.log").as_deref(), Some("x"));
    assert!(!a.path().join("logs").exists());
    // Awake, it is a file of its own.
    remove(&a, RULES);
    settle(&a, &b).await;
    assert_eq!(read(&a, "logs/x.log").as_deref(), Some("edited asleep"));
    assert_eq!(a.tree(), b.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_in_force_are_stored_and_count_from_their_own_directory() {
    let (a, b) = two(22).await;
    write(&a, "sub/.zerocloudignore", "/x\n");
    write(&a, "sub/x", "ignored");
    write(&a, "sub/deep/x", "counts");
    write(&a, "x", "counts");
    settle(&a, &b).await;
    assert_eq!(read(&b, "sub/x"), None);
    assert_eq!((read(&b, "sub/deep/x").as_deref(), read(&b, "x").as_deref()), (Some("counts"), Some("counts")));
    for device in [&a, &b] {
        let stored = device.store.snapshot().unwrap().value(values::IGNORE_RULES).unwrap().unwrap();
        assert_eq!(stored.into_iter().map(|(_, content)| content).collect::<Vec<_>>(), [b"/x\n"]);
    }
    // Under another name the directory's own rules are the same.
    std::fs::rename(b.path().join("sub"), b.path().join("moved")).unwrap();
    write(&b, "moved/x", "ignored here, too");
    settle(&a, &b).await;
    assert_eq!(read(&a, "moved/x").as_deref(), Some("ignored"));
    assert_eq!(read(&b, "moved/x").as_deref(), Some("ignored here, too"));
}
