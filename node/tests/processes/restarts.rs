//! Devices that are off for a while.

use super::harness::{Device, Lab, agree, assert_same, conflict_copies, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

fn stop(device: &mut Device) {
    assert_eq!(device.stop().0.code(), Some(0));
}

#[test]
fn what_one_device_does_while_the_other_is_off_arrives_when_both_are_on() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    for n in 0..20 {
        a.write(&format!("album {n}/photo"), vec![n; 10_000]);
    }
    agree(&[&a, &b]);

    // With its node running, with its node off, and with both off.
    stop(&mut b);
    a.write("album 1/photo", "edited beside a running node");
    std::fs::rename(a.at("album 2"), a.at("album two")).unwrap();
    std::fs::remove_dir_all(a.at("album 3")).unwrap();
    a.run(&["sync", "--wait", "--timeout", "60s"]);
    stop(&mut a);
    a.write("album 4/photo", "edited while the node was off");
    std::fs::rename(a.at("album 5/photo"), a.at("album 6/moved")).unwrap();
    b.write("album 7/photo", "edited by the other, off as well");
    std::fs::remove_file(b.at("album 8/photo")).unwrap();

    a.start();
    b.start();
    agree(&[&a, &b]);
    assert_eq!(conflict_copies(&a), Vec::<String>::new());
    assert_eq!(b.read("album 1/photo"), "edited beside a running node");
    assert_eq!(b.read("album 4/photo"), "edited while the node was off");
    assert_eq!(a.read("album 7/photo"), "edited by the other, off as well");
    assert!(b.at("album two/photo").exists() && b.at("album 6/moved").exists());
    assert!(!b.at("album 2").exists() && !b.at("album 3").exists() && !b.at("album 5/photo").exists());
    assert!(!a.at("album 8/photo").exists() && a.at("album 8").is_dir());

    // Off and on again in the other order, with nothing done: nothing happens.
    let before = a.tree();
    stop(&mut a);
    stop(&mut b);
    b.start();
    a.start();
    agree(&[&a, &b]);
    before.assert_same("laptop before", &a.tree(), "laptop after");
}

#[test]
fn an_edit_on_each_side_leaves_one_conflict_copy_on_both() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    a.write("both.txt", "the first");
    a.write("same.txt", "the first");
    agree(&[&a, &b]);
    stop(&mut b);
    a.write("both.txt", "by the laptop");
    a.write("same.txt", "the same on both");
    a.run(&["sync", "--wait", "--timeout", "60s"]);
    stop(&mut a);
    b.start();
    b.write("both.txt", "by the desk");
    b.write("same.txt", "the same on both");
    b.run(&["sync", "--wait", "--timeout", "60s"]);
    a.start();
    agree(&[&a, &b]);

    let copies = conflict_copies(&a);
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert_eq!(conflict_copies(&b), copies);
    let mut contents = [b.read("both.txt"), b.read(&copies[0])];
    contents.sort();
    assert_eq!(contents, ["by the desk", "by the laptop"]);
    assert_eq!(b.read("same.txt"), "the same on both");
    for device in [&a, &b] {
        let conflict = &device.ask(&["conflicts", "Photos"])["conflicts"][0];
        assert_eq!(conflict["space"], "Photos");
        assert_eq!(conflict["path"], "both.txt");
        let author = conflict["device_name"].as_str().unwrap();
        assert_eq!(device.read(&copies[0]), format!("by the {author}"));
        assert_eq!(conflict["size"], device.read(&copies[0]).len());
        assert_eq!(device.space_status()["conflicts"], 1);
    }

    // Whoever takes the copy away has decided, for both.
    std::fs::remove_file(b.at(&copies[0])).unwrap();
    agree(&[&a, &b]);
    assert_eq!(conflict_copies(&a), Vec::<String>::new());
    assert_eq!(a.space_status()["conflicts"], 0);
    assert_same(&[&a, &b]);
}

#[test]
fn a_folder_that_is_moved_away_is_missed_at_once_and_kept_again_when_it_is_back() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    a.write("file", "kept");
    agree(&[&a, &b]);
    let elsewhere = lab.path().join("elsewhere");
    std::fs::rename(b.folder(), &elsewhere).unwrap();
    until("the loss is told of", || b.space_status()["state"] == "error");
    let error = b.space_status()["error"].to_string();
    assert!(error.contains("move the folder back"), "{error}");
    std::fs::rename(&elsewhere, b.folder()).unwrap();
    until("it goes on", || b.space_status()["state"] != "error");
    agree(&[&a, &b]);
    assert_eq!((a.read("file"), b.read("file")), ("kept".into(), "kept".into()));
}

#[test]
fn a_node_whose_log_has_no_room_goes_on() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    a.stop();
    a.log_to("/dev/full");
    a.start();
    agree(&[&a, &b]);
    // Connections that end and come again are told in the log, by the task that makes them.
    b.stop();
    b.write("photos/one", "while it was off");
    b.start();
    agree(&[&a, &b]);
    assert_eq!(a.read("photos/one"), "while it was off");
}
