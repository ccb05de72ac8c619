//! I7: what anybody was told is in the store, after any crash: a submission, an accepted success,
//! a file that a row names. And an agent deletes a report only once it has heard what became of
//! it.

use std::collections::{BTreeMap, BTreeSet};

use deptune_sweep::id::{ArtifactHash, RequestId, TrialId};
use deptune_sweep::outcome::Outcome;
use deptune_sweep::record::Phase;
use deptune_sweep::scheduler::{Ack, LeaseKey, Reply, Write};
use deptune_worker::protocol::{Answer, Call, CallError, CallKind};

use super::{Invariant, Ledger, Seen};
use crate::sim::files::Files;
use crate::sim::front::Ask;
use crate::sim::ledger::TrialLine;

#[derive(Debug, Default)]
pub(super) struct AckedIsDurable {
    /// Leases of each node about which it has heard the last word.
    heard: BTreeMap<usize, BTreeSet<LeaseKey>>,
    /// Leases that each request of a node reports.
    reported: BTreeMap<(usize, RequestId), Vec<LeaseKey>>,
}

impl Invariant for AckedIsDurable {
    fn id(&self) -> &'static str {
        "I7"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Answered(Ask::Submit(request), Ok(Reply::Sweep(sweep)), _) => {
                match ledger.submitted(*request) {
                    Some(found) if found == *sweep => Ok(()),
                    found => Err(format!("request {request} is sweep {sweep}, stored {found:?}")),
                }
            }
            Seen::Answered(Ask::Control { request_id: request, sweep, .. }, Ok(_), _)
            | Seen::ControlAcknowledged(request, sweep, _) => {
                if ledger.requests.get(request).is_some_and(|line| line.sweep == *sweep) {
                    return Ok(());
                }
                Err(format!("request {request} about sweep {sweep} is not stored"))
            }
            Seen::Answered(Ask::Drain(worker), Ok(_), _) => match ledger.workers.get(worker) {
                Some((record, here)) if !record.draining && *here => {
                    Err(format!("that worker {worker} is to end is not stored"))
                }
                _ => Ok(()),
            },
            Seen::Answered(Ask::Exchange { reports, .. }, Ok(Reply::Exchanged { acks, .. }), _) => {
                let accepted = reports.iter().zip(acks).filter(|(_, ack)| **ack == Ack::Accepted);
                for ((lease, succeeded), _) in accepted {
                    let line = ledger.trials.get(&lease.trial);
                    let outcome = line.and_then(|line| line.outcome.as_ref());
                    let stored = outcome
                        .is_some_and(|o| o.epoch == lease.epoch && o.outcome == Outcome::Succeeded);
                    let deleted = ledger.deleted.contains_key(&lease.trial.sweep);
                    if *succeeded && !stored && !deleted {
                        let (trial, epoch) = (lease.trial, lease.epoch);
                        return Err(format!("the success of {trial} at {epoch} is not stored"));
                    }
                }
                Ok(())
            }
            Seen::Write(Write::Trial(record), commit) => match &record.checkpoint {
                Some(checkpoint) if !matches!(record.phase, Phase::Ended { .. }) => {
                    named(record.id, &checkpoint.hash, commit.artifacts)
                }
                _ => Ok(()),
            },
            Seen::Write(Write::Outcome(record), commit) => match &record.adapter {
                Some(adapter) => named(record.id, adapter, commit.artifacts),
                None => Ok(()),
            },
            Seen::Scan(scan) => {
                let gone =
                    |line: &TrialLine| line.needs.is_some_and(|key| !scan.artifacts.has(key));
                match ledger.trials.iter().find(|(_, line)| gone(line)) {
                    Some((id, _)) => Err(format!("trial {id} names a file that is gone")),
                    None => Ok(()),
                }
            }
            Seen::Called(node, Call::Exchange { request_id, reports, .. }) => {
                let leases = reports.iter().map(|report| report.lease).collect();
                self.reported.insert((*node, *request_id), leases);
                Ok(())
            }
            Seen::Heard(node, answer) => {
                let over: Vec<LeaseKey> = match answer {
                    Answer::Exchanged { request_id, .. } => {
                        self.reported.remove(&(*node, *request_id)).unwrap_or_default()
                    }
                    Answer::HeartbeatHeard { stops, .. } | Answer::ProgressRecorded { stops } => {
                        stops.iter().map(|stop| stop.lease).collect()
                    }
                    _ => Vec::new(),
                };
                self.heard.entry(*node).or_default().extend(over);
                Ok(())
            }
            Seen::Failed(node, CallKind::Exchange(request), CallError::Refused(_)) => {
                let leases = self.reported.remove(&(*node, *request)).unwrap_or_default();
                self.heard.entry(*node).or_default().extend(leases);
                Ok(())
            }
            Seen::Forgotten(node, lease, Some(_)) => {
                let heard = self.heard.get_mut(node).is_some_and(|heard| heard.remove(lease));
                if heard {
                    return Ok(());
                }
                let (trial, epoch) = (lease.trial, lease.epoch);
                Err(format!("node {node} deletes its report of {trial} at {epoch} too early"))
            }
            Seen::Died(node) => {
                self.reported.retain(|(of, _), _| of != node);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn named(id: TrialId, hash: &ArtifactHash, here: &Files) -> Result<(), String> {
    if here.contains(hash) { Ok(()) } else { Err(format!("trial {id} names a file that is gone")) }
}
