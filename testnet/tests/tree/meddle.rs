//! People who act in the worst moment, disks that are full, links in the way.

use std::sync::{Arc, Mutex};

use zerocloud::tree::TreeError;
use zerocloud::tree::materialise::Trust;
use zerocloud::tree::scan::{Extent, Reason, scan};
use zerocloud::volume::{At, Control, FilesystemId, FreeSpace, Volume, VolumeDirectory, VolumeError, VolumeErrorKind};
use zerocloud_crdt::id::SpaceId;
use zerocloud_crdt::projection::NameRules;
use zerocloud_crdt::register::Op;
use zerocloud_testnet::sim::user::FolderUser;
use zerocloud_testnet::sim::volume::{Crash, SimPerson, SimVolume, TreeEntry};

use super::device::{Contents, Device, SPACE};

type Act = Box<dyn FnOnce(&SimPerson) + Send>;

/// A volume whose user acts just before names are exchanged or something is taken away.
struct Meddled {
    volume: SimVolume,
    /// Taken by the first exchange or park.
    act: Mutex<Option<Act>>,
}

impl Meddled {
    fn meddle(&self) {
        if let Some(act) = self.act.lock().unwrap().take() {
            act(&self.volume.person());
        }
    }
}

impl Volume for Meddled {
    fn root(&self) -> Arc<dyn VolumeDirectory> {
        self.volume.root()
    }
    fn control(&self) -> Result<Control, VolumeError> {
        self.volume.control()
    }
    fn check_root(&self) -> Result<(), VolumeError> {
        self.volume.check_root()
    }
    fn supports_exchange(&self) -> Result<bool, VolumeError> {
        self.volume.supports_exchange()
    }
    fn exchange(&self, a: At<'_>, b: At<'_>) -> Result<(), VolumeError> {
        self.meddle();
        self.volume.exchange(a, b)
    }
    fn rename_noreplace(&self, from: At<'_>, to: At<'_>) -> Result<(), VolumeError> {
        self.volume.rename_noreplace(from, to)
    }
    fn park(&self, from: At<'_>, to: At<'_>) -> Result<(), VolumeError> {
        self.meddle();
        self.volume.park(from, to)
    }
    fn sync_all(&self) -> Result<(), VolumeError> {
        self.volume.sync_all()
    }
    fn name_rules(&self) -> NameRules {
        self.volume.name_rules()
    }
    fn free_space(&self) -> Result<FreeSpace, VolumeError> {
        self.volume.free_space()
    }
    fn filesystem_id(&self) -> Result<FilesystemId, VolumeError> {
        self.volume.filesystem_id()
    }
    fn umask(&self) -> u32 {
        self.volume.umask()
    }
}

/// Two devices with one file `f`, which the first one's user then changes with `change`.
pub(crate) fn one_file(has_exchange: bool, change: impl FnOnce(&SimPerson)) -> (Device, Device, Contents, Vec<Op>) {
    let (mut first, mut second) = (Device::new(1, has_exchange), Device::new(2, has_exchange));
    first.person.write(b"f", b"old").unwrap();
    let mut log = first.scan();
    let mut contents = first.contents();
    second.hear(&log);
    second.materialise(&contents, 9).unwrap();
    change(&first.person);
    let ops = first.scan();
    contents.extend(first.contents());
    second.hear(&ops);
    log.extend(ops);
    (first, second, contents, log)
}

fn settle(first: &mut Device, second: &mut Device, mut log: Vec<Op>) -> Contents {
    let mut contents = first.contents();
    for _ in 0..5 {
        for device in [&mut *first, &mut *second] {
            log.extend(device.scan());
            contents.extend(device.contents());
            device.hear(&log);
            log.extend(device.materialise(&contents, 9).unwrap());
        }
    }
    assert_eq!(first.person.tree(), second.person.tree());
    contents
}

fn texts(device: &Device) -> Vec<Vec<u8>> {
    let tree = device.person.tree();
    tree.into_values()
        .filter_map(|entry| if let TreeEntry::File { content, .. } = entry { Some(content) } else { None })
        .collect()
}

#[test]
fn a_local_edit_in_the_moment_of_the_exchange_survives() {
    for has_exchange in [true, false] {
        for in_place in [true, false] {
            let (mut first, mut second, contents, mut log) =
                one_file(has_exchange, |user| user.write(b"f", b"theirs").unwrap());
            let act: Act = Box::new(move |user| {
                if in_place { user.write(b"f", b"mine") } else { user.save_by_rename(b"f", b"mine") }.unwrap();
            });
            let volume = second.volume.clone();
            second.door = Arc::new(Meddled { volume, act: Mutex::new(Some(act)) });
            let published = second.materialise(&contents, 9).unwrap();
            assert!(!published.is_empty(), "the displaced edit was not published");
            log.extend(published);
            settle(&mut first, &mut second, log);
            let texts = texts(&first);
            assert!(texts.contains(&b"mine".to_vec()) && texts.contains(&b"theirs".to_vec()), "{texts:?}");
        }
    }
}

#[test]
fn a_local_edit_in_the_moment_of_a_delete_survives() {
    let (mut first, mut second, contents, mut log) = one_file(true, |user| user.remove(b"f").unwrap());
    let volume = second.volume.clone();
    let act: Act = Box::new(|user| user.write(b"f", b"mine").unwrap());
    second.door = Arc::new(Meddled { volume, act: Mutex::new(Some(act)) });
    log.extend(second.materialise(&contents, 9).unwrap());
    settle(&mut first, &mut second, log);
    assert_eq!(texts(&first), [b"mine".to_vec()]);
}

#[test]
fn a_displaced_edit_is_found_after_a_crash_too() {
    let run = |n: Option<u64>| {
        let (first, mut second, contents, log) = one_file(true, |user| user.write(b"f", b"theirs").unwrap());
        let volume = second.volume.clone();
        let act: Act = Box::new(|user| user.write(b"f", b"mine").unwrap());
        second.door = Arc::new(Meddled { volume: volume.clone(), act: Mutex::new(Some(act)) });
        let before = volume.call_count();
        if let Some(n) = n {
            volume.crash_after(n);
        }
        let outcome = second.materialise(&contents, 9);
        (first, second, log, volume.call_count() - before, outcome.is_err())
    };
    let call_count = run(None).3;
    let mut published_count = 0;
    for n in 0..call_count {
        let (mut first, mut second, mut log, _, has_crashed) = run(Some(n));
        if !has_crashed {
            continue;
        }
        second.volume.restart(Crash::Killed);
        second.start();
        let recovered = second.recover(Trust::Same).unwrap();
        // What was noted by a commit is not told again: the store has it.
        let displaced: Vec<_> = second.ledger.displaced.values().cloned().collect();
        assert!(recovered.displaced.iter().all(|one| displaced.contains(one)));
        published_count += displaced.len();
        log.extend(second.publish_all());
        let is_edited = texts(&second).contains(&b"mine".to_vec()) || !second.ledger.versions.is_empty();
        assert!(is_edited || texts(&second).contains(&b"old".to_vec()));
        settle(&mut first, &mut second, log);
        assert!(texts(&first).contains(&b"theirs".to_vec()));
        if is_edited {
            assert!(texts(&first).contains(&b"mine".to_vec()), "call {n}: the edit is lost");
        }
    }
    assert!(published_count > 0);
}

#[test]
fn a_directory_that_takes_a_files_place_in_the_moment_of_the_exchange_goes_back() {
    for has_exchange in [true, false] {
        let (_, mut second, contents, _) = one_file(has_exchange, |user| user.write(b"f", b"theirs").unwrap());
        let volume = second.volume.clone();
        let act: Act = Box::new(|user| {
            user.remove(b"f").unwrap();
            user.create_directory(b"f").unwrap();
            user.write(b"f/inside", b"mine").unwrap();
        });
        second.door = Arc::new(Meddled { volume, act: Mutex::new(Some(act)) });
        second.materialise(&contents, 9).unwrap();
        assert_eq!(second.person.read(b"f/inside").unwrap(), b"mine");
        assert!(second.ledger.displaced.is_empty());
    }
}

#[test]
fn an_edit_that_no_scan_has_seen_blocks_and_loses_nothing() {
    let (mut first, mut second, contents, log) = one_file(true, |user| user.write(b"f", b"theirs").unwrap());
    second.person.write(b"f", b"mine").unwrap();
    assert!(second.materialise(&contents, 9).unwrap().is_empty());
    assert_eq!(second.person.read(b"f").unwrap(), b"mine");
    settle(&mut first, &mut second, log);
    assert_eq!(texts(&first).len(), 2, "{:?}", texts(&first));
}

#[test]
fn a_full_disk_leaves_no_half_file_and_is_tried_again() {
    let new = vec![7; 60_000];
    let (_, mut second, contents, _) = one_file(true, |user| {
        user.write(b"f", &new).unwrap();
        user.write(b"g", b"small").unwrap();
    });
    second.volume.set_capacity(2_000);
    second.materialise(&contents, 9).unwrap();
    assert_eq!(second.person.read(b"f").unwrap(), b"old");
    let whole = second.person.whole_tree();
    assert!(!whole.keys().any(|path| path.starts_with(b".zerocloud/tmp/put-")), "{whole:?}");
    second.volume.set_capacity(1 << 20);
    second.scan();
    second.materialise(&contents, 9).unwrap();
    assert_eq!(second.person.read(b"f").unwrap(), new);
    assert_eq!(second.person.read(b"g").unwrap(), b"small");
}

#[test]
fn threat_34_a_link_in_the_way_leads_nowhere() {
    let (mut first, mut second) = (Device::new(1, true), Device::new(2, true));
    first.person.create_directory(b"d").unwrap();
    first.person.write(b"d/f", b"old").unwrap();
    let log = first.scan();
    let mut contents = first.contents();
    second.hear(&log);
    second.materialise(&contents, 9).unwrap();
    first.person.write(b"d/f", b"new").unwrap();
    first.person.write(b"d/g", b"more").unwrap();
    first.person.set_mode(b"d/f", 0o755).unwrap();
    let ops = first.scan();
    contents.extend(first.contents());
    second.hear(&ops);
    // The decoy has what base has, so that only the link tells them apart.
    second.person.rename(b"d", b"decoy").unwrap();
    second.person.create_symlink(b"d", b"decoy").unwrap();
    let before = second.person.tree();
    second.materialise(&contents, 9).unwrap();
    assert_eq!(second.person.tree(), before, "something behind the link was touched");
    // A directory in place of the one that base has is no way either.
    second.person.remove(b"d").unwrap();
    second.person.create_directory(b"d").unwrap();
    second.person.write(b"d/f", b"old").unwrap();
    let before = second.person.tree();
    second.materialise(&contents, 9).unwrap();
    assert_eq!(second.person.tree(), before);
}

#[test]
fn threat_34_a_peers_link_and_a_child_through_it_stay_apart() {
    let (mut first, mut second, mut contents, mut log) = one_file(true, |user| {
        user.create_directory(b"d").unwrap();
        user.write(b"d/x", b"x").unwrap();
    });
    log.extend(second.materialise(&contents, 9).unwrap());
    // In one batch the directory becomes a link out of the space, and a file of its old child's name comes again.
    first.person.remove_all(b"d").unwrap();
    first.person.create_symlink(b"d", b"../../outside").unwrap();
    let ops = first.scan();
    log.extend(ops.clone());
    second.person.write(b"d/y", b"y").unwrap();
    log.extend(second.scan());
    second.hear(&ops);
    contents.extend(second.contents());
    log.extend(second.materialise(&contents, 9).unwrap());
    settle(&mut first, &mut second, log);
    assert!(texts(&first).contains(&b"y".to_vec()));
    let links = second.person.tree().into_values().filter(|entry| matches!(entry, TreeEntry::Symlink(_))).count();
    assert_eq!(links, 1);
}

#[test]
fn threat_39_a_fifo_is_reported_and_neither_opened_nor_replaced() {
    let (_, mut second, contents, _) = one_file(true, |user| user.write(b"pipe", b"theirs").unwrap());
    second.person.create_fifo(b"pipe").unwrap();
    assert!(second.scan().is_empty());
    let problem = second.problems.iter().find(|problem| *problem.path == [Box::from(&b"pipe"[..])]).unwrap();
    assert_eq!(problem.reason, Reason::Special);
    second.materialise(&contents, 9).unwrap();
    assert_eq!(second.person.tree().get(&b"pipe"[..]), Some(&TreeEntry::Other));
}

#[test]
fn absence_is_not_deletion() {
    let (_, second, ..) = one_file(true, |_| {});
    second.volume.set_root_gone(true);
    let outcome = scan(&second.volume, &second.ledger, SPACE, &Extent::Full);
    assert!(matches!(outcome, Err(TreeError::Volume(error)) if error.kind() == VolumeErrorKind::Gone));
    second.volume.set_root_gone(false);
    let other = scan(&second.volume, &second.ledger, SpaceId([4; 32]), &Extent::Full);
    assert!(matches!(other, Err(TreeError::Marker(_))));
    second.person.remove(b".zerocloud/marker").unwrap();
    assert!(matches!(scan(&second.volume, &second.ledger, SPACE, &Extent::Full), Err(TreeError::Marker(_))));
}
