//! Merging two texts that were changed at the same time, as an operation.
//!
//! Where an item has two values, the view shows one at its name and a copy of the other beside it. If both are texts
//! that came from one ancestor, and no line of it was changed on both sides, one operation that supersedes both says
//! what everybody wants: [`rivals`] finds such a pair, [`common_ancestor`] what both came from, [`merge`] makes the
//! text, [`Rivals::merged`] the operations. One device writes them: the author of the losing value, whom the copy is
//! named after. Which bytes are at hand is not known here.
//!
//! All of it is symmetric and a function of values alone, so that devices that merge the same pair at the same time
//! make the same value; and the author of the highest value is never the loser's, so that of several values that are
//! merged at the same time in pairs there are fewer after each round.

use std::collections::BTreeSet;

use crate::id::{ActorId, FileId, OpId};
use crate::index::IndexRead;
use crate::limits::MERGE_TEXT_LEN_MAX;
use crate::register::{Content, FileContent, Kind, Op, Write};
use crate::view::{View, ViewEntry};

mod ancestor;
mod lines;

pub use ancestor::{Ancestor, common_ancestor};
pub use lines::{NotMerged, merge, text};

/// The two values of an item, as the view shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rivals {
    /// What stands at the item's name.
    pub winner: ViewEntry,
    /// The copy beside it.
    pub loser: ViewEntry,
}

/// The two values of an item that may be merged: both are files below the bound, there is no third, and the copy was
/// not given a place of its own.
pub fn rivals<I: IndexRead>(view: &View<'_, I>, item: FileId) -> Result<Option<Rivals>, I::Error> {
    let entries = view.entries(item)?;
    let [a, b] = entries.as_slice() else { return Ok(None) };
    let (winner, loser) = if a.id == item { (a, b) } else { (b, a) };
    let may =
        |entry: &ViewEntry| entry.source == item && entry.kind == Kind::File && entry.len <= MERGE_TEXT_LEN_MAX as u64;
    if winner.id != item || loser.id == item || !may(winner) || !may(loser) {
        return Ok(None);
    }
    let is_placed = view.index().item(loser.id)?.is_some_and(|own| !own.place.is_empty());
    Ok((!is_placed).then(|| Rivals { winner: winner.clone(), loser: loser.clone() }))
}

impl Rivals {
    /// The item.
    pub fn item(&self) -> FileId {
        self.winner.id
    }

    /// The operation whose author is to merge: the copy is named after it.
    pub fn merger(&self) -> OpId {
        self.loser.content_ops.first().copied().unwrap_or(OpId::ZERO)
    }

    /// The operation that both values came from, if that is known for certain. `read` gives a content operation of this
    /// item.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn ancestor<E>(&self, read: impl FnMut(OpId) -> Result<Option<Op>, E>) -> Result<Option<Ancestor>, E> {
        common_ancestor(&self.winner.content_ops, &self.loser.content_ops, read)
    }

    /// The executable bit of the merged file: of two that differ, the one that the ancestor did not have.
    pub fn is_executable(&self, ancestor: &FileContent) -> bool {
        if self.winner.executable == self.loser.executable { self.winner.executable } else { !ancestor.executable }
    }

    /// The operations that put `content` in the place of both, numbered from `counter_max` plus one. Touches of either
    /// go with what they were about.
    pub fn merged(&self, counter_max: u32, actor: ActorId, content: FileContent) -> Vec<Op> {
        let both = |of: fn(&ViewEntry) -> &BTreeSet<OpId>| -> Vec<OpId> {
            of(&self.winner).union(of(&self.loser)).copied().collect()
        };
        let id = |n: u32| OpId { counter: counter_max.saturating_add(n), actor };
        let put = Write::Content(Some(Content::File(content)));
        let mut ops = vec![Op { id: id(1), item: self.item(), write: put, pred: both(|entry| &entry.content_ops) }];
        let metas = both(|entry| &entry.meta_ops);
        if !metas.is_empty() {
            ops.push(Op { id: id(2), item: self.item(), write: Write::Meta(None), pred: metas });
        }
        ops
    }
}

#[cfg(test)]
mod tests;
