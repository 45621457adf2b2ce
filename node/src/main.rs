//! The `zerocloud` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    zerocloud::home::share_memory();
    // Odd sandboxes refuse it; that is no reason not to run.
    let _ = zerocloud::home::forbid_core_dumps();
    let _ = zerocloud::home::allow_many_open_files();
    zerocloud::cli::run::<zerocloud::node::Node>(std::env::args_os())
}
