//! What happened, in one hash: equal worlds have equal hashes.

use deptune_sweep::record::RequestRecord;
use deptune_sweep::scheduler::Write;

use super::world::Happening;

/// The hash so far.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    /// Whether every event is printed.
    pub(crate) prints: bool,
}

impl Trace {
    /// An event.
    pub(crate) fn happening(&mut self, at: u64, sequence: u64, what: &Happening) {
        if self.prints {
            let mut text = format!("{what:?}");
            text.truncate(text.char_indices().nth(400).map_or(text.len(), |(at, _)| at));
            println!("{at:>9} {sequence:>7} {text}");
        }
        let (tag, a, b) = what.stamp();
        let mut bytes = [0; 33];
        bytes[..8].copy_from_slice(&at.to_le_bytes());
        bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&a.to_le_bytes());
        bytes[24..32].copy_from_slice(&b.to_le_bytes());
        bytes[32] = tag;
        self.hasher.update(&bytes);
    }

    /// Writes that became durable.
    pub(crate) fn writes(&mut self, writes: &[Write]) {
        for write in writes {
            if self.prints {
                let mut text = format!("{write:?}");
                text.truncate(text.char_indices().nth(300).map_or(text.len(), |(at, _)| at));
                println!("            write {text}");
            }
            let (tag, trial, number) = match write {
                Write::Sweep(record) => (1, record.id.0, record.total),
                Write::NextIndex { sweep, next_index } => (2, sweep.0, *next_index),
                Write::SweepStatus { sweep, .. } => (3, sweep.0, 0),
                Write::SweepTotal { sweep, total } => (15, sweep.0, *total),
                Write::Space { record, .. } => (21, record.sweep.0, record.number.into()),
                Write::Controls { sweep, controls } => (16, sweep.0, u64::from(controls.weight)),
                Write::Used { sweep, used } => (17, sweep.0, *used),
                Write::Request(RequestRecord { id: request_id, sweep, .. }) => {
                    (18, sweep.0, request_id.0.as_u64_pair().0)
                }
                Write::DeleteSweep { sweep, .. } => (19, sweep.0, 0),
                Write::NewTrial { record, .. } => (4, record.id.index, u64::from(record.epoch.0)),
                Write::Trial(record) => (5, record.id.index, u64::from(record.epoch.0)),
                Write::AttemptStarted(record) => (6, record.id.index, record.first_step),
                Write::AttemptProgress { lease, last_step } => (7, lease.trial.index, *last_step),
                Write::AttemptEnded { lease, last_step, .. } => (8, lease.trial.index, *last_step),
                Write::Outcome(record) => (9, record.id.index, u64::from(record.epoch.0)),
                Write::Evaluation { lease, evaluation, .. } => {
                    (10, lease.trial.index, evaluation.step)
                }
                Write::Worker(record) => (11, record.id.0.as_u64_pair().0, 0),
                Write::WorkerLeft { worker, .. } => (12, worker.0.as_u64_pair().0, 0),
                Write::PackLimit { limit, .. } => (20, u64::from(limit.members), 0),
                Write::PackMemory { memory, .. } => (22, memory.trial.index, memory.bytes),
                Write::StaleReport { lease, .. } => (13, lease.trial.index, 0),
                Write::Log(record) => (14, record.cursor, record.sweep.0),
            };
            let mut bytes = [tag; 17];
            bytes[..8].copy_from_slice(&trial.to_le_bytes());
            bytes[8..16].copy_from_slice(&number.to_le_bytes());
            self.hasher.update(&bytes);
        }
    }

    /// The hash.
    #[must_use]
    pub(crate) fn hash(&self) -> blake3::Hash {
        self.hasher.finalize()
    }
}
