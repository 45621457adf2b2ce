//! The arrows between our crates, and what may never stand below the pure one, as ARCHITECTURE.md draws them.
//!
//! What the compiler can hold by itself is elsewhere: `crdt/clippy.toml` bans calls, `deny.toml` bans crates for all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail as the test does")]
#![allow(clippy::print_stderr, reason = "says what was not tried")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Each crate of the workspace, and the crates of the workspace that it may name, whether for the build or for tests.
const ARROWS: [(&str, &[&str]); 6] = [
    ("zerocloud-crdt", &[]),
    ("zerocloud", &["zerocloud-crdt"]),
    ("zerocloud-web", &["zerocloud-crdt"]),
    ("zerocloud-relay", &["zerocloud", "zerocloud-crdt", "zerocloud-web"]),
    ("zerocloud-ffi", &["zerocloud", "zerocloud-crdt"]),
    ("zerocloud-testnet", &["zerocloud", "zerocloud-crdt", "zerocloud-ffi", "zerocloud-relay", "zerocloud-web"]),
];

/// What `crdt` may not even have below a dependency: each is there for an effect.
const EFFECTS: [(&str, &[&str]); 5] = [
    ("asynchronous runtimes", &["async-io", "async-std", "mio", "smol", "tokio", "tokio-util"]),
    ("sockets", &["axum", "hyper", "iroh", "libp2p", "noq", "quinn", "reqwest", "rustls", "socket2"]),
    ("files", &["fjall", "ignore", "inotify", "memmap2", "nix", "notify", "redb", "rusqlite", "rustix", "walkdir"]),
    ("threads", &["crossbeam-channel", "rayon", "threadpool"]),
    ("clocks and terminals", &["chrono", "clap", "indicatif", "jiff", "time", "tracing-subscriber"]),
];

/// What `crdt` may not name itself: what it draws comes from a generator that is handed in. Below Automerge they exist.
const GLOBAL_RANDOMNESS: [&str; 2] = ["getrandom", "rand"];

/// Crates by name; for each, the names of what it depends on.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// The crates of the workspace with all that they name, and all crates with what they need to be built.
struct Tree {
    members: Graph,
    built: Graph,
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Asks cargo, for this platform alone: these crates are on the disk, or this test would not have been built.
fn read_tree() -> Tree {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let answer = cargo(&["metadata", "--offline", "--locked", "--format-version=1", "--filter-platform", host]);
    let answer: Value = serde_json::from_str(&answer).unwrap();

    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let names: BTreeMap<String, String> = answer["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let ours: BTreeSet<String> = answer["workspace_members"].as_array().unwrap().iter().map(text).collect();

    let mut tree = Tree { members: Graph::new(), built: Graph::new() };
    for node in answer["resolve"]["nodes"].as_array().unwrap() {
        let id = text(&node["id"]);
        for dependency in node["deps"].as_array().unwrap() {
            let name = &names[dependency["pkg"].as_str().unwrap()];
            if ours.contains(&id) {
                tree.members.entry(names[&id].clone()).or_default().insert(name.clone());
            }
            if dependency["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"] != "dev") {
                tree.built.entry(names[&id].clone()).or_default().insert(name.clone());
            }
        }
    }
    assert_eq!(tree.members.len(), ours.len(), "each of our crates has dependencies");
    tree
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(workspace()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Arrows that the table does not have.
fn wrong_arrows(members: &Graph) -> Vec<String> {
    let allowed = BTreeMap::from(ARROWS);
    let mut wrong = Vec::new();
    for (from, dependencies) in members {
        let Some(allowed) = allowed.get(from.as_str()) else {
            wrong.push(format!("{from} is not in the table"));
            continue;
        };
        let inside = dependencies.iter().filter(|to| members.contains_key(*to));
        wrong.extend(inside.filter(|to| !allowed.contains(&to.as_str())).map(|to| format!("{from} -> {to}")));
    }
    wrong
}

/// A shortest way from `from` to a crate that is there for an effect, for each such crate.
fn effects_below(built: &Graph, from: &str) -> Vec<String> {
    let mut way = BTreeMap::from([(from.to_owned(), from.to_owned())]);
    let mut layer = vec![from.to_owned()];
    while !layer.is_empty() {
        let mut next = Vec::new();
        for name in layer {
            for dependency in built.get(&name).into_iter().flatten() {
                if !way.contains_key(dependency) {
                    way.insert(dependency.clone(), format!("{} -> {dependency}", way[&name]));
                    next.push(dependency.clone());
                }
            }
        }
        layer = next;
    }
    let banned = EFFECTS.iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, *name)));
    banned.filter_map(|(kind, name)| way.get(name).map(|way| format!("{kind}: {way}"))).collect()
}

fn graph(edges: &[(&str, &str)]) -> Graph {
    let mut graph = Graph::new();
    for (from, to) in edges {
        graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
    }
    graph
}

#[test]
fn arrows_between_our_crates_go_one_way() {
    assert_eq!(wrong_arrows(&read_tree().members), Vec::<String>::new());
}

#[test]
fn the_pure_crate_stands_on_nothing_that_has_an_effect() {
    let tree = read_tree();
    assert!(tree.built["zerocloud-crdt"].contains("automerge"), "the graph was read");
    assert_eq!(effects_below(&tree.built, "zerocloud-crdt"), Vec::<String>::new());

    let named = &tree.built["zerocloud-crdt"];
    assert!(GLOBAL_RANDOMNESS.iter().all(|name| !named.contains(*name)), "randomness is handed in: {named:?}");
}

#[test]
fn the_check_of_arrows_sees_a_wrong_one_and_an_unknown_crate() {
    let members = graph(&[
        ("zerocloud-crdt", "zerocloud"),
        ("zerocloud", "zerocloud-crdt"),
        ("zerocloud-testnet", "zerocloud"),
        ("zerocloud-extra", "serde"),
    ]);
    assert_eq!(wrong_arrows(&members), ["zerocloud-crdt -> zerocloud", "zerocloud-extra is not in the table"]);
}

#[test]
fn the_check_of_effects_sees_them_however_deep() {
    let tree = read_tree();
    let below_node = effects_below(&tree.built, "zerocloud");
    assert!(below_node.iter().any(|found| found == "asynchronous runtimes: zerocloud -> tokio"), "{below_node:?}");

    let built = graph(&[("zerocloud-crdt", "a"), ("a", "b"), ("b", "redb")]);
    assert_eq!(effects_below(&built, "zerocloud-crdt"), ["files: zerocloud-crdt -> a -> b -> redb"]);
}

/// What says in the manifests of our crates that it builds deliberate faults: defaults, and dependencies by their edges.
fn edges_to_faults(packages: &Value) -> Vec<String> {
    let mut edges = Vec::new();
    for package in packages.as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let is_fault = |feature: &Value| feature.as_str().is_some_and(|feature| feature.ends_with(FAULTS));
        for (feature, switched) in package["features"].as_object().unwrap() {
            let switched = switched.as_array().unwrap().iter().filter(|switched| is_fault(switched));
            edges.extend(switched.map(|switched| format!("{name}: {feature} = {}", switched.as_str().unwrap())));
        }
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["features"].as_array().unwrap().iter().any(is_fault) {
                edges.push(format!("{name} -> {}", dependency["name"].as_str().unwrap()));
            }
        }
    }
    edges.sort();
    edges
}

/// The feature that builds deliberate faults.
const FAULTS: &str = "mutations";

#[test]
fn nothing_builds_deliberate_faults_but_the_feature_of_that_name() {
    let answer = cargo(&["metadata", "--offline", "--locked", "--format-version=1", "--no-deps"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let allowed = [
        "zerocloud-testnet: mutations = zerocloud-crdt/mutations",
        "zerocloud-testnet: mutations = zerocloud/mutations",
        "zerocloud: mutations = zerocloud-crdt/mutations",
    ];
    assert_eq!(edges_to_faults(&answer["packages"]), allowed);

    let program = std::fs::read_to_string(workspace().join("node/src/main.rs")).unwrap();
    let guard = "#[cfg(all(feature = \"mutations\", not(debug_assertions)))]\ncompile_error!";
    assert!(program.contains(guard), "a release build of the program with faults in it must not compile");
}

#[test]
fn the_check_of_deliberate_faults_sees_a_default_and_a_dependency() {
    let packages = serde_json::json!([{
        "name": "a",
        "features": { "default": ["mutations"], "other": [] },
        "dependencies": [{ "name": "b", "features": ["mutations"] }, { "name": "c", "features": ["conformance"] }],
    }]);
    assert_eq!(edges_to_faults(&packages), ["a -> b", "a: default = mutations"]);
}

/// What speaks to other devices, and may hold of a space only what is sealed or signed.
const SPEAKERS: [&str; 6] = [
    "node/src/link",
    "node/src/link.rs",
    "node/src/session",
    "node/src/session.rs",
    "node/src/wire.rs",
    "node/src/peers",
];

/// Modules and types of plaintext: names, contents and what they are made of, the user's files, and the keys to them.
const PLAINTEXT: [&str; 17] = [
    "crate::tree",
    "crate::volume",
    "crate::folder",
    "crate::store",
    "crate::answers",
    "zerocloud_crdt::base",
    "zerocloud_crdt::change",
    "zerocloud_crdt::index",
    "zerocloud_crdt::manifest",
    "zerocloud_crdt::register",
    "zerocloud_crdt::scan",
    "zerocloud_crdt::seal",
    "zerocloud_crdt::view",
    "EpochSecret",
    "ChunkKeys",
    "Keyring",
    "Snapshot",
];

/// What a source names of that, outside its comments.
fn plaintext_in(source: &str) -> Vec<&'static str> {
    let code: String = source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    // A group of paths begins with what they share.
    let code = code.replace("use zerocloud_crdt::{", "use zerocloud_crdt::").replace(' ', "");
    PLAINTEXT.into_iter().filter(|name| code.contains(name)).collect()
}

/// Rust sources at or below a path, but for tests.
fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_path_buf()];
    }
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.filter(|entry| !entry.ends_with("tests") && !entry.ends_with("tests.rs"));
    entries.flat_map(|entry| sources(&entry)).collect()
}

#[test]
fn threat_29_what_speaks_to_other_devices_can_not_name_plaintext() {
    let mut count = 0;
    for speaker in SPEAKERS {
        for source in sources(&workspace().join(speaker)) {
            let text = std::fs::read_to_string(&source).unwrap();
            let shipped = text.split("#[cfg(test)]").next().unwrap();
            assert_eq!(plaintext_in(shipped), Vec::<&str>::new(), "{}", source.display());
            count += 1;
        }
    }
    assert!(count > 15, "{count} sources were read");
    assert_eq!(plaintext_in("use zerocloud_crdt::{register::Op};"), ["zerocloud_crdt::register"]);
    assert_eq!(plaintext_in("fn f(secret: &EpochSecret) {} // crate::tree"), ["EpochSecret"]);
}

#[test]
fn threat_60_a_banned_crate_turns_the_check_red() {
    let banned = ["bincode", "openssl", "rkyv", "serde_cbor", "yamux"];
    let rules = std::fs::read_to_string(workspace().join("deny.toml")).unwrap();
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    for name in banned {
        assert!(rules.contains(&format!("{{ crate = \"{name}\"")), "{name} is not banned");
        assert!(!lock.contains(&format!("name = \"{name}\"\n")), "{name} is in the tree");
    }
    let has_tool = Command::new(env!("CARGO")).args(["deny", "--version"]).output().unwrap().status.success();
    if !has_tool {
        eprintln!("cargo-deny is not here: that the rules bite was not tried");
        return;
    }
    let rejects = |rules: &Path| {
        let mut command = Command::new(workspace().join(".ci/deny-rejects"));
        command.arg(rules).current_dir(workspace()).output().unwrap().status.success()
    };
    assert!(rejects(&workspace().join("deny.toml")), "fixtures with a banned crate pass");
    // The same rules without one ban let its fixture through, and that is seen.
    let without = tempfile::tempdir().unwrap();
    let weak: String =
        rules.lines().filter(|line| !line.contains("\"yamux\"")).map(|line| format!("{line}\n")).collect();
    std::fs::write(without.path().join("deny.toml"), weak).unwrap();
    assert!(!rejects(&without.path().join("deny.toml")), "rules without a ban go unnoticed");
}

#[test]
fn architecture_md_has_a_paragraph_for_each_folder() {
    let text = std::fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let manifest = std::fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = [")).unwrap();
    for folder in members.trim_end_matches(']').split(',').map(|folder| folder.trim().trim_matches('"')) {
        let heading = format!("### `{folder}/`");
        let paragraph = text.split_once(&heading).unwrap_or_else(|| panic!("no {heading} in ARCHITECTURE.md")).1;
        let paragraph = paragraph.split("\n##").next().unwrap();
        assert!(paragraph.contains("**Invariants**"), "{heading} ends without its invariants");
    }
}

/// Functions that look like parsers of bytes from outside and are no target's matter, each with the reason.
const NOT_FUZZED: [(&str, &str); 4] = [
    ("ContentCheck::accept", "holds a file's own bytes to a hash that is known; reads nothing of them"),
    ("Opener::open_into", "what `Opener::open` calls"),
    ("decode_object", "every object of ours is read by it"),
    ("verify", "every target of something signed passes through it"),
];

/// The names of parameters by which bytes or text from outside come in.
const FROM_OUTSIDE: [&str; 8] = ["bytes", "text", "data", "message", "sealed", "frame", "content", "ancestor"];

/// Public functions from bytes or text to something or an error, and types that are read as a message.
fn parsers(source: &str) -> Vec<String> {
    let (mut found, mut owner, mut lines) = (Vec::new(), String::new(), source.lines());
    while let Some(line) = lines.next() {
        if let Some(head) = line.strip_prefix("impl").and_then(|head| head.strip_suffix(" {")) {
            let (of, named) = head.rsplit_once(" for ").unwrap_or(("", head));
            let named = named.rsplit(['>', ' ']).find(|word| !word.is_empty()).unwrap_or(named);
            owner = named.split('<').next().unwrap_or(named).trim().to_owned();
            if of.split(' ').any(|word| word == "Message" || word.starts_with("Message<")) {
                found.push(format!("{owner}::from_bytes"));
            }
        }
        let Some(rest) = line.trim_start().strip_prefix("pub fn ") else { continue };
        let mut signature = rest.to_owned();
        while !signature.contains('{') && !signature.contains(';') {
            signature.push_str(lines.next().unwrap_or(";"));
        }
        // Whoever borrows from the bytes reads them no less.
        let signature = signature.replace("&'a ", "&").replace("&'b ", "&");
        let is_given = |name: &&str| {
            ["&[u8]", "Vec<u8>", "&str"].iter().any(|kind| signature.contains(&format!("{name}: {kind}")))
        };
        if signature.contains("-> Result<") && FROM_OUTSIDE.iter().any(is_given) {
            let name = signature.split(['(', '<']).next().unwrap_or_default();
            found.push(if line.starts_with(' ') { format!("{owner}::{name}") } else { name.to_owned() });
        }
    }
    found
}

/// Those that the targets' source names nowhere.
fn without_target(parsers: &[String], targets: &str) -> Vec<String> {
    let is_called = |parser: &String| {
        let (owner, name) = parser.split_once("::").unwrap_or(("", parser));
        let is_read = targets.contains(&format!("read::<{owner}>")) && name == "from_bytes";
        is_read || (targets.contains(owner) && targets.contains(&format!("{name}(")) && name != "from_bytes") || {
            targets.contains(&format!("{name}::<")) && owner.is_empty()
        }
    };
    let is_excused = |parser: &String| NOT_FUZZED.iter().any(|(excused, _)| excused == parser);
    parsers.iter().filter(|parser| !is_called(parser) && !is_excused(parser)).cloned().collect()
}

/// The texts of all sources below a folder, without their tests.
fn texts(folder: &str) -> Vec<String> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    sources(&workspace().join(folder)).iter().map(read).collect()
}

#[test]
fn each_parser_of_the_pure_crate_has_a_fuzz_target() {
    let (pure, targets) = (texts("crdt/src"), texts("crdt/fuzz/src"));
    let parsers: Vec<String> = pure.iter().flat_map(|source| parsers(source)).collect();
    for known in ["Entry::decode", "Change::decode", "Ticket::parse", "check_t2", "Log::from_bytes", "Records::insert"]
    {
        assert!(parsers.iter().any(|parser| parser == known), "{known} is not found: {parsers:?}");
    }
    assert_eq!(without_target(&parsers, &targets.concat()), Vec::<String>::new());
    let stale = NOT_FUZZED.iter().filter(|(name, _)| !parsers.iter().any(|parser| parser == name));
    assert_eq!(stale.count(), 0, "an excuse for what is not there");
}

#[test]
fn the_check_of_targets_sees_a_parser_without_one() {
    let source = "impl<'b> Message<'b> for Gossip<'b> {\n}\nimpl<'a> Rumour<'a> {\n    pub fn decode(\n        bytes: &[u8],\n    ) -> \
                  Result<Self, E> {\n    }\n    pub fn len(&self) -> usize {\n}\npub fn hear(text: &str) -> Result<(), E> {\n";
    let found = parsers(source);
    assert_eq!(found, ["Gossip::from_bytes", "Rumour::decode", "hear"]);
    assert_eq!(without_target(&found, "read::<Gossip>(bytes); hear(text)"), ["Rumour::decode"]);
}
