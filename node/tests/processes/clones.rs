//! Homes and folders that were copied, put back from a backup, rolled back or lost. What a user sees in each case stands
//! in docs/homes.md.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_bytes::ByteBuf;
use zerocloud::home::Home;
use zerocloud::store::{SpaceStore, StoreError, values};
use zerocloud_crdt::id::SpaceId;
use zerocloud_crdt::log::{Entry, EntryPoint, Frontier};

use super::harness::{Device, Lab, Place, agree, conflict_copies, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

fn copy(from: &Path, to: &Path) {
    // As they are, with times; sockets of a node that has ended are left out by nobody, and mean nothing.
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Where the store of the one space of a home lies.
fn store_path(home: &Path) -> PathBuf {
    std::fs::read_dir(home.join("spaces")).unwrap().next().unwrap().unwrap().path()
}

fn open_store(home: &Path) -> (SpaceId, SpaceStore) {
    let path = store_path(home);
    let id = SpaceId::from_hex(path.file_stem().unwrap().to_str().unwrap()).unwrap();
    (id, SpaceStore::open(&path, id).unwrap())
}

/// Every entry of the one space of a home, and the nonce under which its payload is sealed.
fn nonces(home: &Path) -> BTreeMap<EntryPoint, Vec<u8>> {
    let (id, store) = open_store(home);
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

/// Puts the contents of a directory back as they were, in the directory that is there: what an image of a whole disk
/// does, after which nothing but what is in it tells of it.
fn put_back(saved: &Path, to: &Path) {
    for entry in std::fs::read_dir(to).unwrap() {
        let path = entry.unwrap().path();
        let is_directory = path.symlink_metadata().unwrap().is_dir();
        if is_directory { std::fs::remove_dir_all(&path).unwrap() } else { std::fs::remove_file(&path).unwrap() }
    }
    for entry in std::fs::read_dir(saved).unwrap() {
        copy(&entry.unwrap().path(), to);
    }
}

fn warnings(device: &Device) -> String {
    device.ask(&["status"])["warnings"].to_string()
}

/// A laptop with some files, a desk that has them too, and the laptop's home.
fn with_files(lab: &Lab) -> (Device, Device, PathBuf) {
    let (a, b) = lab.pair();
    for n in 0..6 {
        a.write(&format!("album/photo {n}"), format!("photo {n}"));
    }
    for name in ["edited", "deleted", "moved", "there", "both"] {
        a.write(name, format!("first {name}"));
    }
    agree(&[&a, &b]);
    (a, b, lab.path().join("laptop.home"))
}

/// What both do between the backup and the day on which it is put back.
fn go_on(a: &Device, b: &Device) {
    a.write("edited", "second edited");
    agree(&[a, b]);
    a.write("edited", "third edited");
    b.write("there", "second there");
    std::fs::remove_file(a.at("deleted")).unwrap();
    std::fs::remove_file(b.at("album/photo 1")).unwrap();
    std::fs::remove_file(a.at("album/photo 2")).unwrap();
    std::fs::rename(a.at("moved"), a.at("album/moved")).unwrap();
    a.write("new", "new");
    agree(&[a, b]);
}

/// What must be there after [`go_on`] on every device, whatever was put back.
fn assert_gone_on(devices: &[&Device]) {
    for device in devices {
        assert_eq!(device.read("edited"), "third edited", "{}", device.name());
        assert_eq!(device.read("there"), "second there", "{}", device.name());
        assert_eq!(device.read("album/moved"), "first moved", "{}", device.name());
        assert_eq!(device.read("new"), "new", "{}", device.name());
        for gone in ["deleted", "moved", "album/photo 1", "album/photo 2"] {
            assert!(!device.at(gone).exists(), "{gone} came back on {}", device.name());
        }
        assert_eq!(conflict_copies(device), Vec::<String>::new(), "{}", device.name());
    }
}

#[test]
fn threat_21_a_home_from_a_backup_learns_what_became_of_its_folder_and_brings_nothing_back() {
    let lab = Lab::new(PROGRAM);
    let (mut a, b, home) = with_files(&lab);
    a.stop();
    let saved = lab.path().join("saved");
    copy(&home, &saved);
    a.start();
    go_on(&a, &b);
    a.stop();
    b.write("there", "third there");
    b.run(&["sync", "--wait", "--timeout", "60s"]);

    put_back(&saved, &home);
    a.write("mine", "made while the home was away");
    a.start();
    agree(&[&a, &b]);
    assert!(warnings(&a).contains("older than this folder"), "{}", warnings(&a));
    b.write("there", "second there");
    agree(&[&a, &b]);
    assert_gone_on(&[&a, &b]);
    assert_eq!(b.read("mine"), "made while the home was away");

    // It goes on as it should, in both directions and over another start.
    a.write("after", "by the laptop");
    agree(&[&a, &b]);
    a.stop();
    a.start();
    b.write("after", "by the desk");
    agree(&[&a, &b]);
    assert_eq!((a.read("after"), warnings(&a).contains("older than")), ("by the desk".to_owned(), false));
    assert_gone_on(&[&a, &b]);
}

#[test]
fn threat_21_a_home_from_a_backup_waits_for_a_member_or_for_the_users_word() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b, home) = with_files(&lab);
    a.stop();
    let saved = lab.path().join("saved");
    copy(&home, &saved);
    a.start();
    a.write("edited", "second edited");
    agree(&[&a, &b]);
    a.stop();
    b.stop();

    put_back(&saved, &home);
    a.write("mine", "mine");
    a.start();
    until("it says that it waits", || warnings(&a).contains("waits for another member"));
    let names = a.ask(&["ls", "Photos"]).to_string();
    assert!(!names.contains("mine"), "nothing is scanned: {names}");
    a.run(&["space", "resume", "Photos"]);
    until("it goes on", || a.ask(&["ls", "Photos"]).to_string().contains("mine"));
    b.start();
    agree(&[&a, &b]);
    assert_eq!((b.read("mine"), b.read("edited")), ("mine".to_owned(), "second edited".to_owned()));
    assert_eq!(conflict_copies(&b), Vec::<String>::new(), "the same bytes are one value");
}

#[test]
fn threat_21_a_machine_that_was_put_back_takes_its_own_changes_back_from_a_member() {
    let lab = Lab::new(PROGRAM);
    let (mut a, b, home) = with_files(&lab);
    a.stop();
    let (saved, saved_folder) = (lab.path().join("saved"), lab.path().join("saved folder"));
    copy(&home, &saved);
    copy(a.folder(), &saved_folder);
    a.start();
    go_on(&a, &b);
    a.stop();

    put_back(&saved, &home);
    put_back(&saved_folder, a.folder());
    a.start();
    agree(&[&a, &b]);
    assert!(warnings(&a).contains("put back to an older state"), "{}", warnings(&a));
    assert_gone_on(&[&a, &b]);
    a.write("after", "by the laptop");
    b.write("before", "by the desk");
    agree(&[&a, &b]);
    assert_eq!((b.read("after"), a.read("before")), ("by the laptop".to_owned(), "by the desk".to_owned()));
}

/// How a clone looks to itself.
#[derive(PartialEq, Eq)]
enum Looks {
    /// As a copy: its home lies elsewhere.
    Copied,
    /// As its original: the whole machine was copied, with all that tells it.
    Alike,
}

/// A laptop and a clone of it, which run side by side and were both edited, and a desk that is off.
fn with_clone(lab: &Lab, looks: &Looks) -> [Device; 3] {
    let (mut a, mut b, home) = with_files(lab);
    a.stop();
    b.stop();
    let clone_home = lab.path().join("clone.home");
    copy(&home, &clone_home);
    copy(a.folder(), &lab.path().join("clone"));
    // On a machine of its own it would lie at the same path.
    let folder = lab.path().join("clone").into_os_string().into_encoded_bytes();
    let (_, store) = open_store(&clone_home);
    store.write::<_, StoreError>(|write| write.set(values::FOLDER, &folder)).unwrap();
    if *looks == Looks::Alike {
        let fingerprint = Home::open(&clone_home).unwrap().fingerprint().unwrap();
        store.write::<_, StoreError>(|write| write.set(values::HOME, &fingerprint)).unwrap();
    }
    drop(store);

    a.start();
    let clone = lab.device_in(Place::default(), "clone");
    a.write("by the original", "original");
    clone.write("by the clone", "clone");
    a.write("both", "edited by the original");
    clone.write("both", "edited by the clone");
    std::fs::remove_file(a.at("deleted")).unwrap();
    publish(&a, "by the original");
    publish(&clone, "by the clone");
    [a, b, clone]
}

/// Lets both clones, which have run side by side, be with the desk in turns, the original first: they have one name in
/// the network, so that a peer is connected with one of them at a time. Before and after it the clone is off. In the end
/// all have what any has.
fn in_turns([a, b, clone]: &mut [Device; 3]) {
    b.start();
    agree(&[a, b]);
    a.stop();
    clone.listen_as(a);
    clone.start();
    agree(&[clone, b]);
    clone.stop();
    a.start();
    agree(&[a, b]);
    a.tree().assert_same("original", &clone.tree(), "clone");
}

/// Asserts that what either clone did is there, with one conflict copy.
fn assert_both_count([_, b, _]: &[Device; 3]) {
    assert_eq!((b.read("by the original"), b.read("by the clone")), ("original".to_owned(), "clone".to_owned()));
    assert!(!b.at("deleted").exists());
    let copies = conflict_copies(b);
    assert_eq!(copies.len(), 1, "{copies:?}");
    let mut contents = [b.read("both"), b.read(&copies[0])];
    contents.sort();
    assert_eq!(contents, ["edited by the clone", "edited by the original"]);
}

/// Waits until a device that runs beside others has published what was done to its folder.
fn publish(device: &Device, name: &str) {
    until("it is published", || device.ask(&["ls", "Photos"]).to_string().contains(name));
}

#[test]
fn threat_21_a_cloned_home_runs_beside_its_original_and_both_keep_all() {
    let lab = Lab::new(PROGRAM);
    let mut devices = with_clone(&lab, &Looks::Copied);
    assert!(warnings(&devices[2]).contains("copied, moved or restored"), "{}", warnings(&devices[2]));
    devices[2].stop();
    in_turns(&mut devices);
    assert_both_count(&devices);
    for device in &devices[..2] {
        assert!(!warnings(device).contains("Photos: "), "each writes a log of its own: {}", warnings(device));
    }
}

#[test]
fn threat_21_a_clone_that_looks_like_its_original_forks_their_log_and_both_histories_count() {
    let lab = Lab::new(PROGRAM);
    let mut devices = with_clone(&lab, &Looks::Alike);
    devices[2].stop();
    in_turns(&mut devices);
    assert_both_count(&devices);
    for device in &devices[..2] {
        assert!(warnings(device).contains("has written two histories"), "{}", warnings(device));
    }
    // From there on each writes a log of its own. In the network the clone has the original's place, which is off then.
    devices[1].stop();
    devices[0].stop();
    devices[2].start();
    devices[2].write("after too", "by the clone");
    publish(&devices[2], "after too");
    devices[2].stop();
    devices[0].start();
    devices[0].write("after", "by the original");
    publish(&devices[0], "after");
    in_turns(&mut devices);
    assert_both_count(&devices);
    assert_eq!(
        (devices[1].read("after"), devices[1].read("after too")),
        ("by the original".into(), "by the clone".into())
    );
}

#[test]
fn threat_21_a_machine_that_was_put_back_and_edited_before_it_met_anyone_keeps_both_histories() {
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b, home) = with_files(&lab);
    a.stop();
    let (saved, saved_folder) = (lab.path().join("saved"), lab.path().join("saved folder"));
    copy(&home, &saved);
    copy(a.folder(), &saved_folder);
    a.start();
    go_on(&a, &b);
    a.stop();
    b.stop();

    put_back(&saved, &home);
    put_back(&saved_folder, a.folder());
    a.start();
    a.write("edited", "edited alone");
    a.write("alone", "made alone");
    a.run(&["sync", "--wait", "--timeout", "60s"]);
    a.write("alone", "made alone, and edited");
    a.run(&["sync", "--wait", "--timeout", "60s"]);
    b.start();
    agree(&[&a, &b]);
    let copies = conflict_copies(&b);
    assert_eq!(copies.len(), 1, "{copies:?}");
    let mut contents = [b.read("edited"), b.read(&copies[0])];
    contents.sort();
    assert_eq!(contents, ["edited alone", "third edited"]);
    for device in [&a, &b] {
        assert!(warnings(device).contains("has written two histories"), "{}", warnings(device));
    }
    std::fs::remove_file(a.at(&copies[0])).unwrap();
    a.write("edited", "third edited");
    agree(&[&a, &b]);
    assert_gone_on(&[&a, &b]);
    assert_eq!(b.read("alone"), "made alone, and edited");
}

#[test]
fn threat_21_a_lost_store_is_told_of_and_comes_back_by_joining_again_into_the_same_folder() {
    let lab = Lab::new(PROGRAM);
    let (mut a, b, home) = with_files(&lab);
    go_on(&a, &b);
    a.stop();
    std::fs::remove_file(store_path(&home)).unwrap();
    std::fs::remove_file(b.at("album/photo 3")).unwrap();
    b.run(&["sync", "--wait", "--timeout", "60s"]);
    a.write("mine", "made while the store was lost");
    a.start();
    assert!(warnings(&a).contains("join the space again"), "{}", warnings(&a));
    a.join(&b.invite(&["--me"]));
    agree(&[&a, &b]);
    assert!(!warnings(&a).contains("join the space again"), "{}", warnings(&a));
    assert_gone_on(&[&a, &b]);
    assert!(!a.at("album/photo 3").exists() && b.read("mine") == "made while the store was lost");
}

#[test]
fn threat_21_an_old_copy_put_back_over_the_folder_is_what_the_user_wants_now() {
    let lab = Lab::new(PROGRAM);
    let (mut a, b, _) = with_files(&lab);
    a.stop();
    let saved = lab.path().join("saved");
    copy(a.folder(), &saved);
    a.start();
    go_on(&a, &b);
    a.stop();

    // The whole folder as it was, with its marker, while no node runs.
    put_back(&saved, a.folder());
    a.start();
    agree(&[&a, &b]);
    assert!(warnings(&a).contains("put back from an older copy"), "{}", warnings(&a));
    for device in [&a, &b] {
        assert_eq!((device.read("edited"), device.read("there")), ("first edited".into(), "first there".into()));
        assert_eq!((device.read("deleted"), device.read("moved")), ("first deleted".into(), "first moved".into()));
        assert!(!device.at("new").exists() && !device.at("album/moved").exists());
        assert_eq!(conflict_copies(device), Vec::<String>::new());
    }
    // What it replaced is a version away, on whoever had it.
    b.run(&["restore", "Photos/edited"]);
    agree(&[&a, &b]);
    assert_eq!(a.read("edited"), "third edited");

    // Some files alone, while it runs: edits like others, and nothing else changes.
    for name in ["edited", "both"] {
        std::fs::copy(saved.join(name), a.at(name)).unwrap();
    }
    agree(&[&a, &b]);
    assert_eq!((b.read("edited"), b.read("both")), ("first edited".into(), "first both".into()));
    assert_eq!(conflict_copies(&b), Vec::<String>::new());
}
