//! When entries came to this device, by its own clock: what the space was here at a moment.
//!
//! No entry carries a time. One would be its author's word, and who deletes everything could date that before all that
//! a user might go back to.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zerocloud_crdt::id::LogId;
use zerocloud_crdt::log::EntryPoint;

use super::tables::{self, Table, Tables};
use super::versions::{sortable, unsortable};
use super::{StoreError, Transaction, Write};
use crate::clock::Clock;

/// Gives the time of each commit.
pub(super) struct Watch(pub(super) Arc<dyn Clock>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

/// Entries of one log that came in one commit, from the first to the last number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Arrival {
    first: u64,
    last: u64,
}

impl<T: Tables> Transaction<T> {
    /// How many entries of each log had come by `at_ms` (milliseconds since 1970); logs of which there were none are
    /// not named. What came before such notes were taken counts as having been there always.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn arrived_by(&self, at_ms: i64) -> Result<BTreeMap<LogId, u64>, StoreError> {
        let mut arrived = BTreeMap::new();
        for (log, position) in self.cache.frontier.iter() {
            let (from, to) = (arrival_key(log, i64::MIN), arrival_key(log, at_ms));
            let range = (Bound::Included(from.as_slice()), Bound::Included(to.as_slice()));
            let number = match self.tables.last(Table::Arrivals, range)? {
                Some((_, arrival)) => tables::decode::<Arrival>(Table::Arrivals, &arrival)?.last,
                None => self.number_before_notes(log)?.unwrap_or(position.number),
            };
            if number > 0 {
                arrived.insert(log, number);
            }
        }
        Ok(arrived)
    }

    /// When an entry came, in milliseconds since 1970, as far as that was noted.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn arrived_at(&self, point: EntryPoint) -> Result<Option<i64>, StoreError> {
        let mut at_ms = None;
        tables::each_under(&self.tables, Table::Arrivals, &tables::log_key(point.log), |came, arrival| {
            let Arrival { first, last } = tables::decode(Table::Arrivals, arrival)?;
            if !(first..=last).contains(&point.number) {
                return Ok(ControlFlow::Continue(()));
            }
            at_ms = Some(unsortable(tables::exactly(Table::Arrivals, came)?));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(at_ms)
    }

    /// When the entry came that came last by the clock, in milliseconds since 1970, as far as that was noted.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn last_arrival_ms(&self) -> Result<Option<i64>, StoreError> {
        let mut latest = None;
        for (log, _) in self.cache.frontier.iter() {
            let (from, to) = (arrival_key(log, i64::MIN), arrival_key(log, i64::MAX));
            let range = (Bound::Included(from.as_slice()), Bound::Included(to.as_slice()));
            if let Some((key, _)) = self.tables.last(Table::Arrivals, range)? {
                let came = key.get(tables::log_key(log).len()..).unwrap_or_default();
                latest = latest.max(Some(unsortable(tables::exactly(Table::Arrivals, came)?)));
            }
        }
        Ok(latest)
    }

    /// The number of a log's last entry of which no arrival is noted; `None` if none of its entries' is.
    fn number_before_notes(&self, log: LogId) -> Result<Option<u64>, StoreError> {
        let mut first = None;
        tables::each_under(&self.tables, Table::Arrivals, &tables::log_key(log), |_, arrival| {
            first = Some(tables::decode::<Arrival>(Table::Arrivals, arrival)?.first);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(first.map(|first| first.saturating_sub(1)))
    }
}

impl Write<'_> {
    /// Notes that an entry has come now.
    pub(super) fn note_arrival(&mut self, point: EntryPoint) -> Result<(), StoreError> {
        let Some(at_ms) = self.at_ms else { return Ok(()) };
        let key = arrival_key(point.log, at_ms);
        let noted: Option<Arrival> = self.load(Table::Arrivals, &key)?;
        let first = noted.map_or(point.number, |noted| noted.first);
        self.tables.store(Table::Arrivals, &key, &Arrival { first, last: point.number })
    }
}

fn arrival_key(log: LogId, at_ms: i64) -> Vec<u8> {
    tables::joined(&[&tables::log_key(log), &sortable(at_ms)])
}
