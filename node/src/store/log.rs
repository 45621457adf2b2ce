//! The log: entries with their metas, what checks ask of them, which operations they made, and membership records.

use std::ops::Bound;
use std::sync::Arc;

use zerocloud_crdt::change::{Key, Register};
use zerocloud_crdt::id::{ActorId, FileId, LogId, OpId, RecordHash};
use zerocloud_crdt::index::name_key;
use zerocloud_crdt::log::check::EntryMeta;
use zerocloud_crdt::log::{
    Body, Branches, Checked, Entry, EntryPoint, Frontier, Lacking, LogRead, Position, Start, Verdict,
};
use zerocloud_crdt::register::{Op, Write as OpWrite};

use super::cache::take_log;
use super::tables::{self, Table, Tables};
use super::{StoreError, Transaction, Write, values};

/// An operation of [`Table::Operations`] that puts a value, and one that deletes.
const PUT: [u8; 1] = [1];
const DELETE: [u8; 1] = [0];

/// An operation on a register, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its id.
    pub id: OpId,
    /// The entry that holds it.
    pub maker: EntryPoint,
    /// Whether it puts a value; else it deletes.
    pub is_put: bool,
}

impl<T: Tables> LogRead for Transaction<T> {
    type Error = StoreError;

    fn entry(&self, point: EntryPoint) -> Result<Option<EntryMeta>, StoreError> {
        self.load(Table::Metas, &tables::point_key(point))
    }

    fn maker(&self, id: OpId) -> Result<Option<EntryPoint>, StoreError> {
        let (from, to) = (maker_key(id.actor, 0), maker_key(id.actor, id.counter));
        let range = (Bound::Included(from.as_slice()), Bound::Included(to.as_slice()));
        let Some((_, point)) = self.tables.last(Table::Makers, range)? else { return Ok(None) };
        let mut rest = point.as_slice();
        let log = take_log(Table::Makers, &mut rest)?;
        let point = EntryPoint { log, number: u64::from_be_bytes(tables::exactly(Table::Makers, rest)?) };
        let change = self.entry(point)?.and_then(|meta| meta.change);
        Ok(change.is_some_and(|change| id.counter <= change.end_op).then_some(point))
    }

    fn is_on(&self, id: OpId, key: Key) -> Result<bool, StoreError> {
        // The row says so for all entries that count, what a removal excludes included, whatever the registers hold.
        Ok(self.tables.read(Table::Operations, &operation_key(key, id), |_| ())?.is_some())
    }

    fn branches(&self) -> Result<Branches, StoreError> {
        Ok(self.value(values::BRANCHES)?.unwrap_or_default())
    }

    fn frontier(&self) -> Result<Frontier, StoreError> {
        Ok((*self.cache.frontier).clone())
    }
}

impl<T: Tables> Transaction<T> {
    /// The entry's bytes, as they were put; [`Entry::decode_stored`] reads them.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn entry_bytes(&self, point: EntryPoint) -> Result<Option<Vec<u8>>, StoreError> {
        tables::pieces(&self.tables, Table::Entries, &tables::point_key(point))
    }

    /// Walks the entries that whoever has `theirs` lacks, each after all that it names.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn lacked_by(&self, theirs: &Frontier) -> Result<Lacking<'_, Self>, StoreError> {
        Lacking::new(self, theirs)
    }

    /// What a log began with; `None` if that is void or not here.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn start(&self, log: LogId) -> Result<Option<Start>, StoreError> {
        self.load(Table::Starts, &tables::log_key(log))
    }

    /// Every operation that ever put a value into a register, ascending, with the entry that made it: the register's
    /// history, superseded values included. The values are read by opening the entries.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn history(&self, key: Key) -> Result<Vec<(OpId, EntryPoint)>, StoreError> {
        let puts = self.operations(key)?.into_iter().filter(|operation| operation.is_put);
        Ok(puts.map(|operation| (operation.id, operation.maker)).collect())
    }

    /// Every operation that was ever on a register, deletes included, ascending: none stands before one that it
    /// supersedes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn operations(&self, key: Key) -> Result<Vec<Operation>, StoreError> {
        let ids = tables::collect(&self.tables, Table::Operations, &register_key(key), |mut rest, is_put| {
            let counter = u32::from_be_bytes(tables::take(Table::Operations, &mut rest)?);
            let actor = ActorId(tables::exactly(Table::Operations, rest)?);
            Ok((OpId { counter, actor }, is_put == PUT))
        })?;
        let mut operations = Vec::with_capacity(ids.len());
        for (id, is_put) in ids {
            let maker = self.maker(id)?.ok_or(StoreError::Damaged { table: Table::Operations.name() })?;
            operations.push(Operation { id, maker, is_put });
        }
        Ok(operations)
    }

    /// The items that were moved or put back to a name with this [`name_key`] in `parent` at any time, ascending.
    /// Items that were only made there are not among them: their ids follow from parent and name.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn once_placed(&self, parent: FileId, name_key: u64) -> Result<Vec<FileId>, StoreError> {
        let prefix = tables::joined(&[parent.as_bytes(), &name_key.to_be_bytes()]);
        tables::collect(&self.tables, Table::OncePlaced, &prefix, |id, _| {
            Ok(FileId(tables::exactly(Table::OncePlaced, id)?))
        })
    }

    /// A membership record's bytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn record(&self, hash: RecordHash) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(position) = self.tables.read(Table::RecordPlaces, hash.as_bytes(), <[u8]>::to_vec)? else {
            return Ok(None);
        };
        let bytes =
            self.tables.read(Table::Records, &position, |row| row.get(RecordHash::LEN..).map(<[u8]>::to_vec))?;
        Ok(Some(bytes.flatten().ok_or(StoreError::Damaged { table: Table::Records.name() })?))
    }

    /// All membership records, in the order in which they were put.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn records(&self) -> Result<Vec<(RecordHash, Vec<u8>)>, StoreError> {
        tables::collect(&self.tables, Table::Records, &[], |_, mut row| {
            Ok((RecordHash(tables::take(Table::Records, &mut row)?), row.to_vec()))
        })
    }
}

impl Write<'_> {
    /// Appends an entry to its log, with its meta and, if it counts, the index of its operations. Registers are no
    /// part of this: see [`Write::apply_index`].
    ///
    /// # Errors
    /// [`StoreError::OutOfTurn`] unless its number is the next of its log, and those of the disk.
    pub fn put_entry(&mut self, entry: &Entry, checked: &Checked) -> Result<(), StoreError> {
        let point = checked.point;
        let mut branches = self.branches()?;
        let last = self.cache.frontier.number(point.log);
        if let Some(of) = checked.fork_of
            && branches.add(of, checked.meta.hash)
        {
            self.set(values::BRANCHES, &branches)?;
        }
        let next = if last == 0 { Some(branches.first_number(point.log)) } else { last.checked_add(1) };
        if next != Some(point.number) {
            return Err(StoreError::OutOfTurn);
        }
        let key = tables::point_key(point);
        self.tables.put_pieces(Table::Entries, &key, entry.as_bytes())?;
        self.tables.store(Table::Metas, &key, &checked.meta)?;
        match &checked.verdict {
            Verdict::Applies(Body::Index(change, _)) => {
                self.tables.put(Table::Makers, &maker_key(change.actor, change.start_op), &key)?;
                self.put_operations(&change.ops)?;
            }
            Verdict::Applies(Body::Start(start)) => {
                self.tables.store(Table::Starts, &tables::log_key(point.log), start)?;
            }
            Verdict::Applies(Body::Seen) | Verdict::Void(_) => {}
        }
        let position = Position { number: point.number, hash: checked.meta.hash };
        self.tables.store(Table::Logs, &tables::log_key(point.log), &position)?;
        Arc::make_mut(&mut self.cache.frontier).advance(point.log, position);
        self.note_arrival(point)
    }

    /// Takes all entries away, and all that was made of them, and notes the branches of those that are put next. Base,
    /// records and versions stay.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn clear_log(&mut self, branches: &Branches) -> Result<(), StoreError> {
        const OF_ENTRIES: [Table; 8] = [
            Table::Entries,
            Table::Metas,
            Table::Logs,
            Table::Makers,
            Table::Starts,
            Table::Operations,
            Table::OncePlaced,
            Table::Labels,
        ];
        for table in OF_ENTRIES {
            self.tables.clear(table, &[])?;
        }
        self.cache.frontier = Arc::default();
        self.cache.labels = Arc::default();
        self.set(values::BRANCHES, branches)?;
        self.clear_index()
    }

    fn put_operations(&mut self, ops: &[Op]) -> Result<(), StoreError> {
        let mut rows: Vec<_> = ops.iter().map(|op| (operation_key(op.key(), op.id), !op.write.is_delete())).collect();
        rows.sort_unstable();
        for (key, is_put) in rows {
            self.tables.put(Table::Operations, &key, if is_put { &PUT } else { &DELETE })?;
        }
        let mut places: Vec<_> = ops
            .iter()
            .filter_map(|op| match &op.write {
                OpWrite::Place(place) if place.is_move() || place.loser_of.is_some() || !op.pred.is_empty() => {
                    let name_key = name_key(&place.name).to_be_bytes();
                    Some(tables::joined(&[place.parent.as_bytes(), &name_key, op.item.as_bytes()]))
                }
                _ => None,
            })
            .collect();
        places.sort_unstable();
        for key in places {
            self.tables.put(Table::OncePlaced, &key, &[])?;
        }
        Ok(())
    }

    /// Puts a membership record; returns false if it was here before.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_record(&mut self, hash: RecordHash, bytes: &[u8]) -> Result<bool, StoreError> {
        if self.tables.read(Table::RecordPlaces, hash.as_bytes(), |_| ())?.is_some() {
            return Ok(false);
        }
        let position = self.next_position(Table::Records)?;
        self.tables.put(Table::Records, &position, &tables::joined(&[hash.as_bytes(), bytes]))?;
        self.tables.put(Table::RecordPlaces, hash.as_bytes(), &position)?;
        Ok(true)
    }

    /// The key after the last one of a table that is ordered by arrival.
    fn next_position(&self, table: Table) -> Result<[u8; 8], StoreError> {
        let last = match self.tables.last(table, (Bound::Unbounded, Bound::Unbounded))? {
            Some((key, _)) => u64::from_be_bytes(tables::exactly(table, &key)?),
            None => 0,
        };
        Ok(last.saturating_add(1).to_be_bytes())
    }
}

fn maker_key(actor: ActorId, start_op: u32) -> Vec<u8> {
    tables::joined(&[actor.as_bytes(), &start_op.to_be_bytes()])
}

fn register_key(key: Key) -> Vec<u8> {
    let register = match key.register {
        Register::Place => b'p',
        Register::Content => b'c',
        Register::Meta => b'm',
    };
    tables::joined(&[key.item.as_bytes(), &[register]])
}

fn operation_key(key: Key, id: OpId) -> Vec<u8> {
    tables::joined(&[&register_key(key), &id.counter.to_be_bytes(), id.actor.as_bytes()])
}
