//! Ignore rules: a text that every member may have written, held against names that every member may have given.

use std::sync::Arc;

use zerocloud::tree::ignoring::{RULES_LEN_MAX, Rules, RulesFile, Scope};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::name::Name;
use zerocloud_crdt::register::Kind;

use super::{take_byte, take_part};

/// Two rules files, one in the root and one in the first directory of the path, and a selection; then the names of a
/// path.
pub fn rules(mut data: &[u8]) -> bool {
    let kinds = take_byte(&mut data);
    let files = [0; 3].map(|_| Arc::new(RulesFile::parse(take_part(&mut data))));
    for file in &files {
        assert!(file.len() <= RULES_LEN_MAX);
        assert!(!file.is_closed());
    }
    let [root, inner, selection] = files;
    let (mut rules, directory) = (Rules::default(), FileId([1; 16]));
    rules.add(FileId::ROOT, root.clone());
    rules.add(directory, inner.clone());
    // What is stored is what is in force after a restart.
    assert!(Rules::from_contents(rules.contents()) == rules);

    let mut scope = Scope::root(Some(root)).with_selection(Some(selection));
    let mut is_taken = false;
    for (depth, name) in data.split(|byte| *byte == b'/').take(40).enumerate() {
        let Ok(name) = Name::parse(name) else { continue };
        let kind = if kinds >> (depth % 8) & 1 == 1 { Kind::Directory } else { Kind::File };
        is_taken |= scope.ignores(&name, kind) || scope.leaves_out(&name, kind);
        let below = scope.below(&name, || (depth == 0).then(|| inner.clone()));
        // Nothing in an ignored directory can be brought back.
        assert!(!scope.ignores(&name, Kind::Directory) || below.is_ignored());
        assert!(!below.is_ignored() || below.ignores(&name, kind));
        scope = below;
    }
    is_taken
}
