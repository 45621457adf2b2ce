//! Chunk streams: answering a peer's requests, and asking a peer.
//!
//! Requests are pipelined: whoever asks may send the next before the last was answered. Answers come chunk by chunk, cut
//! into fragments and packed into frames of about 1 MiB. Which chunk to ask of whom is
//! [`crate::engine::fetch`]'s; opening and checking what comes is whoever asked's.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use serde_bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use zerocloud_crdt::id::SpaceId;
use zerocloud_crdt::limits::FRAGMENT_LEN_MAX;
use zerocloud_crdt::wire::{Answer, Ask, Assembly, Message, Opening, Piece, PieceBody, Request};

use super::{SessionError, read};
use crate::engine::fetch::Lack;
use crate::link::{Conn, RecvStream, SendStream, StreamKind};
use crate::wire::{FrameError, read_frame, write_frame};

/// An answer frame is sent when it holds this much, in bytes.
const FRAME_LEN: usize = 1 << 20;
/// Runs of chunks that are sealed ahead of the one that is being sent.
const AHEAD_COUNT: usize = 4;
/// A run is handed on when it holds this much, in bytes; with its last chunk 4 MiB more at most.
const RUN_LEN: usize = 256 << 10;
/// Answers of which the fragments are not complete: more than one peer that keeps to the order needs.
const ASSEMBLY_COUNT_MAX: usize = 4;
/// Requests on their way to the stream.
const REQUEST_QUEUE_COUNT: usize = 8;
/// Frames of answers that wait to be opened, about 1 MiB each.
const ANSWER_QUEUE_COUNT: usize = 16;

/// Where sealed chunks come from. Called on a thread that may block.
pub trait ChunkSource: Send + Sync + 'static {
    /// Gives, one after the other, what is asked for, sealed, or why it is not, until `give` breaks off.
    fn seal(&self, asks: &[Ask], give: &mut dyn FnMut(Result<Vec<u8>, Lack>) -> ControlFlow<()>);

    /// One that is asked for, sealed.
    ///
    /// # Errors
    /// [`Lack`].
    fn sealed(&self, ask: &Ask) -> Result<Vec<u8>, Lack> {
        let mut sealed = Err(Lack::NotNow);
        self.seal(std::slice::from_ref(ask), &mut |given| {
            sealed = given;
            ControlFlow::Break(())
        });
        sealed
    }
}

/// The answer to one ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Which ask, counted on from [`Request::first`].
    pub ask: u64,
    /// The sealed bytes, as the peer sent them; or why it did not.
    pub sealed: Result<Vec<u8>, Lack>,
}

/// Answers requests until the peer ends the stream. Of `places` one is taken for each request while it is answered.
pub(super) async fn serve(
    source: Arc<dyn ChunkSource>,
    places: &Semaphore,
    mut send: SendStream,
    mut receive: RecvStream,
) -> Result<(), SessionError> {
    while let Some(request) = read::<Request>(&mut receive).await? {
        let Ok(_place) = places.acquire().await else { return Ok(()) };
        let (sealing, mut sealed) = mpsc::channel::<Run>(AHEAD_COUNT);
        let source = source.clone();
        let worker = tokio::task::spawn_blocking(move || seal_all(&*source, &request, &sealing));
        let (mut run, mut len) = (Run::new(), 0);
        while let Some(more) = sealed.recv().await {
            len += len_of(&more);
            run.extend(more);
            if len >= FRAME_LEN || sealed.is_empty() {
                send_all(&mut send, &run).await?;
                run.clear();
                len = 0;
            }
        }
        send_all(&mut send, &run).await?;
        // A source that panicked has answered nothing more; the peer is told by the end of the stream.
        if worker.await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Sealed chunks with their asks, handed on together: waking the other side for each costs more than a small chunk.
type Run = Vec<(u64, Result<Vec<u8>, Lack>)>;

fn seal_all(source: &dyn ChunkSource, request: &Request, sealing: &mpsc::Sender<Run>) {
    let (mut run, mut len, mut number) = (Run::new(), 0, request.first);
    source.seal(&request.asks, &mut |sealed| {
        len += sealed.as_ref().map_or(0, Vec::len);
        run.push((number, sealed));
        number += 1;
        if len >= RUN_LEN {
            len = 0;
            // Nobody wants the rest.
            if sealing.blocking_send(std::mem::take(&mut run)).is_err() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    if !run.is_empty() {
        let _ = sealing.blocking_send(run);
    }
}

/// How much sealed chunks take, in bytes.
fn len_of(run: &Run) -> usize {
    run.iter().map(|(_, sealed)| sealed.as_ref().map_or(0, Vec::len)).sum()
}

/// Sends sealed chunks in as few frames as hold them.
async fn send_all(send: &mut SendStream, run: &Run) -> Result<(), SessionError> {
    let (mut pieces, mut len) = (Vec::new(), 0);
    for piece in run.iter().flat_map(|(ask, sealed)| pieces_of(*ask, sealed)) {
        if let PieceBody::Fragment { bytes, .. } = &piece.body {
            len += bytes.len();
        }
        pieces.push(piece);
        if len >= FRAME_LEN {
            len = 0;
            write_answer(send, std::mem::take(&mut pieces)).await?;
        }
    }
    if pieces.is_empty() { Ok(()) } else { write_answer(send, pieces).await }
}

async fn write_answer(send: &mut SendStream, pieces: Vec<Piece<'_>>) -> Result<(), SessionError> {
    Ok(write_frame(send, &Answer { pieces }.to_bytes(), Answer::LEN_MAX).await?)
}

/// The pieces of one answer.
fn pieces_of(ask: u64, sealed: &Result<Vec<u8>, Lack>) -> impl Iterator<Item = Piece<'_>> {
    let (sealed, lack) = match sealed {
        Ok(sealed) if !sealed.is_empty() => (sealed.as_slice(), None),
        Ok(_) | Err(Lack::Missing) => (&[][..], Some(PieceBody::Missing)),
        Err(Lack::NotNow) => (&[][..], Some(PieceBody::NotNow)),
    };
    // A sealed chunk is far below 4 GiB: its bound is `SEALED_CHUNK_LEN_MAX`.
    let total_len = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
    let fragments = sealed.chunks(FRAGMENT_LEN_MAX);
    let fragments = fragments.map(move |fragment| PieceBody::Fragment { total_len, bytes: Bytes::new(fragment) });
    lack.into_iter().chain(fragments).map(move |body| Piece { ask, body })
}

/// A stream on which chunks of a space are asked of a peer.
#[derive(Debug)]
pub struct ChunkStream {
    requests: mpsc::Sender<Request>,
    answers: mpsc::Receiver<Vec<Answered>>,
    /// Of the last frame, last first: what [`Self::answer`] has not given yet.
    rest: Vec<Answered>,
}

impl ChunkStream {
    /// Opens a stream. It ends when this is dropped, or the peer ends it.
    ///
    /// # Errors
    /// [`SessionError::Closed`] if the connection is gone.
    pub async fn open(conn: &Conn, space: SpaceId) -> Result<Self, SessionError> {
        Self::open_counted(conn, space, Arc::default()).await
    }

    /// The same; `came_count` counts up whenever bytes come.
    ///
    /// # Errors
    /// [`SessionError::Closed`] if the connection is gone.
    pub async fn open_counted(conn: &Conn, space: SpaceId, came_count: Arc<AtomicU64>) -> Result<Self, SessionError> {
        let (mut send, receive) = conn.open_bi(StreamKind::Chunk).await?;
        let mut receive = Counted { receive, came_count };
        write_frame(&mut send, &Opening::Chunks { space }.to_bytes(), Opening::LEN_MAX).await?;
        let (requests, mut queue) = mpsc::channel::<Request>(REQUEST_QUEUE_COUNT);
        let (answering, answers) = mpsc::channel(ANSWER_QUEUE_COUNT);
        tokio::spawn(async move {
            while let Some(request) = queue.recv().await {
                if write_frame(&mut send, &request.to_bytes(), Request::LEN_MAX).await.is_err() {
                    return;
                }
            }
            // The peer reads an end at a frame's border and stops serving.
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut send).await;
        });
        let conn = conn.clone();
        tokio::spawn(async move {
            if let Err(error) = take_answers(&mut receive, &answering).await
                && !matches!(error, SessionError::Closed(_) | SessionError::Frame(FrameError::Stream(_)))
            {
                conn.close(crate::link::CloseCode::Violation, &error.to_string());
            }
        });
        Ok(Self { requests, answers, rest: Vec::new() })
    }

    /// Sends a request; waits if several are on their way to the stream.
    ///
    /// # Errors
    /// [`SessionError::OutOfTurn`] if the stream has ended.
    pub async fn ask(&self, request: Request) -> Result<(), SessionError> {
        self.requests.send(request).await.map_err(|_| SessionError::OutOfTurn)
    }

    /// The next answer; `None` when the stream has ended.
    pub async fn answer(&mut self) -> Option<Answered> {
        while self.rest.is_empty() {
            self.rest = self.answers.recv().await?;
            self.rest.reverse();
        }
        self.rest.pop()
    }

    /// The two ends: where requests go, and where the answers of each frame come from.
    pub fn split(self) -> (mpsc::Sender<Request>, mpsc::Receiver<Vec<Answered>>) {
        (self.requests, self.answers)
    }
}

/// A stream that counts when bytes come.
struct Counted {
    receive: RecvStream,
    came_count: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.receive).poll_read(context, buf);
        if read.is_ready() {
            self.came_count.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

async fn take_answers(receive: &mut Counted, answering: &mpsc::Sender<Vec<Answered>>) -> Result<(), SessionError> {
    // An answer's fragments follow each other; a peer that begins many at once holds no more than it sent.
    let mut assemblies: BTreeMap<u64, Assembly> = BTreeMap::new();
    while let Some(frame) = read_frame(receive, Answer::LEN_MAX).await? {
        let answer = Answer::from_bytes(&frame)?;
        let mut complete = Vec::new();
        for Piece { ask, body } in answer.pieces {
            let sealed = match body {
                PieceBody::Missing => Err(Lack::Missing),
                PieceBody::NotNow => Err(Lack::NotNow),
                PieceBody::Fragment { total_len, bytes } => {
                    let assembly = assemblies.entry(ask).or_default();
                    match assembly.push(total_len, bytes).map_err(|_| SessionError::OutOfTurn)? {
                        Some(sealed) => Ok(sealed),
                        None if assemblies.len() > ASSEMBLY_COUNT_MAX => return Err(SessionError::OutOfTurn),
                        None => continue,
                    }
                }
            };
            assemblies.remove(&ask);
            complete.push(Answered { ask, sealed });
        }
        if !complete.is_empty() && answering.send(complete).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
