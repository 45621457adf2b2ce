//! Walks over listings that are made by hand: orders in which a real disk seldom answers.

use super::*;
use crate::base::{BaseRow, MemoryBase};
use crate::id::ContentHash;
use crate::register::FileTime;

const BOX: FileId = FileId([1; 16]);
const DESK: FileId = FileId([2; 16]);
const SHELF: FileId = FileId([4; 16]);
const LETTER: FileId = FileId([3; 16]);

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn key(parent: FileId, local: &str) -> RowKey {
    RowKey { parent, local: name(local) }
}

fn print(inode: u64) -> Fingerprint {
    let time = FileTime { secs: 0, nanos: 0 };
    Fingerprint { inode, birth: None, len: 0, mtime: time, ctime: time, mode: 0o755 }
}

fn listed(local: &str, kind: Kind, inode: u64) -> Listed {
    Listed { local: name(local), kind, print: print(inode), links: 1, is_doubted: false }
}

/// Rows: what has an id, where, what it is, and its inode.
fn base<const N: usize>(rows: [(FileId, FileId, &str, Kind, u64); N]) -> MemoryBase {
    let row = |(id, parent, local, kind, inode)| {
        let row = BaseRow {
            id,
            source: id,
            kind,
            view_parent: parent,
            view_name: name(local),
            content_ops: BTreeSet::new(),
            meta_ops: BTreeSet::new(),
            hash: ContentHash([0; 32]),
            len: 0,
            mtime: None,
            executable: false,
            print: print(inode),
        };
        (key(parent, local), Some(row))
    };
    let mut base = MemoryBase::default();
    base.commit(rows.map(row).into_iter().collect());
    base
}

/// Walks: what is in a directory with which inode.
fn findings(mut walk: Walk<'_, MemoryBase>, disk: impl Fn(Parent) -> Option<(u64, Vec<Listed>)>) -> Findings {
    while let Ok(Some(directory)) = walk.next_directory() {
        let Ok(()) = match disk(directory) {
            Some((inode, entries)) => walk.handle_listing(directory, inode, entries),
            None => walk.handle_missing(directory),
        };
    }
    let Ok((findings, _)) = walk.finish();
    findings
}

#[test]
fn what_is_in_a_directory_that_was_found_elsewhere_is_there_whatever_took_its_old_path() {
    // `box/desk/letter`: the desk went to a new directory, then the box, and a file came in the place of the desk.
    let base = base([
        (BOX, FileId::ROOT, "box", Kind::Directory, 2),
        (DESK, BOX, "desk", Kind::Directory, 3),
        (LETTER, DESK, "letter", Kind::File, 4),
    ]);
    let found = findings(Walk::full(&base), |directory| match directory {
        Parent::Known(FileId::ROOT) => Some((1, vec![listed("new", Kind::Directory, 5)])),
        Parent::New(_) => Some((5, vec![listed("a desk", Kind::Directory, 3), listed("box", Kind::Directory, 2)])),
        Parent::Known(BOX) => Some((2, vec![listed("desk", Kind::File, 6)])),
        Parent::Known(DESK) => Some((3, vec![listed("letter", Kind::File, 4)])),
        Parent::Known(_) => Some((9, Vec::new())),
    });
    assert_eq!(found.gone, BTreeSet::new());
    let continued: BTreeSet<&RowKey> = found.sightings.iter().filter_map(|sighting| sighting.from.as_ref()).collect();
    assert_eq!(continued, BTreeSet::from([&key(BOX, "desk"), &key(FileId::ROOT, "box")]));
}

#[test]
fn what_changed_below_a_directory_that_was_moved_is_seen_where_that_is_asked_for() {
    let base = base([
        (BOX, FileId::ROOT, "box", Kind::Directory, 2),
        (DESK, BOX, "desk", Kind::Directory, 3),
        (LETTER, DESK, "letter", Kind::File, 4),
    ]);
    let disk = |directory| match directory {
        Parent::Known(FileId::ROOT) => Some((1, vec![listed("chest", Kind::Directory, 2)])),
        Parent::Known(BOX) => Some((2, vec![listed("desk", Kind::Directory, 3)])),
        Parent::Known(_) | Parent::New(_) => Some((3, Vec::new())),
    };
    let walk = || Walk::of_directories(&base, [FileId::ROOT]);
    assert_eq!(findings(walk(), disk).gone, BTreeSet::new());
    assert_eq!(findings(walk().with_moved_whole(), disk).gone, BTreeSet::from([key(DESK, "letter")]));
}

#[test]
fn a_directory_that_is_asked_for_is_found_in_the_one_that_was_moved_with_it() {
    let base = base([
        (BOX, FileId::ROOT, "box", Kind::Directory, 2),
        (DESK, BOX, "desk", Kind::Directory, 3),
        (LETTER, DESK, "letter", Kind::File, 4),
    ]);
    let is_asked = std::cell::Cell::new(false);
    let found = findings(Walk::of_directories(&base, [DESK]), |directory| match directory {
        Parent::Known(FileId::ROOT) => Some((1, vec![listed("chest", Kind::Directory, 2)])),
        // The first time it is looked for in `box`, which is not there.
        Parent::Known(DESK) if !is_asked.replace(true) => None,
        Parent::Known(BOX) => Some((2, vec![listed("desk", Kind::Directory, 3)])),
        Parent::Known(_) | Parent::New(_) => Some((3, Vec::new())),
    });
    assert_eq!(found.gone, BTreeSet::from([key(DESK, "letter")]));
}

#[test]
fn what_is_gone_from_a_directory_is_gone_although_the_directory_is_found_to_be_renamed_later() {
    // Where names fold, the old spelling of the box leads to it still: it is listed before its new name is seen.
    let base = base([
        (BOX, FileId::ROOT, "box", Kind::Directory, 2),
        (DESK, BOX, "desk", Kind::File, 3),
        (LETTER, BOX, "letter", Kind::File, 4),
    ]);
    let walk = Walk::of_directories(&base, [BOX, FileId::ROOT]);
    let found = findings(walk, |directory| match directory {
        Parent::Known(FileId::ROOT) => Some((1, vec![listed("Box", Kind::Directory, 2)])),
        Parent::Known(BOX) => Some((2, vec![listed("desk", Kind::Directory, 5)])),
        Parent::Known(_) | Parent::New(_) => Some((5, Vec::new())),
    });
    assert_eq!(found.gone, BTreeSet::from([key(BOX, "desk"), key(BOX, "letter")]));
}

#[test]
fn names_of_one_file_that_are_swapped_with_others_each_come_from_one_row() {
    let id = |n| FileId([n; 16]);
    let names = [("a", 5), ("b", 6), ("d", 7), ("y", 7)];
    let base = base(names.map(|(local, inode)| (id(local.as_bytes()[0]), FileId::ROOT, local, Kind::File, inode)));
    // `d` and `b` were swapped, then `y` and `a`.
    let found = findings(Walk::full(&base), |directory| match directory {
        Parent::Known(FileId::ROOT) => {
            let now = [("a", 7), ("b", 7), ("d", 6), ("y", 5)];
            Some((1, now.map(|(local, inode)| Listed { links: 2, ..listed(local, Kind::File, inode) }).to_vec()))
        }
        _ => None,
    });
    assert_eq!(found.gone, BTreeSet::new());
    let came = |local: &str| found.sightings.iter().find(|it| it.local == name(local)).unwrap().from.clone().unwrap();
    assert_eq!([came("d"), came("y")], [key(FileId::ROOT, "b"), key(FileId::ROOT, "a")]);
    assert_eq!(
        BTreeSet::from([came("a"), came("b")]),
        BTreeSet::from(["d", "y"].map(|local| key(FileId::ROOT, local)))
    );
}

#[test]
fn what_was_listed_before_one_above_it_was_found_to_be_moved_is_looked_at_with_all_below_it() {
    // Where names fold, the desk is listed by the old spelling of the box.
    let base = base([
        (BOX, FileId::ROOT, "box", Kind::Directory, 2),
        (DESK, BOX, "desk", Kind::Directory, 3),
        (SHELF, DESK, "shelf", Kind::Directory, 4),
        (LETTER, SHELF, "letter", Kind::File, 5),
    ]);
    let walk = Walk::of_directories(&base, [DESK, FileId::ROOT]).with_moved_whole();
    let found = findings(walk, |directory| match directory {
        Parent::Known(FileId::ROOT) => Some((1, vec![listed("Box", Kind::Directory, 2)])),
        Parent::Known(BOX) => Some((2, vec![listed("desk", Kind::Directory, 3)])),
        Parent::Known(DESK) => Some((3, vec![listed("shelf", Kind::Directory, 4)])),
        Parent::Known(_) | Parent::New(_) => Some((4, Vec::new())),
    });
    assert_eq!(found.gone, BTreeSet::from([key(SHELF, "letter")]));
}

#[test]
fn what_is_in_new_directories_is_left_off_for_a_later_walk_when_there_is_no_room() {
    let disk = |directory| {
        Some(match directory {
            Parent::Known(FileId::ROOT) => {
                (1, vec![listed("box", Kind::Directory, 2), listed("desk", Kind::Directory, 3)])
            }
            Parent::Known(BOX) => (2, vec![listed("shelf", Kind::Directory, 4), listed("a", Kind::File, 5)]),
            Parent::Known(DESK) => (3, vec![listed("letter", Kind::File, 6)]),
            Parent::Known(_) | Parent::New(_) => (9, Vec::new()),
        })
    };
    let run = |mut walk: Walk<'_, MemoryBase>| {
        while let Ok(Some(directory)) = walk.next_directory() {
            let Some((inode, entries)) = disk(directory) else { continue };
            let Ok(()) = walk.handle_listing(directory, inode, entries);
        }
        let Ok(left_off) = walk.left_off();
        let Ok((findings, _)) = walk.finish();
        let found: Vec<String> = findings.sightings.iter().map(|sighting| sighting.local.to_string()).collect();
        (found, left_off)
    };
    let empty = MemoryBase::default();
    let (found, left_off) = run(Walk::full(&empty).with_room(1, []));
    assert_eq!((found, left_off), (vec!["box".into(), "desk".into()], vec![Parent::New(0), Parent::New(1)]));
    // What was found is in base by now.
    let base = base([(BOX, FileId::ROOT, "box", Kind::Directory, 2), (DESK, FileId::ROOT, "desk", Kind::Directory, 3)]);
    for walk in [Walk::full(&base), Walk::of_directories(&base, [])] {
        let (found, left_off) = run(walk.with_room(3, [BOX, DESK]));
        assert_eq!((found, left_off), (vec!["shelf".into(), "a".into(), "letter".into()], vec![Parent::New(0)]));
    }
    for walk in [Walk::of_directories(&base, []).with_room(0, [BOX, DESK]), Walk::full(&base).with_room(0, [])] {
        let (found, left_off) = run(walk);
        assert_eq!((found, left_off), (Vec::new(), vec![Parent::Known(BOX), Parent::Known(DESK)]));
    }
}

#[test]
fn nothing_is_left_off_in_which_there_may_be_what_is_gone() {
    let base = base([(LETTER, FileId::ROOT, "letter", Kind::File, 3)]);
    let disk = |directory| match directory {
        Parent::Known(_) => Some((1, vec![listed("a", Kind::Directory, 2), listed("b", Kind::Directory, 4)])),
        Parent::New(1) => Some((4, vec![listed("letter", Kind::File, 3)])),
        Parent::New(_) => Some((2, Vec::new())),
    };
    let found = findings(Walk::full(&base).with_room(1, []), disk);
    assert_eq!(found.gone, BTreeSet::new());
    assert_eq!(found.sightings.last().and_then(|letter| letter.from.clone()), Some(key(FileId::ROOT, "letter")));
}

#[test]
fn some_names_are_enough_while_nothing_else_can_matter() {
    let base = base([
        (DESK, FileId::ROOT, "desk", Kind::File, 3),
        (SHELF, FileId::ROOT, "shelf", Kind::File, 5),
        (BOX, FileId::ROOT, "box", Kind::Directory, 2),
        (LETTER, BOX, "letter", Kind::File, 4),
    ]);
    let walked = |names: &[&str], there: Vec<Listed>| {
        let names: BTreeSet<Name> = names.iter().map(|local| name(local)).collect();
        let mut walk = Walk::of_directories(&base, []).with_names(FileId::ROOT, names.clone());
        while let Ok(Some(directory)) = walk.next_directory() {
            let listing = match directory {
                Parent::Known(FileId::ROOT) => {
                    assert_eq!(walk.names(directory), Some(&names));
                    (1, there.clone())
                }
                _ => (2, vec![listed("letter", Kind::File, 4)]),
            };
            let Ok(()) = walk.handle_listing(directory, listing.0, listing.1);
        }
        let is_short = walk.short() == &BTreeSet::from([FileId::ROOT]);
        assert!(is_short || walk.short().is_empty());
        let Ok((findings, _)) = walk.finish();
        (!is_short).then_some(findings)
    };
    let edited = |local| Listed { print: Fingerprint { len: 1, ..print(3) }, ..listed(local, Kind::File, 3) };
    // An edit, a save by rename, a new file, and one that came and went.
    let found = walked(&["desk", "gone", "new"], vec![edited("desk"), listed("new", Kind::File, 7)]).unwrap();
    let from: Vec<_> = found.sightings.iter().map(|sighting| sighting.from.clone()).collect();
    assert_eq!((from, found.gone), (vec![Some(key(FileId::ROOT, "desk")), None], BTreeSet::new()));
    let found = walked(&["desk", "desk.tmp"], vec![listed("desk", Kind::File, 7)]).unwrap();
    assert_eq!(found.sightings[0].from, Some(key(FileId::ROOT, "desk")));
    assert_eq!(
        walked(&["box", "desk"], vec![listed("box", Kind::Directory, 2), listed("desk", Kind::File, 3)]).unwrap(),
        Findings::default()
    );
    // Something is gone, came from another name of the directory, or gave way.
    assert_eq!(walked(&["desk"], vec![]), None);
    assert_eq!(walked(&["new"], vec![edited("new")]), None);
    assert_eq!(walked(&["desk", "shelf"], vec![listed("desk", Kind::File, 5), listed("shelf", Kind::File, 3)]), None);
    assert_eq!(walked(&["desk"], vec![listed("desk", Kind::Symlink, 7)]), None);
    // From another directory it may come: that is listed as a whole.
    let found = walked(&["letter"], vec![listed("letter", Kind::File, 4)]).unwrap();
    assert_eq!((found.sightings.len(), found.gone), (1, BTreeSet::new()));
}
