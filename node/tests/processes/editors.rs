//! How programs and people work in a folder.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use super::harness::{Device, Lab, agree, conflict_copies, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// Runs a program of the system; false, and loudly, if there is none.
fn system(dir: &Path, program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null());
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for name in ["GIT_AUTHOR", "GIT_COMMITTER"] {
        command.env(format!("{name}_NAME"), "A").env(format!("{name}_EMAIL"), "a@example.org");
    }
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(error) => {
            // Past the test runner, which shows nothing of a test that passes.
            let skipped = format!("!!! SKIPPED: {program} can't be run here: {error}\n");
            std::io::stderr().write_all(skipped.as_bytes()).unwrap();
            false
        }
    }
}

#[test]
fn a_save_by_an_editor_is_an_edit_of_the_same_file() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    a.write("vim.txt", "1");
    // As after an earlier save: who looks just between the two steps then finds `vim.txt` gone, not moved away.
    a.write("vim.txt~", "0");
    a.write("word.txt", "1");
    agree(&[&a, &b]);
    for n in 2..5 {
        // Vim with a backup: the old file is moved aside, the new one written in its place.
        a.write(".vim.txt.swp", "swap");
        a.rename("vim.txt", "vim.txt~");
        a.write("vim.txt", format!("vim {n}"));
        std::fs::remove_file(a.at(".vim.txt.swp")).unwrap();
        // Others write the new file first and rename it over the old one.
        a.write(".word.txt.tmp-1234", format!("word {n}"));
        a.rename(".word.txt.tmp-1234", "word.txt");
        agree(&[&a, &b]);
    }
    assert_eq!(b.tree().paths(), ["vim.txt", "vim.txt~", "word.txt"]);
    assert_eq!(
        (b.read("vim.txt"), b.read("vim.txt~"), b.read("word.txt")),
        ("vim 4".into(), "vim 3".into(), "word 4".into())
    );
    for (device, file) in
        [(&a, "Photos/vim.txt"), (&b, "Photos/vim.txt"), (&a, "Photos/word.txt"), (&b, "Photos/word.txt")]
    {
        let versions = device.ask(&["history", file]);
        // Gone for a moment, if somebody looked between the two steps, is no version of its own.
        let with_bytes = versions["versions"].as_array().unwrap().iter().filter(|version| !version["size"].is_null());
        assert_eq!(with_bytes.count(), 4, "{file}: {versions}");
    }
    assert_eq!(conflict_copies(&b), Vec::<String>::new());
}

#[test]
fn a_repository_is_the_same_on_both_devices_after_clone_and_checkout() {
    let lab = Lab::new(PROGRAM);
    let source = lab.path().join("source");
    std::fs::create_dir_all(source.join("src")).unwrap();
    if !system(&source, "git", &["init", "-q", "-b", "main"]) {
        return;
    }
    let (a, b) = lab.pair();
    for n in 0..60 {
        std::fs::write(source.join(format!("src/file{n}.rs")), format!("fn f{n}() {{}}\n").repeat(50)).unwrap();
    }
    system(&source, "git", &["add", "."]);
    system(&source, "git", &["commit", "-qm", "first"]);
    system(&source, "git", &["checkout", "-qb", "topic"]);
    for n in 0..40 {
        std::fs::write(source.join(format!("src/file{n}.rs")), format!("fn g{n}() {{}}\n").repeat(60)).unwrap();
    }
    system(&source, "git", &["rm", "-q", "src/file50.rs", "src/file51.rs"]);
    system(&source, "git", &["mv", "src/file52.rs", "moved.rs"]);
    system(&source, "git", &["commit", "-qam", "second"]);

    system(a.folder(), "git", &["clone", "-q", source.to_str().unwrap(), "repo"]);
    agree(&[&a, &b]);
    let repo = b.at("repo");
    system(&repo, "git", &["fsck", "--strict"]);
    for branch in ["main", "topic", "main", "topic"] {
        system(&a.at("repo"), "git", &["checkout", "-q", branch]);
        agree(&[&a, &b]);
    }
    // On the other device, as soon as it has it, and back.
    system(&repo, "git", &["checkout", "-q", "main"]);
    agree(&[&a, &b]);
    system(&a.at("repo"), "git", &["diff", "--exit-code", "main"]);
    system(&a.at("repo"), "git", &["fsck", "--strict"]);
    assert_eq!(conflict_copies(&a), Vec::<String>::new());
}

#[test]
fn an_archive_may_be_unpacked_removed_and_unpacked_again() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    let packed = lab.path().join("packed");
    for n in 0..150 {
        let path = packed.join(format!("album/{}/photo {n}", n % 7));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, vec![u8::try_from(n).unwrap(); 3_000]).unwrap();
    }
    if !system(&packed, "tar", &["cf", "../photos.tar", "album"]) {
        return;
    }
    let unpack = |device: &Device| {
        system(device.folder(), "tar", &["xf", "../photos.tar"]);
    };
    unpack(&a);
    agree(&[&a, &b]);
    assert_eq!(b.tree().file_count(), 150);
    std::fs::remove_dir_all(a.at("album")).unwrap();
    agree(&[&a, &b]);
    assert!(b.tree().paths().is_empty(), "{:?}", b.tree().paths());
    unpack(&b);
    agree(&[&a, &b]);
    // Nobody waits in between.
    std::fs::remove_dir_all(b.at("album")).unwrap();
    unpack(&b);
    std::fs::remove_dir_all(b.at("album/3")).unwrap();
    agree(&[&a, &b]);
    assert!(!a.at("album/3").exists());
    assert_eq!(a.tree().file_count(), (0..150).filter(|n| n % 7 != 3).count());
    assert_eq!(conflict_copies(&a), Vec::<String>::new());
}

#[test]
fn names_may_be_swapped_and_change_only_their_case() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    a.write("one", "1");
    a.write("two", "2");
    a.write("d one/in", "in one");
    a.write("d two/in", "in two");
    a.write("readme", "text");
    agree(&[&a, &b]);
    let inodes = |device: &Device, paths: [&str; 3]| paths.map(|path| device.at(path).metadata().unwrap().ino());
    let before = inodes(&b, ["one", "two", "readme"]);
    for (one, two) in [("one", "two"), ("d one", "d two")] {
        a.rename(one, "aside");
        a.rename(two, one);
        a.rename("aside", two);
    }
    a.rename("readme", "README");
    agree(&[&a, &b]);
    assert_eq!((b.read("one"), b.read("d one/in")), ("2".into(), "in two".into()));
    assert_eq!(b.tree().paths(), ["README", "d one", "d one/in", "d two", "d two/in", "one", "two"]);
    assert_eq!(inodes(&b, ["two", "one", "README"]), before, "files were moved, not written");
    assert_eq!(conflict_copies(&b), Vec::<String>::new());
}

#[test]
fn a_directory_that_is_renamed_is_moved_and_not_sent_again() {
    const FILE_LEN: usize = 70 << 10;
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    for n in 0..300_u32 {
        let content: Vec<u8> = (0..FILE_LEN / 32)
            .flat_map(|at| {
                *blake3::hash(&[n.to_le_bytes(), u32::try_from(at).unwrap().to_le_bytes()].concat()).as_bytes()
            })
            .collect();
        a.write(&format!("holidays/day {}/photo {n}", n % 9), content);
    }
    agree(&[&a, &b]);
    let inodes = |top: &str| -> Vec<u64> {
        (0..300).map(|n| b.at(format!("{top}/day {}/photo {n}", n % 9)).metadata().unwrap().ino()).collect()
    };
    let (before, written) = (inodes("holidays"), b.written_len());
    assert!(written > 300 * FILE_LEN as u64, "what is measured counts the content: {written}");
    a.rename("holidays", "Holidays in Rome");
    agree(&[&a, &b]);
    assert_eq!(inodes("Holidays in Rome"), before);
    let more = b.written_len() - written;
    assert!(more < 300 * FILE_LEN as u64 / 4, "{more} bytes were written for a rename");
}

#[test]
fn a_file_that_is_appended_to_all_the_while_holds_up_no_other() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    let is_over = AtomicBool::new(false);
    let log = a.at("log.txt");
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&is_over);
        scope.spawn(|| {
            let mut file = std::fs::File::create(&log).unwrap();
            let mut n = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                file.write_all(format!("line {n}\n").as_bytes()).unwrap();
                n += 1;
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        });
        for n in 0..5 {
            let name = format!("other {n}");
            a.write(&name, &name);
            until("the other file is there", || b.at(&name).exists() && b.read(&name) == name);
            let back = format!("back {n}");
            b.write(&back, &back);
            until("the other device's file is there", || a.at(&back).exists() && a.read(&back) == back);
        }
    });
    agree(&[&a, &b]);
    assert!(b.read("log.txt").ends_with('\n') && b.read("log.txt").starts_with("line 0\n"));
    assert_eq!(conflict_copies(&a), Vec::<String>::new());
}

/// Ends the writer also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn the_executable_bit_travels_both_ways() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    let set = |device: &Device, path: &str, mode: u32| {
        std::fs::set_permissions(device.at(path), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let is_executable = |device: &Device, path: &str| device.at(path).metadata().unwrap().mode() & 0o100 != 0;
    a.write("run.sh", "#!/bin/sh\n");
    set(&a, "run.sh", 0o755);
    a.write("text", "text");
    agree(&[&a, &b]);
    assert!(is_executable(&b, "run.sh") && !is_executable(&b, "text"));
    set(&b, "run.sh", 0o644);
    set(&b, "text", 0o755);
    agree(&[&a, &b]);
    assert!(!is_executable(&a, "run.sh") && is_executable(&a, "text"));
}
