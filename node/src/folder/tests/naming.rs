//! Names that a disk can't hold.

use super::*;

/// A device whose disk holds any name, and one under the rules of Windows.
async fn with_windows(seed: u64) -> (Device, Device) {
    let (founding, net) = (founding(2, seed), MemoryNet::new());
    let join = |n: usize| -> Arc<dyn Link> { Arc::new(net.join(founding.keys[n].id(), Admission::new(|_, _| true))) };
    let a = Device::start(&founding, 0, join(0));
    let dir = tempfile::tempdir().unwrap();
    let b = Device::start_under(Some(NameRules::Windows), dir, &founding, 1, join(1), None);
    a.dial(&b).await;
    (a, b)
}

fn names(device: &Device) -> Vec<String> {
    device.tree().into_keys().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn threat_36_what_windows_can_not_hold_stands_under_another_name_and_is_the_same_file() {
    let (a, b) = with_windows(361).await;
    let write = |device: &Device, path: &str, text: &str| std::fs::write(device.path().join(path), text).unwrap();
    std::fs::create_dir(a.path().join("con")).unwrap();
    for path in ["aux.txt", "notes:hidden", "end.", "end", "up\\down", "PROGRA~1", "plain", "con/nul"] {
        write(&a, path, path);
    }
    agree(&a, &b).await;
    let held = [
        "PROGRA\u{f07e}1",
        "end",
        "end\u{f02e}",
        "notes\u{f03a}hidden",
        "plain",
        "up\u{f05c}down",
        "\u{f061}ux.txt",
        "\u{f063}on",
        "\u{f063}on/\u{f06e}ul",
    ];
    assert_eq!(names(&b), held);

    // An edit, a move with its name, a new name, a deletion: all of them are of those files.
    write(&b, "\u{f061}ux.txt", "edited on windows");
    std::fs::rename(b.path().join("notes\u{f03a}hidden"), b.path().join("\u{f063}on/notes\u{f03a}hidden")).unwrap();
    std::fs::rename(b.path().join("end\u{f02e}"), b.path().join("other")).unwrap();
    std::fs::remove_file(b.path().join("up\u{f05c}down")).unwrap();
    // And what its owner calls as one of ours is called so by others.
    write(&b, "what\u{f03f}", "asked");
    agree(&a, &b).await;
    let plain = ["PROGRA~1", "aux.txt", "con", "con/notes:hidden", "con/nul", "end", "other", "plain", "what?"];
    assert_eq!(names(&a), plain);
    assert_eq!(std::fs::read(a.path().join("aux.txt")).unwrap(), b"edited on windows");
    assert_eq!(std::fs::read(a.path().join("con/notes:hidden")).unwrap(), b"notes:hidden");

    // A name that can stand is taken, and one that can't is left, without a file in between.
    std::fs::rename(a.path().join("plain"), a.path().join("lpt1.x")).unwrap();
    std::fs::rename(a.path().join("what?"), a.path().join("what")).unwrap();
    agree(&a, &b).await;
    assert!(names(&b).contains(&"\u{f06c}pt1.x".to_owned()), "{:?}", names(&b));
    assert!(names(&b).contains(&"what".to_owned()), "{:?}", names(&b));
    let hashes = |device: &Device| device.tree().into_values().flatten().collect::<BTreeSet<_>>();
    assert_eq!(hashes(&a), hashes(&b));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_name_at_all_waits_as_a_problem_and_nothing_else_does() {
    let (a, b) = with_windows(362).await;
    let long = ":".repeat(100);
    std::fs::create_dir(a.path().join(&long)).unwrap();
    std::fs::write(a.path().join(&long).join("inside"), b"no room").unwrap();
    std::fs::write(a.path().join("other"), b"room").unwrap();
    a.folder.rescan().await.unwrap();
    until(|| names(&b) == ["other"] && b.folder.state().phase == Phase::Idle).await;
    until(|| !b.folder.state().problems.is_empty()).await;
    let problems = b.folder.state().problems;
    let (path, reason) = problems.first().unwrap();
    assert_eq!((path.to_string(), problems.len()), (long.clone(), 1));
    assert!(reason.contains("the character `:`") && reason.contains("shorter"), "{reason}");
    std::fs::rename(a.path().join(&long), a.path().join("short:")).unwrap();
    agree(&a, &b).await;
    assert_eq!(names(&b), ["other", "short\u{f03a}", "short\u{f03a}/inside"]);
    assert_eq!(b.folder.state().problems.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_joins_again_knows_its_files_by_the_names_that_stand_for_theirs() {
    let (founding, net) = (founding(2, 363), MemoryNet::new());
    let link = |n: usize| -> Arc<dyn Link> { Arc::new(net.join(founding.keys[n].id(), Admission::new(|_, _| true))) };
    let a = Device::start(&founding, 0, link(0));
    let old = tempfile::tempdir().unwrap();
    std::fs::create_dir(a.path().join("aux")).unwrap();
    std::fs::create_dir(old.path().join("\u{f061}ux")).unwrap();
    for (path, stands_as) in [("a:b", "a\u{f03a}b"), ("aux/c?", "\u{f061}ux/c\u{f03f}"), ("gone*", "gone\u{f02a}")] {
        std::fs::write(a.path().join(path), format!("first {path}")).unwrap();
        std::fs::write(old.path().join(stands_as), format!("first {path}")).unwrap();
    }
    a.folder.rescan().await.unwrap();
    // What changed since is no reason to bring the old back, nor a conflict.
    std::fs::write(a.path().join("a:b"), b"second").unwrap();
    std::fs::remove_file(a.path().join("gone*")).unwrap();
    std::fs::write(old.path().join("mine\u{f03f}"), b"mine").unwrap();
    a.folder.rescan().await.unwrap();
    let frontier = LogRead::frontier(&a.store.snapshot().unwrap()).unwrap();
    let signed = SignedFrontier::sign(&founding.keys[0].signing_key(), founding.space, frontier).unwrap();
    let told = Some((founding.keys[0].id(), signed.as_bytes().to_vec()));
    let b = Device::start_under(Some(NameRules::Windows), old, &founding, 1, link(1), told);
    a.dial(&b).await;
    until(|| a.path().join("mine?").exists()).await;
    agree(&a, &b).await;
    assert_eq!(names(&a), ["a:b", "aux", "aux/c?", "mine?"]);
    assert_eq!(names(&b), ["a\u{f03a}b", "mine\u{f03f}", "\u{f061}ux", "\u{f061}ux/c\u{f03f}"]);
    assert_eq!(std::fs::read(b.path().join("a\u{f03a}b")).unwrap(), b"second");
}
