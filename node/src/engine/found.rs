//! What a folder found, and which operations and rows that makes of the state to which it is written.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::{BaseOverlay, BaseRead, BaseRow, RowKey};
use zerocloud_crdt::id::{ActorId, ContentHash, FileId, OpId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::merge::{Rivals, rivals};
use zerocloud_crdt::register::{Content, FileContent, Op, Place, Write};
use zerocloud_crdt::rewind;
use zerocloud_crdt::scan::{Findings, ScanOutcome, Sighting, diff};
use zerocloud_crdt::view::View;

use crate::engine::shelf::Contents;

/// Something for the log.
#[derive(Clone, Debug)]
pub enum Found {
    /// A part of a scan whose files were read.
    Scan(Findings),
    /// A local edit that was met in the moment of a change: a file that left the tree and is not what base had there.
    Displaced {
        /// The file, at the path where it was.
        sighting: Box<Sighting>,
        /// What base had there: the edit supersedes what that row shows.
        row: Box<BaseRow>,
    },
    /// Rows that the user keeps against what came from others.
    Kept(Vec<Keep>),
    /// The clean merge of two texts. Nothing is written if the item does not show these two any more.
    Merged {
        /// The two.
        rivals: Box<Rivals>,
        /// What they become.
        content: FileContent,
    },
    /// What the user wants to be as it was: up to [`rewind::REWIND_COUNT`] changes.
    Rewound(Vec<rewind::Change>),
    /// What was decided already.
    Decided(ScanOutcome),
}

/// Something for the log, and what is to be stored of the contents that it names.
#[derive(Clone, Debug)]
pub struct FoundWith {
    /// What.
    pub found: Found,
    /// By their hashes.
    pub contents: BTreeMap<ContentHash, Contents>,
}

impl From<Found> for FoundWith {
    fn from(found: Found) -> Self {
        Self { found, contents: BTreeMap::new() }
    }
}

/// A row of base that is to stand everywhere as it stands here.
#[derive(Clone, Debug)]
pub struct Keep {
    /// Where.
    pub key: RowKey,
    /// What base has there.
    pub row: BaseRow,
    /// What it is.
    pub content: Content,
}

impl Found {
    /// The operations of `actor` and the rows of base that this makes of `state`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn decide<S, E>(self, state: &S, actor: ActorId) -> Result<ScanOutcome, E>
    where
        S: IndexRead<Error = E> + BaseRead<Error = E>,
    {
        match self {
            Self::Scan(findings) => diff(state, state, actor, &findings),
            Self::Decided(mut outcome) => {
                // Whoever decided may not know that a new incarnation writes this.
                outcome.ops.iter_mut().for_each(|op| op.id.actor = actor);
                outcome.changes = None;
                Ok(outcome)
            }
            Self::Kept(keeps) => keep(state, actor, keeps),
            Self::Merged { rivals: both, content } => {
                let is_shown = rivals(&View::new(state), both.item())?.as_ref() == Some(&*both);
                let ops = if is_shown { both.merged(state.max_counter()?, actor, content) } else { Vec::new() };
                // The plan brings the tree to what the view shows then.
                Ok(ScanOutcome { ops, ..ScanOutcome::default() })
            }
            Self::Rewound(changes) => {
                Ok(ScanOutcome { ops: rewind::decide(state, actor, &changes)?, ..ScanOutcome::default() })
            }
            Self::Displaced { sighting, row } => {
                let mut before = BaseOverlay::new(state);
                // The state in which the edit was made: the item stood here, and nowhere else.
                for key in rows_of(state, &row)? {
                    before.remove(key);
                }
                if let Some(key) = &sighting.from {
                    before.put(key.clone(), *row);
                }
                let findings = Findings { sightings: vec![*sighting], ..Findings::default() };
                let outcome = diff(state, &before, actor, &findings)?;
                // The tree shows what took its place; only the edit is news.
                Ok(ScanOutcome { base: BTreeMap::new(), unsettled: BTreeSet::new(), ..outcome })
            }
        }
    }
}

/// Writes for each row its content, superseding what base and index have, and its place where that differs.
fn keep<I: IndexRead>(index: &I, actor: ActorId, keeps: Vec<Keep>) -> Result<ScanOutcome, I::Error> {
    let mut counter = index.max_counter()?;
    let mut outcome = ScanOutcome::default();
    for Keep { key, mut row, content } in keeps {
        let mut op = |item: FileId, write: Write, pred: BTreeSet<OpId>| {
            counter = counter.saturating_add(1);
            let id = OpId { counter, actor };
            outcome.ops.push(Op { id, item, write, pred: pred.into_iter().collect() });
            id
        };
        let item = index.item(row.id)?.unwrap_or_default();
        let mut pred: BTreeSet<OpId> = item.content.keys().copied().collect();
        if row.is_virtual() {
            // The loser leaves the item whose conflict it was, and stands for itself.
            op(row.source, Write::Content(None), row.content_ops.clone());
        } else {
            pred.extend(&row.content_ops);
        }
        let put = op(row.id, Write::Content(Some(content)), pred);
        let metas: BTreeSet<OpId> = item.meta.keys().copied().collect();
        if !metas.is_empty() {
            op(row.id, Write::Meta(None), metas);
        }
        let winning = item.winning_place().map(|(_, place)| (place.parent, place.name.clone()));
        if winning.as_ref() != Some(&(row.view_parent, row.view_name.clone())) {
            let place = Place {
                parent: row.view_parent,
                name: row.view_name.clone(),
                previous: winning.map(|(parent, _)| parent),
                loser_of: row.is_virtual().then_some(row.source),
            };
            op(row.id, Write::Place(place), item.place.keys().copied().collect());
        }
        row.source = row.id;
        row.content_ops = BTreeSet::from([put]);
        row.meta_ops = BTreeSet::new();
        outcome.base.insert(key, Some(row));
    }
    Ok(outcome)
}

fn rows_of<B: BaseRead>(base: &B, row: &BaseRow) -> Result<Vec<RowKey>, B::Error> {
    let mut keys = Vec::new();
    for source in BTreeSet::from([row.source, row.id]) {
        keys.extend(base.of_source(source)?.into_iter().filter(|(id, _)| *id == row.id).map(|(_, key)| key));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use zerocloud_crdt::id::{ContentHash, EpochId, SpaceId};
    use zerocloud_crdt::index::Overlay;
    use zerocloud_crdt::manifest::{Body, Class, Manifest, Profile};
    use zerocloud_crdt::name::Name;
    use zerocloud_crdt::register::FileTime;

    use super::*;
    use crate::engine::shelf::{MemoryShelf, MemoryState};

    const ITEM: FileId = FileId([1; 16]);

    fn file(text: &str) -> FileContent {
        let profile = Profile { chunker: 1, class: Class::Single, epoch: EpochId([0; 32]) };
        let body = Body::Inline(Vec::new());
        let manifest = Manifest { profile, len: text.len() as u64, epochs: Vec::new(), body };
        let mtime = FileTime { secs: 0, nanos: 0 };
        FileContent { mtime, executable: false, hash: ContentHash::of(text.as_bytes()), manifest }
    }

    fn apply(state: &mut MemoryState, ops: &[Op]) {
        let mut overlay = Overlay::new(&state.index);
        let Ok(_) = overlay.apply(ops);
        let changes = overlay.into_changes();
        state.index.commit(changes);
    }

    #[test]
    fn a_merge_is_of_the_two_values_that_are_shown_when_it_is_written() {
        let mut state = MemoryShelf::new(SpaceId([3; 32])).state();
        let id = |counter, actor| OpId { counter, actor: ActorId([actor; 16]) };
        let put = |id, text, pred: &[OpId]| Op {
            id,
            item: ITEM,
            write: Write::Content(Some(Content::File(file(text)))),
            pred: pred.to_vec(),
        };
        let name = Name::parse(b"a").unwrap();
        let place = Place { parent: FileId::ROOT, name, previous: None, loser_of: None };
        let made = Op { id: id(1, 1), item: ITEM, write: Write::Place(place), pred: Vec::new() };
        apply(&mut state, &[made, put(id(2, 1), "one", &[]), put(id(2, 2), "two", &[])]);
        let Ok(Some(both)) = rivals(&View::new(&state), ITEM) else { panic!("there are two") };
        assert_eq!(both.merger(), id(2, 1));
        let merge = || Found::Merged { rivals: Box::new(both.clone()), content: file("both") };
        let Ok(outcome) = merge().decide(&state, ActorId([1; 16]));
        assert_eq!(outcome.ops, [put(id(3, 1), "both", &[id(2, 1), id(2, 2)])]);
        assert!(outcome.base.is_empty());

        // Another device was quicker with something else.
        apply(&mut state, &[put(id(3, 2), "three", &[id(2, 2)])]);
        let Ok(outcome) = merge().decide(&state, ActorId([1; 16]));
        assert_eq!(outcome, ScanOutcome::default());
    }
}
