//! Where keys may not be: in logs, in what any user of the machine sees of a process, in what was exchanged.

use std::os::unix::process::ExitStatusExt;

use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL, HEXLOWER, HEXUPPER};

use super::harness::{Device, Lab, Place, agree};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

/// The secrets of a home: seed of the device, seed of recovery, and the newest secret of an epoch.
fn secrets_of(device: &Device) -> Vec<Vec<u8>> {
    let file = std::fs::read(device.home().join("secrets")).unwrap();
    // Format, seed, how recovery is kept (0: as a seed), seed, spaces; at the end an epoch's secret and a checksum.
    assert_eq!(file[33], 0, "the recovery seed is still here");
    let end = file.len() - 32;
    [1..33, 34..66, end - 32..end].map(|range| file[range].to_vec()).to_vec()
}

/// A secret as it is, and in every text form in which bytes are usually shown. Half of it is as bad.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![secret.to_vec()];
    for half in secret.chunks(16) {
        let decimal = half.iter().map(u8::to_string).collect::<Vec<_>>();
        let hex = half.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>();
        all.extend([decimal.join(", "), decimal.join(","), hex.join(", "), hex.join(":")].map(String::into_bytes));
        all.push(half.to_vec());
        all.extend([HEXLOWER.encode(half), HEXUPPER.encode(half)].map(String::into_bytes));
        for (offset, unsure) in [(0, 0), (1, 2), (2, 3)] {
            for alphabet in [&BASE64, &BASE64URL] {
                let text = alphabet.encode(&[&[0; 2][..offset], half].concat());
                let text = text.trim_end_matches('=');
                all.push(text.as_bytes()[unsure..text.len() - 1].to_vec());
            }
        }
        let text = BASE32_NOPAD.encode(half);
        all.extend([text[..text.len() - 1].to_owned(), text[..text.len() - 1].to_lowercase()].map(String::into_bytes));
    }
    all
}

fn is_in(bytes: &[u8], form: &[u8]) -> bool {
    bytes.windows(form.len()).any(|window| window == form)
}

/// What can be seen of every process that names this home, and how many these are.
fn seen_of_processes(home: &std::path::Path) -> (Vec<u8>, usize) {
    let (mut seen, mut count) = (Vec::new(), 0);
    for process in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(line) = std::fs::read(process.path().join("cmdline")) else { continue };
        if is_in(&line, home.as_os_str().as_encoded_bytes()) {
            count += 1;
            seen.extend(line);
            for file in ["environ", "comm", "status"] {
                seen.extend(std::fs::read(process.path().join(file)).unwrap_or_default());
            }
        }
    }
    (seen, count)
}

#[test]
fn threat_58_no_key_is_in_logs_or_in_what_is_seen_of_a_process() {
    let lab = Lab::new(PROGRAM);
    let [mut a, mut b] = ["laptop", "desk"].map(|name| {
        let within = vec!["env".to_owned(), "ZEROCLOUD_LOG=trace".to_owned()];
        lab.device_in(Place { within, ..Place::default() }, name)
    });
    a.write("x", "1");
    a.add_space();
    let ticket = a.invite(&["--me"]);
    b.join(&ticket);
    agree(&[&a, &b]);
    b.write("y", "2".repeat(300_000));
    agree(&[&b, &a]);
    let words = a.ask(&["recovery", "show"])["words"].as_array().unwrap().clone();
    let words: Vec<&str> = words.iter().filter_map(|word| word.as_str()).collect();
    assert_eq!(words.len(), 24);

    let mut forbidden: Vec<Vec<u8>> = [&a, &b].into_iter().flat_map(secrets_of).flat_map(|it| forms(&it)).collect();
    forbidden.push(ticket.as_bytes()[ticket.len() - 30..].to_vec());
    forbidden.push(words[..4].join(" ").into_bytes());
    for device in [&a, &b] {
        let (seen, count) = seen_of_processes(device.home());
        assert!(count > 0, "the node of {} was not found", device.name());
        let log = device.log();
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "{} logs all that it can", device.name());
        for form in &forbidden {
            assert!(!is_in(&seen, form), "a secret is seen of {}", device.name());
            assert!(!is_in(log.as_bytes(), form), "{} logged a secret", device.name());
        }
    }
    for device in [&mut a, &mut b] {
        device.stop();
    }
}

/// A shell that lets what it becomes write cores, as large as they are.
fn letting_cores() -> Vec<String> {
    ["sh", "-c", "ulimit -c unlimited 2>/dev/null; exec \"$@\"", "sh"].map(str::to_owned).to_vec()
}

#[test]
fn threat_58_a_node_that_breaks_leaves_no_core() {
    let lab = Lab::new(PROGRAM);
    let mut node = lab.device_in(Place { within: letting_cores(), ..Place::default() }, "laptop");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.process_id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{line}");
    let status = node.break_off();
    assert_eq!(status.signal(), Some(6), "{status}");
    assert!(!status.core_dumped(), "a core was written");
    let around = node.folder().parent().unwrap();
    let names = std::fs::read_dir(around).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("core")).count(), 0);
}

#[test]
fn a_program_that_lets_cores_be_written_is_told_from_a_node() {
    let within = letting_cores();
    let mut shell = std::process::Command::new(&within[0]);
    let directory = tempfile::tempdir().unwrap();
    let status = shell.args(&within[1..]).args(["sh", "-c", "kill -ABRT $$"]).current_dir(&directory).status().unwrap();
    assert_eq!(status.signal(), Some(6));
    if !status.core_dumped() {
        eprintln!("no program leaves a core on this machine (see core(5)): what a node leaves was not tried");
    }
}

#[test]
fn a_key_that_is_logged_in_any_form_is_found() {
    let secret: Vec<u8> = (100..132).collect();
    for text in [format!("seed={secret:?}"), format!("seed={secret:02x?}"), BASE64.encode(&secret)] {
        assert!(forms(&secret).iter().any(|form| is_in(text.as_bytes(), form)), "{text}");
    }
}
