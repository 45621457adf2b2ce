//! Who made the operations that one change names: a scan's name thousands, most of them neighbours in one entry.

use std::cell::Cell;

use super::branch::Branches;
use super::check::{EntryMeta, LogRead};
use super::{EntryPoint, Frontier};
use crate::change::Key;
use crate::id::{ActorId, OpId};

/// A log that keeps in mind which entry made the operation that it was asked for last, and which others that entry made.
pub(super) struct LastMaker<'a, R> {
    log: &'a R,
    last: Cell<Option<Last>>,
}

/// The entry that made an operation.
#[derive(Clone, Copy)]
struct Last {
    point: EntryPoint,
    actor: ActorId,
    /// The first and the last counter of its operations, once it was the answer twice.
    counters: Option<(u32, u32)>,
}

impl<'a, R: LogRead> LastMaker<'a, R> {
    pub(super) const fn new(log: &'a R) -> Self {
        Self { log, last: Cell::new(None) }
    }

    fn ask(&self, id: OpId) -> Result<Option<EntryPoint>, R::Error> {
        let Some(point) = self.log.maker(id)? else { return Ok(None) };
        let is_again = self.last.get().is_some_and(|last| (last.point, last.actor) == (point, id.actor));
        let change = if is_again { self.log.entry(point)?.and_then(|meta| meta.change) } else { None };
        let counters = change.map(|change| (change.start_op, change.end_op));
        self.last.set(Some(Last { point, actor: id.actor, counters }));
        Ok(Some(point))
    }
}

impl<R: LogRead> LogRead for LastMaker<'_, R> {
    type Error = R::Error;

    fn entry(&self, point: EntryPoint) -> Result<Option<EntryMeta>, R::Error> {
        self.log.entry(point)
    }

    fn maker(&self, id: OpId) -> Result<Option<EntryPoint>, R::Error> {
        match self.last.get() {
            Some(Last { point, actor, counters: Some((first, last)) })
                if actor == id.actor && (first..=last).contains(&id.counter) =>
            {
                Ok(Some(point))
            }
            _ => self.ask(id),
        }
    }

    fn is_on(&self, id: OpId, key: Key) -> Result<bool, R::Error> {
        self.log.is_on(id, key)
    }

    fn branches(&self) -> Result<Branches, R::Error> {
        self.log.branches()
    }

    fn frontier(&self) -> Result<Frontier, R::Error> {
        self.log.frontier()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::id::{ChangeHash, DeviceId, EntryHash, Incarnation, LogId};
    use crate::log::Clock;
    use crate::log::check::ChangeMeta;

    /// One log, of which each entry made ten operations; what was asked of it.
    #[derive(Default)]
    struct Tens {
        asked: Cell<usize>,
    }

    const ACTOR: ActorId = ActorId([1; 16]);
    const LOG: LogId = LogId { author: DeviceId([1; 32]), incarnation: Incarnation([1; 8]) };

    impl LogRead for Tens {
        type Error = Infallible;

        fn entry(&self, point: EntryPoint) -> Result<Option<EntryMeta>, Infallible> {
            self.asked.set(self.asked.get() + 1);
            let start_op = point.number as u32 * 10;
            Ok(Some(EntryMeta {
                hash: EntryHash([0; 32]),
                clock: Clock::default(),
                membership: Vec::new(),
                is_void: false,
                change: Some(ChangeMeta { hash: ChangeHash([0; 32]), start_op, end_op: start_op + 9 }),
                seq: 0,
                counter_max: 0,
                tips: Vec::new(),
            }))
        }

        fn maker(&self, id: OpId) -> Result<Option<EntryPoint>, Infallible> {
            self.asked.set(self.asked.get() + 1);
            let point = EntryPoint { log: LOG, number: u64::from(id.counter / 10) };
            Ok((id.actor == ACTOR && (1..5).contains(&point.number)).then_some(point))
        }

        fn is_on(&self, _: OpId, _: Key) -> Result<bool, Infallible> {
            Ok(true)
        }

        fn branches(&self) -> Result<Branches, Infallible> {
            Ok(Branches::default())
        }

        fn frontier(&self) -> Result<Frontier, Infallible> {
            Ok(Frontier::default())
        }
    }

    #[test]
    fn neighbours_are_not_asked_for_and_answered_as_the_log_would() {
        let log = Tens::default();
        let last = LastMaker::new(&log);
        let ask = |counter, actor| last.maker(OpId { counter, actor: ActorId([actor; 16]) }).unwrap();
        for counter in 0..60 {
            for actor in [1, 1, 2, 1] {
                let Ok(told) = log.maker(OpId { counter, actor: ActorId([actor; 16]) });
                assert_eq!(ask(counter, actor), told, "operation {counter} of {actor}");
            }
        }
        log.asked.set(0);
        assert!((10..50).all(|counter| ask(counter, 1).is_some()));
        assert_eq!(log.asked.get(), 4 * 3, "two operations and one entry of each ten");
    }
}
