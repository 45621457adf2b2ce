//! What does not come to this device.

use tokio::sync::oneshot;
use zerocloud_crdt::name::escape;

use super::{Shared, failed, show};
use crate::api::types::*;
use crate::api::{ApiError, ErrorKind};
use crate::folder::{Message, Selecting};
use crate::store::values;
use crate::tree::ignoring::{RulesFault, RulesFile};

impl Shared {
    /// Says what a space leaves out on this device; with patterns, from now on these.
    pub(super) async fn select(&self, request: &Select) -> Result<Selection, ApiError> {
        let (space, _) = self.resolve(&request.space)?;
        if let Some(without) = &request.without {
            let patterns = checked(without)?;
            let (done, answer) = oneshot::channel();
            space.running()?.folder.tell(Message::Select(Box::new(Selecting { patterns, done })));
            answer.await.map_err(failed)?.map_err(failed)?;
        }
        let patterns = space.store.snapshot()?.value(values::SELECTION)?.unwrap_or_default();
        let without = String::from_utf8_lossy(&patterns).lines().map(str::to_owned).collect();
        Ok(Selection { space: show(&space.name), without })
    }
}

/// The patterns as one text, all of which counts.
fn checked(without: &[String]) -> Result<Vec<u8>, ApiError> {
    let invalid = |message: String| {
        ApiError::new(ErrorKind::Invalid, message, "patterns are those of gitignore: `raw/`, `*.iso`, `/a/b`")
    };
    if without.iter().any(|pattern| pattern.trim().is_empty() || pattern.contains(['\n', '\r'])) {
        return Err(invalid("a pattern is one line that is not empty".to_owned()));
    }
    let patterns = without.join("\n").into_bytes();
    match RulesFile::parse(&patterns).fault() {
        None => Ok(patterns),
        Some(RulesFault::Malformed { line }) => {
            let pattern = line.checked_sub(1).and_then(|at| without.get(at)).map_or("", String::as_str);
            Err(invalid(format!("`{}` is no pattern", escape(pattern.as_bytes()))))
        }
        Some(RulesFault::TooLong { .. }) => Err(invalid("these are too many patterns".to_owned())),
        Some(RulesFault::TooComplex) => Err(invalid("these patterns are too complex together".to_owned())),
    }
}
