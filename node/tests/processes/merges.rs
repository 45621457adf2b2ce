//! Texts that were edited on two devices at the same time.

use super::harness::{Device, Lab, agree, assert_same, conflict_copies, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// Each writes its text while neither runs; then both run until they agree.
fn edit_apart([a, b]: [&mut Device; 2], edits: &[(&str, [&str; 2])]) {
    for device in [&mut *a, &mut *b] {
        assert_eq!(device.stop().0.code(), Some(0));
    }
    for (path, [by_a, by_b]) in edits {
        a.write(path, by_a);
        b.write(path, by_b);
    }
    a.start();
    b.start();
    agree(&[a, b]);
    assert_same(&[a, b]);
}

#[test]
fn edits_of_different_lines_become_one_text_and_edits_of_one_line_a_copy() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    let long = |from: &str, to: &str| {
        let lines = (0..20_000).map(|n| format!("line {n}\n")).collect::<String>();
        lines.replacen(from, to, 1)
    };
    a.write("apart.txt", "1\n2\n3\n");
    a.write("lists/long.txt", long("", ""));
    a.write("one line.txt", "1\n2\n3\n");
    a.write("binary", "1\n\0\n3\n");
    agree(&[&a, &b]);
    let (first, last) = (long("line 7\n", "line seven\n"), long("line 19999\n", ""));
    edit_apart(
        [&mut a, &mut b],
        &[
            ("apart.txt", ["one\n2\n3\n", "1\n2\nthree\nfour"]),
            ("lists/long.txt", [&first, &last]),
            ("one line.txt", ["1\ntwo\n3\n", "1\nzwei\n3\n"]),
            ("binary", ["one\n\0\n3\n", "1\n\0\nthree\n"]),
        ],
    );
    assert_eq!(b.read("apart.txt"), "one\n2\nthree\nfour");
    assert_eq!(b.read("lists/long.txt"), first.replacen("line 19999\n", "", 1));
    let copies = conflict_copies(&a);
    assert_eq!(copies.len(), 2, "{copies:?}");
    let of = |name: &str| copies.iter().find(|copy| copy.starts_with(name)).unwrap();
    let mut both = [a.read("one line.txt"), a.read(of("one line"))];
    both.sort();
    assert_eq!(both, ["1\ntwo\n3\n", "1\nzwei\n3\n"]);
    let mut both = [a.read("binary"), a.read(of("binary"))];
    both.sort();
    assert_eq!(both, ["1\n\0\nthree\n", "one\n\0\n3\n"]);

    // What was merged is merged again, and edits while both run are as well.
    edit_apart([&mut a, &mut b], &[("apart.txt", ["uno\n2\nthree\nfour", "one\n2\nthree\nvier"])]);
    assert_eq!(a.read("apart.txt"), "uno\n2\nthree\nvier");
    assert_eq!(conflict_copies(&b).len(), 2);
    assert_eq!(a.space_status()["conflicts"], 2);
}

#[test]
fn what_was_saved_several_times_on_each_side_is_merged_by_what_both_had() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    a.write("notes", "1\n2\n3\n4\n5\n");
    agree(&[&a, &b]);
    for device in [&mut a, &mut b] {
        assert_eq!(device.stop().0.code(), Some(0));
    }
    for (device, saves) in [
        (&mut a, ["0\n1\n2\n3\n4\n5\n", "0\n1\nb\n3\n4\n5\n", "a\n1\n2\n3\n4\n5\n"]),
        (&mut b, ["1\n2\n3\n4\n", "1\n2\n3\n4\n6\n", "1\n2\n3\n4\nz\n"]),
    ] {
        // The other is off.
        device.start();
        for text in saves {
            device.write("notes", text);
            device.run(&["sync"]);
        }
        assert_eq!(device.stop().0.code(), Some(0));
    }
    a.start();
    b.start();
    agree(&[&a, &b]);
    assert_eq!(a.read("notes"), "a\n1\n2\n3\n4\nz\n");
    assert_eq!(conflict_copies(&a), Vec::<String>::new());
    assert_same(&[&a, &b]);
}

#[test]
fn who_does_not_want_merges_has_copies() {
    let lab = Lab::new(PROGRAM);
    for name in ["laptop", "desk"] {
        let home = lab.path().join(format!("{name}.home"));
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("config.toml"), format!("lan = false\nname = \"{name}\"\nmerge = false\n")).unwrap();
    }
    let (mut a, mut b) = lab.pair();
    a.write("notes.txt", "1\n2\n3\n");
    agree(&[&a, &b]);
    edit_apart([&mut a, &mut b], &[("notes.txt", ["one\n2\n3\n", "1\n2\nthree\n"])]);
    assert_eq!(conflict_copies(&a).len(), 1);
}

#[test]
fn nodes_that_are_killed_while_they_merge_have_merged_when_they_run_again() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    for round in 0..6 {
        let name = format!("note {round}.txt");
        a.write(&name, "1\n2\n3\n");
        agree(&[&a, &b]);
        for device in [&mut a, &mut b] {
            assert_eq!(device.stop().0.code(), Some(0));
        }
        a.write(&name, "one\n2\n3\n");
        b.write(&name, "1\n2\nthree\n");
        a.start();
        b.start();
        let begun = |device: &Device| {
            let file_count = device.tree().paths().len();
            file_count != round + 1 || device.read(&name) == "one\n2\nthree\n"
        };
        until("the edit of the other has come", || begun(&a) || begun(&b));
        // Both, the one, the other.
        for (device, is_spared) in [(&mut a, round % 3 == 1), (&mut b, round % 3 == 2)] {
            if !is_spared {
                device.kill();
                device.start();
            }
        }
        agree(&[&a, &b]);
        assert_eq!(a.read(&name), "one\n2\nthree\n");
        assert_eq!(conflict_copies(&a), Vec::<String>::new());
        assert_same(&[&a, &b]);
    }
}

#[test]
fn a_text_that_nobody_kept_when_it_came_is_kept_at_the_next_start() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    a.write("d/notes.txt", "1\n2\n3\n");
    agree(&[&a, &b]);
    // Before they came to it, most likely; where not, there is nothing to be done.
    a.kill();
    b.kill();
    a.start();
    b.start();
    agree(&[&a, &b]);
    edit_apart([&mut a, &mut b], &[("d/notes.txt", ["one\n2\n3\n", "1\n2\nthree\n"])]);
    assert_eq!(a.read("d/notes.txt"), "one\n2\nthree\n");
    assert_eq!(conflict_copies(&a), Vec::<String>::new());
}
