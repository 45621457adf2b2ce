//! Where texts are merged: what all have to begin with, and when users change it.

use super::{STEP_CONTENT_COUNT, World};
use crate::sim::faults::Fault;
use crate::sim::oracle::Acted;
use crate::sim::story::shown;
use crate::sim::user::text;

/// The texts that all have to begin with, where texts are merged. The numbers of their contents are those that each step
/// leaves out.
const TEXT_NAMES: [&[u8]; 3] = [b"a", b"c.txt", b"x.t"];

impl World {
    /// Whether what users do in this step they do to texts: in most, where texts are merged.
    pub(super) fn is_about_texts(&self) -> bool {
        self.faults().has(Fault::Merges) && !(self.next_content / STEP_CONTENT_COUNT).is_multiple_of(4)
    }

    /// One user makes some texts, and all get them: what they change then came from one text.
    pub(super) fn agree_on_texts(&mut self) {
        let n = self.writer.unwrap_or_default();
        for (name, number) in TEXT_NAMES.into_iter().zip((0..).step_by(STEP_CONTENT_COUNT as usize)) {
            let acted = Acted::by(&self.devices[n].person, |person| {
                let made = person.write(name, &text(number));
                format!("creates {} with the text {number}: {made:?}", shown(name))
            });
            self.note_act(n, &acted);
        }
        self.settle();
    }
}
