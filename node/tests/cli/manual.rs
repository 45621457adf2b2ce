//! Completions and manual pages, held against the programs that read them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{json, stderr, stdout, zerocloud};

/// Whether a program is here; says loudly what is not tried without it.
fn is_here(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("!!! SKIPPED: `{program}` is not here, so what it says of our output is not known");
    }
    found
}

/// The names of the commands that `help` lists below the words `of`, all of them with those below them.
fn commands(of: &[&str]) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let help = zerocloud(dir.path(), &[of, &["--help"]].concat());
    let list = stdout(&help).split_once("Commands:\n").map(|(_, list)| list).unwrap_or_default();
    // What is indented further goes on with the line before.
    let lines = list.lines().take_while(|line| !line.is_empty()).filter(|line| !line.starts_with("   "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    let mut all = vec![of.iter().map(|word| (*word).to_owned()).collect()];
    for name in names.filter(|name| *name != "help") {
        all.extend(commands(&[of, &[name]].concat()));
    }
    all
}

#[test]
fn bash_completes_commands_options_and_their_values() {
    let dir = tempfile::tempdir().unwrap();
    let script = zerocloud(&dir.path().join("none"), &["completions", "bash"]);
    assert_eq!(script.status.code(), Some(0), "{}", stderr(&script));
    assert!(!dir.path().join("none").exists(), "no home is made for it");
    if !is_here("bash") {
        return;
    }
    let path = dir.path().join("zerocloud.bash");
    std::fs::write(&path, &script.stdout).unwrap();
    let parsed = Command::new("bash").arg("-n").arg(&path).output().unwrap();
    assert!(parsed.status.success(), "{}", stderr(&parsed));

    // As readline calls it: the program, the word before the cursor, the word before that.
    let ask = r#"source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        function=$(complete -p zerocloud); function=${function##*-F }; function=${function%% *}
        "$function" zerocloud "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let complete = |words: &[&str]| {
        let mut bash = Command::new("bash");
        let answer = bash.args(["--norc", "-c", ask, "bash"]).arg(&path).args(words).output().unwrap();
        assert_eq!(stderr(&answer), "", "{words:?}");
        stdout(&answer).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["zerocloud", "hist"]), ["history"]);
    assert_eq!(complete(&["zerocloud", "space", "pa"]), ["pause"]);
    assert_eq!(complete(&["zerocloud", "sync", "--wa"]), ["--wait"]);
    assert_eq!(complete(&["zerocloud", "invite", "--role", "ed"]), ["editor"]);
}

#[test]
fn every_shell_has_completions_that_know_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = zerocloud(dir.path(), &["completions", shell]);
        assert_eq!(script.status.code(), Some(0), "{shell}");
        for name in commands(&[]).iter().filter_map(|words| words.last()) {
            assert!(stdout(&script).contains(name), "{shell}: {name}");
        }
    }
    assert_eq!(zerocloud(dir.path(), &["completions", "cmd.exe"]).status.code(), Some(2));
    let script = json(&zerocloud(dir.path(), &["completions", "fish", "--json"]));
    assert!(script["text"].as_str().unwrap().contains("complete -c zerocloud"), "{script}");
}

/// What programs that read manual pages complain about in one.
fn complaints(page: &Path) -> String {
    let mut said = String::new();
    if is_here("groff") {
        let groff = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(page).output().unwrap();
        said.push_str(stderr(&groff));
    }
    // It wants a date, which would differ from build to build.
    if is_here("mandoc") {
        let mandoc = Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page).output().unwrap();
        said.extend(stdout(&mandoc).lines().filter(|line| !line.contains(" date")));
    }
    said
}

#[test]
fn every_command_has_a_manual_page_that_can_be_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (home, pages) = (dir.path().join("none"), dir.path().join("man/man1"));
    let written = zerocloud(&home, &["man", pages.to_str().unwrap()]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert!(!home.exists(), "no home is made for it");

    let commands = commands(&[]);
    assert!(commands.len() > 25, "{commands:?}");
    let page_of = |words: &[String]| [&["zerocloud".to_owned()], words].concat().join("-") + ".1";
    let expected: BTreeSet<String> = commands.iter().map(|words| page_of(words)).collect();
    let names = std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.collect::<BTreeSet<_>>(), expected);
    for words in &commands {
        let path = pages.join(page_of(words));
        let page = std::fs::read_to_string(&path).unwrap();
        assert!(page.contains("EXAMPLES") && page.contains("zerocloud"), "{page}");
        assert_eq!(complaints(&path), "", "{page}");
    }
    if is_here("man") {
        let mut man = Command::new("man");
        man.arg("-l").arg(pages.join("zerocloud-space-add.1")).env("MANPAGER", "cat").env("MANWIDTH", "80");
        let shown = shown_by(&mut man);
        assert!(shown.contains("zerocloud space add ~/Photos --name Photos"), "{shown}");
    }

    let main = zerocloud(&home, &["man"]);
    let file = std::fs::read_to_string(pages.join("zerocloud.1")).unwrap();
    assert_eq!(stdout(&main), file);
    let refused = zerocloud(&home, &["man", "/proc/none"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("hint: "), "{}", stderr(&refused));
}

fn shown_by(program: &mut Command) -> String {
    let output = program.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    // Bold is overstruck where no terminal looks on.
    stdout(&output).replace("\u{2010}", "-").split('\u{8}').collect()
}
