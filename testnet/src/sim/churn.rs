//! Hours of ordinary use, from the command line: what [`World::churn`] counts, told hour by hour.

use super::runner::{Broken, catch};
use super::story::Story;
use super::world::World;

pub use super::world::Hour;

/// How long, and from which seed.
#[derive(Clone, Debug, clap::Args)]
pub struct Wanted {
    /// Hours on the virtual clock.
    #[arg(long, default_value_t = 24)]
    pub hours: u32,
    /// What all is drawn from.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Plays the hours that are wanted.
///
/// # Errors
/// [`Broken`] where a promise was.
pub fn run(wanted: &Wanted) -> Result<Vec<Hour>, Broken> {
    catch(|| World::churn(wanted.seed, wanted.hours, Story::default()))
}
