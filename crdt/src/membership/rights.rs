//! What the checks of the log ask about who belongs to a space, answered from its records.

use super::Records;
use crate::id::{DeviceId, RecordHash};
use crate::log::Membership;

impl Membership for Records {
    fn knows(&self, heads: &[RecordHash]) -> bool {
        heads.iter().all(|head| self.contains(*head))
    }

    fn may_write(&self, heads: &[RecordHash], author: DeviceId) -> bool {
        matches!(self.role_at(heads, author), Ok(Some(role)) if role.can_write())
    }

    fn follows(&self, later: &[RecordHash], earlier: &[RecordHash]) -> bool {
        self.follows(later, earlier).unwrap_or(false)
    }
}
