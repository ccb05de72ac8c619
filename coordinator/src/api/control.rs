//! What people do to sweeps that are there.

use deptune_proto::convert::Command;
use deptune_sweep::id::{RequestId, TrialId};
use deptune_sweep::scheduler::{Control, Event, Explanation};
use uuid::Uuid;

use super::error::Error;
use super::{Api, SweepSummary};
use crate::store::SweepContents;

impl Api {
    /// Carries out what a person asks for.
    pub(crate) async fn control(&self, command: Command) -> Result<SweepSummary, Error> {
        let Command { request_id, sweep, controls } = command;
        let sweep = self.find(&sweep).await?;
        for (at, control) in controls.into_iter().enumerate() {
            // Each has one effect, also when the request comes again.
            let own = request_id.0.as_u128().wrapping_add(at as u128);
            let request_id = RequestId(Uuid::from_u128(own));
            self.handle.request(Event::Control { request_id, sweep, control }).await?;
        }
        self.summary(sweep).await
    }

    /// Why a trial stands where it stands.
    pub(crate) async fn explain(&self, trial: TrialId) -> Result<Explanation, Error> {
        let found = self.handle.look(move |scheduler| scheduler.explain(trial)).await?;
        found.ok_or(Error::UnknownTrial(trial))
    }

    /// Deletes a sweep, or only says what there is of it. Its files go with the next clean-up.
    pub(crate) async fn delete(
        &self,
        command: Command,
    ) -> Result<(SweepSummary, SweepContents), Error> {
        let Command { request_id, sweep, controls } = command;
        let sweep = self.find(&sweep).await?;
        let summary = self.summary(sweep).await?;
        let contents = self.store.contents(sweep).await?;
        if controls.contains(&Control::Delete) {
            let control = Control::Delete;
            self.handle.request(Event::Control { request_id, sweep, control }).await?;
        }
        Ok((summary, contents))
    }
}
