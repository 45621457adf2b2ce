//! Names on disks that can't hold them all.

use proptest::prelude::*;

use super::*;

const ALL: [NameRules; 3] = [NameRules::Linux, NameRules::MacOs, NameRules::Windows];

fn name(bytes: &[u8]) -> Name {
    Name::parse(bytes).unwrap()
}

#[test]
fn threat_36_what_windows_would_take_for_something_else_gets_a_name_of_its_own() {
    for (bytes, local, objection) in [
        (&b"a:b"[..], "a\u{f03a}b", Objection::Character(':')),
        (b"file.txt:stream:$DATA", "file.txt\u{f03a}stream\u{f03a}$DATA", Objection::Character(':')),
        (b"..\\up", "..\u{f05c}up", Objection::Character('\\')),
        (b"\\\\?\\C:", "\u{f05c}\u{f05c}\u{f03f}\u{f05c}C\u{f03a}", Objection::Character('\\')),
        (b"a\x01\n", "a\u{f001}\u{f00a}", Objection::Character('\u{1}')),
        (b"<>\"|?*", "\u{f03c}\u{f03e}\u{f022}\u{f07c}\u{f03f}\u{f02a}", Objection::Character('<')),
        (b"a.", "a\u{f02e}", Objection::End),
        (b"a ", "a\u{f020}", Objection::End),
        (b"...", "..\u{f02e}", Objection::End),
        (b"a. .", "a. \u{f02e}", Objection::End),
        (b"aux", "\u{f061}ux", Objection::Device),
        (b"CON.tar.gz", "\u{f043}ON.tar.gz", Objection::Device),
        (b"Nul .x", "\u{f04e}ul .x", Objection::Device),
        (b"clock$", "\u{f063}lock$", Objection::Device),
        (b"CONIN$.x", "\u{f043}ONIN$.x", Objection::Device),
        (b"lpt0", "\u{f06c}pt0", Objection::Device),
        ("com\u{b9}.log".as_bytes(), "\u{f063}om\u{b9}.log", Objection::Device),
        ("LPT\u{b3}".as_bytes(), "\u{f04c}PT\u{b3}", Objection::Device),
        (b"PROGRA~1", "PROGRA\u{f07e}1", Objection::ShortName),
        (b"a~2.txt", "a\u{f07e}2.txt", Objection::ShortName),
        (b"\xff\xfeaux", "\u{f0ff}\u{f0fe}aux", Objection::IllFormed),
    ] {
        assert_eq!(NameRules::Windows.objection(bytes), Some(objection), "{}", name(bytes));
        assert_eq!(NameRules::Windows.local(&name(bytes)), Some(name(local.as_bytes())), "{}", name(bytes));
        assert_eq!(NameRules::Windows.natural(&name(local.as_bytes())), name(bytes));
        assert_eq!(NameRules::Linux.local(&name(bytes)), Some(name(bytes)));
    }
}

#[test]
fn what_windows_can_hold_stands_as_it_is() {
    for text in [
        "a",
        "con1",
        "console",
        "com",
        "com10",
        "lpt",
        "a.con",
        "auxx.txt",
        "~1",
        "a~b",
        "a~1.html",
        "notes~12345.t",
        ".hidden",
        " a",
        "Größe",
        "日本",
        "a\u{202e}b",
        "a..b",
        "conin",
        "\u{e000}",
    ] {
        assert_eq!(NameRules::Windows.objection(text.as_bytes()), None, "{text}");
        assert_eq!(NameRules::Windows.local(&name(text.as_bytes())), Some(name(text.as_bytes())), "{text}");
        assert_eq!(NameRules::Windows.natural(&name(text.as_bytes())), name(text.as_bytes()), "{text}");
    }
}

#[test]
fn what_has_no_room_for_its_stand_ins_has_no_local_name() {
    let long = name(&[b':'; 86]);
    assert_eq!(NameRules::Windows.local(&long), None);
    assert!(NameRules::Windows.local(&name(&[b':'; 85])).is_some());
    assert_eq!(NameRules::Linux.local(&long), Some(long));
}

#[test]
fn what_no_name_can_have_stood_for_stays_what_its_maker_called_it() {
    // A separator, a directory's own name, and what would be written otherwise.
    for text in ["a\u{f02f}b", "\u{f02e}\u{f02e}", "a\u{f041}", "\u{f000}"] {
        assert_eq!(NameRules::Windows.natural(&name(text.as_bytes())), name(text.as_bytes()), "{text}");
    }
}

/// Names of what the rules look at, and of anything else.
fn any_name() -> impl Strategy<Value = Name> {
    let piece = prop_oneof![
        Just(b"con".to_vec()),
        Just(b"LPT".to_vec()),
        Just(b"nUL".to_vec()),
        Just("\u{b2}".as_bytes().to_vec()),
        Just(b".".to_vec()),
        Just(b" ".to_vec()),
        Just(b"~1".to_vec()),
        Just(b":".to_vec()),
        Just(b"1".to_vec()),
        Just("\u{f03a}".as_bytes().to_vec()),
        Just("\u{f0ff}".as_bytes().to_vec()),
        Just(b"\xef\x80".to_vec()),
        Just("ß".as_bytes().to_vec()),
        any::<char>().prop_map(|c| c.to_string().into_bytes()),
        any::<u8>().prop_map(|byte| vec![byte]),
    ];
    let pieces = proptest::collection::vec(piece, 1..7);
    pieces.prop_filter_map("no name", |pieces| Name::parse(&pieces.concat()).ok())
}

/// What a disk compares that takes upper and lower case for the same.
fn folded(name: &Name) -> Vec<u8> {
    let mut folded = Vec::new();
    for part in name.as_bytes().utf8_chunks() {
        folded.extend(part.valid().chars().flat_map(char::to_uppercase).collect::<String>().into_bytes());
        folded.extend_from_slice(part.invalid());
    }
    folded
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn threat_36_a_local_name_can_stand_and_is_read_back(name in any_name()) {
        for rules in ALL {
            let Some(local) = rules.local(&name) else { continue };
            prop_assert_eq!(rules.objection(local.as_bytes()), None, "{} as {}", &name, &local);
            prop_assert_eq!(rules.natural(&local), name.clone(), "{} as {}", &name, &local);
            // What can stand and does not look like something else's stand-in is left alone.
            let is_plain = std::str::from_utf8(name.as_bytes()).is_ok_and(|text| !text.chars().any(is_stand_in));
            if rules.objection(name.as_bytes()).is_none() && (is_plain || rules == NameRules::Linux) {
                prop_assert_eq!(&local, &name);
            }
            prop_assert_eq!(rules.local(&rules.natural(&local)), Some(local));
        }
    }

    #[test]
    fn threat_36_no_two_names_become_one_not_even_by_case(one in any_name(), other in any_name()) {
        for rules in ALL {
            let (Some(a), Some(b)) = (rules.local(&one), rules.local(&other)) else { continue };
            prop_assert_eq!(a == b, one == other);
            if folded(&a) == folded(&b) {
                prop_assert_eq!(folded(&one), folded(&other), "{} and {}", &one, &other);
            }
        }
    }

    #[test]
    fn whatever_stands_on_a_disk_has_one_name_and_is_found_under_it(local in any_name()) {
        for rules in ALL {
            let natural = rules.natural(&local);
            prop_assert!(natural == local || rules.local(&natural) == Some(local.clone()));
        }
    }
}
