//! One entry supersedes what is in its past alone: what a scan wrote and wrote over itself is left out.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::OpId;
use crate::register::{Op, Write};

/// Leaves out operations that later ones of the same scan supersede, which then supersede what those did, and numbers
/// the rest anew. Gives the new ids by the old ones; what is not among them was left out.
pub(super) fn fold(ops: &mut Vec<Op>) -> BTreeMap<OpId, OpId> {
    let ids: Vec<OpId> = ops.iter().map(|op| op.id).collect();
    let mut preds: BTreeMap<OpId, BTreeSet<OpId>> = BTreeMap::new();
    let mut superseded: BTreeSet<OpId> = BTreeSet::new();
    for op in &mut *ops {
        let mut past = BTreeSet::new();
        for pred in &op.pred {
            match preds.get(pred) {
                Some(before) => {
                    superseded.insert(*pred);
                    past.extend(before.iter().copied());
                }
                None => drop(past.insert(*pred)),
            }
        }
        op.pred = past.iter().copied().collect();
        // Takes away what came only with this scan.
        let is_idle = op.pred.is_empty() && matches!(op.write, Write::Content(None) | Write::Meta(None));
        if is_idle {
            superseded.insert(op.id);
        }
        preds.insert(op.id, past);
    }
    ops.retain(|op| !superseded.contains(&op.id));
    let renamed: BTreeMap<OpId, OpId> = ops.iter().map(|op| op.id).zip(ids).collect();
    for op in ops {
        op.id = renamed.get(&op.id).copied().unwrap_or(op.id);
    }
    renamed
}
