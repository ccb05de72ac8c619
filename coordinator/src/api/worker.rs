//! What agents ask for.

use deptune_sweep::id::{ArtifactHash, TrialId, WorkerId};
use deptune_sweep::scheduler::{Ack, Event, Reply, Report, ReportEnd, Stop, WorkerStatus};

use super::error::{Error, MissingFile};
use super::{Api, Paged, page};
use crate::artifact::Held;
use crate::runtime::Exchanged;
use crate::store::Page;

/// Heartbeats per lease lifetime.
const BEATS_PER_TTL: u64 = 3;

impl Api {
    /// Milliseconds between the heartbeats that workers should send.
    pub(crate) fn heartbeat(&self) -> u64 {
        (self.lease_ttl / BEATS_PER_TTL).max(1)
    }

    /// Passes on an event whose answer says nothing more.
    pub(crate) async fn tell(&self, event: Event) -> Result<(), Error> {
        self.handle.request(event).await?;
        Ok(())
    }

    /// Registered workers, by id.
    pub(crate) async fn list_workers(
        &self,
        page_size: u32,
        token: &str,
    ) -> Result<Paged<WorkerStatus>, Error> {
        let after = page::key("workers", token)?.map(|key| key.parse().map(WorkerId));
        let after = after.transpose().map_err(|_| Error::PageToken)?;
        let size = page::size(page_size, 100) as usize;
        let mut items =
            self.handle.look(move |scheduler| scheduler.workers(after, size + 1)).await?;
        let more = items.len() > size;
        items.truncate(size);
        let mut found = Page { items, more };
        let more = page::fit(&mut found, status_bytes);
        let next = found.items.last().filter(|_| more);
        let next = next.map(|last| page::token("workers", &last.record.id.to_string()));
        Ok(Paged { next: next.unwrap_or_default(), items: found.items })
    }

    /// Passes on an event that is answered with the leases to stop and whether the worker is to
    /// end. Checkpoints that it names must be here.
    pub(crate) async fn hear(&self, event: Event) -> Result<(Vec<Stop>, bool), Error> {
        let checkpoints = checkpoints(&event);
        // Held until the store knows them.
        let _held = self.hold("checkpoint", checkpoints.iter().map(|(_, hash)| hash))?;
        let Reply::Heard { stops, drain } = self.handle.request(event).await? else {
            return Ok((Vec::new(), false));
        };
        for (trial, hash) in checkpoints {
            if !stops.iter().any(|stop| stop.lease.trial == trial) {
                self.discard(self.retention.committed(trial, hash)).await;
            }
        }
        Ok((stops, drain))
    }

    /// Records reports and leases trials. Adapters that the reports name must be here.
    pub(crate) async fn exchange(&self, event: Event) -> Result<Exchanged, Error> {
        let Event::Exchange { worker, request_id, reports, free_slots } = event else {
            return Ok(Exchanged::default());
        };
        let adapters = reports.iter().filter_map(|report| match &report.end {
            ReportEnd::Succeeded { adapter, .. } => Some(adapter),
            _ => None,
        });
        // Held until the store knows them.
        let _held = self.hold("adapter", adapters)?;
        let _answers = self.hold_answers(&reports)?;
        let succeeded: Vec<Option<TrialId>> = reports
            .iter()
            .map(|report| {
                let succeeded = matches!(report.end, ReportEnd::Succeeded { .. });
                succeeded.then_some(report.lease.trial)
            })
            .collect();
        let exchanged =
            self.handle.exchange(worker, request_id, reports, free_slots, self.patience).await?;
        for (trial, ack) in succeeded.into_iter().zip(&exchanged.acks) {
            if let (Some(trial), Ack::Accepted) = (trial, ack) {
                self.discard(self.retention.ended(trial)).await;
            }
        }
        Ok(exchanged)
    }

    fn hold<'a>(
        &self,
        what: &str,
        hashes: impl Iterator<Item = &'a ArtifactHash>,
    ) -> Result<Vec<Held>, Error> {
        let (mut held, mut missing) = (Vec::new(), Vec::new());
        for hash in hashes {
            match self.artifacts.hold(hash)? {
                Some(one) => held.push(one),
                None => missing.push(MissingFile { name: what.to_owned(), hash: hash.clone() }),
            }
        }
        if missing.is_empty() { Ok(held) } else { Err(Error::Missing(missing)) }
    }

    /// Predictions that reports name; a result without them is still a result.
    fn hold_answers(&self, reports: &[Report]) -> Result<Vec<Held>, Error> {
        let results = reports.iter().filter_map(|report| match &report.end {
            ReportEnd::Succeeded { result, .. } => Some(result),
            _ => None,
        });
        let mut held = Vec::new();
        for predictions in results.flat_map(|result| &result.predictions) {
            held.extend(self.artifacts.hold(&predictions.hash)?);
        }
        Ok(held)
    }

    /// Removes superseded checkpoints, unless something still refers to them. A failure costs
    /// space and nothing else.
    async fn discard(&self, hashes: Vec<ArtifactHash>) {
        for hash in hashes {
            // Another trial may be about to name the same content.
            let Some(leaving) = self.artifacts.leaving(&hash) else { continue };
            let removed = match self.store.is_artifact_referenced(&hash).await {
                Ok(true) => Ok(()),
                Ok(false) => {
                    self.artifacts.remove(leaving, None).await.map(drop).map_err(Error::from)
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = removed {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%hash, error, "cannot remove a superseded checkpoint");
            }
        }
    }
}

/// About how long a worker's status is on the wire.
fn status_bytes(status: &WorkerStatus) -> usize {
    const SLOT: usize = 64;
    const TRIAL: usize = 16;
    let slots = status.record.slots.iter().map(|slot| slot.device.len() + SLOT);
    let labels = status.record.labels.iter().map(String::len);
    let trials = status.busy.iter().map(|trials| trials.len() * TRIAL);
    256 + slots.chain(labels).chain(trials).sum::<usize>()
}

fn checkpoints(event: &Event) -> Vec<(TrialId, ArtifactHash)> {
    let Event::Progress { trials, .. } = event else { return Vec::new() };
    let held = trials.iter().filter_map(|progress| {
        let checkpoint = progress.checkpoint.as_ref()?;
        Some((progress.lease.trial, checkpoint.hash.clone()))
    });
    held.collect()
}
