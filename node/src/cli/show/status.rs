//! `status`.

use super::{bytes, counted, escaped, short};
use crate::api::types::*;

/// Problems that are named for each space; `--json` has them all.
const PROBLEMS_SHOWN_MAX: usize = 5;

pub(in crate::cli) fn status(status: &Status, width: usize) -> String {
    let mut out = format!("zerocloud {} on device {}\n", escaped(&status.version), short(&status.device));
    for warning in &status.warnings {
        out.push_str(&format!("warning: {}\n", escaped(warning)));
    }
    if status.spaces.is_empty() {
        out.push_str("\nNo spaces. `zerocloud space add DIR` makes one, `zerocloud join TICKET` joins one.\n");
    }
    for space in &status.spaces {
        out.push('\n');
        out.push_str(&space_status(space, width));
    }
    out
}

fn space_status(space: &SpaceStatus, width: usize) -> String {
    let name = escaped(&space.name);
    let mut out = format!("{name}  {}  {}\n", summary(space), space.dir);
    out.push_str(&format!(
        "  {} in {}, {}; you are {}\n",
        counted(space.files, "file", "files"),
        counted(space.directories, "folder", "folders"),
        bytes(space.bytes),
        space.role.as_str(),
    ));
    if let Some(error) = &space.error {
        out.push_str(&format!("  stopped: {}\n", escaped(error)));
    }
    for peer in &space.peers {
        out.push_str(&format!("  {}\n", peer_line(peer)));
    }
    if space.peers.is_empty() {
        out.push_str(&format!("  no other device yet: zerocloud invite {name} --me\n"));
    }
    if space.conflicts > 0 {
        let copies = counted(space.conflicts, "conflict copy", "conflict copies");
        out.push_str(&format!("  {copies}: zerocloud conflicts {name}\n"));
    }
    if space.state == State::Held {
        out.push_str(&format!("  many changes wait for your word: zerocloud held {name}\n"));
    }
    if space.awaited > 0 {
        let files = counted(space.awaited, "file is", "files are");
        let away: Vec<String> = space.peers.iter().filter(|peer| !peer.connected).map(peer_name).collect();
        let from = if away.is_empty() { "another device".to_owned() } else { away.join(", ") };
        out.push_str(&format!("  {}\n", shortened(&format!("{files} awaited from {from}"), width)));
        for path in space.awaited_paths.iter().take(PROBLEMS_SHOWN_MAX) {
            out.push_str(&format!("    {}\n", shortened(&path.to_string(), width)));
        }
    }
    if space.left_out > 0 {
        let files = counted(space.left_out, "file is", "files are");
        out.push_str(&format!("  {files} left out on this device: zerocloud select {name}\n"));
    }
    if space.lost > 0 {
        let files = counted(space.lost, "file has", "files have");
        out.push_str(&format!("  {files} a newest version that is lost: zerocloud forget --help\n"));
    }
    for problem in space.problems.iter().take(PROBLEMS_SHOWN_MAX) {
        out.push_str(&format!("  {}\n", shortened(&format!("{}: {}", problem.path, escaped(&problem.reason)), width)));
    }
    let hidden = space.problems.len().saturating_sub(PROBLEMS_SHOWN_MAX);
    if hidden > 0 {
        out.push_str(&format!("  and {hidden} more: zerocloud status --json\n"));
    }
    out
}

/// In one or two words: whether the user has to wait or to act.
fn summary(space: &SpaceStatus) -> String {
    let is_settled = space.state == State::Idle && space.missing_chunks == 0;
    let connected: Vec<_> = space.peers.iter().filter(|peer| peer.connected).collect();
    match connected.as_slice() {
        [] if is_settled => "up to date here".to_owned(),
        peers if is_settled && peers.iter().all(|peer| peer.in_sync) => "in sync".to_owned(),
        _ if is_settled => "waiting for other devices".to_owned(),
        _ if space.missing_chunks > 0 && matches!(space.state, State::Idle | State::Syncing) => {
            format!("syncing, {} missing", counted(space.missing_chunks, "chunk", "chunks"))
        }
        _ => state_words(space.state).to_owned(),
    }
}

pub(super) const fn state_words(state: State) -> &'static str {
    match state {
        State::Idle => "up to date here",
        State::Scanning => "scanning",
        State::Syncing => "syncing",
        State::Paused => "paused",
        State::Held => "held",
        State::Error => "stopped",
    }
}

fn peer_name(peer: &PeerStatus) -> String {
    if peer.name.is_empty() { short(&peer.device).to_owned() } else { escaped(&peer.name) }
}

fn peer_line(peer: &PeerStatus) -> String {
    let name = peer_name(peer);
    if !peer.connected {
        return format!("{name:<16}  not connected");
    }
    let path = match peer.path {
        PeerPath::Direct => "direct",
        PeerPath::Relay => "by relay",
        PeerPath::None => "connected",
    };
    let rtt = peer.rtt_ms.map(|rtt_ms| format!(", {rtt_ms:.1} ms")).unwrap_or_default();
    let sync = if peer.in_sync { "in sync" } else { "syncing" };
    format!("{name:<16}  {path}{rtt}, {sync}")
}

/// Cuts a line that would wrap, with an ellipsis. Two columns are the indent.
fn shortened(line: &str, width: usize) -> String {
    let room = width.saturating_sub(2).max(20);
    if line.chars().count() <= room {
        return line.to_owned();
    }
    line.chars().take(room - 1).chain(['…']).collect()
}
