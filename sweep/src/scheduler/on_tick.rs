//! Time passed: leases expire, silent workers are given up.

use crate::id::WorkerId;
use crate::mutation;
use crate::outcome::FailureClass;
use crate::record::AttemptEnd;
use crate::scheduler::event::{Effect, Now, Refusal, Reply, Step, Write};
use crate::scheduler::state::Scheduler;

/// A worker that was silent for this many TTLs, and holds nothing, is given up.
const SILENT_TTLS: u64 = 4;

impl Scheduler {
    pub(super) fn on_tick(&mut self, now: Now, step: &mut Step) -> Result<Reply, Refusal> {
        while let Some(&(expires, id)) = self.expiries.first() {
            if expires > now.monotonic {
                break;
            }
            self.expiries.pop_first();
            if let Some(holder) = self.holder(id) {
                let message = "its worker was not heard for the lease's whole time".to_owned();
                let class = FailureClass::WorkerLost;
                let worker = holder.worker;
                self.fail_attempt(id, worker, class, message, AttemptEnd::Expired, now, step);
                if mutation::on("expiry keeps the slot")
                    && let Some(known) = self.workers.get_mut(&worker)
                {
                    known.occupy(holder, id, now);
                }
            }
        }
        self.check_budgets(now, step);
        let silent = self.config.lease_ttl.saturating_mul(SILENT_TTLS);
        let gone: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, w)| w.slots.is_empty() && now.monotonic.saturating_sub(w.seen) >= silent)
            .map(|(&id, _)| id)
            .collect();
        for worker in gone {
            self.workers.remove(&worker);
            self.fleet += 1;
            step.writes.push(Write::WorkerLeft { worker, at: now.wall });
        }
        if self.has_work(now) {
            step.effects.push(Effect::WorkAvailable);
        }
        Ok(Reply::Done)
    }

    /// When [`Event::Tick`](super::Event::Tick) has something to do next, on the monotonic clock.
    #[must_use]
    pub fn next_expiry(&self) -> Option<u64> {
        self.expiries.first().map(|&(expires, _)| expires)
    }
}
