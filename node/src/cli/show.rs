//! How answers look to a person. Pure: an answer in, text for 80 columns out.

use zerocloud_crdt::name::escape;

use crate::api::types::*;

mod fit;
mod lists;
mod status;

pub(super) use lists::{conflicts, forgotten, held, listing, members, pruned, restored, selection, spaces, versions};
pub(super) use status::status;

/// Text of a peer or from disk, harmless on a terminal.
pub(super) fn escaped(text: &str) -> String {
    escape(text.as_bytes())
}

/// A number as the command line shows it: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// `1 file`, `2 files`.
fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `999 B`, `12.3 GiB`.
fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut tenths = u128::from(number) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&""))
}

/// An id's first digits: enough to tell devices apart by eye.
fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// Lines of columns: each as wide as its widest cell, the last one ragged. The first row is the head.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = fit::width_of(cell).max(*width);
        }
    }
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| fit::filled(cell, width));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

pub(super) fn space_is(space: &Space, what: &str) -> String {
    format!("{} ({}) {what}.", escaped(&space.name), space.dir)
}

pub(super) fn joined(space: &Space) -> String {
    let name = escaped(&space.name);
    format!(
        "Joined {name} as {}; its files come to {}.\n`zerocloud status --watch` shows how far it is.",
        space.role.as_str(),
        space.dir,
    )
}

/// What is said before the ticket. `is_up`: whether a node runs that can answer to it.
pub(super) fn invitation(invitation: &Invitation, is_up: bool) -> String {
    let first = if is_up {
        ""
    } else {
        "No node runs on this device now. Start one with `zerocloud start`, and leave it running until the\nother \
         device has joined: nobody else can let it in.\n"
    };
    format!(
        "{first}A ticket to {} as {}, for one device, until {}. On that device, run\n`zerocloud start`, and beside it \
         `zerocloud join TICKET` with:",
        escaped(&invitation.space),
        invitation.role.as_str(),
        super::time::show_ms(invitation.expires_ms),
    )
}

pub(super) fn up_intro(space: &Space) -> String {
    format!("{} is a space of yours: {}\n", escaped(&space.name), space.dir)
}

pub(super) fn up_steps(invitation: &Invitation) -> String {
    format!(
        "On your other device, type\n\n  zerocloud start                  (and leave it running)\n  zerocloud join TICKET \
         [FOLDER]   (in a second terminal)\n\nwith the ticket below. It lets one device in as yours, until {}:\ngive it \
         to nobody else. `zerocloud recovery show` prints the words to keep for the\nday when all devices are lost. \
         Ctrl-C stops the node.\n",
        super::time::show_ms(invitation.expires_ms)
    )
}

/// The ticket as a picture of half blocks; `None` where `width` columns do not hold it.
pub(super) fn qr_code(ticket: &str, width: usize) -> Option<String> {
    use qrcode::render::unicode::Dense1x2;
    // Upper case is in the code's alphanumeric set, which makes it a third smaller. A phone is held to a screen, so
    // little correction is needed.
    let code = qrcode::QrCode::with_error_correction_level(ticket.to_ascii_uppercase(), qrcode::EcLevel::L).ok()?;
    // Most terminals are dark: what is drawn is the light part.
    let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    picture.lines().all(|line| line.chars().count() <= width).then_some(picture)
}

pub(super) fn pairing_words(words: &[String]) -> String {
    let words = words.iter().map(|word| escaped(word)).collect::<Vec<_>>().join(" ");
    format!("Both screens must show these words:\n\n    {words}\n")
}

pub(super) fn recovery_words(answer: &RecoveryWords) -> String {
    let rows = answer.words.len().div_ceil(4);
    let cell = |index: usize| match answer.words.get(index) {
        Some(word) => format!("{:>2} {word:<10}", index + 1),
        None => String::new(),
    };
    (0..rows).map(|row| (0..4).map(|column| cell(column * rows + row)).collect::<Vec<_>>().join("  ") + "\n").collect()
}

pub(super) fn sync_report(report: &SyncReport, is_waited: bool) -> String {
    let spaces = report.spaces.iter().map(|name| escaped(name)).collect::<Vec<_>>().join(", ");
    let mut text = if is_waited {
        let peers = counted(report.peers_in_sync, "connected device agrees", "connected devices agree");
        format!("In sync: {spaces}; {peers}.")
    } else {
        format!("Scanned: {spaces}.")
    };
    if report.problems > 0 {
        let problems = counted(report.problems, "problem", "problems");
        text.push_str(&format!("\n{problems}; `zerocloud status` names them."));
    }
    text
}

pub(super) fn diagnosis(diagnosis: &Diagnosis) -> String {
    let mut out = String::new();
    for check in &diagnosis.checks {
        let mark = match check.level {
            Level::Ok => "ok     ",
            Level::Warning => "warning",
            Level::Error => "error  ",
        };
        out.push_str(&format!("{mark}  {}: {}\n", escaped(&check.name), escaped(&check.found)));
        if let Some(advice) = &check.advice {
            out.push_str(&format!("         {}\n", escaped(advice)));
        }
    }
    out
}

pub(super) fn event(event: &Event) -> String {
    let what = match &event.what {
        What::State { space, state } => format!("{}: {}", escaped(space), status::state_words(*state)),
        What::Path { space, path, change, to, device_name } => {
            let by = device_name.as_ref().map(|name| format!(" by {}", escaped(name))).unwrap_or_default();
            let to = to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
            format!("{}: {} {path}{to}{by}", escaped(space), change_word(*change))
        }
        What::Conflict { space, copy } => format!("{}: conflict copy {copy}", escaped(space)),
        What::Problem { space, path, reason } => format!("{}: {path}: {}", escaped(space), escaped(reason)),
        What::Peer { device, name, connected } => {
            let what = if *connected { "connected" } else { "disconnected" };
            format!("{} ({}) {what}", escaped(name), short(device))
        }
        What::Pairing { space, device, name, words, .. } => {
            let (name, space) = (escaped(name), escaped(space));
            format!("{name} ({}) is joining {space}. {}", short(device), pairing_words(words))
        }
        What::Joined { space, device, name } => {
            format!("{} ({}) has joined {}", escaped(name), short(device), escaped(space))
        }
        What::Discrepancy { space, device, name, kind, entries } => {
            let name = format!("{} ({})", escaped(name), short(device));
            format!("{}: {}", escaped(space), crate::answers::discrepancies::text(&name, *kind, *entries))
        }
        What::Warning { text } => format!("warning: {}", escaped(text)),
        What::Missed { count } => format!("{} were missed", counted(*count, "event", "events")),
        What::Unknown => "an event that this version does not know".to_owned(),
    };
    format!("{}  {what}", super::time::show_ms(event.time_ms))
}

fn change_word(change: Change) -> &'static str {
    match change {
        Change::Created => "created",
        Change::Modified => "modified",
        Change::Moved => "moved",
        Change::Deleted => "deleted",
    }
}

#[cfg(test)]
mod tests;
