use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    Name::parse(text.as_bytes()).unwrap()
}

fn file(content: &str) -> Option<Arc<RulesFile>> {
    Some(Arc::new(RulesFile::parse(content.as_bytes())))
}

/// Whether the path is ignored under rules files at the directories given.
fn is_ignored(files: &[(&str, &str)], path: &str, kind: Kind) -> bool {
    let of = |directory: &str| files.iter().find(|(at, _)| *at == directory).and_then(|(_, content)| file(content));
    let mut scope = Scope::root(of(""));
    let mut names: Vec<&str> = path.split('/').collect();
    let leaf = names.pop().unwrap();
    let mut at = String::new();
    for step in names {
        at = if at.is_empty() { step.to_owned() } else { format!("{at}/{step}") };
        scope = scope.below(&name(step), || of(&at));
    }
    scope.ignores(&name(leaf), kind)
}

#[test]
fn patterns_mean_what_they_mean_to_git() {
    let rules = [("", "# comment\n*.o\n!keep.o\n/only-here\ntarget/\ndoc/*.pdf\n\\#odd\nspace\\ \nwin\r\n")];
    let cases = [
        ("a.o", Kind::File, true),
        ("deep/down/a.o", Kind::File, true),
        ("deep/keep.o", Kind::File, false),
        ("only-here", Kind::File, true),
        ("deep/only-here", Kind::File, false),
        ("target", Kind::Directory, true),
        ("target", Kind::File, false),
        ("target", Kind::Symlink, false),
        ("deep/target/any/thing", Kind::File, true),
        ("target/keep.o", Kind::File, true),
        ("doc/a.pdf", Kind::File, true),
        ("doc/deep/a.pdf", Kind::File, false),
        ("other/doc/a.pdf", Kind::File, false),
        ("#odd", Kind::File, true),
        ("# comment", Kind::File, false),
        ("space ", Kind::File, true),
        ("space", Kind::File, false),
        ("win", Kind::File, true),
        ("plain", Kind::File, false),
    ];
    for (path, kind, expected) in cases {
        assert_eq!(is_ignored(&rules, path, kind), expected, "{path} {kind:?}");
    }
}

#[test]
fn the_deepest_file_decides_and_counts_from_its_own_directory() {
    let rules = [("", "*.log\n/a/b/x\n"), ("a", "!*.log\n/top\n"), ("a/b", "*.log\n!x\n"), ("hidden", "!*")];
    let cases = [
        ("z.log", true),
        ("a/z.log", false),
        ("a/c/z.log", false),
        ("a/b/z.log", true),
        ("a/b/x", false),
        ("a/top", true),
        ("top", false),
        ("a/b/top", false),
    ];
    for (path, expected) in cases {
        assert_eq!(is_ignored(&rules, path, Kind::File), expected, "{path}");
    }
    // What is in an ignored directory can't be brought back, by no file.
    let rules = [("", "hidden/\n!hidden/back"), ("hidden", "!*")];
    assert!(is_ignored(&rules, "hidden/back", Kind::File));
}

#[test]
fn a_rules_file_is_ignored_only_with_its_directory() {
    let rules = [("", "*\n!/open/\n")];
    assert!(!is_ignored(&rules, ".zerocloudignore", Kind::File));
    assert!(!is_ignored(&rules, "open/.zerocloudignore", Kind::File));
    assert!(is_ignored(&rules, "closed/.zerocloudignore", Kind::File));
    assert!(is_ignored(&rules, "open/x", Kind::File));
}

#[test]
fn a_malformed_line_is_told_and_the_others_count() {
    let rules = RulesFile::parse(b"a\n[z-a]\nb\n\xff\xfe\n");
    assert_eq!(rules.fault(), Some(RulesFault::Malformed { line: 2 }));
    let scope = Scope::root(Some(Arc::new(rules)));
    assert!(scope.ignores(&name("a"), Kind::File) && scope.ignores(&name("b"), Kind::File));
    assert!(!scope.ignores(&name("c"), Kind::File));
    assert_eq!(RulesFile::parse(b"a\n\xff\xfe\n").fault(), Some(RulesFault::Malformed { line: 2 }));
    assert_eq!(RulesFile::parse(b"").fault(), None);
    assert_eq!(RulesFile::parse("\u{feff}a\n".as_bytes()).fault(), None);
    assert!(is_ignored(&[("", "\u{feff}a")], "a", Kind::File));
}

#[test]
fn names_that_are_not_utf8_are_matched() {
    let scope = Scope::root(file("*.o\n"));
    assert!(scope.ignores(&Name::parse(b"\xff\xfe.o").unwrap(), Kind::File));
    assert!(!scope.ignores(&Name::parse(b"\xff\xfe.c").unwrap(), Kind::File));
}

#[test]
fn what_is_above_the_bounds_does_not_count_and_is_told() {
    let mut long = b"a\n".to_vec();
    long.resize(RULES_LEN_MAX - 3, b'#');
    long.extend_from_slice(b"\ncut-in-the-middle\n");
    let rules = RulesFile::parse(&long);
    assert_eq!(rules.fault(), Some(RulesFault::TooLong { line: 3 }));
    let scope = Scope::root(Some(Arc::new(rules)));
    assert!(scope.ignores(&name("a"), Kind::File));
    // Half a pattern is no pattern.
    assert!(!scope.ignores(&name("c"), Kind::File) && !scope.ignores(&name("cu"), Kind::File));
    let many: String = (0..RULE_COUNT_MAX + 5).map(|n| format!("p{n}\n")).collect();
    let rules = RulesFile::parse(many.as_bytes());
    assert_eq!(rules.fault(), Some(RulesFault::TooLong { line: RULE_COUNT_MAX + 1 }));
    let scope = Scope::root(Some(Arc::new(rules)));
    let (last, above) = (format!("p{}", RULE_COUNT_MAX - 1), format!("p{RULE_COUNT_MAX}"));
    assert!(scope.ignores(&name(&last), Kind::File) && !scope.ignores(&name(&above), Kind::File));
    let id = |n: usize| FileId([(n >> 8) as u8, n as u8].repeat(8).try_into().unwrap());
    let mut rules = Rules::default();
    (0..=RULES_FILE_COUNT_MAX).for_each(|n| rules.add(id(n), file("x").unwrap()));
    assert!(rules.of(id(RULES_FILE_COUNT_MAX - 1)).is_some() && rules.of(id(RULES_FILE_COUNT_MAX)).is_none());
    rules.add(id(0), file("y").unwrap());
    assert_eq!(rules.of(id(0)), file("y").as_ref());
    let mut rules = Rules::default();
    let long = "#".repeat(RULES_LEN_MAX);
    (0..5).for_each(|n| rules.add(id(n), file(&long).unwrap()));
    assert_eq!(rules.directories().count(), RULES_LEN_SUM_MAX / RULES_LEN_MAX);
}

#[test]
fn a_file_that_cannot_be_read_closes_its_directory() {
    let scope = Scope::root(None).below(&name("a"), || Some(Arc::new(RulesFile::closed())));
    assert!(scope.ignores(&name("x"), Kind::File));
    assert!(!scope.ignores(&name(".zerocloudignore"), Kind::File));
    assert!(!Scope::root(None).ignores(&name("x"), Kind::File));
}

#[test]
fn rules_are_stored_and_come_back() {
    let mut rules = Rules::default();
    rules.add(FileId::ROOT, file("*.o\n[z-a]\n").unwrap());
    rules.add(FileId([7; 16]), file("").unwrap());
    let again = Rules::from_contents(rules.contents());
    assert_eq!(again, rules);
    assert_eq!(again.of(FileId::ROOT).unwrap().fault(), Some(RulesFault::Malformed { line: 2 }));
    rules.add(FileId([7; 16]), file("x").unwrap());
    assert_ne!(again, rules);
}

proptest! {
    #[test]
    fn any_content_gives_rules_and_any_name_an_answer(content in proptest::collection::vec(any::<u8>(), 0..400),
                                                      names in proptest::collection::vec("[^/\0]{1,20}", 1..6)) {
        let rules = Arc::new(RulesFile::parse(&content));
        let mut scope = Scope::root(Some(rules.clone()));
        for text in &names {
            let Ok(name) = Name::parse(text.as_bytes()) else { continue };
            let is_ignored = scope.ignores(&name, Kind::Directory);
            scope = scope.below(&name, || Some(rules.clone()));
            prop_assert_eq!(scope.is_ignored(), is_ignored);
        }
        prop_assert!(RulesFile::parse(&rules.content) == *rules);
    }
}

#[test]
fn a_selection_names_what_is_left_out_and_ignores_nothing() {
    let rules = Rules::default().with_selection(file("raw/\n*.iso\n!kept.iso\n/top"));
    assert!(!rules.is_empty() && Rules::default().with_selection(file("# nothing")).is_empty());
    let root = Scope::root(file("*.tmp")).with_selection(rules.selection().cloned());
    let deep = root.below(&name("docs"), || None);
    let raw = deep.below(&name("raw"), || None);
    let left_out = |scope: &Scope, text: &str, kind| scope.leaves_out(&name(text), kind);
    assert!(left_out(&deep, "raw", Kind::Directory) && !left_out(&deep, "raw", Kind::File));
    assert!(left_out(&deep, "a.iso", Kind::File) && !left_out(&deep, "kept.iso", Kind::File));
    assert!(left_out(&root, "top", Kind::File) && !left_out(&deep, "top", Kind::File));
    assert!(left_out(&raw, "kept.iso", Kind::File), "nothing in a directory that is left out is brought back");
    assert!(!deep.ignores(&name("a.iso"), Kind::File) && deep.ignores(&name("a.tmp"), Kind::File));
    // Without its rules files a device would publish what others ignore.
    let all = Scope::root(None).with_selection(file("*"));
    assert!(left_out(&all, "x", Kind::File) && !left_out(&all, ".zerocloudignore", Kind::File));
}
