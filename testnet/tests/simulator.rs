//! Whole devices in one process, over simulated disks, clocks and links: whatever users do and whatever breaks, all
//! devices come to one tree, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test's own mistakes may end it")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

use zerocloud_testnet::sim::world::{Trace, Weather, World};

/// A number from the surroundings.
fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a history over many seeds; a seed that fails says how to see it again, and when alone, what happened in it.
/// What each gives is added up.
fn run(name: &str, default_count: u64, history: impl Fn(u64, Trace) -> usize) -> usize {
    let count = variable("ZEROCLOUD_TEST_ROUNDS").unwrap_or(default_count);
    let first = variable("ZEROCLOUD_TEST_SEED").unwrap_or(0);
    let mut sum = 0;
    for seed in first..first + count {
        let trace = Trace::default();
        match catch_unwind(AssertUnwindSafe(|| history(seed, trace.clone()))) {
            Ok(number) => sum += number,
            Err(panic) => {
                if count == 1 {
                    let lines = trace.lock().unwrap_or_else(PoisonError::into_inner);
                    eprintln!("{}", lines.join("\n"));
                }
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
                panic!(
                    "seed {seed}: {text}\nreplay: ZEROCLOUD_TEST_SEED={seed} ZEROCLOUD_TEST_ROUNDS=1 cargo test -p \
                     zerocloud-testnet --test simulator {name}"
                );
            }
        }
    }
    assert!(count == 1 || sum > 0, "no history met what it is about: this tests nothing");
    sum
}

fn history(seed: u64, weather: Weather, trace: Trace) -> World {
    let mut world = World::new(seed, weather, trace);
    world.run(150);
    world.settle();
    world.run(100);
    world.settle();
    world.restart_all();
    world
}

#[test]
fn devices_become_the_same_whatever_users_do_at_once() {
    run("devices_become", 50, |seed, trace| history(seed, Weather::default(), trace).copy_count());
}

#[test]
fn one_user_at_a_time_sees_nothing_but_his_own_acts() {
    run("one_user", 30, |seed, trace| {
        let mut world = World::new(seed, Weather::default(), trace);
        world.run_one_by_one(8);
        world.restart_all();
        1
    });
}

/// Whatever breaks, as the seed says: at least one thing does.
fn storm(seed: u64) -> Weather {
    let has = |bit: u64| (seed + 1) >> bit & 1 == 1;
    Weather { kills: has(0) || !has(1), power_losses: has(1), full_disks: has(2), lost_disks: has(3), line: has(4) }
}

#[test]
fn nothing_is_lost_wherever_processes_stop_and_disks_fail() {
    let lost = std::cell::Cell::new(0);
    run("nothing_is_lost", 90, |seed, trace| {
        let world = history(seed, storm(seed), trace);
        lost.set(lost.get() + world.lost_count());
        world.crash_count()
    });
    let is_all = variable("ZEROCLOUD_TEST_SEED").is_none();
    assert!(!is_all || lost.get() > 0, "no power loss took the bytes of a file that a device knew");
}
