//! What two values of a register came from.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::OpId;
use crate::limits::MERGE_HISTORY_COUNT_MAX;
use crate::register::{Content, FileContent, Op, Write};

/// The value that two others came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// The operation that put it.
    pub op: OpId,
    /// What it put.
    pub content: FileContent,
}

/// In whose past an operation lies.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    of_a: bool,
    of_b: bool,
    /// In that of a common ancestor that was found: not the nearest.
    of_common: bool,
}

/// The nearest operation that both `a` and `b` (operations of one value each) came from, by what they name in `pred`,
/// step by step. `None` if there is none, if there are several with different bytes, if it put no file, if `read` does
/// not know one on the way, or if the way is above [`MERGE_HISTORY_COUNT_MAX`] operations: then nothing is certain.
///
/// # Errors
/// Those of `read`.
pub fn common_ancestor<E>(
    a: &BTreeSet<OpId>,
    b: &BTreeSet<OpId>,
    mut read: impl FnMut(OpId) -> Result<Option<Op>, E>,
) -> Result<Option<Ancestor>, E> {
    let mut open: BTreeMap<OpId, Past> = BTreeMap::new();
    a.iter().for_each(|op| open.entry(*op).or_default().of_a = true);
    b.iter().for_each(|op| open.entry(*op).or_default().of_b = true);
    let mut found: Option<Ancestor> = None;
    let mut read_count = 0;
    // What supersedes an operation has a larger counter: taken from the largest on, each has all its marks by then.
    while let Some((id, past)) = open.pop_last() {
        let rest = || open.values().chain([&past]).filter(|past| !past.of_common);
        if !rest().any(|past| past.of_a) || !rest().any(|past| past.of_b) {
            break;
        }
        read_count += 1;
        let Some(op) = read(id)?.filter(|op| op.id == id && read_count <= MERGE_HISTORY_COUNT_MAX) else {
            return Ok(None);
        };
        let is_common = past.of_a && past.of_b;
        if is_common && !past.of_common {
            let Write::Content(Some(Content::File(content))) = op.write else { return Ok(None) };
            match &found {
                Some(nearer) if nearer.content.hash != content.hash => return Ok(None),
                Some(_) => {}
                None => found = Some(Ancestor { op: id, content }),
            }
        }
        for pred in op.pred.into_iter().filter(|pred| *pred < id) {
            let before = open.entry(pred).or_default();
            before.of_a |= past.of_a;
            before.of_b |= past.of_b;
            before.of_common |= is_common;
        }
    }
    Ok(found)
}
