//! What can be read on the wire and in the logs: nothing.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use super::canary::words_in;
use super::harness::{Lab, agree};
use super::network::{Cable, Packet};
use super::{PROGRAM, rights};

const LAPTOP: &str = "Quittenlaptop";
const DESK: &str = "Mirabellenpult";
const SPACE: &str = "Holunderfotos";
const DIRECTORY: &str = "Brombeerordner";
const FILE: &str = "Schlehenbild.jpg";
const RENAMED: &str = "Hagebuttenbild.jpg";
const COMPOSED: &str = "Preiselbeerm\u{fc}sli";
const DECOMPOSED: &str = "Sanddornmu\u{308}sli";
const LINK_TARGET: &str = "Kornelkirschenziel";
const CONTENT: &str = "Berberitzeninhalt";
const EDIT: &str = "Vogelbeernachtrag";

const WORDS: [&str; 11] =
    [LAPTOP, DESK, SPACE, DIRECTORY, FILE, RENAMED, COMPOSED, DECOMPOSED, LINK_TARGET, CONTENT, EDIT];

fn joined(packets: &[Packet]) -> Vec<u8> {
    packets.iter().flat_map(|packet| &packet.0).copied().collect()
}

#[test]
fn threat_29_nothing_readable_is_sent_or_logged() {
    if !rights::is_root() {
        return;
    }
    let lab = Lab::new(PROGRAM);
    let cable = Cable::new();
    let capture = cable.ends[0].capture();
    let [a, b] = [(0, LAPTOP), (1, DESK)].map(|(end, name)| lab.device_in(cable.ends[end].place(), name));
    a.write(&format!("{DIRECTORY}/{FILE}"), CONTENT);
    a.write(COMPOSED, CONTENT.repeat(5_000));
    a.write(&format!("{DIRECTORY}/{DECOMPOSED}/{FILE}"), format!("{}{CONTENT}", "\0".repeat(300_000)));
    std::os::unix::fs::symlink(LINK_TARGET, a.at("link")).unwrap();
    a.run(&["space", "add", a.folder().to_str().unwrap(), "--name", SPACE]);
    let ticket = a.run(&["invite", SPACE, "--me"]).lines().last().unwrap().to_owned();
    b.join(&ticket);
    agree(&[&a, &b]);
    std::fs::rename(b.at(DIRECTORY).join(FILE), b.at(DIRECTORY).join(RENAMED)).unwrap();
    b.write(COMPOSED, EDIT);
    agree(&[&b, &a]);
    assert_eq!((a.read(COMPOSED), a.read(&format!("{DIRECTORY}/{RENAMED}"))), (EDIT.to_owned(), CONTENT.to_owned()));

    let packets = capture.end();
    let ends = cable.ends.each_ref().map(|end| end.address());
    let exchanged_len: usize = packets.iter().filter(|it| it.ends().is_some()).map(|it| it.0.len()).sum();
    assert!(exchanged_len > 10_000, "only {exchanged_len} bytes were seen between {ends:?}");
    let secret = &ticket[ticket.len() - 40..];
    let words = [&WORDS[..], &[secret]].concat();
    assert_eq!(words_in(&joined(&packets), &words), [].into(), "what could be read on the cable");
    for device in [&a, &b] {
        assert!(!device.log().is_empty());
        assert_eq!(words_in(device.log().as_bytes(), &words), [].into(), "what {} logged", device.name());
    }
}

#[test]
fn a_word_that_is_sent_in_the_clear_is_found() {
    if !rights::is_root() {
        return;
    }
    let cable = Cable::new();
    let [here, there] = &cable.ends;
    let capture = here.capture();
    let listener = there.inside(|| TcpListener::bind((there.address(), 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let mut stream = here.inside(|| TcpStream::connect(address).unwrap());
    stream.write_all(format!("{{\"name\": \"{CONTENT}\"}}").as_bytes()).unwrap();
    stream.write_all(data_encoding::BASE64.encode(format!("/{FILE}").as_bytes()).as_bytes()).unwrap();
    let mut received = String::new();
    drop(stream);
    std::io::Read::read_to_string(&mut listener.accept().unwrap().0, &mut received).unwrap();
    assert_eq!(words_in(&joined(&capture.end()), &WORDS), [CONTENT, FILE].into());
}
