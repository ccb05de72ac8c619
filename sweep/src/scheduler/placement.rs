//! Which slots may take a sweep's trials, and what to say when none may.

use std::fmt;

use crate::id::SweepId;
use crate::record::{SlotRecord, WorkerRecord};
use crate::scheduler::event::Now;
use crate::scheduler::state::{Scheduler, Sweep, Worker};

/// Most workers of which the reasons are told.
const MAX_TOLD: usize = 8;

/// Why nothing of a sweep can be leased as things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unplaced {
    /// No worker is registered that may take trials.
    NoWorker,
    /// Of every worker, by name, why its first slot does not take them. At most eight.
    NoFit {
        /// Name and reason.
        reasons: Vec<(String, String)>,
        /// Workers that are not named.
        more: usize,
    },
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unplaced::NoFit { reasons, more } = self else {
            return f.write_str("no worker is registered");
        };
        f.write_str("no worker can take it: ")?;
        for (i, (name, why)) in reasons.iter().enumerate() {
            write!(f, "{}{name} {why}", if i > 0 { "; " } else { "" })?;
        }
        match more {
            0 => Ok(()),
            more => write!(f, "; and {more} more workers"),
        }
    }
}

impl Scheduler {
    /// The slots that a sweep's trials may be leased to, free or not.
    pub(super) fn slots_for<'a>(
        &'a self,
        sweep: &'a Sweep,
    ) -> impl Iterator<Item = (&'a Worker, &'a SlotRecord)> {
        let here = self.workers.values().filter(|worker| worker.takes_trials());
        let slots = here.flat_map(|worker| worker.record.slots.iter().map(move |it| (worker, it)));
        slots.filter(|(worker, slot)| sweep.spec().requires.fits(&worker.record, slot).is_ok())
    }

    /// Takes the measures by which packs of a sweep are sized, unless they were just taken.
    pub(super) fn measure(&mut self, id: SweepId, now: Now) {
        self.count_slots(id);
        if let Some(sweep) = self.sweeps.get_mut(&id) {
            sweep.count_under_way(now);
        }
    }

    /// Counts the slots for a sweep's trials, unless they are still those that were counted last.
    fn count_slots(&mut self, id: SweepId) {
        let Some(sweep) = self.sweeps.get(&id) else { return };
        if sweep.slots.is_some_and(|(_, fleet)| fleet == self.fleet) {
            return;
        }
        let counted = (self.slots_for(sweep).count() as u64, self.fleet);
        if let Some(sweep) = self.sweeps.get_mut(&id) {
            sweep.slots = Some(counted);
        }
    }

    /// Why no worker that is here can take the trials of a sweep; `None` where one can, or where
    /// there is no such sweep.
    #[must_use]
    pub fn unplaced(&self, sweep: SweepId) -> Option<Unplaced> {
        let sweep = self.sweeps.get(&sweep)?;
        if self.slots_for(sweep).next().is_some() {
            return None;
        }
        let why = |record: &WorkerRecord| {
            let slot = record.slots.first()?;
            let misfit = sweep.spec().requires.fits(record, slot).err()?;
            Some((record.name.clone(), misfit.to_string()))
        };
        let here = self.workers.values().filter(|worker| worker.takes_trials());
        let mut reasons: Vec<_> = here.filter_map(|worker| why(&worker.record)).collect();
        if reasons.is_empty() {
            return Some(Unplaced::NoWorker);
        }
        let more = reasons.len().saturating_sub(MAX_TOLD);
        reasons.truncate(MAX_TOLD);
        Some(Unplaced::NoFit { reasons, more })
    }
}

impl Worker {
    /// Whether it is there to be leased something, now or later.
    fn takes_trials(&self) -> bool {
        !self.replaced && !self.record.draining
    }
}
