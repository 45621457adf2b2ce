//! What stands before any message: frames, what a dialler says before a lane is a stream, and datagrams on the LAN.

use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use zerocloud::link::iroh::lan_word::Word;
use zerocloud::link::iroh::{TOKEN_LEN, hear_lane_hello, lane_acceptor};
use zerocloud::wire::{FrameError, read_frame, write_frame};
use zerocloud_crdt::keys::{DeviceKeys, Secret};

use super::{run, take_byte};

/// Hands out at most so many bytes at a time, and notes how much room it is given.
struct Trickle<'a> {
    bytes: &'a [u8],
    step: usize,
    taken_len: usize,
}

impl AsyncRead for Trickle<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = (16 << 10).max(self.taken_len);
        assert!(buf.remaining() <= most, "room for {} bytes after {}", buf.remaining(), self.taken_len);
        let (now, later) = self.bytes.split_at(self.step.min(self.bytes.len()).min(buf.remaining()));
        buf.put_slice(now);
        self.taken_len += now.len();
        self.bytes = later;
        Poll::Ready(Ok(()))
    }
}

/// Frames that come in pieces of any size: no more room is made than twice what has come, and a frame that was read is
/// written again to the same bytes.
///
/// Two bytes, the step and the limit; then what comes.
pub fn frame(mut data: &[u8]) -> bool {
    let step = usize::from(take_byte(&mut data)) + 1;
    let limit = 1 << (take_byte(&mut data) % 24);
    let mut stream = Trickle { bytes: data, step, taken_len: 0 };
    let mut whole = Vec::new();
    run(async {
        loop {
            match read_frame(&mut stream, limit).await {
                Ok(Some(body)) => {
                    assert!(body.len() <= limit);
                    write_frame(&mut whole, &body, limit).await.unwrap();
                    assert!(data.starts_with(&whole), "what was read is not what came");
                }
                Ok(None) => {
                    assert_eq!(whole, data, "the stream ended between two frames");
                    return !data.is_empty();
                }
                Err(FrameError::TooLong { declared, limit: by }) => {
                    assert!(declared > by && by == limit);
                    return false;
                }
                Err(FrameError::Truncated) => return false,
                Err(error) => panic!("a stream that does not fail: {error}"),
            }
        }
    })
}

/// A datagram on the LAN: a word is written again to the same bytes.
pub fn lan(data: &[u8]) -> bool {
    let word = Word::parse(data);
    if let Some(word) = word {
        assert_eq!(word.to_bytes(), data);
    }
    word.is_some()
}

static KEYS: LazyLock<DeviceKeys> = LazyLock::new(|| DeviceKeys::from_seed(Secret::new([7; 32])));
static ACCEPTOR: LazyLock<Door> = LazyLock::new(|| Door(lane_acceptor(&KEYS).unwrap()));

/// What a lane is accepted by.
struct Door(tokio_rustls::TlsAcceptor);

/// The token of the one connection that there is.
pub(super) const TOKEN: [u8; TOKEN_LEN] = [0x5a; TOKEN_LEN];

/// What whoever dials a lane says: bytes in place of a TLS handshake, or the words behind one that was whole.
///
/// A byte that says which; then what comes.
pub fn lane(mut data: &[u8]) -> bool {
    let is_behind = take_byte(&mut data) % 2 == 1;
    run(async {
        let (mut peer, mut ours) = tokio::io::duplex(64 << 10);
        peer.write_all(&data[..data.len().min(60 << 10)]).await.unwrap();
        peer.shutdown().await.unwrap();
        if !is_behind {
            // Nobody gets through who can't answer what we say; the room for what was said is bounded by TLS itself.
            return ACCEPTOR.0.accept(ours).await.is_ok();
        }
        let find = |token: &[u8; TOKEN_LEN]| {
            if *token == TOKEN { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
        };
        let is_heard = hear_lane_hello(&mut ours, find).await.is_ok();
        drop(ours);
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        // Who has no token hears nothing at all.
        assert_eq!(answer.len(), usize::from(data.starts_with(&TOKEN)));
        assert_eq!(is_heard, data.starts_with(&TOKEN) && data.get(TOKEN_LEN) == Some(&2));
        is_heard
    })
}
