//! The mutation check of tests that stand for a threat: each fails where the check that it is about is off.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own mistakes may end it")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use zerocloud_crdt::mutation::{Mutation, VARIABLE};
use zerocloud_testnet::sim;
use zerocloud_testnet::threats::{TRIALS, Target};

/// After which a test that does not end counts as failed.
const PATIENCE: Duration = Duration::from_secs(180);
/// The same with a fault on: some wait for what the fault keeps from coming.
const FAULTY_PATIENCE: Duration = Duration::from_secs(60);

/// Builds the tests of a target with faults in them; gives the program.
fn build(target: Target) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--locked", "--offline", "--no-run", "--message-format=json", "--features", "mutations"])
        .args(target.arguments())
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{target:?} does not build with faults");
    let lines = String::from_utf8(output.stdout).unwrap();
    let built = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let tests = built.filter(|line| line["profile"]["test"] == true);
    let program = tests.filter_map(|line| line["executable"].as_str().map(PathBuf::from)).next_back();
    program.unwrap_or_else(|| panic!("cargo does not say where {target:?} is"))
}

/// Whether a test passes with a fault on; with its name, it is run and no other.
fn passes(program: &Path, test: &str, fault: Option<Mutation>) -> bool {
    let mut command = Command::new(program);
    command.args(["--exact", test]).stdout(Stdio::piped()).stderr(Stdio::null());
    // Where cargo runs it.
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    match fault {
        Some(fault) => command.env(VARIABLE, fault.name()),
        None => command.env_remove(VARIABLE),
    };
    let mut child = command.spawn().unwrap();
    let (begun, patience) = (Instant::now(), if fault.is_some() { FAULTY_PATIENCE } else { PATIENCE });
    while begun.elapsed() < patience {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut said).unwrap();
            assert!(said.contains("running 1 test"), "there is no {test}: {said}");
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

/// One test for all, because each target is built once.
#[test]
fn each_test_of_a_threat_fails_where_its_check_is_off() {
    let programs: BTreeMap<Target, PathBuf> = Target::ALL.into_iter().map(|target| (target, build(target))).collect();
    let mut wrong = Vec::new();
    for trial in TRIALS {
        let program = &programs[&trial.target];
        if !passes(program, trial.test, None) {
            wrong.push(format!("{} fails without a fault", trial.test));
        }
        if passes(program, trial.test, Some(trial.mutation)) {
            wrong.push(format!("{} passes with the fault {}", trial.test, trial.mutation.name()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn every_fault_is_tried_once_by_the_simulator_or_by_a_test_of_a_threat() {
    let by_simulator = sim::mutation::TRIALS.iter().map(|trial| trial.mutation);
    let tried: Vec<Mutation> = by_simulator.chain(TRIALS.iter().map(|trial| trial.mutation)).collect();
    let all: BTreeSet<Mutation> = Mutation::ALL.iter().copied().collect();
    assert_eq!(tried.iter().copied().collect::<BTreeSet<_>>(), all);
    assert_eq!(tried.len(), all.len(), "a fault is in one list");
    for row in ["12", "17", "19", "20", "26", "29", "35", "36", "42", "44", "45", "46", "47", "58"] {
        assert!(TRIALS.iter().any(|trial| trial.row() == row), "threat {row} has no fault");
    }
}
