//! `start` and `up`: commands that are the node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::error::CommandError;
use super::terminal::Terminal;
use super::{commands, show};
use crate::api::Backend;
use crate::api::client::Client;
use crate::api::target::Target;
use crate::api::types::*;
use crate::daemon::{self, RunOptions};
use crate::home::Home;

/// How long the ticket of `up` can be used.
const UP_TICKET_SECS: u64 = 24 * 60 * 60;

pub(super) async fn start<B: Backend>(dir: Option<&Path>, listen: Option<SocketAddr>) -> Result<(), CommandError> {
    let home = Home::open_or_create(&Home::locate(dir)?)?;
    daemon::log_to_stderr();
    daemon::run::<B>(home, RunOptions { listen, ..RunOptions::default() }).await.map_err(CommandError::from)
}

pub(super) async fn up<B: Backend>(
    dir: Option<&Path>,
    folder: Option<PathBuf>,
    listen: Option<SocketAddr>,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    let home = Home::open_or_create(&Home::locate(dir)?)?;
    let folder = commands::absolute(&folder.map_or_else(default_folder, Ok)?)?;
    daemon::log_to_stderr();
    let client = Client::new(&home.socket_path());
    let (ready, is_ready) = oneshot::channel();
    let shutdown = CancellationToken::new();
    let node = daemon::run::<B>(home, RunOptions { listen, ready: Some(ready), shutdown: shutdown.clone() });
    let announce = async {
        // An error: the node ended before it was ready, and says itself why.
        if is_ready.await.is_err() {
            return Ok(());
        }
        let announced = announce(&client, folder, terminal).await;
        if announced.is_err() {
            shutdown.cancel();
        }
        announced
    };
    let (ran, announced) = tokio::join!(node, announce);
    ran?;
    announced
}

fn default_folder() -> Result<PathBuf, CommandError> {
    std::env::home_dir()
        .map(|home| home.join("ZeroCloud"))
        .ok_or_else(|| CommandError::usage("HOME is not set", "say which folder: zerocloud up DIR"))
}

/// Makes the space if there is none, prints a ticket and how to use it, and then tells who comes.
async fn announce(
    client: &Client,
    folder: crate::api::path::BytePath,
    terminal: &Terminal,
) -> Result<(), CommandError> {
    let mut events = client.events().await?;
    let space = space_of(client, folder).await?;
    let request = Invite {
        space: Target::new(&space.id, Path::new("/")),
        guest: Guest::Me { confirm: false },
        expires_secs: UP_TICKET_SECS,
    };
    let invitation = client.call(&request, |_| {}).await?;
    if !terminal.is_json() {
        terminal.note(&show::up_intro(&space));
        if terminal.is_terminal()
            && let Some(code) = show::qr_code(&invitation.ticket, terminal.width())
        {
            terminal.note(&code);
        }
        terminal.note(&show::up_steps(&invitation));
    }
    terminal.answer(&invitation, |invitation| invitation.ticket.clone());
    while let Some(event) = events.next().await? {
        if let What::Pairing { .. }
        | What::Joined { .. }
        | What::Conflict { .. }
        | What::Discrepancy { .. }
        | What::Warning { .. } = event.what
        {
            terminal.note(&show::event(&event));
        }
    }
    Ok(())
}

async fn space_of(client: &Client, folder: crate::api::path::BytePath) -> Result<Space, CommandError> {
    let canonical = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let wanted = canonical(folder.as_ref());
    let spaces = client.call(&ListSpaces {}, |_| {}).await?.spaces;
    match spaces.into_iter().find(|space| canonical(space.dir.as_ref()) == wanted) {
        Some(space) => Ok(space),
        None => Ok(client.call(&AddSpace { dir: folder, name: None }, |_| {}).await?),
    }
}
