//! Which checkpoints may go.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use deptune_sweep::id::{ArtifactHash, TrialId};

/// Checkpoints kept per running trial: the latest, and the one before it for a worker that is
/// just fetching it.
const KEEP: usize = 2;

/// Remembers the checkpoints of running trials, so that superseded ones can be removed at once.
/// Held in memory only: one from before a restart goes with the next collection.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    held: Arc<Mutex<BTreeMap<TrialId, VecDeque<ArtifactHash>>>>,
}

impl Retention {
    /// A trial has a new durable checkpoint. Returns those that it supersedes.
    #[must_use]
    pub fn committed(&self, trial: TrialId, hash: ArtifactHash) -> Vec<ArtifactHash> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let checkpoints = held.entry(trial).or_default();
        // A repeated attempt may come to the very same bytes again.
        checkpoints.retain(|held| *held != hash);
        checkpoints.push_back(hash);
        let superseded = checkpoints.len().saturating_sub(KEEP);
        checkpoints.drain(..superseded).collect()
    }

    /// A trial ended. Returns the checkpoints that nobody will continue from.
    #[must_use]
    pub fn ended(&self, trial: TrialId) -> Vec<ArtifactHash> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&trial).map(Vec::from).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use deptune_sweep::id::SweepId;

    use super::*;

    #[test]
    fn the_last_two_checkpoints_stay() {
        let trial = TrialId { sweep: SweepId(1), index: 0 };
        let hashes: Vec<ArtifactHash> = (0..4u8).map(|n| ArtifactHash::of(&[n])).collect();
        let retention = Retention::default();
        assert!(retention.committed(trial, hashes[0].clone()).is_empty());
        assert!(retention.committed(trial, hashes[1].clone()).is_empty());
        assert!(retention.committed(trial, hashes[1].clone()).is_empty());
        assert_eq!(retention.committed(trial, hashes[2].clone()), hashes[..1]);
        assert_eq!(retention.committed(trial, hashes[3].clone()), hashes[1..2]);
        assert_eq!(retention.ended(trial), hashes[2..]);
        assert!(retention.ended(trial).is_empty());
    }
}
