//! iroh's connections, streams and errors in the words of [`crate::link`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use iroh::TransportAddr;
use iroh::endpoint::{
    ConnectError, ConnectWithOptsError, ConnectingError, Connection, ConnectionError, RecvStream, SendStream,
    TransportErrorCode, VarInt,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zerocloud_crdt::id::DeviceId;

use super::congestion;
use super::lane::ConnLanes;
use crate::link::stream::{RawRecv, RawSend};
use crate::link::{
    BoxFuture, CloseCode, CloseReason, DialError, Path, RawConn, RawStreams, Route, StreamKind, peer_reason,
};

/// TLS alerts about a certificate (RFC 8446, 6.2), from `bad_certificate` to `unknown_ca`.
const CERTIFICATE_ALERTS: std::ops::RangeInclusive<u8> = 42..=48;
/// The TLS alert `no_application_protocol`: no common version.
const NO_COMMON_VERSION_ALERT: u8 = 120;

/// The code of a stream that is cut short. Streams have no codes of their own in our protocol.
const RESET_CODE: VarInt = VarInt::from_u32(0);

#[derive(Debug)]
pub(super) struct IrohConn {
    connection: Connection,
    /// Where chunks may travel beside it.
    lanes: Option<Arc<ConnLanes>>,
}

impl IrohConn {
    pub(super) const fn new(connection: Connection, lanes: Option<Arc<ConnLanes>>) -> Self {
        Self { connection, lanes }
    }

    fn end_lanes(&self) {
        if let Some(lanes) = &self.lanes {
            lanes.end();
        }
    }
}

impl RawConn for IrohConn {
    fn open_bi(&self, kind: StreamKind) -> BoxFuture<'_, Result<RawStreams, CloseReason>> {
        Box::pin(async move {
            if let Some(lanes) = self.lanes.as_ref().filter(|_| kind == StreamKind::Chunk)
                && let Some(lane) = lanes.open(self.path()).await
            {
                return Ok(lane);
            }
            streams(self.connection.open_bi().await)
        })
    }

    fn accept_bi(&self) -> BoxFuture<'_, Result<RawStreams, CloseReason>> {
        Box::pin(async move {
            let Some(lanes) = &self.lanes else { return streams(self.connection.accept_bi().await) };
            tokio::select! {
                biased;
                opened = self.connection.accept_bi() => streams(opened),
                Some(lane) = lanes.accept() => Ok(lane),
            }
        })
    }

    fn path(&self) -> Option<Path> {
        let paths = self.connection.paths();
        // Until the first choice there is one path and none is selected.
        let path = paths.iter().find(|path| path.is_selected()).or_else(|| paths.iter().next())?;
        let route = match path.remote_addr() {
            TransportAddr::Ip(address) => Route::Direct(*address),
            TransportAddr::Relay(url) => Route::Relay(url.to_string()),
            _ => return None,
        };
        let stats = path.stats();
        Some(Path {
            route,
            round_trip: stats.rtt,
            sent_count: stats.sent_packets,
            lost_count: stats.lost_packets,
            congestion: self.connection.congestion_state(path.id()).and_then(congestion::chosen),
        })
    }

    fn closed(&self) -> BoxFuture<'_, CloseReason> {
        Box::pin(async move {
            let reason = self.connection.closed().await;
            self.end_lanes();
            close_reason(reason)
        })
    }

    fn close_reason(&self) -> Option<CloseReason> {
        self.connection.close_reason().map(close_reason)
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(close_varint(code), reason.as_bytes());
        self.end_lanes();
    }
}

fn streams(opened: Result<(SendStream, RecvStream), ConnectionError>) -> Result<RawStreams, CloseReason> {
    let (send, recv) = opened.map_err(close_reason)?;
    Ok((Box::new(IrohSend(send)), Box::new(IrohRecv(recv))))
}

struct IrohSend(SendStream);

impl AsyncWrite for IrohSend {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.0), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.0), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.0), cx)
    }
}

impl RawSend for IrohSend {
    fn set_priority(&mut self, priority: i32) {
        // On a stream that is closed already no priority matters.
        let _ = self.0.set_priority(priority);
    }

    fn reset(&mut self) {
        // A stream that is closed already needs no reset.
        let _ = self.0.reset(RESET_CODE);
    }
}

struct IrohRecv(RecvStream);

impl AsyncRead for IrohRecv {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.0), cx, buf)
    }
}

impl RawRecv for IrohRecv {}

pub(super) const fn close_varint(code: CloseCode) -> VarInt {
    VarInt::from_u32(code.to_number())
}

fn close_reason(error: ConnectionError) -> CloseReason {
    match error {
        ConnectionError::LocallyClosed => CloseReason::ByUs,
        ConnectionError::TimedOut => CloseReason::Silent,
        ConnectionError::TransportError(ref error) if error.code == TransportErrorCode::NO_VIABLE_PATH => {
            CloseReason::Silent
        }
        ConnectionError::Reset => CloseReason::Reset,
        ConnectionError::ApplicationClosed(close) => CloseReason::ByPeer {
            code: CloseCode::from_number(u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX)),
            reason: peer_reason(&close.reason),
        },
        other @ (ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::CidsExhausted) => {
            CloseReason::Transport { detail: peer_reason(other.to_string().as_bytes()) }
        }
    }
}

/// Why the dial to `peer` failed.
pub(super) fn dial_error(peer: DeviceId, error: ConnectError) -> DialError {
    let connection_error = match error {
        ConnectError::Connection { source, .. } => source,
        ConnectError::Connecting { source: ConnectingError::ConnectionError { source, .. }, .. } => source,
        ConnectError::Connect { source: ConnectWithOptsError::SelfConnect { .. }, .. } => {
            return DialError::OurselfDialled;
        }
        ConnectError::Connect { source: ConnectWithOptsError::NoAddress { .. }, .. } => {
            return DialError::NoAddress { peer };
        }
        ConnectError::Connect { source: ConnectWithOptsError::EndpointClosed { .. }, .. } => {
            return DialError::LinkClosed;
        }
        other => {
            let detail = peer_reason(other.to_string().as_bytes());
            return DialError::Ended { peer, reason: CloseReason::Transport { detail } };
        }
    };
    match &connection_error {
        ConnectionError::TimedOut => DialError::NoAnswer { peer },
        ConnectionError::VersionMismatch => DialError::OtherVersion { peer },
        // Ours: we did not believe the peer. Theirs would be about us.
        ConnectionError::TransportError(error)
            if tls_alert(error.code).is_some_and(|alert| CERTIFICATE_ALERTS.contains(&alert)) =>
        {
            DialError::NotProven { peer }
        }
        ConnectionError::ConnectionClosed(close) if tls_alert(close.error_code) == Some(NO_COMMON_VERSION_ALERT) => {
            DialError::OtherVersion { peer }
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == close_varint(CloseCode::OtherVersion) => {
            DialError::OtherVersion { peer }
        }
        ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => DialError::Ended { peer, reason: close_reason(connection_error) },
    }
}

/// The TLS alert in a transport error (RFC 9001, 4.8).
fn tls_alert(code: TransportErrorCode) -> Option<u8> {
    let number = u64::from(code);
    (0x100..0x200).contains(&number).then_some((number & 0xff) as u8)
}
