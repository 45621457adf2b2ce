//! The units in `deploy/systemd`: understood by systemd, and closed as far as it says.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's helpers fail as the test does, and say what did not run"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Each unit, who runs it, and its greatest exposure in tenths as `systemd-analyze security` counts it: 0 is closed, 100
/// open.
const UNITS: [(&str, Manager, u32); 2] =
    [("zerocloud.service", Manager::User, 60), ("zerocloud@.service", Manager::System, 20)];

/// Who runs a unit: a user's manager knows other places, and units of its own.
#[derive(Clone, Copy)]
enum Manager {
    User,
    System,
}

impl Manager {
    const fn option(self) -> &'static str {
        match self {
            Self::User => "--user",
            Self::System => "--system",
        }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/systemd")
}

/// `None`, and a loud word, where the tool or one of its verbs is missing.
fn analyze(arguments: &[&str]) -> Option<Output> {
    // A user's manager has a directory at run time, which who runs this may have none of.
    let runtime = tempfile::tempdir().unwrap();
    let output = Command::new("systemd-analyze").args(arguments).env("XDG_RUNTIME_DIR", runtime.path()).output().ok();
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
    for (unit, manager, _) in UNITS {
        let path = installed(dir.path(), unit);
        let verify = |path: &Path| analyze(&[manager.option(), "verify", path.to_str().unwrap()]);
        let ours = |output: &Output| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            said.lines().filter(|line| line.contains("zerocloud")).map(str::to_owned).collect::<Vec<_>>()
        };
        let Some(output) = verify(&path) else { return };
        assert!(output.status.success() && ours(&output).is_empty(), "{unit}: {output:?}");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("[Service]\n", "[Service]\nRestrictEverything=yes\n")).unwrap();
        let is_told = verify(&path).is_some_and(|output| ours(&output).iter().any(|line| line.contains("Everything")));
        assert!(is_told, "every line is looked at");
    }
}

#[test]
fn the_units_leave_little_open() {
    let dir = tempfile::tempdir().unwrap();
    // A user's manager does not say how open its units are; what they name is weighed alike.
    for (unit, _, most) in UNITS {
        let path = installed(dir.path(), unit);
        let path = path.to_str().unwrap();
        let threshold = |most: u32| analyze(&["security", "--offline=true", &format!("--threshold={most}"), path]);
        let Some(output) = threshold(most) else { return };
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{unit}: {told}{}", String::from_utf8_lossy(&output.stderr));
        assert!(threshold(0).is_some_and(|output| !output.status.success()), "the threshold is looked at");
    }
}
