//! The mutation check: whatever promise of the engine is broken on purpose, the simulator finds it. The table of
//! `docs/simulator.md` says how.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own mistakes may end it")]

use std::collections::BTreeSet;

use zerocloud_crdt::mutation::Mutation;
use zerocloud_testnet::sim::mutation::{Finding, TRIALS, Trial, table};
use zerocloud_testnet::threats;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/simulator.md");
/// What stands before the table.
const BEGIN: &str = "writes it anew.\n\n";

/// What is stated of each fault: without where it was found, which changes with the simulator.
fn stated(table: &str) -> Vec<String> {
    table.lines().map(|line| line.rsplitn(4, " | ").last().unwrap_or_default().to_owned()).collect()
}

/// One test for all, because a process has one fault at a time.
#[test]
fn the_simulator_finds_every_deliberate_fault() {
    let tried: BTreeSet<Mutation> = TRIALS.iter().map(|trial| trial.mutation).collect();
    assert_eq!(tried.len(), TRIALS.len(), "a fault is tried once");
    // That every other fault is tried by a test of a threat is said in `threats.rs`.
    let by_others: BTreeSet<Mutation> = threats::TRIALS.iter().map(|trial| trial.mutation).collect();
    assert_eq!(&tried | &by_others, Mutation::ALL.iter().copied().collect(), "every fault is tried");
    assert!(tried.len() >= 25, "fewer faults than were promised");

    let found: Vec<(&Trial, Option<Finding>)> =
        TRIALS.iter().map(|trial| (trial, trial.find_again().unwrap())).collect();
    let missed: Vec<&str> = found.iter().filter(|(_, f)| f.is_none()).map(|(trial, _)| trial.mutation.name()).collect();
    assert_eq!(missed, Vec::<&str>::new(), "no run of those that each is given finds these");
    let found: Vec<(&Trial, Finding)> = found.into_iter().filter_map(|(trial, f)| Some((trial, f?))).collect();
    for (trial, finding) in &found {
        let Finding { seed, broken } = finding;
        assert!(finding.rule().is_some(), "{}, seed {seed}: {broken:?} is no rule's", trial.mutation.name());
    }

    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, told) = page.split_once(BEGIN).expect("the page has a place for the table");
    let is = table(found.iter().map(|(trial, finding)| (*trial, finding)));
    if std::env::var_os("ZEROCLOUD_UPDATE_DOCS").is_some() {
        std::fs::write(PAGE, format!("{before}{BEGIN}{is}")).unwrap();
    } else {
        assert_eq!(stated(told), stated(&is), "docs/simulator.md is not so; ZEROCLOUD_UPDATE_DOCS=1 writes it anew");
    }
}
