//! What size costs, measured in small: each tool once, on real nodes. In large: `cargo run --release -p zerocloud-testnet --
//! large --help` and `ten --help`; docs/large.md tells of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's own mistakes may end it")]

mod program;

use std::io::Write;

use program::program;
use zerocloud_testnet::large::{self, Measured, TreeWanted, report};
use zerocloud_testnet::{ten, trees};

/// Says something also when the test passes: the macros are heard only when it fails.
fn say(what: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

#[test]
fn a_file_reaches_nine_from_one_that_sends_it_less_than_three_times() {
    let work = tempfile::tempdir().unwrap();
    let report = ten::run(&program(), work.path(), 64 << 20, 20);
    say(&report);
    assert!(report.copies() >= 0.99, "it came from somewhere: {report}");
    assert!(report.copies() < 3.0, "the others serve each other: {report}");
    assert!(report.passed_len.iter().sum::<u64>() > 5 * report.len, "{report}");
}

#[test]
fn a_tree_is_measured_at_each_step() {
    let work = tempfile::tempdir().unwrap();
    let tree = trees::Wanted { files: 500, dirs: Some(20), seed: 1, flat: false };
    let measured = large::measure_tree(&program(), work.path(), &TreeWanted { tree, edit_count: 5 }).unwrap();
    assert_eq!((measured.file_count, measured.directory_count, measured.edit_ms.len()), (500, 20, 5));
    for step in &measured.steps {
        for cost in &step.costs {
            assert!(cost.resident_len > 1 << 20 && cost.peak_len >= cost.anonymous_len, "{}: {cost:?}", step.name);
            assert!(cost.home_len > 0 && cost.thread_count > 1 && cost.handle_count > 3, "{}: {cost:?}", step.name);
        }
    }
    let table = report::table(&[Measured::Tree(measured)]);
    assert!(!table.contains("|  |  |"), "all rows have a value: {table}");
    assert!(
        large::measure_tree(
            &program(),
            work.path(),
            &TreeWanted { tree: trees::Wanted { files: 1, dirs: None, seed: 1, flat: true }, edit_count: 1 }
        )
        .is_err()
    );
}

#[test]
fn a_file_of_holes_stays_one_on_the_other_device() {
    let work = tempfile::tempdir().unwrap();
    let wanted = trees::Sparse { len_mib: 512, data_mib: 5, seed: 1 };
    let measured = large::measure_sparse(&program(), work.path(), &wanted).unwrap();
    assert!(measured.copy_allocated_len <= measured.allocated_len + (1 << 20), "{measured:?}");
}
