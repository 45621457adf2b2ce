//! Two devices with real folders, spaces on redb, and the memory link between them.

mod ignoring;
mod lacking;
mod links;
mod merging;
mod naming;
mod obstacles;
mod selecting;
mod serving;
mod telling;

use std::collections::BTreeMap;
use std::path::Path;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use zerocloud_crdt::id::{ActorId, ContentHash, DeviceId};
use zerocloud_crdt::keys::EpochSecret;
use zerocloud_crdt::log::{LogRead, SignedFrontier};
use zerocloud_crdt::name::Name;
use zerocloud_crdt::projection::NameRules;

use super::arriving::Arrivals;
use super::serve::FolderChunks;
use super::work::FolderParts;
use super::*;
use crate::answers::history::PastVersion;
use crate::clock::SystemClock;
use crate::engine::founding::{Founding, founding};
use crate::engine::replica::Replica;
use crate::fetcher::{Fetcher, Supply};
use crate::link::memory::MemoryNet;
use crate::link::{Admission, Link, Protocol};
use crate::session::{self, Presence, Spaces};
use crate::space::SpaceHandle;
use crate::store::{Awaited, PeerRow, SpaceStore, StoreError, values};
use crate::tree::marker::Marker;
use crate::tree::versions::Retention;
use crate::tree::{Keyring, TempNames};

struct Device {
    dir: TempDir,
    link: Arc<dyn Link>,
    spaces: Spaces,
    handle: SpaceHandle,
    folder: FolderHandle,
    fetcher: Fetcher,
    store: Arc<SpaceStore>,
    heard: Arc<telling::Heard>,
}

impl Device {
    fn start(founding: &Founding, n: usize, link: Arc<dyn Link>) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), founding, n, link, None)
    }

    /// With a folder that is there already. `told`: whose index is to be read first, and its signed frontier.
    fn start_in(
        dir: TempDir,
        founding: &Founding,
        n: usize,
        link: Arc<dyn Link>,
        told: Option<(DeviceId, Vec<u8>)>,
    ) -> Self {
        Self::start_under(None, dir, founding, n, link, told)
    }

    /// The same with names under some rules, in place of the disk's own.
    fn start_under(
        name_rules: Option<NameRules>,
        dir: TempDir,
        founding: &Founding,
        n: usize,
        link: Arc<dyn Link>,
        told: Option<(DeviceId, Vec<u8>)>,
    ) -> Self {
        let store = SpaceStore::with_backend(redb::backends::InMemoryBackend::new(), founding.space).unwrap();
        let store = Arc::new(store);
        Marker { space: founding.space, counter: 1 }.write(&LinuxVolume::open(dir.path()).unwrap()).unwrap();
        store.write::<_, StoreError>(|write| write.set(values::MARKER_COUNTER, &1)).unwrap();
        if let Some((member, frontier)) = told {
            store
                .write::<_, StoreError>(|write| {
                    write.put_peer(member, &PeerRow { frontier, ..PeerRow::default() })?;
                    write.set(values::AWAITS_INDEX, &Awaited::Member(member))
                })
                .unwrap();
        }
        let secrets = [EpochSecret::clone(&founding.secret)];
        let keyring = Arc::new(Keyring::new(&secrets[0], []));
        let mailbox = Mailbox::new();
        let suite = zerocloud_crdt::seal::Suite::fastest();
        let path = dir.path().to_path_buf();
        let arrivals = Arc::<Arrivals>::default();
        let (to_folder, offered) = (mailbox.sender(), arrivals.clone());
        let chunks = FolderChunks::new(store.clone(), path.clone(), keyring.clone(), suite, to_folder, offered);
        let (identity, records, shelf) = (founding.identity(n), founding.records.clone(), store.clone());
        let actor = ActorId::of_log(founding.space, identity.log);
        let heard = Arc::<telling::Heard>::default();
        let make = move || {
            let mut rng = ChaCha20Rng::seed_from_u64(n as u64);
            (Replica::open(shelf, records, identity, &mut rng).unwrap(), rng)
        };
        let plan = std::sync::Mutex::new(mailbox.sender());
        let plan = move |items| drop(plan.lock().unwrap().send(Message::Plan(items)));
        let handle = SpaceHandle::start(founding.space, make, Arc::new(chunks), plan).unwrap();
        let runtime = tokio::runtime::Handle::current();
        let fetcher = Fetcher::start(
            founding.space,
            founding.keys[n].id(),
            keyring.clone(),
            Arc::new(Semaphore::new(2)),
            runtime,
        );
        let parts = FolderParts {
            path,
            store: store.clone(),
            log: Arc::new(handle.clone()),
            supply: Arc::new(fetcher.clone()),
            arrivals,
            keyring,
            secrets: Arc::new(secrets.into_iter().map(|secret| (secret.epoch, secret)).collect()),
            clock: Arc::new(SystemClock::new()),
            retention: Retention::default(),
            merges: true,
            guard: crate::config::Guard::Strict,
            scan_room: 300,
            is_confined: true,
            boot_id: crate::clock::boot_id(),
            name_rules,
            names: Arc::new(TempNames::new(n as u64)),
            device: founding.keys[n].id(),
            actor,
            listener: heard.clone(),
        };
        let folder = FolderHandle::start(parts, mailbox, false).unwrap();
        let spaces = Spaces::default();
        spaces.insert(handle.clone());
        let device = Self { dir, link, spaces, handle, folder, fetcher, store, heard };
        device.accept();
        device
    }

    fn accept(&self) {
        let (link, spaces, fetcher) = (self.link.clone(), self.spaces.clone(), self.fetcher.clone());
        tokio::spawn(async move {
            while let Some(conn) = link.accept().await {
                let (greeted, is_greeted) = oneshot::channel();
                tokio::spawn(session::run(conn.clone(), spaces.clone(), presence(), greeted));
                is_greeted.await.unwrap();
                fetcher.connect(conn, 1);
            }
        });
    }

    async fn dial(&self, peer: &Self) {
        let conn = self.link.dial(peer.link.id(), Protocol::Sync, &peer.link.addresses()).await.unwrap();
        let (greeted, is_greeted) = oneshot::channel();
        let spaces = self.spaces.clone();
        tokio::spawn(session::run(conn.clone(), spaces, presence(), greeted));
        is_greeted.await.unwrap();
        self.fetcher.connect(conn, 1);
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Everything in the folder but our own directory: path to hash of the content, `None` for directories.
    fn tree(&self) -> BTreeMap<String, Option<String>> {
        let mut tree = BTreeMap::new();
        let mut stack = vec![self.path().to_path_buf()];
        while let Some(directory) = stack.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let shown = path.strip_prefix(self.path()).unwrap().to_str().unwrap().to_owned();
                if shown == ".zerocloud" {
                    continue;
                }
                if path.is_dir() {
                    tree.insert(shown, None);
                    stack.push(path);
                } else {
                    let hash = blake3::hash(&std::fs::read(path).unwrap()).to_hex();
                    tree.insert(shown, Some(hash[..8].to_owned()));
                }
            }
        }
        tree
    }
}

fn presence() -> Presence {
    Presence { agent: "test".into(), name: Name::parse(b"device").unwrap(), addresses: Vec::new() }
}

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn agree(a: &Device, b: &Device) {
    let mut was_so = false;
    a.folder.rescan().await.unwrap();
    b.folder.rescan().await.unwrap();
    loop {
        let (peer_a, peer_b) = (a.link.id(), b.link.id());
        let both = a.handle.look(move |facts| facts.is_in_sync(peer_b)).await.unwrap()
            && b.handle.look(move |facts| facts.is_in_sync(peer_a)).await.unwrap();
        let is_so = both && [a, b].iter().all(|device| device.folder.state().phase == Phase::Idle);
        if is_so && was_so {
            return;
        }
        was_so = is_so;
        if is_so {
            // What the folder was told of what came last, and did not come to yet, it comes to before this.
            a.folder.rescan().await.unwrap();
            b.folder.rescan().await.unwrap();
        } else {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Two devices of one space that are not connected.
fn apart(seed: u64) -> (Device, Device) {
    let founding = founding(2, seed);
    let net = MemoryNet::new();
    let link = |n: usize| -> Arc<dyn Link> { Arc::new(net.join(founding.keys[n].id(), Admission::new(|_, _| true))) };
    (Device::start(&founding, 0, link(0)), Device::start(&founding, 1, link(1)))
}

async fn two(seed: u64) -> (Device, Device) {
    let (a, b) = apart(seed);
    a.dial(&b).await;
    (a, b)
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rand_core::Rng::fill_bytes(&mut ChaCha20Rng::from_seed([seed; 32]), &mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_makes_the_other_has() {
    let (a, b) = two(1).await;
    std::fs::create_dir_all(a.path().join("deep/er")).unwrap();
    std::fs::write(a.path().join("deep/er/small"), b"hello").unwrap();
    std::fs::write(a.path().join("empty"), b"").unwrap();
    std::fs::write(a.path().join("large"), noise(5_000_000, 1)).unwrap();
    std::os::unix::fs::symlink("../out", a.path().join("link")).unwrap();
    until(|| b.path().join("large").exists() && b.path().join("deep/er/small").exists()).await;
    agree(&a, &b).await;
    assert_eq!(std::fs::read_link(b.path().join("link")).unwrap(), Path::new("../out"));
    for file in [&a, &b] {
        std::fs::remove_file(file.path().join("link")).unwrap();
    }
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
    assert_eq!(b.tree().len(), 5);
    assert_eq!(b.fetcher.missing_count(), 0);
    assert_eq!(b.store.snapshot().unwrap().pending_count().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_before_a_large_file_sends_little_of_it() {
    let (a, b) = two(7).await;
    let content = noise(6_000_000, 9);
    std::fs::write(a.path().join("large"), &content).unwrap();
    agree(&a, &b).await;
    let moved = [b"x", &content[..]].concat();
    let hash = ContentHash::of(&moved);
    std::fs::write(a.path().join("next"), &moved).unwrap();
    std::fs::rename(a.path().join("next"), a.path().join("large")).unwrap();
    agree(&a, &b).await;
    assert_eq!(std::fs::read(b.path().join("large")).unwrap(), moved);
    // What b had of it is what it did not ask for: all but the chunk that has the byte in it.
    let known: BTreeSet<_> =
        b.store.snapshot().unwrap().chunk_list(ContentHash::of(&content)).unwrap().unwrap().into_iter().collect();
    let wanted = b.store.snapshot().unwrap().chunk_list(hash).unwrap().unwrap();
    let new_count = wanted.iter().filter(|chunk| !known.contains(*chunk)).count();
    assert!(new_count <= 2 && wanted.len() > 50, "{new_count} of {} chunks are new", wanted.len());
    let sent: u64 = b.fetcher.received_len();
    assert!(sent < 6_000_000 + 1_000_000, "{sent} bytes came for two versions");
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_moves_and_deletions_go_both_ways() {
    let (a, b) = two(2).await;
    for n in 0..30 {
        std::fs::create_dir_all(a.path().join(format!("d{}", n % 3))).unwrap();
        std::fs::write(a.path().join(format!("d{}/f{n}", n % 3)), noise(n * 997, n as u8)).unwrap();
    }
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
    std::fs::rename(b.path().join("d1"), b.path().join("moved")).unwrap();
    std::fs::write(b.path().join("d2/f2"), b"another").unwrap();
    std::fs::remove_dir_all(b.path().join("d0")).unwrap();
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
    assert!(a.path().join("moved/f1").exists() && !a.path().join("d0").exists());
    assert_eq!(std::fs::read(a.path().join("d2/f2")).unwrap(), b"another");
    // A swap.
    std::fs::rename(a.path().join("d2/f2"), a.path().join("x")).unwrap();
    std::fs::rename(a.path().join("d2/f5"), a.path().join("d2/f2")).unwrap();
    std::fs::rename(a.path().join("x"), a.path().join("d2/f5")).unwrap();
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
    assert_eq!(std::fs::read(b.path().join("d2/f5")).unwrap(), b"another");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_on_both_sides_leaves_both_texts_on_both() {
    let (a, b) = apart(3);
    std::fs::write(a.path().join("note.txt"), b"from a").unwrap();
    std::fs::write(b.path().join("note.txt"), b"from b").unwrap();
    a.folder.rescan().await.unwrap();
    b.folder.rescan().await.unwrap();
    a.dial(&b).await;
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
    let tree = a.tree();
    assert_eq!(tree.len(), 2, "{tree:?}");
    assert!(tree.keys().any(|name| name.starts_with("note (conflict device")), "{tree:?}");
}

/// More files than the guard lets go at once.
const MANY: usize = 1_600;

async fn many_deleted() -> (Device, Device) {
    let (a, b) = two(4).await;
    for n in 0..MANY {
        std::fs::write(a.path().join(format!("f{n}")), n.to_string()).unwrap();
    }
    agree(&a, &b).await;
    for n in 0..MANY {
        std::fs::remove_file(a.path().join(format!("f{n}"))).unwrap();
    }
    a.folder.rescan().await.unwrap();
    let frontier = |device: &Device| LogRead::frontier(&device.store.snapshot().unwrap()).unwrap();
    let is_decided = || {
        let snapshot = b.store.snapshot().unwrap();
        // All but what is held is done with.
        snapshot.held_count().unwrap() > 0 && snapshot.pending_count().unwrap() == snapshot.held_count().unwrap()
    };
    until(|| frontier(&a) == frontier(&b) && is_decided() && b.folder.state().phase == Phase::Held).await;
    (a, b)
}

async fn decide(device: &Device, decision: Decision) {
    let (done, answer) = oneshot::channel();
    device.folder.tell(Message::Held(decision, done));
    answer.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_deletion_waits_for_the_user_who_lets_it_go() {
    let (a, b) = many_deleted().await;
    let left = b.tree().len();
    assert!(left >= MANY / 4, "only {left} are left");
    std::fs::write(a.path().join("other"), b"goes on").unwrap();
    until(|| b.path().join("other").exists()).await;
    assert_eq!(b.store.snapshot().unwrap().held_count().unwrap(), left as u64);
    decide(&b, Decision::Accept).await;
    agree(&a, &b).await;
    assert_eq!(b.tree().len(), 1);
    assert_eq!(b.store.snapshot().unwrap().held_count().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_deletion_that_the_user_rejects_is_undone_everywhere() {
    let (a, b) = many_deleted().await;
    let left = b.tree();
    decide(&b, Decision::Reject).await;
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
    for (path, hash) in &left {
        assert_eq!(a.tree().get(path), Some(hash), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_folder_joins_without_copies_and_brings_nothing_back() {
    let founding = founding(2, 5);
    let net = MemoryNet::new();
    let link = |n: usize| -> Arc<dyn Link> { Arc::new(net.join(founding.keys[n].id(), Admission::new(|_, _| true))) };
    let a = Device::start(&founding, 0, link(0));
    let old = tempfile::tempdir().unwrap();
    for dir in [a.path(), old.path()] {
        std::fs::create_dir_all(dir.join("kept/deep")).unwrap();
        std::fs::create_dir(dir.join("gone")).unwrap();
        for name in ["same", "edited", "deleted", "gone/inside", "kept/deep/same"] {
            std::fs::write(dir.join(name), format!("first {name}")).unwrap();
        }
    }
    a.folder.rescan().await.unwrap();
    std::fs::write(a.path().join("edited"), b"second").unwrap();
    std::fs::remove_file(a.path().join("deleted")).unwrap();
    std::fs::remove_dir_all(a.path().join("gone")).unwrap();
    std::fs::write(a.path().join("new"), b"new").unwrap();
    a.folder.rescan().await.unwrap();
    // Only here: an edit of its own.
    std::fs::write(old.path().join("mine"), b"mine").unwrap();
    let frontier = LogRead::frontier(&a.store.snapshot().unwrap()).unwrap();
    let signed = SignedFrontier::sign(&founding.keys[0].signing_key(), founding.space, frontier).unwrap();
    let told = Some((founding.keys[0].id(), signed.as_bytes().to_vec()));
    let b = Device::start_in(old, &founding, 1, link(1), told);
    a.dial(&b).await;
    until(|| a.path().join("mine").exists()).await;
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
    let names: Vec<String> = a.tree().into_keys().collect();
    assert_eq!(names, ["edited", "kept", "kept/deep", "kept/deep/same", "mine", "new", "same"]);
    assert_eq!(std::fs::read(b.path().join("edited")).unwrap(), b"second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_comes_back_where_it_stood_and_to_every_device() {
    let (a, b) = two(6).await;
    std::fs::create_dir(a.path().join("d")).unwrap();
    std::fs::write(a.path().join("d/file"), noise(300_000, 1)).unwrap();
    let first_hash = ContentHash::of(&noise(300_000, 1));
    agree(&a, &b).await;
    std::fs::write(a.path().join("d/file"), b"second").unwrap();
    agree(&a, &b).await;
    std::fs::remove_dir_all(a.path().join("d")).unwrap();
    agree(&a, &b).await;
    assert!(!b.path().join("d").exists());
    // Only b has kept it: a's own edit and deletion kept nothing there.
    let snapshot = a.store.snapshot().unwrap();
    let path = [b"d".to_vec(), b"file".to_vec()];
    let crate::answers::paths::Spot::Gone(item) = crate::answers::paths::find(&snapshot, &path).unwrap() else {
        panic!("it is deleted")
    };
    let secrets = [(founding(2, 6).secret.epoch, founding(2, 6).secret)].into_iter().collect();
    let versions = crate::answers::history::versions_of(&snapshot, &secrets, item).unwrap();
    // A scan in the middle of the write may have made a version of its own.
    let is_first = |version: &&PastVersion| version.content.as_ref().map(Content::hash) == Some(first_hash);
    let first = versions.iter().rev().find(is_first).unwrap().clone();
    drop(snapshot);
    let (done, answer) = oneshot::channel();
    let path = path.iter().map(|name| Name::parse(name).unwrap()).collect();
    let mtime = FileTime { secs: 1_000_000_000, nanos: 0 };
    let restoring = Restoring { path, source: item, op: first.op, content: first.content.unwrap(), mtime, done };
    a.folder.tell(Message::Restore(Box::new(restoring)));
    answer.await.unwrap().unwrap();
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
    assert_eq!(std::fs::read(b.path().join("d/file")).unwrap(), noise(300_000, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_awaited_are_counted_with_their_lengths_until_they_are_written() {
    let (a, b) = apart(8);
    std::fs::write(a.path().join("one"), noise(100_000, 1)).unwrap();
    std::fs::write(a.path().join("two"), noise(23_456, 2)).unwrap();
    a.folder.rescan().await.unwrap();
    // It hears of them, and has nobody to ask for their bytes.
    let conn = b.link.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
    let (greeted, is_greeted) = oneshot::channel();
    tokio::spawn(session::run(conn.clone(), b.spaces.clone(), presence(), greeted));
    is_greeted.await.unwrap();
    let waiting = |device: &Device| {
        let state = device.folder.state();
        (state.waiting_files, state.waiting_bytes, state.written)
    };
    until(|| waiting(&b) == (2, 123_456, (0, 0))).await;
    b.fetcher.connect(conn, 1);
    b.folder.tell(Message::Connected);
    until(|| waiting(&b) == (0, 0, (2, 123_456))).await;
}
