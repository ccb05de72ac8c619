//! Time passed: leases expire, silent workers are given up. Time in which the coordinator itself
//! stood still does not count: nobody could be heard.

use crate::id::WorkerId;
use crate::mutation;
use crate::outcome::FailureClass;
use crate::record::AttemptEnd;
use crate::scheduler::event::{Effect, Now, Refusal, Reply, Step, Write};
use crate::scheduler::state::Scheduler;

/// A worker that was silent for this many TTLs, and holds nothing, is given up.
const SILENT_TTLS: u64 = 4;

/// Between two ticks at most this part of the TTL counts as silence of the workers.
const TICKS_PER_TTL: u64 = 6;

impl Scheduler {
    /// To be called several times a second.
    pub(super) fn on_tick(&mut self, now: Now, step: &mut Step) -> Result<Reply, Refusal> {
        self.excuse_silence(now);
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

    /// Puts off what depends on when workers were heard, if the last tick was too long ago: a process
    /// that was stopped, or whose commit took long, finds what they had to say only after this one.
    fn excuse_silence(&mut self, now: Now) {
        let last = self.ticked.replace(now.monotonic).unwrap_or(now.monotonic);
        let gap = now.monotonic.saturating_sub(last);
        let deaf = gap.saturating_sub(self.config.lease_ttl / TICKS_PER_TTL);
        if deaf == 0 {
            return;
        }
        for trial in self.sweeps.values_mut().flat_map(|sweep| sweep.active.values_mut()) {
            trial.expires = trial.expires.saturating_add(deaf);
        }
        for worker in self.workers.values_mut() {
            worker.seen = worker.seen.saturating_add(deaf).min(now.monotonic);
        }
        // All by the same, so that they stay in order.
        let moved = std::mem::take(&mut self.expiries).into_iter();
        self.expiries = moved.map(|(at, id)| (at.saturating_add(deaf), id)).collect();
    }
}
