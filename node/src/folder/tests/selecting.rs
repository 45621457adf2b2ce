//! What one device leaves out, beside another that does not.

use super::*;

async fn select(device: &Device, patterns: &str) {
    let (done, answer) = oneshot::channel();
    device.folder.tell(Message::Select(Box::new(Selecting { patterns: patterns.into(), done })));
    answer.await.unwrap().unwrap();
}

fn write(device: &Device, path: &str, content: &str) {
    let path = device.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn read(device: &Device, path: &str) -> String {
    std::fs::read_to_string(device.path().join(path)).unwrap()
}

/// The files of a folder, without directories.
fn files(device: &Device) -> Vec<String> {
    device.tree().into_iter().filter(|(_, hash)| hash.is_some()).map(|(path, _)| path).collect()
}

fn left_out(device: &Device) -> u64 {
    device.folder.state().left_out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_out_does_not_come_until_it_is_selected() {
    let (a, b) = two(401).await;
    select(&b, "raw/\n*.iso\n!kept.iso").await;
    write(&a, "raw/deep/1", "1");
    write(&a, "docs/x.iso", "2");
    write(&a, "docs/kept.iso", "3");
    write(&a, "docs/y", "4");
    agree(&a, &b).await;
    assert_eq!((files(&b), left_out(&b)), (vec!["docs/kept.iso".to_owned(), "docs/y".to_owned()], 2));
    assert!(!b.path().join("raw").exists());
    assert!(b.folder.state().problems.is_empty());
    // The rest goes on, and what is deleted is not left out any more.
    std::fs::remove_file(a.path().join("docs/x.iso")).unwrap();
    write(&b, "docs/y", "edited");
    agree(&a, &b).await;
    assert_eq!((read(&a, "docs/y"), left_out(&b)), ("edited".to_owned(), 1));
    select(&b, "").await;
    agree(&a, &b).await;
    assert_eq!((a.tree(), left_out(&b)), (b.tree(), 0));
    assert_eq!(b.store.snapshot().unwrap().pending_count().unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_stays_in_step_and_is_deleted_here_alone() {
    let (a, b) = two(402).await;
    for name in ["raw/1", "raw/2", "raw/deep/3", "kept"] {
        write(&a, name, "first");
    }
    agree(&a, &b).await;
    let all = files(&a);
    select(&b, "raw/").await;
    write(&a, "raw/1", "second");
    agree(&a, &b).await;
    assert_eq!((files(&b), read(&b, "raw/1"), left_out(&b)), (all.clone(), "second".to_owned(), 0));
    write(&b, "raw/2", "of b");
    agree(&a, &b).await;
    assert_eq!(read(&a, "raw/2"), "of b");

    std::fs::remove_file(b.path().join("raw/1")).unwrap();
    agree(&a, &b).await;
    write(&a, "raw/1", "third");
    agree(&a, &b).await;
    assert_eq!((files(&a), left_out(&b)), (all.clone(), 1));
    assert!(!b.path().join("raw/1").exists());
    std::fs::remove_dir_all(b.path().join("raw")).unwrap();
    agree(&a, &b).await;
    assert_eq!((files(&a), files(&b), left_out(&b)), (all.clone(), vec!["kept".to_owned()], 3));

    // What goes after it was selected, goes everywhere.
    select(&b, "").await;
    agree(&a, &b).await;
    assert_eq!((files(&b), a.tree()), (all, b.tree()));
    std::fs::remove_file(b.path().join("raw/2")).unwrap();
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
    assert!(!a.path().join("raw/2").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_before_it_was_selected_comes_back_and_what_was_deleted_before_it_was_left_out_is_gone() {
    let (a, b) = two(403).await;
    write(&a, "raw/1", "1");
    write(&a, "raw/2", "2");
    agree(&a, &b).await;
    // No scan comes between what the user does and the change.
    std::fs::remove_file(b.path().join("raw/1")).unwrap();
    select(&b, "raw/").await;
    std::fs::remove_file(b.path().join("raw/2")).unwrap();
    select(&b, "").await;
    agree(&a, &b).await;
    assert_eq!((files(&a), files(&b)), (vec!["raw/2".to_owned()], vec!["raw/2".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_makes_at_a_place_that_is_left_out_is_published_and_stays() {
    let (a, b) = two(404).await;
    select(&b, "raw/").await;
    write(&a, "raw/theirs", "of a");
    write(&a, "raw/both", "of a");
    agree(&a, &b).await;
    write(&b, "raw/mine", "of b");
    write(&b, "raw/both", "of b");
    agree(&a, &b).await;
    assert_eq!(read(&a, "raw/mine"), "of b");
    // Nobody's bytes of the one that both made are lost.
    let texts: BTreeSet<String> =
        files(&a).iter().filter(|path| path.starts_with("raw/both")).map(|path| read(&a, path)).collect();
    assert_eq!(texts, BTreeSet::from(["of a".to_owned(), "of b".to_owned()]));
    let here: BTreeSet<String> = files(&b).iter().map(|path| read(&b, path)).collect();
    assert!(here.contains("of b") && !b.path().join("raw/theirs").exists(), "{:?}", files(&b));
    select(&b, "").await;
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_out_of_a_place_that_is_left_out_comes_and_what_moves_into_it_stays() {
    let (a, b) = two(405).await;
    select(&b, "raw/").await;
    write(&a, "raw/1", "1");
    write(&a, "raw/deep/2", "2");
    write(&a, "kept", "3");
    agree(&a, &b).await;
    let rename = |device: &Device, from: &str, to: &str| {
        std::fs::rename(device.path().join(from), device.path().join(to)).unwrap();
    };
    rename(&a, "raw/1", "1");
    agree(&a, &b).await;
    assert_eq!(files(&b), ["1", "kept"]);
    rename(&a, "kept", "raw/kept");
    agree(&a, &b).await;
    assert_eq!((files(&b), read(&b, "raw/kept")), (vec!["1".to_owned(), "raw/kept".to_owned()], "3".to_owned()));
    write(&a, "raw/deep/er/4", "4");
    rename(&a, "1", "raw/deep/er/1");
    agree(&a, &b).await;
    assert_eq!(files(&b), ["raw/deep/er/1", "raw/kept"]);
    rename(&a, "raw", "cooked");
    agree(&a, &b).await;
    assert_eq!((a.tree(), left_out(&b)), (b.tree(), 0));
    rename(&b, "cooked/deep", "deep");
    agree(&a, &b).await;
    assert_eq!(a.tree(), b.tree());
}
