//! The two halves of a stream, the same on every back end.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a stream carries: what comes first when the path is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// Chunks and manifest pages: last, for they are many.
    Chunk,
    /// A space's log.
    Log,
    /// The control stream of the connection: first.
    Control,
}

impl StreamKind {
    /// The priority on the transport: higher goes first.
    const fn priority(self) -> i32 {
        match self {
            Self::Chunk => 0,
            Self::Log => 1,
            Self::Control => 2,
        }
    }
}

/// What a back end's sending half does. What is written may wait for a flush. Dropping it may do anything: the wrapper
/// ends or resets it before.
pub(super) trait RawSend: AsyncWrite + Send + Unpin {
    fn set_priority(&mut self, priority: i32);
    fn reset(&mut self);
}

/// What a back end's receiving half does. Dropping it tells the peer to stop sending.
pub(super) trait RawRecv: AsyncRead + Send + Unpin {}

/// The sending half of a stream. What is written may wait for a `flush`. `shutdown` ends it; a half that is dropped before is reset, so that the receiver
/// never takes what was cut short for a whole.
pub struct SendStream {
    raw: Box<dyn RawSend>,
    is_finished: bool,
}

impl SendStream {
    pub(super) fn new(raw: Box<dyn RawSend>) -> Self {
        Self { raw, is_finished: false }
    }

    /// Sets the stream's priority among those of its connection.
    pub fn set_kind(&mut self, kind: StreamKind) {
        self.raw.set_priority(kind.priority());
    }
}

impl AsyncWrite for SendStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.raw).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.raw).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.raw).poll_shutdown(cx));
        self.is_finished |= result.is_ok();
        Poll::Ready(result)
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if !self.is_finished {
            self.raw.reset();
        }
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("is_finished", &self.is_finished).finish_non_exhaustive()
    }
}

/// The receiving half of a stream. It reads to an end only if the sender ended it; a reset or a closed connection is
/// an error. Dropping it tells the sender to stop.
pub struct RecvStream {
    raw: Box<dyn RawRecv>,
}

impl RecvStream {
    pub(super) fn new(raw: Box<dyn RawRecv>) -> Self {
        Self { raw }
    }
}

impl AsyncRead for RecvStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.raw).poll_read(cx, buf)
    }
}

impl fmt::Debug for RecvStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvStream").finish_non_exhaustive()
    }
}
