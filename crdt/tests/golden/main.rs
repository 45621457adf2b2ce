//! Known answers: the bytes of every format, from fixed seeds, and back. The files of them are added to and never changed: who changes a byte of them changes the format of
//! every space.
//!
//! `ZEROCLOUD_BLESS=1 cargo test -p zerocloud-crdt --test golden` writes them, for what is added or for a new format version.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test: helpers fail it, too")]

mod log;
mod members;
mod sealing;
mod wire;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

/// One process writes a file from several threads.
static WRITING: Mutex<()> = Mutex::new(());

fn path(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", file].iter().collect()
}

/// All that is known in a file.
pub fn stored(file: &str) -> Map<String, Value> {
    let text = std::fs::read_to_string(path(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Whether what is known is to be written anew.
pub fn is_blessed() -> bool {
    std::env::var_os("ZEROCLOUD_BLESS").is_some()
}

/// Holds a value to what is known under this name, or, where that is asked for, makes it so.
#[track_caller]
pub fn compare(file: &str, name: &str, told: &Value) {
    if is_blessed() {
        bless(file, name, told);
    }
    assert_eq!(stored(file).get(name), Some(told), "\n{name} differs from tests/golden/{file}; now:\n{told:#}\n");
}

/// Makes a value what is known under this name.
pub fn bless(file: &str, name: &str, told: &Value) {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut known = if path(file).exists() { stored(file) } else { Map::new() };
    known.insert(name.to_owned(), told.clone());
    std::fs::write(path(file), serde_json::to_string_pretty(&known).unwrap() + "\n").unwrap();
}
