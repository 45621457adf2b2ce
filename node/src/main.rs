//! The `zerocloud` program.

use std::process::ExitCode;

/// Small pieces of memory by the million are what an import costs most after the disk; glibc keeps much of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Odd sandboxes refuse it; that is no reason not to run.
    let _ = zerocloud::home::forbid_core_dumps();
    let _ = zerocloud::home::allow_many_open_files();
    zerocloud::cli::run::<zerocloud::node::Node>(std::env::args_os())
}
