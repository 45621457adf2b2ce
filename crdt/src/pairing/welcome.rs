//! T2: the inviter's answer, with which the joiner has the space.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{Joining, KIND_T2, Message, Request, Side, decode_message};
use crate::codec::{DecodeError, decode, encode};
use crate::grant::{self, OpenGrantError};
use crate::keys::{DeviceKeys, EpochSecret};
use crate::limits::{PAIRING_FRONTIER_LEN_MAX, PAIRING_GRANT_COUNT_MAX, PAIRING_LEN_MAX, RECORD_COUNT_MAX};
use crate::membership::{GenesisError, InsertError, Inserted, NeedsNewerVersion, Records, Table};
use crate::ticket::TicketSecret;

#[derive(Serialize, Deserialize)]
struct T2Body {
    kind: u8,
    t1: [u8; 32],
    records: Vec<ByteBuf>,
    grants: Vec<ByteBuf>,
    frontier: ByteBuf,
    snapshot: Option<[u8; 32]>,
}

/// What the inviter gives to who has joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// All records in causal order, the genesis first, with the one that adds the joiner.
    pub records: Vec<Vec<u8>>,
    /// The secrets that the joiner may read with, sealed to it.
    pub grants: Vec<Vec<u8>>,
    /// The inviter's frontier: what a relay must not hide from the joiner. Not read here.
    pub frontier: Vec<u8>,
    /// The root of the snapshot that the joiner may trust.
    pub snapshot: Option<[u8; 32]>,
}

/// The answer would be longer than a pairing message can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the space has too many membership records for a pairing message")]
pub struct WelcomeTooLong;

/// Makes the answer to a checked T1, signed by the inviter with these `keys`. Written only after the record that adds
/// the joiner is durable; the same request may be answered again.
///
/// # Errors
/// [`WelcomeTooLong`].
pub fn make_t2(
    keys: &DeviceKeys,
    secret: &TicketSecret,
    request: &Request,
    welcome: Welcome,
) -> Result<Vec<u8>, WelcomeTooLong> {
    let frame = |list: Vec<Vec<u8>>| list.into_iter().map(ByteBuf::from).collect::<Vec<_>>();
    let body = T2Body {
        kind: KIND_T2,
        t1: *blake3::hash(&request.body).as_bytes(),
        records: frame(welcome.records),
        grants: frame(welcome.grants),
        frontier: ByteBuf::from(welcome.frontier),
        snapshot: welcome.snapshot,
    };
    if !is_bounded(&body) {
        return Err(WelcomeTooLong);
    }
    let message = Message::seal(keys, secret, Side::Inviter, request.space, encode(&body));
    if message.len() > PAIRING_LEN_MAX { Err(WelcomeTooLong) } else { Ok(message) }
}

/// What the joiner has after a T2 that is right.
#[derive(Debug)]
pub struct Joined {
    /// The space's records, all verified and kept.
    pub records: Records,
    /// Who is in, the joiner among them.
    pub table: Table,
    /// The secrets that were granted; none for a keeper.
    pub secrets: Vec<EpochSecret>,
    /// The inviter's frontier, not yet read.
    pub frontier: Vec<u8>,
    /// The root of the snapshot that the joiner may trust.
    pub snapshot: Option<[u8; 32]>,
}

/// Why a T2 is refused. Nothing of it is kept.
///
/// Not open to new variants unseen: whoever shows it is to say for each what can be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum T2Error {
    /// Not of this format.
    #[error("the answer of the inviting device can't be read ({0}); update ZeroCloud on both devices")]
    Decode(#[from] DecodeError),
    /// Not the inviter's answer to this T1. Says no more, on purpose.
    #[error("the answer is not from the device that made the ticket; make a new ticket")]
    NotAuthentic,
    /// A list is longer than allowed, or empty where it can't be.
    #[error("the answer of the inviting device is not well-formed; update ZeroCloud on both devices")]
    Shape,
    /// The first record is not the genesis of the ticket's space.
    #[error("the space can't be joined ({0}); update ZeroCloud on both devices")]
    Genesis(#[from] GenesisError),
    /// A record does not count.
    #[error("the space can't be joined ({0}); update ZeroCloud on both devices")]
    Record(#[from] InsertError),
    /// A record that is there twice, or stands before one that it follows.
    #[error("the records of the inviting device are out of order; update ZeroCloud on both devices")]
    OutOfOrder,
    /// The space holds what only a newer version understands.
    #[error(transparent)]
    NeedsNewerVersion(#[from] NeedsNewerVersion),
    /// The joiner is not in the table with the role and the person that the ticket speaks of.
    #[error("the inviting device did not admit this one as the ticket says; make a new ticket")]
    NotAdmitted,
    /// A grant is refused.
    #[error("the key of the space can't be opened ({0}); make a new ticket")]
    Grant(#[from] OpenGrantError),
    /// No grant of the epoch under which is written.
    #[error("the inviting device did not hand over the key of the space; make a new ticket")]
    MissingSecret,
}

/// Checks the answer to [`Joining`] for the device with these `keys`: authentic, from the ticket's inviter, about this
/// T1; a chain of records from the genesis whose hash is the ticket's space; a table in which the joiner stands as
/// the ticket says; and, for who may read, the secrets.
///
/// # Errors
/// One variant of [`T2Error`] for each check.
pub fn check_t2(joining: &Joining, keys: &DeviceKeys, bytes: &[u8]) -> Result<Joined, T2Error> {
    let ticket = &joining.ticket;
    let message = decode_message(bytes)?;
    if !message.is_by(ticket.inviter, &ticket.secret, Side::Inviter, ticket.space) {
        return Err(T2Error::NotAuthentic);
    }
    let body: T2Body = decode(&message.body, PAIRING_LEN_MAX)?;
    if body.kind != KIND_T2 || blake3::Hash::from(body.t1) != blake3::hash(&joining.body) {
        return Err(T2Error::NotAuthentic);
    }
    if !is_bounded(&body) {
        return Err(T2Error::Shape);
    }
    let (genesis, later) = body.records.split_first().ok_or(T2Error::Shape)?;
    let mut records = Records::new(ticket.space, genesis)?;
    for bytes in later {
        let Inserted::Kept(_) = records.insert(bytes)? else { return Err(T2Error::OutOfOrder) };
    }
    let table = records.table()?;
    if !is_admitted(joining, keys, &table) {
        return Err(T2Error::NotAdmitted);
    }
    let mut secrets = Vec::with_capacity(body.grants.len());
    for bytes in &body.grants {
        secrets.push(grant::open(bytes, keys, &records)?);
    }
    let epoch = records.epoch()?;
    if ticket.role.can_read() && !secrets.iter().any(|secret| secret.epoch == epoch) {
        return Err(T2Error::MissingSecret);
    }
    Ok(Joined { records, table, secrets, frontier: body.frontier.into_vec(), snapshot: body.snapshot })
}

fn is_admitted(joining: &Joining, keys: &DeviceKeys, table: &Table) -> bool {
    let (Some(joiner), Some(inviter)) = (table.row(keys.id()), table.row(joining.ticket.inviter)) else {
        return false;
    };
    let is_own = joiner.given.person == inviter.given.person;
    joiner.given.role == joining.ticket.role
        && is_own == joining.ticket.own_device.is_some()
        && joiner.identity == crate::membership::Identity::of(keys)
}

fn is_bounded(body: &T2Body) -> bool {
    body.records.len() <= RECORD_COUNT_MAX
        && body.grants.len() <= PAIRING_GRANT_COUNT_MAX
        && body.frontier.len() <= PAIRING_FRONTIER_LEN_MAX
}
