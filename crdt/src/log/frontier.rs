//! Frontiers: what one has of each log of a space, as stored, exchanged, signed and compared.
//!
//! ```text
//! frontier = format:1 ‖ [author:32 ‖ incarnation:8 ‖ number:varint ‖ hash:32; n:varint], ascending by log
//! signed   = format:1 ‖ space:32 ‖ device:32 ‖ frontier as above without its format byte ‖ signature
//! ```
//!
//! The signature covers all bytes before it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};

use super::EntryPoint;
use super::check::{Fork, LogRead};
use crate::FORMAT;
use crate::codec::{self, DecodeError};
use crate::id::{DeviceId, EntryHash, LogId, SpaceId};
use crate::limits::FRONTIER_LEN_MAX;
use crate::sign::{BadSignature, Signature, Signed, sign, verify};

/// How far one has a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Number of the last entry, from 1.
    pub number: u64,
    /// Its hash.
    pub hash: EntryHash,
}

/// For each log of a space: the last entry that one has. Logs that one has nothing of are not named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frontier(BTreeMap<LogId, Position>);

/// How one frontier stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Both have the same.
    Equal,
    /// The first has all that the second has, and more.
    Ahead,
    /// The second has all that the first has, and more.
    Behind,
    /// Each has something that the other lacks.
    Apart,
}

impl Frontier {
    /// How far one has `log`.
    pub fn position(&self, log: LogId) -> Option<Position> {
        self.0.get(&log).copied()
    }

    /// How many entries of `log` one has.
    pub fn number(&self, log: LogId) -> u64 {
        self.0.get(&log).map_or(0, |position| position.number)
    }

    /// Notes that one has `log` up to `position`, if that is further than before.
    pub fn advance(&mut self, log: LogId, position: Position) {
        if position.number > self.number(log) {
            self.0.insert(log, position);
        }
    }

    /// Logs and positions, ascending by log.
    pub fn iter(&self) -> impl Iterator<Item = (LogId, Position)> {
        self.0.iter().map(|(&log, &position)| (log, position))
    }

    /// How many logs are named.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether one has nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How this stands to `other`.
    ///
    /// # Errors
    /// The [`Fork`] of a log of which both name the same number with different hashes.
    pub fn compare(&self, other: &Self) -> Result<Relation, Fork> {
        self.find_fork(other)?;
        Ok(match (self.lacked_by(other).is_empty(), other.lacked_by(self).is_empty()) {
            (true, true) => Relation::Equal,
            (false, true) => Relation::Ahead,
            (true, false) => Relation::Behind,
            (false, false) => Relation::Apart,
        })
    }

    /// Takes in what `other` has.
    ///
    /// # Errors
    /// As [`Self::compare`]; then nothing has changed.
    pub fn merge(&mut self, other: &Self) -> Result<(), Fork> {
        self.find_fork(other)?;
        for (log, position) in other.iter() {
            self.advance(log, position);
        }
        Ok(())
    }

    /// The entries that whoever has `other` lacks of what this has: for each log a range of numbers.
    pub fn lacked_by(&self, other: &Self) -> Vec<(LogId, RangeInclusive<u64>)> {
        self.iter()
            .filter(|(log, position)| position.number > other.number(*log))
            .map(|(log, position)| (log, other.number(log) + 1..=position.number))
            .collect()
    }

    /// Logs in which this goes back behind `earlier`, a frontier of the same device or keeper. Frontiers only grow:
    /// anything here means a rollback or something withheld.
    pub fn lost_since(&self, earlier: &Self) -> Vec<LogId> {
        earlier.lacked_by(self).into_iter().map(|(log, _)| log).collect()
    }

    /// Whether each of this frontier's positions that the log has at all is an entry that it has under this hash.
    /// Positions beyond what the log has can't be judged.
    ///
    /// # Errors
    /// Outside those of the store, inside the first [`Fork`].
    pub fn find_fork_with<R: LogRead>(&self, log: &R) -> Result<Result<(), Fork>, R::Error> {
        for (log_id, position) in self.iter() {
            let point = EntryPoint { log: log_id, number: position.number };
            if let Some(meta) = log.entry(point)?
                && meta.hash != position.hash
            {
                return Ok(Err(Fork { point, ours: meta.hash, other: position.hash }));
            }
        }
        Ok(Ok(()))
    }

    fn find_fork(&self, other: &Self) -> Result<(), Fork> {
        for (log, theirs) in other.iter() {
            if let Some(ours) = self.position(log)
                && ours.number == theirs.number
                && ours.hash != theirs.hash
            {
                let point = EntryPoint { log, number: ours.number };
                return Err(Fork { point, ours: ours.hash, other: theirs.hash });
            }
        }
        Ok(())
    }

    /// The frontier's bytes.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`] if nobody would read them (about 800 logs).
    pub fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        bounded(codec::encode_object(self))
    }

    /// Reads a frontier from bytes of any origin.
    ///
    /// # Errors
    /// As [`codec::decode_object`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let frontier: Self = codec::decode_object(bytes, FRONTIER_LEN_MAX)?;
        frontier.check()?;
        Ok(frontier)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let is_numbered = self.0.values().all(|position| position.number > 0);
        if is_numbered { Ok(()) } else { Err(DecodeError::Malformed) }
    }
}

fn bounded(bytes: Vec<u8>) -> Result<Vec<u8>, DecodeError> {
    if bytes.len() > FRONTIER_LEN_MAX {
        return Err(DecodeError::TooLong { len: bytes.len(), limit: FRONTIER_LEN_MAX });
    }
    Ok(bytes)
}

/// What a device says that it has of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFrontier {
    /// The space.
    pub space: SpaceId,
    /// Who says so.
    pub device: DeviceId,
    /// What it has.
    pub frontier: Frontier,
    bytes: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Statement {
    space: SpaceId,
    device: DeviceId,
    frontier: Frontier,
}

/// Why bytes are no signed frontier of a space.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedFrontierError {
    /// By its bytes alone.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Of another space.
    #[error("frontier belongs to another space")]
    WrongSpace,
    /// Not signed by the device that it names.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

impl SignedFrontier {
    /// Signs what this device has.
    ///
    /// # Errors
    /// As [`Frontier::encode`].
    pub fn sign(key: &SigningKey, space: SpaceId, frontier: Frontier) -> Result<Self, DecodeError> {
        let device = DeviceId(key.verifying_key().to_bytes());
        let statement = Statement { space, device, frontier };
        let mut bytes = codec::encode_object(&statement);
        bytes.extend(codec::encode(&sign(key, Signed::Frontier, space, &bytes)));
        let bytes = bounded(bytes)?;
        Ok(Self { space, device, frontier: statement.frontier, bytes })
    }

    /// Reads a signed frontier of `space` from bytes of any origin, and checks its signature.
    ///
    /// # Errors
    /// A variant of [`SignedFrontierError`] for each rule.
    pub fn decode(space: SpaceId, bytes: &[u8]) -> Result<Self, SignedFrontierError> {
        if bytes.len() > FRONTIER_LEN_MAX {
            return Err(DecodeError::TooLong { len: bytes.len(), limit: FRONTIER_LEN_MAX }.into());
        }
        let body = match bytes.split_first() {
            Some((&FORMAT, body)) => body,
            Some((&found, _)) => return Err(DecodeError::UnknownFormat { found }.into()),
            None => return Err(DecodeError::Malformed.into()),
        };
        let (statement, rest) = postcard::take_from_bytes::<Statement>(body).map_err(|_| DecodeError::Malformed)?;
        let signature: Signature = codec::decode(rest, rest.len())?;
        let signed = bytes.get(..bytes.len() - rest.len()).ok_or(DecodeError::Malformed)?;
        if codec::encode_object(&statement) != signed {
            return Err(DecodeError::Malformed.into());
        }
        statement.frontier.check()?;
        if statement.space != space {
            return Err(SignedFrontierError::WrongSpace);
        }
        verify(statement.device, Signed::Frontier, space, signed, &signature)?;
        Ok(Self { space, device: statement.device, frontier: statement.frontier, bytes: bytes.to_vec() })
    }

    /// The statement as it was signed or received.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}
