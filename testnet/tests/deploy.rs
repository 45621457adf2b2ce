//! The units in `deploy/systemd`: understood by systemd, and closed as far as it says.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's helpers fail as the test does, and say what did not run"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Each unit, and its greatest exposure in tenths as `systemd-analyze security` counts it: 0 is closed, 100 open.
const UNITS: [(&str, u32); 2] = [("zerocloud.service", 60), ("zerocloud@.service", 20)];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/systemd")
}

/// `None`, and a loud word, where the tool or one of its verbs is missing.
fn analyze(arguments: &[&str]) -> Option<Output> {
    let output = Command::new("systemd-analyze").args(arguments).output().ok();
    let is_unknown = |output: &Output| {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.contains("unrecognized option") || said.contains("Unknown command")
    };
    let output = output.filter(|output| !is_unknown(output));
    if output.is_none() {
        eprintln!("SKIPPED: no `systemd-analyze {}` here", arguments.join(" "));
    }
    output
}

/// The unit as an instance that runs a program which this machine has.
fn installed(dir: &Path, unit: &str) -> PathBuf {
    let text = std::fs::read_to_string(folder().join(unit)).unwrap();
    let started = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
    assert!(started.ends_with("/zerocloud start"), "{started}");
    let path = dir.join(unit.replace('@', "@daemon"));
    std::fs::write(&path, text.replace(started, "ExecStart=/bin/true")).unwrap();
    path
}

#[test]
fn systemd_understands_every_line_of_the_units() {
    let dir = tempfile::tempdir().unwrap();
    for (unit, _) in UNITS {
        let path = installed(dir.path(), unit);
        let Some(output) = analyze(&["verify", path.to_str().unwrap()]) else { return };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("zerocloud")).collect();
        assert!(output.status.success() && ours.is_empty(), "{unit}: {said}");
    }
}

#[test]
fn the_units_leave_little_open() {
    let dir = tempfile::tempdir().unwrap();
    for (unit, most) in UNITS {
        let path = installed(dir.path(), unit);
        let path = path.to_str().unwrap();
        let threshold = |most: u32| analyze(&["security", "--offline=true", &format!("--threshold={most}"), path]);
        let Some(output) = threshold(most) else { return };
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{unit}: {told}{}", String::from_utf8_lossy(&output.stderr));
        assert!(threshold(0).is_some_and(|output| !output.status.success()), "the threshold is looked at");
    }
}
