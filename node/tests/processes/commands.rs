//! Commands beside a running node.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use super::harness::{Lab, agree, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

#[test]
fn a_space_that_is_paused_rests_until_it_is_resumed() {
    let lab = Lab::new(PROGRAM);
    let (a, mut b) = lab.pair();
    let paused = b.ask(&["space", "pause", "Photos"]);
    assert_eq!((&paused["name"], &paused["paused"]), (&"Photos".into(), &true.into()));
    until("it is paused", || b.space_status()["state"] == "paused");
    a.write("from the laptop", "1");
    b.write("from the desk", "2");
    a.run(&["sync"]);
    assert!(b.stop().0.success());
    b.start();
    until("a restart resumes nothing", || b.space_status()["state"] == "paused");
    assert!(b.run(&["space", "ls"]).contains("paused"));
    assert!(!b.at("from the laptop").exists() && !a.at("from the desk").exists());

    assert_eq!(b.ask(&["space", "resume", "Photos"])["paused"], false);
    agree(&[&a, &b]);
    assert_eq!((b.read("from the laptop"), a.read("from the desk")), ("1".into(), "2".into()));
}

#[test]
fn a_space_that_is_removed_keeps_its_files_and_is_no_longer_synced() {
    let lab = Lab::new(PROGRAM);
    let (a, mut b) = lab.pair();
    a.write("d/x", "1");
    agree(&[&a, &b]);
    assert_eq!(b.ask(&["space", "rm", "Photos"])["name"], "Photos");
    assert_eq!(b.ask(&["space", "ls"])["spaces"], serde_json::json!([]));
    assert_eq!(b.ask(&["status"])["spaces"], serde_json::json!([]));
    assert!(b.refused(1, &["ls", "Photos"]).contains("Photos"));
    assert_eq!(b.read("d/x"), "1");
    // What happens to the files now is nobody's business.
    a.write("y", "2");
    std::fs::remove_file(b.at("d/x")).unwrap();
    let report = a.ask(&["sync", "--wait", "--timeout", "60s"]);
    assert_eq!(report["peers_in_sync"], 0, "nobody waits for a device that has given the space up");
    assert!(!b.at("y").exists() && a.at("d/x").exists());
    assert!(b.stop().0.success());
    b.start();
    assert_eq!(b.ask(&["space", "ls"])["spaces"], serde_json::json!([]));
}

#[test]
fn what_the_commands_print_is_as_documented() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    a.write("d/list", "1");
    agree(&[&a, &b]);
    b.write("d/list", "22");
    std::os::unix::fs::symlink("list", b.at("d/link")).unwrap();
    agree(&[&a, &b]);

    let space = a.ask(&["space", "ls"])["spaces"][0].take();
    assert_eq!((&space["name"], &space["role"], &space["paused"]), (&"Photos".into(), &"owner".into(), &false.into()));
    assert_eq!(space["id"].as_str().map(str::len), Some(64));
    let root = a.ask(&["ls", "Photos"])["entries"].take();
    assert_eq!((&root[0]["name"], &root[0]["kind"], &root[0]["size"]), (&"d".into(), &"directory".into(), &0.into()));
    let by_path = a.ask(&["ls", a.at("d").to_str().unwrap()]);
    assert_eq!(by_path, a.ask(&["ls", "Photos/d"]));
    let (link, list) = (&by_path["entries"][0], &by_path["entries"][1]);
    assert_eq!((&link["name"], &link["kind"]), (&"link".into(), &"link".into()));
    assert_eq!((&list["name"], &list["kind"], &list["size"]), (&"list".into(), &"file".into(), &2.into()));
    assert_eq!((&list["is_here"], &list["is_conflict"]), (&true.into(), &false.into()));
    assert!(list["modified_ms"].as_i64().is_some_and(|time| time > 1_700_000_000_000), "{list}");

    let versions = a.ask(&["history", a.at("d/list").to_str().unwrap()]);
    let versions = versions["versions"].as_array().unwrap();
    let shown: Vec<_> = versions
        .iter()
        .map(|version| (&version["size"], version["device_name"].as_str().unwrap(), version["is_current"] == true))
        .collect();
    assert_eq!(shown, [(&2.into(), "desk", true), (&1.into(), "laptop", false)]);
    assert!(versions.iter().all(|version| version["is_here"] == true), "the older one is kept: {versions:?}");

    let checks = a.ask(&["doctor"]);
    for check in checks["checks"].as_array().unwrap() {
        assert!(["ok", "warning"].contains(&check["level"].as_str().unwrap()), "{check}");
        assert!(!check["name"].as_str().unwrap().is_empty() && !check["found"].as_str().unwrap().is_empty());
        assert!(check["level"] == "ok" || check["advice"].is_string(), "{check}");
    }

    let words = a.ask(&["recovery", "show"]);
    let words: Vec<&str> = words["words"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words.len(), 24);
    assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())), "{words:?}");
    assert_eq!(a.ask(&["recovery", "show"])["words"][0], words[0], "to show them changes nothing");
}

#[test]
fn events_are_lines_of_json() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    let mut reader = a.command(["events", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    let (told, events) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        while let Some(Ok(line)) = lines.next() {
            if told.send(line).is_err() {
                return;
            }
        }
    });
    let mut seen: Vec<Value> = Vec::new();
    let mut n = 0;
    until("a scan, the rest after it and the new device are told", || {
        // The reader may have come after an earlier one.
        n += 1;
        a.write("x", format!("{n}"));
        a.run(&["sync"]);
        seen.extend(events.try_iter().map(|line| serde_json::from_str::<Value>(&line).expect("a line is JSON")));
        ["scanning", "idle"].iter().all(|state| seen.iter().any(|event| event["state"] == *state))
    });
    for event in &seen {
        assert!(event["time_ms"].as_i64().is_some_and(|time| time > 1_700_000_000_000), "{event}");
        assert!(event["event"].is_string(), "{event}");
        assert_eq!(event["space"], "Photos", "{event}");
    }
    b.write("from the desk", "1");
    let mut is_told = |change: &str, path: &str, by: Value| {
        until(&format!("{path} is told to be {change}"), || {
            seen.extend(events.try_iter().map(|line| serde_json::from_str::<Value>(&line).expect("a line is JSON")));
            let of_path = |event: &&Value| event["event"] == "path" && event["path"] == path;
            seen.iter().filter(of_path).any(|event| event["change"] == change && event["device_name"] == by)
        });
    };
    is_told("modified", "x", Value::Null);
    is_told("created", "from the desk", "desk".into());
    std::fs::remove_file(b.at("from the desk")).unwrap();
    is_told("deleted", "from the desk", "desk".into());
    drop(b);
    until("the lost connection is told", || {
        seen.extend(events.try_iter().map(|line| serde_json::from_str::<Value>(&line).expect("a line is JSON")));
        seen.iter().any(|event| event["event"] == "peer" && event["connected"] == false && event["name"] == "desk")
    });
    reader.kill().unwrap();
    reader.wait().unwrap();
}
