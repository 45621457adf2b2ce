//! What holds for the fuzz targets of any crate: their corpora, their seeds, and where they are named.
//!
//! Knows no target and no format, so that other crates' tests can use it by path.

use std::collections::BTreeSet;
use std::path::Path;

/// A target's name, and what it does with bytes: whether they got past its checks.
type Named = (&'static str, fn(&[u8]) -> bool);

/// Gives every file of the corpora below `fuzz` to its target. Returns how many bytes they have together.
pub(crate) fn play(fuzz: &Path, targets: &[Named]) -> u64 {
    let mut len = 0;
    for (name, target) in targets {
        let (mut count, mut taken) = (0, 0);
        for file in std::fs::read_dir(fuzz.join("corpus").join(name)).unwrap() {
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
    len
}

/// Each seed (for which target, its name, its bytes) gets past the checks of its target, and each target has one.
pub(crate) fn sow(targets: &[Named], seeds: impl IntoIterator<Item = (&'static str, String, Vec<u8>)>) {
    let mut seeded = BTreeSet::new();
    for (of, seed, bytes) in seeds {
        let (_, target) = targets.iter().find(|(name, _)| *name == of).unwrap();
        assert!(target(&bytes), "{of} refuses {seed}");
        seeded.insert(of);
    }
    assert_eq!(seeded, targets.iter().map(|(name, _)| *name).collect());
}

/// Each target is built, calls the function of its name in `library`, and has a line in the README.
pub(crate) fn look_up(fuzz: &Path, targets: &[Named], library: &str) {
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let readme = std::fs::read_to_string(fuzz.join("README.md")).unwrap();
    let files = std::fs::read_dir(fuzz.join("fuzz_targets")).unwrap();
    let files: BTreeSet<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, targets.iter().map(|(name, _)| format!("{name}.rs")).collect());
    for (name, _) in targets {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not built");
        assert!(readme.contains(&format!("| `{name}` |")), "{name} is not in the README");
        let source = std::fs::read_to_string(fuzz.join("fuzz_targets").join(format!("{name}.rs"))).unwrap();
        assert!(source.contains(&format!("{library}::{name}(data)")), "{name}.rs calls another target");
    }
}
