//! Who belongs to a space: genesis, records, rows and grants; tickets and the messages of a pairing.

use arbitrary::{Result, Unstructured};
use data_encoding::BASE32_NOPAD;
use serde_bytes::ByteBuf;
use zerocloud_crdt::FORMAT;
use zerocloud_crdt::codec::{encode, encode_object};
use zerocloud_crdt::grant;
use zerocloud_crdt::id::{DeviceId, EpochId, PersonId, RecordHash, SpaceId};
use zerocloud_crdt::membership::{
    Genesis, GenesisBody, Given, Identity, Introduction, KemKey, Operation, Record, Records, Role, Row,
};
use zerocloud_crdt::pairing::{Invitation, Welcome, check_t1, check_t2, make_nonce, make_t2};
use zerocloud_crdt::sign::{Signed, sign};
use zerocloud_crdt::ticket::Ticket;

use super::choose;
use super::proofs::{DEVICES, FOUNDED, NONCE, body_of, envelope, pairing_message};

const RECORD_COUNT_MAX: usize = 12;

/// A genesis, records or a grant: as they come, or signed by a device that may have written anything.
pub fn members(data: &[u8]) -> bool {
    let Some((way, data)) = choose(data, 7) else { return false };
    match way {
        0 => record(FOUNDED.records.space(), data),
        1 => genesis(data),
        2 => found(&mut Unstructured::new(data)).unwrap_or(false),
        3 => history(&mut Unstructured::new(data)).unwrap_or(false),
        4 => signed_record(data),
        5 => opened(data),
        _ => granted(&mut Unstructured::new(data)).unwrap_or(false),
    }
}

fn record(space: SpaceId, bytes: &[u8]) -> bool {
    let Ok(record) = Record::decode(space, bytes) else { return false };
    assert_eq!(record.bytes(), bytes);
    assert_eq!(record.hash(), Record::hash_of(bytes));
    if let Ok(operation) = record.operation() {
        let body = body_of(bytes).unwrap();
        let change = encode(&(operation, record.opens()));
        assert_eq!(body, [encode(record.head()), change].concat(), "a record is written as it was read");
    }
    true
}

fn genesis(bytes: &[u8]) -> bool {
    let Ok(genesis) = Genesis::decode(Genesis::id_of(bytes), bytes) else { return false };
    assert_eq!(genesis.bytes(), bytes);
    assert_eq!(body_of(bytes).as_deref(), Some(&encode(genesis.body())[..]));
    let records = Records::begin(genesis);
    let table = records.table().unwrap();
    assert_eq!(table.rows().count(), 2);
    true
}

/// A genesis that its creator signed, with anything in it.
fn found(input: &mut Unstructured<'_>) -> Result<bool> {
    let (creator, key) = &DEVICES[1];
    let random: [u8; 32] = input.arbitrary()?;
    let binding = SpaceId(random);
    let inviter = if input.ratio(7, 8)? { creator.id() } else { DEVICES[0].0.id() };
    let body = GenesisBody {
        level: if input.ratio(7, 8)? { 1 } else { input.arbitrary()? },
        chunker: if input.ratio(7, 8)? { 1 } else { input.arbitrary()? },
        random,
        creator: introduce(1, draw_identity(input, 1)?, inviter, binding),
        recovery: draw_identity(input, 0)?,
        person: PersonId(input.arbitrary()?),
        commitment: input.arbitrary()?,
    };
    Ok(genesis(&envelope(key, Signed::Genesis, binding, &encode(&body))))
}

/// What a device says of itself, signed by it.
fn introduce(number: usize, identity: Identity, inviter: DeviceId, space: SpaceId) -> Introduction {
    let signature = sign(&DEVICES[number].1, Signed::Row, space, &encode(&(&identity, inviter)));
    Introduction { identity, inviter, signature }
}

fn draw_identity(input: &mut Unstructured<'_>, number: usize) -> Result<Identity> {
    let mut identity = Identity::of(&DEVICES[number].0);
    if input.ratio(1, 4)? {
        let suite = input.arbitrary()?;
        let len = input.arbitrary_len::<u8>()?.min(2_000);
        let key = KemKey { suite, key: input.bytes(len)?.to_vec() };
        if input.arbitrary()? {
            identity.keys.push(key);
        } else {
            identity.keys = vec![key];
        }
    }
    Ok(identity)
}

/// A body of a record behind a right head.
fn signed_record(data: &[u8]) -> bool {
    let Some((author, rest)) = choose(data, 3) else { return false };
    let records = &FOUNDED.records;
    let (keys, key) = &DEVICES[usize::from(author)];
    let mut body = encode(&1u16);
    body.extend(encode(&(records.space(), records.heads(), keys.id())));
    body.extend_from_slice(rest);
    let bytes = envelope(key, Signed::Record, records.space(), &body);
    let is_read = record(records.space(), &bytes);
    let mut records = records.clone();
    let inserted = records.insert(&bytes);
    assert!(is_read || inserted.is_err());
    if inserted.is_ok() {
        look(&records);
    }
    inserted.is_ok()
}

/// What is asked of records whenever something depends on who belongs to the space.
fn look(records: &Records) {
    let heads = records.heads();
    let table = records.table();
    for (keys, _) in &*DEVICES {
        let role = records.role_at(&heads, keys.id());
        if let Ok(table) = &table {
            assert_eq!(role, Ok(table.role(keys.id())));
        }
        let _ = records.was_reader(keys.id());
    }
    assert_eq!(records.follows(&heads, &[records.space().genesis_record()]), Ok(true));
    // Who has nothing is given all, and comes to the same.
    let mut lacked = records.lacked_by(&[]);
    let mut again = Records::new(records.space(), lacked.next().unwrap()).unwrap();
    for bytes in lacked {
        again.insert(bytes).unwrap();
    }
    // Which of several records stops the space first is a matter of order.
    assert_eq!((again.heads(), again.table().ok()), (heads, table.ok()));
}

/// Records by five devices, on any heads, and what is kept of them in two orders.
fn history(input: &mut Unstructured<'_>) -> Result<bool> {
    let mut records = Records::begin(FOUNDED.genesis.clone());
    let mut known: Vec<RecordHash> = vec![records.space().genesis_record()];
    let mut written: Vec<Vec<u8>> = Vec::new();
    while !input.is_empty() && written.len() < RECORD_COUNT_MAX {
        let bytes = draw_record(input, records.space(), &known)?;
        if records.insert(&bytes).is_ok() {
            known.push(Record::hash_of(&bytes));
        }
        written.push(bytes);
    }
    look(&records);
    let mut reversed = Records::begin(FOUNDED.genesis.clone());
    for bytes in written.iter().rev() {
        // What is refused in one order is in the other.
        let _ = reversed.insert(bytes);
    }
    assert_eq!(reversed.heads(), records.heads(), "the same records in another order");
    assert_eq!(reversed.table().ok(), records.table().ok());
    Ok(records.count() > 1)
}

fn draw_record(input: &mut Unstructured<'_>, space: SpaceId, known: &[RecordHash]) -> Result<Vec<u8>> {
    let author = usize::from(input.arbitrary::<u8>()? % 5);
    let mut previous = Vec::new();
    for _ in 0..=input.arbitrary::<u8>()? % 3 {
        previous.push(known[input.choose_index(known.len())?]);
    }
    if input.ratio(1, 16)? {
        // Of what has not come yet, or never will.
        previous.push(RecordHash(input.arbitrary()?));
    }
    previous.sort_unstable();
    previous.dedup();
    let (keys, key) = &DEVICES[author];
    let level = if input.ratio(15, 16)? { 1u16 } else { input.arbitrary()? };
    let mut body = encode(&level);
    body.extend(encode(&(space, previous, keys.id())));
    if input.ratio(15, 16)? {
        let joiner = usize::from(input.arbitrary::<u8>()? % 5);
        let inviter = if input.ratio(7, 8)? { keys.id() } else { DEVICES[joiner].0.id() };
        let introduction = introduce(joiner, draw_identity(input, joiner)?, inviter, space);
        let person =
            if input.arbitrary()? { FOUNDED.genesis.body().person } else { PersonId([input.arbitrary()?; 16]) };
        let rank = u32::from(input.arbitrary::<u8>()? % 6);
        let role = Role::ALL[usize::from(input.arbitrary::<u8>()? % 4)];
        body.extend(encode(&Operation::Add(Row { introduction, given: Given { person, rank, role } })));
        body.push(0);
    } else {
        let len = input.arbitrary_len::<u8>()?.min(200);
        body.extend_from_slice(input.bytes(len)?);
    }
    Ok(envelope(key, Signed::Record, space, &body))
}

/// A grant as it comes.
fn opened(data: &[u8]) -> bool {
    let Ok(secret) = grant::open(data, &DEVICES[2].0, &FOUNDED.records) else { return false };
    assert_eq!(FOUNDED.records.is_secret_of(secret.epoch, secret.secret()), Some(true));
    true
}

/// A grant that somebody signed, with anything in it.
fn granted(input: &mut Unstructured<'_>) -> Result<bool> {
    let records = &FOUNDED.records;
    let (granter, key) = &DEVICES[usize::from(input.arbitrary::<u8>()? % 5)];
    let epoch = if input.ratio(7, 8)? { records.space().first_epoch() } else { EpochId(input.arbitrary()?) };
    let recipient = if input.ratio(7, 8)? { DEVICES[2].0.id() } else { DEVICES[1].0.id() };
    let suite: u8 = if input.ratio(7, 8)? { grant::SUITE } else { input.arbitrary()? };
    let enc = match input.arbitrary::<u8>()? % 4 {
        0 => input.bytes(input.len().min(300))?.to_vec(),
        byte => {
            let mut enc = vec![byte; 1_120];
            let begin = input.bytes(input.len().min(1_120))?;
            enc[..begin.len()].copy_from_slice(begin);
            enc
        }
    };
    let sealed = vec![0u8; 48];
    let body = (records.space(), epoch, granter.id(), recipient, suite, ByteBuf::from(enc), ByteBuf::from(sealed));
    let bytes = envelope(key, Signed::Grant, records.space(), &encode(&body));
    assert!(!opened(&bytes), "a grant that was not sealed opens");
    Ok(true)
}

/// A ticket or a message of a pairing: as it comes, or with the proofs of who holds the ticket.
pub fn pairing(data: &[u8]) -> bool {
    let Some((way, data)) = choose(data, 8) else { return false };
    match way {
        0 => std::str::from_utf8(data).is_ok_and(ticket),
        1 => {
            let object = [&[FORMAT][..], data].concat();
            let mut sum = [0; 4];
            blake3::Hasher::new().update(&object).finalize_xof().fill(&mut sum);
            ticket(&format!("zc{FORMAT}{}", BASE32_NOPAD.encode(&[object, sum.to_vec()].concat()).to_lowercase()))
        }
        2 => asked(data),
        3 => asked(&pairing_message(&DEVICES[2].1, &FOUNDED.ticket, "zerocloud/1 ticket joiner", data)),
        4 => ask(&mut Unstructured::new(data)).unwrap_or(false),
        5 => answered(data),
        6 => {
            let t1 = body_of(FOUNDED.joining.message()).unwrap();
            let body = [&[2][..], blake3::hash(&t1).as_bytes(), data].concat();
            answered(&pairing_message(&DEVICES[1].1, &FOUNDED.ticket, "zerocloud/1 ticket inviter", &body))
        }
        _ => {
            let Ok(words) = FOUNDED.joining.check_nonce(data) else { return false };
            assert_eq!(words, FOUNDED.request.compared_words(&NONCE));
            assert_eq!(data, make_nonce(&NONCE));
            true
        }
    }
}

fn ticket(text: &str) -> bool {
    let Ok(ticket) = Ticket::parse(text) else { return false };
    let written = ticket.to_text().unwrap();
    assert_eq!(written.as_str(), text.trim().to_lowercase());
    assert_eq!(encode_object(&Ticket::parse(&written).unwrap()), encode_object(&ticket));
    true
}

/// A first message, as the inviter looks at it.
fn asked(bytes: &[u8]) -> bool {
    let ticket = &FOUNDED.ticket;
    let invitation = || Invitation { space: ticket.space, secret: ticket.secret.clone(), role: ticket.role };
    let Ok(request) = check_t1(bytes, ticket.inviter, None, |_| Some(invitation())) else { return false };
    let joiner = request.joiner();
    let again = check_t1(bytes, ticket.inviter, Some(joiner), |id| (id == request.ticket).then(invitation));
    assert_eq!(again.as_ref(), Ok(&request));
    assert!(check_t1(bytes, ticket.inviter, Some(ticket.inviter), |_| Some(invitation())).is_err());
    assert!(check_t1(bytes, joiner, None, |_| Some(invitation())).is_err(), "made for another inviter");
    let t2 = make_t2(&DEVICES[1].0, &ticket.secret, &request, Welcome::default()).unwrap();
    assert!(check_t2(&FOUNDED.joining, &DEVICES[2].0, &t2).is_err(), "an answer without a space");
    true
}

/// A first message by who holds the ticket.
fn ask(input: &mut Unstructured<'_>) -> Result<bool> {
    let ticket = &FOUNDED.ticket;
    let number = 2 + usize::from(input.arbitrary::<u8>()? % 3);
    let inviter = if input.ratio(7, 8)? { ticket.inviter } else { DEVICES[number].0.id() };
    let space = if input.ratio(7, 8)? { ticket.space } else { SpaceId(input.arbitrary()?) };
    let kind: u8 = if input.ratio(7, 8)? { 1 } else { input.arbitrary()? };
    let introduction = introduce(number, draw_identity(input, number)?, inviter, space);
    let nonce: [u8; 32] = input.arbitrary()?;
    let body = encode(&(kind, ticket.secret.id(), space, inviter, introduction, nonce));
    Ok(asked(&pairing_message(&DEVICES[number].1, ticket, "zerocloud/1 ticket joiner", &body)))
}

/// The inviter's answer, as the joiner looks at it.
fn answered(bytes: &[u8]) -> bool {
    let Ok(joined) = check_t2(&FOUNDED.joining, &DEVICES[2].0, bytes) else { return false };
    assert_eq!(joined.table.role(DEVICES[2].0.id()), Some(FOUNDED.ticket.role));
    assert_eq!(joined.records.table().as_ref(), Ok(&joined.table));
    assert!(joined.secrets.iter().all(|secret| secret.space == FOUNDED.ticket.space));
    look(&joined.records);
    true
}
