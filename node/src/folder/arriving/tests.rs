//! What is given of a file that is on its way.

use zerocloud_crdt::id::{EpochId, SpaceId};
use zerocloud_crdt::keys::{EpochSecret, Secret};

use super::*;
use crate::volume::{LinuxVolume, Volume};

#[test]
fn what_has_come_is_given_and_nothing_is_promised_before_something_came() {
    let directory = tempfile::tempdir().unwrap();
    let file = LinuxVolume::open(directory.path()).unwrap().control().unwrap().tmp.create_file(b"partial").unwrap();
    let secret = EpochSecret::new(SpaceId([1; 32]), EpochId([2; 32]), Secret::new([3; 32]));
    let keyring = Keyring::new(&secret, []);
    let keys = keyring.chunks(&secret.epoch).unwrap();
    let contents = [vec![1_u8; 10], vec![2; 20], vec![0; 5]];
    let chunks = contents.clone().map(|content| {
        let len = u32::try_from(content.len()).unwrap();
        Chunk { id: keys.id(&content), epoch: secret.epoch, len }
    });
    let places = [(0, 0), (1, 10), (2, 30)];
    let hash = ContentHash::of(&contents.concat());
    let arrivals = Arc::<Arrivals>::default();
    let found = |n: usize| arrivals.find(hash, places[n], &chunks[n], &keyring).map(|found| found.map(|_| ()));

    assert!(arrivals.is_empty() && found(0).is_none());
    let offer = arrivals.offer(FileId([7; 16]), hash, file.clone(), &[true, false, false]);
    assert_eq!(found(0), None, "it is not what it was taken for");
    file.write_at(&contents[0], 0).unwrap();
    assert_eq!(found(0), Some(Ok(())), "what was here before is given");
    assert_eq!(found(1), None, "no member has given anything yet");
    offer.note(&[2]);
    assert_eq!((found(1), found(2)), (Some(Err(Lack::NotNow)), Some(Ok(()))), "zeros at the end are not written");

    // A second one of the same content takes its place; the end of the first changes nothing.
    let second = arrivals.offer(FileId([8; 16]), hash, file.clone(), &[true, true, true]);
    drop(offer);
    assert_eq!(found(0), Some(Ok(())));
    arrivals.keep(second);
    arrivals.retain(|id, of| (id, of) == (FileId([8; 16]), hash));
    assert_eq!(found(0), Some(Ok(())), "it may not be in its place yet");
    arrivals.retain(|_, _| false);
    assert!(arrivals.is_empty() && found(0).is_none());
}
