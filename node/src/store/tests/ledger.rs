//! The store as the tree's ledger: against the one in memory, and under a real tree.

use std::sync::Arc;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use zerocloud_crdt::base::BaseRead;

use super::crash::CrashDisk;
use super::*;
use crate::tree::versions::VersionRow;
use crate::tree::{Commit, Deed, Intents, Ledger, MemoryLedger};

fn ledger() -> StoreLedger {
    StoreLedger::new(Arc::new(in_memory())).unwrap()
}

fn rows() -> impl Strategy<Value = (RowKey, BaseRow)> {
    (0..3_u8, "[a-c]", 0..4_u8, 0..3_u8)
        .prop_map(|(parent, at, of, content)| (key(parent, &at), row(of, of, Kind::File, content, 1)))
}

fn deeds() -> impl Strategy<Value = Deed> {
    let temp = "del-[0-9a-f]{1,20}";
    let aside = proptest::option::of(temp);
    prop_oneof![
        (rows(), temp).prop_map(|((key, new), temp)| Deed::Create { key, new, temp }),
        rows().prop_map(|(key, new)| Deed::CreateDirectory { key, new }),
        (rows(), rows(), temp, aside).prop_map(|((key, new), (_, old), temp, aside)| Deed::Replace {
            key,
            old,
            new,
            temp,
            aside
        }),
        (rows(), temp).prop_map(|((key, old), stored)| Deed::Delete { key, old, stored }),
        (rows(), rows(), any::<u64>()).prop_map(|((from, _), (to, new), inode)| Deed::Move { from, to, inode, new }),
        (rows(), any::<Option<u64>>()).prop_map(|((key, _), inode)| Deed::RemoveDirectory { key, inode }),
        rows().prop_map(|(key, new)| Deed::SetMeta { key, new }),
    ]
}

fn commits() -> impl Strategy<Value = Commit> {
    let base = vec((rows(), any::<bool>()), 0..4)
        .prop_map(|rows| rows.into_iter().map(|((key, row), is_there)| (key, is_there.then_some(row))).collect());
    let versions = btree_map("v[a-c]", (rows(), any::<bool>(), -2..3_i64), 0..3).prop_map(|versions| {
        let version = |(stored, ((key, row), is_known, kept_at_ms)): (String, ((RowKey, BaseRow), bool, i64))| {
            let print = row.print;
            VersionRow { stored, origin: is_known.then_some((key, row)), print, kept_at_ms }
        };
        versions.into_iter().map(version).collect()
    });
    let displaced = btree_map("d[a-c]", 0..4_u8, 0..3)
        .prop_map(|all| all.into_iter().map(|(stored, of)| displaced(&stored, of)).collect());
    (base, versions, displaced, btree_set((0..9_u8).prop_map(id), 0..3))
        .prop_map(|(base, versions, displaced, done)| Commit { base, versions, displaced, done, ..Commit::default() })
}

#[derive(Clone, Debug)]
enum Step {
    Note(Intents),
    Commit(Commit),
    Confirm(String, i64),
    RemoveVersion(String),
}

fn steps() -> impl Strategy<Value = Step> {
    let intents = (any::<u64>(), vec(deeds(), 0..12)).prop_map(|(tmp_inode, deeds)| Intents { tmp_inode, deeds });
    prop_oneof![
        intents.prop_map(Step::Note),
        commits().prop_map(Step::Commit),
        ("d[a-c]", -2..3_i64).prop_map(|(stored, kept_at_ms)| Step::Confirm(stored, kept_at_ms)),
        "[dv][a-c]".prop_map(Step::RemoveVersion),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_ledger_answers_as_the_model_does(steps in vec(steps(), 1..12)) {
        let (mut ledger, mut model, mut pending) = (ledger(), MemoryLedger::default(), std::collections::BTreeSet::new());
        for step in steps {
            match step {
                Step::Note(intents) => {
                    ledger.note_intents(intents.clone()).unwrap();
                    let Ok(()) = model.note_intents(intents);
                }
                Step::Commit(commit) => {
                    pending.extend(&commit.done);
                    for (key, row) in &commit.base {
                        pending.extend(model.base.all().get(key).into_iter().chain(row).map(|row| row.source));
                    }
                    ledger.commit(commit.clone()).unwrap();
                    let Ok(()) = model.commit(commit);
                }
                Step::Confirm(stored, kept_at_ms) => {
                    ledger.confirm_displaced(&stored, kept_at_ms, None).unwrap();
                    model.confirm(&stored, kept_at_ms, None);
                }
                Step::RemoveVersion(stored) => {
                    prop_assert_eq!(ledger.remove_version(&stored).unwrap(), model.versions.remove(&stored));
                }
            }
            prop_assert_eq!(ledger.intents().unwrap(), model.intents.clone());
            prop_assert_eq!(ledger.displaced().unwrap(), model.displaced.values().cloned().collect::<Vec<_>>());
            let mut versions = ledger.snapshot().all_versions().unwrap();
            versions.sort_by(|a, b| a.stored.cmp(&b.stored));
            prop_assert_eq!(versions, model.versions.values().cloned().collect::<Vec<_>>());
            for (key, row) in model.base.all() {
                prop_assert_eq!(ledger.row(key).unwrap(), Some(row.clone()));
            }
            prop_assert_eq!(ledger.snapshot().base_counts().files, model.base.all().len() as u64);
            for stored in ["da", "db", "dc", "va", "vb", "vc", "w"] {
                prop_assert_eq!(ledger.is_stored(stored).unwrap(), model.is_stored(stored).unwrap());
            }
            let all = ledger.snapshot().pending(usize::MAX).unwrap();
            prop_assert_eq!(all, pending.iter().copied().collect::<Vec<_>>());
            let snapshot = ledger.snapshot();
            prop_assert_eq!(&snapshot.cache, &Cache::load(&snapshot.tables).unwrap());
        }
    }
}

#[test]
fn a_full_batch_of_intents_comes_back() {
    let mut ledger = ledger();
    let long = "n".repeat(200);
    let deed = |n: u64| Deed::Replace {
        key: key(0, &format!("{long}{n}")),
        old: row(1, 1, Kind::File, 1, n),
        new: row(1, 1, Kind::File, 2, n + 1),
        temp: format!("put-{n}"),
        aside: None,
    };
    let intents = Intents { tmp_inode: 1, deeds: (0..10_000).map(deed).collect() };
    ledger.note_intents(intents.clone()).unwrap();
    assert!(ledger.intents().unwrap().as_ref() == Some(&intents));
    let few = Intents { tmp_inode: 2, deeds: Vec::new() };
    ledger.note_intents(few.clone()).unwrap();
    assert_eq!(ledger.intents().unwrap(), Some(few), "nothing of the earlier ones is left");
    ledger.commit(Commit::default()).unwrap();
    assert_eq!(ledger.intents().unwrap(), None);
}

#[test]
fn what_a_batch_settles_is_not_pending_unless_something_came_for_it_since() {
    let store = Arc::new(in_memory());
    let mut ledger = StoreLedger::new(store.clone()).unwrap();
    store.write(|write| write.put_pending(&[id(1), id(2)])).unwrap();
    let seen = store.snapshot().unwrap().generation();
    // Another device was quicker than the batch.
    store.write(|write| write.put_pending(&[id(2)])).unwrap();
    let base = [1, 2, 3].map(|of| (key(0, &of.to_string()), Some(row(of, of, Kind::File, 1, 1)))).into();
    let settled = [(id(1), seen), (id(2), seen)].into();
    ledger.commit(Commit { base, done: [id(3)].into(), settled, ..Commit::default() }).unwrap();
    assert_eq!(store.snapshot().unwrap().pending(9).unwrap(), [id(2), id(3)]);
}

#[test]
fn what_others_write_shows_after_a_refresh() {
    let mut ledger = ledger();
    let file = row(1, 1, Kind::File, 1, 1);
    let changes = BTreeMap::from([(key(0, "x"), Some(file.clone()))]);
    ledger.store().write(|write| write.apply_base(&changes)).unwrap();
    assert_eq!(ledger.row(&key(0, "x")).unwrap(), None);
    ledger.refresh().unwrap();
    assert_eq!(ledger.row(&key(0, "x")).unwrap(), Some(file));
}

#[test]
fn threat_42_a_ledger_whose_commit_failed_says_nothing_that_power_loss_may_make_untrue() {
    let intents = Intents { tmp_inode: 1, deeds: Vec::new() };
    let mut silent_count = 0;
    for step_count in 0.. {
        let disk = CrashDisk::default();
        let store = Arc::new(SpaceStore::with_backend(disk.clone(), SPACE).unwrap());
        let mut ledger = StoreLedger::new(store.clone()).unwrap();
        disk.fail_after(step_count);
        if ledger.note_intents(intents.clone()).is_ok() {
            break;
        }
        let told = ledger.intents();
        if let Err(error) = &told {
            assert!(matches!(error, StoreError::FailedBefore), "{error}");
            assert!(
                ledger.is_stored("x").is_err() && ledger.rows(FileId::ROOT).is_err() && ledger.displaced().is_err()
            );
            assert!(ledger.refresh().is_err() && StoreLedger::new(store).is_err());
            silent_count += 1;
        }
        for seed in 0..4 {
            let store = SpaceStore::with_backend(disk.after_power_loss(seed), SPACE).unwrap();
            let found = StoreLedger::new(Arc::new(store)).unwrap().intents().unwrap();
            assert!(found.is_none() || found.as_ref() == Some(&intents));
            assert!(told.as_ref().map_or(true, |told| *told == found), "step {step_count}: {told:?}, then {found:?}");
        }
    }
    assert!(silent_count > 0);
}

#[cfg(target_os = "linux")]
mod on_a_real_tree {
    use std::fs;
    use std::path::PathBuf;

    use tempfile::TempDir;
    use zerocloud_crdt::plan::Action;
    use zerocloud_crdt::view::ViewEntry;

    use super::*;
    use crate::clock::WallTime;
    use crate::tree::TempNames;
    use crate::tree::marker::Marker;
    use crate::tree::materialise::{Batch, Job, Materialiser, Outcome, Trust};
    use crate::tree::stage::{FileSpec, Staging};
    use crate::volume::{LinuxVolume, Volume};

    const NOW: WallTime = WallTime(5_000_000);

    struct Folder {
        directory: TempDir,
        volume: Arc<LinuxVolume>,
        names: Arc<TempNames>,
        materialiser: Materialiser,
        disk: CrashDisk,
        ledger: StoreLedger,
    }

    impl Folder {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let volume = Arc::new(LinuxVolume::open(directory.path()).unwrap());
            Marker { space: SPACE, counter: 1 }.write(&*volume).unwrap();
            let (names, disk) = (Arc::new(TempNames::new(1)), CrashDisk::default());
            let materialiser = Materialiser::new(volume.clone(), names.clone());
            let ledger = Self::open(&disk);
            Self { directory, volume, names, materialiser, disk, ledger }
        }

        fn open(disk: &CrashDisk) -> StoreLedger {
            StoreLedger::new(Arc::new(SpaceStore::with_backend(disk.clone(), SPACE).unwrap())).unwrap()
        }

        /// The power fails, and the store is opened again.
        fn lose_power(&mut self) {
            self.disk = self.disk.after_power_loss(7);
            self.ledger = Self::open(&self.disk);
            let recovered = self.materialiser.recover(&mut self.ledger, Trust::Same, NOW).unwrap();
            assert_eq!(recovered.garbage_count, 0);
        }

        fn path(&self, path: &str) -> PathBuf {
            self.directory.path().join(path)
        }

        fn stored(&self, stored: &str) -> Vec<u8> {
            fs::read(self.path(".zerocloud/versions").join(stored)).unwrap()
        }

        fn row(&self) -> Option<BaseRow> {
            self.ledger.row(&key(0, "f")).unwrap()
        }

        fn run(&mut self, action: Action, content: &[u8]) -> Batch {
            let staging = Staging::new(&*self.volume, self.names.clone()).unwrap();
            let staged = match &action {
                Action::Create { entry, .. } => {
                    Some(staging.stage_whole(&FileSpec::of_entry(entry, None), content).unwrap())
                }
                Action::Replace { entry, old, .. } => {
                    Some(staging.stage_whole(&FileSpec::of_entry(entry, Some(old)), content).unwrap())
                }
                _ => None,
            };
            let batch = self.materialiser.run(&mut self.ledger, &[Job { action, staged, single: None }], NOW).unwrap();
            assert_eq!(self.ledger.intents().unwrap(), None);
            batch
        }
    }

    fn entry(content: &[u8]) -> ViewEntry {
        ViewEntry {
            id: id(1),
            source: id(1),
            parent: FileId::ROOT,
            name: name("f"),
            kind: Kind::File,
            content_ops: [op(1)].into(),
            meta_ops: [op(1)].into(),
            hash: ContentHash::of(content),
            len: content.len() as u64,
            mtime: None,
            executable: false,
        }
    }

    fn create(folder: &mut Folder) {
        let batch = folder.run(Action::Create { key: key(0, "f"), entry: entry(b"first") }, b"first");
        assert!(matches!(batch.outcomes[..], [Outcome::Done(_)]), "{:?}", batch.outcomes);
    }

    #[test]
    fn what_is_replaced_or_deleted_is_a_version_after_power_loss() {
        let mut folder = Folder::new();
        create(&mut folder);
        let first = folder.row().unwrap();
        let replace = Action::Replace { key: key(0, "f"), old: first.clone(), entry: entry(b"second") };
        folder.run(replace, b"second");
        assert_eq!(fs::read(folder.path("f")).unwrap(), b"second");
        folder.lose_power();
        let second = folder.row().unwrap();
        assert_eq!(second.hash, ContentHash::of(b"second"));
        folder.run(Action::Delete { key: key(0, "f"), old: second.clone() }, b"");
        assert!(!folder.path("f").exists());
        folder.lose_power();
        assert_eq!(folder.row(), None);
        let snapshot = folder.ledger.snapshot();
        assert_eq!(snapshot.base_counts(), BaseCounts::default());
        assert_eq!(snapshot.pending(9).unwrap(), [id(1)]);
        assert_eq!(snapshot.version_counts(), VersionCounts { versions: 2, bytes: 11 });
        for (row, content) in [(first, &b"first"[..]), (second, b"second")] {
            let [version] = &snapshot.versions_by_hash(row.hash).unwrap()[..] else { panic!("not one version") };
            assert_eq!(version.origin, Some((key(0, "f"), row)));
            assert_eq!(version.kept_at_ms, NOW.as_milliseconds());
            assert_eq!(folder.stored(&version.stored), content);
        }
    }

    #[test]
    fn a_local_edit_that_was_displaced_waits_through_power_loss_until_it_is_published() {
        let mut folder = Folder::new();
        create(&mut folder);
        let old = folder.row().unwrap();
        // An intent that was noted, after which the user saved over the file, and the deed was done.
        fs::write(folder.path("f"), b"a local edit").unwrap();
        let stored = "del-0000000000000009-0".to_owned();
        let deed = Deed::Delete { key: key(0, "f"), old: old.clone(), stored: stored.clone() };
        let control = folder.volume.control().unwrap();
        let tmp_inode = control.tmp.stat_self().unwrap().ino;
        folder.ledger.note_intents(Intents { tmp_inode, deeds: vec![deed] }).unwrap();
        fs::rename(folder.path("f"), folder.path(".zerocloud/versions").join(&stored)).unwrap();
        folder.lose_power();
        let [displaced] = &folder.ledger.displaced().unwrap()[..] else { panic!("not one displaced file") };
        assert_eq!((&displaced.stored, &displaced.key, &displaced.row), (&stored, &key(0, "f"), &old));
        assert_eq!(folder.stored(&stored), b"a local edit");
        assert_eq!(folder.row(), None);
        folder.lose_power();
        assert_eq!(folder.ledger.displaced().unwrap().len(), 1);
        assert!(folder.ledger.is_stored(&stored).unwrap());
        assert!(!folder.ledger.snapshot().has_content(old.hash).unwrap(), "base never knew its content");

        folder.ledger.confirm_displaced(&stored, 9, None).unwrap();
        folder.lose_power();
        assert_eq!(folder.ledger.displaced().unwrap(), []);
        assert_eq!(folder.ledger.snapshot().versions_kept_before(9, 9).unwrap()[0].stored, stored);
        assert_eq!(folder.stored(&stored), b"a local edit");
        assert!(folder.ledger.remove_version(&stored).unwrap().is_some());
        assert!(!folder.ledger.is_stored(&stored).unwrap());
    }
}
