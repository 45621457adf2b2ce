//! The program that tests of real nodes run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The youngest file below a directory.
fn youngest(directory: &Path) -> SystemTime {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let time_of =
        |path: PathBuf| if path.is_dir() { youngest(&path) } else { path.metadata().unwrap().modified().unwrap() };
    entries.map(|entry| time_of(entry.path())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The program, which cargo builds where it is missing or older than its sources: only tests of its own crate have it built
/// for them.
pub(crate) fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(built).clone()
}

fn built() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let this = std::env::current_exe().unwrap();
    let program = this.parent().unwrap().parent().unwrap().join("zerocloud");
    let is_built = program
        .metadata()
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|built| ["crdt/src", "node/src"].iter().all(|sources| youngest(&workspace.join(sources)) < built));
    if !is_built {
        let profile = if program.parent().unwrap().ends_with("release") { "release" } else { "dev" };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--offline", "--locked", "-p", "zerocloud", "--profile", profile]).current_dir(workspace);
        assert!(cargo.status().unwrap().success(), "the program can't be built");
    }
    program
}
