//! Every file of the committed corpora, through the same functions that a fuzzer calls (`fuzz/README.md`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "a test: helpers fail it, too; the targets are a crate of their own elsewhere"
)]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use targets::{TARGETS, seeds};

/// Bytes of all corpora together that the repository holds.
const CORPORA_LEN_MAX: u64 = 200 << 10;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[test]
fn no_file_of_a_corpus_breaks_its_target() {
    let mut len = 0;
    for (name, target) in TARGETS {
        let (mut count, mut taken) = (0, 0);
        for file in std::fs::read_dir(fuzz().join("corpus").join(name)).unwrap() {
            let path = file.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            // A panic does not say on which file.
            let outcome = std::panic::catch_unwind(|| target(&data));
            taken += usize::from(outcome.unwrap_or_else(|_| panic!("{} breaks {name}", path.display())));
            count += 1;
            len += data.len() as u64;
        }
        assert!(
            taken > 0 && taken < count,
            "of {count} files {name} takes {taken}: it sees but one side of its checks"
        );
    }
    assert!(len <= CORPORA_LEN_MAX, "all corpora together have {len} bytes; make them smaller (fuzz/README.md)");
}

#[test]
fn each_seed_gets_past_the_checks_of_its_target() {
    let seeded: BTreeSet<&str> = seeds::all()
        .iter()
        .map(|seed| {
            let (_, target) = TARGETS.iter().find(|(name, _)| *name == seed.target).unwrap();
            assert!(target(&seed.bytes), "{} refuses {}", seed.target, seed.name);
            seed.target
        })
        .collect();
    assert_eq!(seeded, TARGETS.iter().map(|(name, _)| *name).collect());
}

#[test]
fn each_target_is_built_and_has_a_line_in_the_readme() {
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let readme = std::fs::read_to_string(fuzz().join("README.md")).unwrap();
    let files = std::fs::read_dir(fuzz().join("fuzz_targets")).unwrap();
    let files: BTreeSet<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, TARGETS.iter().map(|(name, _)| format!("{name}.rs")).collect());
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not built");
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in the README");
        let source = std::fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(source.contains(&format!("zerocloud_fuzz::{name}(data)")), "{name}.rs calls another target");
    }
}
