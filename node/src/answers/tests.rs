//! Answers about small spaces on redb that are made by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zerocloud_crdt::base::{BaseRow, Fingerprint, RowKey};
use zerocloud_crdt::id::{ActorId, ChunkId, ContentHash, DeviceId, FileId, LogId, OpId};
use zerocloud_crdt::index::IndexRead;
use zerocloud_crdt::manifest::{Body, ChunkRef, Class, Manifest, Profile};
use zerocloud_crdt::register::{Content, FileContent, FileTime, Op, Place, Write};
use zerocloud_crdt::scan::ScanOutcome;
use zerocloud_crdt::view::{View, file_id};

use super::conflicts::{conflict_count, conflicts};
use super::held::held;
use super::history::{history, versions_of};
use super::list::list;
use super::members::{device_names, members};
use super::paths::{Spot, find, path_of, path_of_row};
use super::*;
use crate::api::types::{Change, Listing, Role, VersionList};
use crate::clock::WallTime;
use crate::engine::found::Found;
use crate::engine::founding::{Founding, founding};
use crate::engine::replica::{Action, Replica};
use crate::store::{HeldRow, PeerRow, SpaceStore};

/// One device's space.
struct Device {
    replica: Replica<Arc<SpaceStore>>,
    store: Arc<SpaceStore>,
    id: DeviceId,
    log: LogId,
}

/// A space with some devices.
struct Lab {
    founding: Founding,
    devices: Vec<Device>,
}

impl Lab {
    fn new(count: u8) -> Self {
        let mut founding = founding(count, 77);
        let devices = (0..usize::from(count)).map(|n| {
            let store = SpaceStore::with_backend(redb::backends::InMemoryBackend::new(), founding.space).unwrap();
            let (store, identity) = (Arc::new(store), founding.identity(n));
            let (id, log) = (identity.keys.id(), identity.log);
            let records = founding.records.clone();
            let replica = Replica::open(store.clone(), records, identity, &mut founding.rng).unwrap();
            Device { replica, store, id, log }
        });
        let devices = devices.collect();
        Self { founding, devices }
    }

    fn snapshot(&self, at: usize) -> Snapshot {
        self.devices[at].store.snapshot().unwrap()
    }

    /// Writes operations as one entry of a device; returns their ids.
    fn write(&mut self, at: usize, ops: impl IntoIterator<Item = (FileId, Write, Vec<OpId>)>) -> Vec<OpId> {
        let snapshot = self.snapshot(at);
        let (counter, device) = (snapshot.max_counter().unwrap(), &mut self.devices[at]);
        let actor = ActorId::of_log(self.founding.space, device.log);
        let ops: Vec<Op> = (counter + 1..)
            .zip(ops)
            .map(|(counter, (item, write, pred))| Op { id: OpId { counter, actor }, item, write, pred })
            .collect();
        let ids = ops.iter().map(|op| op.id).collect();
        let found = Found::Decided(ScanOutcome { ops, ..ScanOutcome::default() });
        device.replica.append(vec![found.into()], &mut self.founding.rng).unwrap();
        ids
    }

    /// Makes an item; returns it with its content operation.
    fn make(&mut self, at: usize, parent: FileId, name: &[u8], content: Content) -> (FileId, OpId) {
        let is_directory = content == Content::Directory;
        let item = file_id(self.founding.space, parent, is_directory, 0, name);
        let place = Place { parent, name: Name::parse(name).unwrap(), previous: None, loser_of: None };
        let live = self.snapshot(at).item(item).unwrap().unwrap_or_default().place.into_keys().collect();
        let ops = [(item, Write::Place(place), live), (item, Write::Content(Some(content)), Vec::new())];
        (item, self.write(at, ops)[1])
    }

    fn edit(&mut self, at: usize, item: FileId, content: Option<Content>, pred: OpId) -> OpId {
        self.write(at, [(item, Write::Content(content), vec![pred])])[0]
    }

    fn file(&self, byte: u8, secs: i64) -> Content {
        let epoch = self.founding.secret.epoch;
        let body = Body::Inline(vec![ChunkRef { id: ChunkId([byte; 32]), epoch_index: 0, len: 10 }]);
        let profile = Profile { chunker: 1, class: Class::Single, epoch };
        Content::File(FileContent {
            mtime: FileTime { secs, nanos: 5_999_999 },
            executable: false,
            hash: ContentHash([byte; 32]),
            manifest: Manifest { profile, len: 10, epochs: vec![epoch], body },
        })
    }

    /// Carries messages until nobody has anything to say.
    fn sync(&mut self) {
        let ids: Vec<DeviceId> = self.devices.iter().map(|device| device.id).collect();
        for (at, device) in self.devices.iter_mut().enumerate() {
            for (other, id) in ids.iter().enumerate() {
                if at != other {
                    device.replica.connect(*id).unwrap();
                }
            }
        }
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            for from in 0..ids.len() {
                while let Some(action) = self.devices[from].replica.poll_action() {
                    if let Action::Send { peer, message } = action {
                        let to = ids.iter().position(|id| *id == peer).unwrap();
                        self.devices[from].replica.handle_sent(peer, message.entries_len()).unwrap();
                        self.devices[to].replica.handle_message(ids[from], message).unwrap();
                        is_quiet = false;
                    }
                }
            }
        }
        for (at, device) in self.devices.iter_mut().enumerate() {
            ids.iter().enumerate().filter(|(other, _)| *other != at).for_each(|(_, id)| device.replica.disconnect(*id));
        }
    }

    /// Notes in base that a device's disk shows an item as the view has it.
    fn show(&mut self, at: usize, item: FileId) {
        let snapshot = self.snapshot(at);
        let time = FileTime { secs: 0, nanos: 0 };
        let print = Fingerprint { inode: 7, birth: None, len: 10, mtime: time, ctime: time, mode: 0o644 };
        let rows = View::new(&snapshot).entries(item).unwrap().into_iter().map(|entry| {
            let key = RowKey { parent: entry.parent, local: entry.name.clone() };
            (key, Some(BaseRow::of_entry(&entry, print)))
        });
        let rows = rows.collect();
        self.devices[at].store.write(|write| write.apply_base(&rows)).unwrap();
    }

    fn history(&self, at: usize, path: &[&[u8]]) -> VersionList {
        let snapshot = self.snapshot(at);
        let spot = find(&snapshot, &raw(path)).unwrap();
        history(&snapshot, &self.founding.identity(at).secrets, &spot, self.devices[at].id).unwrap()
    }
}

fn raw(path: &[&[u8]]) -> Vec<Vec<u8>> {
    path.iter().map(|name| name.to_vec()).collect()
}

fn listed(listing: &Listing) -> Vec<&[u8]> {
    listing.entries.iter().map(|entry| entry.name.as_bytes()).collect()
}

fn kind_of<T: std::fmt::Debug>(answer: Result<T, ApiError>) -> ErrorKind {
    answer.unwrap_err().kind
}

#[test]
fn a_directory_lists_what_it_holds_and_a_file_itself() {
    let mut lab = Lab::new(1);
    let (photos, _) = lab.make(0, FileId::ROOT, b"photos", Content::Directory);
    let (here, _) = lab.make(0, photos, b"b.jpg", lab.file(1, 100));
    lab.make(0, photos, b"a.jpg", lab.file(2, -1));
    lab.make(0, photos, b"link", Content::Symlink { target: b"b.jpg".to_vec() });
    lab.show(0, here);
    let snapshot = lab.snapshot(0);
    let root = list(&snapshot, &[]).unwrap();
    assert_eq!((listed(&root), root.entries[0].kind), (vec![&b"photos"[..]], ItemKind::Directory));
    let listing = list(&snapshot, &raw(&[b"photos"])).unwrap();
    assert_eq!(listed(&listing), [&b"a.jpg"[..], b"b.jpg", b"link"]);
    let is_here: Vec<_> = listing.entries.iter().map(|entry| entry.is_here).collect();
    assert_eq!(is_here, [false, true, false]);
    assert_eq!(listing.entries[0].modified_ms, Some(-995), "rounded down");
    assert_eq!((listing.entries[2].kind, listing.entries[2].size), (ItemKind::Link, 5));
    let file = list(&snapshot, &raw(&[b"photos", b"b.jpg"])).unwrap();
    assert_eq!(file.entries, [listing.entries[1].clone()]);
}

#[test]
fn a_file_that_changed_elsewhere_is_not_here_until_its_bytes_are() {
    let mut lab = Lab::new(1);
    let (item, op) = lab.make(0, FileId::ROOT, b"a", lab.file(1, 1));
    lab.show(0, item);
    assert!(list(&lab.snapshot(0), &[]).unwrap().entries[0].is_here);
    lab.edit(0, item, Some(lab.file(2, 2)), op);
    assert!(!list(&lab.snapshot(0), &[]).unwrap().entries[0].is_here);
    lab.show(0, item);
    assert!(list(&lab.snapshot(0), &[]).unwrap().entries[0].is_here);
}

#[test]
fn what_is_nowhere_is_not_found_and_said_without_its_control_characters() {
    let mut lab = Lab::new(1);
    lab.make(0, FileId::ROOT, b"file", lab.file(1, 1));
    let snapshot = lab.snapshot(0);
    for path in [&[&b"x"[..]][..], &[b"file", b"x"], &[b".."], &[b""], &[b"a/b"]] {
        assert_eq!(kind_of(list(&snapshot, &raw(path))), ErrorKind::NotFound, "{path:?}");
    }
    let deep = vec![b"d".to_vec(); 5_000];
    assert_eq!(kind_of(find(&snapshot, &deep)), ErrorKind::NotFound);
    let error = find(&snapshot, &raw(&[b"\x1b[2J"])).unwrap_err();
    assert!(error.message.contains("\\u{1b}[2J") && !error.message.contains('\x1b'), "{error}");
}

#[test]
fn threat_38_names_go_into_answers_byte_for_byte() {
    let mut lab = Lab::new(1);
    let hostile = &b"\x1b[2J\xff\n"[..];
    let (directory, _) = lab.make(0, FileId::ROOT, hostile, Content::Directory);
    lab.make(0, directory, b"\xfe", lab.file(1, 1));
    let snapshot = lab.snapshot(0);
    assert_eq!(listed(&list(&snapshot, &[]).unwrap()), [hostile]);
    assert_eq!(listed(&list(&snapshot, &raw(&[hostile, b"\xfe"])).unwrap()), [b"\xfe"]);
}

#[test]
fn a_concurrent_edit_is_listed_as_a_conflict_copy_until_it_is_deleted() {
    let mut lab = Lab::new(2);
    let (docs, _) = lab.make(0, FileId::ROOT, b"docs", Content::Directory);
    let (item, op) = lab.make(0, docs, b"a.txt", lab.file(1, 0));
    lab.sync();
    lab.edit(0, item, Some(lab.file(2, 60)), op);
    let first = lab.edit(1, item, Some(lab.file(3, 120)), op);
    let second = lab.edit(1, item, Some(lab.file(4, 180)), first);
    assert_eq!(conflict_count(&lab.snapshot(1)).unwrap(), 0);
    lab.sync();
    let snapshot = lab.snapshot(0);
    let found = conflicts(&snapshot, "Docs").unwrap();
    assert_eq!((found.len(), conflict_count(&snapshot).unwrap()), (1, 1));
    let copy = "docs/a (conflict device0 1970-01-01 00.01).txt";
    assert_eq!((found[0].path.to_string(), found[0].copy.to_string()), ("docs/a.txt".into(), copy.into()));
    assert_eq!((found[0].device_name.as_str(), found[0].size, found[0].time_ms), ("device0", 10, 60_005));
    assert_eq!(found, conflicts(&lab.snapshot(1), "Docs").unwrap());
    let listing = list(&snapshot, &raw(&[b"docs"])).unwrap();
    let marks: BTreeMap<_, _> =
        listing.entries.iter().map(|entry| (entry.name.to_string(), entry.is_conflict)).collect();
    assert_eq!(marks, BTreeMap::from([(copy[5..].to_owned(), true), ("a.txt".to_owned(), false)]));
    // The copy is found by its own name, and by its ids.
    let Spot::Here(entry) = find(&snapshot, &raw(&[b"docs", &copy.as_bytes()[5..]])).unwrap() else { panic!() };
    assert!(entry.is_virtual());
    let path = path_of(&View::new(&snapshot), entry.id, entry.source).unwrap().unwrap();
    assert_eq!(byte_path(&path).to_string(), copy);
    // Both edits are versions, and deleting the copy is none.
    let versions = lab.history(0, &[b"docs", b"a.txt"]).versions;
    assert_eq!(versions.iter().map(|version| version.is_current).collect::<Vec<_>>(), [true, false, false, false]);
    let loser = entry.content_op().unwrap();
    assert_ne!(loser, second);
    lab.edit(0, item, None, loser);
    assert_eq!(conflicts(&lab.snapshot(0), "Docs").unwrap(), []);
    assert_eq!(conflict_count(&lab.snapshot(0)).unwrap(), 0);
    assert_eq!(lab.history(0, &[b"docs", b"a.txt"]).versions.len(), 4);
}

#[test]
fn items_that_share_a_name_are_conflicts_with_the_one_that_keeps_it() {
    let mut lab = Lab::new(2);
    lab.make(0, FileId::ROOT, b"x", lab.file(1, 60));
    let (directory, _) = lab.make(1, FileId::ROOT, b"x", Content::Directory);
    lab.make(1, directory, b"in it", lab.file(2, 0));
    lab.sync();
    let snapshot = lab.snapshot(1);
    let found = conflicts(&snapshot, "S").unwrap();
    assert_eq!((found.len(), conflict_count(&snapshot).unwrap()), (1, 1));
    assert_eq!(found[0].path.to_string(), "x");
    assert!(found[0].copy.to_string().starts_with("x (conflict device"), "{:?}", found[0].copy);
    let names = listed(&list(&snapshot, &[]).unwrap()).len();
    assert_eq!(names, 2);
    // Whichever of the two lost: what is in the directory is found below its shown name.
    let Spot::Here(shown) = find(&snapshot, &raw(&[b"x"])).unwrap() else { panic!() };
    let above = if shown.id == directory { b"x".to_vec() } else { found[0].copy.as_bytes().to_vec() };
    assert!(matches!(find(&snapshot, &[above, b"in it".to_vec()]).unwrap(), Spot::Here(_)));
}

#[test]
fn conflicts_of_many_directories_are_all_found() {
    let mut lab = Lab::new(2);
    let mut made = Vec::new();
    for n in 0..300_u32 {
        let (directory, _) = lab.make(0, FileId::ROOT, format!("d{n}").as_bytes(), Content::Directory);
        made.push(lab.make(0, directory, b"f", lab.file(1, 0)));
    }
    lab.sync();
    for (at, byte) in [(0, 2), (1, 3)] {
        let content = lab.file(byte, i64::from(byte));
        let edits: Vec<_> =
            made.iter().map(|(item, op)| (*item, Write::Content(Some(content.clone())), vec![*op])).collect();
        lab.write(at, edits);
    }
    lab.sync();
    let snapshot = lab.snapshot(0);
    assert_eq!(conflict_count(&snapshot).unwrap(), 300);
    let copies: BTreeSet<_> = conflicts(&snapshot, "S").unwrap().into_iter().map(|found| found.copy).collect();
    assert_eq!(copies.len(), 300);
}

#[test]
fn history_tells_three_versions_and_a_deletion_by_two_authors() {
    let mut lab = Lab::new(2);
    let (item, first) = lab.make(0, FileId::ROOT, b"a", lab.file(1, 10));
    lab.sync();
    let second = lab.edit(1, item, Some(lab.file(2, 20)), first);
    lab.sync();
    let third = lab.edit(0, item, Some(lab.file(3, 30)), second);
    lab.sync();
    lab.show(1, item);
    let newest = lab.history(1, &[b"a"]).versions[0].clone();
    assert_eq!((newest.is_current, newest.is_here, newest.others), (true, true, vec!["device0".to_owned()]));
    lab.edit(1, item, None, third);
    lab.sync();
    let spot = find(&lab.snapshot(0), &raw(&[b"a"])).unwrap();
    assert_eq!(spot, Spot::Gone(item));
    let versions = lab.history(0, &[b"a"]).versions;
    let told: Vec<_> = versions
        .iter()
        .map(|version| (version.time_ms, version.size, version.device_name.as_str(), version.is_current))
        .collect();
    let expected = [
        (30_005, None, "device1", true),
        (30_005, Some(10), "device0", false),
        (20_005, Some(10), "device1", false),
        (10_005, Some(10), "device0", false),
    ];
    assert_eq!(told, expected);
    assert!(versions.iter().all(|version| !version.is_here && version.others.is_empty()));
    assert_eq!(versions[1].device, lab.devices[0].id.to_string());
    let past = versions_of(&lab.snapshot(0), &lab.founding.identity(0).secrets, item).unwrap();
    assert_eq!(
        past.iter().map(|version| version.content.clone()).collect::<Vec<_>>(),
        [None, Some(lab.file(3, 30)), Some(lab.file(2, 20)), Some(lab.file(1, 10)),]
    );
    assert_eq!(past[1].op, third);
    assert_eq!(kind_of(list(&lab.snapshot(0), &raw(&[b"a"]))), ErrorKind::NotFound);
}

#[test]
fn what_was_deleted_with_its_directory_or_moved_before_is_found_at_its_last_place() {
    let mut lab = Lab::new(1);
    let (directory, made) = lab.make(0, FileId::ROOT, b"old", Content::Directory);
    let (inside, op) = lab.make(0, directory, b"f", lab.file(1, 1));
    let (moved, moved_op) = lab.make(0, FileId::ROOT, b"from", lab.file(2, 2));
    let place = lab.snapshot(0).item(moved).unwrap().unwrap().winning_place().unwrap().0;
    let to =
        Place { parent: directory, name: Name::parse(b"to").unwrap(), previous: Some(FileId::ROOT), loser_of: None };
    lab.write(0, [(moved, Write::Place(to), vec![place])]);
    lab.edit(0, inside, None, op);
    lab.edit(0, moved, None, moved_op);
    lab.edit(0, directory, None, made);
    let snapshot = lab.snapshot(0);
    assert_eq!(find(&snapshot, &raw(&[b"old", b"f"])).unwrap(), Spot::Gone(inside));
    assert_eq!(find(&snapshot, &raw(&[b"old", b"to"])).unwrap(), Spot::Gone(moved));
    assert_eq!(kind_of(find(&snapshot, &raw(&[b"from"]))), ErrorKind::NotFound);
    assert_eq!(lab.history(0, &[b"old", b"f"]).versions.len(), 2);
    let spot = find(&snapshot, &raw(&[b"old"])).unwrap();
    let secrets = lab.founding.identity(0).secrets;
    assert_eq!(kind_of(history(&snapshot, &secrets, &spot, lab.devices[0].id)), ErrorKind::Invalid);
    assert_eq!(kind_of(history(&snapshot, &secrets, &Spot::Root, lab.devices[0].id)), ErrorKind::Invalid);
}

#[test]
fn history_without_the_secret_of_its_epoch_says_so() {
    let mut lab = Lab::new(1);
    let (item, _) = lab.make(0, FileId::ROOT, b"a", lab.file(1, 1));
    let error = versions_of(&lab.snapshot(0), &BTreeMap::new(), item).unwrap_err();
    assert!(matches!(error, history::HistoryError::NoSecret { .. }));
}

#[test]
fn members_are_told_by_rank_with_the_names_that_are_known() {
    let mut lab = Lab::new(3);
    let (first, second) = (lab.devices[0].id, lab.devices[1].id);
    lab.sync();
    let row = PeerRow { name: Some(Name::parse(b"Anna's \x1b[1mphone").unwrap()), ..PeerRow::default() };
    lab.devices[0].store.write(|write| write.put_peer(second, &row)).unwrap();
    let list = members(&lab.snapshot(0), &lab.founding.records, first).unwrap().members;
    assert_eq!(list.iter().map(|member| member.rank).collect::<Vec<_>>(), [0, 1, 2, 2]);
    assert!(list[0].is_recovery && list[0].name.is_empty() && !list[0].is_this_device);
    assert_eq!((list[1].role, list[1].is_this_device, list[1].name.as_str()), (Role::Owner, true, "device0"));
    let phone = list.iter().find(|member| member.device == second.to_string()).unwrap();
    assert_eq!(
        (phone.name.as_str(), phone.role),
        ("Anna's \x1b[1mphone", Role::Editor),
        "as it is: shown, it is escaped"
    );
    assert_eq!(device_names(&lab.snapshot(0)).unwrap()[&lab.devices[2].id], "device2");
}

#[test]
fn held_changes_say_what_would_happen_to_what_is_on_disk() {
    let mut lab = Lab::new(2);
    let (directory, _) = lab.make(0, FileId::ROOT, b"d", Content::Directory);
    let made: Vec<_> = [b"deleted", b"edited ", b"moved  ", b"same   "]
        .map(|name| lab.make(0, directory, name, lab.file(1, 1)))
        .into();
    lab.show(0, directory);
    made.iter().for_each(|(item, _)| lab.show(0, *item));
    lab.sync();
    lab.edit(1, made[0].0, None, made[0].1);
    lab.edit(1, made[1].0, Some(lab.file(2, 2)), made[1].1);
    let place = lab.snapshot(1).item(made[2].0).unwrap().unwrap().winning_place().unwrap().0;
    let to = Place {
        parent: FileId::ROOT,
        name: Name::parse(b"elsewhere").unwrap(),
        previous: Some(directory),
        loser_of: None,
    };
    lab.write(1, [(made[2].0, Write::Place(to), vec![place])]);
    let (created, _) = lab.make(1, directory, b"created", lab.file(3, 3));
    lab.sync();
    let ids: Vec<FileId> = made.iter().map(|(item, _)| *item).chain([created]).collect();
    let hold = |id| (id, HeldRow { since: WallTime(0) });
    lab.devices[0]
        .store
        .write(|write| ids.into_iter().map(hold).try_for_each(|(id, row)| write.put_held(id, row)))
        .unwrap();
    let snapshot = lab.snapshot(0);
    let told: Vec<_> = held(&snapshot, "S").unwrap();
    assert!(told.iter().all(|change| change.space == "S" && change.device_name == "device1"), "{told:?}");
    let told: Vec<_> = told.into_iter().map(|change| (change.path.to_string(), change.change)).collect();
    let expected = [
        ("d/created", Change::Created),
        ("d/deleted", Change::Deleted),
        ("d/edited ", Change::Modified),
        ("d/moved  ", Change::Moved),
    ];
    assert_eq!(told, expected.map(|(path, change)| (path.to_owned(), change)));
}

#[test]
fn a_row_that_leads_nowhere_has_no_path() {
    let mut lab = Lab::new(1);
    let (directory, _) = lab.make(0, FileId::ROOT, b"d", Content::Directory);
    lab.show(0, directory);
    let snapshot = lab.snapshot(0);
    let key = |parent| RowKey { parent, local: Name::parse(b"f").unwrap() };
    let path = path_of_row(&snapshot, &key(directory)).unwrap().unwrap();
    assert_eq!(byte_path(&path).to_string(), "d/f");
    for parent in [zerocloud_crdt::base::PARKED, FileId([9; 16])] {
        assert_eq!(path_of_row(&snapshot, &key(parent)).unwrap(), None);
    }
}

#[test]
fn a_held_loser_that_only_base_knows_is_told_with_its_item() {
    let mut lab = Lab::new(2);
    let (item, op) = lab.make(0, FileId::ROOT, b"a", lab.file(1, 0));
    lab.sync();
    lab.edit(0, item, Some(lab.file(2, 60)), op);
    lab.edit(1, item, Some(lab.file(3, 120)), op);
    lab.sync();
    lab.show(0, item);
    let snapshot = lab.snapshot(0);
    let entries = View::new(&snapshot).entries(item).unwrap();
    let loser = entries.iter().find(|entry| entry.is_virtual()).unwrap();
    lab.edit(1, item, None, loser.content_op().unwrap());
    lab.sync();
    lab.devices[0].store.write(|write| write.put_held(loser.id, HeldRow { since: WallTime(0) })).unwrap();
    let told = held(&lab.snapshot(0), "S").unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].path.as_bytes(), told[0].change), (loser.name.as_bytes(), Change::Deleted));
    assert_eq!(told[0].device_name, "device1");
}
