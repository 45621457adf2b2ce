//! More than two devices.

use super::harness::{Lab, agree, conflict_copies};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

#[test]
fn three_devices_know_each_other_through_the_one_that_invited_them() {
    let lab = Lab::new(PROGRAM);
    let (mut a, b) = lab.pair();
    a.write("from the laptop", "1");
    let c = lab.device("phone");
    c.join(&a.invite(&["--me"]));
    agree(&[&a, &b, &c]);

    b.write("from the desk", "2");
    c.write("from the phone", "3");
    agree(&[&a, &b, &c]);
    assert_eq!(a.tree().paths(), ["from the desk", "from the laptop", "from the phone"]);

    // Without the one who invited them.
    assert_eq!(a.stop().0.code(), Some(0));
    b.write("from the phone", "3, edited on the desk");
    agree(&[&b, &c]);
    std::fs::remove_file(c.at("from the desk")).unwrap();
    agree(&[&b, &c]);
    a.start();
    agree(&[&a, &b, &c]);
    assert_eq!(a.read("from the phone"), "3, edited on the desk");
    assert_eq!(a.tree().paths(), ["from the laptop", "from the phone"]);
    assert_eq!(conflict_copies(&a), Vec::<String>::new());

    let members = [&a, &b, &c].map(|device| device.ask(&["member", "ls", "Photos"]));
    for members in members {
        let members = members["members"].as_array().unwrap();
        let names: Vec<_> = members.iter().map(|member| member["name"].as_str().unwrap()).collect();
        assert_eq!(names[1..], ["laptop", "desk", "phone"], "{members:?}");
        assert!(members.iter().all(|member| member["role"] == "owner" && member["person"] == members[0]["person"]));
    }
}

#[test]
fn a_device_that_was_invited_by_an_invited_owner_is_let_in_by_all() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    let c = lab.device("phone");
    c.join(&b.invite(&["--role", "editor"]));
    c.write("from the phone", "1");
    agree(&[&a, &b, &c]);
    assert_eq!(a.read("from the phone"), "1");
    assert_eq!(c.space_status()["role"], "editor");
    // Who only edits can't let others in.
    let complaint = c.refused(1, &["invite", "Photos"]);
    assert!(complaint.contains("owner"), "{complaint}");
}
