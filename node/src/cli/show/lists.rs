//! Answers that are lists.

use super::{bytes, change_word, count, counted, escaped, short, table};
use crate::api::types::*;
use crate::cli::time::show_ms;

/// Files that are named of those that a restore could not bring back.
const FAILED_SHOWN_MAX: usize = 20;

pub(in crate::cli) fn spaces(list: &SpaceList) -> String {
    if list.spaces.is_empty() {
        return "No spaces. `zerocloud space add DIR` makes one, `zerocloud join TICKET` joins one.".to_owned();
    }
    let mut rows = vec![["NAME", "ID", "ROLE", "FOLDER"].map(str::to_owned)];
    for space in &list.spaces {
        let paused = if space.paused { "  (paused)" } else { "" };
        rows.push([
            escaped(&space.name),
            short(&space.id).to_owned(),
            space.role.as_str().to_owned(),
            format!("{}{paused}", space.dir),
        ]);
    }
    table(&rows)
}

pub(in crate::cli) fn members(list: &MemberList) -> String {
    let mut rows = vec![["DEVICE", "NAME", "PERSON", "ROLE", "RANK"].map(str::to_owned)];
    for member in &list.members {
        let name = match member {
            Member { is_recovery: true, .. } => "(recovery words)".to_owned(),
            Member { is_this_device: true, name, .. } => format!("{} (this device)", escaped(name)),
            Member { name, .. } => escaped(name),
        };
        let [device, person] = [&member.device, &member.person].map(|id| short(id).to_owned());
        rows.push([device, name, person, member.role.as_str().to_owned(), member.rank.to_string()]);
    }
    table(&rows)
}

pub(in crate::cli) fn listing(listing: &Listing) -> String {
    let mut rows = Vec::new();
    for entry in &listing.entries {
        let (size, mark) = match entry.kind {
            ItemKind::File => (bytes(entry.size), ""),
            ItemKind::Directory => (String::new(), "/"),
            ItemKind::Link => ("link".to_owned(), ""),
        };
        let here = if entry.is_here { "" } else { "  (not here yet)" };
        let conflict = if entry.is_conflict { "  (conflict copy)" } else { "" };
        rows.push([
            format!("{size:>10}"),
            entry.modified_ms.map(show_ms).unwrap_or_default(),
            format!("{}{mark}{conflict}{here}", entry.name),
        ]);
    }
    table(&rows)
}

pub(in crate::cli) fn versions(list: &VersionList) -> String {
    if list.versions.is_empty() {
        return "No versions are known.".to_owned();
    }
    let mut rows = vec![["TIME", "SIZE", "BY", "WHERE"].map(str::to_owned)];
    for version in &list.versions {
        let mut places: Vec<_> = version.others.iter().map(|name| escaped(name)).collect();
        if version.is_here {
            places.insert(0, "here".to_owned());
        }
        let current = if version.is_current { "  (current)" } else { "" };
        rows.push([
            show_ms(version.time_ms),
            version.size.map_or_else(|| "deleted".to_owned(), bytes),
            escaped(&version.device_name),
            format!("{}{current}", if places.is_empty() { "nowhere".to_owned() } else { places.join(", ") }),
        ]);
    }
    table(&rows)
}

pub(in crate::cli) fn pruned(pruned: &Pruned) -> String {
    format!("{} went, with {}.", counted(pruned.versions, "version", "versions"), bytes(pruned.bytes))
}

pub(in crate::cli) fn selection(selection: &Selection) -> String {
    let name = escaped(&selection.space);
    if selection.without.is_empty() {
        return format!("All of {name} comes to this device.");
    }
    let patterns: String = selection.without.iter().map(|pattern| format!("  {}\n", escaped(pattern))).collect();
    format!(
        "These do not come to this device from {name}:\n{patterns}What is here already stays, and stays in step. \
         Deleted here, it goes from this\ndevice alone."
    )
}

pub(in crate::cli) fn forgotten(forgotten: &Forgotten) -> String {
    let line = |file: &ForgottenFile| {
        let now = if file.kept { "the version that this device has stands there" } else { "deleted" };
        format!("{}: {now}\n", file.path)
    };
    let mut out: String = forgotten.files.iter().take(FAILED_SHOWN_MAX).map(line).collect();
    let hidden = forgotten.files.len().saturating_sub(FAILED_SHOWN_MAX);
    if hidden > 0 {
        out.push_str(&format!("and {} more\n", count(hidden as u64)));
    }
    out.push_str(&format!("Given up: {}", counted(forgotten.files.len() as u64, "version", "versions")));
    out
}

pub(in crate::cli) fn restored(restored: &Restored) -> String {
    let files = counted(restored.files, "file", "files");
    let deleted = match restored.deleted {
        0 => String::new(),
        deleted => format!(", {} went", count(deleted)),
    };
    let mut out = format!("{} is as it was at {} ({files}{deleted}).", restored.path, show_ms(restored.time_ms));
    if restored.failed.is_empty() {
        return out;
    }
    out.push_str(&format!("\nNot brought back: {}\n", counted(restored.failed.len() as u64, "file", "files")));
    for problem in restored.failed.iter().take(FAILED_SHOWN_MAX) {
        out.push_str(&format!("  {}: {}\n", problem.path, escaped(&problem.reason)));
    }
    let hidden = restored.failed.len().saturating_sub(FAILED_SHOWN_MAX);
    if hidden > 0 {
        out.push_str(&format!("  and {} more: the same with --json names them\n", count(hidden as u64)));
    }
    out.push_str("Switch the devices on that may have them, and run the same command again.\n");
    out
}

pub(in crate::cli) fn conflicts(list: &ConflictList) -> String {
    if list.conflicts.is_empty() {
        return "No conflict copies.".to_owned();
    }
    let mut out = String::new();
    for conflict in &list.conflicts {
        out.push_str(&format!("{}: {}\n", escaped(&conflict.space), conflict.copy));
        let (by, time) = (escaped(&conflict.device_name), show_ms(conflict.time_ms));
        out.push_str(&format!("  beside {}, by {by} at {time}, {}\n", conflict.path, bytes(conflict.size)));
    }
    out.push_str("\nKeep what you want and delete or rename the rest: that settles it on all devices.\n");
    out
}

pub(in crate::cli) fn held(list: &HeldList, decision: Option<Decision>) -> String {
    let changes = counted(list.held.len() as u64, "change", "changes");
    match decision {
        Some(Decision::Accept) => return format!("Accepted: {changes}."),
        Some(Decision::Reject) => return format!("Rejected: {changes}; your other devices follow."),
        None if list.held.is_empty() => return "Nothing is held.".to_owned(),
        None => {}
    }
    let mut out = String::new();
    for change in &list.held {
        let (space, by) = (escaped(&change.space), escaped(&change.device_name));
        out.push_str(&format!("{space}: {} {} by {by}\n", change_word(change.change), change.path));
    }
    let held = count(list.held.len() as u64);
    out.push_str(&format!("\n{held} held. `zerocloud held SPACE accept` or `zerocloud held SPACE reject` decides.\n"));
    out
}
