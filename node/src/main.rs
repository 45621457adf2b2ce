//! The `zerocloud` program.

use std::process::ExitCode;

#[cfg(all(feature = "mutations", not(debug_assertions)))]
compile_error!(
    "a program that ships is not built with faults in it: leave the feature `mutations` to the test network"
);

/// Gives what work needed back to the system soon after, from a thread that sleeps while there is nothing to give; how
/// soon, and from how many arenas threads share, stands in `.cargo/config.toml`, as it is compiled in.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Odd sandboxes refuse it; that is no reason not to run.
    let _ = zerocloud::home::forbid_core_dumps();
    let _ = zerocloud::home::allow_many_open_files();
    zerocloud::cli::run::<zerocloud::node::Node>(std::env::args_os())
}
