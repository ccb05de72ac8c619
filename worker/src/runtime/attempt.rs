//! An attempt's directory: made before its child, deleted once its log has arrived.

use std::fs;
use std::io;
use std::path::Path;

use deptune_sweep::id::{Epoch, TrialId};
use deptune_sweep::scheduler::LeaseKey;
use serde::{Deserialize, Serialize};

use super::pack::remake;

/// `attempt.json`: whose log lies beside it.
#[derive(Debug, Serialize, Deserialize)]
struct Attempt {
    members: Vec<(TrialId, Epoch)>,
}

/// Makes the directory of a pack, empty but for its description.
pub(super) fn create(dir: &Path, scratch: &Path, members: &[LeaseKey]) -> io::Result<()> {
    remake(dir)?;
    fs::create_dir(scratch)?;
    let members = members.iter().map(|key| (key.trial, key.epoch)).collect();
    let text = serde_json::to_vec(&Attempt { members }).map_err(io::Error::other)?;
    fs::write(dir.join("attempt.json"), text)
}

/// The members of a pack whose directory an earlier agent left.
pub(super) fn members(dir: &Path) -> Option<Vec<LeaseKey>> {
    let text = fs::read(dir.join("attempt.json")).ok()?;
    let attempt: Attempt = serde_json::from_slice(&text).ok()?;
    Some(attempt.members.into_iter().map(|(trial, epoch)| LeaseKey { trial, epoch }).collect())
}
