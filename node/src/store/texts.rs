//! Texts as they were, which the next edit takes from the disk: what two later edits of them are merged by.
//!
//! Bounded by their lengths together: the oldest go first. A text that is gone makes a conflict copy, no more.

use std::ops::{Bound, ControlFlow};

use zerocloud_crdt::id::ContentHash;

use super::tables::{self, Table, Tables};
use super::{StoreError, Transaction, Write, values};

/// The lengths of all texts together, in bytes: some thousand notes and sources.
pub(super) const TEXTS_LEN_MAX: u64 = 32 << 20;

/// What comes to a store of texts that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfFull {
    /// Takes the place of the oldest.
    TakeOldest,
    /// Is not kept.
    Leave,
}

impl<T: Tables> Transaction<T> {
    /// A text that was kept, by the hash of its bytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn text(&self, hash: ContentHash) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(number) = self.tables.read(Table::TextNumbers, hash.as_bytes(), <[u8]>::to_vec)? else {
            return Ok(None);
        };
        tables::pieces(&self.tables, Table::Texts, &tables::joined(&[&number, hash.as_bytes()]))
    }

    /// Whether a text is kept.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn has_text(&self, hash: ContentHash) -> Result<bool, StoreError> {
        Ok(self.tables.read(Table::TextNumbers, hash.as_bytes(), |_| ())?.is_some())
    }

    /// Whether a text of this length would be kept without another one going.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn has_room_for_text(&self, len: u64) -> Result<bool, StoreError> {
        Ok(self.texts_len()?.saturating_add(len) <= TEXTS_LEN_MAX)
    }

    fn texts_len(&self) -> Result<u64, StoreError> {
        Ok(self.value(values::TEXTS_LEN)?.unwrap_or(0))
    }

    /// Number and hash of the first or last row of `range`, as they stand in its key.
    fn text_key(&self, row: Option<Vec<u8>>) -> Result<Option<(u64, ContentHash)>, StoreError> {
        let Some(key) = row else { return Ok(None) };
        let mut key = &*key;
        let number = u64::from_be_bytes(tables::take(Table::Texts, &mut key)?);
        Ok(Some((number, ContentHash(tables::take(Table::Texts, &mut key)?))))
    }

    fn oldest_text(&self) -> Result<Option<(u64, ContentHash)>, StoreError> {
        let mut first = None;
        self.tables.walk(Table::Texts, (Bound::Unbounded, Bound::Unbounded), &mut |key, _| {
            first = Some(key.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        self.text_key(first)
    }

    fn newest_text(&self) -> Result<Option<(u64, ContentHash)>, StoreError> {
        let last = self.tables.last(Table::Texts, (Bound::Unbounded, Bound::Unbounded))?;
        self.text_key(last.map(|(key, _)| key))
    }
}

impl Write<'_> {
    /// Keeps a text, whose hash is `hash`. One that is kept already stays where it is.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn put_text(&mut self, hash: ContentHash, text: &[u8], if_full: IfFull) -> Result<(), StoreError> {
        let len = text.len() as u64;
        if self.has_text(hash)? || len > TEXTS_LEN_MAX || (if_full == IfFull::Leave && !self.has_room_for_text(len)?) {
            return Ok(());
        }
        while !self.has_room_for_text(len)? {
            let Some((number, oldest)) = self.oldest_text()? else { break };
            self.remove_text(number, oldest)?;
        }
        let number = self.newest_text()?.map_or(0, |(number, _)| number.saturating_add(1)).to_be_bytes();
        self.tables.put_pieces(Table::Texts, &tables::joined(&[&number, hash.as_bytes()]), text)?;
        self.tables.put(Table::TextNumbers, hash.as_bytes(), &number)?;
        let sum = self.texts_len()?.saturating_add(len);
        self.set(values::TEXTS_LEN, &sum)
    }

    fn remove_text(&mut self, number: u64, hash: ContentHash) -> Result<(), StoreError> {
        let key = tables::joined(&[&number.to_be_bytes(), hash.as_bytes()]);
        let len = tables::pieces(&self.tables, Table::Texts, &key)?.map_or(0, |text| text.len() as u64);
        self.tables.clear(Table::Texts, &key)?;
        self.tables.remove(Table::TextNumbers, hash.as_bytes())?;
        let sum = self.texts_len()?.saturating_sub(len);
        self.set(values::TEXTS_LEN, &sum)
    }
}
