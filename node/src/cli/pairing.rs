//! Commands in which a person reads words and answers: tickets with confirmation, and the recovery words.

use super::error::CommandError;
use super::{Node, show};
use crate::api::Backend;
use crate::api::client::Client;
use crate::api::types::*;

/// Makes a ticket; where it asks for confirmation, waits for the other device and asks the user.
pub(super) async fn invite<B: Backend>(node: &Node<'_>, request: Invite) -> Result<(), CommandError> {
    let needs_confirmation = request.guest == Guest::Me { confirm: true };
    if !needs_confirmation {
        let invitation = node.call::<B, _>(request).await?;
        let is_up = node.client()?.is_up().await;
        print_ticket(node, &invitation, is_up);
        return Ok(());
    }
    let client = node.client()?;
    // Before the ticket is out, so that no pairing is missed.
    let mut events = client.events().await?;
    let invitation = client.call(&request, |_| {}).await?;
    print_ticket(node, &invitation, true);
    node.terminal.note("Waiting for the other device; Ctrl-C ends the wait and lets nobody in.");
    while let Some(event) = events.next().await? {
        if let What::Pairing { space, device, name, words, needs_confirmation: true } = event.what
            && space == invitation.space
        {
            return confirm(node, &client, device, &name, &words).await;
        }
    }
    Err(CommandError::failed("the node stopped before the other device came", "start it and make a new ticket"))
}

/// `is_up`: whether a node runs that can answer to it.
fn print_ticket(node: &Node<'_>, invitation: &Invitation, is_up: bool) {
    if !node.terminal.is_json() {
        node.terminal.note(&show::invitation(invitation, is_up));
    }
    node.terminal.answer(invitation, |invitation| invitation.ticket.clone());
}

async fn confirm(
    node: &Node<'_>,
    client: &Client,
    device: String,
    name: &str,
    words: &[String],
) -> Result<(), CommandError> {
    node.terminal.note(&format!("\n`{}` wants to join.\n{}", show::escaped(name), show::pairing_words(words)));
    let answer = node.terminal.ask("Does the other screen show the same words? [y/N]");
    let accept = answer.is_some_and(|answer| matches!(answer.as_str(), "y" | "Y" | "yes"));
    client.call(&ConfirmPairing { device, accept }, |_| {}).await?;
    let refused = "the words were not confirmed; nobody was let in";
    let hint = "the ticket can still be used; if the words differed, make a new one and give it to nobody else";
    if accept { Ok(()) } else { Err(CommandError::failed(refused, hint)) }
}

/// Prints the recovery words; a person at a terminal can confirm them, and then the seed leaves the home.
pub(super) async fn recovery<B: Backend>(node: &Node<'_>) -> Result<(), CommandError> {
    let answer = node.call::<B, _>(ShowRecovery {}).await?;
    node.terminal.answer(&answer, show::recovery_words);
    if node.terminal.is_json() || !node.terminal.is_terminal() || answer.words.is_empty() {
        return Ok(());
    }
    node.terminal.note(
        "\nWrite these words on paper, in this order. If all your devices are lost, they are the only way to your\n\
         files; whoever has them is you. Once you have confirmed them, this device forgets them.",
    );
    let indexes = some_indexes(answer.words.len())?;
    let numbers = indexes.iter().map(|index| (index + 1).to_string()).collect::<Vec<_>>().join(", ");
    let typed = node.terminal.ask(&format!("To confirm, type words {numbers} (Enter: later):")).unwrap_or_default();
    if typed.is_empty() {
        node.terminal.note("Not confirmed: they can be shown again.");
        return Ok(());
    }
    let is_right = typed
        .split_whitespace()
        .map(str::to_lowercase)
        .eq(indexes.iter().filter_map(|&index| answer.words.get(index)).cloned());
    if !is_right {
        return Err(CommandError::failed(
            "these are other words; nothing was changed",
            "look at the paper, and try again",
        ));
    }
    node.call::<B, _>(ConfirmRecovery {}).await?;
    node.terminal.note("Confirmed. This device no longer knows them.");
    Ok(())
}

/// Three different places, ascending, that nobody knows before.
fn some_indexes(count: usize) -> Result<Vec<usize>, CommandError> {
    let mut indexes = std::collections::BTreeSet::new();
    while indexes.len() < 3.min(count) {
        let random = getrandom::u32().map_err(|error| {
            CommandError::failed(format!("the system gives no random bytes: {error}"), "restart this machine")
        })?;
        indexes.insert(usize::try_from(random).unwrap_or(0) % count);
    }
    Ok(indexes.into_iter().collect())
}
