//! Many spaces in one node.

use std::io::Write;

use super::harness::tree::Tree;
use super::harness::{Device, Lab, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");
const SPACE_COUNT: usize = 50;
/// Files of each.
const FILE_COUNT: usize = 5;
/// What a space may cost at rest, while there are as many: a keeper and its worker, the space's own, the watcher. A thread
/// more in each shows here.
const THREADS_PER_SPACE_MAX: f64 = 5.0;
/// The store, the folder and its two directories, the watcher and what it polls, and what is served from.
const HANDLES_PER_SPACE_MAX: f64 = 20.0;

/// What a node holds: memory in KiB (`VmRSS`, `RssAnon`), threads, file handles.
fn held(device: &Device) -> [u64; 4] {
    let process = format!("/proc/{}", device.process_id());
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let handle_count = std::fs::read_dir(format!("{process}/fd")).unwrap().count() as u64;
    [field("VmRSS:"), field("RssAnon:"), field("Threads:"), handle_count]
}

/// The states of all spaces, and how many of them are in sync with a peer.
fn settled_count(device: &Device) -> usize {
    let status = device.ask(&["status"]);
    let spaces = status["spaces"].as_array().unwrap();
    let is_settled = |space: &&serde_json::Value| {
        space["state"] == "idle" && space["files"] == FILE_COUNT && space["peers"][0]["in_sync"] == true
    };
    spaces.iter().filter(is_settled).count()
}

#[test]
fn fifty_spaces_sync_side_by_side() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = (lab.device("laptop"), lab.device("desk"));
    let alone = [held(&a), held(&b)];
    for n in 0..SPACE_COUNT {
        let name = format!("space {n}");
        for file in 0..FILE_COUNT {
            a.write(&format!("{name}/file {file}"), format!("{n} {file}"));
        }
        a.run(&["space", "add", a.at(&name).to_str().unwrap(), "--name", &name]);
        let printed = a.run(&["invite", &name, "--me"]);
        b.run(&["join", printed.lines().last().unwrap(), b.at(&name).to_str().unwrap()]);
    }
    until("all spaces are in sync", || settled_count(&a) == SPACE_COUNT && settled_count(&b) == SPACE_COUNT);
    for n in 0..SPACE_COUNT {
        let tree_of = |device: &Device| Tree::read(&device.at(format!("space {n}")));
        tree_of(&a).assert_same("laptop", &tree_of(&b), "desk");
    }

    for n in 0..SPACE_COUNT {
        b.write(&format!("space {n}/file 0"), format!("edited in {n}"));
    }
    until("an edit in each comes", || {
        (0..SPACE_COUNT).all(|n| a.read(&format!("space {n}/file 0")) == format!("edited in {n}"))
    });

    for (device, alone) in [&a, &b].into_iter().zip(alone) {
        let now = held(device);
        let each = |n: usize| now[n].saturating_sub(alone[n]) as f64 / SPACE_COUNT as f64;
        // Not by the macros: what they print is shown only when a test fails.
        let _ = writeln!(
            std::io::stderr(),
            "{} with {SPACE_COUNT} spaces: {} MiB resident ({} MiB without a space), {:.2} MiB, {:.2} MiB anonymous, {:.2} \
             threads and {:.2} file handles for each",
            device.name(),
            now[0] >> 10,
            alone[0] >> 10,
            each(0) / 1024.0,
            each(1) / 1024.0,
            each(2),
            each(3)
        );
        assert!(each(2) <= THREADS_PER_SPACE_MAX, "threads: {now:?}, and {alone:?} without a space");
        assert!(each(3) <= HANDLES_PER_SPACE_MAX, "file handles: {now:?}, and {alone:?} without a space");
    }
}
