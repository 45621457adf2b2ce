//! A device that exists twice: its disk was copied.

use std::collections::BTreeMap;
use std::path::Path;

use serde_bytes::ByteBuf;
use zerocloud::store::SpaceStore;
use zerocloud_crdt::id::SpaceId;
use zerocloud_crdt::log::{Entry, EntryPoint, Frontier};

use super::harness::{Device, Lab, Place};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

fn copy(from: &Path, to: &Path) {
    // As they are, with times; sockets of a node that has ended are left out by nobody, and mean nothing.
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Every entry of the one space of a home, and the nonce under which its payload is sealed.
fn nonces(home: &Path) -> BTreeMap<EntryPoint, Vec<u8>> {
    let path = std::fs::read_dir(home.join("spaces")).unwrap().next().unwrap().unwrap().path();
    let id = SpaceId::from_hex(path.file_stem().unwrap().to_str().unwrap()).unwrap();
    let store = SpaceStore::open(&path, id).unwrap();
    let snapshot = store.snapshot().unwrap();
    let mut lacking = snapshot.lacked_by(&Frontier::default()).unwrap();
    let mut all = BTreeMap::new();
    while let Some(point) = lacking.next_point().unwrap() {
        // format, header, payload, signature; a payload begins with the suite's number and the nonce.
        let entry = Entry::decode_stored(id, snapshot.entry_bytes(point).unwrap().unwrap()).unwrap();
        let (_, rest): (ByteBuf, _) = postcard::take_from_bytes(&entry.as_bytes()[1..]).unwrap();
        let (payload, _): (ByteBuf, _) = postcard::take_from_bytes(rest).unwrap();
        all.insert(point, payload[1..25].to_vec());
    }
    all
}

#[test]
fn threat_28_a_cloned_device_seals_nothing_under_a_nonce_of_its_original() {
    let lab = Lab::new(PROGRAM);
    let mut original = lab.device("laptop");
    original.write("file", "before");
    original.add_space();
    original.run(&["sync", "--wait", "--timeout", "60s"]);
    original.stop();
    let home = |name: &str| lab.path().join(format!("{name}.home"));
    let (folder, saved) = (original.folder().to_path_buf(), lab.path().join("saved"));
    copy(&home("laptop"), &home("clone"));
    copy(&folder, &saved);
    let shared = nonces(&home("laptop"));

    // Both do the same from here on, each on what it knows as its folder.
    let edit = |device: &Device| {
        for round in 0..5 {
            std::fs::write(folder.join("file"), format!("edit {round}")).unwrap();
            device.run(&["sync", "--wait", "--timeout", "60s"]);
        }
    };
    original.start();
    edit(&original);
    original.stop();
    std::fs::rename(&folder, lab.path().join("after")).unwrap();
    std::fs::rename(&saved, &folder).unwrap();
    let mut clone = lab.device_in(Place::default(), "clone");
    edit(&clone);
    clone.stop();

    let own = |name: &str| {
        let mut all = nonces(&home(name));
        assert!(shared.iter().all(|(point, nonce)| all.remove(point).as_ref() == Some(nonce)));
        all
    };
    let (by_original, by_clone) = (own("laptop"), own("clone"));
    assert!(by_original.len() >= 5 && by_clone.len() >= 5, "{} {}", by_original.len(), by_clone.len());
    assert!(by_original.keys().all(|point| !by_clone.contains_key(point)), "both wrote one log");
    let mut seen: Vec<&Vec<u8>> = shared.values().chain(by_original.values()).chain(by_clone.values()).collect();
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count, "a nonce was used twice");
}
