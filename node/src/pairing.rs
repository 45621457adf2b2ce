//! Pairing: from a ticket to a member, between two nodes.
//!
//! ```text
//! on the first stream that the joiner opens; each message in a frame (see crate::wire)
//!
//! joiner                                   inviter
//!   T1                ------------------>    is the ticket good? else: Refused
//!                     <------------------    nonce            only for a device of one's own
//!   shows six words                          shows six words; with `confirm`: waits for the user
//!                                            (a) ticket bound to the joiner, (b) record, both durable
//!                     <------------------    (c) T2, and the end of the stream
//!   closes: Done
//! ```
//! A crash or a cut after (a) or (b) leaves what the same device can go on from: it asks again. Whoever is refused, for
//! whatever reason, is told the same: the connection is closed with [`CloseCode::Refused`] and no words.
//!
//! What the messages are and how they prove themselves is in [`zerocloud_crdt::pairing`]; who may be let in is the
//! replica's to decide.

mod invite;
mod join;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use zerocloud_crdt::id::{DeviceId, SpaceId};
use zerocloud_crdt::keys::DeviceKeys;
use zerocloud_crdt::limits::{PAIRING_LEN_MAX, PAIRING_REQUEST_LEN_MAX};
use zerocloud_crdt::mutated;
use zerocloud_crdt::pairing::{
    ComparedWords, Invitation, NONCE_LEN, Request, T1Error, WelcomeTooLong, check_t1, make_nonce, make_t2,
};

use crate::clock::{Clock, WallTime};
use crate::link::{BoxFuture, CloseCode, CloseReason, Conn, RecvStream, SendStream, StreamKind};
use crate::space::SpaceHandle;
use crate::store::{SpaceStore, StoreError, TicketRow};
use crate::wire::{FrameError, read_frame, write_frame};

pub use invite::{Issuer, MakeTicketError, Wanted, make_ticket};
pub use join::{JoinError, join};

/// Connections that may be about to show a ticket. Each costs a request's length, for a few seconds.
const STRANGER_COUNT_MAX: usize = 64;
/// Pairings with a good ticket at a time: each may wait for the user.
const PAIRING_COUNT_MAX: usize = 8;

/// How long the user has to compare the words.
const CONFIRMATION_LIMIT: Duration = Duration::from_secs(300);

/// How long the other side may take.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// To send its request.
    request: Duration,
    /// To take a message: an answer may have 4 MiB.
    message: Duration,
    /// To close after the answer.
    end: Duration,
}

impl Patience {
    const USUAL: Self =
        Self { request: Duration::from_secs(10), message: Duration::from_secs(60), end: Duration::from_secs(10) };
}

/// A space that is open on this node.
#[derive(Clone)]
pub struct OpenSpace {
    /// Where its tickets are.
    pub store: Arc<SpaceStore>,
    /// Its thread.
    pub space: SpaceHandle,
}

/// A pairing of a device of one's own: what both screens show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Into which space.
    pub space: SpaceId,
    /// The joining device.
    pub joiner: DeviceId,
    /// Six words that must be the same on its screen.
    pub words: ComparedWords,
    /// Whether the device is let in only once the user has said so: [`Host::confirm`] is called next.
    pub needs_confirmation: bool,
}

/// A device that was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Into which space.
    pub space: SpaceId,
    /// Which device.
    pub device: DeviceId,
}

/// The node, as an [`Inviter`] sees it.
pub trait Host: Send + Sync {
    /// The spaces into which tickets may lead.
    fn spaces(&self) -> Vec<OpenSpace>;

    /// This device's keys.
    fn keys(&self) -> &DeviceKeys;

    /// The clock by which tickets expire.
    fn clock(&self) -> &dyn Clock;

    /// Shows six words. Must not block.
    fn show_words(&self, compared: &Compared);

    /// Waits until the user says whether the words are the same. The future is dropped when the joiner goes or after
    /// five minutes.
    fn confirm<'a>(&'a self, compared: &'a Compared) -> BoxFuture<'a, bool>;

    /// A device is in: its record is durable. Said again when it asks again. Must not block.
    fn admitted(&self, admitted: Admitted);
}

/// Why a device was not let in: for the log. It is told nothing of this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// More at a time than is allowed.
    #[error("too many devices want to join at the same time; try again")]
    Busy,
    /// It did not say or take what was its turn.
    #[error("the joining device is silent; try again")]
    Silent,
    /// It said nothing.
    #[error("the joining device left before it showed a ticket")]
    Left,
    /// The connection is gone.
    #[error("the connection to the joining device ended: {0}")]
    Closed(#[from] CloseReason),
    /// A stream broke, or what came is no frame.
    #[error("pairing: {0}")]
    Frame(#[from] FrameError),
    /// Its request is refused. An expired ticket, and one that another device has used, are as good as unknown.
    #[error(transparent)]
    Request(#[from] T1Error),
    /// While it was about to join, another device used the ticket, or the ticket was withdrawn or has expired.
    #[error("the ticket was used by another device or withdrawn in the meantime; make a new one")]
    TicketGone,
    /// The user said that the words differ, or said nothing in time.
    #[error("the six words were not confirmed; the ticket can still be used")]
    NotConfirmed,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The space did not let it in.
    #[error("{0}")]
    Space(String),
    /// The answer is too long.
    #[error(transparent)]
    TooLong(#[from] WelcomeTooLong),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

/// The side of a pairing that made the ticket. One for each node: it bounds how many pairings there are at a time.
#[derive(Debug)]
pub struct Inviter<H> {
    host: H,
    patience: Patience,
    /// Held while a request is awaited, so that strangers do not keep out who holds a ticket and has shown it.
    strangers: Semaphore,
    /// Held from a good request to the end.
    pairings: Semaphore,
}

/// A good request, with the ticket that it shows.
struct Found {
    open: OpenSpace,
    ticket: TicketRow,
    request: Request,
}

impl<H: Host> Inviter<H> {
    /// The inviting side of the node behind `host`.
    pub const fn new(host: H) -> Self {
        Self {
            host,
            patience: Patience::USUAL,
            strangers: Semaphore::const_new(STRANGER_COUNT_MAX),
            pairings: Semaphore::const_new(PAIRING_COUNT_MAX),
        }
    }

    /// Answers on a connection that a joiner dialled for [`crate::link::Protocol::Pair`], and closes it. Takes at most
    /// about seven minutes, and without a good ticket ten seconds. If the future is dropped, the joiner asks again.
    ///
    /// # Errors
    /// Why the device was not let in, or may not know that it was. The connection is closed, in the same way for all.
    pub async fn serve(&self, conn: Conn) -> Result<Admitted, ServeError> {
        let result = self.answer(&conn).await;
        match &result {
            Ok(Admitted { space, device }) => tracing::info!(%space, %device, "a device has joined"),
            Err(error) => {
                let told = if mutated!(TellingRefusal) { error.to_string() } else { String::new() };
                conn.close(CloseCode::Refused, &told);
                tracing::warn!(device = %conn.peer(), %error, "a device was not let in");
            }
        }
        result
    }

    async fn answer(&self, conn: &Conn) -> Result<Admitted, ServeError> {
        let (found, mut send) = self.await_request(conn).await?;
        let _place = self.pairings.try_acquire().map_err(|_| ServeError::Busy)?;
        self.compare(conn, &mut send, &found).await?;
        let Found { open, ticket, request } = found;
        let (id, joiner) = (request.ticket, request.joiner());

        let (store, now) = (open.store.clone(), self.host.clock().wall_time());
        let bind = move || store.write(|write| write.bind_ticket(id, joiner, now));
        if !tokio::task::spawn_blocking(bind).await.map_err(|_| ServeError::Stopping)?? {
            return Err(ServeError::TicketGone);
        }
        let admitted = open.space.admit(request.introduction.clone(), ticket.is_own, ticket.role).await;
        let welcome = admitted.map_err(ServeError::Space)?;
        let admitted = Admitted { space: request.space, device: joiner };
        self.host.admitted(admitted);

        let answer = make_t2(self.host.keys(), &ticket.secret, &request, welcome)?;
        let sent = async {
            write_frame(&mut send, &answer, PAIRING_LEN_MAX).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut send).await.map_err(FrameError::Stream)
        };
        within(self.patience.message, sent).await?;
        // Closing now would lose what has not arrived. Whether the joiner closes in time changes nothing.
        let _ = within(self.patience.end, async { Ok::<_, FrameError>(conn.closed().await) }).await;
        conn.close(CloseCode::Done, "");
        Ok(admitted)
    }

    async fn await_request(&self, conn: &Conn) -> Result<(Found, SendStream), ServeError> {
        let _place = self.strangers.try_acquire().map_err(|_| ServeError::Busy)?;
        let (bytes, send) = within(self.patience.request, read_request(conn)).await?;
        let (spaces, us, peer) = (self.host.spaces(), self.host.keys().id(), conn.peer());
        let now = self.host.clock().wall_time();
        let check = move || check_request(&bytes, spaces, us, peer, now);
        let found = tokio::task::spawn_blocking(check).await.map_err(|_| ServeError::Stopping)??;
        Ok((found, send))
    }

    /// For a device of one's own: shows the words on both sides and, if the ticket says so, waits for the user. A
    /// device to which the ticket is bound was confirmed before.
    async fn compare(&self, conn: &Conn, send: &mut SendStream, found: &Found) -> Result<(), ServeError> {
        let Some(nonce) = &found.ticket.nonce else { return Ok(()) };
        within(self.patience.message, write_frame(send, &make_nonce(nonce), NONCE_LEN)).await?;
        let compared = Compared {
            space: found.request.space,
            joiner: found.request.joiner(),
            words: found.request.compared_words(nonce),
            needs_confirmation: found.ticket.confirm && found.ticket.joiner.is_none(),
        };
        self.host.show_words(&compared);
        if !compared.needs_confirmation {
            return Ok(());
        }
        let is_confirmed = tokio::select! {
            is_same = self.host.confirm(&compared) => is_same,
            reason = conn.closed() => return Err(reason.into()),
            () = tokio::time::sleep(CONFIRMATION_LIMIT) => false,
        };
        if is_confirmed { Ok(()) } else { Err(ServeError::NotConfirmed) }
    }
}

async fn within<T, E: Into<ServeError>>(
    limit: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, ServeError> {
    tokio::time::timeout(limit, step).await.map_err(|_| ServeError::Silent)?.map_err(Into::into)
}

async fn read_request(conn: &Conn) -> Result<(Vec<u8>, SendStream), ServeError> {
    let (mut send, mut receive): (SendStream, RecvStream) = conn.accept_bi().await?;
    send.set_kind(StreamKind::Control);
    let bytes = read_frame(&mut receive, PAIRING_REQUEST_LEN_MAX).await?.ok_or(ServeError::Left)?;
    Ok((bytes, send))
}

fn check_request(
    bytes: &[u8],
    spaces: Vec<OpenSpace>,
    us: DeviceId,
    peer: DeviceId,
    now: WallTime,
) -> Result<Found, ServeError> {
    let mut found = None;
    let request = check_t1(bytes, us, Some(peer), |id| {
        for open in spaces {
            match open.store.snapshot().and_then(|snapshot| snapshot.ticket(id)) {
                Ok(Some(ticket)) if ticket.is_open_to(peer, now) => {
                    let (space, secret, role) = (open.space.id(), ticket.secret.clone(), ticket.role);
                    found = Some((open, ticket));
                    return Some(Invitation { space, secret, role });
                }
                Ok(_) => {}
                Err(error) => tracing::error!(space = %open.space.id(), %error, "a space's tickets can't be read"),
            }
        }
        None
    })?;
    let (open, ticket) = found.ok_or(T1Error::Refused)?;
    Ok(Found { open, ticket, request })
}
