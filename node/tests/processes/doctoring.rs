//! What `doctor` finds on real disks.

use serde_json::Value;

use super::harness::{Device, Lab, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// What was found under a name; also where something is so wrong that the command fails.
fn check(device: &Device, name: &str) -> Value {
    let said = device.say(["doctor", "--json"]);
    let answer: Value = serde_json::from_str(&said.stdout).unwrap();
    let checks = answer["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["name"] == name);
    check.unwrap_or_else(|| panic!("nothing is called {name}: {answer}")).clone()
}

#[test]
fn the_clock_is_compared_with_what_is_here_and_what_members_said() {
    let lab = Lab::new(PROGRAM);
    let (a, _b) = lab.pair();
    let expected = "plausible (compared with files written now, times noted before, what members said)";
    until("the clock was compared with all there is", || check(&a, "clock")["found"] == expected);
    assert_eq!(a.space_status()["problems"], serde_json::json!([]), "looking leaves nothing behind");
}

#[test]
fn another_home_on_the_folder_is_found() {
    let lab = Lab::new(PROGRAM);
    let mut a = lab.device("laptop");
    a.add_space();
    a.stop();
    let copied = std::process::Command::new("cp").arg("-a").arg(a.home()).arg(lab.path().join("copy.home")).status();
    assert!(copied.unwrap().success());
    a.start();
    assert_eq!(check(&a, "Photos: home")["level"], "ok");
    let copy = lab.device("copy");
    until("the copy has opened the folder", || check(&a, "Photos: home")["level"] == "error");
    let found = check(&a, "Photos: home");
    assert!(found["advice"].as_str().unwrap().contains("a folder of its own"), "{found}");
    drop(copy);
}

#[test]
fn the_folder_of_another_space_inside_is_found() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = (lab.device("laptop"), lab.device("desk"));
    a.add_space();
    assert_eq!(check(&a, "Photos: folder")["level"], "ok", "also before it was ever opened");
    until("its folder has a marker", || a.at(".zerocloud/marker").exists());
    assert_eq!(check(&a, "Photos: neighbours")["level"], "ok");
    // Another home: only the marker tells of it.
    let inner = a.at("albums/of ben");
    b.run(&["space", "add", inner.to_str().unwrap(), "--name", "Inner"]);
    until("its folder has a marker", || inner.join(".zerocloud/marker").exists());
    for (device, name, how) in [(&a, "Photos: neighbours", "lies in it"), (&b, "Inner: neighbours", "it lies in")] {
        let found = check(device, name);
        assert!(found["level"] == "error" && found["found"].as_str().unwrap().contains(how), "{found}");
    }
}
