//! What stands in the way of a change and can't be looked at.

use std::os::unix::fs::PermissionsExt;

use rustix::fs::{CWD, FileType, Mode};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::*;

/// Runs a test with devices that the rights of files bind, even if the superuser runs it.
fn bound_by_rights<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let run = move || {
        let mut capabilities = capabilities(None).unwrap();
        capabilities.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, capabilities).unwrap();
        // Its threads, and theirs, have no more rights than this one.
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test());
    };
    std::thread::spawn(run).join().unwrap();
}

fn problems(device: &Device) -> Vec<(String, String)> {
    let state = device.folder.state();
    state.problems.iter().map(|(path, reason)| (path.to_string(), reason.clone())).collect()
}

/// Until a device knows all that another has scanned by now, and its folder has nothing more to do although something is
/// not as it should be.
async fn rests_knowing(other: &Device, device: &Device) {
    other.folder.rescan().await.unwrap();
    let frontier = |device: &Device| LogRead::frontier(&device.store.snapshot().unwrap()).unwrap();
    let known = frontier(other);
    until(|| frontier(device) == known).await;
    until(|| device.folder.state().phase == Phase::Idle && !problems(device).is_empty()).await;
}

#[test]
fn an_edit_that_cant_be_read_is_a_problem_until_it_can_and_nothing_is_lost() {
    bound_by_rights(async || {
        let (a, b) = two(60).await;
        std::fs::write(a.path().join("file"), b"first").unwrap();
        agree(&a, &b).await;
        let file = b.path().join("file");
        let edited = b.path().join(".zerocloud/edited");
        std::fs::write(&edited, b"edited here").unwrap();
        std::fs::set_permissions(&edited, PermissionsExt::from_mode(0o000)).unwrap();
        std::fs::rename(edited, &file).unwrap();
        b.folder.rescan().await.unwrap();
        std::fs::write(a.path().join("file"), b"second, longer").unwrap();
        rests_knowing(&a, &b).await;
        let told = problems(&b);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].0 == "file" && told[0].1.contains("can't be read"), "{told:?}");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        agree(&a, &b).await;
        assert_eq!(problems(&b), []);
        assert_eq!(a.tree(), b.tree());
        // Both edits are there: no device had seen the other's.
        let content = |device: &Device, hash: &[u8]| {
            let hash = blake3::hash(hash).to_hex()[..8].to_owned();
            device.tree().into_values().any(|content| content.as_ref() == Some(&hash))
        };
        assert!(content(&b, b"second, longer") && content(&b, b"edited here"), "{:?}", b.tree());
    });
}

#[test]
fn what_replaced_another_file_is_not_deleted_elsewhere_before_it_can_be_read_in_its_new_place() {
    bound_by_rights(async || {
        let (a, b) = two(63).await;
        std::fs::write(a.path().join("draft"), b"the draft").unwrap();
        std::fs::write(a.path().join("final"), b"the final").unwrap();
        agree(&a, &b).await;
        let replaced = b.path().join("final");
        std::fs::set_permissions(b.path().join("draft"), PermissionsExt::from_mode(0o000)).unwrap();
        std::fs::rename(b.path().join("draft"), &replaced).unwrap();
        std::fs::write(b.path().join("other"), b"told").unwrap();
        rests_knowing(&b, &b).await;
        until(|| a.path().join("other").exists()).await;
        until(|| a.folder.state().phase == Phase::Idle).await;
        assert_eq!(std::fs::read(a.path().join("draft")).unwrap(), b"the draft");
        std::fs::set_permissions(&replaced, PermissionsExt::from_mode(0o644)).unwrap();
        agree(&a, &b).await;
        assert_eq!(a.tree(), b.tree());
        assert_eq!(std::fs::read(a.path().join("final")).unwrap(), b"the draft");
        assert!(!a.path().join("draft").exists());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_no_file_of_the_space_is_a_problem_until_it_makes_room() {
    let (a, b) = two(61).await;
    let taken = b.path().join("taken");
    rustix::fs::mknodat(CWD, &taken, FileType::Fifo, Mode::RWXU, 0).unwrap();
    b.folder.rescan().await.unwrap();
    std::fs::write(a.path().join("taken"), b"a file").unwrap();
    rests_knowing(&a, &b).await;
    let told = problems(&b);
    assert!(told.len() == 1 && told[0].0 == "taken" && told[0].1.contains("neither file"), "{told:?}");
    std::fs::remove_file(&taken).unwrap();
    agree(&a, &b).await;
    assert_eq!(std::fs::read(&taken).unwrap(), b"a file");
    assert_eq!(problems(&b), []);
}
