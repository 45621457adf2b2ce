//! Which chunks the contents on this disk are made of, where a chunk is to be found in them, and manifest pages.

use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use zerocloud_crdt::id::{ChunkId, ContentHash, EpochId};
use zerocloud_crdt::manifest::Chunk;

use super::base::hash_prefix;
use super::tables::{self, Table, Tables};
use super::{StoreError, Transaction, Write};

/// How many bytes of a chunk's id stand in the key of a place.
const CHUNK_PREFIX_LEN: usize = 8;
/// How many places are given for one chunk: who wants its bytes needs one that has not changed since.
const PLACE_COUNT_MAX: usize = 16;

/// Where the bytes of a chunk may be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// In files or versions of this content.
    pub content: ContentHash,
    /// From here on, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub len: u32,
}

/// A chunk list as it is stored: epochs are named once.
#[derive(Serialize, Deserialize)]
struct StoredList {
    epochs: Vec<EpochId>,
    chunks: Vec<(ChunkId, u32, u32)>,
}

impl StoredList {
    fn of(chunks: &[Chunk]) -> Self {
        let mut list = Self { epochs: Vec::new(), chunks: Vec::with_capacity(chunks.len()) };
        for chunk in chunks {
            // A file has one epoch, or few.
            let index = list.epochs.iter().rposition(|epoch| *epoch == chunk.epoch).unwrap_or_else(|| {
                list.epochs.push(chunk.epoch);
                list.epochs.len() - 1
            });
            list.chunks.push((chunk.id, u32::try_from(index).unwrap_or(u32::MAX), chunk.len));
        }
        list
    }

    fn into_chunks(self) -> Option<Vec<Chunk>> {
        let chunk = |(id, index, len): (ChunkId, u32, u32)| {
            Some(Chunk { id, epoch: *self.epochs.get(usize::try_from(index).ok()?)?, len })
        };
        self.chunks.iter().copied().map(chunk).collect()
    }
}

impl<T: Tables> Transaction<T> {
    /// The chunks of a content, in order; `None` if no list was put for it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn chunk_list(&self, content: ContentHash) -> Result<Option<Vec<Chunk>>, StoreError> {
        let Some(bytes) = tables::pieces(&self.tables, Table::ChunkLists, content.as_bytes())? else { return Ok(None) };
        let list: StoredList = tables::decode(Table::ChunkLists, &bytes)?;
        list.into_chunks().map(Some).ok_or(StoreError::Damaged { table: Table::ChunkLists.name() })
    }

    /// Where a chunk may be found, at most 16 places. Of the id only 8 bytes were kept, and files may have changed
    /// since: who reads the bytes there names them again before they are used.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn find_chunk(&self, chunk: ChunkId) -> Result<Vec<ChunkPlace>, StoreError> {
        let mut places = Vec::new();
        tables::each_under(&self.tables, Table::ChunkPlaces, chunk_prefix(&chunk), |content, place| {
            let (offset, len) = tables::decode(Table::ChunkPlaces, place)?;
            let content = ContentHash(tables::exactly(Table::ChunkPlaces, content)?);
            places.push(ChunkPlace { content, offset, len });
            Ok(if places.len() < PLACE_COUNT_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(places)
    }

    /// The plaintext of a manifest page.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn page(&self, id: ChunkId) -> Result<Option<Vec<u8>>, StoreError> {
        tables::pieces(&self.tables, Table::Pages, id.as_bytes())
    }

    /// Whether a file of base or a version has this content.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn has_content(&self, content: ContentHash) -> Result<bool, StoreError> {
        Ok(tables::any(&self.tables, Table::BaseHashes, hash_prefix(&content))?
            || tables::any(&self.tables, Table::VersionHashes, hash_prefix(&content))?)
    }
}

impl Write<'_> {
    /// Notes the chunks of a content, in order, in place of what was noted before. A content of one chunk needs no
    /// list: its value names the chunk.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_chunk_list(&mut self, content: ContentHash, chunks: &[Chunk]) -> Result<(), StoreError> {
        self.remove_chunk_list(content)?;
        self.tables.put_pieces(
            Table::ChunkLists,
            content.as_bytes(),
            &zerocloud_crdt::codec::encode(&StoredList::of(chunks)),
        )?;
        let mut places = std::collections::BTreeMap::new();
        let mut offset = 0_u64;
        for chunk in chunks {
            let key = tables::joined(&[chunk_prefix(&chunk.id), content.as_bytes()]);
            places.entry(key).or_insert((offset, chunk.len));
            offset = offset.saturating_add(u64::from(chunk.len));
        }
        for (key, place) in places {
            self.tables.store(Table::ChunkPlaces, &key, &place)?;
        }
        Ok(())
    }

    /// Forgets the chunks of a content.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] and those of the disk.
    pub fn remove_chunk_list(&mut self, content: ContentHash) -> Result<(), StoreError> {
        let Some(chunks) = self.chunk_list(content)? else { return Ok(()) };
        let mut keys: Vec<_> =
            chunks.iter().map(|chunk| tables::joined(&[chunk_prefix(&chunk.id), content.as_bytes()])).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            self.tables.remove(Table::ChunkPlaces, &key)?;
        }
        self.tables.clear(Table::ChunkLists, content.as_bytes())
    }

    /// Keeps the plaintext of a manifest page.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn put_page(&mut self, id: ChunkId, plain: &[u8]) -> Result<(), StoreError> {
        self.tables.put_pieces(Table::Pages, id.as_bytes(), plain)
    }

    /// Forgets a manifest page.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remove_page(&mut self, id: ChunkId) -> Result<(), StoreError> {
        self.tables.clear(Table::Pages, id.as_bytes())
    }
}

fn chunk_prefix(id: &ChunkId) -> &[u8] {
    id.as_bytes().get(..CHUNK_PREFIX_LEN).unwrap_or_default()
}
