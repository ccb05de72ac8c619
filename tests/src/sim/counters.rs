//! What happened how often: a fault or a transition that a whole run never saw was not tested.

use std::collections::BTreeMap;
use std::fmt;

/// Every fault that the simulator injects.
pub(crate) const FAULTS: &[&str] = &[
    "network: message lost",
    "network: message duplicated",
    "network: message late",
    "network: message replayed",
    "network: partition",
    "network: one-way partition",
    "network: flapping",
    "network: clogged and unclogged",
    "clock: wall jump",
    "clock: drift",
    "clock: stall",
    "store: commit refused",
    "store: disk full",
    "store: commit unknown, applied",
    "store: commit unknown, lost",
    "store: slow commit",
    "store: load failed",
    "coordinator: killed before step",
    "coordinator: killed before commit",
    "coordinator: killed after commit",
    "coordinator: killed amid replies",
    "coordinator: killed at any time",
    "coordinator: paused",
    "coordinator: taken over",
    "coordinator: deposed",
    "agent: killed, outbox kept",
    "agent: killed, outbox lost",
    "agent: paused beyond the lease",
    "agent: disk full",
    "agent: drained",
    "agent: walltime",
    "operator: drains a worker",
    "child: crashed",
    "child: out of memory",
    "child: hung",
    "child: exit 0 without a result",
    "child: diverged",
    "child: data error",
    "child: node error",
    "child: files not ready",
    "child: ignores the request to stop",
    "client: repeats a request",
    "client: repeats what was done",
    "client: uses a request id again",
    "client: cancels",
    "client: is refused",
    "client: pauses",
    "client: resumes",
    "client: changes limits",
    "client: retries",
    "client: adds seeds",
    "client: adds a space",
    "client: cancels a trial",
    "client: deletes",
    "artifact: upload lost",
];

/// Every way in which a trial, a sweep, a worker or a report can move on.
pub(crate) const TRANSITIONS: &[&str] = &[
    "trial: new, leased",
    "trial: pending, leased again",
    "trial: pending, revived",
    "trial: leased, failed, pending",
    "trial: leased, released, pending",
    "trial: leased, expired, pending",
    "trial: leased, succeeded",
    "trial: leased, failed for good",
    "trial: leased, cancelled",
    "trial: pending, late end",
    "trial: pending, cancelled",
    "trial: new, cancelled",
    "trial: resumed from a checkpoint",
    "trial: resumed in a pack",
    "pack: of several trials",
    "pack: a member fails, the others go on",
    "pack: a member is taken away",
    "pack: crashed as a whole",
    "pack: out of memory as a whole",
    "pack: measured",
    "pack: measured, larger",
    "sweep: submitted",
    "sweep: finished",
    "sweep: cancelled",
    "sweep: paused",
    "sweep: resumed",
    "sweep: paused, finished",
    "sweep: runs again",
    "sweep: changed",
    "sweep: deleted",
    "trial: new, runs another again",
    "trial: new, another seed",
    "trial: new, of an added space",
    "worker: registered",
    "worker: is to end",
    "worker: gone",
    "report: accepted",
    "report: stale",
    "lease: stopped, superseded",
    "lease: stopped, cancelled",
    "outbox: inherited a report",
    "outbox: inherited a checkpoint",
    "coordinator: restored",
];

/// Counts by name.
#[derive(Debug, Clone, Default)]
pub struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    /// One more.
    pub fn count(&mut self, name: &'static str) {
        *self.0.entry(name).or_default() += 1;
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Adds another world's.
    pub fn add(&mut self, other: &Counters) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// The names that never occurred.
    #[must_use]
    pub fn zeros(&self) -> Vec<&'static str> {
        FAULTS.iter().chain(TRANSITIONS).copied().filter(|name| self.get(name) == 0).collect()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, names) in [("faults", FAULTS), ("transitions", TRANSITIONS)] {
            writeln!(f, "{title}:")?;
            for name in names {
                writeln!(f, "  {name:<42} {:>12}", self.get(name))?;
            }
        }
        Ok(())
    }
}
