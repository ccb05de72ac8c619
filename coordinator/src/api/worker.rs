//! What agents ask for.

use deptune_sweep::id::{ArtifactHash, TrialId};
use deptune_sweep::scheduler::{Ack, Event, Reply, ReportEnd, Stop};

use super::Api;
use super::error::{Error, MissingFile};
use crate::runtime::Exchanged;

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

    /// Passes on an event that is answered with the leases to stop. Checkpoints that it names
    /// must be here.
    pub(crate) async fn hear(&self, event: Event) -> Result<Vec<Stop>, Error> {
        let checkpoints = checkpoints(&event);
        self.check_here("checkpoint", checkpoints.iter().map(|(_, hash)| hash)).await?;
        let Reply::Stops(stops) = self.handle.request(event).await? else {
            return Ok(Vec::new());
        };
        for (trial, hash) in checkpoints {
            if !stops.iter().any(|stop| stop.lease.trial == trial) {
                self.discard(self.retention.committed(trial, hash)).await;
            }
        }
        Ok(stops)
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
        self.check_here("adapter", adapters).await?;
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

    async fn check_here<'a>(
        &self,
        what: &str,
        hashes: impl Iterator<Item = &'a ArtifactHash>,
    ) -> Result<(), Error> {
        let mut missing = Vec::new();
        for hash in hashes {
            if self.artifacts.size(hash)?.is_none() {
                missing.push(MissingFile { name: what.to_owned(), hash: hash.clone() });
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(Error::Missing(missing)) }
    }

    /// Removes superseded checkpoints, unless something still refers to them. A failure costs
    /// space and nothing else.
    async fn discard(&self, hashes: Vec<ArtifactHash>) {
        for hash in hashes {
            let removed = match self.store.is_artifact_referenced(&hash).await {
                Ok(true) => Ok(()),
                Ok(false) => self.artifacts.remove(&hash).await.map_err(Error::from),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = removed {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%hash, error, "cannot remove a superseded checkpoint");
            }
        }
    }
}

fn checkpoints(event: &Event) -> Vec<(TrialId, ArtifactHash)> {
    let Event::Progress { trials, .. } = event else { return Vec::new() };
    let held = trials.iter().filter_map(|progress| {
        let checkpoint = progress.checkpoint.as_ref()?;
        Some((progress.lease.trial, checkpoint.hash.clone()))
    });
    held.collect()
}
