//! The `zerocloud` program.

use std::process::ExitCode;

#[cfg(all(feature = "mutations", not(debug_assertions)))]
compile_error!(
    "a program that ships is not built with faults in it: leave the feature `mutations` to the test network"
);

fn main() -> ExitCode {
    zerocloud::home::share_memory();
    // Odd sandboxes refuse it; that is no reason not to run.
    let _ = zerocloud::home::forbid_core_dumps();
    let _ = zerocloud::home::allow_many_open_files();
    zerocloud::cli::run::<zerocloud::node::Node>(std::env::args_os())
}
