//! Agents come and go.

use crate::id::{TrialId, WorkerId};
use crate::outcome::FailureClass;
use crate::record::{AttemptEnd, Holder, SlotRecord, WorkerRecord};
use crate::scheduler::event::{LeaseKey, Now, Refusal, Reply, Step, Write};
use crate::scheduler::state::{Scheduler, Worker};

/// Most slots of one worker.
const MAX_SLOTS: usize = 1024;

impl Scheduler {
    #[allow(clippy::too_many_arguments, reason = "the fields of one event")]
    pub(super) fn on_register(
        &mut self,
        worker: WorkerId,
        name: String,
        version: String,
        slots: Vec<SlotRecord>,
        lost: &[LeaseKey],
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, Refusal> {
        for (what, count) in [("slots", slots.len()), ("lost leases", lost.len())] {
            if count > MAX_SLOTS {
                return Err(Refusal::TooMany { what, count, limit: MAX_SLOTS });
            }
        }
        if slots.iter().any(|slot| slot.max_pack == 0) {
            return Err(Refusal::OutOfRange { what: "max_pack of a slot", expected: "1 or more" });
        }
        let record =
            WorkerRecord { id: worker, name, version, slots, registered: now.wall, left: None };
        step.writes.push(Write::Worker(record.clone()));
        // The same run of it keeps what it holds and how it fared.
        let known = match self.workers.remove(&worker) {
            Some(known) => Worker { record, seen: now.monotonic, ..known },
            None => Worker::new(record, now),
        };
        self.workers.insert(worker, known);
        for &lease in lost {
            self.lose(lease, now, step);
        }
        Ok(Reply::Registered)
    }

    /// An agent's earlier run died with this lease: the trial need not wait for its expiry.
    fn lose(&mut self, lease: LeaseKey, now: Now, step: &mut Step) {
        let id = lease.trial;
        let trial = self.sweeps.get(&id.sweep).and_then(|s| s.active.get(&id.index));
        let Some(trial) = trial.filter(|t| t.epoch == lease.epoch) else { return };
        if let Some(Holder { worker, .. }) = trial.phase.holder() {
            if let Some(earlier) = self.workers.get_mut(&worker) {
                earlier.replaced = true;
            }
            let message = "its worker died and was started again".to_owned();
            let class = FailureClass::WorkerLost;
            self.fail_attempt(id, worker, class, message, AttemptEnd::Failed, now, step);
        }
    }

    pub(super) fn on_leave(
        &mut self,
        worker: WorkerId,
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, Refusal> {
        let Some(known) = self.workers.get(&worker) else {
            return Err(Refusal::UnknownWorker(worker));
        };
        let held: Vec<TrialId> =
            known.slots.values().flat_map(|busy| &busy.trials).copied().collect();
        for id in held {
            let message = "its worker left".to_owned();
            let class = FailureClass::Preempted;
            self.fail_attempt(id, worker, class, message, AttemptEnd::Released, now, step);
        }
        self.workers.remove(&worker);
        step.writes.push(Write::WorkerLeft { worker, at: now.wall });
        Ok(Reply::Done)
    }
}
