//! Events: what happens in a node, as it happens.

use serde::{Deserialize, Serialize};

use super::{BytePath, Change, State};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time_ms: i64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// How the word of a member and its deeds differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiscrepancyKind {
    /// It says that it has less than it said before.
    WentBack,
    /// It told different devices of states of which none follows the other.
    TwoViews,
    /// It says that it has entries, and does not bring them.
    Withholds,
}

/// What happened. Spaces by name. New kinds may come, so readers skip what they don't know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum What {
    /// A space's state is another.
    State {
        /// Which space.
        space: String,
        /// What goes on in it.
        state: State,
    },
    /// A path on this device's disk changed, by the user or by a peer.
    Path {
        /// In which space.
        space: String,
        /// Below its root; of what moved, where it was.
        path: BytePath,
        /// How.
        change: Change,
        /// Where what moved is now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<BytePath>,
        /// Who made the change, by the name that it calls itself, empty if that is not known; null for this device.
        device_name: Option<String>,
    },
    /// A conflict copy was made.
    Conflict {
        /// In which space.
        space: String,
        /// The copy, below its root.
        copy: BytePath,
    },
    /// A path could not be brought to the view's state.
    Problem {
        /// In which space.
        space: String,
        /// Below its root.
        path: BytePath,
        /// Why.
        reason: String,
    },
    /// A connection begins or ends.
    Peer {
        /// The device's id.
        device: String,
        /// What it calls itself.
        name: String,
        /// Which of the two.
        connected: bool,
    },
    /// A device is joining with a ticket for a device of one's own.
    Pairing {
        /// Into which space.
        space: String,
        /// The device's id.
        device: String,
        /// What it calls itself.
        name: String,
        /// Six words that must be the same on its screen.
        words: Vec<String>,
        /// Whether it waits for [`super::ConfirmPairing`].
        needs_confirmation: bool,
    },
    /// A device has joined.
    Joined {
        /// Into which space.
        space: String,
        /// The device's id.
        device: String,
        /// What it calls itself.
        name: String,
    },
    /// The word and the deeds of a member differ.
    Discrepancy {
        /// In which space.
        space: String,
        /// The device's id.
        device: String,
        /// What it calls itself.
        name: String,
        /// In which way.
        kind: DiscrepancyKind,
        /// How many entries of logs it does not show.
        entries: u64,
    },
    /// Something that the user should know.
    Warning {
        /// In words.
        text: String,
    },
    /// The reader was too slow for this many events.
    Missed {
        /// How many.
        count: u64,
    },
    /// An event of a newer version.
    #[serde(other)]
    Unknown,
}
