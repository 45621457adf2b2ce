//! Executes actions on the tree, so that at each moment every content is reachable under some name, and a crash at any
//! call leaves old or new, never a mixture.
//!
//! A batch: what is staged is synced; what is about to be done is noted ([`Intents`]); it is done; it is synced; base
//! is written and the notes are cleared, in one transaction. What was deleted went to the version store at once; what was
//! replaced goes there now. What a crash leaves is judged by [`Materialiser::recover`]. What should be done is
//! [`zerocloud_crdt::plan`]'s.

mod act;
mod compare;
mod prepare;
mod recover;

use std::collections::BTreeMap;
use std::sync::Arc;

use zerocloud_crdt::base::{BaseOverlay, BaseRow};
use zerocloud_crdt::id::FileId;
use zerocloud_crdt::mutated;
use zerocloud_crdt::plan::{Action, Obstacle, settles};

use self::act::Actor;
pub use self::recover::{Recovered, Trust};
use super::handles::Handles;
use super::ledger::{Commit, Deed, Displaced, Generation, Intents, Ledger};
use super::stage::{Staged, Staging};
use super::versions::{self, VersionRow};
use super::{TempNames, TreeError};
use crate::clock::WallTime;
use crate::volume::{Control, Volume, VolumeError, VolumeErrorKind};

/// Bytes of one batch: what one `syncfs` may have to write.
pub const BATCH_LEN_MAX: u64 = 256 << 20;
/// Actions of one batch.
pub const BATCH_COUNT_MAX: usize = 10_000;
/// Below so many actions each file and directory is synced by itself: `syncfs` waits for everybody's writes.
const FEW: usize = 8;

/// One action, and the file or link that it puts in place.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to do. Each item once in a batch.
    pub action: Action,
    /// For a [`Action::Create`] or [`Action::Replace`] of a file or link.
    pub staged: Option<Staged>,
    /// As of which state of the store the action is all that is to be done of its item, if it is
    /// ([`Plan::single`](zerocloud_crdt::plan::Plan::single)).
    pub single: Option<Generation>,
}

impl Job {
    /// As of which state of the store its item is settled, now that this became of it.
    pub fn settled(&self, outcome: &Outcome) -> Option<Generation> {
        match outcome {
            Outcome::Done(row) => self.single.filter(|_| settles(&self.action, row.as_deref())),
            Outcome::Blocked(_) | Outcome::Failed(_) | Outcome::NotTried => None,
        }
    }
}

/// What became of one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done; the row that base has by now, if any.
    Done(Option<Box<BaseRow>>),
    /// The disk is not as base has it, and nothing was changed: a scan comes first. What was staged is still there.
    Blocked(Blocked),
    /// The file system refused; to be tried again when that may have changed. What was staged is still there.
    Failed(VolumeErrorKind),
    /// The disk was full before its turn came.
    NotTried,
}

/// How the disk is not as base has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// The directory is not there, or another one stands in its place.
    #[error("its directory is not as it was; it will be looked at again")]
    NoDirectory,
    /// There is nothing.
    #[error("it is not there any more; it will be looked at again")]
    Missing,
    /// Something was changed that no scan has seen.
    #[error("it was changed meanwhile; it will be looked at again")]
    Changed,
    /// Something stands where something is to come.
    #[error("something else has its name; rename that, or delete it")]
    Occupied,
    /// Something has its name that is called otherwise: this disk takes the two names for one.
    #[error(
        "its name differs from that of another file here only in upper and lower case or in how its letters are encoded, \
         which this disk takes for the same; rename one of them on a device that has both"
    )]
    Collides,
    /// It has its name already, spelled otherwise: it has to go aside first.
    #[error("this disk takes its names, old and new, for the same; it will be tried again")]
    Itself,
    /// A directory that is to go has something in it.
    #[error("the directory is not empty; move away what is in it, or keep it")]
    NotEmpty,
    /// Nothing was staged, or something else.
    #[error("its content is not staged; it will be tried again")]
    NotStaged,
}

impl From<Obstacle> for Blocked {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::NoDirectory => Self::NoDirectory,
            Obstacle::Occupied => Self::Occupied,
            Obstacle::NotEmpty => Self::NotEmpty,
        }
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// One for each job, in their order.
    pub outcomes: Vec<Outcome>,
    /// Local edits that were met in the moment of a change: to be published.
    pub displaced: Vec<Displaced>,
    /// What went to the version store: to be looked at again after [`versions::SECOND_LOOK_DELAY`].
    pub versions: Vec<VersionRow>,
    /// Whether the whole disk was synced since the batch began.
    pub is_synced: bool,
}

/// Acts on one volume.
#[derive(Clone)]
pub struct Materialiser {
    volume: Arc<dyn Volume>,
    names: Arc<TempNames>,
}

impl Materialiser {
    /// A materialiser. `names` is shared with the staging.
    pub const fn new(volume: Arc<dyn Volume>, names: Arc<TempNames>) -> Self {
        Self { volume, names }
    }

    /// Does one batch. `now` is noted for what goes to the version store.
    ///
    /// # Errors
    /// [`TreeError::NotRecovered`] if intents of an earlier batch are there; [`TreeError::Volume`] if the root is gone
    /// or a sync failed, [`TreeError::Store`]: the batch is then unfinished, and [`recover`](Self::recover) must come
    /// before the next one.
    pub fn run<L: Ledger>(&self, ledger: &mut L, jobs: &[Job], now: WallTime) -> Result<Batch, TreeError<L::Error>> {
        if ledger.intents().map_err(TreeError::Store)?.is_some() {
            return Err(TreeError::NotRecovered);
        }
        self.volume.check_root()?;
        let control = self.volume.control()?;
        let has_exchange = self.volume.supports_exchange()?;
        let staging = Staging::within(&control, self.names.clone());
        let mut handles = Handles::new(self.volume.root(), control.tmp.clone());
        let (mut deeds, mut plans) = (Vec::new(), Vec::with_capacity(jobs.len()));
        for job in jobs {
            let temp = || self.names.next(super::DEL);
            let means = (&*self.volume, &staging, has_exchange);
            let planned = prepare::prepare(&*ledger, &control, &mut handles, job, temp, means)?;
            if let prepare::Planned::Deed(deed) = &planned {
                deeds.push((**deed).clone());
            }
            plans.push(planned);
        }
        let is_few = deeds.len() < FEW;
        if !deeds.is_empty() {
            if !mutated!(UnsyncedStaging) {
                self.sync_staged(&control, &deeds, is_few)?;
            }
            let tmp_inode = control.tmp.stat_self()?.ino;
            if !mutated!(UnnotedIntents) {
                ledger.note_intents(Intents { tmp_inode, deeds }).map_err(TreeError::Store)?;
            }
        }
        let mut actor = Actor {
            volume: &*self.volume,
            control: &control,
            is_few,
            is_changed: false,
            overlay: BaseOverlay::new(&*ledger),
            handles,
            touched: Vec::new(),
            written: Vec::new(),
            versions: Vec::new(),
            displaced: Vec::new(),
            unkept: Vec::new(),
            staging,
            now,
        };
        let (outcomes, mut done) = actor.act_all(jobs, plans)?;
        let judged = jobs.iter().zip(&outcomes);
        let settled: BTreeMap<FileId, Generation> =
            judged.filter_map(|(job, outcome)| Some((job.action.source(), job.settled(outcome)?))).collect();
        done.retain(|source| !settled.contains_key(source));
        actor.sync()?;
        let Actor { overlay, versions, displaced, unkept, is_changed, .. } = actor;
        let is_synced = is_changed && !is_few;
        let commit = Commit { base: overlay.into_changes(), versions, displaced, done, settled };
        self.commit(ledger, &control, commit, &unkept, Batch { outcomes, is_synced, ..Batch::default() })
    }

    /// Writes what was done, and then brings those displaced files over that are not in the version store yet.
    fn commit<L: Ledger>(
        &self,
        ledger: &mut L,
        control: &Control,
        commit: Commit,
        unkept: &[String],
        mut batch: Batch,
    ) -> Result<Batch, TreeError<L::Error>> {
        (batch.versions, batch.displaced) = (commit.versions.clone(), commit.displaced.clone());
        ledger.commit(commit).map_err(TreeError::Store)?;
        for stored in unkept {
            match versions::keep(&*self.volume, control, stored) {
                Err(error) if super::is_fatal(error.kind()) => return Err(error.into()),
                // It is found where it is, and brought over at the next start.
                _ => {}
            }
        }
        Ok(batch)
    }

    /// Brings what is staged to stable storage, before anything can come to point to it.
    fn sync_staged(&self, control: &Control, deeds: &[Deed], is_few: bool) -> Result<(), VolumeError> {
        let temps: Vec<&String> = deeds
            .iter()
            .filter_map(|deed| match deed {
                Deed::Create { temp, .. } | Deed::Replace { temp, .. } => Some(temp),
                _ => None,
            })
            .collect();
        if temps.is_empty() {
            return Ok(());
        }
        if !is_few {
            return self.volume.sync_all();
        }
        for temp in temps {
            match control.tmp.open_file(temp.as_bytes()) {
                Ok(file) => file.sync()?,
                // A link has no content of its own to be synced.
                Err(error) if error.kind() == VolumeErrorKind::IsALink => {}
                // A file that its owner may not read can't be opened.
                Err(error) if error.kind() == VolumeErrorKind::PermissionDenied => return self.volume.sync_all(),
                Err(error) if error.kind() == VolumeErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        control.tmp.sync()
    }
}
