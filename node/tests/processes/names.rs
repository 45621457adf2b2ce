//! What can stand in a folder: links, nothing, and every name that a file system takes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use super::harness::tree::Thing;
use super::harness::{Lab, agree, conflict_copies};

const PROGRAM: &str = env!("CARGO_BIN_EXE_zerocloud");

#[test]
fn links_arrive_as_they_are_and_are_not_followed() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    let outside = lab.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "not in the space").unwrap();
    a.write("d/inside", "text");
    let links = [
        ("dangling", "nowhere"),
        ("absolute", outside.to_str().unwrap()),
        ("climbing", "../outside"),
        ("to a file", "d/inside"),
        ("to a directory", "d"),
        ("itself", "itself"),
        ("to the root", "/"),
    ];
    for (name, target) in links {
        symlink(target, a.at(name)).unwrap();
    }
    agree(&[&a, &b]);
    for (name, target) in links {
        assert_eq!(b.tree().0[name.as_bytes()], Thing::Link(target.into()));
    }
    assert_eq!(b.tree().file_count(), 1, "{:?}", b.tree().paths());

    // What takes the place of a link takes the link's, not its target's.
    std::fs::remove_file(a.at("climbing")).unwrap();
    a.write("climbing/secret", "in the space");
    std::fs::remove_dir_all(b.at("d")).unwrap();
    symlink("../outside", b.at("d")).unwrap();
    agree(&[&a, &b]);
    assert_eq!(b.read("climbing/secret"), "in the space");
    assert_eq!(a.tree().0[&b"d"[..]], Thing::Link("../outside".into()));
    assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "not in the space");
    std::fs::remove_file(b.at("d")).unwrap();
    std::fs::remove_file(b.at("absolute")).unwrap();
    agree(&[&a, &b]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn empty_files_empty_directories_and_odd_names_arrive() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    let long = [b'n'; 255];
    let names: [&[u8]; 16] = [
        b"new\nline",
        b"not \xff UTF-8 \xc3",
        &long,
        b"-rf",
        b"--help",
        b"aux.txt",
        b"CON",
        b"trailing dot.",
        b"trailing space ",
        b" ",
        b"...",
        b"back\\slash",
        b"quo\"te:colon*star?",
        b"\x1b[31mred",
        "cafe\u{301}".as_bytes(),
        "caf\u{e9}".as_bytes(),
    ];
    for (n, name) in names.iter().enumerate() {
        let name = OsStr::from_bytes(name);
        std::fs::write(a.at(name), format!("file {n}")).unwrap();
        std::fs::create_dir(a.at("d").join(name)).or_else(|_| std::fs::create_dir_all(a.at("d").join(name))).unwrap();
        std::fs::write(a.at("d").join(name).join(name), format!("deep {n}")).unwrap();
    }
    a.write("empty", "");
    std::fs::create_dir_all(a.at("nothing/in/here")).unwrap();
    agree(&[&a, &b]);
    for name in names {
        assert!(b.tree().has(name), "{:?}", b.tree().paths());
    }
    assert!(b.at("nothing/in/here").is_dir());
    assert_eq!(b.at("empty").metadata().unwrap().len(), 0);

    for device in [&a, &b] {
        let listed = device.ask(&["ls", "Photos"]);
        let entries = listed["entries"].as_array().unwrap();
        assert_eq!(entries.len(), names.len() + 3);
        assert!(entries.iter().any(|entry| entry["name"]["hex"] == "6e6f7420ff205554462d3820c3"), "{listed}");
        let text = device.run(&["ls", "Photos"]);
        assert!(!text.contains('\x1b'), "names are escaped: {text:?}");
    }

    // And they can be changed and removed from the other side.
    for name in names {
        let name = OsStr::from_bytes(name);
        std::fs::write(b.at(name), "changed").unwrap();
        std::fs::remove_file(b.at("d").join(name).join(name)).unwrap();
        std::fs::remove_dir(b.at("d").join(name)).unwrap();
    }
    agree(&[&a, &b]);
    assert_eq!(a.tree().file_count(), names.len() + 1);
    assert_eq!(conflict_copies(&a), Vec::<String>::new());
}

#[test]
fn what_is_neither_file_nor_directory_nor_link_stays_where_it_is_and_is_told() {
    let lab = Lab::new(PROGRAM);
    let (a, b) = lab.pair();
    let socket = std::os::unix::net::UnixListener::bind(a.at("socket")).unwrap();
    a.write("beside", "text");
    a.run(&["sync", "--wait", "--timeout", "60s"]);
    assert_eq!(b.read("beside"), "text");
    assert!(a.at("socket").exists() && !b.at("socket").exists());
    let problems = &a.space_status()["problems"];
    assert_eq!(problems[0]["path"], "socket", "{problems}");
    assert!(problems[0]["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    drop(socket);
    std::fs::remove_file(a.at("socket")).unwrap();
    agree(&[&a, &b]);
    assert_eq!(a.space_status()["problems"], serde_json::json!([]));
}
