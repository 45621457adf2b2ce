//! Reads the part of Automerge's change chunks that ours use, bounded by what the bytes at hand can hold and by
//! [`crate::limits`]. Whether the encoding is the canonical one is found by writing it again; here it is enough
//! that nothing panics, loops or allocates beyond the bounds.

use super::{Change, ChangeError, Key, value};
use crate::id::{ActorId, ChangeHash, OpId};
use crate::limits::{ENTRY_OP_COUNT_MAX, ENTRY_PRED_COUNT_MAX, REGISTER_LIVE_COUNT_MAX};
use crate::register::Op;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
const CHANGE_CHUNK: u8 = 1;
const PUT: u64 = 1;
const DELETE: u64 = 3;
/// Type of a byte string in the low four bits of a value's meta.
const BYTES: u64 = 7;

/// Reads one change chunk.
pub(super) fn read(bytes: &[u8]) -> Result<Change, ChangeError> {
    let mut input = Input(bytes);
    // The checksum in between is compared when the change is written again.
    if input.take(4)? != MAGIC || input.take(4)?.len() != 4 || input.byte()? != CHANGE_CHUNK {
        return Err(ChangeError::Malformed);
    }
    if input.uleb()? != input.0.len() as u64 {
        return Err(ChangeError::Malformed);
    }
    let mut deps = Vec::new();
    for _ in 0..input.uleb()? {
        deps.push(ChangeHash::from_slice(input.take(ChangeHash::LEN)?).ok_or(ChangeError::Malformed)?);
    }
    let actor = input.actor()?;
    let seq = input.uleb()?;
    let start_op = u32::try_from(input.uleb()?).map_err(|_| ChangeError::Counter)?;
    if input.leb()? != 0 {
        return Err(ChangeError::Time);
    }
    if input.uleb()? != 0 {
        return Err(ChangeError::Message);
    }
    let mut actors = vec![actor];
    for _ in 0..input.uleb()? {
        actors.push(input.actor()?);
    }
    let columns = Columns::read(&mut input)?;
    let ops = columns.ops(&actors, start_op)?;
    Ok(Change { actor, seq, deps, start_op, ops })
}

/// Bytes that are still to be read.
#[derive(Clone, Copy)]
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], ChangeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(ChangeError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn take_prefixed(&mut self) -> Result<&'a [u8], ChangeError> {
        let len = usize::try_from(self.uleb()?).map_err(|_| ChangeError::Malformed)?;
        self.take(len)
    }

    fn byte(&mut self) -> Result<u8, ChangeError> {
        let (&byte, rest) = self.0.split_first().ok_or(ChangeError::Malformed)?;
        self.0 = rest;
        Ok(byte)
    }

    fn actor(&mut self) -> Result<ActorId, ChangeError> {
        ActorId::from_slice(self.take_prefixed()?).ok_or(ChangeError::Malformed)
    }

    /// An unsigned LEB128 number of at most 63 bits, enough for every number that ours have.
    fn uleb(&mut self) -> Result<u64, ChangeError> {
        let (value, len) = self.groups()?;
        if len > 9 { Err(ChangeError::Malformed) } else { Ok(value) }
    }

    /// A signed LEB128 number of at most 63 bits.
    fn leb(&mut self) -> Result<i64, ChangeError> {
        let (value, len) = self.groups()?;
        if len > 9 {
            return Err(ChangeError::Malformed);
        }
        // Moves the sign bit of the highest group to the top and back.
        let unused = 64 - 7 * len;
        Ok(((value << unused) as i64) >> unused)
    }

    /// Groups of seven bits, lowest first, and how many there were (1 to 9).
    fn groups(&mut self) -> Result<(u64, u32), ChangeError> {
        let mut value = 0;
        for index in 0..9 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return Ok((value, index + 1));
            }
        }
        Err(ChangeError::Malformed)
    }
}

/// A run-length encoded column: `n > 0` repeats the next value n times, `n < 0` precedes −n single values. Runs of
/// nulls (0) don't occur in our columns.
struct Runs<'a, T> {
    input: Input<'a>,
    read: fn(&mut Input<'a>) -> Result<T, ChangeError>,
    repeated: Option<T>,
    left: u64,
}

impl<'a, T: Copy> Runs<'a, T> {
    const fn new(bytes: &'a [u8], read: fn(&mut Input<'a>) -> Result<T, ChangeError>) -> Self {
        Self { input: Input(bytes), read, repeated: None, left: 0 }
    }

    const fn is_done(&self) -> bool {
        self.left == 0 && self.input.0.is_empty()
    }

    fn next(&mut self) -> Result<T, ChangeError> {
        if self.left == 0 {
            let run = self.input.leb()?;
            self.left = run.unsigned_abs();
            self.repeated = match run {
                0 => return Err(ChangeError::Malformed),
                1.. => Some((self.read)(&mut self.input)?),
                _ => None,
            };
        }
        self.left -= 1;
        match self.repeated {
            Some(value) => Ok(value),
            None => (self.read)(&mut self.input),
        }
    }
}

/// The column data of a change, each by its specification.
#[derive(Default)]
struct Columns<'a> {
    keys: &'a [u8],
    inserts: &'a [u8],
    actions: &'a [u8],
    value_metas: &'a [u8],
    values: &'a [u8],
    pred_counts: &'a [u8],
    pred_actors: &'a [u8],
    pred_counters: &'a [u8],
}

impl<'a> Columns<'a> {
    fn read(input: &mut Input<'a>) -> Result<Self, ChangeError> {
        let mut lens = Vec::new();
        let mut last = None;
        for _ in 0..input.uleb()? {
            let specification = input.uleb()?;
            if last.is_some_and(|last| last >= specification) {
                return Err(ChangeError::Malformed);
            }
            last = Some(specification);
            lens.push((specification, usize::try_from(input.uleb()?).map_err(|_| ChangeError::Malformed)?));
        }
        let mut columns = Self::default();
        for (specification, len) in lens {
            let column = match specification {
                0x15 => &mut columns.keys,
                0x34 => &mut columns.inserts,
                0x42 => &mut columns.actions,
                0x56 => &mut columns.value_metas,
                0x57 => &mut columns.values,
                0x70 => &mut columns.pred_counts,
                0x71 => &mut columns.pred_actors,
                0x73 => &mut columns.pred_counters,
                _ => return Err(ChangeError::Malformed),
            };
            *column = input.take(len)?;
        }
        if input.0.is_empty() { Ok(columns) } else { Err(ChangeError::Malformed) }
    }

    fn ops(&self, actors: &[ActorId], start_op: u32) -> Result<Vec<Op>, ChangeError> {
        let actor = *actors.first().ok_or(ChangeError::Malformed)?;
        let mut keys = Runs::new(self.keys, Input::take_prefixed);
        let mut actions = Runs::new(self.actions, Input::uleb);
        let mut value_metas = Runs::new(self.value_metas, Input::uleb);
        let mut values = Input(self.values);
        let mut preds = Preds::new(self, actors);
        let mut ops = Vec::new();
        let mut counter = start_op;
        while !actions.is_done() {
            if ops.len() == ENTRY_OP_COUNT_MAX {
                return Err(ChangeError::TooManyOps);
            }
            let key = Key::parse(keys.next()?)?;
            let value = match (actions.next()?, value_metas.next()?) {
                (PUT, meta) if meta & 15 == BYTES => {
                    Some(values.take(usize::try_from(meta >> 4).map_err(|_| ChangeError::Malformed)?)?)
                }
                (DELETE, 0) => None,
                (PUT | DELETE, _) => return Err(ChangeError::Malformed),
                (action, _) => return Err(ChangeError::UnknownAction { action }),
            };
            let write = value::decode(key.register, value)?;
            ops.push(Op { id: OpId { counter, actor }, item: key.item, write, pred: preds.next()? });
            counter = counter.checked_add(1).ok_or(ChangeError::Counter)?;
        }
        let mut inserts = Input(self.inserts);
        let are_inserts_false = ops.is_empty() || inserts.uleb()? == ops.len() as u64;
        let is_done = keys.is_done() && value_metas.is_done() && preds.is_done();
        if are_inserts_false && is_done && values.0.is_empty() && inserts.0.is_empty() {
            Ok(ops)
        } else {
            Err(ChangeError::Malformed)
        }
    }
}

/// The three columns of superseded operations.
struct Preds<'a> {
    counts: Runs<'a, u64>,
    actor_indexes: Runs<'a, u64>,
    deltas: Runs<'a, i64>,
    counter: i64,
    actors: &'a [ActorId],
    total: usize,
}

impl<'a> Preds<'a> {
    const fn new(columns: &Columns<'a>, actors: &'a [ActorId]) -> Self {
        Self {
            counts: Runs::new(columns.pred_counts, Input::uleb),
            actor_indexes: Runs::new(columns.pred_actors, Input::uleb),
            deltas: Runs::new(columns.pred_counters, Input::leb),
            counter: 0,
            actors,
            total: 0,
        }
    }

    const fn is_done(&self) -> bool {
        self.counts.is_done() && self.actor_indexes.is_done() && self.deltas.is_done()
    }

    fn next(&mut self) -> Result<Vec<OpId>, ChangeError> {
        let count = usize::try_from(self.counts.next()?).map_err(|_| ChangeError::TooManyPreds)?;
        if count > REGISTER_LIVE_COUNT_MAX || self.total + count > ENTRY_PRED_COUNT_MAX {
            return Err(ChangeError::TooManyPreds);
        }
        self.total += count;
        let mut pred = Vec::with_capacity(count);
        for _ in 0..count {
            let index = usize::try_from(self.actor_indexes.next()?).map_err(|_| ChangeError::Malformed)?;
            let actor = *self.actors.get(index).ok_or(ChangeError::Malformed)?;
            self.counter = self.counter.checked_add(self.deltas.next()?).ok_or(ChangeError::Counter)?;
            let counter = u32::try_from(self.counter).map_err(|_| ChangeError::Counter)?;
            pred.push(OpId { counter, actor });
        }
        Ok(pred)
    }
}
