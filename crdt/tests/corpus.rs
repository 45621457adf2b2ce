//! Every file of the committed corpora, through the same functions that a fuzzer calls (`fuzz/README.md`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test: helpers fail it, too; the targets are a crate of their own elsewhere"
)]

mod corpora;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::{Path, PathBuf};

use targets::{TARGETS, seeds};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[test]
fn no_file_of_a_corpus_breaks_its_target() {
    corpora::play(&fuzz(), &TARGETS);
}

#[test]
fn each_seed_gets_past_the_checks_of_its_target() {
    corpora::sow(&TARGETS, seeds::all().into_iter().map(|seed| (seed.target, seed.name, seed.bytes)));
}

#[test]
fn each_target_is_built_and_has_a_line_in_the_readme() {
    corpora::look_up(&fuzz(), &TARGETS, "zerocloud_crdt_fuzz");
}
