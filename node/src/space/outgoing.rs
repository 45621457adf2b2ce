//! What a space says to one peer and has not been sent yet: a queue that is bounded in bytes.
//!
//! The space's thread waits for nobody, so that a peer which reads nothing can't hold it up; such a peer is given up
//! once its queue is full. Entries among it are also bounded by the replica's window.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use zerocloud_crdt::id::RecordHash;
use zerocloud_crdt::limits::RECORD_BYTES_MAX;
use zerocloud_crdt::wire::Log;

/// Bytes that wait for one peer: all records of a space, which a new member is shown at once, and as much for the
/// window of entries and for the frontiers that are told meanwhile. An honest peer that is so far behind dials again.
pub(super) const OUTGOING_LEN_MAX: usize = RECORD_BYTES_MAX + (16 << 20);

/// What one message costs beside its bytes.
const MESSAGE_COST: usize = 64;

/// Where a space puts what is to be said to a peer.
pub(crate) struct Outgoing {
    messages: mpsc::UnboundedSender<Log>,
    /// Also held by the queue, which counts down.
    waiting_len: Arc<AtomicUsize>,
}

/// Where the stream takes it from.
pub(crate) struct OutgoingQueue {
    messages: mpsc::UnboundedReceiver<Log>,
    waiting_len: Arc<AtomicUsize>,
}

/// The peer does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer does not read what it is sent")]
pub(crate) struct OutgoingFull;

/// A new queue, by its two ends.
pub(crate) fn outgoing() -> (Outgoing, OutgoingQueue) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting_len = Arc::<AtomicUsize>::default();
    (Outgoing { messages: sender, waiting_len: waiting_len.clone() }, OutgoingQueue { messages: receiver, waiting_len })
}

impl Outgoing {
    /// Adds a message. On a stream that has ended it is dropped: the end is told by an event of its own.
    pub(super) fn send(&self, message: Log) -> Result<(), OutgoingFull> {
        let len = cost(&message);
        if self.waiting_len.fetch_add(len, Ordering::Relaxed).saturating_add(len) > OUTGOING_LEN_MAX {
            self.waiting_len.fetch_sub(len, Ordering::Relaxed);
            return Err(OutgoingFull);
        }
        drop(self.messages.send(message));
        Ok(())
    }
}

impl OutgoingQueue {
    /// The next message; `None` when the space has forgotten the stream.
    pub(crate) async fn recv(&mut self) -> Option<Log> {
        let message = self.messages.recv().await?;
        self.waiting_len.fetch_sub(cost(&message), Ordering::Relaxed);
        Some(message)
    }
}

fn cost(message: &Log) -> usize {
    let bytes: usize = match message {
        Log::Records { heads, records } => {
            heads.len() * RecordHash::LEN + records.iter().map(|record| record.len()).sum::<usize>()
        }
        Log::Frontier(bytes) => bytes.len(),
        Log::Entries(_) => message.entries_len(),
        Log::Materialised(digest) => digest.len(),
        Log::HandedOn(bytes) => bytes.len(),
        Log::Chunks(chunks) => chunks.iter().map(|chunk| chunk.sealed.len()).sum(),
    };
    MESSAGE_COST + bytes
}

#[cfg(test)]
mod tests {
    use serde_bytes::ByteBuf;

    use super::*;

    #[tokio::test]
    async fn threat_44_what_a_peer_does_not_read_waits_up_to_a_bound_and_no_further() {
        let (outgoing, mut queue) = outgoing();
        let frontier = Log::Frontier(ByteBuf::from(vec![1; 60 << 10]));
        let mut sent_count = 0;
        while outgoing.send(frontier.clone()).is_ok() {
            sent_count += 1;
        }
        assert_eq!(sent_count, OUTGOING_LEN_MAX / cost(&frontier));
        assert_eq!(outgoing.send(frontier.clone()), Err(OutgoingFull));
        for _ in 0..sent_count {
            assert_eq!(queue.recv().await, Some(frontier.clone()));
        }
        assert_eq!(outgoing.waiting_len.load(Ordering::Relaxed), 0, "what is read makes room");
        assert_eq!(outgoing.send(frontier), Ok(()));
    }
}
