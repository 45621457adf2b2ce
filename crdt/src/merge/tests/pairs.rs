//! Which two values may become one, and what that writes.

use super::ancestors::file;
use super::*;
use crate::id::{ContentHash, SpaceId};
use crate::index::{MemoryIndex, Overlay};
use crate::name::Name;
use crate::register::{FileTime, Meta, Place};
use crate::view::virtual_id;

const SPACE: SpaceId = SpaceId([3; 32]);
const ITEM: FileId = FileId([1; 16]);

fn id(counter: u32, actor: u8) -> OpId {
    OpId { counter, actor: ActorId([actor; 16]) }
}

fn put(id: OpId, content: Content) -> Op {
    Op { id, item: ITEM, write: Write::Content(Some(content)), pred: Vec::new() }
}

fn place(id: OpId, item: FileId, name: &str, loser_of: Option<FileId>) -> Op {
    let name = Name::parse(name.as_bytes()).unwrap();
    Op {
        id,
        item,
        write: Write::Place(Place { parent: FileId::ROOT, name, previous: None, loser_of }),
        pred: Vec::new(),
    }
}

/// A file with the values `one` and `two`, of which the second wins, and what else was done to it.
fn pair(others: &[Op]) -> Option<Rivals> {
    let mut index = MemoryIndex::new(SPACE);
    let made = [
        place(id(1, 1), ITEM, "a.txt", None),
        put(id(2, 1), Content::File(file("one"))),
        put(id(2, 2), Content::File(file("two"))),
    ];
    let mut overlay = Overlay::new(&index);
    let Ok(_) = overlay.apply(made.iter().chain(others));
    let changes = overlay.into_changes();
    index.commit(changes);
    let Ok(pair) = rivals(&View::new(&index), ITEM);
    pair
}

#[test]
fn two_files_side_by_side_are_a_pair() {
    let pair = pair(&[]).unwrap();
    assert_eq!((pair.winner.hash, pair.loser.hash), (ContentHash::of(b"two"), ContentHash::of(b"one")));
    assert_eq!(pair.merger(), id(2, 1));
    // Who made the same bytes later is one of the authors, and not the one who merges.
    let same = self::pair(&[put(id(1, 3), Content::File(file("two"))), put(id(3, 3), Content::File(file("one")))]);
    let same = same.unwrap();
    assert_eq!((same.winner.hash, same.merger()), (ContentHash::of(b"one"), id(1, 3)));
}

#[test]
fn what_the_user_placed_a_third_value_and_what_is_no_text_by_its_length_are_none() {
    let virtual_id = virtual_id(SPACE, ITEM, id(2, 1), ContentHash::of(b"one"));
    assert_eq!(pair(&[place(id(3, 1), virtual_id, "mine.txt", Some(ITEM))]), None);
    assert_eq!(pair(&[put(id(3, 3), Content::File(file("three")))]), None);
    let over = |content| Op { pred: vec![id(2, 2)], ..put(id(3, 2), content) };
    assert_eq!(pair(&[over(Content::Symlink { target: b"t".to_vec() })]), None);
    let mut long = file("long");
    long.manifest.len = MERGE_TEXT_LEN_MAX as u64;
    assert!(pair(&[over(Content::File(long.clone()))]).is_some());
    long.manifest.len += 1;
    assert_eq!(pair(&[over(Content::File(long))]), None);
    assert_eq!(pair(&[Op { pred: vec![id(2, 1), id(2, 2)], ..put(id(3, 2), Content::File(file("both"))) }]), None);
}

#[test]
fn a_merge_supersedes_both_values_and_the_touches_of_both() {
    let touch = |id, about, executable| {
        let mtime = FileTime { secs: 7, nanos: 0 };
        let meta = Meta { mtime, executable, executable_differs: executable, about };
        Op { id, item: ITEM, write: Write::Meta(Some(meta)), pred: Vec::new() }
    };
    let pair = pair(&[touch(id(3, 1), id(2, 1), true), touch(id(3, 2), id(2, 2), false)]).unwrap();
    // One side made it executable; if what both came from was that, one side took it away.
    assert!(pair.loser.executable && !pair.winner.executable);
    assert!(pair.is_executable(&file("ancestor")));
    assert!(!pair.is_executable(&FileContent { executable: true, ..file("ancestor") }));
    let actor = ActorId([1; 16]);
    let expected = [
        Op { id: id(4, 1), pred: vec![id(2, 1), id(2, 2)], ..put(id(4, 1), Content::File(file("both"))) },
        Op { id: id(5, 1), item: ITEM, write: Write::Meta(None), pred: vec![id(3, 1), id(3, 2)] },
    ];
    assert_eq!(pair.merged(3, actor, file("both")), expected);
}
