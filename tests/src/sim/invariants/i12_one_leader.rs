//! I12: a coordinator whose store was taken over commits nothing, and takes nothing away from
//! anybody by what it remembers.

use deptune_coordinator::runtime::Error;
use deptune_sweep::scheduler::{Ack, Refusal, Reply};

use super::{Invariant, Ledger, Seen};

#[derive(Debug, Default)]
pub(super) struct OneLeader;

impl Invariant for OneLeader {
    fn id(&self) -> &'static str {
        "I12"
    }

    fn see(&mut self, _: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed(commit) if commit.ours != commit.newest => {
                let (ours, newest) = (commit.ours, commit.newest);
                Err(format!("generation {ours} commits, {newest} has the store"))
            }
            Seen::Answered(ask, answer, true) if takes_away(answer) => {
                Err(format!("a deposed coordinator answers {ask:?} with {answer:?}"))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the caller gives something up because of the answer.
fn takes_away(answer: &Result<Reply, Error>) -> bool {
    match answer {
        Ok(Reply::Heard { stops, drain }) => *drain || !stops.is_empty(),
        Ok(Reply::Exchanged { acks, .. }) => acks.iter().any(|ack| *ack != Ack::Accepted),
        Err(Error::Refused(refusal)) => !matches!(refusal, Refusal::UnknownWorker(_)),
        _ => false,
    }
}
