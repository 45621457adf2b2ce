//! Real nodes on real disks, killed at any moment: a few rounds. A longer run:
//! `cargo run --release -p zerocloud-testnet -- rounds`; docs/rounds.md tells of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's own mistakes may end it")]

mod program;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use program::program;
use zerocloud_testnet::rounds::{VolumeKind, VolumeKinds, Wanted, run};

const ROUND_COUNT: u64 = 3;

/// Plays some rounds on one kind of volume; where it can't be made, one line says so.
fn play(kind: VolumeKind) {
    let wanted =
        Wanted { rounds: ROUND_COUNT, first_seed: 0, volume: VolumeKinds(vec![kind]), zerocloud_bin: Some(program()) };
    let report = run(&wanted);
    if let Some(failure) = report.failure {
        panic!("{failure}");
    }
    for (kind, error) in &report.skipped {
        // Not by the macros: what they print is shown only when a test fails.
        let _ = writeln!(std::io::stderr(), "NOT RUN: rounds on {kind}: {error}");
    }
    for played in &report.played {
        assert_eq!(played.tally.round_count, ROUND_COUNT);
        assert!(played.tally.act_count > 0, "nobody acted");
    }
    assert_eq!(report.played.len() + report.skipped.len(), 1);
}

#[test]
fn nothing_is_lost_where_nodes_are_killed() {
    play(VolumeKind::Ext4);
}

#[test]
fn nothing_is_lost_where_the_disk_is_full_now_and_then() {
    play(VolumeKind::Tmpfs);
}

#[test]
fn nothing_is_lost_where_names_fold() {
    play(VolumeKind::Folding);
}

#[test]
fn a_node_that_loses_a_file_is_found_out() {
    let directory = tempfile::tempdir().unwrap();
    let (loser, program) = (directory.path().join("loser"), program());
    let script = format!(
        r#"#!/bin/sh
        if [ "$3" = start ]; then
            find "${{2%.home}}" -name .zerocloud -prune -o -type f -print | head -n 1 | xargs -d '\n' -r rm
        fi
        exec {} "$@"
        "#,
        program.display()
    );
    std::fs::write(&loser, script).unwrap();
    std::fs::set_permissions(&loser, std::fs::Permissions::from_mode(0o755)).unwrap();
    let volume = VolumeKinds(vec![VolumeKind::Ext4]);
    let wanted = Wanted { rounds: ROUND_COUNT, first_seed: 0, volume, zerocloud_bin: Some(loser) };
    let failure = run(&wanted).failure.expect("it was not found out");
    assert!(failure.to_string().contains("--volume ext4 --first-seed 0 --rounds "), "{failure}");
    assert!(failure.kept.join("laptop.home").is_dir(), "homes stay for a look");
    std::fs::remove_dir_all(failure.kept.parent().unwrap()).unwrap();
}
