//! Versions that nobody has: a device that went for good, or went back to what it was, with the only copy.

use std::path::{Path, PathBuf};

use super::harness::{Device, Lab, agree, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// A laptop that wrote a version which the desk knows of and did not get, and whose home and folder
/// were then put back as they were before. It is off.
fn rolled_back(lab: &Lab) -> (Device, Device) {
    let (mut a, b) = lab.pair();
    a.write("d/report", "first");
    a.write("beside", "beside");
    agree(&[&a, &b]);
    assert!(a.stop().0.success());
    let saved = |path: PathBuf| (path.clone(), lab.path().join("saved").join(path.file_name().unwrap()));
    let places = [lab.path().join("laptop.home"), a.folder().to_path_buf()].map(saved);
    std::fs::create_dir(lab.path().join("saved")).unwrap();
    places.iter().for_each(|(path, saved)| copy(path, saved));
    a.start();
    until("the laptop is there", || b.connected_count() == 1);
    b.run(&["space", "pause", "Photos"]);
    // Longer than what follows its entry unasked.
    a.write("d/report", "second".repeat(20_000));
    a.write("d/new", "new".repeat(40_000));
    a.run(&["sync"]);
    until("the desk has heard of both", || b.run(&["ls", "Photos/d"]).contains("new"));
    until("the desk has heard of the edit", || b.run(&["history", "Photos/d/report"]).lines().count() >= 3);
    assert!(a.stop().0.success());
    b.run(&["space", "resume", "Photos"]);
    for (path, saved) in &places {
        std::fs::remove_dir_all(path).unwrap();
        std::fs::rename(saved, path).unwrap();
    }
    (a, b)
}

fn counts(device: &Device) -> (u64, u64) {
    let status = device.space_status();
    (status["awaited"].as_u64().unwrap(), status["lost"].as_u64().unwrap())
}

#[test]
fn a_device_that_takes_the_only_copy_along_leaves_versions_that_a_user_ends_by_one_command() {
    let lab = Lab::new(PROGRAM);
    let (mut a, b) = rolled_back(&lab);
    until("the desk awaits both", || counts(&b) == (2, 0));
    assert_ne!(b.space_status()["state"], "idle", "a member that is away may have them");
    let said = b.run(&["status"]);
    assert!(said.contains("2 files are awaited from laptop") && said.contains("d/report"), "{said}");
    let said = b.refused(1, &["forget", "Photos"]);
    assert!(said.contains("--awaited"), "{said}");

    a.start();
    until("both devices know that they are lost", || counts(&a) == (0, 2) && counts(&b) == (0, 2));
    b.run(&["sync", "--wait", "--timeout", "60s"]);
    let status = b.space_status();
    assert_eq!((&status["state"], &status["missing_chunks"]), (&"idle".into(), &0.into()));
    let said = b.run(&["status"]);
    assert!(said.contains("d/new: no device has this version any more"), "{said}");
    assert_eq!(b.read("d/report"), "first", "what was there stays");
    let said = b.refused(1, &["forget", "Photos/beside"]);
    assert!(said.contains("nothing there is lost"), "{said}");

    // One is given up, of the other an older version is brought back.
    let forgotten = b.ask(&["forget", "Photos/d/new"]);
    assert_eq!(forgotten, serde_json::json!({"files": [{"path": "d/new", "kept": false}]}));
    b.run(&["restore", "Photos/d/report"]);
    until("nothing is lost", || counts(&a) == (0, 0) && counts(&b) == (0, 0));
    agree(&[&a, &b]);
    for device in [&a, &b] {
        assert_eq!(device.tree().file_count(), 2);
        assert_eq!((device.read("d/report"), device.read("beside")), ("first".to_owned(), "beside".to_owned()));
        assert_eq!(device.space_status()["problems"], serde_json::json!([]));
    }
}
