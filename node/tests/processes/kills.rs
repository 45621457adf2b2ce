//! Nodes that end without a word, in the middle of their work.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::harness::tree::shown;
use super::harness::{Device, Lab, agree, conflict_copies};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");
const ROUND_COUNT: usize = 6;
const FILE_COUNT: usize = 2_000;
/// Set it to the seed of a failure to draw the same moments again.
const SEED_VARIABLE: &str = "ZEROCLOUD_TEST_SEED";

fn draw_seed() -> u64 {
    match std::env::var(SEED_VARIABLE) {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => getrandom::u64().unwrap(),
    }
}

#[test]
fn nodes_killed_while_they_sync_lose_nothing_and_leave_nothing_behind() {
    let seed = draw_seed();
    eprintln!("{SEED_VARIABLE}={seed}");
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let lab = Lab::new(PROGRAM);
    let (mut a, mut b) = lab.pair();
    let mut expected = std::collections::BTreeMap::new();
    for round in 0..ROUND_COUNT {
        let moment = Duration::from_millis(u64::from(rng.next_u32() % 700));
        let files: Vec<(String, Vec<u8>)> = (0..FILE_COUNT / ROUND_COUNT + 1)
            .map(|n| {
                let mut content = vec![0; 100 + rng.next_u32() as usize % 6_000];
                rng.fill_bytes(&mut content);
                (format!("round {round}/{}/file {n}", n % 10), content)
            })
            .collect();
        let (folder, victim): (_, &mut Device) =
            if round % 2 == 0 { (a.folder().to_owned(), &mut b) } else { (a.folder().to_owned(), &mut a) };
        std::thread::scope(|scope| {
            let files = &files;
            scope.spawn(move || {
                for (path, content) in files {
                    let path = folder.join(path);
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, content).unwrap();
                }
            });
            std::thread::sleep(moment);
            victim.kill();
        });
        victim.start();
        // Some of what came before goes, and some is replaced.
        for n in (0..100).filter(|_| round > 0) {
            let path = format!("round {}/{}/file {n}", round - 1, n % 10);
            if n % 2 == 0 {
                std::fs::remove_file(a.at(&path)).unwrap();
                expected.remove(path.as_bytes());
            } else {
                a.write(&path, format!("replaced in round {round}"));
                expected.insert(path.into_bytes(), format!("replaced in round {round}").into_bytes());
            }
        }
        expected.extend(files.into_iter().map(|(path, content)| (path.into_bytes(), content)));
    }
    agree(&[&a, &b]);
    // What was brought for a version that another one overtook goes at the next start, at the latest.
    for device in [&mut a, &mut b] {
        device.stop();
        device.start();
    }
    agree(&[&a, &b]);
    for device in [&a, &b] {
        for (path, content) in &expected {
            let found = std::fs::read(device.at(std::str::from_utf8(path).unwrap())).ok();
            assert!(found.as_ref() == Some(content), "{}: {} is not as it was written", device.name(), shown(path));
        }
        assert_eq!(device.tree().file_count(), expected.len(), "there is nothing else");
        let left = std::fs::read_dir(device.at(".zerocloud/tmp")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{}: temporary files stay", device.name());
        assert_eq!(conflict_copies(device), Vec::<String>::new());
    }
}
