//! Links that a peer puts in the way, on real disks.

use super::*;

/// Path, content or target, and modification time of everything under a directory.
fn state(directory: &Path) -> BTreeMap<std::path::PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut all = BTreeMap::new();
    let mut stack = vec![directory.to_path_buf()];
    while let Some(path) = stack.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_dir() {
            stack.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        } else {
            std::fs::read(&path).unwrap()
        };
        all.insert(path, (content, metadata.modified().unwrap()));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn threat_34_a_name_that_is_file_link_and_directory_in_one_batch_leads_nowhere() {
    let (a, b) = two(301).await;
    let decoy = tempfile::tempdir().unwrap();
    std::fs::create_dir(decoy.path().join("deep")).unwrap();
    for name in ["child", "deep/child"] {
        std::fs::write(decoy.path().join(name), b"precious").unwrap();
    }
    let before = state(decoy.path());
    let link = |name: &str| std::os::unix::fs::symlink(decoy.path(), a.path().join(name)).unwrap();
    // What each name is on one device while the other writes nothing, one after the other.
    type Act<'a> = &'a dyn Fn(&str);
    let remove = |name: &str| {
        let path = a.path().join(name);
        let is_directory = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let _ = if is_directory { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    };
    let file = |name: &str| {
        remove(name);
        std::fs::write(a.path().join(name), b"file").unwrap();
    };
    let relinked = |name: &str| {
        remove(name);
        link(name);
    };
    let directory = |name: &str| {
        remove(name);
        std::fs::create_dir_all(a.path().join(name).join("deep")).unwrap();
        for child in ["child", "deep/child", "new"] {
            std::fs::write(a.path().join(name).join(child), b"through").unwrap();
        }
    };
    let steps: [(&str, [Act<'_>; 3]); 4] = [
        ("file-link-directory", [&file, &relinked, &directory]),
        ("directory-link-directory", [&directory, &relinked, &directory]),
        ("link-directory-link", [&relinked, &directory, &relinked]),
        ("directory-file-link", [&directory, &file, &relinked]),
    ];
    for (name, [first, ..]) in &steps {
        first(name);
    }
    agree(&a, &b).await;
    b.folder.tell(Message::Pause(true));
    for step in 1..3 {
        for (name, acts) in &steps {
            acts[step](name);
        }
        a.folder.rescan().await.unwrap();
    }
    let frontier = |device: &Device| LogRead::frontier(&device.store.snapshot().unwrap()).unwrap();
    until(|| frontier(&a) == frontier(&b)).await;
    b.folder.tell(Message::Pause(false));
    agree(&a, &b).await;
    for (name, _) in &steps {
        let kind = |device: &Device| std::fs::symlink_metadata(device.path().join(name)).unwrap().file_type();
        assert_eq!(kind(&a), kind(&b), "{name}");
    }
    for name in ["file-link-directory", "directory-link-directory"] {
        for child in ["child", "deep/child", "new"] {
            assert_eq!(std::fs::read(b.path().join(name).join(child)).unwrap(), b"through", "{name}/{child}");
        }
    }
    assert_eq!(state(decoy.path()), before);
}
