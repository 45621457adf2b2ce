//! What a peer lacks, in the order in which it can apply it.

use std::collections::BTreeMap;

use super::branch::Branches;
use super::check::LogRead;
use super::frontier::Frontier;
use super::{Clock, EntryPoint};
use crate::id::LogId;

/// Walks the entries that whoever has a frontier lacks, each after all that it names. The frontier is taken at its
/// word: what it says is there counts as there.
#[derive(Debug)]
pub struct Lacking<'a, R> {
    log: &'a R,
    ours: Frontier,
    theirs: Clock,
    branches: Branches,
    /// Logs of which something is lacking.
    behind: BTreeMap<LogId, u64>,
    /// Logs whose next entry is wanted, each by the one below it.
    wanted: Vec<LogId>,
}

impl<'a, R: LogRead> Lacking<'a, R> {
    /// Begins the walk over what `log` has now and `theirs` lacks.
    ///
    /// # Errors
    /// Those of the store.
    pub fn new(log: &'a R, theirs: &Frontier) -> Result<Self, R::Error> {
        let ours = log.frontier()?;
        let behind = ours.lacked_by(theirs).into_iter().map(|(log, range)| (log, *range.end())).collect();
        let mut clock = Clock::default();
        for (log, position) in theirs.iter() {
            clock.include(EntryPoint { log, number: position.number });
        }
        let branches = log.branches()?;
        Ok(Self { log, ours, theirs: clock, branches, behind, wanted: Vec::new() })
    }

    /// The next entry to send; `None` when nothing is lacking.
    ///
    /// # Errors
    /// Those of the store.
    pub fn next_point(&mut self) -> Result<Option<EntryPoint>, R::Error> {
        loop {
            let wanted = match self.wanted.last() {
                Some(&log) => log,
                None => match self.behind.first_key_value() {
                    Some((&log, _)) => log,
                    None => return Ok(None),
                },
            };
            let number = (self.theirs.of(wanted) + 1).max(self.branches.first_number(wanted));
            let point = EntryPoint { log: wanted, number };
            let Some(meta) = self.log.entry(point)? else {
                // Can't be in a closed log; if it is, the walk goes on without this log.
                self.behind.remove(&wanted);
                self.wanted.pop();
                continue;
            };
            let parent = meta.clock.ends().find(|end| {
                let is_needed = end.log != wanted && !self.theirs.includes(*end);
                is_needed
                    && !crate::mutated!(AppliedBeforeHeads)
                    && self.behind.contains_key(&end.log)
                    && !self.wanted.contains(&end.log)
            });
            if let Some(parent) = parent {
                if self.wanted.is_empty() {
                    self.wanted.push(wanted);
                }
                self.wanted.push(parent.log);
                continue;
            }
            self.theirs.include(point);
            if self.ours.number(wanted) <= point.number {
                self.behind.remove(&wanted);
            }
            // Whoever wanted this looks again whether it was enough.
            self.wanted.pop();
            return Ok(Some(point));
        }
    }
}

impl<R: LogRead> Iterator for Lacking<'_, R> {
    type Item = Result<EntryPoint, R::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_point().transpose()
    }
}
