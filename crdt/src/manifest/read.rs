//! Reading and checking manifests: a value as it comes from an entry, and the pages below it.

use std::{
    collections::BTreeMap,
    ops::{ControlFlow, Range},
};

use super::{
    Body, Chunk, ChunkRef, Manifest, ManifestError, PageAddress, PageRef,
    page::{ChildRef, Page, PageBody, check_chunk_len, check_distinct, check_list, check_profile},
};
use crate::{
    codec::{DecodeError, decode_object},
    id::EpochId,
    limits::{
        MANIFEST_DEPTH_MAX, MANIFEST_FAN_OUT_MAX, MANIFEST_INLINE_COUNT_MAX, MANIFEST_PAGE_LEN_MAX,
        MANIFEST_READ_COUNT_MAX,
    },
};

/// Why a manifest's chunks could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadManifestError<E> {
    /// The value or a page breaks a rule: a member's program wrote it wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A page is not one, or of a newer version.
    #[error("manifest page: {0}")]
    Page(#[from] DecodeError),
    /// The page could not be had.
    #[error("a manifest page is not at hand: {0}")]
    Source(E),
}

/// What a walk through a manifest comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visited {
    /// A page, before what it lists.
    Page(PageAddress),
    /// A chunk.
    Chunk {
        /// Where its first byte stands in the file.
        offset: u64,
        /// The chunk.
        chunk: Chunk,
    },
}

impl Manifest {
    /// Checks what can be checked without any page: bounds, the table of epochs, and an inline list as a whole. To be
    /// called on each manifest that comes from an entry, before it counts.
    ///
    /// # Errors
    /// Every variant of [`ManifestError`] but [`ManifestError::TooDeep`], as documented there.
    pub fn check(&self) -> Result<(), ManifestError> {
        check_profile(&self.profile, self.len)?;
        match &self.body {
            Body::Inline(chunks) => {
                if chunks.len() > MANIFEST_INLINE_COUNT_MAX {
                    return Err(ManifestError::Count { count: chunks.len() });
                }
                check_list(&self.epochs, chunks, self.len)?;
                self.check_chunk_lens(chunks, 0)
            }
            Body::Paged(root) => {
                check_distinct(&self.epochs)?;
                if usize::from(root.height) >= MANIFEST_DEPTH_MAX {
                    return Err(ManifestError::TooDeep);
                }
                if self.len == 0 {
                    return Err(ManifestError::Count { count: 0 });
                }
                self.root(root).resolve(&self.epochs).map(|_| ())
            }
        }
    }

    /// All chunks of the file, in order, everything checked: the lengths of chunks, pages and file, the heights, and
    /// that the table of epochs is the one of its chunks and pages.
    ///
    /// `source` gives a page's plaintext, opened under [`crate::seal::ChunkKeys::of_pages`] of the page's epoch, which
    /// proves that it is the page of that id. For a very large file [`walk`](Self::walk) needs less memory.
    ///
    /// # Errors
    /// [`ReadManifestError`], as documented there; [`ManifestError::TooManyChunks`] above
    /// [`MANIFEST_READ_COUNT_MAX`]: a few pages that list each other can stand for any number of chunks.
    pub fn chunks<E>(
        &self,
        mut source: impl FnMut(&PageAddress) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<Chunk>, ReadManifestError<E>> {
        let chunks = self.chunks_of_range(0..self.len, &mut source)?;
        Ok(chunks.into_iter().map(|(_, chunk)| chunk).collect())
    }

    /// The chunks that hold some of the bytes in `range`, each with its place in the file. Reads only the pages on the
    /// way to them, and checks what it reads.
    ///
    /// # Errors
    /// As [`chunks`](Self::chunks).
    pub fn chunks_of_range<E>(
        &self,
        range: Range<u64>,
        mut source: impl FnMut(&PageAddress) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<(u64, Chunk)>, ReadManifestError<E>> {
        self.list(range, &mut source, MANIFEST_READ_COUNT_MAX)
    }

    /// Visits the pages and chunks that hold some of the bytes in `range`, in order: a page before what it lists, and
    /// what it lists after the page was checked. If the range is the whole file, the table of epochs is checked against
    /// all that was visited, at the end: nothing visited counts before this returns. `visit` may break the walk off; it
    /// then ends without that check and without an error.
    ///
    /// Holds one page of each height.
    ///
    /// # Errors
    /// [`ReadManifestError`], as documented there.
    pub fn walk<E>(
        &self,
        range: Range<u64>,
        source: &mut impl FnMut(&PageAddress) -> Result<Vec<u8>, E>,
        visit: impl FnMut(Visited) -> ControlFlow<()>,
    ) -> Result<(), ReadManifestError<E>> {
        self.check()?;
        let is_whole = range.start == 0 && range.end >= self.len;
        let known = self.epochs.iter().copied().zip(0..).collect();
        let mut walk = Walk { manifest: self, range, source, visit, known, used: 0, is_whole, chunk_count: 0 };
        match &self.body {
            Body::Inline(chunks) => walk.visit_chunks(&self.epochs, chunks, 0).map(|_| ()).map_err(Into::into),
            Body::Paged(root) => {
                let child = self.root(root);
                let flow = walk.visit_page(&child, &self.epochs, root.height, 0)?;
                if flow.is_break() || !is_whole {
                    return Ok(());
                }
                if walk.used != self.epochs.len() {
                    return Err(ManifestError::Epochs.into());
                }
                if walk.chunk_count <= MANIFEST_INLINE_COUNT_MAX {
                    return Err(ManifestError::Count { count: walk.chunk_count }.into());
                }
                Ok(())
            }
        }
    }

    /// The chunks of a range, if they are no more than `count_max`.
    pub(super) fn list<E>(
        &self,
        range: Range<u64>,
        source: &mut impl FnMut(&PageAddress) -> Result<Vec<u8>, E>,
        count_max: usize,
    ) -> Result<Vec<(u64, Chunk)>, ReadManifestError<E>> {
        let mut chunks = Vec::new();
        let mut is_complete = true;
        self.walk(range, source, |visited| {
            if let Visited::Chunk { offset, chunk } = visited {
                is_complete = chunks.len() < count_max;
                if !is_complete {
                    return ControlFlow::Break(());
                }
                chunks.push((offset, chunk));
            }
            ControlFlow::Continue(())
        })?;
        if is_complete { Ok(chunks) } else { Err(ManifestError::TooManyChunks.into()) }
    }

    /// The root page as if the manifest were a page that lists it.
    const fn root(&self, root: &PageRef) -> ChildRef {
        ChildRef { id: root.id, epoch_index: root.epoch_index, len: root.len, content_len: self.len }
    }

    /// Checks the lengths of chunks in a row, the first of which begins at `offset`.
    fn check_chunk_lens(&self, chunks: &[ChunkRef], offset: u64) -> Result<(), ManifestError> {
        let mut end = offset;
        for chunk in chunks {
            end = end.saturating_add(u64::from(chunk.len));
            check_chunk_len(&self.profile, chunk.len, end == self.len)?;
        }
        Ok(())
    }
}

/// A walk on its way. Its depth is that of the tree, which was checked.
struct Walk<'m, S, V> {
    manifest: &'m Manifest,
    range: Range<u64>,
    source: &'m mut S,
    visit: V,
    /// Where each epoch stands in the manifest's table.
    known: BTreeMap<EpochId, usize>,
    /// Epochs of that table met so far, if the walk is whole.
    used: usize,
    is_whole: bool,
    chunk_count: usize,
}

impl<S, V: FnMut(Visited) -> ControlFlow<()>> Walk<'_, S, V> {
    fn visit_page<E>(
        &mut self,
        child: &ChildRef,
        epochs: &[EpochId],
        height: u8,
        offset: u64,
    ) -> Result<ControlFlow<()>, ReadManifestError<E>>
    where
        S: FnMut(&PageAddress) -> Result<Vec<u8>, E>,
    {
        let address = child.resolve(epochs)?;
        if (self.visit)(Visited::Page(address)).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        let plaintext = (self.source)(&address).map_err(ReadManifestError::Source)?;
        if plaintext.len() != address.len as usize {
            return Err(ManifestError::PageLen { len: plaintext.len() }.into());
        }
        let page: Page = decode_object(&plaintext, MANIFEST_PAGE_LEN_MAX)?;
        drop(plaintext);
        match (&page.body, height.checked_sub(1)) {
            (PageBody::Leaf(chunks), None) => {
                check_count(chunks.len())?;
                check_list(&page.epochs, chunks, child.content_len)?;
                self.manifest.check_chunk_lens(chunks, offset)?;
                for epoch in &page.epochs {
                    self.meet(epoch)?;
                }
                if self.visit_chunks(&page.epochs, chunks, offset)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            (PageBody::Inner(children), Some(height)) => {
                check_count(children.len())?;
                check_list(&page.epochs, children, child.content_len)?;
                let mut begin = offset;
                for child in children {
                    let end = begin + child.content_len;
                    if child.content_len == 0 {
                        return Err(ManifestError::Count { count: 0 }.into());
                    }
                    if overlaps(&self.range, begin, end)
                        && self.visit_page(child, &page.epochs, height, begin)?.is_break()
                    {
                        return Ok(ControlFlow::Break(()));
                    }
                    begin = end;
                }
            }
            (PageBody::Leaf(_), Some(_)) | (PageBody::Inner(_), None) => return Err(ManifestError::Height.into()),
        }
        self.meet(&address.epoch)?;
        Ok(ControlFlow::Continue(()))
    }

    fn visit_chunks(
        &mut self,
        epochs: &[EpochId],
        chunks: &[ChunkRef],
        offset: u64,
    ) -> Result<ControlFlow<()>, ManifestError> {
        let mut begin = offset;
        for reference in chunks {
            let end = begin + u64::from(reference.len);
            if overlaps(&self.range, begin, end) {
                self.chunk_count += 1;
                let visited = Visited::Chunk { offset: begin, chunk: reference.resolve(epochs)? };
                if (self.visit)(visited).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            begin = end;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Notes that an epoch is used: it must be in the table, and in a whole walk no earlier than its turn.
    fn meet(&mut self, epoch: &EpochId) -> Result<(), ManifestError> {
        let index = *self.known.get(epoch).ok_or(ManifestError::Epochs)?;
        if self.is_whole && index > self.used {
            return Err(ManifestError::Epochs);
        }
        if index == self.used {
            self.used += 1;
        }
        Ok(())
    }
}

/// Whether `begin..end` has a byte of `range`; an empty range has none.
const fn overlaps(range: &Range<u64>, begin: u64, end: u64) -> bool {
    range.start < range.end && begin < range.end && range.start < end
}

const fn check_count(count: usize) -> Result<(), ManifestError> {
    if count == 0 || count > MANIFEST_FAN_OUT_MAX { Err(ManifestError::Count { count }) } else { Ok(()) }
}
