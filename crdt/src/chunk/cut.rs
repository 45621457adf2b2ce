//! The cutter: FastCDC over a secret gear table, fed with buffers as they are read.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::ChunkLens;
use crate::{
    keys::{EpochSecret, Purpose},
    manifest::Class,
};

/// The gear table of an epoch: 256 secret words by which content is cut, and the same shifted left by one bit, which
/// the cutting loop uses for every second byte (Xia et al., "The Design of Fast Content-Defined Chunking for Data
/// Deduplication Based Storage Systems", IEEE TPDS 2020, section 3.7).
///
/// The words are the extended output of keyed BLAKE3 under the epoch's chunking key, over the context
/// `zerocloud/1 gear`: 2,048 bytes, each eight of them one word, least significant byte first.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Gear {
    words: Box<[u64; 256]>,
    shifted: Box<[u64; 256]>,
}

impl std::fmt::Debug for Gear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gear(..)")
    }
}

impl Gear {
    /// Expands the table of an epoch: some microseconds, to be spent once for each epoch and not for each file.
    pub fn of_epoch(secret: &EpochSecret) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(secret.key(Purpose::Chunking).expose());
        hasher.update(b"zerocloud/1 gear");
        let mut output = hasher.finalize_xof();
        hasher.zeroize();
        let mut bytes = Box::new([0; 256 * 8]);
        output.fill(bytes.as_mut_slice());
        output.zeroize();
        let mut table = Self { words: Box::new([0; 256]), shifted: Box::new([0; 256]) };
        let (words, _) = bytes.as_chunks::<8>();
        for ((word, shifted), bytes) in table.words.iter_mut().zip(table.shifted.iter_mut()).zip(words) {
            *word = u64::from_le_bytes(*bytes);
            *shifted = *word << 1;
        }
        bytes.as_mut_slice().zeroize();
        table
    }

    /// The secret words: for known answers, not for callers.
    #[doc(hidden)]
    pub const fn words(&self) -> &[u64; 256] {
        &self.words
    }
}

/// Cuts content into chunks whose borders depend on the content (FastCDC, normalisation level 2).
///
/// Feed it with [`update`](Self::update), buffer by buffer, then [`finish`](Self::finish); each chunk is handed to a
/// closure, in order. The chunks touch, cover the content exactly, and have the lengths of [`Class::chunk_lens`]; the
/// last may be shorter than the minimum. How the content was split into buffers changes nothing: the cuts are those of
/// the whole content at once, on every platform. Empty content has no chunk.
///
/// A buffer of at least the maximum chunk's length is cut where it lies; only the bytes around its end are copied. At
/// most three maximum lengths are held.
#[derive(Debug)]
pub struct Chunker<'g> {
    cutter: Cutter<'g>,
    /// Bytes not cut yet, behind `start`: always fewer than the maximum length between two calls.
    open: Vec<u8>,
    start: usize,
}

impl<'g> Chunker<'g> {
    /// A chunker for one file: `gear` is the table of the profile's epoch.
    pub fn new(class: Class, gear: &'g Gear) -> Self {
        Self { cutter: Cutter::new(class, gear), open: Vec::new(), start: 0 }
    }

    /// Cuts content that is wholly at hand, without a copy.
    pub fn cut_whole(class: Class, gear: &'g Gear, content: &[u8], mut chunk: impl FnMut(&[u8])) {
        Cutter::new(class, gear).cut_to_end(content, &mut chunk);
    }

    /// Takes the next bytes of the content and hands over the chunks that they complete.
    pub fn update(&mut self, input: &[u8], mut chunk: impl FnMut(&[u8])) {
        let mut input = input;
        let len_max = self.cutter.lens.max as usize;
        let open_len = self.open.len() - self.start;
        if open_len > 0 {
            // One maximum length of the input is enough to find every cut that begins before it.
            let (near, _) = input.split_at(input.len().min(len_max));
            if self.start > open_len {
                self.open.drain(..self.start);
                self.start = 0;
            }
            let border = self.open.len();
            self.open.extend_from_slice(near);
            while self.start < border && self.open.len() - self.start >= len_max {
                let (_, window) = self.open.split_at(self.start);
                let (first, _) = self.cutter.split_first(window);
                chunk(first);
                self.start += first.len();
            }
            if self.start < border {
                // The window is not full, so all the input is in it: wait for more.
                return;
            }
            (_, input) = input.split_at(self.start - border);
            self.open.clear();
            self.start = 0;
        }
        while input.len() >= len_max {
            let (first, rest) = self.cutter.split_first(input);
            chunk(first);
            input = rest;
        }
        self.open.extend_from_slice(input);
    }

    /// As [`update`](Self::update), for whoever has the bytes elsewhere: gives the lengths of the chunks, in bytes.
    pub fn update_lens(&mut self, input: &[u8]) -> Vec<usize> {
        let mut lens = Vec::new();
        self.update(input, |chunk| lens.push(chunk.len()));
        lens
    }

    /// Bytes held between two calls.
    #[cfg(test)]
    pub(super) const fn held_len(&self) -> usize {
        self.open.len()
    }

    /// Ends the content and hands over the chunks that remain.
    pub fn finish(self, mut chunk: impl FnMut(&[u8])) {
        let (_, rest) = self.open.split_at(self.start);
        self.cutter.cut_to_end(rest, &mut chunk);
    }

    /// As [`finish`](Self::finish), and gives the lengths of the chunks, in bytes.
    pub fn finish_lens(self) -> Vec<usize> {
        let mut lens = Vec::new();
        self.finish(|chunk| lens.push(chunk.len()));
        lens
    }
}

/// Where the next cut is, without any state between two cuts.
#[derive(Debug)]
struct Cutter<'g> {
    gear: &'g Gear,
    lens: ChunkLens,
    /// The masks of the normalised judgement below and above the average; none where every chunk has the same length.
    masks: Option<(u64, u64)>,
}

impl<'g> Cutter<'g> {
    fn new(class: Class, gear: &'g Gear) -> Self {
        let lens = class.chunk_lens();
        let masks = match class {
            Class::Single => None,
            Class::Small | Class::Medium | Class::Large => {
                Some(select_masks(lens.average as usize, Normalization::Level2))
            }
        };
        Self { gear, lens, masks }
    }

    /// Splits the first chunk off. Exact if `window` has at least the maximum length or ends with the content.
    fn split_first<'w>(&self, window: &'w [u8]) -> (&'w [u8], &'w [u8]) {
        let ChunkLens { min, average, max } = self.lens;
        let len = match self.masks {
            None => window.len().min(max as usize),
            Some((strict, loose)) => {
                let (_, len) = cut_gear(
                    window,
                    min as usize,
                    average as usize,
                    max as usize,
                    strict,
                    loose,
                    strict << 1,
                    loose << 1,
                    self.gear.words.as_slice(),
                    self.gear.shifted.as_slice(),
                );
                len
            }
        };
        window.split_at(len)
    }

    fn cut_to_end(&self, content: &[u8], chunk: &mut impl FnMut(&[u8])) {
        let mut rest = content;
        while !rest.is_empty() {
            let (first, behind) = self.split_first(rest);
            chunk(first);
            rest = behind;
        }
    }
}
