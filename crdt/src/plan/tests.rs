//! What a device leaves out. Random histories are planned in `tests/world`.

use super::*;
use crate::base::MemoryBase;
use crate::id::{ActorId, OpId, SpaceId};
use crate::index::{IndexRead, MemoryIndex};
use crate::register::{Content, Op, Place, Write};
use crate::view::file_id;

const SPACE: SpaceId = SpaceId([3; 32]);

/// Leaves out everything called `out`; all bytes are at hand.
struct WithoutOut;

impl Situation for WithoutOut {
    fn has_content(&self, _: &ViewEntry) -> bool {
        true
    }

    fn is_held(&self, _: FileId) -> bool {
        false
    }

    fn is_left_out(&self, entry: &ViewEntry) -> bool {
        entry.name.as_bytes() == b"out"
    }
}

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

/// A link that stands there; gives its id.
fn link(index: &mut MemoryIndex, text: &str) -> FileId {
    let id = file_id(SPACE, FileId::ROOT, false, 0, text.as_bytes());
    place(index, id, text);
    write(index, id, Write::Content(Some(Content::Symlink { target: b"target".to_vec() })));
    id
}

fn place(index: &mut MemoryIndex, id: FileId, text: &str) {
    let place = Place { parent: FileId::ROOT, name: name(text), previous: None, loser_of: None };
    write(index, id, Write::Place(place));
}

fn write(index: &mut MemoryIndex, item: FileId, write: Write) {
    let Ok(counter) = index.max_counter();
    let known = index.items().get(&item).cloned().unwrap_or_default();
    let pred = match write {
        Write::Place(_) => known.place.keys().copied().collect(),
        Write::Content(_) => known.content.keys().copied().collect(),
        Write::Meta(_) => known.meta.keys().copied().collect(),
    };
    index.apply([&Op { id: OpId { counter: counter + 1, actor: ActorId([1; 16]) }, item, write, pred }]);
}

fn planned(index: &MemoryIndex, base: &MemoryBase, item: FileId) -> Plan {
    let Ok(plan) = plan(index, base, [item], &WithoutOut, 10);
    plan
}

#[test]
fn what_is_left_out_does_not_come_and_what_is_here_is_acted_on_as_ever() {
    let (mut index, mut base) = (MemoryIndex::new(SPACE), MemoryBase::default());
    let id = link(&mut index, "out");
    let plan = planned(&index, &base, id);
    assert_eq!((plan.actions.len(), plan.left_out.unselected), (0, BTreeMap::from([(id, 1)])));
    assert!(plan.settled.is_empty(), "it stays marked: another selection brings it");

    // It moves to where it is selected, comes, and moves back with its row.
    place(&mut index, id, "in");
    let plan = planned(&index, &base, id);
    let [Action::Create { key, entry }] = plan.actions.as_slice() else { panic!("{:?}", plan.actions) };
    base.commit(BTreeMap::from([(key.clone(), Some(BaseRow::of_entry(entry, NOT_YET_WRITTEN)))]));
    place(&mut index, id, "out");
    let plan = planned(&index, &base, id);
    let [Action::Move { to, .. }] = plan.actions.as_slice() else { panic!("{:?}", plan.actions) };
    assert_eq!((to.local.clone(), plan.left_out.unselected), (name("out"), BTreeMap::new()));

    // A deletion by another device goes for what is here, too.
    write(&mut index, id, Write::Content(None));
    let plan = planned(&index, &base, id);
    assert!(matches!(plan.actions.as_slice(), [Action::Delete { .. }]), "{:?}", plan.actions);
}
