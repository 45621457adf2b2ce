//! Folders and spaces that are made as they were.

use super::harness::tree::Tree;
use super::harness::{Device, Lab, agree, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// The time that it is, as `--at` takes it; whatever is done next comes to a device later than that.
fn now() -> String {
    let now = jiff::Timestamp::now();
    until("the clock goes on", || jiff::Timestamp::now().as_millisecond() > now.as_millisecond());
    now.to_string()
}

fn restore(device: &Device, what: &str, at: &str, options: &[&str]) -> serde_json::Value {
    device.ask(&[&["restore", what, "--at", at], options].concat())
}

fn failed(restored: &serde_json::Value) -> Vec<&str> {
    restored["failed"].as_array().unwrap().iter().map(|problem| problem["path"].as_str().unwrap()).collect()
}

#[test]
fn threat_23_ten_thousand_deletions_by_one_device_are_undone_by_one_command() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    for n in 0..10_000_u32 {
        a.write(&format!("photos/{}/{n}", n % 100), n.to_be_bytes());
    }
    a.write("notes", "before");
    agree(&[&a, &b]);
    let (was, before): (Tree, String) = (b.tree(), now());
    assert_eq!(was.file_count(), 10_001);
    std::fs::remove_dir_all(a.at("photos")).unwrap();
    a.write("notes", "pay me");
    agree(&[&a, &b]);
    assert_eq!(b.tree().file_count(), 1);
    let warnings = b.ask(&["status"])["warnings"].take();
    assert!(warnings.to_string().contains("zerocloud restore"), "status names the command: {warnings}");

    let restored = restore(&b, "Photos", &before, &[]);
    assert_eq!((&restored["files"], failed(&restored)), (&10_001.into(), vec![]), "{restored}");
    b.tree().assert_same("desk", &was, "desk before");
    agree(&[&a, &b]);
    assert_eq!(b.space_status()["conflicts"], 0);
}

#[test]
fn a_folder_is_as_it_was_and_what_came_since_stays_until_it_is_sent_away() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    a.write("d/deleted", "1");
    a.write("d/edited", "2");
    a.write("d/moved", "3");
    a.write("beside", "4");
    agree(&[&a, &b]);
    let before = now();
    std::fs::remove_file(a.at("d/deleted")).unwrap();
    a.write("d/edited", "changed");
    agree(&[&a, &b]);
    // By itself: a walk that is under way may see it at neither place, and a deletion and a new file in it.
    std::fs::rename(a.at("d/moved"), a.at("elsewhere")).unwrap();
    agree(&[&a, &b]);
    a.write("beside", "changed");
    a.write("d/new", "5");
    agree(&[&a, &b]);

    let restored = restore(&b, "Photos/d", &before, &[]);
    assert_eq!((&restored["files"], &restored["deleted"], failed(&restored)), (&3.into(), &0.into(), vec![]));
    let read = |path| b.read(path);
    assert_eq!([read("d/deleted"), read("d/edited"), read("d/moved")], ["1", "2", "3"]);
    assert_eq!([read("d/new"), read("beside")], ["5", "changed"], "what came since and what is beside stays");
    assert!(!b.at("elsewhere").exists(), "a move is undone by a move");
    let again = restore(&b, "Photos/d", &before, &[]);
    assert_eq!((&again["files"], &again["deleted"]), (&0.into(), &0.into()), "it is as it was");

    let restored = restore(&b, "Photos/d", &before, &["--exact"]);
    assert_eq!((&restored["files"], &restored["deleted"]), (&0.into(), &1.into()));
    assert!(!b.at("d/new").exists());
    agree(&[&a, &b]);
}

#[test]
fn a_restore_brings_from_others_what_it_does_not_have_and_says_what_nobody_has() {
    let lab = Lab::new(PROGRAM);
    let (a, mut b) = lab.pair();
    a.write("d/ours", "only the desk kept this");
    agree(&[&a, &b]);
    // Its own overwrite is not kept by the laptop; the desk had it and keeps it.
    a.write("d/nobodys", "nobody but the laptop ever had this");
    a.run(&["sync"]);
    agree(&[&a, &b]);
    let before = now();
    std::fs::remove_file(a.at("d/ours")).unwrap();
    agree(&[&a, &b]);
    assert!(b.stop().0.success());
    // The desk is away: whatever the laptop deletes now is in no store.
    std::fs::remove_file(a.at("d/nobodys")).unwrap();
    a.run(&["sync"]);
    let restored = restore(&a, "Photos/d", &before, &[]);
    assert_eq!(failed(&restored), ["d/nobodys", "d/ours"], "{restored}");
    let said = a.run(&["restore", "Photos/d", "--at", &before]);
    assert!(said.contains("Not brought back") && said.contains("d/ours: "), "{said}");

    b.start();
    until("the desk is there", || a.connected_count() > 0);
    agree(&[&a, &b]);
    let restored = restore(&a, "Photos/d", &before, &[]);
    assert_eq!(failed(&restored), Vec::<&str>::new(), "{restored}");
    agree(&[&a, &b]);
    assert_eq!(b.read("d/ours"), "only the desk kept this");
    assert_eq!(b.read("d/nobodys"), "nobody but the laptop ever had this");
}

#[test]
fn what_this_device_can_not_know_is_refused() {
    let lab = Lab::new(PROGRAM);
    let long_ago = "2001-01-01T00:00:00Z";
    let (a, _b) = lab.pair();
    a.write("d/x", "1");
    a.run(&["sync"]);
    let said = a.refused(1, &["restore", "Photos", "--at", long_ago]);
    assert!(said.contains("did not have this space"), "{said}");
    let said = a.refused(2, &["restore", "Photos/d"]);
    assert!(said.contains("--at"), "{said}");
    let said = a.refused(1, &["restore", "Photos/never", "--at", &now()]);
    assert!(said.contains("nothing stood"), "{said}");
}
