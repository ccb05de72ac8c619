//! What the coordinator has told anybody, and what must follow from it. It stands outside of the
//! world: no crash takes it away.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Shared by all hosts of a world.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
pub(crate) struct Entries {
    hasher: blake3::Hasher,
    /// Who was granted which lease.
    leases: BTreeMap<(u64, u32), String>,
    /// Metrics whose reports were accepted, by trial.
    pub(crate) accepted: BTreeMap<u64, f64>,
    /// Calls that were made again.
    pub(crate) retries: u64,
    /// Reports that came too late.
    pub(crate) stale: u64,
}

impl Ledger {
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap()
    }

    /// Something happened, as it shows in the trace.
    pub(crate) fn trace(&self, what: &str) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
        let line = format!("{at} {what}\n");
        if std::env::var_os("DEPTUNE_TRACE").is_some() {
            print!("{line}");
        }
        self.entries().hasher.update(line.as_bytes());
    }

    /// A lease of an epoch belongs to one worker for ever.
    pub(crate) fn leased(&self, trial: u64, epoch: u32, worker: &str) {
        self.trace(&format!("lease {trial}.{epoch} {worker}"));
        let mut entries = self.entries();
        let holder = entries.leases.entry((trial, epoch)).or_insert_with(|| worker.to_owned());
        assert_eq!(holder, worker, "trial {trial} epoch {epoch} was leased to two workers");
    }

    /// An accepted result never changes.
    pub(crate) fn accepted(&self, trial: u64, metric: f64) {
        self.trace(&format!("accepted {trial} {metric}"));
        let before = *self.entries().accepted.entry(trial).or_insert(metric);
        assert!(before == metric, "trial {trial}: {before} and {metric} were both accepted");
    }

    pub(crate) fn stale(&self, trial: u64) {
        self.trace(&format!("stale {trial}"));
        self.entries().stale += 1;
    }

    pub(crate) fn hash(&self) -> String {
        self.entries().hasher.finalize().to_hex().as_str()[..16].to_owned()
    }
}
