//! A node that runs as a user who may not read everything.

use std::os::unix::fs::{PermissionsExt, chown};

use super::harness::{Lab, Place, agree, until};
use super::{PROGRAM, rights};

/// Whom a system has for those who own nothing.
const NOBODY: u32 = 65_534;

#[test]
fn what_a_user_may_not_read_is_told_and_never_counts_as_deleted() {
    if !rights::is_root() {
        return;
    }
    // The program lies where another user may not come.
    let shared = tempfile::tempdir().unwrap();
    let set_mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(shared.path(), 0o755);
    let program = shared.path().join("zerocloud");
    std::fs::copy(PROGRAM, &program).unwrap();
    let lab = Lab::new(&program);
    set_mode(lab.path(), 0o755);
    for directory in ["desk", "desk.home"] {
        std::fs::create_dir(lab.path().join(directory)).unwrap();
        chown(lab.path().join(directory), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let within = format!("setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --");
    let within = within.split(' ').map(str::to_owned).collect();
    let a = lab.device("laptop");
    let b = lab.device_in(Place { within, ..Place::default() }, "desk");
    a.write("closed/inner", "before");
    a.write("open", "to all");
    a.add_space();
    b.join(&a.invite(&["--me"]));
    agree(&[&a, &b]);

    b.write("foreign", "of another user");
    set_mode(&b.at("foreign"), 0o600);
    set_mode(&b.at("closed"), 0o000);
    until("what can't be read is told of", || {
        b.run(&["sync"]);
        let status = b.space_status();
        let problems = status["problems"].as_array().unwrap();
        ["foreign", "closed"].iter().all(|path| problems.iter().any(|problem| problem["path"] == *path))
    });
    a.write("closed/inner", "after");
    a.write("later", "came");
    until("the rest goes on", || b.at("later").exists());
    assert!(a.tree().has("closed/inner") && !a.tree().has("foreign"), "{:?}", a.tree().paths());

    set_mode(&b.at("closed"), 0o755);
    chown(b.at("foreign"), Some(NOBODY), Some(NOBODY)).unwrap();
    until("all is synced", || {
        b.run(&["sync"]);
        a.tree().has("foreign") && b.read("closed/inner") == "after"
    });
    agree(&[&a, &b]);
}
