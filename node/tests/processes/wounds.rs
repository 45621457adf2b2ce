//! What has hurt users of other programs for syncing, each with the number under which it was reported there, and what
//! ours does.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::harness::{Device, Lab, PATIENCE, agree, conflict_copies, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// The inodes of all files below a directory, by what follows its name.
fn inodes(device: &Device, directory: &str) -> BTreeMap<String, u64> {
    let mut inodes = BTreeMap::new();
    let mut stack = vec![device.at(directory)];
    while let Some(next) = stack.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                stack.push(entry.path());
            } else {
                let below = entry.path().strip_prefix(device.at(directory)).unwrap().display().to_string();
                inodes.insert(below, entry.metadata().unwrap().ino());
            }
        }
    }
    inodes
}

fn no_copies(devices: &[&Device]) {
    for device in devices {
        assert_eq!(conflict_copies(device), Vec::<String>::new());
    }
}

#[test]
fn syncthing_6989_and_1787_a_rename_of_case_alone_is_a_rename() {
    let lab = Lab::new(PROGRAM);
    let (a, mut b) = lab.pair();
    a.write("Photos/img_1.jpg", "one");
    a.write("Photos/img_2.jpg", "two");
    agree(&[&a, &b]);
    let before = inodes(&b, "Photos");
    a.rename("Photos/img_1.jpg", "Photos/IMG_1.JPG");
    agree(&[&a, &b]);
    // And while the other is off; a directory, too.
    b.stop();
    a.rename("Photos/img_2.jpg", "Photos/Img_2.jpg");
    a.rename("Photos", "PHOTOS");
    a.run(&["sync", "--wait", "--timeout", "60s"]);
    b.start();
    agree(&[&a, &b]);
    assert_eq!(b.tree().paths(), ["PHOTOS", "PHOTOS/IMG_1.JPG", "PHOTOS/Img_2.jpg"]);
    let after = inodes(&b, "PHOTOS");
    assert_eq!((after["IMG_1.JPG"], after["Img_2.jpg"]), (before["img_1.jpg"], before["img_2.jpg"]));
    no_copies(&[&a, &b]);
}

#[test]
fn syncthing_8875_and_2754_a_renamed_directory_is_no_deletion_and_no_new_one() {
    let lab = Lab::new(PROGRAM);
    let (a, mut b) = lab.pair();
    for n in 0..200 {
        a.write(&format!("2024/trip {}/{n}.raw", n % 5), vec![n; 20_000]);
    }
    agree(&[&a, &b]);
    let before = inodes(&b, "2024");
    let written_len = b.written_len();
    a.rename("2024", "2024 (sorted)");
    agree(&[&a, &b]);
    assert_eq!(inodes(&b, "2024 (sorted)"), before);
    assert!(b.written_len() - written_len < 2_000_000, "what is on the disk was written again");

    // While the other, off, works in it.
    b.stop();
    a.rename("2024 (sorted)", "archive");
    std::fs::create_dir(a.at("years")).unwrap();
    a.rename("archive", "years/2024");
    b.write("2024 (sorted)/trip 1/notes.txt", "written while it moved");
    b.write("2024 (sorted)/trip 2/2.raw", "edited while it moved");
    a.run(&["sync", "--wait", "--timeout", "60s"]);
    b.start();
    agree(&[&a, &b]);
    assert_eq!(a.read("years/2024/trip 1/notes.txt"), "written while it moved");
    assert_eq!(a.read("years/2024/trip 2/2.raw"), "edited while it moved");
    assert!(!a.at("2024 (sorted)").exists() && !a.at("archive").exists());
    assert_eq!(a.tree().file_count(), 201);
    no_copies(&[&a, &b]);
}

#[test]
fn syncthing_9718_an_emptied_disk_deletes_nothing_elsewhere() {
    let lab = Lab::new(PROGRAM);
    let (mut a, b) = lab.pair();
    for n in 0..50 {
        a.write(&format!("{n}.txt"), format!("file {n}"));
    }
    agree(&[&a, &b]);
    let before = b.tree();
    // The disk is not mounted: its place is an empty directory; before the node starts, and while it runs.
    for is_running in [false, true] {
        if !is_running {
            a.stop();
        }
        let elsewhere = lab.path().join("elsewhere");
        std::fs::rename(a.folder(), &elsewhere).unwrap();
        std::fs::create_dir(a.folder()).unwrap();
        if !is_running {
            a.start();
        }
        until("the loss is told of", || a.space_status()["state"] == "error");
        b.run(&["sync", "--wait", "--timeout", "60s"]);
        before.assert_same("desk before", &b.tree(), "desk");
        std::fs::remove_dir(a.folder()).unwrap();
        std::fs::rename(&elsewhere, a.folder()).unwrap();
        until("it goes on", || a.space_status()["state"] == "idle");
        agree(&[&a, &b]);
        before.assert_same("desk before", &b.tree(), "desk");
    }
}

#[test]
fn nextcloud_4016_odd_times_are_kept_and_told_once() {
    let lab = Lab::new(PROGRAM);
    let (a, mut b) = lab.pair();
    let epoch = SystemTime::UNIX_EPOCH;
    let times = [
        ("epoch", epoch),
        ("before", epoch - Duration::from_secs(86_400 * 365 * 20)),
        ("after 2038", epoch + Duration::from_secs(1 << 32)),
        ("far", epoch + Duration::from_secs(86_400 * 365 * 300)),
    ];
    for (name, time) in times {
        a.write(name, name);
        std::fs::File::options().write(true).open(a.at(name)).unwrap().set_modified(time).unwrap();
    }
    agree(&[&a, &b]);
    for (name, time) in times {
        // What the file system of the test can't hold is not ours to judge.
        let held = a.at(name).metadata().unwrap().modified().unwrap();
        assert_eq!(b.at(name).metadata().unwrap().modified().unwrap(), held, "{name}");
        assert!(held == time || name == "far" || name == "before", "{name}");
    }
    // Nothing is sent around for ever, nor told anew by a restart.
    b.stop();
    b.start();
    agree(&[&a, &b]);
    for (name, _) in times {
        let versions = b.ask(&["history", &format!("Photos/{name}")]);
        assert_eq!(versions["versions"].as_array().unwrap().len(), 1, "{versions}");
    }
    no_copies(&[&a, &b]);
}

#[test]
fn nextcloud_4806_the_same_content_twice_and_a_touch_are_no_conflict() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    a.write("touched", "as it was");
    a.write("edited alike", "as it was");
    agree(&[&a, &b]);
    a.stop();
    b.stop();
    // Apart: both write the same, one new and one over the old; one touches what the other edits.
    for device in [&a, &b] {
        device.write("new alike", "the same on both");
        device.write("edited alike", "edited on both");
    }
    let touch = std::fs::File::options().write(true).open(a.at("touched")).unwrap();
    touch.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    b.write("touched", "edited");
    a.start();
    b.start();
    agree(&[&a, &b]);
    no_copies(&[&a, &b]);
    assert_eq!(a.tree().paths(), ["edited alike", "new alike", "touched"]);
    assert_eq!((a.read("touched"), a.read("edited alike")), ("edited".into(), "edited on both".into()));
}

#[test]
fn nextcloud_68_a_peer_s_mass_deletion_waits_where_nothing_is_kept() {
    let lab = Lab::new(PROGRAM);
    let home = lab.path().join("desk.home");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("config.toml"), "lan = false\nname = \"desk\"\nversions = \"none\"\n").unwrap();
    let (a, b) = lab.pair();
    for n in 0..2_400 {
        a.write(&format!("{}/{n}", n % 10), n.to_string());
    }
    agree(&[&a, &b]);
    for n in 0..10 {
        std::fs::remove_dir_all(a.at(n.to_string())).unwrap();
    }
    // Some go while this looks.
    let left_count = || -> usize {
        let list = |n: u32| std::fs::read_dir(b.at(n.to_string())).map_or(0, Iterator::count);
        (0..10).map(list).sum()
    };
    // As many as a thousand may go before that many are many.
    until("the rest of the deletion is held", || {
        let held = b.ask(&["held", "Photos"]);
        held["held"].as_array().unwrap().len() >= left_count()
    });
    let kept = b.tree();
    assert!(kept.file_count() >= 1_400, "{} files are left", kept.file_count());
    b.run(&["held", "Photos", "reject"]);
    until("what was held is back", || a.tree().file_count() == kept.file_count());
    agree(&[&a, &b]);
    assert_eq!(b.tree().file_count(), kept.file_count());
}

#[test]
fn seafile_737_a_file_that_changes_all_the_time_arrives_whole() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    a.write("log", content(0));
    agree(&[&a, &b]);
    let is_done = AtomicBool::new(false);
    let (written, seen) = std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            let mut n = 0;
            while !is_done.load(Ordering::SeqCst) {
                n += 1;
                // By turns as editors save and in place, where a reader may see a half.
                if n % 2 == 0 {
                    std::fs::write(lab.path().join("log.new"), content(n)).unwrap();
                    std::fs::rename(lab.path().join("log.new"), a.at("log")).unwrap();
                } else {
                    a.write("log", content(n));
                }
                std::thread::sleep(Duration::from_millis(15));
            }
            n
        });
        let mut seen = Vec::new();
        let begun = std::time::Instant::now();
        while seen.len() < 10 && begun.elapsed() < PATIENCE {
            let read = std::fs::read(b.at("log")).unwrap();
            if seen.last() != Some(&read) {
                seen.push(read);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        is_done.store(true, Ordering::SeqCst);
        (writer.join().unwrap(), seen)
    });
    assert!(written > 10 && seen.len() > 1, "{written} written, {} seen", seen.len());
    for read in seen {
        // In place a file is short or empty for a moment, and a moment may be what a scan finds at rest. Two versions mixed
        // are never seen.
        let first = read.first().copied().unwrap_or_default();
        assert!(read.iter().all(|byte| *byte == first), "two versions in one file");
    }
    agree(&[&a, &b]);
    assert_eq!(std::fs::read(b.at("log")).unwrap(), content(written));
    no_copies(&[&a, &b]);
}

fn content(n: u32) -> Vec<u8> {
    vec![(n % 251) as u8; 100_000]
}

#[test]
fn peergos_1306_a_directory_made_on_both_is_one_directory() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    a.stop();
    b.stop();
    for (device, file) in [(&a, "of a"), (&b, "of b")] {
        device.write(&format!("Documents/letters/{file}"), file);
        device.write("Documents/same", "the same");
        std::fs::create_dir_all(device.at("Documents/empty")).unwrap();
    }
    a.start();
    b.start();
    agree(&[&a, &b]);
    let paths = [
        "Documents",
        "Documents/empty",
        "Documents/letters",
        "Documents/letters/of a",
        "Documents/letters/of b",
        "Documents/same",
    ];
    assert_eq!(a.tree().paths(), paths);
    no_copies(&[&a, &b]);
}

#[test]
fn filen_192_what_was_deleted_stays_deleted() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    for n in 0..30 {
        a.write(&format!("keep {n}"), n.to_string());
        a.write(&format!("gone/{n}"), n.to_string());
    }
    agree(&[&a, &b]);
    b.stop();
    std::fs::remove_dir_all(a.at("gone")).unwrap();
    a.run(&["sync", "--wait", "--timeout", "60s"]);
    b.write("keep 1", "edited while the other deleted");
    // Whoever was away comes first, then both; each is stopped and killed on the way.
    a.stop();
    b.start();
    b.run(&["sync", "--wait", "--timeout", "60s"]);
    a.start();
    agree(&[&a, &b]);
    b.kill();
    a.stop();
    a.start();
    b.start();
    agree(&[&a, &b]);
    for device in [&a, &b] {
        assert!(!device.at("gone").exists());
        assert_eq!(device.tree().file_count(), 30);
        assert_eq!(device.read("keep 1"), "edited while the other deleted");
    }
    no_copies(&[&a, &b]);
}
