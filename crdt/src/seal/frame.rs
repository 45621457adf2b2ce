//! Compression of what is sealed: one zstd frame (RFC 8878) without dictionary or checksum, its length declared.

use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe,
};

use crate::limits::ZSTD_WINDOW_LOG_MAX;

/// The level that sealing compresses with: level 3 makes 2 to 6 % less for a third more time.
pub(super) const LEVEL: i32 = 1;

/// Length of each of the two samples that decide whether compression is tried, in bytes.
const SAMPLE_LEN: usize = 4 << 10;
/// A sample pays if it shrinks by one part in sixteen.
const SAMPLE_PAYS_LEN: usize = SAMPLE_LEN - SAMPLE_LEN / 16;

/// A compressor that keeps its tables between chunks.
pub(super) struct Squeezer {
    compressor: Compressor<'static>,
    sample: Box<[u8; SAMPLE_PAYS_LEN]>,
}

impl Squeezer {
    /// `None` if zstd refuses the level.
    pub(super) fn new(level: i32) -> Option<Self> {
        Some(Self { compressor: Compressor::new(level).ok()?, sample: Box::new([0; SAMPLE_PAYS_LEN]) })
    }

    /// Whether one of two samples, the first and the middle 4 KiB, shrinks. Short data are their own sample: always
    /// worth a try.
    pub(super) fn pays(&mut self, data: &[u8]) -> bool {
        if data.len() <= 2 * SAMPLE_LEN {
            return !data.is_empty();
        }
        let middle = data.len() / 2 - SAMPLE_LEN / 2;
        [0, middle].into_iter().any(|start| {
            let sample = data.get(start..start + SAMPLE_LEN).unwrap_or_default();
            self.compressor.compress_to_buffer(sample, self.sample.as_mut_slice()).is_ok()
        })
    }

    /// Compresses `data` into `frame` and returns how much of it was needed; `None` if it does not fit.
    pub(super) fn squeeze(&mut self, data: &[u8], frame: &mut [u8]) -> Option<usize> {
        self.compressor.compress_to_buffer(data, frame).ok()
    }
}

/// A decompressor that keeps its tables between chunks.
pub(super) struct Expander(Decompressor<'static>);

impl Expander {
    pub(super) fn new() -> Self {
        Self(Decompressor::default())
    }

    /// Decompresses `frame` into `data`, whose length is the declared one. `None` unless the frame is a single one,
    /// ends where `frame` ends, fills `data` exactly and asks for nothing that we do not write. Allocates nothing.
    pub(super) fn expand(&mut self, frame: &[u8], data: &mut [u8]) -> Option<()> {
        if !is_plain_frame(frame, data.len()) {
            return None;
        }
        (self.0.decompress_to_buffer(frame, data).ok()? == data.len()).then_some(())
    }
}

/// Whether `frame` is one zstd frame and nothing else, of `len` declared bytes, without dictionary, and with a window
/// of at most 2^[`ZSTD_WINDOW_LOG_MAX`] bytes. zstd itself would also read several frames and skippable ones.
fn is_plain_frame(frame: &[u8], len: usize) -> bool {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, next, ..] = *frame else { return false };
    let is_single_segment = descriptor & 0b0010_0000 != 0;
    let has_other_flags = descriptor & 0b0001_1111 != 0;
    if has_other_flags {
        return false;
    }
    if !is_single_segment {
        let base = 1u64 << (10 + (next >> 3));
        let window_len = base + base / 8 * u64::from(next & 7);
        if window_len > 1 << ZSTD_WINDOW_LOG_MAX {
            return false;
        }
    }
    matches!(zstd_safe::get_frame_content_size(frame), Ok(Some(declared)) if declared == len as u64)
        && zstd_safe::find_frame_compressed_size(frame) == Ok(frame.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_plain_frame_is_expanded() {
        let data = b"again and again and again and again and again".repeat(400);
        let frame = zstd::bulk::compress(&data, LEVEL).unwrap();
        let mut expander = Expander::new();
        let mut out = vec![0; data.len()];
        assert!(expander.expand(&frame, &mut out).is_some());
        assert_eq!(out, data);

        let mut refused = |frame: &[u8], len: usize| expander.expand(frame, &mut vec![0; len]).is_none();
        assert!(refused(&frame, data.len() + 1), "a longer declaration");
        assert!(refused(&frame, data.len() - 1), "a shorter declaration");
        assert!(refused(&[frame.as_slice(), &[0]].concat(), data.len()), "a trailing byte");
        assert!(refused(&[frame.as_slice(), &frame].concat(), 2 * data.len()), "two frames");
        assert!(refused(&[frame.as_slice(), &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat(), data.len()), "skippable");
        assert!(refused(&frame[..frame.len() - 1], data.len()), "a cut frame");
        let mut wide = frame.clone();
        wide[4] &= !0b0010_0000;
        wide[5] = 14 << 3;
        assert!(refused(&wide, data.len()), "a window of 16 MiB");
        let mut with_dictionary = frame.clone();
        with_dictionary[4] |= 1;
        assert!(refused(&with_dictionary, data.len()), "a dictionary");
        assert!(refused(&[], 0));
    }
}
