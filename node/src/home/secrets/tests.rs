use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::super::Home;
use super::*;

fn secret() -> impl Strategy<Value = Secret> {
    any::<[u8; 32]>().prop_map(Secret::new)
}

fn secrets() -> impl Strategy<Value = Secrets> {
    let recovery = prop_oneof![
        secret().prop_map(Recovery::Seed),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(Recovery::PublicRow),
    ];
    let epochs = proptest::collection::btree_map(any::<[u8; 32]>().prop_map(EpochId), secret(), 0..5);
    let spaces = proptest::collection::btree_map(any::<[u8; 32]>().prop_map(SpaceId), epochs, 0..5);
    (secret(), recovery, spaces).prop_map(|(device, recovery, spaces)| Secrets { device, recovery, spaces })
}

fn decode(bytes: &[u8]) -> Result<Secrets, SecretsError> {
    Secrets::decode(bytes, Path::new("secrets"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn secrets_are_read_back(secrets in secrets()) {
        let bytes = secrets.encode().unwrap();
        prop_assert!(bytes.len() <= secrets.encoded_len_max());
        prop_assert_eq!(decode(&bytes).unwrap(), secrets);
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_refused(secrets in secrets(), at in any::<prop::sample::Index>()) {
        let bytes = secrets.encode().unwrap();
        let index = at.index(bytes.len());
        prop_assert!(decode(&bytes[..index]).is_err());
        for bit in 0..8 {
            let mut flipped = bytes.to_vec();
            flipped[index] ^= 1 << bit;
            prop_assert!(decode(&flipped).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_secrets(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn a_body_too_short_is_refused_behind_a_right_checksum(body in proptest::collection::vec(any::<u8>(), 0..35)) {
        let mut bytes = vec![FORMAT];
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&checksum(&bytes));
        prop_assert!(decode(&bytes).is_err(), "a seed, an empty row and no spaces take 35 bytes");
    }
}

#[test]
fn the_file_is_for_its_owner_alone_and_replaced_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open_or_create(dir.path()).unwrap();
    assert_eq!(home.load_secrets().unwrap(), None);

    let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::from_seed([7; 32]);
    let mut secrets = Secrets::draw(&mut rng);
    home.save_secrets(&secrets).unwrap();
    let path = dir.path().join("secrets");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(home.load_secrets().unwrap().as_ref(), Some(&secrets));

    std::fs::write(dir.path().join("secrets.new"), b"left by a crash").unwrap();
    let (space, epoch) = (SpaceId([1; 32]), EpochId([2; 32]));
    secrets.insert_epoch(space, epoch, Secret::new([3; 32]));
    assert_eq!(secrets.recovery_words().unwrap().split(' ').count(), 24);
    secrets.confirm_recovery(b"row".to_vec());
    assert_eq!(secrets.recovery_words(), None);
    home.save_secrets(&secrets).unwrap();
    let read = home.load_secrets().unwrap().unwrap();
    assert_eq!(read.epoch(space, epoch), Some(&Secret::new([3; 32])));
    assert_eq!(read.epochs(space).count(), 1);
    assert_eq!(read.recovery(), &Recovery::PublicRow(b"row".to_vec()));
    assert_eq!(read.device_keys().id(), secrets.device_keys().id());
    assert!(!dir.path().join("secrets.new").exists());

    secrets.forget_space(space);
    assert_eq!(secrets.epoch(space, epoch), None);
}

#[test]
fn damage_loss_and_exposure_are_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::open_or_create(dir.path()).unwrap();
    let path = dir.path().join("secrets");
    let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::from_seed([7; 32]);
    home.save_secrets(&Secrets::draw(&mut rng)).unwrap();
    let whole = std::fs::read(&path).unwrap();

    std::fs::write(&path, &whole[..40]).unwrap();
    let error = home.load_secrets().unwrap_err();
    assert!(matches!(error, SecretsError::Damaged { .. }) && error.to_string().contains("from a backup"), "{error}");

    std::fs::write(&path, [&[9][..], &whole[1..]].concat()).unwrap();
    let error = home.load_secrets().unwrap_err();
    assert!(error.to_string().contains("update ZeroCloud"), "{error}");

    std::fs::write(&path, &whole).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    let error = home.load_secrets().unwrap_err();
    assert!(error.to_string().contains("mode 640") && error.to_string().contains("chmod 600"), "{error}");

    std::fs::remove_file(&path).unwrap();
    home.make_space_stores().unwrap();
    std::fs::write(home.store_path(SpaceId([1; 32])), b"store").unwrap();
    let error = home.load_secrets().unwrap_err();
    assert!(matches!(error, SecretsError::Lost { .. }), "a new device must not begin over an old store: {error}");
}

#[test]
fn threat_58_secrets_are_not_shown_by_debug() {
    let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::from_seed([7; 32]);
    let shown = format!("{:?}", Secrets::draw(&mut rng));
    assert_eq!(shown, "Secrets { device: Secret(..), recovery: Seed(Secret(..)), spaces: {} }");
}
