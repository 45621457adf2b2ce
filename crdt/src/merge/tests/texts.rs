//! What becomes of two changes of one text.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{NotMerged, merge, text};
use crate::limits::{MERGE_EDIT_COUNT_MAX, MERGE_LINE_COUNT_MAX, MERGE_TEXT_LEN_MAX};

fn merged(ancestor: &str, a: &str, b: &str) -> Result<String, NotMerged> {
    let made = merge(ancestor.as_bytes(), a.as_bytes(), b.as_bytes());
    assert_eq!(made, merge(ancestor.as_bytes(), b.as_bytes(), a.as_bytes()), "{ancestor:?} {a:?} {b:?}");
    made.map(|bytes| String::from_utf8(bytes).unwrap())
}

#[test]
fn edits_of_different_lines_are_both_there() {
    for (ancestor, a, b, expected) in [
        ("1\n2\n3\n", "one\n2\n3\n", "1\n2\nthree\n", "one\n2\nthree\n"),
        ("1\n2\n3\n", "0\n1\n2\n3\n", "1\n2\n3\n4\n", "0\n1\n2\n3\n4\n"),
        ("1\n2\n3\n", "2\n3\n", "1\n2\n", "2\n"),
        ("1\n2\n3\n4\n5\n", "1\n2\n3\n", "1\n2 and\nmore\n3\n4\n5\n", "1\n2 and\nmore\n3\n"),
        ("1\n2\n3\n", "1\n2\n3\n", "1\n3\n", "1\n3\n"),
        ("1\n2\n3\n", "x\n2\n3\n", "x\n2\nz\n", "x\n2\nz\n"),
        ("1\n2\n3\n", "x\n", "x\n", "x\n"),
        ("", "x\n", "", "x\n"),
        ("x", "", "x", ""),
    ] {
        assert_eq!(merged(ancestor, a, b).as_deref(), Ok(expected), "{ancestor:?} {a:?} {b:?}");
    }
}

#[test]
fn edits_of_the_same_lines_or_of_neighbours_are_not_merged() {
    for (ancestor, a, b) in [
        ("1\n2\n3\n", "1\nx\n3\n", "1\ny\n3\n"),
        ("1\n2\n3\n", "x\n2\n3\n", "1\ny\n3\n"),
        ("1\n2\n", "1\n2\nx\n", "1\n2\ny\n"),
        ("1\n2\n", "1\nx\n2\n", "1\n"),
        ("", "x\n", "y\n"),
        ("1\n2\n3\n", "", "1\n2\nx\n"),
    ] {
        assert_eq!(merged(ancestor, a, b), Err(NotMerged::Overlap), "{ancestor:?} {a:?} {b:?}");
    }
}

#[test]
fn line_ends_and_a_missing_last_one_stay_as_they_are() {
    assert_eq!(merged("1\r\n2\n3", "one\r\n2\n3", "1\r\n2\nthree").unwrap(), "one\r\n2\nthree");
    assert_eq!(merged("1\n2\n3", "one\n2\n3", "1\n2\n3\n").unwrap(), "one\n2\n3\n");
    assert_eq!(merged("1\n2\n3", "1\n2\n3\n4", "one\n2\n3").unwrap(), "one\n2\n3\n4");
    assert_eq!(merged("1\n2\n3\n", "1\n2\n3", "one\n2\n3\n").unwrap(), "one\n2\n3");
    // Other line ends everywhere are another line everywhere.
    assert_eq!(merged("1\n2\n3\n", "1\r\n2\r\n3\r\n", "one\n2\n3\n"), Err(NotMerged::Overlap));
    assert_eq!(merged("1\n2\n3\n", "1\r\n2\r\n3\r\n", "1\n2\n3\n").unwrap(), "1\r\n2\r\n3\r\n");
}

#[test]
fn what_is_no_text_or_too_much_is_not_merged() {
    assert_eq!(merge(b"1\n\0", b"1\n\0", b"2\n\0"), Err(NotMerged::NotText));
    assert_eq!(merge(b"1\n", b"\xff\n", b"1\n"), Err(NotMerged::NotText));
    assert_eq!(text("ä\u{feff}\r\n".as_bytes()), Some("ä\u{feff}\r\n"));
    assert!(text(&vec![b'a'; MERGE_TEXT_LEN_MAX]).is_some());
    assert!(text(&vec![b'a'; MERGE_TEXT_LEN_MAX + 1]).is_none());
    let many = "\n".repeat(MERGE_LINE_COUNT_MAX + 1);
    assert_eq!(merged("1\n", &many, "1\n"), Err(NotMerged::TooMuch));
    let other = |n: usize| (0..n).map(|n| format!("{n}\n")).collect::<String>();
    let added = MERGE_EDIT_COUNT_MAX - 1;
    assert_eq!(merged("1.\n", &other(added), "1.\n").unwrap(), other(added));
    assert_eq!(merged("1.\n", &other(added + 1), "1.\n"), Err(NotMerged::TooMuch));
}

/// Texts of a few different lines, so that many are the same.
fn texts() -> impl Strategy<Value = String> {
    (vec("[a-c]\n", 0..8), "[a-c]?").prop_map(|(lines, last)| lines.concat() + &last)
}

/// A text of different lines, and what two sides do to lines that are no neighbours: the number of the line, which
/// side, and what comes in its place.
fn apart() -> impl Strategy<Value = (usize, Vec<(usize, bool, Vec<String>)>)> {
    (1..30_usize).prop_flat_map(|count| {
        let edits = vec((any::<bool>(), any::<bool>(), vec("[x-z]{3}\n", 0..3)), count.div_ceil(2));
        let apart = |edits: Vec<(bool, bool, Vec<String>)>| {
            let edits = edits.into_iter().enumerate().filter(|(_, (is_one, ..))| *is_one);
            edits.map(|(n, (_, is_a, lines))| (2 * n, is_a, lines)).collect()
        };
        (Just(count), edits.prop_map(apart))
    })
}

proptest! {
    #[test]
    fn edits_apart_are_all_there((count, edits) in apart()) {
        let with = |which: &dyn Fn(bool) -> bool| -> String {
            let line = |n| match edits.iter().find(|(at, is_a, _)| *at == n && which(*is_a)) {
                Some((.., lines)) => lines.concat(),
                None => format!("line {n}\n"),
            };
            (0..count).map(line).collect()
        };
        let (ancestor, a, b, both) = (with(&|_| false), with(&|is_a| is_a), with(&|is_a| !is_a), with(&|_| true));
        prop_assert_eq!(merged(&ancestor, &a, &b).unwrap(), both);
    }

    #[test]
    fn a_side_that_did_nothing_leaves_the_other(ancestor in texts(), a in texts()) {
        prop_assert_eq!(merged(&ancestor, &a, &ancestor).unwrap(), a.clone());
        prop_assert_eq!(merged(&ancestor, &a, &a).unwrap(), a);
    }

    #[test]
    fn no_line_is_lost_that_only_one_side_touched(ancestor in texts(), a in texts(), b in texts()) {
        let Ok(both) = merged(&ancestor, &a, &b) else { return Ok(()) };
        let lines = |text: &str| -> BTreeSet<String> { text.split_inclusive('\n').map(str::to_owned).collect() };
        let (ancestor, a, b, both) = (lines(&ancestor), lines(&a), lines(&b), lines(&both));
        prop_assert!(a.difference(&ancestor).all(|line| both.contains(line)));
        prop_assert!(b.difference(&ancestor).all(|line| both.contains(line)));
        prop_assert!(both.iter().all(|line| a.contains(line) || b.contains(line)));
        let kept = ancestor.iter().filter(|line| a.contains(*line) && b.contains(*line));
        prop_assert!(kept.count() <= both.len());
    }

    #[test]
    fn any_bytes_are_merged_or_refused(all in vec(vec(any::<u8>(), 0..40), 3)) {
        drop(merge(&all[0], &all[1], &all[2]));
    }
}
