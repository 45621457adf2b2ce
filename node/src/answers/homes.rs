//! What to tell of homes, stores and folders that were copied, restored, rolled back or lost.

use zerocloud_crdt::log::LogRead;

use super::members::device_names;
use crate::store::{Awaited, Notice, Snapshot, StoreError, values};

/// What the user should know of a space in this respect. Nothing of it asks for an answer.
///
/// # Errors
/// Those of the store.
pub fn warnings(snapshot: &Snapshot) -> Result<Vec<String>, StoreError> {
    let notices = snapshot.value(values::NOTICES)?.unwrap_or_default();
    let mut warnings: Vec<String> = notices.into_iter().map(|notice: Notice| notice.text().to_owned()).collect();
    let (branches, names) = (LogRead::branches(snapshot)?, device_names(snapshot)?);
    for fork in branches.forks() {
        let author = branches.root_of(fork.log).author;
        let name = names.get(&author).cloned().unwrap_or_else(|| author.to_string());
        warnings.push(format!(
            "{name} has written two histories, which part at entry {} of its log: its home was copied or put back to an \
             older state, or it does not tell the truth. Both count, and both entries are kept",
            fork.number
        ));
    }
    match snapshot.value(values::AWAITS_INDEX)? {
        Some(Awaited::AnyMember) => warnings.push(
            "it waits for another member to be connected, to learn what became of its files since; if none will ever \
             be, `zerocloud space resume` it to go on with what this device knows"
                .to_owned(),
        ),
        Some(Awaited::Member(_)) => {
            warnings.push(
                "it reads what another member knows of its files, and goes on then; should that member be gone for \
                 good, `zerocloud space resume` it"
                    .to_owned(),
            );
        }
        Some(Awaited::Nobody) | None => {}
    }
    Ok(warnings)
}
