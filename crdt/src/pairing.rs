//! Pairing: how a ticket becomes a row in the table.
//!
//! The joiner sends T1, the inviter answers with T2; both prove themselves whatever carries them. Here are the builder
//! and the checker of each side, as functions of bytes. That a ticket is used once, is bound to its first joiner in
//! one durable transaction, and has not expired is for the inviter's store; that the connection's key is the right one
//! is told to the checkers where there is such a key.
//!
//! ```text
//! T1, T2        format 1; body_len varint; body; signature (varint 0; 64), mac 32
//!
//! T1 body       kind 1 (= 1); ticket id 16; space 32; inviter 32; Introduction of the joiner; nonce 32
//! T2 body       kind 1 (= 2); BLAKE3 of T1's body 32; records: count varint, each (length varint, bytes), the
//!               genesis first, in causal order; grants: the same; frontier: length varint, bytes;
//!               snapshot root: option 32
//! nonce         format 1; kind 1 (= 3); nonce 32
//! ```
//! With `s` the ticket's secret: ticket id = `derive_key("zerocloud/1 ticket id", s)[..16]`; mac = keyed BLAKE3 of the
//! body under `derive_key("zerocloud/1 ticket joiner", s)` in T1 and `derive_key("zerocloud/1 ticket inviter", s)` in
//! T2. The signature is the sender's over the body. `s` authenticates and never encrypts.
//!
//! For a device of one's own the inviter shows the nonce of the ticket's hash only after it has T1, so that nobody in
//! between can search for messages that give the same six words.

#[cfg(test)]
mod tests;
mod welcome;

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, decode, decode_object, encode, encode_object};
use crate::id::{DeviceId, SpaceId, TicketId};
use crate::keys::DeviceKeys;
use crate::limits::{PAIRING_LEN_MAX, PAIRING_REQUEST_LEN_MAX};
use crate::membership::{Introduction, Role, RowError};
use crate::sign::{Signature, Signed, sign, verify};
use crate::ticket::{Ticket, TicketSecret};
use crate::{grant, words};

pub use welcome::{Joined, T2Error, Welcome, WelcomeTooLong, check_t2, make_t2};

const KIND_T1: u8 = 1;
const KIND_T2: u8 = 2;
const KIND_NONCE: u8 = 3;

/// Length of a nonce message: format, kind, nonce.
pub const NONCE_LEN: usize = 34;

/// Six words that two screens show.
pub type ComparedWords = [&'static str; words::COMPARED_WORD_COUNT];

#[derive(Serialize, Deserialize)]
struct Message {
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    signature: Signature,
    mac: [u8; 32],
}

#[derive(Serialize, Deserialize)]
struct T1Body {
    kind: u8,
    ticket: TicketId,
    space: SpaceId,
    inviter: DeviceId,
    introduction: Introduction,
    nonce: [u8; 32],
}

/// Which side of a pairing proves that it holds the ticket.
#[derive(Clone, Copy)]
enum Side {
    Joiner,
    Inviter,
}

impl TicketSecret {
    /// How a joiner names the ticket.
    pub fn id(&self) -> TicketId {
        let hash = blake3::derive_key("zerocloud/1 ticket id", self.expose());
        let mut id = TicketId([0; 16]);
        id.0.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        id
    }

    fn mac(&self, side: Side, body: &[u8]) -> blake3::Hash {
        let context = match side {
            Side::Joiner => "zerocloud/1 ticket joiner",
            Side::Inviter => "zerocloud/1 ticket inviter",
        };
        blake3::keyed_hash(&blake3::derive_key(context, self.expose()), body)
    }
}

impl Message {
    fn seal(keys: &DeviceKeys, secret: &TicketSecret, side: Side, space: SpaceId, body: Vec<u8>) -> Vec<u8> {
        let signature = sign(&keys.signing_key(), Signed::Pairing, space, &body);
        let mac = *secret.mac(side, &body).as_bytes();
        encode_object(&Self { body, signature, mac })
    }

    /// Whether the sender holds the ticket and is `signer`. Both are always looked at the same way; equality of two
    /// BLAKE3 hashes takes constant time.
    fn is_by(&self, signer: DeviceId, secret: &TicketSecret, side: Side, space: SpaceId) -> bool {
        secret.mac(side, &self.body) == blake3::Hash::from(self.mac)
            && verify(signer, Signed::Pairing, space, &self.body, &self.signature).is_ok()
    }
}

/// The joiner's side, between T1 and T2.
#[derive(Clone, Debug)]
pub struct Joining {
    ticket: Ticket,
    body: Vec<u8>,
    message: Vec<u8>,
}

/// Begins to join: the joiner with these `keys` answers to `ticket`. The message is to be sent to exactly the ticket's
/// inviter.
pub fn make_t1(ticket: &Ticket, keys: &DeviceKeys, rng: &mut impl rand_core::CryptoRng) -> Joining {
    let mut nonce = [0; 32];
    rng.fill_bytes(&mut nonce);
    let body = encode(&T1Body {
        kind: KIND_T1,
        ticket: ticket.secret.id(),
        space: ticket.space,
        inviter: ticket.inviter,
        introduction: Introduction::make(keys, ticket.inviter, ticket.space),
        nonce,
    });
    let message = Message::seal(keys, &ticket.secret, Side::Joiner, ticket.space, body.clone());
    Joining { ticket: ticket.clone(), body, message }
}

impl Joining {
    /// T1, to be sent.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// The ticket that is answered to.
    pub const fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// Takes the inviter's nonce and gives the six words to show.
    ///
    /// # Errors
    /// Every variant of [`NonceError`].
    pub fn check_nonce(&self, bytes: &[u8]) -> Result<ComparedWords, NonceError> {
        let expected = self.ticket.own_device.ok_or(NonceError::NotExpected)?;
        let (kind, nonce): (u8, [u8; 32]) = decode_object(bytes, NONCE_LEN)?;
        if kind != KIND_NONCE || nonce_hash(&nonce) != expected {
            return Err(NonceError::Wrong);
        }
        Ok(compared_words(&self.body, &nonce))
    }
}

/// Why the six words are not shown.
///
/// Not open to new variants unseen: whoever shows it is to say for each what can be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NonceError {
    /// Not of this format.
    #[error("the answer of the inviting device can't be read ({0}); update ZeroCloud on both devices")]
    Decode(#[from] DecodeError),
    /// The ticket is not for a device of one's own.
    #[error("the other device wants words to be compared, which this ticket does not foresee; make a new ticket")]
    NotExpected,
    /// Not the nonce to which the ticket is bound.
    #[error("the other device is not the one that made this ticket; make a new ticket")]
    Wrong,
}

/// What an inviter's store holds of a ticket that is still good.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// Into which space.
    pub space: SpaceId,
    /// The ticket's secret.
    pub secret: TicketSecret,
    /// The role that the joiner gets.
    pub role: Role,
}

/// A T1 that is authentic: the joiner holds the ticket and the keys that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Which ticket.
    pub ticket: TicketId,
    /// Into which space.
    pub space: SpaceId,
    /// What the joiner says of itself, to be added as it stands.
    pub introduction: Introduction,
    body: Vec<u8>,
}

impl Request {
    /// Who wants to join.
    pub const fn joiner(&self) -> DeviceId {
        self.introduction.identity.device
    }

    /// The six words to show for a device of one's own, once the nonce has been sent.
    pub fn compared_words(&self, nonce: &[u8; 32]) -> ComparedWords {
        compared_words(&self.body, nonce)
    }
}

/// Why a T1 is refused. The peer is told the same in each case: what an unknown ticket gets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum T1Error {
    /// Not of this format.
    #[error("pairing: {0}")]
    Decode(#[from] DecodeError),
    /// Made for another inviter.
    #[error("a device answered to a ticket that another device made")]
    WrongInviter,
    /// The ticket is not known here, or the message was not made by who holds it. Says no more, on purpose.
    #[error("a device answered to a ticket that is not valid here; make a new one")]
    Refused,
    /// The connection was made by another device than the one that wants to join.
    #[error("a device tried to join in the name of another")]
    WrongPeer,
    /// What the joiner says of itself is refused.
    #[error("pairing: {0}")]
    Row(#[from] RowError),
    /// A reader without a key to which secrets can be sealed.
    #[error("the joining device has no key that this version knows; update ZeroCloud there")]
    NoKey,
}

/// Checks a T1 that reached `inviter`. `peer` is the proven key of the connection, if what carried the message proves
/// one. `find` looks a ticket up among those that are neither expired nor used by another device.
///
/// # Errors
/// One variant of [`T1Error`] for each check.
pub fn check_t1(
    bytes: &[u8],
    inviter: DeviceId,
    peer: Option<DeviceId>,
    find: impl FnOnce(TicketId) -> Option<Invitation>,
) -> Result<Request, T1Error> {
    let message: Message = decode_object(bytes, PAIRING_REQUEST_LEN_MAX)?;
    let T1Body { kind, ticket, space, inviter: addressee, introduction, nonce: _ } =
        decode(&message.body, PAIRING_REQUEST_LEN_MAX)?;
    if addressee != inviter {
        return Err(T1Error::WrongInviter);
    }
    let invitation = find(ticket).ok_or(T1Error::Refused)?;
    let joiner = introduction.identity.device;
    // The lookup's answer is not trusted to be about this ticket: a proof under another secret does not fit the id.
    let is_proven = message.is_by(joiner, &invitation.secret, Side::Joiner, space);
    if kind != KIND_T1 || !is_proven || invitation.space != space || invitation.secret.id() != ticket {
        return Err(T1Error::Refused);
    }
    if peer.is_some_and(|peer| peer != joiner) {
        return Err(T1Error::WrongPeer);
    }
    introduction.check(space)?;
    if introduction.inviter != inviter || joiner == inviter {
        return Err(T1Error::Refused);
    }
    if invitation.role.can_read() && introduction.identity.key(grant::SUITE).is_none() {
        return Err(T1Error::NoKey);
    }
    Ok(Request { ticket, space, introduction, body: message.body })
}

/// The message that shows the nonce of a ticket for a device of one's own: to be sent after T1 was checked.
pub fn make_nonce(nonce: &[u8; 32]) -> Vec<u8> {
    encode_object(&(KIND_NONCE, nonce))
}

/// What a ticket for a device of one's own says of the nonce.
pub fn nonce_hash(nonce: &[u8; 32]) -> [u8; 32] {
    *blake3::hash(nonce).as_bytes()
}

fn compared_words(t1: &[u8], nonce: &[u8; 32]) -> ComparedWords {
    let mut hasher = blake3::Hasher::new_derive_key("zerocloud/1 ticket words");
    hasher.update(t1).update(nonce);
    words::compared(hasher.finalize().as_bytes())
}

fn decode_message(bytes: &[u8]) -> Result<Message, DecodeError> {
    decode_object(bytes, PAIRING_LEN_MAX)
}
