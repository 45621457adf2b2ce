//! What two values came from.

use std::convert::Infallible;

use super::*;
use crate::id::{ContentHash, EpochId};
use crate::limits::MERGE_HISTORY_COUNT_MAX;
use crate::manifest::{Body, Class, Manifest, Profile};
use crate::register::FileTime;

/// A file's value whose bytes are called `content`.
pub(super) fn file(content: &str) -> FileContent {
    FileContent {
        mtime: FileTime { secs: 0, nanos: 0 },
        executable: false,
        hash: ContentHash::of(content.as_bytes()),
        manifest: Manifest {
            profile: Profile { chunker: 1, class: Class::Single, epoch: EpochId([0; 32]) },
            len: content.len() as u64,
            epochs: Vec::new(),
            body: Body::Inline(Vec::new()),
        },
    }
}

const fn id(counter: u32, actor: u8) -> OpId {
    OpId { counter, actor: ActorId([actor; 16]) }
}

/// What `a` and `b` came from in a history of operations: what each put (`-` for a delete) and what it superseded.
fn ancestor(history: &[(OpId, &str, &[OpId])], a: &[OpId], b: &[OpId]) -> Option<OpId> {
    let read = |id| {
        let op = history.iter().find(|(of, ..)| *of == id).map(|(_, content, pred)| Op {
            id,
            item: FileId([1; 16]),
            write: Write::Content((*content != "-").then(|| Content::File(file(content)))),
            pred: pred.to_vec(),
        });
        Ok::<_, Infallible>(op)
    };
    let (a, b) = (a.iter().copied().collect(), b.iter().copied().collect());
    let Ok(found) = common_ancestor(&a, &b, read);
    let Ok(other_way) = common_ancestor(&b, &a, read);
    assert_eq!(found, other_way);
    found.map(|found| found.op)
}

const A: OpId = id(1, 1);

#[test]
fn two_edits_of_one_value_came_from_it_however_often_each_was_saved() {
    let history: &[(OpId, &str, &[OpId])] = &[
        (A, "a", &[]),
        (id(2, 1), "w", &[A]),
        (id(2, 2), "l1", &[A]),
        (id(3, 2), "l2", &[id(2, 2)]),
        (id(9, 2), "l3", &[id(3, 2)]),
    ];
    assert_eq!(ancestor(history, &[id(2, 1)], &[id(9, 2)]), Some(A));
    // A value that came from the other is its own; it would not be live.
    assert_eq!(ancestor(history, &[id(2, 2)], &[id(9, 2)]), Some(id(2, 2)));
}

#[test]
fn the_nearest_of_several_counts() {
    let history: &[(OpId, &str, &[OpId])] = &[
        (A, "a", &[]),
        (id(2, 1), "w", &[A]),
        (id(2, 2), "l", &[A]),
        // What two merges have in common that a third knew half of.
        (id(3, 1), "w+l", &[id(2, 1), id(2, 2)]),
        (id(3, 3), "c", &[id(2, 2)]),
    ];
    assert_eq!(ancestor(history, &[id(3, 1)], &[id(3, 3)]), Some(id(2, 2)));
}

#[test]
fn what_is_not_certain_is_none() {
    let history: &[(OpId, &str, &[OpId])] = &[
        (A, "a", &[]),
        (id(2, 1), "w", &[A]),
        (id(2, 2), "l", &[A]),
        (id(3, 1), "w+l", &[id(2, 1), id(2, 2)]),
        (id(3, 2), "l+w", &[id(2, 1), id(2, 2)]),
        (id(1, 3), "made twice", &[]),
        (id(2, 3), "of what is not known", &[id(1, 4)]),
        (id(5, 1), "-", &[A]),
        (id(6, 1), "x", &[id(5, 1)]),
        (id(6, 2), "y", &[id(5, 1)]),
    ];
    // Two that are equally near and differ.
    assert_eq!(ancestor(history, &[id(3, 1)], &[id(3, 2)]), None);
    assert_eq!(ancestor(history, &[id(2, 1)], &[id(1, 3)]), None);
    assert_eq!(ancestor(history, &[id(2, 1)], &[id(2, 3)]), None);
    assert_eq!(ancestor(history, &[id(6, 1)], &[id(6, 2)]), None);
}

#[test]
fn a_history_above_the_bound_is_not_read() {
    let mut history: Vec<(OpId, String, Vec<OpId>)> = vec![(A, "a".into(), Vec::new())];
    let count = u32::try_from(MERGE_HISTORY_COUNT_MAX).unwrap();
    for counter in 2..count + 5 {
        history.push((id(counter, 1), counter.to_string(), vec![id(counter - 1, 1)]));
    }
    let history: Vec<(OpId, &str, &[OpId])> = history.iter().map(|(id, text, pred)| (*id, &**text, &**pred)).collect();
    let other = (id(2, 2), "other", &[A][..]);
    let all: Vec<_> = history.iter().copied().chain([other]).collect();
    assert_eq!(ancestor(&all, &[id(count - 2, 1)], &[other.0]), Some(A));
    assert_eq!(ancestor(&all, &[id(count + 4, 1)], &[other.0]), None);
}
