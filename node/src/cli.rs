//! The command line: turns words into requests, answers into text, and failures into advice and an exit code.
//!
//! `args` is what can be typed, `show` what is printed; nothing here decides anything about files. Text that came
//! from peers or from disk is escaped before it reaches the terminal.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::api::client::Client;
use crate::api::types::Step;
use crate::api::{Backend, Command, Progress};
use crate::daemon::{self, Mode};
use crate::home::{Home, HomeError, LockError};

mod args;
mod commands;
mod error;
mod manual;
mod pairing;
mod progress;
mod run_node;
mod show;
mod terminal;
mod time;

use args::Args;
use error::CommandError;
use progress::ProgressLine;
pub use show::count;
use terminal::Terminal;

/// Runs the command line `args` (the program's name first), with `B` behind the local API of a node that it starts.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 no node is running, 4 timed out.
pub fn run<B: Backend>(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Help and version go to stdout, everything else to stderr; a closed one has no reader.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { error::USAGE } else { error::DONE });
        }
    };
    let terminal = Terminal::of_process(args.json);
    if args.command.workers_count().is_some() {
        // Before there are threads. What the kernel can't do, it does not do.
        let _ = crate::confine::process();
    }
    let done = args.command.workers_count().map_or_else(tokio::runtime::Builder::new_current_thread, |count| {
        // Few workers: each costs memory, and bulk work has a pool of its own.
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(count);
        builder
    });
    let done = { done }.enable_all().build().map_err(CommandError::runtime).and_then(|runtime| {
        let done = runtime.block_on(commands::run::<B>(args, &terminal));
        runtime.shutdown_timeout(std::time::Duration::from_millis(100));
        done
    });
    match done {
        Ok(()) => ExitCode::from(error::DONE),
        Err(error) => {
            terminal.failure(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// How the home's store is asked.
struct Node<'a> {
    home: Option<Home>,
    terminal: &'a Terminal,
}

impl<'a> Node<'a> {
    /// Of the home at `dir`, or the default one. That there is none is no error yet.
    fn of(dir: Option<&Path>, terminal: &'a Terminal) -> Result<Self, CommandError> {
        match Home::open(&Home::locate(dir)?) {
            Ok(home) => Ok(Self { home: Some(home), terminal }),
            Err(HomeError::Absent { .. }) => Ok(Self { home: None, terminal }),
            Err(error) => Err(error.into()),
        }
    }

    fn client(&self) -> Result<Client, CommandError> {
        let home = self.home.as_ref().ok_or_else(CommandError::no_node)?;
        Ok(Client::new(&home.socket_path()))
    }

    /// Gives `command` to the node; to the store itself where none runs and the command makes sense without.
    async fn call<B: Backend, C: Command>(&self, command: C) -> Result<C::Answer, CommandError> {
        let client = self.client()?;
        if C::WORKS_OFFLINE && !client.is_up().await && self.home.as_ref().is_some_and(has_store) {
            return self.call_offline::<B, C>(command).await;
        }
        let mut line = ProgressLine::new(self.terminal);
        let answer = client.call(&command, |step| show_step(&mut line, self.terminal, step)).await;
        line.clear();
        Ok(answer?)
    }

    async fn call_offline<B: Backend, C: Command>(&self, command: C) -> Result<C::Answer, CommandError> {
        let home = self.home.clone().ok_or_else(CommandError::no_node)?;
        let shutdown = tokio_util::sync::CancellationToken::new();
        let setup = match daemon::prepare(home, Mode::Offline, shutdown.clone()) {
            // It holds the home, but does not answer yet, or is another command without a node.
            Err(daemon::RunError::Lock(LockError::Running { .. })) => return Err(CommandError::home_is_busy()),
            setup => setup?,
        };
        let backend = B::open(setup).await?;
        let (progress, _steps) = Progress::channel();
        let answer = command.run(&backend, progress).await;
        shutdown.cancel();
        backend.close().await;
        Ok(answer?)
    }
}

fn has_store(home: &Home) -> bool {
    home.stored_spaces().is_ok_and(|spaces| !spaces.is_empty())
}

fn show_step(line: &mut ProgressLine, terminal: &Terminal, step: Step) {
    match step {
        Step::Words { words } => line.suspended(|| terminal.note(&show::pairing_words(&words))),
        step => line.step(&step),
    }
}
