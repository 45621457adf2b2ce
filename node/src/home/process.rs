//! What the whole process must not do because it holds secrets, and what it may do because it holds folders.

/// Forbids core dumps, and on Linux reading this process's memory by other processes of the user.
///
/// # Errors
/// What the system says; the caller warns and goes on, as a hard limit of 0 may be refused in odd sandboxes.
pub fn forbid_core_dumps() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
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

/// Lets all threads take memory from a few arenas, as one for each thread keeps what another has no use for: an import
/// of 80,000 files on 2 cores left 109 and 128 MiB resident on the two sides, and leaves 67 and 69 in no more time. To be
/// called before there are threads.
pub fn share_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let cores = std::thread::available_parallelism().map_or(ARENA_COUNT_MAX, std::num::NonZero::get);
        let count = cores.clamp(2, ARENA_COUNT_MAX) as libc::c_int;
        // SAFETY: `mallopt` takes two numbers; whatever it refuses stays as it was.
        #[expect(unsafe_code, reason = "no safe wrapper of mallopt exists")]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, count);
        }
    }
}

/// With so many, threads of as many cores as a machine at home has seldom wait for each other.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENA_COUNT_MAX: usize = 8;

/// Gives memory that is free back to the system if there is much of it: an import needs some hundred megabytes for a
/// minute, and glibc keeps them for the next one. `floor_len`: what the process had resident after the last time, in
/// bytes. Gives what it has now. Takes some milliseconds if there is something to be done, microseconds if not.
pub fn give_memory_back(floor_len: u64) -> u64 {
    let resident = resident_len();
    if resident < floor_len.saturating_add(SLACK_LEN) {
        return floor_len.min(resident);
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` takes no pointer and locks each arena that it walks (malloc_trim(3): MT-Safe).
        #[expect(unsafe_code, reason = "no safe wrapper of malloc_trim exists")]
        unsafe {
            libc::malloc_trim(0);
        }
    }
    resident_len()
}

/// So much more than after the last time is not worth the work, in bytes.
const SLACK_LEN: u64 = 8 << 20;

/// What the process has resident, in bytes; 0 where the system does not tell.
fn resident_len() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    pages.saturating_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use rustix::process::{Resource, getrlimit};

    #[test]
    fn no_core_is_written() {
        super::forbid_core_dumps().unwrap();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        #[cfg(target_os = "linux")]
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
    }
}
