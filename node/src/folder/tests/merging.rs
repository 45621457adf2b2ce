//! Texts that were changed at the same time, on devices that don't have all that is needed.

use super::*;

/// A text above what is kept, of so many chunks that their list has pages.
fn long_text() -> String {
    (0..80_000).map(|n| format!("line {n}\n")).collect()
}

fn read(device: &Device, name: &str) -> String {
    std::fs::read_to_string(device.path().join(name)).unwrap()
}

async fn pause(device: &Device, is_paused: bool) {
    device.folder.tell(Message::Pause(is_paused));
    let is_so = || (device.folder.state().phase == Phase::Paused) == is_paused;
    until(is_so).await;
}

/// Three devices of one space that are not connected.
fn three(seed: u64) -> [Device; 3] {
    let (founding, net) = (founding(3, seed), MemoryNet::new());
    [0, 1, 2].map(|n| {
        let link = Arc::new(net.join(founding.keys[n].id(), Admission::new(|_, _| true)));
        Device::start(&founding, n, link)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_edits_came_from_is_had_from_a_third_device() {
    let [a, b, c] = three(31);
    a.dial(&b).await;
    let text = long_text();
    std::fs::write(a.path().join("long.txt"), &text).unwrap();
    agree(&a, &b).await;
    a.dial(&c).await;
    agree(&a, &c).await;

    pause(&b, true).await;
    let (by_a, by_b) = (text.replace("line 7\n", "seven\n"), text.replace("line 79000\n", "79,000\n"));
    std::fs::write(b.path().join("long.txt"), &by_b).unwrap();
    std::fs::write(a.path().join("long.txt"), &by_a).unwrap();
    // The third takes the edit, and keeps what it was an edit of.
    agree(&a, &c).await;
    assert_eq!(read(&c, "long.txt"), by_a);
    pause(&b, false).await;
    agree(&a, &b).await;
    agree(&a, &c).await;
    assert_eq!(a.tree(), b.tree());
    assert_eq!(a.tree(), c.tree());
    assert_eq!(a.tree().len(), 1, "{:?}", a.tree());
    assert_eq!(read(&b, "long.txt"), by_a.replace("line 79000\n", "79,000\n"));
    // What it was made of can be had back.
    let is_kept = |device: &Device, text: &str| {
        !device.store.snapshot().unwrap().versions_by_hash(ContentHash::of(text.as_bytes())).unwrap().is_empty()
    };
    assert!(is_kept(&a, &by_a) && is_kept(&a, &by_b));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_what_they_came_from_both_stay_until_a_device_has_it() {
    let [a, b, c] = three(32);
    a.dial(&b).await;
    b.dial(&c).await;
    let text = long_text();
    std::fs::write(b.path().join("long.txt"), &text).unwrap();
    agree(&a, &b).await;
    agree(&b, &c).await;
    pause(&b, true).await;
    pause(&c, true).await;
    std::fs::write(b.path().join("long.txt"), text.replace("line 7\n", "seven\n")).unwrap();
    // In the chunk that the other changed as well: else each has what the other lacks.
    std::fs::write(a.path().join("long.txt"), text.replace("line 90\n", "ninety\n")).unwrap();
    a.folder.rescan().await.unwrap();
    pause(&b, false).await;
    agree(&a, &b).await;
    assert_eq!(a.tree().len(), 2, "{:?}", a.tree());
    // The loser's author meets one that has not changed it yet.
    a.dial(&c).await;
    a.folder.tell(Message::Connected);
    agree(&a, &b).await;
    until(|| a.tree().len() == 1 && b.tree().len() == 1).await;
    assert_eq!(read(&a, "long.txt"), read(&b, "long.txt"));
}
