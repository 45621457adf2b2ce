//! A link for tests whose connections end at a border between two frames: whatever is said, in whichever direction.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zerocloud_crdt::id::DeviceId;

use super::stream::{RawRecv, RawSend};
use super::{
    AddressHint, BoxFuture, CloseCode, CloseReason, Conn, DialError, Link, Path, Protocol, RawConn, RawStreams,
    StreamKind,
};
use crate::wire::FRAME_HEADER_LEN;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It is closed at once: what was written and has not arrived is lost.
    Close,
    /// It stays, and every stream on it is reset: what was written arrives before.
    Reset,
}

/// After how many frames the connections of a link end. Shared by all of them.
#[derive(Debug)]
pub(crate) struct Cut {
    how: How,
    /// Frames that still pass; 0: none does any more.
    left_count: AtomicUsize,
}

impl Cut {
    /// Cuts nothing until it is [armed](Self::arm).
    pub(crate) fn new(how: How) -> Arc<Self> {
        Arc::new(Self { how, left_count: AtomicUsize::new(usize::MAX) })
    }

    /// Lets so many more frames pass, of all connections together.
    pub(crate) fn arm(&self, frame_count: usize) {
        self.left_count.store(frame_count, Ordering::SeqCst);
    }

    /// Whether it has cut.
    pub(crate) fn is_done(&self) -> bool {
        self.left_count.load(Ordering::SeqCst) == 0
    }

    fn pass(&self, conn: &dyn RawConn) {
        let left_count = self.left_count.fetch_sub(1, Ordering::SeqCst);
        if left_count == 1 && self.how == How::Close {
            conn.close(CloseCode::Done, "");
        }
    }
}

/// A link, cut.
#[derive(Debug)]
pub(crate) struct CuttingLink {
    pub(crate) inner: Arc<dyn Link>,
    pub(crate) cut: Arc<Cut>,
}

impl CuttingLink {
    fn wrap(&self, conn: Conn) -> Conn {
        let raw = CuttingConn { inner: conn.raw.clone(), cut: self.cut.clone() };
        Conn::new(Arc::new(raw), conn.peer, conn.protocol, conn.side)
    }
}

impl Link for CuttingLink {
    fn id(&self) -> DeviceId {
        self.inner.id()
    }

    fn dial<'a>(
        &'a self,
        peer: DeviceId,
        protocol: Protocol,
        hints: &'a [AddressHint],
    ) -> BoxFuture<'a, Result<Conn, DialError>> {
        Box::pin(async move { Ok(self.wrap(self.inner.dial(peer, protocol, hints).await?)) })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Conn>> {
        Box::pin(async move { Some(self.wrap(self.inner.accept().await?)) })
    }

    fn addresses(&self) -> Vec<AddressHint> {
        self.inner.addresses()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}

#[derive(Clone, Debug)]
struct CuttingConn {
    inner: Arc<dyn RawConn>,
    cut: Arc<Cut>,
}

impl CuttingConn {
    fn wrap(&self, (send, recv): RawStreams) -> RawStreams {
        let half = || Half { conn: self.clone(), header: Vec::new(), body_len: 0 };
        (Box::new(CuttingSend { inner: send, half: half() }), Box::new(CuttingRecv { inner: recv, half: half() }))
    }
}

impl RawConn for CuttingConn {
    fn open_bi(&self, kind: StreamKind) -> BoxFuture<'_, Result<RawStreams, CloseReason>> {
        Box::pin(async move { Ok(self.wrap(self.inner.open_bi(kind).await?)) })
    }

    fn accept_bi(&self) -> BoxFuture<'_, Result<RawStreams, CloseReason>> {
        Box::pin(async move { Ok(self.wrap(self.inner.accept_bi().await?)) })
    }

    fn path(&self) -> Option<Path> {
        self.inner.path()
    }

    fn closed(&self) -> BoxFuture<'_, CloseReason> {
        self.inner.closed()
    }

    fn close_reason(&self) -> Option<CloseReason> {
        self.inner.close_reason()
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.inner.close(code, reason);
    }
}

/// Where one half of a stream is in its frames.
struct Half {
    conn: CuttingConn,
    header: Vec<u8>,
    /// Bytes of the frame's body that are still to come.
    body_len: usize,
}

impl Half {
    fn check(&self) -> io::Result<()> {
        if self.conn.cut.is_done() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    /// Bytes up to the end of the header or of the body.
    fn step_len(&self) -> usize {
        if self.body_len > 0 { self.body_len } else { FRAME_HEADER_LEN - self.header.len() }
    }

    fn advance(&mut self, bytes: &[u8]) {
        let is_end = if self.body_len > 0 {
            self.body_len -= bytes.len();
            self.body_len == 0
        } else {
            self.header.extend_from_slice(bytes);
            let Ok(header) = <[u8; FRAME_HEADER_LEN]>::try_from(&*self.header) else { return };
            self.header.clear();
            self.body_len = u32::from_le_bytes(header) as usize;
            self.body_len == 0
        };
        if is_end {
            self.conn.cut.pass(&*self.conn.inner);
        }
    }
}

struct CuttingSend {
    inner: Box<dyn RawSend>,
    half: Half,
}

impl AsyncWrite for CuttingSend {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Err(error) = self.half.check() {
            self.inner.reset();
            return Poll::Ready(Err(error));
        }
        let buf = &buf[..buf.len().min(self.half.step_len())];
        let len = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.half.advance(&buf[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half.check()?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl RawSend for CuttingSend {
    fn set_priority(&mut self, priority: i32) {
        self.inner.set_priority(priority);
    }

    fn reset(&mut self) {
        self.inner.reset();
    }
}

struct CuttingRecv {
    inner: Box<dyn RawRecv>,
    half: Half,
}

impl AsyncRead for CuttingRecv {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.half.check()?;
        let mut bytes = vec![0; buf.remaining().min(self.half.step_len())];
        let mut piece = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut piece))?;
        buf.put_slice(piece.filled());
        let len = piece.filled().len();
        self.half.advance(&bytes[..len]);
        Poll::Ready(Ok(()))
    }
}

impl RawRecv for CuttingRecv {}
