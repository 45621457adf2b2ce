//! Messages of the streams, and the signed words that they carry: addresses and frontiers.

use std::collections::BTreeMap;
use std::fmt::Debug;

use zerocloud_crdt::address::{AddressRecord, RelayUrl, SignedAddresses};
use zerocloud_crdt::codec::{encode, encode_object};
use zerocloud_crdt::id::SpaceId;
use zerocloud_crdt::log::{Entry, Frontier, SignedFrontier};
use zerocloud_crdt::membership::Record;
use zerocloud_crdt::seal::suite_of;
use zerocloud_crdt::sign::{Signed, sign};
use zerocloud_crdt::wire::{Answer, Assembly, Control, Log, Message, Opening, PieceBody, Request};

use super::choose;
use super::proofs::{DEVICES, LOG_SPACE, envelope};

/// A message that is read is written to the same bytes.
fn read<'b, M: Message<'b> + PartialEq + Debug>(bytes: &'b [u8]) -> Option<M> {
    let message = M::from_bytes(bytes).ok()?;
    assert!(message.is_bounded() && bytes.len() <= M::LEN_MAX);
    assert_eq!(message.to_bytes(), bytes);
    Some(message)
}

/// A frame of a stream of any kind, and what is in it.
pub fn wire(data: &[u8]) -> bool {
    let Some((kind, bytes)) = choose(data, 5) else { return false };
    match kind {
        0 => read::<Opening>(bytes).is_some(),
        1 => read::<Control>(bytes).map(|control| look_at_control(&control)).is_some(),
        2 => read::<Log>(bytes).map(look_at_log).is_some(),
        3 => read::<Request>(bytes).is_some(),
        _ => read::<Answer>(bytes).map(|answer| assemble(&answer)).is_some(),
    }
}

fn look_at_control(control: &Control) {
    match control {
        Control::Hello(hello) => drop(SignedAddresses::decode(&hello.addresses)),
        Control::Share { .. } => {}
        Control::Addresses(records) => {
            for record in records {
                drop(SignedAddresses::decode(record));
            }
        }
    }
}

fn look_at_log(log: Log) {
    match log {
        Log::Records { records, .. } => {
            for record in records {
                drop(Record::decode(LOG_SPACE, &record));
            }
        }
        Log::Frontier(bytes) | Log::HandedOn(bytes) => drop(SignedFrontier::decode(LOG_SPACE, &bytes)),
        Log::Entries(entries) => {
            for entry in entries {
                drop(Entry::decode(LOG_SPACE, entry.into_vec()));
            }
        }
        Log::Materialised(_) => {}
        Log::Chunks(chunks) => {
            for chunk in chunks {
                // What everybody sees of it.
                let _ = suite_of(&chunk.sealed);
            }
        }
    }
}

/// Puts the pieces together as who asked does: an ask that has failed gets nothing more.
fn assemble(answer: &Answer<'_>) {
    let mut open: BTreeMap<u64, Option<(Assembly, Vec<u8>)>> = BTreeMap::new();
    for piece in &answer.pieces {
        let PieceBody::Fragment { total_len, bytes } = &piece.body else { continue };
        let slot = open.entry(piece.ask).or_insert_with(|| Some((Assembly::default(), Vec::new())));
        let Some((assembly, sent)) = slot else { continue };
        sent.extend_from_slice(bytes);
        match assembly.push(*total_len, bytes) {
            Ok(None) => assert!(sent.len() < *total_len as usize),
            Ok(Some(whole)) => {
                assert_eq!(whole, *sent);
                assert_eq!(whole.len(), *total_len as usize);
                *slot = None;
            }
            Err(_) => *slot = None,
        }
    }
}

/// An address record, a relay's address, a frontier: as they come, and as a device may have signed them.
pub fn addresses(data: &[u8]) -> bool {
    let Some((kind, bytes)) = choose(data, 5) else { return false };
    let (keys, key) = &DEVICES[1];
    match kind {
        0 => AddressRecord::decode(bytes).is_ok(),
        1 => {
            let body = [&keys.id().as_bytes()[..], bytes].concat();
            let signed = envelope(key, Signed::Address, SpaceId::NONE, &body);
            let Ok(addresses) = SignedAddresses::decode(&signed) else { return false };
            let record = addresses.record().clone();
            assert_eq!(addresses.as_bytes(), signed);
            assert!(!record.replaces(&record));
            assert_eq!(AddressRecord::make(keys, record.counter, record.hints), signed);
            true
        }
        2 => {
            let Some(url) = std::str::from_utf8(bytes).ok().and_then(|text| RelayUrl::parse(text).ok()) else {
                return false;
            };
            assert_eq!(url.as_str().as_bytes(), bytes);
            true
        }
        3 => {
            let Ok(frontier) = Frontier::decode(bytes) else { return false };
            assert_eq!(frontier.encode().as_deref(), Ok(bytes));
            compare(&frontier);
            true
        }
        _ => {
            let mut signed = encode_object(&LOG_SPACE);
            signed.extend(encode(&keys.id()));
            signed.extend_from_slice(bytes);
            signed.extend(encode(&sign(key, Signed::Frontier, LOG_SPACE, &signed)));
            let Ok(told) = SignedFrontier::decode(LOG_SPACE, &signed) else { return false };
            assert_eq!(told.as_bytes(), signed);
            let again = SignedFrontier::sign(key, LOG_SPACE, told.frontier.clone());
            assert_eq!(again.as_ref().map(SignedFrontier::as_bytes), Ok(&signed[..]));
            compare(&told.frontier);
            true
        }
    }
}

/// What a device does with a peer's frontier: held against its own, of which half is taken from the same.
fn compare(frontier: &Frontier) {
    let mut ours = Frontier::default();
    for (log, position) in frontier.iter().step_by(2) {
        ours.advance(log, position);
    }
    assert!(frontier.lost_since(&ours).is_empty());
    let lacked: Vec<_> = frontier.lacked_by(&ours).into_iter().map(|(log, _)| log).collect();
    assert_eq!(lacked.len(), frontier.count() - ours.count());
    assert!(ours.compare(frontier).is_ok());
    ours.merge(frontier).unwrap();
    assert_eq!(&ours, frontier);
}
