//! A system that has too few watches for a folder.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::harness::{Device, Lab, Place, agree, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");
/// Watches that the node may have: for the root, what is above it, and some directories.
const WATCH_COUNT: usize = 10;
/// How many directories there are.
const DIRECTORY_COUNT: usize = 30;
/// How long to wait for a walk, of which there is one in a minute.
const WALK_PATIENCE: Duration = Duration::from_secs(240);

/// A place with a limit of its own: that of a user namespace counts for what runs in it, and nothing else of the system has
/// a lower one for that. `None` where there can be no such place.
fn place_with_few_watches() -> Option<Place> {
    let lower = format!("echo {WATCH_COUNT} > /proc/sys/user/max_inotify_watches && exec \"$0\" \"$@\"");
    let within: Vec<String> = ["unshare", "--user", "--map-root-user", "sh", "-c", &lower].map(str::to_owned).into();
    let tried = Command::new(&within[0]).args(&within[1..]).arg("true").output();
    match tried {
        Ok(output) if output.status.success() => Some(Place { within, ..Place::default() }),
        // Not by the macros: what they print is shown only when a test fails.
        other => {
            let _ = writeln!(std::io::stderr(), "NOT RUN: too few watches: no user namespace: {other:?}");
            None
        }
    }
}

fn await_walk(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WALK_PATIENCE, "no walk found that {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn directory(n: usize) -> String {
    format!("directory {n:02}")
}

#[test]
fn where_watches_run_out_walks_find_the_rest_and_the_user_is_told_what_to_raise() {
    let limit = |path: &str| std::fs::read_to_string(Path::new("/proc/sys").join(path)).unwrap_or_default();
    let limits = || [limit("fs/inotify/max_user_watches"), limit("user/max_inotify_watches")];
    let before = limits();
    let Some(place) = place_with_few_watches() else { return };
    let lab = Lab::new(PROGRAM);
    let (a, b): (Device, Device) = (lab.device_in(place, "laptop"), lab.device("desk"));
    for n in 0..DIRECTORY_COUNT {
        a.write(&format!("{}/file", directory(n)), "before");
    }
    a.write("moved/inner/file", "before");
    a.add_space();
    b.join(&a.invite(&["--me"]));
    agree(&[&a, &b]);
    let status = a.ask(&["status"]);
    let warnings = status["warnings"].as_array().unwrap();
    let told = warnings.iter().filter_map(|warning| warning.as_str());
    let told: Vec<&str> = told.filter(|warning| warning.contains("no watches left")).collect();
    assert!(told.len() == 1 && told[0].contains("sudo sysctl fs.inotify.max_user_watches="), "{warnings:?}");
    assert!(!b.run(&["status"]).contains("no watches left"), "only the node in that place has so few");

    // In all directories at once: most of them nobody watches.
    for n in 0..DIRECTORY_COUNT {
        let path = format!("{}/file", directory(n));
        match n % 3 {
            0 => a.write(&path, format!("edited {n}")),
            1 => std::fs::remove_file(a.at(&path)).unwrap(),
            _ => a.rename(&path, &format!("{}/renamed", directory((n + 5) % DIRECTORY_COUNT))),
        }
    }
    a.write("made since/deep/file", "after");
    a.rename("moved", "directory 29/moved here");
    a.write("directory 29/moved here/inner/file", "after");
    await_walk("all of it has changed", || a.tree() == b.tree());
    agree(&[&a, &b]);

    // What others write comes as ever, and is no news to the next walk.
    b.write("directory 28/from the desk", "1");
    until("an edit on the desk is on the laptop", || a.at("directory 28/from the desk").exists());
    a.write("directory 28/from the desk", "2");
    await_walk("a file that came from elsewhere has changed", || b.read("directory 28/from the desk") == "2");
    assert_eq!(limits(), before, "the system has the limits that it had");
}
