//! Frames: how messages are told apart on a stream.
//!
//! ```text
//! frame := length (u32, little endian) ‖ body (length bytes)
//! ```
//!
//! What a body holds, and the bound on its length, is the caller's: each stream's protocol names its bound from
//! [`zerocloud_crdt::limits`].

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zerocloud_crdt::mutated;

/// Length of a frame's header in bytes.
pub const FRAME_HEADER_LEN: usize = 4;

/// What is set aside before any of the body has come. A peer that announces much and sends nothing costs this.
const INITIAL_CAPACITY: usize = 16 << 10;

/// Frames up to this length are written together with their header, in one call.
const JOINED_LEN_MAX: usize = 16 << 10;

/// Why a frame was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Refused before anything was allocated or sent.
    #[error("a frame of {declared} bytes is above the limit of {limit} bytes")]
    TooLong {
        /// The length that the header says, or that was to be written.
        declared: usize,
        /// The bound for this frame.
        limit: usize,
    },
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
    /// The stream failed: it was reset, or the connection is closed.
    #[error("the stream failed: {0}")]
    Stream(#[from] io::Error),
}

/// Reads the next frame's body. `None` when the stream ended after a whole frame. Not cancel-safe: what was read of a
/// frame is lost with the future.
///
/// `limit`: the longest body that is accepted, in bytes. No more than it is ever allocated, and never more than about
/// twice what has come so far.
///
/// # Errors
/// [`FrameError::TooLong`] before allocation, [`FrameError::Truncated`], or the stream's own error. After any of them
/// the stream is of no more use.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin), limit: usize) -> Result<Option<Vec<u8>>, FrameError> {
    let mut header = [0; FRAME_HEADER_LEN];
    let mut filled_len = 0;
    while let Some(rest) = header.get_mut(filled_len..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await? {
            0 if filled_len == 0 => return Ok(None),
            0 => return Err(FrameError::Truncated),
            len => filled_len += len,
        }
    }
    let declared = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if mutated!(UncheckedFrames) {
        drop(Vec::<u8>::with_capacity(declared));
    }
    if declared > limit {
        return Err(FrameError::TooLong { declared, limit });
    }
    let mut body = Vec::with_capacity(declared.min(INITIAL_CAPACITY));
    let mut rest = stream.take(declared as u64);
    while body.len() < declared {
        if body.len() == body.capacity() {
            body.reserve_exact(body.len().min(declared - body.len()));
        }
        if rest.read_buf(&mut body).await? == 0 {
            return Err(FrameError::Truncated);
        }
    }
    Ok(Some(body))
}

/// Writes a frame and flushes. Not cancel-safe: a future that is dropped may leave a part of the frame behind.
///
/// `limit`: the bound that the reader applies.
///
/// # Errors
/// [`FrameError::TooLong`] before anything is sent, or the stream's own error.
pub async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), body: &[u8], limit: usize) -> Result<(), FrameError> {
    let declared = body.len();
    let header = match u32::try_from(declared) {
        Ok(len) if declared <= limit => len.to_le_bytes(),
        _ => return Err(FrameError::TooLong { declared, limit }),
    };
    if declared <= JOINED_LEN_MAX {
        let mut frame = Vec::with_capacity(FRAME_HEADER_LEN + declared);
        frame.extend_from_slice(&header);
        frame.extend_from_slice(body);
        stream.write_all(&frame).await?;
    } else {
        stream.write_all(&header).await?;
        stream.write_all(body).await?;
    }
    Ok(stream.flush().await?)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use proptest::prelude::*;
    use tokio::io::ReadBuf;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn framed(bodies: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for body in bodies {
            run(write_frame(&mut bytes, body, usize::MAX)).unwrap();
        }
        bytes
    }

    /// Hands out at most `step` bytes at a time.
    struct Trickle<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl AsyncRead for Trickle<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let (now, later) = self.bytes.split_at(self.step.min(self.bytes.len()).min(buf.remaining()));
            buf.put_slice(now);
            self.bytes = later;
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_frame_is_its_length_and_its_body() {
        assert_eq!(framed(&[vec![], vec![7, 8]]), [0, 0, 0, 0, 2, 0, 0, 0, 7, 8]);
    }

    #[test]
    fn threat_46_a_length_above_the_limit_is_refused_before_the_body_comes() {
        let bytes = u32::MAX.to_le_bytes();
        let error = run(read_frame(&mut &bytes[..], 10)).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { declared: 0xffff_ffff, limit: 10 }));
    }

    /// Notes how much room the reader has made when it asks for more.
    struct Miser {
        sent_len: usize,
        header: [u8; 4],
    }

    impl AsyncRead for Miser {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let header = self.header;
            match self.sent_len {
                0 => buf.put_slice(&header),
                4..1_000_000 => {
                    assert!(buf.remaining() <= INITIAL_CAPACITY.max(self.sent_len), "{} for nothing", buf.remaining());
                    buf.put_slice(&[1; 1000][..1000.min(buf.remaining())]);
                }
                _ => {}
            }
            self.sent_len += buf.filled().len();
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn threat_46_an_announced_length_allocates_no_more_than_twice_what_came() {
        let mut stream = Miser { sent_len: 0, header: u32::MAX.to_le_bytes() };
        let error = run(read_frame(&mut stream, usize::MAX)).unwrap_err();
        assert!(matches!(error, FrameError::Truncated));
        assert!(stream.sent_len >= 1_000_000);
    }

    #[test]
    fn a_frame_above_the_limit_is_not_written() {
        let mut bytes = Vec::new();
        assert!(matches!(run(write_frame(&mut bytes, &[0; 11], 10)), Err(FrameError::TooLong { .. })));
        assert!(bytes.is_empty());
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..5),
            step in 1_usize..20_000,
        ) {
            let bytes = framed(&bodies);
            let mut stream = Trickle { bytes: &bytes, step };
            run(async {
                for body in &bodies {
                    assert_eq!(read_frame(&mut stream, 40_000).await.unwrap().as_ref(), Some(body));
                }
                assert!(read_frame(&mut stream, 40_000).await.unwrap().is_none());
            });
        }

        #[test]
        fn a_truncated_frame_is_an_error(body in prop::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>()) {
            let bytes = framed(&[body]);
            let cut = cut.index(bytes.len());
            let result = run(read_frame(&mut &bytes[..cut], 300));
            if cut == 0 {
                prop_assert!(matches!(result, Ok(None)));
            } else {
                prop_assert!(matches!(result, Err(FrameError::Truncated)));
            }
        }

        #[test]
        fn any_bytes_give_frames_an_end_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut stream = bytes.as_slice();
            let mut read_len = 0;
            while let Ok(Some(body)) = run(read_frame(&mut stream, 200)) {
                prop_assert!(body.len() <= 200);
                read_len += FRAME_HEADER_LEN + body.len();
            }
            prop_assert!(read_len <= bytes.len());
        }
    }
}
