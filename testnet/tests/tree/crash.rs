//! A batch that stops at its n-th call, for every n: what is left is old or new, and a second start goes on.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use zerocloud::tree::materialise::Trust;
use zerocloud::volume::Volume;
use zerocloud_crdt::id::ContentHash;
use zerocloud_crdt::register::Op;
use zerocloud_testnet::sim::user::FolderUser;
use zerocloud_testnet::sim::volume::{Crash, SimPerson, Tree, TreeEntry};

use super::device::{Contents, Device};

/// Two devices with the same tree, and what the first one's user did since.
fn scenario(has_exchange: bool) -> (Device, Device, Contents, Vec<Op>) {
    let (mut first, mut second) = (Device::new(1, has_exchange), Device::new(2, has_exchange));
    let user = first.person.clone();
    for directory in [&b"docs"[..], b"docs/old", b"photos", b"swap"] {
        user.create_directory(directory).unwrap();
    }
    for (path, content) in [
        (&b"a.txt"[..], &b"a, first"[..]),
        (b"b.txt", b"b, first"),
        (b"docs/c.txt", b"c, first"),
        (b"docs/old/d.txt", b"d, first"),
        (b"gone.txt", b"gone, first"),
        (b"touched", b"touched, first"),
        (b"swap/x", b"x, first"),
        (b"swap/y", b"y, first"),
        (b"becomes-directory", b"file, first"),
    ] {
        user.write(path, content).unwrap();
    }
    user.create_symlink(b"link", b"a.txt").unwrap();
    let ops = first.scan();
    let mut contents = first.contents();
    second.hear(&ops);
    assert!(second.materialise(&contents, 5).unwrap().is_empty());
    assert_eq!(second.person.tree(), first.person.tree());
    assert!(second.scan().is_empty(), "a scan after materialise made operations");

    user.write(b"a.txt", b"a, second and longer").unwrap();
    user.save_by_rename(b"b.txt", b"b, second").unwrap();
    user.remove(b"gone.txt").unwrap();
    user.set_mode(b"touched", 0o755).unwrap();
    user.rename(b"docs", b"photos/docs").unwrap();
    user.write(b"photos/docs/c.txt", b"c, second").unwrap();
    user.write(b"photos/docs/new", b"new").unwrap();
    user.remove_all(b"photos/docs/old").unwrap();
    user.rename(b"swap/x", b"swap/z").unwrap();
    user.rename(b"swap/y", b"swap/x").unwrap();
    user.rename(b"swap/z", b"swap/y").unwrap();
    user.remove(b"becomes-directory").unwrap();
    user.create_directory(b"becomes-directory").unwrap();
    user.write(b"becomes-directory/inside", b"inside").unwrap();
    user.remove(b"link").unwrap();
    user.create_symlink(b"link", b"b.txt").unwrap();
    let ops = first.scan();
    contents.extend(first.contents());
    second.hear(&ops);
    second.volume.sync_all().unwrap();
    (first, second, contents, ops)
}

/// Each file that a person sees is one that some person wrote: none is half of it, or half old and half new.
fn assert_nothing_is_mixed(tree: &Tree, contents: &Contents) {
    for (path, entry) in tree {
        if let TreeEntry::File { content, .. } = entry {
            let is_known = contents.contains_key(&ContentHash::of(content));
            assert!(is_known, "{} is neither old nor new: {content:?}", String::from_utf8_lossy(path));
        }
    }
}

fn crash_at_each_call(crash: Crash, has_exchange: bool, limit: usize) {
    let (_, mut second, contents, _) = scenario(has_exchange);
    let before = second.volume.call_count();
    second.materialise(&contents, limit).unwrap();
    let call_count = second.volume.call_count() - before;
    assert!(call_count > 60, "the scenario does nothing");
    let step = if limit > 4 { 1 } else { 3 };
    for n in (0..call_count).step_by(step) {
        let (first, mut second, contents, _) = scenario(has_exchange);
        let old = second.contents();
        second.volume.crash_after(n);
        assert!(second.materialise(&contents, limit).is_err(), "call {n} did not crash");
        second.volume.restart(crash);
        second.start();
        assert_nothing_is_mixed(&second.person.tree(), &contents);
        let here = second.contents();
        assert!(old.keys().all(|hash| here.contains_key(hash)), "call {n}: a content is gone");

        let recovered = second.recover(Trust::Same).unwrap();
        assert!(recovered.displaced.is_empty(), "call {n}: {recovered:?}");
        let made = second.scan();
        assert!(made.len() <= 1, "call {n}: the scan after a recovery took our own work for the user's: {made:?}");
        second.materialise(&contents, limit).unwrap();
        let here = second.contents();
        assert!(old.keys().all(|hash| here.contains_key(hash)), "call {n}: a content is gone after the recovery");
        assert_eq!(second.person.tree(), first.person.tree(), "call {n}");
        assert!(second.scan().is_empty(), "call {n}: a scan after materialise made operations");
        assert_eq!(second.recover(Trust::Same).unwrap().garbage_count, 0, "call {n}: temporary files were left");
        assert!(second.ledger.intents.is_none());
    }
}

#[test]
fn threat_42_killed_at_each_call_a_tree_is_old_or_new_and_the_next_start_goes_on() {
    crash_at_each_call(Crash::Killed, true, 100);
    crash_at_each_call(Crash::Killed, true, 3);
}

#[test]
fn threat_42_after_a_power_loss_at_each_call_a_tree_is_old_or_new_and_the_next_start_goes_on() {
    crash_at_each_call(Crash::PowerLoss, true, 100);
    crash_at_each_call(Crash::PowerLoss, true, 3);
}

#[test]
fn threat_42_the_same_where_names_can_not_be_exchanged() {
    crash_at_each_call(Crash::Killed, false, 100);
    crash_at_each_call(Crash::PowerLoss, false, 100);
}

#[test]
fn a_recovery_that_crashes_is_done_again() {
    let (first, mut second, contents, _) = scenario(true);
    let before = second.volume.call_count();
    second.materialise(&contents, 100).unwrap();
    let call_count = second.volume.call_count() - before;
    for n in (0..call_count).step_by(7) {
        for m in (0..60).step_by(5) {
            let (_, mut second, contents, _) = scenario(true);
            let old = second.contents();
            second.volume.crash_after(n);
            assert!(second.materialise(&contents, 100).is_err());
            second.volume.restart(Crash::Killed);
            second.start();
            second.volume.crash_after(m);
            drop(second.recover(Trust::Same));
            second.volume.restart(Crash::PowerLoss);
            second.start();
            second.recover(Trust::Same).unwrap();
            second.scan();
            second.materialise(&contents, 100).unwrap();
            let here = second.contents();
            assert!(old.keys().all(|hash| here.contains_key(hash)), "calls {n}, {m}: a content is gone");
            assert_eq!(second.person.tree(), first.person.tree(), "calls {n}, {m}");
        }
    }
}

#[test]
fn with_a_store_that_is_not_the_trees_no_intent_is_judged_and_no_byte_goes() {
    let (_, mut second, contents, _) = scenario(true);
    let before = second.volume.call_count();
    second.materialise(&contents, 100).unwrap();
    let call_count = second.volume.call_count() - before;
    let mut forgotten = 0;
    for n in (0..call_count).step_by(3) {
        let (_, mut second, contents, _) = scenario(true);
        let old = second.contents();
        second.volume.crash_after(n);
        assert!(second.materialise(&contents, 100).is_err());
        second.volume.restart(Crash::Killed);
        second.start();
        forgotten += second.recover(Trust::Other).unwrap().forgotten.len();
        assert!(second.ledger.intents.is_none());
        let here = second.contents();
        assert!(old.keys().all(|hash| here.contains_key(hash)), "call {n}: a content is gone");
        // What was deleted with no row to tell of it would never be shown, nor go.
        let stored = second.volume.control().unwrap().versions.list().unwrap();
        let mut names = stored.iter().map(|entry| str::from_utf8(&entry.name).unwrap());
        assert!(names.all(|name| second.ledger.versions.contains_key(name)), "call {n}: a file without a row");
    }
    assert!(forgotten > 0, "no crash left an intent: this tests nothing");
}

fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    (rng.next_u32() as usize) % n
}

/// One act of a user; what can't be done is not done.
fn act(user: &SimPerson, rng: &mut ChaCha8Rng, content: &[u8]) {
    let paths = [&b"x"[..], b"y", b"d", b"d/x", b"d/y", b"d/e", b"d/e/x", b"e", b"e/z"];
    let (path, other) = (paths[below(rng, paths.len())], paths[below(rng, paths.len())]);
    // What the file manager refuses, the user lets be.
    let _ = match below(rng, 9) {
        0..=2 => user.write(path, content),
        3 => user.save_by_rename(path, content),
        4 => user.create_directory(path),
        5 => user.rename(path, other),
        6 => user.remove_all(path),
        7 => user.set_mode(path, 0o755),
        _ => user.create_symlink(path, b"nowhere"),
    };
}

/// Both users act, both devices scan, hear and materialise, and crash at some call: in the end both have the tree that
/// their index stands for, and nothing was half written at any time.
fn history(seed: u64) -> usize {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut devices = [Device::new(1, true), Device::new(2, !seed.is_multiple_of(4))];
    let (mut contents, mut log): (Contents, Vec<Op>) = (Contents::new(), Vec::new());
    let (mut heard, mut crash_count) = ([0; 2], 0);
    for round in 0..14 {
        let at = below(&mut rng, 2);
        for n in 0..below(&mut rng, 5) {
            let content = format!("{seed} {round} {n}");
            contents.insert(ContentHash::of(content.as_bytes()), content.clone().into_bytes());
            act(&devices[at].person, &mut rng, content.as_bytes());
        }
        let device = &mut devices[at];
        log.extend(device.scan());
        device.hear(&log[heard[at]..]);
        heard[at] = log.len();
        let before = device.person.tree();
        if below(&mut rng, 2) == 0 {
            device.volume.crash_after(below(&mut rng, 80) as u64);
        }
        match device.materialise(&contents, 4) {
            Ok(ops) => log.extend(ops),
            Err(_) => crash_count += 1,
        }
        device.volume.restart(Crash::Killed);
        device.start();
        assert_nothing_is_mixed(&device.person.tree(), &contents);
        device.recover(Trust::Same).unwrap();
        let here = device.contents();
        for (path, entry) in before {
            if let TreeEntry::File { content, .. } = entry {
                let is_here = here.contains_key(&ContentHash::of(&content));
                assert!(is_here, "{} was lost in round {round}", String::from_utf8_lossy(&path));
            }
        }
        log.extend(device.publish_all());
    }
    for _ in 0..8 {
        for at in 0..2 {
            let device = &mut devices[at];
            log.extend(device.scan());
            device.hear(&log[heard[at]..]);
            heard[at] = log.len();
            let ops = device.materialise(&contents, 4).unwrap();
            log.extend(ops);
        }
    }
    for device in &devices {
        assert_nothing_is_mixed(&device.person.tree(), &contents);
        assert_eq!(device.person.tree(), device.shown(&contents), "a tree is not its view");
    }
    assert_eq!(devices[0].person.tree(), devices[1].person.tree(), "two trees differ");
    crash_count
}

#[test]
fn whatever_users_do_and_wherever_devices_crash_the_trees_become_one() {
    let count: u64 = std::env::var("ZEROCLOUD_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(120);
    let first: u64 = std::env::var("ZEROCLOUD_TEST_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut crash_count = 0;
    for seed in first..first + count {
        match std::panic::catch_unwind(|| history(seed)) {
            Ok(count) => crash_count += count,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                panic!("seed {seed} (replay: ZEROCLOUD_TEST_SEED={seed} ZEROCLOUD_TEST_ROUNDS=1): {text}");
            }
        }
    }
    assert!(count == 1 || crash_count > 0, "nothing crashed: this tests nothing");
}
