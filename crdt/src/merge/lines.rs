//! The three-way merge of texts, line by line (diff3; Khanna, Kunal and Pierce, FSTTCS 2007).
//!
//! Each side is compared with the ancestor (Myers, Algorithmica 1986), which gives hunks: lines of the ancestor, and
//! what the side has in their place. A merge has the hunks of both sides. Hunks of different sides that overlap or
//! touch are no clean merge, unless they are the same.
//!
//! Written here and not taken from a crate: what is asked is small, must be the same on all devices and in all
//! versions, must end soon whatever a member wrote, and must be pure. The crates that merge give conflict markers where
//! we want nothing, and bound neither time nor memory.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::limits::{MERGE_EDIT_COUNT_MAX, MERGE_LINE_COUNT_MAX, MERGE_TEXT_LEN_MAX};

/// Why two changes of a text are not merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotMerged {
    /// Not UTF-8, with a NUL byte, or above the bound.
    #[error("one of the three is not a text of at most {MERGE_TEXT_LEN_MAX} bytes")]
    NotText,
    /// So much that to merge it is guesswork.
    #[error("more was changed than is merged line by line")]
    TooMuch,
    /// Both sides changed the same lines, or lines side by side.
    #[error("both changed the same lines")]
    Overlap,
}

/// The text that `bytes` are, if they are one that may be merged: UTF-8 without a NUL byte, at most
/// [`MERGE_TEXT_LEN_MAX`] bytes.
pub fn text(bytes: &[u8]) -> Option<&str> {
    if bytes.len() > MERGE_TEXT_LEN_MAX || bytes.contains(&0) {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// Merges two changes of `ancestor`. Lines keep the ends that they have, and a text without a last one stays so. The
/// result is the same if `a` and `b` are exchanged.
///
/// # Errors
/// A variant of [`NotMerged`] for each reason.
pub fn merge(ancestor: &[u8], a: &[u8], b: &[u8]) -> Result<Vec<u8>, NotMerged> {
    let lines = |bytes| text(bytes).map(lines_of).ok_or(NotMerged::NotText);
    let (ancestor, a, b) = (lines(ancestor)?, lines(a)?, lines(b)?);
    let (of_a, mut of_b) = (hunks(&ancestor, &a)?, hunks(&ancestor, &b)?);
    if crate::mutated!(DroppedHunk) {
        of_b.pop();
    }
    let (mut of_a, mut of_b) = (of_a.iter().peekable(), of_b.iter().peekable());
    let mut merged = Merged::default();
    let mut at = 0;
    loop {
        let (from, hunk) = match (of_a.peek(), of_b.peek()) {
            (None, None) => break,
            (Some(in_a), Some(in_b)) if in_a.touches(in_b) => {
                let is_same = in_a.old == in_b.old && a.get(in_a.new.clone()) == b.get(in_b.new.clone());
                if !is_same {
                    return Err(NotMerged::Overlap);
                }
                of_b.next();
                (&a, of_a.next())
            }
            (Some(in_a), Some(in_b)) if in_b.old.start < in_a.old.start => (&b, of_b.next()),
            (Some(_), _) => (&a, of_a.next()),
            (None, Some(_)) => (&b, of_b.next()),
        };
        let Some(hunk) = hunk else { break };
        merged.push(ancestor.get(at..hunk.old.start))?;
        merged.push(from.get(hunk.new.clone()))?;
        at = hunk.old.end;
    }
    merged.push(ancestor.get(at..))?;
    Ok(merged.text.into_bytes())
}

/// A merge in the making.
#[derive(Default)]
struct Merged {
    text: String,
}

impl Merged {
    fn push(&mut self, lines: Option<&[&str]>) -> Result<(), NotMerged> {
        for line in lines.unwrap_or_default() {
            // Two lines would become one.
            if !self.text.is_empty() && !self.text.ends_with('\n') {
                return Err(NotMerged::Overlap);
            }
            self.text.push_str(line);
        }
        Ok(())
    }
}

fn lines_of(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Lines of the ancestor, and the lines of a side that stand in their place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hunk {
    old: Range<usize>,
    new: Range<usize>,
}

impl Hunk {
    /// Whether no line of the ancestor lies between the two.
    const fn touches(&self, other: &Self) -> bool {
        self.old.start <= other.old.end && other.old.start <= self.old.end
    }
}

/// How `new` differs from `old`: ascending, with lines that both have between any two.
fn hunks(old: &[&str], new: &[&str]) -> Result<Vec<Hunk>, NotMerged> {
    if old.len().max(new.len()) > MERGE_LINE_COUNT_MAX {
        return Err(NotMerged::TooMuch);
    }
    let before = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (old.get(before..).unwrap_or_default(), new.get(before..).unwrap_or_default());
    let after = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let (old, new) = (old.split_at(old.len() - after).0, new.split_at(new.len() - after).0);
    let (old_numbers, new_numbers) = numbered(old, new);
    let kept = kept(&old_numbers, &new_numbers).ok_or(NotMerged::TooMuch)?;
    let (mut hunks, mut at) = (Vec::new(), (0, 0));
    // The end stands for a line that both have.
    for (x, y) in kept.into_iter().chain([(old.len(), new.len())]) {
        if (x, y) != at {
            hunks.push(Hunk { old: before + at.0..before + x, new: before + at.1..before + y });
        }
        at = (x + 1, y + 1);
    }
    Ok(hunks)
}

/// A number for each line, the same for the same lines: they are compared often.
fn numbered(old: &[&str], new: &[&str]) -> (Vec<usize>, Vec<usize>) {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all: Vec<usize> = Vec::with_capacity(old.len() + new.len());
    for line in old.iter().chain(new) {
        let next = numbers.len();
        all.push(*numbers.entry(line).or_insert(next));
    }
    let of_new = all.split_off(old.len());
    (all, of_new)
}

/// How far one gets in `a` with so many edits, for each surplus of removed lines over added ones: -d, -d + 2, … d.
/// `None` where there is no way.
type Reach = Vec<Option<usize>>;

/// The pairs of lines that stay on a shortest way from `a` to `b`, ascending; `None` if the way is above
/// [`MERGE_EDIT_COUNT_MAX`] edits.
fn kept(a: &[usize], b: &[usize]) -> Option<Vec<(usize, usize)>> {
    let mut reaches: Vec<Reach> = Vec::new();
    for d in 0..=MERGE_EDIT_COUNT_MAX {
        let mut reach: Reach = Vec::with_capacity(d + 1);
        for i in 0..=d {
            let Some(Step { x, y, .. }) = step(reaches.last(), (a.len(), b.len()), d, i) else {
                reach.push(None);
                continue;
            };
            let rest = (a.get(x..).unwrap_or_default(), b.get(y..).unwrap_or_default());
            let x = x + rest.0.iter().zip(rest.1).take_while(|(a, b)| a == b).count();
            // The surplus of removed lines is i - (d - i).
            if x == a.len() && x + d == b.len() + 2 * i {
                reaches.push(reach);
                return Some(trace(&reaches, (a.len(), b.len()), i));
            }
            reach.push(Some(x));
        }
        reaches.push(reach);
    }
    None
}

/// One edit, before the lines that stay after it.
#[derive(Clone, Copy)]
struct Step {
    x: usize,
    y: usize,
    /// The place in the reach before from which it came.
    from: Option<usize>,
}

/// The edit that gets furthest at place `i` of the reach of `d` edits: a line of `a` removed, or one of `b` added.
fn step(before: Option<&Reach>, end: (usize, usize), d: usize, i: usize) -> Option<Step> {
    let Some(before) = before else { return Some(Step { x: 0, y: 0, from: None }) };
    let to = |from: usize, removed: usize| {
        let x = before.get(from).copied().flatten()? + removed;
        let y = (x + d).checked_sub(2 * i)?;
        (x <= end.0 && y <= end.1).then_some(Step { x, y, from: Some(from) })
    };
    let added = to(i, 0);
    let removed = i.checked_sub(1).and_then(|from| to(from, 1));
    added.into_iter().chain(removed).max_by_key(|step| step.x)
}

/// Walks back from the end, which was reached at place `i` of the last reach.
fn trace(reaches: &[Reach], end: (usize, usize), mut i: usize) -> Vec<(usize, usize)> {
    let mut kept = Vec::new();
    let (mut x, mut y) = end;
    for d in (0..reaches.len()).rev() {
        let before = d.checked_sub(1).and_then(|d| reaches.get(d));
        let Some(step) = step(before, end, d, i) else { break };
        while x > step.x && y > step.y {
            (x, y) = (x - 1, y - 1);
            kept.push((x, y));
        }
        let Some(from) = step.from else { break };
        // An added line keeps the place, one that was removed came from the place before.
        (x, y) = if from == i { (step.x, step.y.saturating_sub(1)) } else { (step.x.saturating_sub(1), step.y) };
        i = from;
    }
    kept.reverse();
    kept
}
