//! Disks that are full, and disks that go away.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::harness::{Device, Lab, agree, until};
use super::mounts::Mount;
use super::network::Cable;
use super::{PROGRAM, rights};

const FILE_COUNT: u8 = 10;
const FILE_LEN: usize = 2 << 20;
/// In which a node tries at least twice to write what did not fit.
const RETRIES: Duration = Duration::from_secs(11);

/// Does not shrink, and no two are the same.
fn noise(seed: u8, len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    ChaCha20Rng::from_seed([seed; 32]).fill_bytes(&mut content);
    content
}

fn pair_in(lab: &Lab) -> (Device, Device) {
    let (a, b) = (lab.device("laptop"), lab.device("desk"));
    a.add_space();
    b.join(&a.invite(&["--me"]));
    (a, b)
}

/// The problems that a device lists, by path.
fn problems(device: &Device) -> BTreeMap<String, String> {
    let status = device.space_status();
    let problems = status["problems"].as_array().unwrap().iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    problems.map(|problem| (text(&problem["path"]), text(&problem["reason"]))).collect()
}

fn assert_no_temporary_files(device: &Device) {
    let left = std::fs::read_dir(device.at(".zerocloud/tmp")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "{}: temporary files stay", device.name());
}

#[test]
fn a_full_disk_keeps_what_fits_and_takes_the_rest_when_there_is_room() {
    if !rights::is_root() {
        return;
    }
    let lab = Lab::new(PROGRAM);
    let cable = Cable::new();
    let disk = Mount::disk(lab.path().join("desk"), "8m");
    let [a, b] = [(0, "laptop"), (1, "desk")].map(|(end, name)| lab.device_in(cable.ends[end].place(), name));
    a.add_space();
    b.join(&a.invite(&["--me"]));
    agree(&[&a, &b]);
    for n in 0..FILE_COUNT {
        a.write(&format!("photos/{n}"), noise(n, FILE_LEN));
    }
    until("what does not fit is told of", || {
        let problems = problems(&b);
        !problems.is_empty() && b.tree().file_count() + problems.len() == usize::from(FILE_COUNT)
    });
    let (problems, kept, all) = (problems(&b), b.tree(), a.tree());
    assert!(problems.values().all(|reason| reason.contains("space")), "{problems:?}");
    for (path, thing) in &kept.0 {
        assert_eq!(all.0.get(path), Some(thing), "{} is not as it was sent", path.escape_ascii());
    }
    assert!(kept.file_count() > 0, "nothing was kept, though the disk has room for three");
    assert_eq!(all.file_count(), usize::from(FILE_COUNT), "nothing counts as deleted");

    let (begun, received_len) = (Instant::now(), cable.ends[1].received_len());
    while begun.elapsed() < RETRIES {
        std::thread::sleep(Duration::from_millis(100));
    }
    let received_len = cable.ends[1].received_len() - received_len;
    assert!(received_len < FILE_LEN as u64, "{received_len} bytes came for which there is no room");

    disk.resize("64m");
    until("all are there", || b.tree() == a.tree());
    agree(&[&a, &b]);
    assert_eq!(self::problems(&b), BTreeMap::new());
    assert_no_temporary_files(&b);
}

/// The stored versions of a device.
fn version_count(device: &Device) -> usize {
    std::fs::read_dir(device.at(".zerocloud/versions")).map_or(0, Iterator::count)
}

#[test]
fn a_full_disk_makes_no_version_go_until_the_user_says_so() {
    if !rights::is_root() {
        return;
    }
    let lab = Lab::new(PROGRAM);
    let _disk = Mount::disk(lab.path().join("desk"), "16m");
    let (a, b) = pair_in(&lab);
    for n in 0..3 {
        a.write(&format!("photos/{n}"), noise(n, FILE_LEN));
    }
    agree(&[&a, &b]);
    std::fs::remove_dir_all(a.at("photos")).unwrap();
    agree(&[&a, &b]);
    assert_eq!(version_count(&b), 3);
    // With the versions there is no room for all of them, without there is.
    // They come whole: of one that is seen half written, what was seen would be a fourth version.
    let made = lab.path().join("made");
    std::fs::create_dir(&made).unwrap();
    for n in 0..7 {
        std::fs::write(made.join(n.to_string()), noise(10 + n, FILE_LEN)).unwrap();
    }
    std::fs::rename(made, a.at("new")).unwrap();
    // While it is tried once more, nothing waits for room.
    until("the full disk is told of", || {
        let warnings = b.ask(&["status"])["warnings"].to_string();
        warnings.contains("zerocloud prune") && warnings.contains("3 with 6 MiB")
    });
    assert_eq!(version_count(&b), 3, "nothing goes unasked");

    let pruned = b.ask(&["prune", "Photos", "--older-than", "1h"]);
    assert_eq!((&pruned["versions"], version_count(&b)), (&0.into(), 3), "they are younger");
    let pruned = b.ask(&["prune", "Photos", "--older-than", "0s"]);
    assert_eq!((&pruned["versions"], &pruned["bytes"]), (&3.into(), &(3 * FILE_LEN).into()));
    agree(&[&a, &b]);
    let warnings = b.ask(&["status"])["warnings"].to_string();
    assert!(!warnings.contains("full"), "{warnings}");
}

#[test]
fn a_disk_that_goes_away_deletes_nothing_and_is_taken_again() {
    if !rights::is_root() {
        return;
    }
    let lab = Lab::new(PROGRAM);
    let disk = Mount::disk(lab.path().join("disk"), "32m");
    let mount = Mount::bound(disk.path(), lab.path().join("desk"));
    let (a, mut b) = pair_in(&lab);
    a.write("kept", "on both");
    a.write("photos/edited", "before");
    agree(&[&a, &b]);

    mount.unmount();
    // Nothing happens to the files by which it could be noticed.
    until("the loss is told of", || b.space_status()["state"] == "error");
    a.write("photos/edited", "while it was away");
    assert!(b.space_status()["error"].as_str().unwrap().contains("mounted"), "{}", b.space_status());
    // The place of the disk is an empty directory now, and stays one.
    assert_eq!(std::fs::read_dir(b.folder()).unwrap().count(), 0);
    b.stop();
    b.start();
    until("the loss is told of again", || b.space_status()["state"] == "error");
    assert_eq!((a.read("kept"), a.read("photos/edited")), ("on both".into(), "while it was away".into()));
    assert_eq!(std::fs::read_dir(b.folder()).unwrap().count(), 0);

    let _mount = Mount::bound(disk.path(), b.folder().to_owned());
    until("it goes on", || b.space_status()["state"] != "error");
    agree(&[&a, &b]);
    assert_eq!((b.read("kept"), b.read("photos/edited")), ("on both".into(), "while it was away".into()));
    assert_no_temporary_files(&b);
}

/// Fills a disk to its last byte.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![1; 1 << 20];
    // Blocks, until the last is written in part, and there is no room for one byte.
    let error = loop {
        if let Err(error) = file.write_all(&block) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn a_node_whose_home_is_full_says_so_and_goes_on_when_there_is_room() {
    if !rights::is_root() {
        return;
    }
    let lab = Lab::new(PROGRAM);
    let disk = Mount::disk(lab.path().join("desk.home"), "64m");
    let (a, b) = pair_in(&lab);
    a.write("first", "there was room");
    agree(&[&a, &b]);
    let filler = disk.path().join("filler");
    fill(&filler);
    for n in 0..200 {
        a.write(&format!("theirs/{n}"), noise(1, 10 + n));
        b.write(&format!("ours/{n}"), noise(2, 10 + n));
    }
    until("the full disk is told of", || b.space_status()["state"] == "error");
    let status = b.space_status();
    assert!(status["error"].as_str().unwrap().contains("full"), "{status}");
    let said = b.refused(1, &["sync"]);
    assert!(said.contains("full"), "{said}");

    std::fs::remove_file(filler).unwrap();
    until("it goes on", || b.space_status()["state"] != "error");
    until("all are there", || a.tree().file_count() == 401 && a.tree() == b.tree());
    agree(&[&a, &b]);
}

#[test]
fn a_node_that_starts_on_a_full_disk_goes_on_when_there_is_room() {
    if !rights::is_root() {
        return;
    }
    let lab = Lab::new(PROGRAM);
    let disk = Mount::disk(lab.path().join("desk.home"), "64m");
    let (a, mut b) = pair_in(&lab);
    a.write("first", "there was room");
    agree(&[&a, &b]);
    b.kill();
    let filler = disk.path().join("filler");
    fill(&filler);
    b.start();
    let status = b.space_status();
    assert!(status["state"] == "error" && status["error"].as_str().unwrap().contains("full"), "{status}");
    a.write("second", "while it was full");
    b.write("third", "while it was full");

    std::fs::remove_file(filler).unwrap();
    until("it goes on", || b.space_status()["state"] != "error");
    until("all are there", || a.tree().file_count() == 3 && a.tree() == b.tree());
    agree(&[&a, &b]);
}
