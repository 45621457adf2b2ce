use automerge::legacy;
use proptest::prelude::*;

use super::*;
use crate::id::{ChunkId, ContentHash, EpochId};
use crate::manifest::{Body, ChunkRef, Class, Manifest, Profile};
use crate::name::Name;
use crate::register::{Content, FileContent, FileTime, Meta, Place};

const ACTOR: ActorId = ActorId([7; 16]);

fn item() -> impl Strategy<Value = FileId> {
    (1..7u8).prop_map(|byte| FileId([byte; 16]))
}

fn id() -> impl Strategy<Value = OpId> {
    (1..50u32, 5..9u8).prop_map(|(counter, actor)| OpId { counter, actor: ActorId([actor; 16]) })
}

fn time() -> impl Strategy<Value = FileTime> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| FileTime { secs, nanos })
}

fn file() -> impl Strategy<Value = Content> {
    let chunks = prop::collection::vec((any::<[u8; 32]>(), 1..=(4u32 << 20)), 0..9);
    (time(), any::<bool>(), any::<[u8; 32]>(), chunks).prop_map(|(mtime, executable, hash, chunks)| {
        let epochs = if chunks.is_empty() { vec![] } else { vec![EpochId([1; 32])] };
        let len = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
        let chunk = |(id, len)| ChunkRef { id: ChunkId(id), epoch_index: 0, len };
        let body = Body::Inline(chunks.into_iter().map(chunk).collect());
        let profile = Profile { chunker: 1, class: Class::Small, epoch: EpochId([1; 32]) };
        let manifest = Manifest { profile, len, epochs, body };
        Content::File(FileContent { mtime, executable, hash: ContentHash(hash), manifest })
    })
}

fn write() -> impl Strategy<Value = Write> {
    let name = prop::collection::vec(1u8..255, 1..30).prop_filter_map("no name", |bytes| Name::parse(&bytes).ok());
    let place = (item(), name, prop::option::of(item()))
        .prop_map(|(parent, name, previous)| Write::Place(Place { parent, name, previous, loser_of: None }));
    let link = prop::collection::vec(1u8..255, 1..60).prop_map(|target| Content::Symlink { target });
    let content = prop_oneof![Just(Content::Directory), link, file()];
    let meta =
        (time(), any::<bool>(), any::<bool>(), id()).prop_map(|(mtime, executable, executable_differs, about)| Meta {
            mtime,
            executable,
            executable_differs,
            about,
        });
    prop_oneof![place, prop::option::of(content).prop_map(Write::Content), prop::option::of(meta).prop_map(Write::Meta),]
}

fn change() -> impl Strategy<Value = Change> {
    let ops = prop::collection::vec((item(), write(), prop::collection::btree_set(id(), 0..4)), 1..12);
    let deps = prop::collection::btree_set(any::<[u8; 32]>(), 0..4);
    (ops, deps, 1..u64::from(u32::MAX), 1..u32::MAX - 20).prop_map(|(drafts, deps, seq, start_op)| {
        let mut ops = Vec::new();
        for (counter, (item, write, mut pred)) in (start_op..).zip(drafts) {
            if write.is_delete() {
                pred.insert(OpId { counter: 1, actor: ACTOR });
            }
            ops.push(Op { id: OpId { counter, actor: ACTOR }, item, write, pred: pred.into_iter().collect() });
        }
        Change { actor: ACTOR, seq, deps: deps.into_iter().map(ChangeHash).collect(), start_op, ops }
    })
}

/// One change with one operation, to be spoiled.
fn small() -> Change {
    let write = Write::Content(Some(Content::Directory));
    let op = Op { id: OpId { counter: 3, actor: ACTOR }, item: FileId([1; 16]), write, pred: vec![] };
    Change { actor: ACTOR, seq: 1, deps: vec![], start_op: 3, ops: vec![op] }
}

/// Automerge's form of a change, to be spoiled in ways that ours can't say.
fn expanded() -> automerge::ExpandedChange {
    automerge::Change::from_bytes(small().encode().unwrap().bytes).unwrap().decode()
}

fn decode_expanded(expanded: automerge::ExpandedChange) -> ChangeError {
    Change::decode(automerge::Change::from(expanded).raw_bytes()).unwrap_err()
}

proptest! {
    #[test]
    fn a_change_is_read_back_and_automerge_reads_the_same(change in change()) {
        let encoded = change.encode().unwrap();
        prop_assert_eq!(Change::decode(&encoded.bytes), Ok((change.clone(), encoded.hash)));
        let theirs = automerge::Change::from_bytes(encoded.bytes).unwrap();
        prop_assert_eq!(theirs.hash().0, encoded.hash.0);
        prop_assert_eq!(theirs.max_op(), u64::from(change.end_op()));
        let expanded = theirs.decode();
        prop_assert_eq!(expanded.operations.len(), change.ops.len());
        for (theirs, ours) in expanded.operations.iter().zip(&change.ops) {
            prop_assert_eq!(&theirs.key, &legacy::Key::Map(ours.key().to_string().into()));
            prop_assert_eq!(theirs.pred.len(), ours.pred.len());
        }
    }

    #[test]
    fn threat_44_spoiled_changes_are_refused_and_never_panic(
        change in change(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let encoded = change.encode().unwrap();
        let mut bytes = encoded.bytes.clone();
        for (index, byte, kind) in edits {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
            if bytes.is_empty() { break; }
        }
        if bytes != encoded.bytes {
            prop_assert!(Change::decode(&bytes).is_err());
        }
    }

    #[test]
    fn any_bytes_are_a_change_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 1];
        leb(&mut framed, bytes.len() as u64);
        framed.extend(&bytes);
        prop_assert!(Change::decode(&bytes).is_err());
        prop_assert!(Change::decode(&framed).is_err());
    }
}

fn leb(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A chunk around column data of choice.
fn chunk(columns: &[(u64, &[u8])]) -> Vec<u8> {
    let mut body = vec![0, 16];
    body.extend(ACTOR.0);
    body.extend([1, 1, 0, 0, 0, columns.len() as u8]);
    for (specification, data) in columns {
        leb(&mut body, *specification);
        leb(&mut body, data.len() as u64);
    }
    columns.iter().for_each(|(_, data)| body.extend(*data));
    let mut bytes = vec![0x85, 0x6f, 0x4a, 0x83, 0, 0, 0, 0, 1];
    leb(&mut bytes, body.len() as u64);
    bytes.extend(body);
    bytes
}

#[test]
fn threat_44_a_run_of_2_to_the_60_operations_is_refused_at_the_bound() {
    let mut run = Vec::new();
    leb(&mut run, 1 << 60);
    let repeat = |value: &[u8]| [&run, value].concat();
    let key = Key { item: FileId([1; 16]), register: Register::Content }.to_string();
    let keys = repeat(&[&[23], key.as_bytes()].concat());
    let (deletes, nulls) = (repeat(&[3]), repeat(&[0]));
    let columns = [(0x15, keys.as_slice()), (0x34, &run), (0x42, &deletes), (0x56, &nulls)];
    let (few, zeros) = (repeat(&[1]), repeat(&[0]));
    let counts = [columns.as_slice(), &[(0x70, &few), (0x71, &zeros), (0x73, &zeros)]].concat();
    assert_eq!(Change::decode(&chunk(&counts)), Err(ChangeError::TooManyOps));
    let huge = repeat(&[0xff, 0xff, 0xff, 0x7f]);
    let counts = [columns.as_slice(), &[(0x70, &huge), (0x71, &zeros), (0x73, &zeros)]].concat();
    assert_eq!(Change::decode(&chunk(&counts)), Err(ChangeError::TooManyPreds));
    // Automerge's own reader would go through an actor index beyond its table with an unwrap.
    let one = [&[0x01][..], &[9]].concat();
    let lone = [
        (0x15, [&[0x7f, 23], key.as_bytes()].concat()),
        (0x34, vec![1]),
        (0x42, vec![0x7f, 3]),
        (0x56, vec![0x7f, 0]),
        (0x70, vec![0x7f, 1]),
        (0x71, one),
        (0x73, vec![0x7f, 1]),
    ];
    let lone: Vec<(u64, &[u8])> = lone.iter().map(|(specification, data)| (*specification, data.as_slice())).collect();
    assert_eq!(Change::decode(&chunk(&lone)), Err(ChangeError::Malformed));
}

#[test]
fn parts_of_automerge_that_ours_never_have_are_refused() {
    let spoil = |spoil: &dyn Fn(&mut automerge::ExpandedChange)| {
        let mut change = expanded();
        spoil(&mut change);
        decode_expanded(change)
    };
    assert_eq!(spoil(&|change| change.time = 1), ChangeError::Time);
    assert_eq!(spoil(&|change| change.message = Some("hello".into())), ChangeError::Message);
    assert_eq!(spoil(&|change| change.extra_bytes = vec![1]), ChangeError::Malformed);
    assert_eq!(spoil(&|change| change.operations.clear()), ChangeError::Empty);
    assert_eq!(spoil(&|change| change.operations[0].insert = true), ChangeError::Malformed);
    assert_eq!(spoil(&|change| change.actor_id = automerge::ActorId::from(&[1u8][..])), ChangeError::Malformed);
    assert_eq!(spoil(&|change| change.seq = 0), ChangeError::Counter);
    assert_eq!(spoil(&|change| change.start_op = (1 << 33).try_into().unwrap()), ChangeError::Counter);
    assert_eq!(spoil(&|change| change.operations[0].key = legacy::Key::Map("x".into())), ChangeError::Key);
    let nested = legacy::ObjectId::Id(legacy::OpId(1, automerge::ActorId::from(&ACTOR.0[..])));
    assert_eq!(spoil(&|change| change.operations[0].obj = nested.clone()), ChangeError::Malformed);
    let text = automerge::ScalarValue::Str("text".into());
    let put = legacy::OpType::Put(text);
    assert_eq!(spoil(&|change| change.operations[0].action = put.clone()), ChangeError::Malformed);
    let garbage = legacy::OpType::Put(automerge::ScalarValue::Bytes(vec![0, 1, 2]));
    let error = spoil(&|change| change.operations[0].action = garbage.clone());
    assert_eq!(error, ChangeError::Value(ValueError::Malformed));
    let mut compressed = automerge::Change::from(expanded());
    assert!(Change::decode(&compressed.bytes()).is_ok(), "a short chunk is not compressed");
    let dep = automerge::ChangeHash([1; 32]);
    assert_eq!(spoil(&|change| change.deps = vec![dep, dep]), ChangeError::Order);
}

#[test]
fn what_a_newer_version_may_know_is_told_from_what_is_wrong() {
    let spoil = |spoil: &dyn Fn(&mut legacy::Op)| {
        let mut change = expanded();
        spoil(&mut change.operations[0]);
        decode_expanded(change)
    };
    let bytes = |bytes: &[u8]| legacy::OpType::Put(automerge::ScalarValue::Bytes(bytes.to_vec()));
    let key = Key { item: FileId([1; 16]), register: Register::Content }.to_string().replace('c', "x");
    assert!(key.ends_with('x'));
    for error in [
        spoil(&|op| op.action = legacy::OpType::Increment(1)),
        spoil(&|op| op.action = legacy::OpType::Make(automerge::ObjType::List)),
        spoil(&|op| op.key = legacy::Key::Map(key.clone().into())),
        spoil(&|op| op.action = bytes(&[3])),
    ] {
        assert!(error.is_unknown(), "{error:?}");
    }
    assert!(!spoil(&|op| op.action = bytes(&[])).is_unknown());
}

#[test]
fn each_bound_and_shape_has_its_error() {
    let spoil = |spoil: &dyn Fn(&mut Change)| {
        let mut change = small();
        spoil(&mut change);
        change.encode().unwrap_err()
    };
    let with = |write: Write| spoil(&|change| change.ops[0].write = write.clone());
    let pred = OpId { counter: 1, actor: ACTOR };
    assert_eq!(spoil(&|change| change.ops.clear()), ChangeError::Empty);
    assert_eq!(spoil(&|change| change.start_op = 4), ChangeError::Ids);
    assert_eq!(spoil(&|change| change.ops[0].pred = vec![pred, pred]), ChangeError::Order);
    assert_eq!(spoil(&|change| change.ops[0].pred = vec![OpId { counter: 0, ..pred }]), ChangeError::Counter);
    assert_eq!(with(Write::Content(None)), ChangeError::EmptyDelete);
    assert_eq!(spoil(&|change| change.ops[0].item = FileId::ROOT), ChangeError::Root);
    let begin = |change: &mut Change, start_op| {
        change.start_op = start_op;
        change.ops[0].id.counter = start_op;
    };
    assert_eq!(spoil(&|change| begin(change, u32::MAX)), ChangeError::Counter);
    let mut last = small();
    begin(&mut last, u32::MAX - 1);
    let encoded = last.encode().unwrap();
    assert_eq!(Change::decode(&encoded.bytes), Ok((last, encoded.hash)));
    let link = |target: &[u8]| with(Write::Content(Some(Content::Symlink { target: target.to_vec() })));
    for target in [&[][..], b"a\0", &[b'x'; 4097]] {
        assert_eq!(link(target), ChangeError::Value(ValueError::LinkTarget { len: target.len() }));
    }
    let mtime = FileTime { secs: 0, nanos: 1_000_000_000 };
    let meta = Meta { mtime, executable: false, executable_differs: false, about: pred };
    let nanos = ValueError::Nanoseconds { nanos: mtime.nanos };
    assert_eq!(with(Write::Meta(Some(meta.clone()))), ChangeError::Value(nanos));
    let about = OpId { counter: 0, ..pred };
    let meta = Meta { mtime: FileTime { secs: 0, nanos: 0 }, about, ..meta };
    assert_eq!(with(Write::Meta(Some(meta))), ChangeError::Value(ValueError::About));
    let many = |count: u32, files: u32| {
        let mut change = small();
        let op = change.ops[0].clone();
        let file =
            |index: u32| FileId([[0; 12].as_slice(), &(index % files + 1).to_be_bytes()].concat().try_into().unwrap());
        let id = |index| OpId { counter: 3 + index, actor: ACTOR };
        change.ops = (0..count).map(|index| Op { id: id(index), item: file(index), ..op.clone() }).collect();
        change.encode()
    };
    assert!(many(16_000, 1_000).is_ok());
    assert_eq!(many(16_001, 1_000), Err(ChangeError::TooManyOps));
    assert_eq!(many(1_001, 1_001), Err(ChangeError::TooManyFiles));
    assert_eq!(
        spoil(&|change| change.ops[0].pred = (1..=1_001).map(|counter| OpId { counter, actor: ACTOR }).collect()),
        ChangeError::TooManyPreds
    );
}

#[test]
fn threat_44_an_operation_on_the_root_is_refused() {
    // The root would come to lie in itself, and whoever walks the tree would never come to an end.
    let root = format!("{}c", data_encoding::BASE64URL_NOPAD.encode(FileId::ROOT.as_bytes()));
    let mut expanded = expanded();
    expanded.operations[0].key = legacy::Key::Map(root.into());
    assert_eq!(decode_expanded(expanded), ChangeError::Root);
}

#[test]
fn a_manifest_in_a_value_adds_up() {
    let chunk = |len, epoch_index| ChunkRef { id: ChunkId([1; 32]), epoch_index, len };
    let refused = |len, epochs: &[u8], chunks: Vec<ChunkRef>| {
        let profile = Profile { chunker: 1, class: Class::Small, epoch: EpochId([1; 32]) };
        let epochs = epochs.iter().map(|byte| EpochId([*byte; 32])).collect();
        let manifest = Manifest { profile, len, epochs, body: Body::Inline(chunks) };
        let file = FileContent {
            mtime: FileTime { secs: 0, nanos: 0 },
            executable: false,
            hash: ContentHash([0; 32]),
            manifest,
        };
        value::check(&Write::Content(Some(Content::File(file)))).is_err()
    };
    assert!(!refused(0, &[], vec![]));
    assert!(!refused(7, &[1, 2], vec![chunk(3, 0), chunk(4, 1)]));
    assert!(refused(8, &[1, 2], vec![chunk(3, 0), chunk(4, 1)]), "sum");
    assert!(refused(3, &[1, 2], vec![chunk(3, 0)]), "an epoch without use");
    assert!(refused(7, &[1, 1], vec![chunk(3, 0), chunk(4, 1)]), "an epoch twice");
    assert!(refused(7, &[1, 2], vec![chunk(3, 1), chunk(4, 0)]), "not in order of first use");
    assert!(refused(3, &[], vec![chunk(3, 0)]), "an epoch beyond the table");
    assert!(refused(0, &[1], vec![chunk(0, 0)]), "an empty chunk");
    assert!(refused(9, &[1], vec![chunk(1, 0); 9]), "too many");
    assert!(refused((4 << 20) + 1, &[1], vec![chunk((4 << 20) + 1, 0)]), "too long");
}

#[test]
fn a_key_is_read_back_and_nothing_else_is() {
    let key = Key { item: FileId([0xfb; 16]), register: Register::Meta };
    assert_eq!(Key::parse(key.to_string().as_bytes()), Ok(key));
    assert_eq!(key.to_string().len(), 23);
    for text in [
        "",
        "m",
        "AAAAAAAAAAAAAAAAAAAAAm",
        "AAAAAAAAAAAAAAAAAAAAAAAm",
        "AAAAAAAAAAAAAAAAAAAAABm",
        "AAAAAAAAAAAAAAAAAAAA+Am",
    ] {
        assert_eq!(Key::parse(text.as_bytes()), Err(ChangeError::Key), "{text}");
    }
}
