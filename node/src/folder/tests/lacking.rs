//! Versions that nobody has any more: how they show, and how a user ends them.

use zerocloud_crdt::log::Frontier;
use zerocloud_crdt::rewind::Former;

use super::*;

/// Longer than what follows its entry unasked.
fn content(seed: u8) -> Vec<u8> {
    noise(100_000, seed)
}

/// Two devices, of which `b` knows of a file that `a` wrote and then lost, unseen; before it, both had `older`. Where
/// what `a` lost lies is given, too.
async fn with_lost(seed: u64, older: Option<&[u8]>) -> (Device, Device, std::path::PathBuf) {
    let (a, b) = two(seed).await;
    if let Some(older) = older {
        std::fs::write(a.path().join("file"), older).unwrap();
    }
    agree(&a, &b).await;
    pause(&b, true).await;
    std::fs::write(a.path().join("file"), content(1)).unwrap();
    a.folder.rescan().await.unwrap();
    until(|| frontier(&a) == frontier(&b)).await;
    pause(&a, true).await;
    let aside = a.path().join(".zerocloud/aside");
    std::fs::rename(a.path().join("file"), &aside).unwrap();
    pause(&b, false).await;
    until(|| b.folder.state().lacks.lost == 1 && b.folder.state().phase == Phase::Idle).await;
    (a, b, aside)
}

fn frontier(device: &Device) -> Frontier {
    LogRead::frontier(&device.store.snapshot().unwrap()).unwrap()
}

async fn pause(device: &Device, is_paused: bool) {
    device.folder.tell(Message::Pause(is_paused));
    until(|| (device.folder.state().phase == Phase::Paused) == is_paused).await;
}

async fn forget(device: &Device, path: &str, is_awaited_too: bool) -> Result<Vec<GivenUp>, NotForgotten> {
    let (done, answer) = oneshot::channel();
    let forgetting = Forgetting { path: path.into(), is_awaited_too, done };
    device.folder.tell(Message::Forget(Box::new(forgetting)));
    answer.await.unwrap()
}

fn names(device: &Device) -> Vec<String> {
    device.tree().into_keys().collect()
}

fn read(device: &Device) -> Vec<u8> {
    std::fs::read(device.path().join("file")).unwrap()
}

/// The versions of the one item, newest first.
fn versions(device: &Device, seed: u64) -> (FileId, Vec<PastVersion>) {
    let snapshot = device.store.snapshot().unwrap();
    let (item, _) = snapshot.items_after(None, 1).unwrap().remove(0);
    let secret = founding(2, seed).secret;
    let secrets = [(secret.epoch, secret)].into_iter().collect();
    (item, crate::answers::history::versions_of(&snapshot, &secrets, item).unwrap())
}

async fn restore(device: &Device, seed: u64, content: &[u8]) {
    let (source, versions) = versions(device, seed);
    let hash = ContentHash::of(content);
    let is_wanted = |version: &PastVersion| version.content.as_ref().map(Content::hash) == Some(hash);
    let PastVersion { op, content, .. } = versions.into_iter().find(is_wanted).unwrap();
    let (done, answer) = oneshot::channel();
    let (path, mtime) = (vec![Name::parse(b"file").unwrap()], FileTime { secs: 1_000_000_000, nanos: 0 });
    let restoring = Restoring { path, source, op, content: content.unwrap(), mtime, done };
    device.folder.tell(Message::Restore(Box::new(restoring)));
    answer.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_that_is_away_may_have_is_awaited_and_given_up_only_on_demand() {
    let (a, b) = apart(301);
    std::fs::create_dir(a.path().join("d")).unwrap();
    std::fs::write(a.path().join("d/file"), content(1)).unwrap();
    std::fs::write(a.path().join("other"), content(2)).unwrap();
    a.folder.rescan().await.unwrap();
    // It hears of them, and has nobody to ask for their bytes.
    let conn = b.link.dial(a.link.id(), Protocol::Sync, &a.link.addresses()).await.unwrap();
    let (greeted, is_greeted) = oneshot::channel();
    tokio::spawn(session::run(conn.clone(), b.spaces.clone(), presence(), greeted));
    is_greeted.await.unwrap();
    until(|| b.folder.state().lacks.awaited == 2 && b.folder.state().phase == Phase::Syncing).await;
    let state = b.folder.state();
    let paths: BTreeSet<String> = state.lacks.awaited_paths.iter().map(BytePath::to_string).collect();
    assert_eq!(paths, BTreeSet::from(["d/file".to_owned(), "other".to_owned()]));
    assert_eq!(state.lacks.lost, 0);
    assert_eq!(forget(&b, "d", false).await, Err(NotForgotten::Awaited { count: 1 }));
    assert_eq!(forget(&b, "elsewhere", true).await, Err(NotForgotten::NothingLost));
    let given_up = forget(&b, "d", true).await.unwrap();
    assert_eq!(given_up, [GivenUp { path: BytePath::from("d/file"), is_older_kept: false }]);
    b.fetcher.connect(conn, 1);
    b.folder.tell(Message::Connected);
    agree(&a, &b).await;
    assert_eq!((names(&a), names(&b)), (names(&b), vec!["d".to_owned(), "other".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_version_keeps_nothing_from_going_on_and_is_told() {
    let (a, b, _) = with_lost(302, Some(b"older")).await;
    let state = b.folder.state();
    let [(path, reason)] = state.problems.as_slice() else { panic!("{:?}", state.problems) };
    assert!(path.to_string() == "file" && reason.contains("zerocloud forget"), "{path}: {reason}");
    assert_eq!((state.waiting_files, state.waiting_bytes, state.lacks.awaited), (0, 0, 0));
    assert_eq!(read(&b), b"older");
    // Moves still happen, and other files go on.
    std::fs::rename(b.path().join("file"), b.path().join("moved")).unwrap();
    std::fs::write(b.path().join("mine"), content(3)).unwrap();
    b.folder.rescan().await.unwrap();
    let told = |state: &FolderState| state.problems.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>();
    until(|| b.folder.state().phase == Phase::Idle && told(&b.folder.state()) == ["moved"]).await;
    until(|| frontier(&a) == frontier(&b)).await;
    assert_eq!(names(&b), ["mine", "moved"]);
    assert_eq!(std::fs::read(b.path().join("moved")).unwrap(), b"older");
    // An edit of it is concurrent with what is lost, and takes the name: the lost version would be its copy.
    std::fs::write(b.path().join("moved"), b"edited").unwrap();
    b.folder.rescan().await.unwrap();
    let is_copy = |path: &String| path.starts_with("moved (conflict");
    until(|| b.folder.state().phase == Phase::Idle && told(&b.folder.state()).iter().any(is_copy)).await;
    assert_eq!(names(&b), ["mine", "moved"]);
    assert_eq!(forget(&b, "", false).await.unwrap().len(), 1);
    until(|| b.folder.state().phase == Phase::Idle && b.folder.state().lacks.lost == 0).await;
    assert_eq!(
        (names(&b), std::fs::read(b.path().join("moved")).unwrap()),
        (vec!["mine".to_owned(), "moved".to_owned()], b"edited".to_vec())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_version_that_was_given_up_leaves_what_stood_there_before_on_all_devices() {
    let (a, b, _) = with_lost(303, Some(b"older")).await;
    let given_up = forget(&b, "", false).await.unwrap();
    assert_eq!(given_up, [GivenUp { path: BytePath::from("file"), is_older_kept: true }]);
    until(|| b.folder.state().lacks.lost == 0).await;
    pause(&a, false).await;
    agree(&a, &b).await;
    assert_eq!((read(&a), read(&b)), (b"older".to_vec(), b"older".to_vec()));
    assert_eq!(names(&b), ["file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_version_that_was_given_up_is_deleted_where_there_was_nothing_before() {
    let (a, b, _) = with_lost(304, None).await;
    assert_eq!(names(&b), [""; 0]);
    let given_up = forget(&b, "file", false).await.unwrap();
    assert_eq!(given_up, [GivenUp { path: BytePath::from("file"), is_older_kept: false }]);
    pause(&a, false).await;
    agree(&a, &b).await;
    assert_eq!((names(&a), names(&b)), (Vec::new(), Vec::new()));
    assert!(b.folder.state().problems.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_comes_back_after_it_was_given_up_is_kept_as_an_older_one() {
    let (a, b, aside) = with_lost(305, Some(b"older")).await;
    forget(&b, "file", false).await.unwrap();
    std::fs::rename(aside, a.path().join("file")).unwrap();
    pause(&a, false).await;
    agree(&a, &b).await;
    assert_eq!((read(&a), names(&a)), (b"older".to_vec(), vec!["file".to_owned()]));
    restore(&b, 305, &content(1)).await;
    agree(&a, &b).await;
    assert_eq!((read(&a), read(&b)), (content(1), content(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_a_version_that_another_gave_up_meanwhile_stays() {
    let (a, b, _) = with_lost(306, Some(b"older")).await;
    std::fs::write(a.path().join("file"), content(2)).unwrap();
    forget(&b, "file", false).await.unwrap();
    pause(&a, false).await;
    agree(&a, &b).await;
    let hashes: BTreeSet<Option<String>> = b.tree().into_values().collect();
    let hash = |bytes: &[u8]| Some(blake3::hash(bytes).to_hex()[..8].to_owned());
    assert_eq!(hashes, BTreeSet::from([hash(&content(2)), hash(b"older")]));
    assert_eq!(a.tree(), b.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_an_older_version_ends_a_lost_one() {
    let (a, b, _) = with_lost(307, Some(b"oldest")).await;
    restore(&b, 307, b"oldest").await;
    until(|| b.folder.state().lacks.lost == 0).await;
    pause(&a, false).await;
    agree(&a, &b).await;
    assert_eq!((read(&a), names(&a)), (b"oldest".to_vec(), vec!["file".to_owned()]));
    assert_eq!(a.tree(), b.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_to_have_a_lost_version_ends_the_loss() {
    let (a, b, aside) = with_lost(308, Some(b"older")).await;
    std::fs::rename(aside, a.path().join("file")).unwrap();
    pause(&a, false).await;
    a.folder.rescan().await.unwrap();
    b.folder.tell(Message::Connected);
    until(|| b.folder.state().lacks.lost == 0).await;
    agree(&a, &b).await;
    assert_eq!(read(&b), content(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_only_device_of_a_space_does_not_have_is_lost() {
    let founding = founding(1, 310);
    let link = MemoryNet::new().join(founding.keys[0].id(), Admission::new(|_, _| true));
    let device = Device::start(&founding, 0, Arc::new(link));
    std::fs::write(device.path().join("file"), content(1)).unwrap();
    device.folder.rescan().await.unwrap();
    // Its own overwrite is in no version store; what would bring it back is in the log.
    std::fs::write(device.path().join("file"), b"newer").unwrap();
    device.folder.rescan().await.unwrap();
    let (id, versions) = versions(&device, 310);
    let PastVersion { op, content: first, .. } = versions.into_iter().last().unwrap();
    let former = Former { id, source: id, content: first, op: Some(op), place: None };
    let found = crate::engine::found::Found::Rewound(vec![Change::Former(former)]);
    device.handle.append(vec![found.into()]).await.unwrap();
    until(|| device.folder.state().lacks.lost == 1 && device.folder.state().phase == Phase::Idle).await;
    assert_eq!(read(&device), b"newer");
    forget(&device, "file", false).await.unwrap();
    until(|| device.folder.state().lacks.lost == 0 && device.folder.state().phase == Phase::Idle).await;
    assert_eq!((read(&device), names(&device)), (b"newer".to_vec(), vec!["file".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_whose_inviter_is_gone_says_what_it_waits_for_and_is_served_by_another_member() {
    let founding = founding(3, 309);
    let net = MemoryNet::new();
    let link = |n: usize| -> Arc<dyn Link> { Arc::new(net.join(founding.keys[n].id(), Admission::new(|_, _| true))) };
    let (a, b) = (Device::start(&founding, 0, link(0)), Device::start(&founding, 1, link(1)));
    a.dial(&b).await;
    std::fs::write(a.path().join("file"), content(1)).unwrap();
    agree(&a, &b).await;
    let signed = SignedFrontier::sign(&founding.keys[0].signing_key(), founding.space, frontier(&a)).unwrap();
    let told = Some((founding.keys[0].id(), signed.as_bytes().to_vec()));
    let c = Device::start_in(tempfile::tempdir().unwrap(), &founding, 2, link(2), told);
    drop(a);
    let warnings = || c.folder.state().warnings.join(" ");
    until(|| !warnings().is_empty()).await;
    assert!(warnings().contains(&founding.keys[0].id().to_string()), "{}", warnings());
    b.dial(&c).await;
    agree(&b, &c).await;
    assert_eq!((names(&c), warnings()), (vec!["file".to_owned()], String::new()));
}
