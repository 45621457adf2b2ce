//! From what was typed to a request, and from its answer to what is printed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::{Args, Command, MemberCommand, RecoveryCommand, SpaceCommand};
use super::error::CommandError;
use super::terminal::Terminal;
use super::{Node, manual, pairing, run_node, show};
use crate::api::Backend;
use crate::api::path::BytePath;
use crate::api::target::Target;
use crate::api::types::*;

/// How often `status --watch` looks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Behind what `doctor` prints.
const ADVICE_ABOVE: &str = "what is marked as an error says what to do";

pub(super) async fn run<B: Backend>(args: Args, terminal: &Terminal) -> Result<(), CommandError> {
    let dir = args.home.as_deref();
    // These need no home or make one; all others ask the node of one.
    let command = match args.command {
        Command::Completions { shell } => return manual::completions(shell, terminal),
        Command::Man { dir } => return manual::pages(dir.as_deref(), terminal),
        Command::Start { listen } => return run_node::start::<B>(dir, listen.listen).await,
        Command::Up { dir: folder, listen } => return run_node::up::<B>(dir, folder, listen.listen, terminal).await,
        command => command,
    };
    let node = Node::of(dir, terminal)?;
    match command {
        Command::Completions { .. } | Command::Man { .. } | Command::Start { .. } | Command::Up { .. } => Ok(()),
        Command::Stop => stop(&node).await,
        Command::Status { watch } => status::<B>(&node, watch).await,
        Command::Doctor => doctor::<B>(&node).await,
        Command::Events => events(&node).await,
        Command::Space(command) => space::<B>(&node, command).await,
        Command::Invite { space, me, confirm, role, expires } => {
            let guest = if me { Guest::Me { confirm } } else { Guest::Person(role.unwrap_or(Role::Editor)) };
            let request = Invite { space: target(&space)?, guest, expires_secs: expires.as_secs() };
            pairing::invite::<B>(&node, request).await
        }
        Command::Join { ticket, dir } => join::<B>(&node, ticket, dir).await,
        Command::Member(MemberCommand::Ls { space }) => {
            let answer = node.call::<B, _>(ListMembers { space: target(&space)? }).await?;
            terminal.answer(&answer, show::members);
            Ok(())
        }
        Command::Recovery(RecoveryCommand::Show) => pairing::recovery::<B>(&node).await,
        Command::Sync { space, wait, timeout } => {
            let timeout_secs = timeout.map(|timeout| timeout.as_secs());
            let answer =
                node.call::<B, _>(SyncSpaces { space: optional(space.as_deref())?, wait, timeout_secs }).await?;
            terminal.answer(&answer, |report| show::sync_report(report, wait));
            Ok(())
        }
        Command::Ls { target: text } => {
            let answer = node.call::<B, _>(List { target: target(&text)? }).await?;
            terminal.answer(&answer, show::listing);
            Ok(())
        }
        Command::History { path } => {
            let answer = node.call::<B, _>(History { target: target(&path)? }).await?;
            terminal.answer(&answer, show::versions);
            Ok(())
        }
        Command::Restore { path, at, exact } => {
            let answer = node.call::<B, _>(Restore { target: target(&path)?, at_ms: at, exact }).await?;
            terminal.answer(&answer, show::restored);
            Ok(())
        }
        Command::Select { space, without, all } => {
            let without = (all || !without.is_empty()).then_some(without);
            let answer = node.call::<B, _>(Select { space: target(&space)?, without }).await?;
            terminal.answer(&answer, show::selection);
            Ok(())
        }
        Command::Forget { path, awaited } => {
            let answer = node.call::<B, _>(Forget { target: target(&path)?, awaited }).await?;
            terminal.answer(&answer, show::forgotten);
            Ok(())
        }
        Command::Prune { space, older_than } => {
            let request = Prune { space: target(&space)?, older_secs: older_than.as_secs() };
            let answer = node.call::<B, _>(request).await?;
            terminal.answer(&answer, show::pruned);
            Ok(())
        }
        Command::Conflicts { space } => {
            let answer = node.call::<B, _>(ListConflicts { space: optional(space.as_deref())? }).await?;
            terminal.answer(&answer, show::conflicts);
            Ok(())
        }
        Command::Held { space, decision } => {
            let answer = node.call::<B, _>(Held { space: optional(space.as_deref())?, decision }).await?;
            terminal.answer(&answer, |held| show::held(held, decision));
            Ok(())
        }
    }
}

async fn stop(node: &Node<'_>) -> Result<(), CommandError> {
    let client = node.client()?;
    client.stop().await?;
    // The home's lock is the last thing that a node lets go.
    let home = node.home.as_ref().ok_or_else(CommandError::no_node)?;
    let released = async {
        while home.lock().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::daemon::STOP_LIMIT + Duration::from_secs(1), released).await.map_err(|_| {
        CommandError::failed("the node was asked to stop, but still runs", "try again; what it has stored is safe")
    })?;
    node.terminal.answer(&Done {}, |_| String::new());
    Ok(())
}

async fn status<B: Backend>(node: &Node<'_>, is_watching: bool) -> Result<(), CommandError> {
    let terminal = node.terminal;
    loop {
        let status = node.call::<B, _>(StatusRequest {}).await?;
        if !is_watching {
            terminal.answer(&status, |status| show::status(status, terminal.width()));
            return Ok(());
        }
        terminal.frame(&status, show::status);
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

async fn doctor<B: Backend>(node: &Node<'_>) -> Result<(), CommandError> {
    let diagnosis = node.call::<B, _>(Doctor {}).await?;
    node.terminal.answer(&diagnosis, show::diagnosis);
    match diagnosis.checks.iter().filter(|check| check.level == Level::Error).count() {
        0 => Ok(()),
        1 => Err(CommandError::failed("one thing keeps the node from its work", ADVICE_ABOVE)),
        count => Err(CommandError::failed(format!("{count} things keep the node from its work"), ADVICE_ABOVE)),
    }
}

async fn events(node: &Node<'_>) -> Result<(), CommandError> {
    let mut events = node.client()?.events().await?;
    while let Some(event) = events.next().await? {
        node.terminal.line(&event, show::event);
    }
    Ok(())
}

async fn space<B: Backend>(node: &Node<'_>, command: SpaceCommand) -> Result<(), CommandError> {
    let terminal = node.terminal;
    match command {
        SpaceCommand::Add { dir, name } => {
            let answer = node.call::<B, _>(AddSpace { dir: absolute(&dir)?, name }).await?;
            terminal.answer(&answer, |space| show::space_is(space, "is a space now"));
        }
        SpaceCommand::Ls => terminal.answer(&node.call::<B, _>(ListSpaces {}).await?, show::spaces),
        SpaceCommand::Rm { space } => {
            let answer = node.call::<B, _>(RemoveSpace { space: target(&space)? }).await?;
            terminal.answer(&answer, |space| show::space_is(space, "is no longer kept on this device; its files stay"));
        }
        SpaceCommand::Pause { space } => {
            let answer = node.call::<B, _>(PauseSpace { space: target(&space)? }).await?;
            terminal.answer(&answer, |space| show::space_is(space, "is paused"));
        }
        SpaceCommand::Resume { space } => {
            let answer = node.call::<B, _>(ResumeSpace { space: target(&space)? }).await?;
            terminal.answer(&answer, |space| show::space_is(space, "goes on"));
        }
    }
    Ok(())
}

async fn join<B: Backend>(node: &Node<'_>, ticket: String, dir: Option<PathBuf>) -> Result<(), CommandError> {
    let dir = dir.as_deref().map(absolute).transpose()?;
    let space = node.call::<B, _>(Join { ticket: ticket.trim().to_owned(), dir }).await?;
    node.terminal.answer(&space, show::joined);
    Ok(())
}

fn working_directory() -> Result<PathBuf, CommandError> {
    std::env::current_dir().map_err(|error| {
        let hint = "change to a directory that is there";
        CommandError::failed(format!("the working directory is not known: {error}"), hint)
    })
}

fn target(text: &OsStr) -> Result<Target, CommandError> {
    Ok(Target::new(text, &working_directory()?))
}

fn optional(text: Option<&OsStr>) -> Result<Option<Target>, CommandError> {
    text.map(target).transpose()
}

pub(super) fn absolute(path: &Path) -> Result<BytePath, CommandError> {
    if path.as_os_str().is_empty() {
        return Err(CommandError::usage(
            "an empty text is no directory",
            "name one, or leave it out where that has a meaning",
        ));
    }
    Ok(BytePath::from(&working_directory()?.join(path)))
}
