//! The formats of entries and frontiers against damage, mix-ups and hostile lengths.

use proptest::prelude::*;

use super::*;
use crate::codec::DecodeError;
use crate::id::EntryHash;
use crate::limits::{ENTRY_LEN_MAX, WAITING_ENTRY_COUNT_MAX};
use crate::log::check::Missing;
use crate::log::entry::{EntryError, Kind};
use crate::log::frontier::SignedFrontierError;
use crate::log::payload::OpenError;
use crate::log::waiting::PoolFull;
use crate::sign::{Signed, sign};

fn sample() -> (Lab, Entry) {
    let mut lab = Lab::new(2);
    lab.write(1, Draft::Index(vec![put(1, b"one", &[])]));
    lab.sync(1, 0);
    let entry = lab.write(0, Draft::Index(vec![put(2, b"two", &[])]));
    (lab, entry)
}

fn frontier(count: u8) -> Frontier {
    let mut frontier = Frontier::default();
    for byte in 0..count {
        let log = LogId { author: DeviceId([byte; 32]), incarnation: Incarnation([byte; 8]) };
        frontier.advance(log, Position { number: u64::from(byte) + 1, hash: EntryHash([byte; 32]) });
    }
    frontier
}

/// Signs an envelope of choice, as a member could.
fn envelope(device: &Device, header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![crate::FORMAT];
    bytes.extend(crate::codec::encode(&serde_bytes::Bytes::new(header)));
    bytes.extend(crate::codec::encode(&serde_bytes::Bytes::new(payload)));
    bytes.extend(crate::codec::encode(&sign(&device.key, Signed::Entry, SPACE, &bytes)));
    bytes
}

#[test]
fn an_entry_is_read_back_with_and_without_its_signature_check() {
    let (lab, entry) = sample();
    let bytes = entry.as_bytes().to_vec();
    assert_eq!(Entry::decode(SPACE, bytes.clone()).as_ref(), Ok(&entry));
    assert_eq!(Entry::decode_stored(SPACE, bytes).as_ref(), Ok(&entry));
    assert_eq!(entry.hash().0, *blake3::hash(entry.as_bytes()).as_bytes());
    assert_eq!(entry.payload().len(), 1 + 24 + 1024 + 16, "padded to a step");
    let Body::Index(change, _) = entry.open(&lab.secret).unwrap() else { panic!("no change") };
    assert_eq!(change.ops.len(), 1);
}

#[test]
fn threat_10_each_flipped_bit_and_each_truncation_of_an_entry_is_refused() {
    let (_, entry) = sample();
    let bytes = entry.as_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Entry::decode(SPACE, flipped).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(Entry::decode(SPACE, bytes[..len].to_vec()).is_err(), "length {len}");
    }
    assert!(Entry::decode(SPACE, [bytes, &[0]].concat()).is_err());
}

#[test]
fn threat_10_each_flipped_bit_of_a_sealed_payload_is_refused_with_one_error() {
    let (lab, entry) = sample();
    let payload = entry.payload();
    // The suite byte is told as such; all else is one error.
    for bit in 8..payload.len() * 8 {
        let mut flipped = payload.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let spoiled = Entry::sign(entry.header().clone(), &flipped, &lab.devices[0].key);
        assert_eq!(spoiled.open(&lab.secret), Err(OpenError::NotAuthentic), "bit {bit}");
    }
    for len in [0, 1, 24, 25, 41, payload.len() - 1] {
        let spoiled = Entry::sign(entry.header().clone(), &payload[..len], &lab.devices[0].key);
        assert_eq!(spoiled.open(&lab.secret), Err(OpenError::NotAuthentic), "length {len}");
    }
    let mut suite = payload.to_vec();
    suite[0] = 2;
    let spoiled = Entry::sign(entry.header().clone(), &suite, &lab.devices[0].key);
    assert_eq!(spoiled.open(&lab.secret), Err(OpenError::UnknownSuite { suite: 2 }));
}

#[test]
fn threat_10_each_flipped_bit_and_each_truncation_of_a_signed_frontier_is_refused() {
    let device = Device::new(1);
    let signed = SignedFrontier::sign(&device.key, SPACE, frontier(3)).unwrap();
    let bytes = signed.as_bytes();
    assert_eq!(SignedFrontier::decode(SPACE, bytes).as_ref(), Ok(&signed));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(SignedFrontier::decode(SPACE, &flipped).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(SignedFrontier::decode(SPACE, &bytes[..len]).is_err(), "length {len}");
    }
}

#[test]
fn threat_11_an_entry_is_of_one_space_and_its_payload_of_one_header() {
    let (mut lab, entry) = sample();
    let other = SpaceId([2; 32]);
    assert_eq!(Entry::decode(other, entry.as_bytes().to_vec()), Err(EntryError::WrongSpace));
    let header = Header { space: other, ..entry.header().clone() };
    let bytes = envelope(&lab.devices[0], &header.encode(), entry.payload());
    assert!(matches!(Entry::decode(other, bytes), Err(EntryError::Signature(_))), "signed for another space");
    // The author moves a payload under another header of its own.
    let next = lab.write(0, Draft::Index(vec![put(3, b"three", &[])]));
    let moved = Entry::sign(next.header().clone(), entry.payload(), &lab.devices[0].key);
    assert_eq!(moved.open(&lab.secret), Err(OpenError::NotAuthentic));
}

#[test]
fn threat_11_what_was_signed_as_something_else_is_no_entry_and_no_frontier() {
    let (lab, entry) = sample();
    let key = &lab.devices[0].key;
    let frontier = SignedFrontier::sign(key, SPACE, frontier(1)).unwrap();
    let entry_body = &entry.as_bytes()[..entry.as_bytes().len() - 65];
    let frontier_body = &frontier.as_bytes()[..frontier.as_bytes().len() - 65];
    for signed in Signed::ALL {
        let with = |body: &[u8]| [body, &crate::codec::encode(&sign(key, signed, SPACE, body))].concat();
        assert_eq!(Entry::decode(SPACE, with(entry_body)).is_ok(), signed == Signed::Entry, "{signed:?}");
        let read = SignedFrontier::decode(SPACE, &with(frontier_body));
        assert_eq!(read.is_ok(), signed == Signed::Frontier, "{signed:?}");
    }
    assert!(Entry::decode(SPACE, frontier.as_bytes().to_vec()).is_err());
    assert!(SignedFrontier::decode(SPACE, entry.as_bytes()).is_err());
    let read = SignedFrontier::decode(SpaceId([2; 32]), frontier.as_bytes());
    assert_eq!(read, Err(SignedFrontierError::WrongSpace));
}

#[test]
fn another_format_or_kind_is_told_as_such() {
    let (lab, entry) = sample();
    let mut bytes = entry.as_bytes().to_vec();
    bytes[0] = crate::FORMAT + 1;
    assert_eq!(Entry::decode(SPACE, bytes), Err(DecodeError::UnknownFormat { found: crate::FORMAT + 1 }.into()));
    let mut header = entry.header().encode();
    *header.last_mut().unwrap() = 3;
    let bytes = envelope(&lab.devices[0], &header, entry.payload());
    assert_eq!(Entry::decode(SPACE, bytes), Err(EntryError::UnknownKind { kind: 3 }));
    let stranger = envelope(&lab.devices[1], &header, entry.payload());
    assert!(matches!(Entry::decode(SPACE, stranger), Err(EntryError::Signature(_))), "only its author may say so");
}

#[test]
fn a_header_out_of_shape_is_no_header() {
    let (lab, entry) = sample();
    let spoil = |spoil: &dyn Fn(&mut Header)| {
        let mut header = entry.header().clone();
        spoil(&mut header);
        let bytes = envelope(&lab.devices[0], &header.encode(), entry.payload());
        assert_eq!(Entry::decode(SPACE, bytes), Err(DecodeError::Malformed.into()));
    };
    spoil(&|header| header.number = 0);
    spoil(&|header| header.number = 1);
    spoil(&|header| header.previous = None);
    spoil(&|header| (header.number, header.previous) = (1, None));
    spoil(&|header| header.membership = vec![RecordHash([2; 32]), RecordHash([1; 32])]);
    spoil(&|header| header.membership = (0..65).map(|byte| RecordHash([byte; 32])).collect());
    let head = |byte: u8, number| Head {
        point: EntryPoint { log: LogId { author: DeviceId([byte; 32]), incarnation: Incarnation([0; 8]) }, number },
        hash: EntryHash([0; 32]),
    };
    spoil(&|header| header.heads = vec![head(2, 1), head(1, 1)]);
    spoil(&|header| header.heads = vec![head(1, 1), head(1, 1)]);
    spoil(&|header| header.heads = vec![head(1, 0)]);
    spoil(&|header| header.heads = (0..65).map(|byte| head(byte, 1)).collect());
    spoil(&|header| header.heads = vec![Head { point: header.point(), ..head(1, 1) }]);
}

#[test]
fn threat_28_each_entry_is_sealed_under_a_nonce_that_was_drawn_for_it() {
    let (lab, entry) = sample();
    // A cloned device: the same key, log, number, header and body, and only what is drawn differs.
    let seal = |body: &[u8], seed: u64| {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        payload::seal(entry.header(), body, &lab.secret, &mut rng).unwrap()
    };
    let mut nonces = BTreeSet::new();
    for seed in 0..100 {
        let mut drawn = [0; 24];
        ChaCha20Rng::seed_from_u64(seed).fill_bytes(&mut drawn);
        for body in [&b"one"[..], b"another"] {
            assert_eq!(seal(body, seed)[1..25], drawn, "the nonce is drawn, all of it, and follows from nothing else");
        }
        nonces.insert(drawn);
    }
    assert_eq!(nonces.len(), 100);
}

#[test]
fn threat_43_a_compressed_payload_opens_to_what_it_declares_or_not_at_all() {
    let (mut lab, entry) = sample();
    let header = Header { kind: Kind::Index, ..entry.header().clone() };
    let zeros = vec![0; 4 << 20];
    let frame = zstd::bulk::compress(&zeros, 3).unwrap();
    let longer = zstd::bulk::compress(&vec![0; (4 << 20) + 1], 3).unwrap();
    let twice = [frame.clone(), frame.clone()].concat();
    let mut sealed = |declared: u32, stored: &[u8], padding: usize| {
        let mut plain = vec![1];
        plain.extend(declared.to_le_bytes());
        plain.extend((stored.len() as u32).to_le_bytes());
        plain.extend(stored);
        plain.resize(crate::padding::padded_len(plain.len() as u64) as usize + padding, 0);
        let payload = payload::seal_plain(&header, &plain, &lab.secret, &mut lab.rng).unwrap();
        Entry::sign(header.clone(), &payload, &lab.devices[0].key).open(&lab.secret).unwrap_err()
    };
    // The honest frame opens, and what is inside is no change.
    assert!(matches!(sealed(4 << 20, &frame, 0), OpenError::Change(_)));
    assert_eq!(sealed(4 << 20, &longer, 0), OpenError::NotAuthentic);
    assert_eq!(sealed((4 << 20) + 1, &longer, 0), OpenError::NotAuthentic);
    assert_eq!(sealed((4 << 20) - 1, &frame, 0), OpenError::NotAuthentic);
    assert_eq!(sealed(8 << 20, &twice, 0), OpenError::NotAuthentic);
    assert_eq!(sealed(4 << 20, &twice, 0), OpenError::NotAuthentic);
    assert_eq!(sealed(4 << 20, &[&frame[..], &[0]].concat(), 0), OpenError::NotAuthentic);
    assert_eq!(sealed(4 << 20, &frame, 1024), OpenError::NotAuthentic, "padding of another length");
    assert_eq!(sealed(u32::MAX, &frame, 0), OpenError::NotAuthentic);
}

#[test]
fn threat_44_lengths_and_counts_without_the_bytes_are_refused() {
    let (lab, entry) = sample();
    assert!(matches!(
        Entry::decode(SPACE, vec![0; ENTRY_LEN_MAX + 1]),
        Err(EntryError::Decode(DecodeError::TooLong { .. }))
    ));
    // A header and a payload that claim 2^63 bytes.
    let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let bytes = [&[crate::FORMAT][..], &huge].concat();
    assert!(matches!(Entry::decode(SPACE, bytes), Err(EntryError::Decode(DecodeError::TooLong { .. }))));
    // Heads that claim 2^63 elements, in a header that its author signed.
    let mut header = entry.header().encode();
    let heads_at = 1 + 32 + 32 + 8 + 1 + 33;
    header.splice(heads_at..=heads_at, huge);
    let bytes = envelope(&lab.devices[0], &header, entry.payload());
    assert_eq!(Entry::decode(SPACE, bytes), Err(DecodeError::Malformed.into()));
    let bytes = [&[crate::FORMAT][..], &huge, &[0; 64]].concat();
    assert_eq!(Frontier::decode(&bytes), Err(DecodeError::Malformed));
}

#[test]
fn threat_44_orphans_are_kept_up_to_a_bound_for_each_peer_and_no_further() {
    let mut lab = Lab::new(1);
    let (header, _) = lab.next(0, Draft::Index(vec![put(1, b"x", &[])]));
    let payload = lab.write(0, Draft::Seen).payload().to_vec();
    let orphan = |number: u64| {
        let header = Header { number, kind: Kind::Seen, previous: Some(EntryHash([9; 32])), ..header.clone() };
        Entry::sign(header, &payload, &lab.devices[0].key)
    };
    let missing = |byte| {
        let point = EntryPoint { log: header.log, number: 9 };
        Missing::Entry { point, hash: EntryHash([byte; 32]) }
    };
    let (mut pool, mut other) = (WaitingPool::default(), WaitingPool::default());
    for number in 0..WAITING_ENTRY_COUNT_MAX as u64 {
        pool.insert(orphan(number + 10), missing((number % 2) as u8)).unwrap();
    }
    assert_eq!(pool.insert(orphan(9), missing(1)), Err(PoolFull));
    assert_eq!(pool.insert(orphan(10), missing(1)), Ok(()), "one that is there takes no second place");
    assert_eq!(pool.count(), WAITING_ENTRY_COUNT_MAX);
    assert_eq!(other.insert(orphan(9), missing(1)), Ok(()), "another peer has a pool of its own");
    assert_eq!(pool.missing().len(), 2);
    let released = pool.take_after_entry(EntryHash([1; 32])).len();
    assert_eq!(released, WAITING_ENTRY_COUNT_MAX / 2 + 1);
    assert_eq!(pool.take_after_entry(EntryHash([1; 32])).len(), 0);
    assert_eq!(pool.take_after_entry(EntryHash([0; 32])).len(), WAITING_ENTRY_COUNT_MAX - released);
    assert_eq!((pool.count(), pool.bytes()), (0, 0));
}

#[test]
fn a_waiting_pool_is_bounded_in_bytes_too() {
    let lab = Lab::new(1);
    let header =
        lab.devices[0].log.stored(EntryPoint { log: lab.devices[0].id(), number: 1 }).unwrap().header().clone();
    let big = |number: u64| {
        let header = Header { number, previous: Some(EntryHash([0; 32])), ..header.clone() };
        Entry::sign(header, &vec![1; 1 << 20], &lab.devices[0].key)
    };
    let mut pool = WaitingPool::default();
    let mut number = 2;
    while pool.insert(big(number), Missing::Records).is_ok() {
        number += 1;
    }
    assert_eq!(pool.count(), 63, "64 MiB hold 63 entries of a MiB and their headers");
    assert_eq!(pool.take_after_records().len(), 63);
}

#[test]
fn frontiers_are_compared_and_merged_log_by_log() {
    let (small, large) = (frontier(2), frontier(3));
    assert_eq!(small.compare(&large), Ok(Relation::Behind));
    assert_eq!(large.compare(&small), Ok(Relation::Ahead));
    assert_eq!(large.compare(&large), Ok(Relation::Equal));
    let mut other = frontier(1);
    let (log, _) = other.iter().next().unwrap();
    other.advance(log, Position { number: 5, hash: EntryHash([5; 32]) });
    assert_eq!(other.compare(&large), Ok(Relation::Apart));
    assert_eq!(other.lacked_by(&large), [(log, 2..=5)]);
    assert_eq!(large.lost_since(&other), [log]);
    let mut merged = other.clone();
    merged.merge(&large).unwrap();
    assert_eq!((merged.compare(&other), merged.compare(&large)), (Ok(Relation::Ahead), Ok(Relation::Ahead)));
    assert_eq!(Frontier::decode(&merged.encode().unwrap()), Ok(merged.clone()));
    let mut forked = Frontier::default();
    forked.advance(log, Position { number: 5, hash: EntryHash([6; 32]) });
    let fork = merged.compare(&forked).unwrap_err();
    assert_eq!((fork.point.number, fork.ours, fork.other), (5, EntryHash([5; 32]), EntryHash([6; 32])));
    assert_eq!(merged.merge(&forked), Err(fork));
}

#[test]
fn a_frontier_that_names_another_hash_for_an_entry_we_have_shows_a_fork() {
    let (lab, entry) = sample();
    let log = &lab.devices[0].log;
    assert_eq!(log.frontier().unwrap().find_fork_with(log), Ok(Ok(())));
    let mut theirs = Frontier::default();
    theirs.advance(entry.point().log, Position { number: 1, hash: entry.hash() });
    let fork = theirs.find_fork_with(log).unwrap().unwrap_err();
    assert_eq!((fork.point.number, fork.other), (1, entry.hash()));
}

proptest! {
    #[test]
    fn any_bytes_are_an_entry_a_frontier_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let framed = [&[crate::FORMAT][..], &bytes].concat();
        prop_assert!(Entry::decode(SPACE, framed.clone()).is_err());
        prop_assert!(SignedFrontier::decode(SPACE, &framed).is_err());
        if let Ok(frontier) = Frontier::decode(&framed) {
            prop_assert_eq!(frontier.encode(), Ok(framed.clone()));
        }
        // Behind a signature that holds.
        let device = Device::new(0);
        let entry = Entry::decode(SPACE, envelope(&device, &framed, &bytes));
        prop_assert!(entry.is_err());
        let mut signed = framed.clone();
        signed.extend(crate::codec::encode(&sign(&device.key, Signed::Frontier, SPACE, &framed)));
        prop_assert!(SignedFrontier::decode(SPACE, &signed).is_err());
    }

    #[test]
    fn any_bytes_that_a_member_seals_are_a_body_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..400), flags in 0u8..3, kind in 0usize..3, is_framed: bool,
    ) {
        let (mut lab, entry) = sample();
        let kind = [Kind::Start, Kind::Index, Kind::Seen][kind];
        let header = Header { kind, ..entry.header().clone() };
        let mut plain = bytes.clone();
        if is_framed {
            let len = (bytes.len() as u32).to_le_bytes();
            plain = [&[flags][..], &len, &len, &bytes].concat();
            plain.resize(crate::padding::padded_len(plain.len() as u64) as usize, 0);
        }
        let payload = payload::seal_plain(&header, &plain, &lab.secret, &mut lab.rng).unwrap();
        let opened = Entry::sign(header, &payload, &lab.devices[0].key).open(&lab.secret);
        prop_assert!(is_framed || opened.is_err());
        prop_assert!(opened.is_err() || kind != Kind::Seen || bytes.is_empty());
    }
}
