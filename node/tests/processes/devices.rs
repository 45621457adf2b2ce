//! More than two devices.

use super::harness::{Lab, agree_through, conflict_copies, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

#[test]
fn three_devices_keep_a_folder_the_same_through_the_one_that_invited_them() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    a.write("from the laptop", "1");
    let mut c = lab.device("phone");
    c.join(&a.invite(&["--me"]));
    agree_through(&a, &[&b, &c]);

    b.write("from the desk", "2");
    c.write("from the phone", "3");
    agree_through(&a, &[&b, &c]);
    assert_eq!(c.tree().paths(), ["from the desk", "from the laptop", "from the phone"]);

    // The laptop has told them where the other is.
    for device in [&b, &c] {
        until(&format!("{} is connected with both others", device.name()), || device.connected_count() == 2);
    }
    assert_eq!(a.stop().0.code(), Some(0));
    b.write("from the phone", "3, edited on the desk");
    until("an edit on the desk is on the phone", || c.read("from the phone") == "3, edited on the desk");
    // They kept it for the next start.
    b.stop();
    c.stop();
    b.start();
    c.start();
    std::fs::remove_file(c.at("from the desk")).unwrap();
    until("a deletion on the phone is on the desk", || !b.at("from the desk").exists());
    a.start();
    agree_through(&a, &[&b, &c]);
    assert_eq!(c.read("from the phone"), "3, edited on the desk");
    assert_eq!(b.tree().paths(), ["from the laptop", "from the phone"]);
    assert_eq!(conflict_copies(&a), Vec::<String>::new());

    for device in [&a, &b, &c] {
        let members = device.ask(&["member", "ls", "Photos"]);
        let members = members["members"].as_array().unwrap();
        assert_eq!(members.len(), 4, "three devices and the recovery key: {members:?}");
        assert!(members.iter().all(|member| member["role"] == "owner" && member["person"] == members[0]["person"]));
        let ours: Vec<_> = members.iter().filter(|member| member["is_this_device"] == true).collect();
        assert_eq!((ours.len(), &ours[0]["name"]), (1, &device.name().into()));
    }
}

#[test]
fn a_device_that_an_invited_owner_invites_is_let_in_by_all() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    let c = lab.device("phone");
    c.join(&b.invite(&["--role", "editor"]));
    c.write("from the phone", "1");
    agree_through(&b, &[&a, &c]);
    assert_eq!(a.read("from the phone"), "1");
    assert_eq!(c.space_status()["role"], "editor");
    let members = a.ask(&["member", "ls", "Photos"]);
    let members = members["members"].as_array().unwrap();
    assert_ne!(members[3]["person"], members[0]["person"], "another person: {members:?}");
    // Who only edits can't let others in.
    let complaint = c.refused(1, &["invite", "Photos"]);
    assert!(complaint.contains("owner"), "{complaint}");
}
