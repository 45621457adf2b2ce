//! Requests of the local API, and what a user means by a path.

use std::path::Path;

use zerocloud::api::Command;
use zerocloud::api::target::{Candidate, Target};
use zerocloud::api::types::*;
use zerocloud_crdt::id::SpaceId;

use super::take_byte;

/// A request is read: written again it is the same request.
fn read<C: Command>(body: &[u8]) -> Option<C> {
    let request: C = serde_json::from_slice(body).ok()?;
    let text = serde_json::to_string(&request).unwrap();
    let again: C = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text, "{}", C::PATH);
    Some(request)
}

/// What is meant lies in a space that there is, and names are names.
fn resolve(target: &Target) {
    let spaces = [(0x11, "Photos", "/home/anna/Photos"), (0x22, "Docs", "/srv/docs"), (0x33, "Docs", "/srv/docs/in")];
    let spaces: Vec<Candidate<'_>> =
        spaces.iter().map(|(id, name, dir)| Candidate { id: SpaceId([*id; 32]), name, dir: Path::new(*dir) }).collect();
    match target.resolve(&spaces) {
        Ok(found) => {
            assert!(spaces.iter().any(|space| space.id == found.space));
            let is_name = |name: &Vec<u8>| !name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..";
            assert!(found.path.iter().all(is_name), "{target:?}: {found:?}");
        }
        Err(error) => assert!(!error.message.contains(['\n', '\u{1b}']) && !error.hints.is_empty(), "{error:?}"),
    }
}

/// A byte that says which request; then its body.
pub fn api(mut data: &[u8]) -> bool {
    let which = take_byte(&mut data) % 22;
    let target = match which {
        0 => return read::<StatusRequest>(data).is_some(),
        1 => return read::<AddSpace>(data).is_some(),
        2 => return read::<ListSpaces>(data).is_some(),
        3 => read::<RemoveSpace>(data).map(|request| request.space),
        4 => read::<PauseSpace>(data).map(|request| request.space),
        5 => read::<ResumeSpace>(data).map(|request| request.space),
        6 => read::<Invite>(data).map(|request| request.space),
        7 => return read::<ConfirmPairing>(data).is_some(),
        8 => return read::<Join>(data).is_some(),
        9 => read::<ListMembers>(data).map(|request| request.space),
        10 => read::<SyncSpaces>(data).and_then(|request| request.space),
        11 => read::<List>(data).map(|request| request.target),
        12 => read::<History>(data).map(|request| request.target),
        13 => read::<Restore>(data).map(|request| request.target),
        14 => read::<Select>(data).map(|request| request.space),
        15 => read::<Forget>(data).map(|request| request.target),
        16 => read::<ListConflicts>(data).and_then(|request| request.space),
        17 => read::<Held>(data).and_then(|request| request.space),
        18 => read::<Prune>(data).map(|request| request.space),
        19 => return read::<Doctor>(data).is_some(),
        20 => return read::<ShowRecovery>(data).is_some(),
        _ => return read::<ConfirmRecovery>(data).is_some(),
    };
    target.inspect(resolve).is_some()
}
