//! What the kernel keeps this program's threads from, whatever their code tries (Landlock, Linux 5.19 and later).
//!
//! Two layers. *The process* of a node runs no other program, makes no devices and pipes, and gets no rights that it
//! did not start with. *A folder's thread*, which does what peers' entries say, opens nothing outside its folder, nor do
//! the threads that it starts. A layer never widens, which is why the second is no matter of the process: folders come
//! while a node runs. How files are touched at all is in [`crate::volume`]; this here is for the day on which that has
//! an error.

use std::os::fd::{AsFd, BorrowedFd};

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, make_bitflags,
};

/// Whether a layer is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confined {
    /// It is.
    Yes,
    /// This kernel has no Landlock, not all that is needed, or something forbids to ask for it.
    NotHere,
}

/// What is handled: everything that acts on files since Linux 6.10; older kernels handle what they know of it.
const HANDLED: ABI = ABI::V5;
/// No thread of a node does this, anywhere.
const NEVER: BitFlags<AccessFs> = make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeFifo});
/// What a folder's thread reads beside its folder: its mounts, and how many processors it may use.
const SYSTEM: [&str; 2] = ["/proc/self", "/sys/fs/cgroup"];

/// Takes from this thread, and from those that it starts, what no part of a node does: to run a program, to make a
/// device or a pipe, and to get rights by a program's file. To be called before there are threads.
pub fn process() -> Confined {
    // Without a rule every layer forbids to rename from one directory to another.
    let Ok(root) = PathFd::new("/") else { return Confined::NotHere };
    let moves = PathBeneath::new(root.as_fd(), AccessFs::Refer);
    let ruleset = Ruleset::default().handle_access(NEVER | AccessFs::Refer).and_then(Ruleset::create);
    let ruleset = ruleset.and_then(|ruleset| ruleset.add_rule(moves));
    told(ruleset.and_then(RulesetCreated::restrict_self).map(|status| status.ruleset))
}

/// Lets this thread, and those that it starts, open nothing but what is in the directory `root`, and of `SYSTEM` what
/// is there. Handles that are open stay as they are.
pub fn folder(root: BorrowedFd<'_>) -> Confined {
    told(confine_to(root))
}

/// Whether threads can be confined here. Tries it on a thread that does nothing else.
pub fn is_possible() -> bool {
    let attempt = || PathFd::new("/proc/self").is_ok_and(|root| folder(root.as_fd()) == Confined::Yes);
    std::thread::spawn(attempt).join().unwrap_or(false)
}

fn confine_to(root: BorrowedFd<'_>) -> Result<RulesetStatus, RulesetError> {
    let all = AccessFs::from_all(HANDLED);
    let inside = all & !NEVER & !BitFlags::from(AccessFs::MakeSock);
    let mut ruleset = Ruleset::default().handle_access(all)?.create()?.add_rule(PathBeneath::new(root, inside))?;
    for path in SYSTEM {
        // What is not there is not read.
        if let Ok(system) = PathFd::new(path) {
            ruleset = ruleset.add_rule(PathBeneath::new(system.as_fd(), AccessFs::ReadFile | AccessFs::ReadDir))?;
        }
    }
    Ok(ruleset.restrict_self()?.ruleset)
}

fn told(status: Result<RulesetStatus, RulesetError>) -> Confined {
    match status {
        Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced) => Confined::Yes,
        Ok(RulesetStatus::NotEnforced) => Confined::NotHere,
        Err(error) => {
            tracing::debug!(%error, "the kernel does not confine this thread");
            Confined::NotHere
        }
    }
}

#[cfg(test)]
mod tests;
