//! Disks that take names for one which differ in case or Unicode form alone.

use std::collections::BTreeMap;

use zerocloud::tree::materialise::{Blocked, Outcome, Trust};
use zerocloud::tree::scan::{Extent, scan};
use zerocloud_crdt::base::RowKey;
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::plan::{Action, parked_name};
use zerocloud_testnet::sim::volume::{Crash, SimPerson};

use super::device::{Contents, Device, SPACE};

/// What one device knows of and wrote, and another device on a disk that folds names.
fn folding(write: impl FnOnce(&SimPerson)) -> (Device, Device, Contents) {
    let mut a = Device::new(1, true);
    let mut b = Device::folding(2);
    write(&a.person);
    let ops = a.scan();
    b.hear(&ops);
    let contents = a.contents();
    (a, b, contents)
}

/// What is at a path.
fn read(device: &Device, path: &str) -> Option<Vec<u8>> {
    device.person.read(path.as_bytes()).ok()
}

fn names(device: &Device) -> Vec<String> {
    device.person.tree().into_keys().map(|path| String::from_utf8_lossy(&path).into_owned()).collect()
}

#[test]
fn threat_37_of_names_that_are_one_here_the_second_is_a_problem_and_replaces_nothing() {
    for (first, second) in [("a.txt", "A.txt"), ("caf\u{e9}", "cafe\u{301}"), ("Dir/x", "dir/x")] {
        let (_, mut b, contents) = folding(|person| {
            for path in [first, second] {
                if let Some((directory, _)) = path.split_once('/') {
                    person.create_directory(directory.as_bytes()).unwrap();
                }
                person.write(path.as_bytes(), path.as_bytes()).unwrap();
            }
        });
        b.materialise(&contents, 100).unwrap();
        assert!(b.collisions > 0, "{first} and {second}");
        let there: Vec<&str> =
            [first, second].into_iter().filter(|path| names(&b).contains(&(*path).to_owned())).collect();
        assert_eq!(there.len(), 1);
        assert_eq!(read(&b, there[0]).as_deref(), Some(there[0].as_bytes()));
        assert_eq!(b.scan(), [], "what has no place here does not count as deleted, nor as a change of the other");
    }
}

#[test]
fn threat_37_when_the_first_goes_the_second_comes() {
    let (mut a, mut b, contents) = folding(|person| {
        person.write(b"a.txt", b"first").unwrap();
        person.write(b"A.TXT", b"second").unwrap();
    });
    b.materialise(&contents, 100).unwrap();
    let there = names(&b).remove(0);
    a.person.remove(there.as_bytes()).unwrap();
    let ops = a.scan();
    b.hear(&ops);
    b.scan();
    b.materialise(&contents, 100).unwrap();
    assert_eq!(names(&b), names(&a));
}

#[test]
fn threat_37_a_new_spelling_of_a_name_goes_by_way_of_a_name_of_its_own() {
    let (mut a, mut b, contents) = folding(|person| person.write(b"a.txt", b"bytes").unwrap());
    b.materialise(&contents, 100).unwrap();
    a.person.rename(b"a.txt", b"A.txt").unwrap();
    let ops = a.scan();
    b.hear(&ops);
    let (from, old) = b.ledger.base.all().iter().next().map(|(key, row)| (key.clone(), row.clone())).unwrap();
    let to = RowKey { parent: FileId::ROOT, local: Name::parse(b"A.txt").unwrap() };
    let moved =
        Action::Move { from: from.clone(), to: to.clone(), old: old.clone(), at: (FileId::ROOT, to.local.clone()) };
    let batch = b.run(&[moved], &contents).unwrap();
    assert_eq!(batch.outcomes, [Outcome::Blocked(Blocked::Itself)]);
    assert_eq!(names(&b), ["a.txt"]);
    b.run(&[Action::Park { from, old: old.clone() }], &contents).unwrap();
    assert!(
        parked_name(old.id).is_some_and(|name| b.person.read(&[b".zerocloud/tmp/", name.as_bytes()].concat()).is_ok())
    );
    b.materialise(&contents, 100).unwrap();
    assert_eq!((names(&b), b.scan()), (vec!["A.txt".to_owned()], Vec::new()));
}

#[test]
fn threat_37_a_crash_makes_no_directory_of_one_that_is_called_otherwise() {
    for calls in 0.. {
        let (_, mut b, contents) = folding(|person| {
            person.create_directory(b"Dir").unwrap();
            person.create_directory(b"dir").unwrap();
        });
        b.volume.crash_after(calls);
        let outcome = b.materialise(&contents, 1);
        let is_over = outcome.is_ok();
        if !is_over {
            b.volume.restart(Crash::Killed);
            b.start();
            b.recover(Trust::Same).unwrap();
        }
        let inodes: Vec<u64> = b.ledger.base.all().values().map(|row| row.print.inode).collect();
        assert!(inodes.len() < 2 || inodes[0] != inodes[1], "two rows of one directory, after {calls} calls");
        if is_over {
            assert!(calls > 10);
            break;
        }
    }
}

#[test]
fn threat_37_where_two_names_may_be_one_a_directory_is_listed_although_only_names_are_told() {
    let cases: [(&str, &str, &[&str]); 6] = [
        ("a.txt", "A.txt", &["A.txt"]),
        ("a.txt", "A.txt", &["A.txt", "a.txt"]),
        ("caf\u{e9}", "cafe\u{301}", &["cafe\u{301}"]),
        ("stra\u{df}e", "STRASSE", &["STRASSE"]),
        ("a.txt", "b.txt", &["b.txt"]),
        ("a.txt", "b.txt", &["a.txt", "b.txt"]),
    ];
    for (first, second, told) in cases {
        for is_new in [false, true] {
            let mut device = Device::folding(2);
            device.person.write(first.as_bytes(), b"bytes").unwrap();
            device.scan();
            if is_new {
                device.person.write(b"temp", b"others").unwrap();
                device.person.rename(b"temp", second.as_bytes()).unwrap();
            } else {
                device.person.rename(first.as_bytes(), second.as_bytes()).unwrap();
            }
            let names = told.iter().map(|name| Name::parse(name.as_bytes()).unwrap()).collect();
            let directories = BTreeMap::from([(FileId::ROOT, Some(names))]);
            let some = Extent::Directories { directories, are_moved_whole: false };
            let [some, all] = [some, Extent::Full].map(|extent| scan(&*device.door, &device.ledger, SPACE, &extent));
            assert_eq!(some.unwrap().findings, all.unwrap().findings, "{first}, {second}, {is_new}");
        }
    }
}
