//! What a folder found, and which operations and rows that makes of the state to which it is written.

use std::collections::{BTreeMap, BTreeSet};

use zerocloud_crdt::base::{BaseOverlay, BaseRead, BaseRow, RowKey};
use zerocloud_crdt::id::ActorId;
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::scan::{Findings, ScanOutcome, Sighting, diff};

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
    /// What was decided already.
    Decided(ScanOutcome),
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
            Self::Decided(outcome) => Ok(outcome),
            Self::Displaced { sighting, row } => {
                let mut before = BaseOverlay::new(state);
                // The state in which the edit was made: the item stood here, and nowhere else.
                for key in rows_of(state, &row)? {
                    before.remove(key);
                }
                if let Some(key) = &sighting.from {
                    before.put(key.clone(), *row);
                }
                let findings = Findings { sightings: vec![*sighting], gone: BTreeSet::new() };
                let outcome = diff(state, &before, actor, &findings)?;
                // The tree shows what took its place; only the edit is news.
                Ok(ScanOutcome { base: BTreeMap::new(), unsettled: BTreeSet::new(), ..outcome })
            }
        }
    }
}

fn rows_of<B: BaseRead>(base: &B, row: &BaseRow) -> Result<Vec<RowKey>, B::Error> {
    let mut keys = Vec::new();
    for source in BTreeSet::from([row.source, row.id]) {
        keys.extend(base.of_source(source)?.into_iter().filter(|(id, _)| *id == row.id).map(|(_, key)| key));
    }
    Ok(keys)
}
