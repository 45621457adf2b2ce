//! What one device leaves out.

use super::harness::{Lab, agree, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

#[test]
fn a_device_leaves_a_folder_out_makes_room_and_takes_it_in_again_and_nothing_is_deleted_elsewhere() {
    let lab = Lab::new(PROGRAM);
    let (a, mut b) = lab.pair();
    for n in 0..20 {
        a.write(&format!("raw/{}/{n}", n % 3), format!("photo {n}"));
    }
    a.write("list", "list");
    agree(&[&a, &b]);
    let all = a.tree();
    assert!(b.run(&["select", "Photos"]).contains("All of Photos"));
    let said = b.refused(2, &["select", "Photos", "--without", "raw/", "--without", "[z-a]"]);
    assert!(said.contains("`[z-a]` is no pattern"), "{said}");
    let said = b.run(&["select", "Photos", "--without", "raw/"]);
    assert!(said.contains("  raw/\n"), "{said}");
    assert_eq!(b.space_status()["left_out"], 0, "what is here stays");

    // Killed at once, what goes while no node looks is no deletion either.
    b.kill();
    std::fs::remove_dir_all(b.at("raw/0")).unwrap();
    b.start();
    until("the desk knows what it leaves out", || b.space_status()["left_out"] == 7);
    std::fs::remove_dir_all(b.at("raw")).unwrap();
    until("the desk leaves all of it out", || b.space_status()["left_out"] == 20);
    a.write("list", "list 2");
    until("the desk goes on", || b.read("list") == "list 2");
    b.run(&["sync", "--wait", "--timeout", "60s"]);
    a.run(&["sync", "--wait", "--timeout", "60s"]);
    assert_eq!((a.tree().file_count(), b.tree().file_count()), (21, 1));
    let status = b.space_status();
    assert_eq!((&status["state"], &status["problems"]), (&"idle".into(), &serde_json::json!([])));
    let said = b.run(&["status"]);
    assert!(said.contains("20 files are left out on this device: zerocloud select Photos"), "{said}");
    assert_eq!(b.ask(&["select", "Photos"]), serde_json::json!({"space": "Photos", "without": ["raw/"]}));
    assert!(b.run(&["ls", "Photos/raw/0"]).contains("18"), "the index still knows them");

    a.write("list", "list");
    b.run(&["select", "Photos", "--all"]);
    agree(&[&a, &b]);
    b.tree().assert_same("desk", &all, "laptop before");
    assert_eq!(b.space_status()["left_out"], 0);
}
