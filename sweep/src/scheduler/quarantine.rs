//! Workers on which everything fails get nothing for a while, so that a broken node does not use up
//! the attempts of one trial after the other. Only where another worker is well that the sweep fits:
//! where all fail, the fault is the sweep's, which is to end.

use crate::id::{RequestId, TrialId, WorkerId};
use crate::outcome::FailureClass;
use crate::record::LogEntry;
use crate::scheduler::event::{Now, Step};
use crate::scheduler::state::{Scheduler, Worker};

/// So many packs of different trials that fail in a row make a quarantine.
const ENOUGH: usize = 3;
/// Milliseconds of the first one; doubles with each that follows without a success.
const BASE: u64 = 60_000;
/// The longest.
const CAP: u64 = 3_600_000;

/// How a worker fares.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The packs that failed since the last success, each with one trial of it, no trial twice.
    failed: Vec<(RequestId, TrialId)>,
    /// Quarantines since the last success.
    times: u32,
    /// Monotonic time until which it gets nothing.
    until: u64,
}

impl Health {
    /// Whether it is to get nothing yet.
    fn is_quarantined(&self, now: u64) -> bool {
        self.quarantine_left(now) > 0
    }

    /// Milliseconds for which it gets nothing.
    pub(super) fn quarantine_left(&self, now: u64) -> u64 {
        self.until.saturating_sub(now)
    }

    /// A trial succeeded on it. Returns whether that ends a quarantine.
    pub(super) fn succeeded(&mut self, now: u64) -> bool {
        let ends = self.is_quarantined(now);
        *self = Health::default();
        ends
    }

    /// An attempt failed on it. Returns for how long it gets nothing, if that begins now.
    fn failed(&mut self, pack: RequestId, trial: TrialId, now: u64) -> Option<u64> {
        if self.failed.iter().any(|(known, other)| *known == pack || *other == trial) {
            return None;
        }
        self.failed.push((pack, trial));
        if self.failed.len() < ENOUGH {
            return None;
        }
        self.failed.clear();
        let wait = (BASE << self.times.min(10)).min(CAP);
        self.times = self.times.saturating_add(1);
        self.until = now.saturating_add(wait);
        Some(wait)
    }
}

impl Scheduler {
    /// Whether a worker gets nothing now, because trial after trial failed on it.
    pub(super) fn is_barred(&self, worker: WorkerId, now: Now) -> bool {
        let known = self.workers.get(&worker);
        known.is_some_and(|known| known.health.is_quarantined(now.monotonic))
            && self.others_that_are_well(worker, now).next().is_some()
    }

    fn others_that_are_well(&self, worker: WorkerId, now: Now) -> impl Iterator<Item = &Worker> {
        let others = self.workers.iter().filter(move |(id, _)| **id != worker);
        others.map(|(_, other)| other).filter(move |other| {
            !other.record.draining
                && !other.replaced
                && !other.health.is_quarantined(now.monotonic)
                && now.monotonic.saturating_sub(other.seen) < self.config.lease_ttl
        })
    }

    /// An attempt of a trial failed on its worker, which may be the worker's fault.
    pub(super) fn note_failure(
        &mut self,
        id: TrialId,
        worker: WorkerId,
        class: FailureClass,
        now: Now,
        step: &mut Step,
    ) {
        let suspicious = matches!(
            class,
            FailureClass::Crashed | FailureClass::Oom | FailureClass::Timeout | FailureClass::Infra
        );
        let (true, Some(holder)) = (suspicious, self.holder(id)) else { return };
        let Some(sweep) = self.sweeps.get(&id.sweep) else { return };
        let requires = &sweep.spec().requires;
        let fits = |other: &Worker| {
            let slots = &other.record.slots;
            slots.iter().any(|slot| requires.fits(&other.record, slot).is_ok())
        };
        if !self.others_that_are_well(worker, now).any(fits) {
            return;
        }
        let Some(known) = self.workers.get_mut(&worker) else { return };
        if let Some(wait) = known.health.failed(holder.request_id, id, now.monotonic) {
            let name = known.record.name.clone();
            let entry = LogEntry::Quarantined { worker, name, seconds: wait / 1000 };
            self.log(id.sweep, None, entry, now, step);
        }
    }
}
