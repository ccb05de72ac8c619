//! What an agent says.

use deptune_sweep::id::TrialId;
use deptune_sweep::record::{SlotKind, SlotRecord};
use deptune_sweep::scheduler::{Event, WorkerStatus};
use deptune_sweep::spec::{MAX_LABELS, is_label};

use super::error::InvalidField;
use super::field;
use crate::v1;

/// Most leases, reports or free slots in one message.
pub(super) const MAX_LEASES: usize = 4096;
/// Most trials of a pack.
const MAX_PACK: u32 = 256;
/// Most slots of one worker.
const MAX_SLOTS: usize = 1024;

impl From<SlotRecord> for v1::Slot {
    fn from(slot: SlotRecord) -> Self {
        Self {
            slot: slot.slot,
            kind: slot.kind.to_string(),
            threads: slot.threads,
            device: slot.device,
            max_pack: slot.max_pack,
            memory_bytes: slot.memory,
        }
    }
}

impl TryFrom<v1::Slot> for SlotRecord {
    type Error = InvalidField;

    fn try_from(wire: v1::Slot) -> Result<Self, InvalidField> {
        let unknown = |_| field::unknown(&wire.kind, "kind", "cpu or cuda");
        let kind: SlotKind = wire.kind.parse().map_err(unknown)?;
        Ok(SlotRecord {
            slot: wire.slot,
            kind,
            threads: wire.threads,
            device: field::text(wire.device, "device", field::MAX_NAME)?,
            // Agents that know no packs do not say it.
            max_pack: wire.max_pack.clamp(1, MAX_PACK),
            memory: wire.memory_bytes.map(|bytes| bytes.min(i64::MAX.unsigned_abs())),
        })
    }
}

impl TryFrom<v1::RegisterWorkerRequest> for Event {
    type Error = InvalidField;

    fn try_from(wire: v1::RegisterWorkerRequest) -> Result<Self, InvalidField> {
        Ok(Event::Register {
            worker: field::worker_id(&wire.worker_id, "worker_id")?,
            name: field::name(wire.name, "name")?,
            version: field::name(wire.version, "version")?,
            labels: labels(wire.labels)?,
            slots: field::list(wire.slots, "slots", MAX_SLOTS)?,
            lost: field::list(wire.lost, "lost", MAX_LEASES)?,
        })
    }
}

fn labels(words: Vec<String>) -> Result<Vec<String>, InvalidField> {
    field::at_most(words.len(), "labels", MAX_LABELS)?;
    match words.iter().position(|word| !is_label(word)) {
        None => Ok(words),
        Some(at) => Err(field::unknown(&words[at], &format!("labels[{at}]"), "a label")),
    }
}

impl TryFrom<v1::DrainWorkerRequest> for Event {
    type Error = InvalidField;

    fn try_from(wire: v1::DrainWorkerRequest) -> Result<Self, InvalidField> {
        Ok(Event::Drain { worker: field::worker_id(&wire.worker_id, "worker_id")? })
    }
}

impl From<WorkerStatus> for v1::WorkerStatus {
    fn from(status: WorkerStatus) -> Self {
        let WorkerStatus { record, busy, silent, quarantine } = status;
        let slot = |(slot, trials): (SlotRecord, Vec<TrialId>)| v1::SlotStatus {
            slot: Some(slot.into()),
            trials: trials.into_iter().map(Into::into).collect(),
        };
        v1::WorkerStatus {
            worker_id: record.id.to_string(),
            name: record.name,
            version: record.version,
            labels: record.labels,
            slots: record.slots.into_iter().zip(busy).map(slot).collect(),
            registered_unix_ms: record.registered,
            silent_ms: silent,
            draining: record.draining,
            quarantine_ms: quarantine,
        }
    }
}

impl TryFrom<v1::CompleteAndLeaseRequest> for Event {
    type Error = InvalidField;

    fn try_from(wire: v1::CompleteAndLeaseRequest) -> Result<Self, InvalidField> {
        field::at_most(wire.free_slots.len(), "free_slots", MAX_SLOTS)?;
        Ok(Event::Exchange {
            worker: field::worker_id(&wire.worker_id, "worker_id")?,
            request_id: field::request_id(&wire.request_id, "request_id")?,
            reports: field::list(wire.reports, "reports", MAX_LEASES)?,
            free_slots: wire.free_slots,
        })
    }
}

impl TryFrom<v1::HeartbeatRequest> for Event {
    type Error = InvalidField;

    fn try_from(wire: v1::HeartbeatRequest) -> Result<Self, InvalidField> {
        Ok(Event::Heartbeat {
            worker: field::worker_id(&wire.worker_id, "worker_id")?,
            leases: field::list(wire.leases, "leases", MAX_LEASES)?,
        })
    }
}

impl TryFrom<v1::LeaveWorkerRequest> for Event {
    type Error = InvalidField;

    fn try_from(wire: v1::LeaveWorkerRequest) -> Result<Self, InvalidField> {
        Ok(Event::Leave { worker: field::worker_id(&wire.worker_id, "worker_id")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_named_by_index() {
        let wire = v1::RegisterWorkerRequest {
            worker_id: "6f1c1f0a-6f0e-4c5e-9a51-0d8f3c0a7b11".to_owned(),
            name: "node1".to_owned(),
            version: "0.1.0".to_owned(),
            slots: vec![v1::Slot { kind: "tpu".to_owned(), ..Default::default() }],
            lost: Vec::new(),
            labels: Vec::new(),
        };
        let error = Event::try_from(wire).unwrap_err();
        assert_eq!(
            error.to_string(),
            "slots[0].kind: has the unknown value 'tpu' (expected cpu or cuda)"
        );
    }
}
