//! Tickets that open nothing, and joining that was cut off.

use std::process::Stdio;
use std::time::Duration;

use super::harness::{Device, Lab, agree, agree_through, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// Joins with a ticket that opens nothing; gives the complaint.
fn refused(device: &Device, ticket: &str) -> String {
    let complaint = device.refused(1, &["join", ticket, device.folder().to_str().unwrap()]);
    assert_eq!(device.ask(&["space", "ls"])["spaces"], serde_json::json!([]), "{complaint}");
    assert!(device.tree().paths().is_empty());
    complaint
}

#[test]
fn a_ticket_that_opens_nothing_says_what_to_do() {
    let lab = Lab::new(PROGRAM);
    let (a, b, c) = (lab.device("laptop"), lab.device("desk"), lab.device("phone"));
    a.add_space();
    let ticket = a.invite(&["--me"]);
    b.join(&ticket);
    agree(&[&a, &b]);

    let used = refused(&c, &ticket);
    assert!(used.contains("was used") && used.contains("make a new one"), "{used}");

    let short = a.invite(&["--expires", "1s"]);
    // Whole seconds: until the clock shows the next but one.
    std::thread::sleep(Duration::from_millis(2_100));
    let expired = refused(&c, &short);
    assert!(expired.contains("expired") && expired.contains("make a new one"), "{expired}");

    let fresh = a.invite(&[]);
    let middle = fresh.len() / 2;
    let other = if &fresh[middle..=middle] == "a" { "b" } else { "a" };
    let altered = format!("{}{other}{}", &fresh[..middle], &fresh[middle + 1..]);
    let damaged = refused(&c, &altered);
    assert!(damaged.contains("copy it again"), "{damaged}");
    let cut = refused(&c, &fresh[..middle]);
    assert!(cut.contains("copy it again"), "{cut}");
    let garbage = refused(&c, "open sesame");
    assert!(garbage.contains("not a ZeroCloud ticket"), "{garbage}");

    for device in [&a, &b] {
        for ticket in [&ticket, &fresh] {
            let folder = lab.path().join("elsewhere");
            let complaint = device.refused(1, &["join", ticket, folder.to_str().unwrap()]);
            assert!(complaint.contains("has the space `Photos` already"), "{complaint}");
            assert!(!folder.exists(), "nothing is made for what can't be");
        }
    }
    // Nobody has spoiled it.
    c.join(&fresh);
    agree_through(&a, &[&b, &c]);
}

#[test]
fn a_ticket_that_was_made_while_no_node_ran_lets_a_device_in_once_one_does() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b, c) = (lab.device("laptop"), lab.device("desk"), lab.device("phone"));
    a.write("x", "1");
    a.add_space();
    a.stop();
    let said = a.say(["invite", "Photos", "--role", "editor"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(said.stderr.contains("zerocloud start") && said.stderr.contains("No node runs"), "{}", said.stderr);
    let ticket = said.stdout.trim();
    a.start();
    b.join(ticket);
    agree(&[&a, &b]);
    assert_eq!(b.read("x"), "1");
    assert_eq!(b.ask(&["space", "ls"])["spaces"][0]["role"], "editor");
    b.stop();
    let complaint = b.refused(1, &["invite", "Photos", "--role", "editor"]);
    assert!(complaint.contains("only an owner"), "{complaint}");
    let own = b.invite(&["--me"]);
    b.start();
    c.join(&own);
    agree_through(&a, &[&b, &c]);
}

#[test]
fn joining_that_was_cut_off_is_done_again_with_the_same_ticket() {
    let lab = Lab::new(PROGRAM);
    let a = lab.device("laptop");
    a.write("x", "1");
    a.add_space();
    for (n, moment) in [5, 20, 45, 80].into_iter().enumerate() {
        let mut b = lab.device(&format!("desk {n}"));
        let ticket = a.invite(&["--me"]);
        let mut join = b.command(["join", &ticket, b.folder().to_str().unwrap()]);
        let mut join = join.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(moment));
        b.kill();
        join.wait().unwrap();
        b.start();
        if b.ask(&["space", "ls"])["spaces"] == serde_json::json!([]) {
            b.join(&ticket);
        }
        until("the file is there", || b.at("x").exists());
        let members = a.ask(&["member", "ls", "Photos"]);
        assert_eq!(members["members"].as_array().unwrap().len(), n + 3, "one row for each device: {members}");
        assert_eq!(b.stop().0.code(), Some(0));
    }
}
