//! `status`. No line is wider than the terminal, down to 20 columns: paths lose their middle, prose is wrapped.

use super::fit::{filled, shortened, width_of, wrapped};
use super::{bytes, counted, escaped, short};
use crate::api::types::*;

/// Problems that are named for each space; `--json` has them all.
const PROBLEMS_SHOWN_MAX: usize = 5;
/// Devices that are named for each space, those first that are connected; `--json` has them all.
const PEERS_SHOWN_MAX: usize = 12;
/// Devices that may have what is awaited, and are named.
const AWAY_SHOWN_MAX: usize = 3;
/// Below this, words are broken so often that a terminal does it as well.
const WIDTH_MIN: usize = 20;
/// Below this, there is no room for which paths lose packets.
const WIDTH_OF_LOSSES: usize = 72;
/// Below this, there is no room for how a connection goes.
const WIDTH_OF_ROUTES: usize = 60;
/// Below this, there is none for round trips either.
const WIDTH_OF_RTTS: usize = 36;
/// Of a folder's path less is not worth a place on the line of the space.
const DIR_ROOM_MIN: usize = 16;

pub(in crate::cli) fn status(status: &Status, width: usize) -> String {
    let width = width.max(WIDTH_MIN);
    let about = format!("zerocloud {} on device {}", escaped(&status.version), short(&status.device));
    let mut out = wrapped(&about, width, 0);
    for warning in &status.warnings {
        out.push_str(&wrapped(&format!("warning: {}", escaped(warning)), width, 0));
    }
    if status.spaces.is_empty() {
        let advice = "No spaces. `zerocloud space add DIR` makes one, `zerocloud join TICKET` joins one.";
        out.push_str(&format!("\n{}", wrapped(advice, width, 0)));
    }
    for space in &status.spaces {
        out.push('\n');
        out.push_str(&space_status(space, width));
    }
    out
}

fn space_status(space: &SpaceStatus, width: usize) -> String {
    let name = typed(&space.name);
    let mut out = head(space, width);
    let say = |out: &mut String, text: &str| out.push_str(&wrapped(text, width, 2));
    let contents = format!(
        "{} in {}, {}; you are {}",
        counted(space.files, "file", "files"),
        counted(space.directories, "folder", "folders"),
        bytes(space.bytes),
        space.role.as_str(),
    );
    say(&mut out, &contents);
    out.push_str(&peers(&space.peers, width));
    if space.peers.is_empty() {
        say(&mut out, &format!("no other device yet: zerocloud invite {name} --me"));
    }
    if let Some(error) = &space.error {
        say(&mut out, &format!("stopped: {}", escaped(error)));
    }
    if space.conflicts > 0 {
        let copies = counted(space.conflicts, "conflict copy", "conflict copies");
        say(&mut out, &format!("{copies}: zerocloud conflicts {name}"));
    }
    if space.state == State::Held {
        say(&mut out, &format!("many changes wait for your word: zerocloud held {name}"));
    }
    if space.awaited > 0 {
        let files = counted(space.awaited, "file is", "files are");
        say(&mut out, &format!("{files} awaited from {}", away(&space.peers)));
        for path in space.awaited_paths.iter().take(PROBLEMS_SHOWN_MAX) {
            out.push_str(&format!("    {}\n", shortened(&path.to_string(), width - 4)));
        }
    }
    if space.left_out > 0 {
        let files = counted(space.left_out, "file is", "files are");
        say(&mut out, &format!("{files} left out on this device: zerocloud select {name}"));
    }
    if space.lost > 0 {
        let files = counted(space.lost, "file has", "files have");
        say(&mut out, &format!("{files} a newest version that is lost: zerocloud forget --help"));
    }
    for problem in space.problems.iter().take(PROBLEMS_SHOWN_MAX) {
        out.push_str(&problem_lines(problem, width));
    }
    let hidden = space.problems.len().saturating_sub(PROBLEMS_SHOWN_MAX);
    if hidden > 0 {
        say(&mut out, &format!("and {hidden} more: zerocloud status --json"));
    }
    out
}

/// Name, state and folder: in one line if there is room.
fn head(space: &SpaceStatus, width: usize) -> String {
    let (summary, dir) = (summary(space), space.dir.to_string());
    let name = shortened(&escaped(&space.name), width);
    let mut line = format!("{name}  {summary}");
    let mut out = String::new();
    if width_of(&line) > width {
        out = format!("{name}\n");
        line = format!("  {}", shortened(&summary, width - 2));
    }
    let room = width.saturating_sub(width_of(&line) + 2);
    if room >= width_of(&dir).min(DIR_ROOM_MIN) {
        out.push_str(&format!("{line}  {}\n", shortened(&dir, room)));
    } else {
        out.push_str(&format!("{line}\n  {}\n", shortened(&dir, width - 2)));
    }
    out
}

/// A path and what is wrong with it: in one line if there is room.
fn problem_lines(problem: &Problem, width: usize) -> String {
    let (path, reason) = (problem.path.to_string(), escaped(&problem.reason));
    let line = format!("  {path}: {reason}\n");
    if width_of(line.trim_end()) <= width {
        return line;
    }
    format!("  {}:\n{}", shortened(&path, width - 3), wrapped(&reason, width, 4))
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

/// A space's name as it is typed into a shell.
fn typed(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '@' | ',');
    let name = escaped(name);
    if name.chars().all(is_plain) { name } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

fn peer_name(peer: &PeerStatus) -> String {
    if peer.name.is_empty() { short(&peer.device).to_owned() } else { escaped(&peer.name) }
}

/// The devices that are not connected; some of them by name.
fn away(peers: &[PeerStatus]) -> String {
    let mut names: Vec<String> = peers.iter().filter(|peer| !peer.connected).map(peer_name).collect();
    let others = names.len().saturating_sub(AWAY_SHOWN_MAX);
    names.truncate(AWAY_SHOWN_MAX);
    match (names.is_empty(), others) {
        (true, _) => "another device".to_owned(),
        (false, 0) => names.join(", "),
        (false, _) => format!("{} and {}", names.join(", "), counted(others as u64, "other", "others")),
    }
}

/// A line for each device: its name, how the connection goes, the round trip, and whether it agrees.
fn peers(peers: &[PeerStatus], width: usize) -> String {
    let (mut connected, away): (Vec<_>, Vec<_>) = peers.iter().partition(|peer| peer.connected);
    // Indent, gap and "in sync", then the round trip, then the route.
    let taken = 2 + 2 + 7 + if width < WIDTH_OF_RTTS { 0 } else { 12 } + if width < WIDTH_OF_ROUTES { 0 } else { 11 };
    let longest = peers.iter().map(|peer| width_of(&peer_name(peer))).max().unwrap_or(0).max(16);
    let room = longest.min(24).min(width.saturating_sub(taken));
    connected.extend(away);
    let mut out = String::new();
    for peer in connected.iter().take(PEERS_SHOWN_MAX) {
        let name = filled(&peer_name(peer), room);
        let state = match peer.connected {
            true => connection(peer, width),
            false if width < WIDTH_OF_RTTS => "away".to_owned(),
            false => "not connected".to_owned(),
        };
        out.push_str(&format!("  {name}  {state}\n"));
    }
    let hidden = peers.len().saturating_sub(PEERS_SHOWN_MAX);
    if hidden > 0 {
        out.push_str(&wrapped(&format!("and {hidden} more devices: zerocloud status --json"), width, 2));
    }
    out
}

fn connection(peer: &PeerStatus, width: usize) -> String {
    let route = match peer.path {
        PeerPath::Direct => "direct",
        PeerPath::Relay => "by relay",
        PeerPath::None => "connected",
    };
    let rtt = peer.rtt_ms.map(|rtt_ms| format!("{rtt_ms:.1} ms")).unwrap_or_default();
    let sync = if peer.in_sync { "in sync" } else { "syncing" };
    let lossy = if peer.congestion == Some(PeerCongestion::Bbr3) { ", lossy path" } else { "" };
    match width {
        WIDTH_OF_LOSSES.. => format!("{route:<9}  {rtt:>10}  {sync}{lossy}"),
        WIDTH_OF_ROUTES.. => format!("{route:<9}  {rtt:>10}  {sync}"),
        WIDTH_OF_RTTS.. => format!("{rtt:>10}  {sync}"),
        _ => sync.to_owned(),
    }
}

#[cfg(test)]
mod tests;
