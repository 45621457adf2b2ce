//! The tour of the README, as its reader types it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal};

use super::harness::until;

const README: &str = include_str!("../../../README.md");
const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// What ends what a line printed.
const MARK: &str = "=== line ";

/// The first block of shell below a heading.
fn block(heading: &str) -> &'static str {
    let below = README.split_once(&format!("\n## {heading}\n")).expect("the README has the heading").1;
    let block = below.split_once("```sh\n").expect("there is a block of shell").1;
    block.split_once("```").expect("the block ends").0
}

/// A command line, and what its comment says.
fn parts(line: &str) -> (&str, &str) {
    let (command, comment) = line.split_once(" # ").unwrap_or((line, ""));
    (command.trim_end(), comment.trim())
}

/// The shell that runs the tour, in a group of its own with the nodes that it starts; all of them go with it.
struct Shell(std::process::Child);

impl Drop for Shell {
    fn drop(&mut self) {
        // Whatever has ended by itself is not there any more.
        let _ = rustix::process::kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn the_tour_of_the_readme_does_what_its_comments_say() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("bin")).unwrap();
    std::os::unix::fs::symlink(PROGRAM, at("bin/zerocloud")).unwrap();

    let tour = block("A tour in two minutes");
    assert!(tour.contains("/tmp/tour/"), "{tour}");
    let lines: Vec<String> = tour.lines().map(|line| line.replace("/tmp/tour", dir.path().to_str().unwrap())).collect();
    let mut script = String::from("set -eu -o pipefail\n");
    for (index, line) in lines.iter().enumerate() {
        script.push_str(&format!("{line}\necho '{MARK}{index}'\n"));
    }
    script.push_str("wait\n");
    let path = std::env::var("PATH").unwrap_or_default();
    let out = std::fs::File::create(at("out")).unwrap();
    let err = std::fs::File::create(at("err")).unwrap();
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).env("PATH", format!("{}:{path}", at("bin").display())).env_remove("ZEROCLOUD_HOME");
    let child = bash.process_group(0).stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
    let mut shell = Shell(child);
    let mut status = None;
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    until("the tour ends", || {
        status = shell.0.try_wait().unwrap();
        status.is_some()
    });
    let (out, err) = (read(&at("out")), read(&at("err")));
    assert!(status.unwrap().success(), "{out}{err}");

    // What each line printed, under what its comment says.
    let mut rest = out.as_str();
    let printed: Vec<(&str, &str)> = (0..lines.len())
        .map(|index| {
            let (text, after) =
                rest.split_once(&format!("{MARK}{index}\n")).unwrap_or_else(|| panic!("{index}: {out}"));
            rest = after;
            (parts(&lines[index]).1, text)
        })
        .collect();
    let of = |comment: &str| {
        let found = printed.iter().find(|(said, _)| *said == comment);
        found.unwrap_or_else(|| panic!("no line of the tour says `{comment}`")).1
    };
    assert_eq!(of("hello"), "hello\n");
    let status = of("what goes on, who is connected");
    assert!(status.contains("Photos  in sync") && status.contains("direct"), "{status}");
    let history = of("who wrote which version");
    assert!(history.lines().count() >= 2, "{history}");
    assert_eq!(of("the version before, as an edit of now").lines().count(), 1);
    assert_eq!(read(&at("anna/hello.txt")), "hello\n", "Ben's line is gone by the restore: {out}");
}
