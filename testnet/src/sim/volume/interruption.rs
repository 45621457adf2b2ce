//! What happens between two calls of the node.

/// Before which calls something can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Any.
    Any,
    /// Those that give something a name, or exchange two.
    Naming,
}

type Act = Box<dyn FnOnce(&[u8]) + Send>;

/// Something that happens once; it is told the name that the next call is about.
pub(super) struct Interruption {
    before: Before,
    /// Calls that come first.
    calls_left: u64,
    act: Act,
}

impl Interruption {
    pub(super) fn new(before: Before, calls_left: u64, act: impl FnOnce(&[u8]) + Send + 'static) -> Self {
        Self { before, calls_left, act: Box::new(act) }
    }

    /// Whether it is to happen before this call, which counts.
    pub(super) fn is_due(&mut self, verb: &str) -> bool {
        let counts = self.before == Before::Any || matches!(verb, "rename" | "exchange" | "park");
        match self.calls_left.checked_sub(u64::from(counts)) {
            Some(left) => self.calls_left = left,
            None => return true,
        }
        false
    }

    pub(super) fn happen(self, name: &[u8]) {
        (self.act)(name);
    }
}
