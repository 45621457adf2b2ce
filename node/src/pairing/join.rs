//! The joiner's side.

use std::time::Duration;

use zerocloud_crdt::keys::DeviceKeys;
use zerocloud_crdt::limits::{PAIRING_LEN_MAX, PAIRING_REQUEST_LEN_MAX};
use zerocloud_crdt::pairing::{ComparedWords, Joined, Joining, NONCE_LEN, NonceError, T2Error, check_t2, make_t1};
use zerocloud_crdt::ticket::Ticket;

use super::{CONFIRMATION_LIMIT, Patience};
use crate::link::{AddressHint, CloseCode, CloseReason, Conn, DialError, Link, Protocol, StreamKind};
use crate::wire::{FrameError, read_frame, write_frame};

/// How long a stream that broke waits for the connection's reason.
const REASON_LIMIT: Duration = Duration::from_secs(5);

/// Why this device did not join. The text says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The device that made the ticket can't be reached.
    #[error(transparent)]
    Dial(DialError),
    /// It refuses: the ticket is used, expired, withdrawn or was never good.
    #[error("the other device refuses this ticket: it was used, has expired or was withdrawn; make a new one")]
    Refused,
    /// It refuses after the words were shown.
    #[error(
        "the other device did not let this one in: the six words were not confirmed there; join again with the same \
         ticket, or make a new one"
    )]
    NotConfirmed,
    /// Nothing came in time.
    #[error("the other device does not answer; is it switched on and connected? join again with the same ticket")]
    NoAnswer,
    /// The connection ended before the answer came.
    #[error("the connection broke before this device had joined ({0}); join again with the same ticket")]
    Ended(CloseReason),
    /// The other device does not speak as it should.
    #[error("the other device does not answer as it should ({0}); update ZeroCloud on both devices")]
    Frame(FrameError),
    /// What stands for the six words is not what the ticket says.
    #[error(transparent)]
    Nonce(#[from] NonceError),
    /// The answer is not authentic, or does not let this device in as the ticket says.
    #[error(transparent)]
    Answer(#[from] T2Error),
}

/// Joins the space of `ticket`: dials exactly the device that made it, and gives what that hands over, checked.
/// `show` is given the six words of a ticket for a device of one's own. Nothing is kept here: the records and secrets
/// are the caller's to store. A device that lost the answer may join again with the same ticket.
///
/// # Errors
/// One variant of [`JoinError`] for each reason.
pub async fn join(
    link: &dyn Link,
    keys: &DeviceKeys,
    ticket: &Ticket,
    show: impl FnOnce(ComparedWords) + Send,
    rng: &mut (impl rand_core::CryptoRng + Send),
) -> Result<Joined, JoinError> {
    let joining = make_t1(ticket, keys, rng);
    let hints: Vec<AddressHint> = ticket.hints.iter().map(Into::into).collect();
    let conn = link.dial(ticket.inviter, Protocol::Pair, &hints).await.map_err(|error| match error {
        DialError::Ended { reason, .. } => ended(reason, false),
        error => JoinError::Dial(error),
    })?;
    let answer = ask(&conn, &joining, show).await?;
    // The answer is here: whatever it says, nothing more is to come.
    conn.close(CloseCode::Done, "");
    Ok(check_t2(&joining, keys, &answer)?)
}

/// Sends the request and gives T2, unchecked.
async fn ask(conn: &Conn, joining: &Joining, show: impl FnOnce(ComparedWords) + Send) -> Result<Vec<u8>, JoinError> {
    let opened = within(Patience::USUAL.message, conn.open_bi(StreamKind::Control)).await?;
    let (mut send, mut receive) = opened.map_err(|reason| ended(reason, false))?;
    let written = write_frame(&mut send, joining.message(), PAIRING_REQUEST_LEN_MAX);
    if let Err(error) = within(Patience::USUAL.message, written).await? {
        return Err(broken(conn, error, false).await);
    }
    let mut limit = Patience::USUAL.message;
    let is_own = joining.ticket().own_device.is_some();
    if is_own {
        let nonce = match within(limit, read_frame(&mut receive, NONCE_LEN)).await? {
            Ok(Some(nonce)) => nonce,
            Ok(None) => return Err(broken(conn, FrameError::Truncated, false).await),
            Err(error) => return Err(broken(conn, error, false).await),
        };
        show(joining.check_nonce(&nonce)?);
        limit += CONFIRMATION_LIMIT;
    }
    match within(limit, read_frame(&mut receive, PAIRING_LEN_MAX)).await? {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(broken(conn, FrameError::Truncated, is_own).await),
        Err(error) => Err(broken(conn, error, is_own).await),
    }
}

async fn within<T>(limit: Duration, step: impl Future<Output = T>) -> Result<T, JoinError> {
    tokio::time::timeout(limit, step).await.map_err(|_| JoinError::NoAnswer)
}

/// What a broken stream means: the reason is the connection's, if it is closed.
async fn broken(conn: &Conn, error: FrameError, has_words: bool) -> JoinError {
    if let FrameError::TooLong { .. } = error {
        return JoinError::Frame(error);
    }
    match tokio::time::timeout(REASON_LIMIT, conn.closed()).await {
        Ok(reason) => ended(reason, has_words),
        Err(_) => JoinError::Frame(error),
    }
}

fn ended(reason: CloseReason, has_words: bool) -> JoinError {
    match reason {
        CloseReason::ByPeer { code: CloseCode::Refused, .. } if has_words => JoinError::NotConfirmed,
        CloseReason::ByPeer { code: CloseCode::Refused, .. } => JoinError::Refused,
        reason => JoinError::Ended(reason),
    }
}
