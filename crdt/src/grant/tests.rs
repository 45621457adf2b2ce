//! Who opens a grant, and which.

use proptest::prelude::*;

use super::*;
use crate::membership::tests::lab::{Lab, device, person};
use crate::membership::{KemKey, Role};

/// Devices 2 to 4 are an editor, a viewer and a keeper.
fn lab() -> Lab {
    let mut lab = Lab::new(1);
    let creator = lab.creator.clone();
    for (number, role) in [(2, Role::Editor), (3, Role::Viewer), (4, Role::Keeper)] {
        lab.add(&creator, &device(number), person(number), u32::from(number), role);
    }
    lab
}

fn grant_to(lab: &mut Lab, granter: &DeviceKeys, recipient: &DeviceKeys) -> Vec<u8> {
    let secret = lab.epoch_secret();
    seal(&granter.signing_key(), &secret, &Identity::of(recipient), &mut lab.rng).unwrap()
}

/// Signs a grant that says something else than it should.
fn altered(granter: &DeviceKeys, bytes: &[u8], alter: impl FnOnce(&mut Body)) -> Vec<u8> {
    let mut body: Body = decode(&Envelope::decode(bytes, GRANT_LEN_MAX).unwrap().body, GRANT_LEN_MAX).unwrap();
    alter(&mut body);
    Envelope::seal(&granter.signing_key(), Signed::Grant, body.space, encode(&body))
}

#[test]
fn who_may_read_opens_what_any_reader_granted() {
    let mut lab = lab();
    for granter in [lab.creator.clone(), device(2), device(3)] {
        for recipient in [lab.creator.clone(), lab.recovery.clone(), device(2), device(3)] {
            let bytes = grant_to(&mut lab, &granter, &recipient);
            let opened = open(&bytes, &recipient, &lab.records).unwrap();
            assert_eq!(opened.secret(), &lab.secret);
            assert_eq!((opened.space, opened.epoch), (lab.space(), lab.space().first_epoch()));
        }
    }
}

#[test]
fn threat_02_a_grant_counts_only_from_a_reader_and_for_a_reader() {
    let mut lab = lab();
    let creator = lab.creator.clone();
    for (granter, recipient, expected) in [
        (&device(9), &device(2), OpenGrantError::BadSignature),
        (&device(4), &device(2), OpenGrantError::BadSignature),
        (&creator, &device(4), OpenGrantError::NotReader),
        (&creator, &device(9), OpenGrantError::NotReader),
    ] {
        let bytes = grant_to(&mut lab, granter, recipient);
        assert_eq!(open(&bytes, recipient, &lab.records).map(drop), Err(expected));
    }
    let bytes = grant_to(&mut lab, &creator, &device(2));
    let claimed = altered(&device(9), &bytes, |_| {});
    assert_eq!(open(&claimed, &device(2), &lab.records).map(drop), Err(OpenGrantError::BadSignature));
}

#[test]
fn threat_03_a_secret_that_does_not_fit_the_commitment_is_refused() {
    let mut lab = lab();
    let creator = lab.creator.clone();
    let (space, epoch) = (lab.space(), lab.space().first_epoch());
    let recipient = Identity::of(&device(2));
    let other = EpochSecret::new(space, epoch, Secret::new([9; 32]));
    let bytes = seal(&creator.signing_key(), &other, &recipient, &mut lab.rng).unwrap();
    assert_eq!(open(&bytes, &device(2), &lab.records).map(drop), Err(OpenGrantError::WrongSecret));
    let unknown = EpochSecret::new(space, EpochId([9; 32]), lab.secret.clone());
    let bytes = seal(&creator.signing_key(), &unknown, &recipient, &mut lab.rng).unwrap();
    assert_eq!(open(&bytes, &device(2), &lab.records).map(drop), Err(OpenGrantError::UnknownEpoch));
    // An `add` opens no epoch.
    let add = EpochSecret::new(space, EpochId(lab.records.heads()[0].0), lab.secret.clone());
    let bytes = seal(&creator.signing_key(), &add, &recipient, &mut lab.rng).unwrap();
    assert_eq!(open(&bytes, &device(2), &lab.records).map(drop), Err(OpenGrantError::UnknownEpoch));
}

#[test]
fn threat_11_a_sealed_secret_opens_only_as_what_it_was_sealed_for() {
    let mut lab = lab();
    let creator = lab.creator.clone();
    let bytes = grant_to(&mut lab, &creator, &device(2));
    assert_eq!(open(&bytes, &device(3), &lab.records).map(drop), Err(OpenGrantError::WrongRecipient));
    let other_space = Lab::new(2);
    assert_eq!(open(&bytes, &device(2), &other_space.records).map(drop), Err(OpenGrantError::WrongSpace));
    // Signed anew by who may: what is sealed is bound to recipient, space, epoch and suite all the same.
    let to_3 = altered(&creator, &bytes, |body| body.recipient = device(3).id());
    assert_eq!(open(&to_3, &device(3), &lab.records).map(drop), Err(OpenGrantError::NotAuthentic));
    // The key of device 2 under the name of device 3: HPKE itself binds the name.
    let borrowed = Identity { device: device(3).id(), ..Identity::of(&device(2)) };
    let secret = lab.epoch_secret();
    let named_3 = seal(&creator.signing_key(), &secret, &borrowed, &mut lab.rng).unwrap();
    let to_2 = altered(&creator, &named_3, |body| body.recipient = device(2).id());
    assert_eq!(open(&to_2, &device(2), &lab.records).map(drop), Err(OpenGrantError::NotAuthentic));
    let epoch = altered(&creator, &bytes, |body| body.epoch = EpochId([9; 32]));
    assert_eq!(open(&epoch, &device(2), &lab.records).map(drop), Err(OpenGrantError::NotAuthentic));
    let mut twin = Lab::new(2);
    let creator_there = twin.creator.clone();
    twin.add(&creator_there, &device(2), person(2), 2, Role::Editor);
    let moved = altered(&creator, &bytes, |body| body.space = twin.space());
    assert_eq!(open(&moved, &device(2), &twin.records).map(drop), Err(OpenGrantError::NotAuthentic));
}

#[test]
fn threat_09_another_suite_is_refused_before_anything_is_opened() {
    let mut lab = lab();
    let creator = lab.creator.clone();
    let bytes = grant_to(&mut lab, &creator, &device(2));
    for suite in [0, 2, u8::MAX] {
        let other = altered(&creator, &bytes, |body| body.suite = suite);
        assert_eq!(open(&other, &device(2), &lab.records).map(drop), Err(OpenGrantError::UnknownSuite { suite }));
    }
}

#[test]
fn threat_10_each_flipped_bit_and_truncation_of_a_grant_is_refused() {
    let mut lab = lab();
    let creator = lab.creator.clone();
    let bytes = grant_to(&mut lab, &creator, &device(2));
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&bytes, &device(2), &lab.records).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(open(&bytes[..len], &device(2), &lab.records).is_err(), "{len} bytes");
    }
    // Under a signature that fits the altered bytes, HPKE refuses: each bit of the last bytes of both parts.
    for bit in 0..64 {
        let flip = |part: &mut Vec<u8>| {
            let last = part.len() - 1 - bit / 8;
            part[last] ^= 1 << (bit % 8);
        };
        for altered in
            [altered(&creator, &bytes, |b| flip(&mut b.enc)), altered(&creator, &bytes, |b| flip(&mut b.sealed))]
        {
            let opened = open(&altered, &device(2), &lab.records).map(drop);
            // The top bit of an X25519 key is not looked at (RFC 7748): the combiner hashes it in all the same.
            assert_eq!(opened, Err(OpenGrantError::NotAuthentic), "bit {bit}");
        }
    }
}

#[test]
fn nothing_is_sealed_without_a_key() {
    let mut lab = lab();
    let (key, secret) = (lab.creator.signing_key(), lab.epoch_secret());
    let device = device(2).id();
    for keys in [vec![], vec![KemKey { suite: 2, key: vec![1] }], vec![KemKey { suite: 1, key: vec![0xff; 1216] }]] {
        let sealed = seal(&key, &secret, &Identity { device, keys }, &mut lab.rng);
        assert_eq!(sealed, Err(SealGrantError::NoKey));
    }
}

#[test]
fn each_sealing_is_another() {
    let mut lab = lab();
    let creator = lab.creator.clone();
    assert_ne!(grant_to(&mut lab, &creator, &device(2)), grant_to(&mut lab, &creator, &device(2)));
}

proptest! {
    #[test]
    fn any_bytes_are_refused(bytes: Vec<u8>) {
        let lab = Lab::new(1);
        prop_assert!(open(&bytes, &lab.creator, &lab.records).is_err());
        let signed = Envelope::seal(&lab.creator.signing_key(), Signed::Grant, lab.space(), bytes);
        prop_assert!(open(&signed, &lab.creator, &lab.records).is_err());
    }
}
