//! Whole devices in one process, over simulated disks, clocks and links: whatever users do and whatever breaks, all
//! devices come to one tree, and nothing is lost. A longer run: `cargo run --release -p zerocloud-testnet -- sim`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's own mistakes may end it")]

use clap::{Parser, ValueEnum};
use zerocloud_testnet::sim::churn;
use zerocloud_testnet::sim::faults::Fault;
use zerocloud_testnet::sim::runner::{Broken, Effort, Tally, run, run_one};
use zerocloud_testnet::sim::scenario::{Scenario, Selection};
use zerocloud_testnet::sim::story::Story;

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    selection: Selection,
}

fn selection(options: &str) -> Selection {
    Line::try_parse_from(options.split_whitespace()).unwrap().selection
}

/// Plays what the options of `sim` select; what happened, counted.
fn play(options: &str) -> Tally {
    // A run takes a second. One that takes as long as this does not end.
    let effort = Effort { jobs: None, failures: 1, patience: 600, trials: 400 };
    let report = run(&selection(options), &effort);
    if let Some(failure) = report.failures.first() {
        panic!("{failure}");
    }
    report.tally
}

#[test]
fn devices_become_the_same_whatever_users_do_at_once() {
    let tally = play("--seeds 50 --manner at-once --faults cuts,watchers --length 250");
    assert!(tally.copy_count > 0, "no history met a conflict");
}

/// The whole day: `cargo run --release -p zerocloud-testnet -- churn`.
#[test]
fn hours_of_coming_and_going_leave_nothing_behind() {
    let hours = churn::run(&churn::Wanted { hours: 8, seed: 0 }).unwrap_or_else(|broken| panic!("{broken:?}"));
    let acts: Vec<u64> = hours.iter().map(|hour| hour.acts).collect();
    let (busy, idle): (Vec<_>, Vec<_>) = acts.iter().enumerate().partition(|(hour, _)| hour % 4 < 3);
    assert!(busy.iter().all(|(_, acts)| **acts > 10) && idle.iter().all(|(_, acts)| **acts == 0), "{acts:?}");
    assert!(hours.last().is_some_and(|hour| hour.versions > 0), "no peer replaced anything");
}

#[test]
fn texts_that_two_changed_become_one_and_keep_every_line() {
    let tally = play("--seeds 50 --manner at-once --faults cuts,partitions,merges --length 250");
    assert!(tally.merge_count > 10, "hardly any history merged two texts");
}

#[test]
fn one_user_at_a_time_sees_nothing_but_his_own_acts() {
    assert!(play("--seeds 30 --manner one-by-one --faults none").act_count > 300);
}

#[test]
fn where_one_user_acts_nothing_but_his_acts_shows_whatever_breaks() {
    let faults = "kills,full-disks,lost-disks,cuts,partitions,clocks,watchers,coarse-times,unmounted,interruptions";
    assert!(play(&format!("--seeds 30 --manner one-writer --faults {faults} --length 250")).act_count > 1_000);
}

#[test]
fn nothing_is_lost_wherever_processes_stop_and_disks_fail() {
    let tally = play("--seeds 90 --manner at-once --faults all --length 250");
    assert!(tally.crash_count > 0, "no process stopped");
    assert!(tally.lost_count > 0, "no power loss took the bytes of a file that a device knew");
}

#[test]
fn nothing_is_lost_whatever_a_seed_draws() {
    assert!(play("--seeds 60 --first-seed 1000").act_count > 1_000);
}

#[test]
fn nothing_is_lost_to_any_one_class_of_faults() {
    for fault in Fault::value_variants() {
        let name = fault.to_possible_value().unwrap().get_name().to_owned();
        assert!(play(&format!("--seeds 4 --manner at-once --faults {name} --length 120")).act_count > 0);
    }
}

#[test]
fn what_once_broke_a_promise_keeps_it() {
    for line in include_str!("../regressions.txt").lines() {
        let (options, _) = line.split_once('#').unwrap_or((line, ""));
        if !options.trim().is_empty() {
            play(options);
        }
    }
}

#[test]
fn one_scenario_gives_one_story() {
    let scenario = Scenario::new(7, &selection("--faults all --length 200"));
    let tell = || {
        let story = Story::kept();
        let outcome: Result<Tally, Broken> = run_one(&scenario, &story);
        (outcome, story.lines())
    };
    let (first, second) = (tell(), tell());
    assert!(first.1.len() > 100);
    assert_eq!(first, second);
}
