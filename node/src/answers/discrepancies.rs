//! What to tell of members whose word and deeds differ.

use super::members::device_names;
use crate::api::types::DiscrepancyKind;
use crate::engine::replica;
use crate::store::{Snapshot, StoreError, values};

/// What the user should know of a space in this respect, with what to do.
///
/// # Errors
/// Those of the store.
pub fn warnings(snapshot: &Snapshot) -> Result<Vec<String>, StoreError> {
    let differing = snapshot.value(values::DISCREPANCIES)?.unwrap_or_default();
    if differing.is_empty() {
        return Ok(Vec::new());
    }
    let names = device_names(snapshot)?;
    let named = differing.into_iter().filter(|(_, discrepancy)| discrepancy.is_named);
    let told = named.map(|(device, discrepancy)| {
        let name = names.get(&device).cloned().unwrap_or_else(|| device.to_string());
        text(&name, kind(discrepancy.kind), discrepancy.entry_count)
    });
    Ok(told.collect())
}

/// What to say of one member.
pub fn text(name: &str, kind: DiscrepancyKind, entries: u64) -> String {
    let changes = if entries == 1 { "1 entry of the log".to_owned() } else { format!("{entries} entries of the log") };
    match kind {
        DiscrepancyKind::WentBack => format!(
            "{name} went back behind what it had: it lacks {changes} that it said it has. It was put back to an older \
             state, or hides them. Nothing goes back here, and it is sent what it lacks; if nobody restored that device, \
             do not trust it"
        ),
        DiscrepancyKind::TwoViews => format!(
            "{name} showed different states to different devices: it told another device of {changes} that it hid from \
             this one. They come from the other devices; if nobody restored {name} from a backup, do not trust it"
        ),
        DiscrepancyKind::Withholds => format!(
            "{name} holds back {changes} that it says it has. They come from whoever else has them: connect another \
             device of the space, or restart the node on {name}"
        ),
    }
}

/// A kind in the words of the API.
pub const fn kind(kind: replica::DiscrepancyKind) -> DiscrepancyKind {
    match kind {
        replica::DiscrepancyKind::WentBack => DiscrepancyKind::WentBack,
        replica::DiscrepancyKind::TwoViews => DiscrepancyKind::TwoViews,
        replica::DiscrepancyKind::Withholds => DiscrepancyKind::Withholds,
    }
}
