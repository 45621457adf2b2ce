//! Building a manifest from chunks in order, page by page.

use super::{
    Body, Chunk, ChunkRef, Manifest, ManifestError, PageRef, Profile,
    page::{ChildRef, EpochTable, Page, PageBody, Reference, check_chunk_len, check_profile},
};
use crate::{
    codec::encode_object,
    id::{ChunkId, EpochId},
    limits::{FILE_LEN_MAX, MANIFEST_DEPTH_MAX, MANIFEST_FAN_OUT_MAX, MANIFEST_INLINE_COUNT_MAX},
};

/// The fewest references of a page that is not the last of its level.
const FAN_OUT_MIN: usize = MANIFEST_FAN_OUT_MAX / 8;
/// One id in so many ends a page: with the bounds on both sides, a page has about 560 references.
const PAGE_END_ODDS: u16 = 512;

/// A page to be sealed and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltPage {
    /// The page's address.
    pub id: ChunkId,
    /// Under which epoch it is named.
    pub epoch: EpochId,
    /// The page itself.
    pub plaintext: Vec<u8>,
}

/// Builds the manifest of a file version from its chunks.
///
/// `name` gives a page its id and epoch: by default `|page| (keys.id(page), keys.epoch())` with the page keys of the
/// epoch that is written under. Who replaces a version asks first whether the page is known under that version's
/// epochs, as with chunks, so that an epoch change rewrites no page that does not change.
///
/// A page ends behind the first reference, from the 128th on, whose id begins with a multiple of 512 (two bytes,
/// little endian), and at the latest with 1,024: ids are keyed hashes, so one in 512 does, and always the same. A
/// fixed number per page would move every later page by one reference when an edit makes one chunk more.
///
/// Holds the open page of each level and the pages that were not [taken](Self::take_pages).
#[derive(Debug)]
pub struct ManifestBuilder<N> {
    profile: Profile,
    name: N,
    len: u64,
    chunk_count: usize,
    /// The last chunk's length, if it is one that only a file's last chunk may have.
    short: Option<u32>,
    epochs: EpochTable,
    leaf: OpenPage<ChunkRef>,
    /// Open inner pages, by height from 1.
    inner: Vec<OpenPage<ChildRef>>,
    pages: Vec<BuiltPage>,
}

/// The page of one level that is being filled.
#[derive(Debug)]
struct OpenPage<R> {
    epochs: EpochTable,
    refs: Vec<R>,
    content_len: u64,
    /// Pages of this level that were closed before.
    closed_count: usize,
}

impl<R: Reference> OpenPage<R> {
    const fn new() -> Self {
        Self { epochs: EpochTable::new(), refs: Vec::new(), content_len: 0, closed_count: 0 }
    }

    /// Adds a reference; says whether the page ends behind it.
    fn push(&mut self, id: &ChunkId, reference: R) -> bool {
        self.content_len += reference.content_len();
        self.refs.push(reference);
        let [low, high, ..] = *id.as_bytes();
        let ends = u16::from_le_bytes([low, high]) % PAGE_END_ODDS == 0;
        self.refs.len() >= MANIFEST_FAN_OUT_MAX || ends && self.refs.len() >= FAN_OUT_MIN
    }

    /// Takes the page out and begins the next: its table, its references, and the length of their content.
    fn close(&mut self) -> (Vec<EpochId>, Vec<R>, u64) {
        self.closed_count += 1;
        let epochs = std::mem::take(&mut self.epochs).into_epochs();
        (epochs, std::mem::take(&mut self.refs), std::mem::take(&mut self.content_len))
    }
}

/// A page that was closed, for its parent.
#[derive(Clone, Copy, Debug)]
struct Closed {
    id: ChunkId,
    epoch: EpochId,
    len: u32,
}

impl<N: FnMut(&[u8]) -> (ChunkId, EpochId)> ManifestBuilder<N> {
    /// A builder for one file version.
    pub const fn new(profile: Profile, name: N) -> Self {
        Self {
            profile,
            name,
            len: 0,
            chunk_count: 0,
            short: None,
            epochs: EpochTable::new(),
            leaf: OpenPage::new(),
            inner: Vec::new(),
            pages: Vec::new(),
        }
    }

    /// Builds the manifest of a whole list: see [`push`](Self::push) and [`finish`](Self::finish).
    ///
    /// # Errors
    /// As those two.
    pub fn build(
        profile: Profile,
        chunks: impl IntoIterator<Item = Chunk>,
        name: N,
    ) -> Result<(Manifest, Vec<BuiltPage>), ManifestError> {
        let mut builder = Self::new(profile, name);
        for chunk in chunks {
            builder.push(chunk)?;
        }
        builder.finish()
    }

    /// Adds the next chunk of the file.
    ///
    /// # Errors
    /// [`ManifestError::ChunkLen`] if the chunk, or the one before it, is not one of the profile's class,
    /// [`ManifestError::FileTooLong`], [`ManifestError::TooManyEpochs`] and [`ManifestError::TooDeep`]. The builder is
    /// of no more use then.
    pub fn push(&mut self, chunk: Chunk) -> Result<(), ManifestError> {
        if let Some(len) = self.short {
            return Err(ManifestError::ChunkLen { len });
        }
        check_chunk_len(&self.profile, chunk.len, true)?;
        if check_chunk_len(&self.profile, chunk.len, false).is_err() {
            self.short = Some(chunk.len);
        }
        self.len += u64::from(chunk.len);
        if self.len > FILE_LEN_MAX {
            return Err(ManifestError::FileTooLong { len: self.len });
        }
        self.epochs.index_of(chunk.epoch)?;
        self.chunk_count += 1;
        let epoch_index = self.leaf.epochs.index_of(chunk.epoch)?;
        if self.leaf.push(&chunk.id, ChunkRef { id: chunk.id, epoch_index, len: chunk.len }) {
            self.close_leaf()?;
        }
        Ok(())
    }

    /// Takes the pages that are complete so far, to be sealed and stored while the file is still read.
    pub fn take_pages(&mut self) -> Vec<BuiltPage> {
        std::mem::take(&mut self.pages)
    }

    /// Ends the list: the manifest, and the pages that were not taken, each before the one that lists it.
    ///
    /// # Errors
    /// [`ManifestError::UnknownChunker`], [`ManifestError::TooManyEpochs`] and [`ManifestError::TooDeep`].
    pub fn finish(mut self) -> Result<(Manifest, Vec<BuiltPage>), ManifestError> {
        check_profile(&self.profile, self.len)?;
        let body = if self.chunk_count <= MANIFEST_INLINE_COUNT_MAX {
            Body::Inline(std::mem::take(&mut self.leaf.refs))
        } else {
            let (root, height) = self.close_all()?;
            Body::Paged(PageRef {
                id: root.id,
                epoch_index: self.epochs.index_of(root.epoch)?,
                len: root.len,
                height: u8::try_from(height).map_err(|_| ManifestError::TooDeep)?,
            })
        };
        let manifest = Manifest { profile: self.profile, len: self.len, epochs: self.epochs.into_epochs(), body };
        Ok((manifest, self.pages))
    }

    /// Closes every level, from the leaves up, until one has a single page: the root, which is returned with its
    /// height.
    fn close_all(&mut self) -> Result<(Closed, usize), ManifestError> {
        let mut last = None;
        if !self.leaf.refs.is_empty() {
            last = Some(self.close_leaf()?);
        }
        let mut closed_count = self.leaf.closed_count;
        let mut height = 0;
        while closed_count > 1 || last.is_none() {
            let level = self.inner.get_mut(height).ok_or(ManifestError::TooDeep)?;
            if closed_count == 1 {
                // The only page of the level below had ended by itself and waits here, alone.
                let ([child], [epoch]) = (level.refs.as_slice(), level.epochs.epochs()) else {
                    return Err(ManifestError::TooDeep);
                };
                let root = Closed { id: child.id, epoch: *epoch, len: child.len };
                return Ok((root, height));
            }
            last = if level.refs.is_empty() { None } else { Some(self.close_inner(height)?) };
            closed_count = self.inner.get(height).map_or(0, |level| level.closed_count);
            height += 1;
        }
        last.map(|root| (root, height)).ok_or(ManifestError::TooDeep)
    }

    fn close_leaf(&mut self) -> Result<Closed, ManifestError> {
        let (epochs, chunks, content_len) = self.leaf.close();
        self.add_page(0, Page { epochs, body: PageBody::Leaf(chunks) }, content_len)
    }

    /// Closes the open page of `inner[level]`, which has the height `level + 1`.
    fn close_inner(&mut self, level: usize) -> Result<Closed, ManifestError> {
        let (epochs, children, content_len) = self.inner.get_mut(level).ok_or(ManifestError::TooDeep)?.close();
        self.add_page(level + 1, Page { epochs, body: PageBody::Inner(children) }, content_len)
    }

    /// Names a page of a height, keeps it to be stored, and lists it in the level above.
    fn add_page(&mut self, height: usize, page: Page, content_len: u64) -> Result<Closed, ManifestError> {
        if height >= MANIFEST_DEPTH_MAX {
            return Err(ManifestError::TooDeep);
        }
        let plaintext = encode_object(&page);
        let (id, epoch) = (self.name)(&plaintext);
        let len = u32::try_from(plaintext.len()).map_err(|_| ManifestError::PageLen { len: plaintext.len() })?;
        self.pages.push(BuiltPage { id, epoch, plaintext });
        self.epochs.index_of(epoch)?;
        if self.inner.len() == height {
            self.inner.push(OpenPage::new());
        }
        let parent = self.inner.get_mut(height).ok_or(ManifestError::TooDeep)?;
        let epoch_index = parent.epochs.index_of(epoch)?;
        if parent.push(&id, ChildRef { id, epoch_index, len, content_len }) {
            self.close_inner(height)?;
        }
        Ok(Closed { id, epoch, len })
    }
}
