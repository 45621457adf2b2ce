//! What stands between a stranger's bytes and a parser, made with keys that are known here.
//!
//! The space, its members, the ticket and the pairing are those of the known answers (`tests/golden/members.rs`), so
//! that these are seeds.

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_bytes::Bytes;
use zerocloud_crdt::address::{AddressHint, DirectAddress, RelayUrl};
use zerocloud_crdt::codec::{encode, encode_object};
use zerocloud_crdt::id::{EpochId, SpaceId};
use zerocloud_crdt::keys::{DeviceKeys, EpochSecret, Secret};
use zerocloud_crdt::membership::{Genesis, Given, Identity, Records, Role, Row};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::pairing::{Invitation, Joining, Request, check_t1, make_t1, nonce_hash};
use zerocloud_crdt::sign::{Signed, sign};
use zerocloud_crdt::ticket::{Ticket, TicketSecret};

/// The space of the log's known answers.
pub(crate) const LOG_SPACE: SpaceId = SpaceId([0x11; 32]);

/// The secret under which its entries are sealed.
pub(crate) static LOG_SECRET: LazyLock<EpochSecret> =
    LazyLock::new(|| EpochSecret::new(LOG_SPACE, EpochId([0x22; 32]), Secret::new([0x33; 32])));

/// The secret of the known chunks and pages.
pub(crate) static CONTENT_SECRET: LazyLock<EpochSecret> =
    LazyLock::new(|| EpochSecret::new(SpaceId([0x51; 32]), EpochId([0xe9; 32]), Secret::new([0x5e; 32])));

/// The nonce of the known ticket.
pub(crate) const NONCE: [u8; 32] = [0x0a; 32];

/// The keys of a device by its number.
pub(crate) fn device(number: u8) -> DeviceKeys {
    DeviceKeys::from_seed(Secret::new([number; 32]))
}

/// Five devices: recovery, creator, joiner, and two that nobody knows.
pub(crate) static DEVICES: LazyLock<[(DeviceKeys, SigningKey); 5]> =
    LazyLock::new(|| std::array::from_fn(|number| (device(number as u8), device(number as u8).signing_key())));

/// A space, and one device that joins it by a ticket.
pub(crate) struct Founded {
    pub(crate) genesis: Genesis,
    pub(crate) ticket: Ticket,
    pub(crate) joining: Joining,
    pub(crate) request: Request,
    /// With the joiner.
    pub(crate) records: Records,
}

/// The one that all targets use.
pub(crate) static FOUNDED: LazyLock<Founded> = LazyLock::new(found);

fn found() -> Founded {
    let mut rng = ChaCha20Rng::seed_from_u64(0);
    let (creator, recovery, joiner) = (device(1), device(0), device(2));
    let secret = Secret::draw(&mut rng);
    let genesis = Genesis::make(&creator, Identity::of(&recovery), &secret, &mut rng);
    let mut records = Records::begin(genesis.clone());
    let hints = vec![
        AddressHint::Direct(DirectAddress::new([192, 0, 2, 1].into(), 4433).unwrap()),
        AddressHint::Direct(DirectAddress::new("2001:db8::1".parse().unwrap(), 443).unwrap()),
        AddressHint::Relay(RelayUrl::parse("https://relay.example/").unwrap()),
    ];
    let ticket = Ticket {
        inviter: creator.id(),
        space: records.space(),
        secret: TicketSecret::draw(&mut rng),
        hints,
        name: Name::parse("Größe".as_bytes()).unwrap(),
        role: Role::Editor,
        expiry_secs: 1_900_000_000,
        own_device: Some(nonce_hash(&NONCE)),
    };
    let joining = make_t1(&ticket, &joiner, &mut rng);
    let invitation = Invitation { space: ticket.space, secret: ticket.secret.clone(), role: ticket.role };
    let request = check_t1(joining.message(), creator.id(), Some(joiner.id()), |_| Some(invitation)).unwrap();
    let given = Given { person: records.genesis().body().person, rank: 2, role: ticket.role };
    let row = Row { introduction: request.introduction.clone(), given };
    records.add(&creator.signing_key(), row).unwrap();
    Founded { genesis, ticket, joining, request, records }
}

/// The frame around what one device signs (`crdt/src/envelope.rs`).
pub(crate) fn envelope(key: &SigningKey, signed: Signed, space: SpaceId, body: &[u8]) -> Vec<u8> {
    encode_object(&(Bytes::new(body), sign(key, signed, space, body)))
}

/// The body inside such a frame, whoever signed it.
pub(crate) fn body_of(envelope: &[u8]) -> Option<Vec<u8>> {
    let (len, rest) = read_varint(envelope.get(1..)?)?;
    rest.get(..len).map(<[u8]>::to_vec)
}

/// A pairing message: signed, and proven by the ticket's secret (`crdt/src/pairing.rs`).
pub(crate) fn pairing_message(key: &SigningKey, ticket: &Ticket, context: &str, body: &[u8]) -> Vec<u8> {
    let mac = *blake3::keyed_hash(&blake3::derive_key(context, ticket.secret.expose()), body).as_bytes();
    encode_object(&(Bytes::new(body), sign(key, Signed::Pairing, ticket.space, body), mac))
}

/// Reads a varint as postcard writes it.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let end = bytes.iter().take(9).position(|byte| byte & 0x80 == 0)? + 1;
    let (varint, rest) = bytes.split_at(end);
    Some((varint.iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f)), rest))
}

/// A byte string behind its length.
pub(crate) fn prefixed(bytes: &[u8]) -> Vec<u8> {
    encode(&Bytes::new(bytes))
}
