//! What may break in a simulated world: one class for each cause, each switched on by itself.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use rand_chacha::ChaCha8Rng;

use super::user::below;

/// One class of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// Processes are killed, at any call to their disks.
    Kills,
    /// Power is lost, at any call: what was not synced is gone or torn.
    PowerLosses,
    /// Disks are full for a while.
    FullDisks,
    /// Disks are gone for a while.
    LostDisks,
    /// Some disks can't exchange two names.
    NoExchange,
    /// Connections end, between any two messages.
    Cuts,
    /// Devices are cut off from all others for a long time.
    Partitions,
    /// Of a connection one way stands still.
    OneWay,
    /// Not every two devices are ever connected.
    Line,
    /// Clocks show other times than each other, and are set forwards and back.
    Clocks,
    /// Watchers lose track, tell late, or do not tell at all.
    Watchers,
    /// Some file systems tell times to 4 ms, 1 s or 2 s.
    CoarseTimes,
    /// Some file systems take names for one that differ in case or Unicode form alone.
    FoldedNames,
    /// Some file systems keep no permission bits.
    NoModes,
    /// Files can't be read and directories can't be listed for a while.
    Unreadable,
    /// Disks are unmounted for a while, and the empty directory under them is seen.
    Unmounted,
    /// Users act between any two calls of the node to the disk.
    Interruptions,
    /// Chunks that were asked for come late, and what they were read from may have changed since.
    SlowChunks,
    /// Devices lose their homes, and join anew with the folder that is there.
    Wipes,
    /// Users act on just what the node is about to read or to change.
    Aims,
    /// Devices get a home back that is older than their folder.
    Rollbacks,
    /// Texts that two changed at the same time are merged.
    Merges,
    /// Devices go away for good, with what they alone have.
    Leavers,
    /// A device's home and folder are copied, and both are used from then on.
    Clones,
}

/// The classes that are switched on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    /// All.
    pub fn all() -> Self {
        Fault::value_variants().iter().copied().collect()
    }

    /// Many, few or none, as the seed says.
    pub fn draw(rng: &mut ChaCha8Rng) -> Self {
        let one_of = [2, 3, 4, 6, 20][below(rng, 5)];
        Fault::value_variants().iter().copied().filter(|_| below(rng, one_of) == 0).collect()
    }

    /// Whether a class is switched on.
    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// Those that are switched on.
    pub fn iter(&self) -> impl Iterator<Item = Fault> {
        self.0.iter().copied()
    }

    /// All but one.
    #[must_use]
    pub fn without(&self, fault: Fault) -> Self {
        self.iter().filter(|other| *other != fault).collect()
    }
}

impl FromIterator<Fault> for Faults {
    fn from_iter<I: IntoIterator<Item = Fault>>(faults: I) -> Self {
        Self(faults.into_iter().collect())
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let names = self.iter().filter_map(|fault| Some(fault.to_possible_value()?.get_name().to_owned()));
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::default()),
            "all" => Ok(Self::all()),
            list => list.split(',').map(|name| Fault::from_str(name, false)).collect(),
        }
    }
}
