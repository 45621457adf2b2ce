//! What the whole process must not do because it holds secrets, and what it may do because it holds folders.

use zerocloud_crdt::mutated;

/// Forbids core dumps, and on Linux reading this process's memory by other processes of the user.
///
/// # Errors
/// What the system says; the caller warns and goes on, as a hard limit of 0 may be refused in odd sandboxes.
pub fn forbid_core_dumps() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if mutated!(WrittenCores) {
        return Ok(());
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // The limit alone does not stop a core pattern that pipes into a program.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Has as many files open as the system allows: directories are kept open while they are worked in, and the usual soft
/// limit of 1,024 is there for programs that still use `select`.
///
/// # Errors
/// What the system says; the caller goes on with fewer.
pub fn allow_many_open_files() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, getrlimit};

    #[test]
    fn threat_58_no_core_is_written() {
        super::forbid_core_dumps().unwrap();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        #[cfg(target_os = "linux")]
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
    }
}
