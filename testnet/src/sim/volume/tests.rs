use zerocloud::clock::WallTime;
use zerocloud::volume::conformance::{self, Subject};

use super::*;
use crate::sim::clock::SimClock;
use crate::sim::user::FolderUser;

const CAPACITY: u64 = 1 << 30;

fn fixture() -> (SimVolume, SimPerson) {
    let volume = SimVolume::new(Arc::new(SimClock::new(WallTime(1_700_000_000_000_000_000))), CAPACITY);
    let person = volume.person();
    (volume, person)
}

fn at<'a>(directory: &'a dyn VolumeDirectory, name: &'a [u8]) -> At<'a> {
    At { directory, name }
}

fn kind<T>(outcome: Result<T, VolumeError>) -> VolumeErrorKind {
    outcome.err().expect("the call must fail").kind()
}

#[test]
fn the_simulated_volume_conforms() {
    conformance::run(&|| {
        let (volume, person) = fixture();
        Subject { volume: Arc::new(volume), person: Box::new(person) }
    });
}

/// Replaces `a` as a batch does, and returns where the first call failed.
fn replace(volume: &SimVolume) -> Result<(), VolumeError> {
    let control = volume.control()?;
    let file = control.tmp.create_file(b"t")?;
    file.write_at(b"new", 0)?;
    volume.sync_all()?;
    volume.exchange(at(&*control.tmp, b"t"), at(&*volume.root(), b"a"))?;
    volume.sync_all()?;
    volume.park(at(&*control.tmp, b"t"), at(&*control.versions, b"a-1"))
}

#[test]
fn threat_42_a_crash_at_any_call_leaves_the_old_file_or_the_new_one() {
    let total = {
        let (volume, person) = fixture();
        person.write(b"a", b"old").unwrap();
        replace(&volume).unwrap();
        volume.call_count()
    };
    let mut outcomes = BTreeSet::new();
    for crash in [Crash::Killed, Crash::PowerLoss] {
        for call in 0..total {
            let (volume, person) = fixture();
            person.write(b"a", b"old").unwrap();
            volume.sync_all().unwrap();
            volume.crash_after(call);
            assert_eq!(kind(replace(&volume)), VolumeErrorKind::Crashed);
            assert_eq!(kind(volume.root().list()), VolumeErrorKind::Crashed);
            volume.restart(crash);
            let content = person.read(b"a").unwrap();
            assert!(content == b"old" || content == b"new", "{crash:?} at {call}: {content:?}");
            // Each content that was ever the file's is somewhere.
            let everything = person.whole_tree();
            let is_old = |entry: &TreeEntry| matches!(entry, TreeEntry::File { content, .. } if content == b"old");
            assert!(everything.values().any(is_old));
            outcomes.insert((crash == Crash::PowerLoss, content));
        }
    }
    assert_eq!(outcomes.len(), 4);
}

#[test]
fn a_power_loss_takes_what_was_not_synced() {
    let (volume, person) = fixture();
    person.write(b"kept", b"1").unwrap();
    volume.sync_all().unwrap();
    person.write(b"kept", b"2").unwrap();
    person.write(b"lost", b"3").unwrap();
    let before = volume.root();
    volume.restart(Crash::PowerLoss);
    assert_eq!(person.read(b"kept").unwrap(), b"1");
    assert_eq!(person.read(b"lost").unwrap_err(), VolumeErrorKind::NotFound);
    assert_eq!(kind(before.list()), VolumeErrorKind::Crashed);
    person.write(b"kept", b"4").unwrap();
    volume.restart(Crash::Killed);
    assert_eq!(person.read(b"kept").unwrap(), b"4");
}

#[test]
fn a_synced_directory_has_names_and_a_synced_file_has_bytes() {
    let (volume, person) = fixture();
    let control = volume.control().unwrap();
    for (name, is_synced) in [(&b"synced"[..], true), (b"hollow", false)] {
        let file = control.tmp.create_file(name).unwrap();
        file.write_at(b"bytes", 0).unwrap();
        if is_synced {
            file.sync().unwrap();
        }
        volume.rename_noreplace(at(&*control.tmp, name), at(&*volume.root(), name)).unwrap();
    }
    volume.root().sync().unwrap();
    control.tmp.create_file(b"nameless").unwrap().sync().unwrap();
    volume.restart(Crash::PowerLoss);
    assert_eq!(person.read(b"synced").unwrap(), b"bytes");
    assert_eq!(person.read(b"hollow").unwrap(), [0; 5]);
    assert!(!person.whole_tree().keys().any(|path| path.ends_with(b"nameless")));
}

#[test]
fn a_full_disk_refuses_and_a_deletion_makes_room() {
    let (volume, person) = fixture();
    person.write(b"big", &[1; 900]).unwrap();
    volume.set_capacity(1000);
    let control = volume.control().unwrap();
    let file = control.tmp.create_file(b"t").unwrap();
    assert_eq!(kind(file.write_at(&[2; 200], 0)), VolumeErrorKind::NoSpace);
    assert_eq!(file.stat().unwrap().size, 0);
    assert_eq!(person.write(b"other", &[3; 101]).unwrap_err(), VolumeErrorKind::NoSpace);
    assert_eq!(person.read(b"other").unwrap_err(), VolumeErrorKind::NotFound);
    person.remove(b"big").unwrap();
    file.write_at(&[2; 200], 0).unwrap();
    assert_eq!(volume.free_space().unwrap().bytes, 800);
}

#[test]
fn what_people_do_is_told_and_what_happens_in_our_directory_is_not() {
    let (volume, person) = fixture();
    person.create_directory(b"d").unwrap();
    person.save_by_rename(b"d/f", b"1").unwrap();
    person.save_by_rename(b"d/f", b"2").unwrap();
    person.remove_all(b"d").unwrap();
    let changes = volume.take_changes();
    let told: Vec<_> = changes.iter().map(|change| (change.path.to_vec(), change.hint)).collect();
    assert_eq!(told.first(), Some(&(b"d".to_vec(), Hint::Created)));
    assert_eq!(told.iter().filter(|change| **change == (b"d/f".to_vec(), Hint::RenamedHere)).count(), 2);
    assert_eq!(told.last(), Some(&(b"d".to_vec(), Hint::Removed)));
    assert_eq!(person.tree(), Tree::new());
    let control = volume.control().unwrap();
    control.tmp.create_file(b"t").unwrap().write_at(b"1", 0).unwrap();
    assert_eq!(volume.take_changes(), []);
    volume.rename_noreplace(at(&*control.tmp, b"t"), at(&*volume.root(), b"f")).unwrap();
    let told = volume.take_changes();
    assert_eq!(told.len(), 1);
    assert_eq!((&*told[0].path, told[0].hint), (&b"f"[..], Hint::RenamedHere));
}

#[test]
fn a_root_that_went_away_is_gone_not_empty() {
    let (volume, person) = fixture();
    person.write(b"a", b"1").unwrap();
    let root = volume.root();
    volume.set_root_gone(true);
    assert_eq!(kind(volume.check_root()), VolumeErrorKind::Gone);
    assert_eq!(kind(root.list()), VolumeErrorKind::Gone);
    volume.set_root_gone(false);
    assert_eq!(root.list().unwrap().len(), 1);
}

#[test]
fn without_exchange_a_caller_is_told_so() {
    let (volume, person) = fixture();
    let volume = volume.without_exchange();
    person.write(b"a", b"1").unwrap();
    let control = volume.control().unwrap();
    control.tmp.create_file(b"t").unwrap();
    assert!(!volume.supports_exchange().unwrap());
    let outcome = volume.exchange(at(&*control.tmp, b"t"), at(&*volume.root(), b"a"));
    assert_eq!(kind(outcome), VolumeErrorKind::Unsupported);
}

#[test]
fn a_file_with_two_names_has_one_content_until_one_is_replaced() {
    let (volume, person) = fixture();
    person.write(b"a", b"1").unwrap();
    person.link(b"a", b"b").unwrap();
    person.write(b"b", b"22").unwrap();
    assert_eq!(person.read(b"a").unwrap(), b"22");
    assert_eq!(volume.root().stat(b"a").unwrap().link_count, 2);
    assert_eq!(volume.free_space().unwrap().bytes, CAPACITY - 2, "its bytes are there once");
    person.rename(b"a", b"b").unwrap();
    assert!(person.read(b"a").is_ok(), "a rename to another name of the same file does nothing");
    person.save_by_rename(b"a", b"3").unwrap();
    assert_eq!((person.read(b"a").unwrap(), person.read(b"b").unwrap()), (b"3".to_vec(), b"22".to_vec()));
    person.remove(b"b").unwrap();
    assert_eq!(volume.free_space().unwrap().bytes, CAPACITY - 1);
}

#[test]
fn where_names_fold_two_spellings_lead_to_one_thing_and_the_first_is_listed() {
    let (volume, person) = fixture();
    let volume = volume.folding_names();
    person.write(b"Name", b"1").unwrap();
    person.write(b"nAME", b"2").unwrap();
    assert_eq!(person.tree().into_keys().collect::<Vec<_>>(), [b"Name".to_vec().into_boxed_slice()]);
    assert_eq!(person.create_directory(b"name"), Err(VolumeErrorKind::Exists));
    let outcome = volume.rename_noreplace(at(&*volume.root(), b"Name"), at(&*volume.root(), b"name"));
    assert_eq!(kind(outcome), VolumeErrorKind::Exists);
    person.rename(b"NAME", b"name").unwrap();
    assert_eq!(person.tree().into_keys().collect::<Vec<_>>(), [b"name".to_vec().into_boxed_slice()]);
    assert_eq!(person.read(b"NAME").unwrap(), b"2");
    person.write("caf\u{e9}".as_bytes(), b"3").unwrap();
    assert_eq!(person.read("cafe\u{301}".as_bytes()).unwrap(), b"3");
}

#[test]
fn what_was_mounted_is_gone_and_what_is_opened_then_is_empty() {
    let (volume, person) = fixture();
    person.write(b"a", b"1").unwrap();
    let before = volume.opened();
    volume.set_mounted(false);
    assert_eq!(kind(before.root().list()), VolumeErrorKind::Gone);
    let between = volume.opened();
    assert_eq!(between.root().list().unwrap(), []);
    assert!(!between.filesystem_id().unwrap().is_same(&FilesystemId { uuid: None, fsid: 42 }));
    volume.set_mounted(true);
    assert_eq!(kind(between.check_root()), VolumeErrorKind::Gone);
    assert_eq!(kind(before.check_root()), VolumeErrorKind::Gone, "it was mounted anew");
    assert_eq!(volume.opened().root().list().unwrap().len(), 1);
}

#[test]
fn what_cant_be_read_can_be_again() {
    let (volume, person) = fixture();
    person.create_directory(b"d").unwrap();
    person.write(b"d/a", b"1").unwrap();
    let directory = volume.root().open_directory(b"d").unwrap();
    let file = directory.open_file(b"a").unwrap();
    person.set_unreadable(b"d").unwrap();
    person.set_unreadable(b"d/a").unwrap();
    assert!(directory.list().is_err() && directory.open_file(b"a").is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(directory.stat(b"a").is_ok(), "what it is can be seen");
    volume.clear_unreadable();
    assert!(directory.list().is_ok() && file.read_at(&mut [0], 0).is_ok());
}

#[test]
fn where_no_bits_are_kept_every_file_shows_the_same() {
    let (volume, person) = fixture();
    let volume = volume.with_fixed_mode(0o644);
    person.write(b"a", b"1").unwrap();
    person.set_mode(b"a", 0o755).unwrap();
    let file = volume.root().open_file(b"a").unwrap();
    file.set_executable(true).unwrap();
    assert_eq!(file.stat().unwrap().mode, 0o644);
    assert_eq!(person.tree().get(&b"a"[..]), Some(&TreeEntry::File { content: b"1".to_vec(), executable: false }));
}

#[test]
fn a_person_acts_between_two_calls_once() {
    let (volume, person) = fixture();
    let root = volume.root();
    let other = person.clone();
    volume.interrupt_after(1, Before::Any, move |_| other.write(b"a", b"1").unwrap());
    assert_eq!(root.list().unwrap(), []);
    assert_eq!(root.list().unwrap().len(), 1);
    person.remove(b"a").unwrap();
    assert_eq!(root.list().unwrap(), []);
}
