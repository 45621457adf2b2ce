//! The first minutes with the program: two devices, one folder; and what scripts rely on.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::harness::{Lab, agree, assert_same};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

fn assert_fields(value: &Value, expected: &[&str]) {
    let fields: BTreeSet<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, expected.iter().copied().collect(), "{value}");
}

#[test]
fn two_devices_keep_a_folder_the_same_both_ways() {
    let lab = Lab::new(PROGRAM);
    let (a, mut b) = (lab.device("laptop"), lab.device("desk"));
    a.write("holidays/beach.jpg", vec![7; 300_000]);
    a.write("list.txt", "milk");
    a.add_space();

    let printed = a.run(&["invite", "Photos", "--me"]);
    let ticket = printed.lines().last().unwrap();
    assert!(ticket.starts_with("zc1") && !ticket.contains(' '), "{printed}");
    b.join(ticket);
    let report = b.ask(&["sync", "Photos", "--wait", "--timeout", "60s"]);
    assert_eq!(report["spaces"], serde_json::json!(["Photos"]));
    assert_eq!(report["problems"], 0);
    assert_eq!(report["peers_in_sync"], 1, "who has just joined waits for the other");
    assert_eq!(b.read("list.txt"), "milk");
    agree(&[&a, &b]);

    // And so does who has just started.
    assert!(b.stop().0.success());
    a.write("list.txt", "milk, eggs");
    a.run(&["sync"]);
    b.start();
    b.run(&["sync", "--wait", "--timeout", "60s"]);
    assert_eq!(b.read("list.txt"), "milk, eggs");

    b.write("list.txt", "milk, bread");
    std::fs::remove_dir_all(b.at("holidays")).unwrap();
    b.run(&["sync", "--wait", "--timeout", "60s"]);
    assert_same(&[&a, &b]);
    assert_eq!(a.read("list.txt"), "milk, bread");
    assert!(!a.at("holidays").exists());
}

#[test]
fn status_has_exactly_the_fields_of_the_contract() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    a.write("d/x", "12345");
    agree(&[&a, &b]);

    let status = a.ask(&["status"]);
    assert_fields(&status, &["version", "device", "spaces", "warnings"]);
    let space = &status["spaces"][0];
    let fields = "id name dir role state error files directories bytes missing_chunks awaited awaited_paths lost \
                  left_out received_bytes sent_bytes conflicts problems peers";
    assert_fields(space, &fields.split(' ').collect::<Vec<_>>());
    let peer = &space["peers"][0];
    assert_fields(peer, &["device", "name", "connected", "path", "rtt_ms", "congestion", "in_sync"]);

    assert_eq!(format!("zerocloud {}\n", status["version"].as_str().unwrap()), a.run(&["--version"]));
    assert_eq!((&space["name"], &space["role"], &space["error"]), (&"Photos".into(), &"owner".into(), &Value::Null));
    assert_eq!(space["dir"], a.folder().canonicalize().unwrap().to_str().unwrap());
    assert_eq!((&space["state"], &space["missing_chunks"]), (&"idle".into(), &0.into()));
    assert_eq!((&space["files"], &space["directories"], &space["bytes"]), (&1.into(), &1.into(), &5.into()));
    assert_eq!((&space["conflicts"], &space["problems"]), (&0.into(), &serde_json::json!([])));
    assert_eq!((&peer["name"], &peer["connected"]), (&b.name().into(), &true.into()));
    assert_eq!((&peer["path"], &peer["in_sync"]), (&"direct".into(), &true.into()));
    assert!(peer["rtt_ms"].as_f64().is_some_and(|rtt| rtt > 0.0), "{peer}");
    assert_eq!(peer["device"], b.ask(&["status"])["device"]);
    assert_eq!(b.space_status()["peers"][0]["name"], a.name(), "who joins knows who let it in");
}

#[test]
fn a_node_is_alone_on_its_home_and_ends_within_five_seconds() {
    let lab = Lab::new(PROGRAM);
    let (mut a, b) = lab.pair();
    let complaint = a.refused(1, &["start"]);
    assert!(complaint.contains("already running"), "{complaint}");

    let (status, elapsed) = a.stop();
    assert_eq!(status.code(), Some(0));
    assert!(elapsed < Duration::from_secs(5), "it took {elapsed:?}");
    drop(b);
}

#[test]
fn scripts_tell_by_the_exit_code_what_went_wrong() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    assert!(!a.refused(2, &["sync", "--wait", "--timeout", "soon"]).is_empty());
    assert!(!a.refused(2, &["nonsense"]).is_empty());
    assert!(a.refused(1, &["ls", "NoSuchSpace"]).contains("NoSuchSpace"));
    assert!(a.refused(1, &["history", "Photos/absent"]).contains("absent"));

    // A peer that is connected, and paused, never agrees.
    b.run(&["space", "pause", "Photos"]);
    a.write("x", "1");
    let complaint = a.refused(4, &["sync", "--wait", "--timeout", "1s"]);
    assert!(!complaint.is_empty());
    b.run(&["space", "resume", "Photos"]);
    agree(&[&a, &b]);

    assert_eq!(b.stop().0.code(), Some(0));
    for args in [&["status"][..], &["sync", "--wait"], &["doctor"], &["events"], &["stop"], &["join", "zc1"]] {
        let complaint = b.refused(3, args);
        assert!(complaint.contains("no node is running"), "{args:?}: {complaint}");
    }
    // These need none.
    assert_eq!(b.ask(&["space", "ls"])["spaces"][0]["name"], "Photos");
    assert_eq!(b.ask(&["ls", "Photos"])["entries"][0]["name"], "x");
    assert_eq!(b.ask(&["history", "Photos/x"])["versions"][0]["size"], 1);

    // An end that was asked for by a command is no different.
    a.run(&["stop"]);
    assert_eq!(a.stop().0.code(), Some(0));
}
