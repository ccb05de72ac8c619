//! Agents come and go.

use crate::id::{TrialId, WorkerId};
use crate::mutation;
use crate::outcome::FailureClass;
use crate::record::{AttemptEnd, Holder, SlotRecord, WorkerRecord};
use crate::scheduler::event::{LeaseKey, Now, Refusal, Reply, Step, Write};
use crate::scheduler::state::{Scheduler, Worker};
use crate::spec::MAX_LABELS;

/// Most slots of one worker.
const MAX_SLOTS: usize = 1024;

impl Scheduler {
    #[allow(clippy::too_many_arguments, reason = "the fields of one event")]
    pub(super) fn on_register(
        &mut self,
        worker: WorkerId,
        name: String,
        version: String,
        labels: Vec<String>,
        slots: Vec<SlotRecord>,
        lost: &[LeaseKey],
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, Refusal> {
        for (what, count, limit) in [
            ("slots", slots.len(), MAX_SLOTS),
            ("lost leases", lost.len(), MAX_SLOTS),
            ("labels", labels.len(), MAX_LABELS),
        ] {
            if count > limit {
                return Err(Refusal::TooMany { what, count, limit });
            }
        }
        if slots.iter().any(|slot| slot.max_pack == 0) {
            return Err(Refusal::OutOfRange { what: "max_pack of a slot", expected: "1 or more" });
        }
        // The same run of it keeps what it was told.
        let draining = self.workers.get(&worker).is_some_and(|known| known.record.draining);
        let (registered, left) = (now.wall, None);
        let record =
            WorkerRecord { id: worker, name, version, labels, draining, slots, registered, left };
        step.writes.push(Write::Worker(record.clone()));
        // As well as what it holds and how it fared.
        let known = match self.workers.remove(&worker) {
            Some(known) => Worker { record, seen: now.monotonic, ..known },
            None => Worker::new(record, now),
        };
        self.workers.insert(worker, known);
        self.fleet += 1;
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
                self.fleet += 1;
            }
            let message = "its worker died and was started again".to_owned();
            let class = FailureClass::WorkerLost;
            self.fail_attempt(id, worker, class, message, AttemptEnd::Failed, now, step);
        }
    }

    /// Nobody is told by the answer that the agent has gone; it goes when it hears of it.
    pub(super) fn on_drain(&mut self, worker: WorkerId, step: &mut Step) -> Result<Reply, Refusal> {
        let known = self.workers.get_mut(&worker).ok_or(Refusal::UnknownWorker(worker))?;
        if !known.record.draining {
            known.record.draining = true;
            self.fleet += 1;
            if !mutation::on("drain forgotten on restart") {
                step.writes.push(Write::Worker(known.record.clone()));
            }
        }
        Ok(Reply::Done)
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
        self.fleet += 1;
        step.writes.push(Write::WorkerLeft { worker, at: now.wall });
        Ok(Reply::Done)
    }
}
