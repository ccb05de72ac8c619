//! What people do to sweeps that are there.

use deptune_proto::convert::{Command, SweepRef};
use deptune_sweep::id::{SweepId, TrialId};
use deptune_sweep::scheduler::{Control, Event, Explanation, Refusal, Reply};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::{Api, SweepSummary};
use crate::runtime;
use crate::store::SweepContents;

/// What is told of a deleted sweep: how it was.
#[derive(Debug, Serialize, Deserialize)]
struct Obituary {
    sweep: SweepSummary,
    contents: SweepContents,
}

impl Api {
    /// Carries out what a person asks for. A request that was carried out before is known by its
    /// id before anything is looked up by name: the name may mean another sweep by now.
    pub(crate) async fn control(&self, command: Command) -> Result<SweepSummary, Error> {
        let reply = match self.before(&command).await? {
            Some(reply) => reply,
            None => {
                let sweep = self.meant(&command.sweep).await?;
                let Command { request_id, content, control, .. } = command;
                let event = Event::Control { request_id, content, sweep, control };
                self.handle.request(event).await?
            }
        };
        self.replied_sweep(reply).await
    }

    /// Why a trial stands where it stands.
    pub(crate) async fn explain(&self, trial: TrialId) -> Result<Explanation, Error> {
        let found = self.handle.look(move |scheduler| scheduler.explain(trial)).await?;
        found.ok_or(Error::UnknownTrial(trial))
    }

    /// What a sweep is, and how much there is of it.
    pub(crate) async fn would_delete(
        &self,
        sweep: &SweepRef,
    ) -> Result<(SweepSummary, SweepContents), Error> {
        let sweep = self.meant(sweep).await?;
        Ok((self.summary(sweep).await?, self.store.contents(sweep).await?))
    }

    /// Deletes a sweep. Its files go with the next clean-up.
    pub(crate) async fn delete(
        &self,
        command: Command,
    ) -> Result<(SweepSummary, SweepContents), Error> {
        let request_id = command.request_id;
        let reply = match self.before(&command).await? {
            Some(reply) => reply,
            None => {
                // It has ended, or is not deleted: nothing of it changes until it is.
                let (sweep, contents) = self.would_delete(&command.sweep).await?;
                let id = sweep.id;
                let answer = serde_json::to_string(&Obituary { sweep, contents })
                    .map_err(Error::Unwritable)?;
                let (content, control) = (command.content, Control::Delete { answer });
                let event = Event::Control { request_id, content, sweep: id, control };
                self.handle.request(event).await?
            }
        };
        let Reply::Deleted { sweep, answer } = reply else {
            // An earlier version carried out something else under this id.
            return Err(Error::Runtime(runtime::Error::Refused(Refusal::RequestReused(
                request_id,
            ))));
        };
        // What a later version has written may be unreadable; the sweep is gone either way.
        let Obituary { sweep, contents } = serde_json::from_str(&answer)
            .map_err(|_| Error::Runtime(runtime::Error::Refused(Refusal::Deleted(sweep))))?;
        Ok((sweep, contents))
    }

    /// What came of the same request before, if it came before.
    async fn before(&self, command: &Command) -> Result<Option<Reply>, Error> {
        let (request_id, content) = (command.request_id, command.content.clone());
        let look = self.handle.look(move |s| s.controlled_before(request_id, &content));
        let before = look.await?.transpose();
        Ok(before.map_err(runtime::Error::Refused)?)
    }

    async fn meant(&self, sweep: &SweepRef) -> Result<SweepId, Error> {
        match sweep {
            SweepRef::Id(id) => Ok(*id),
            SweepRef::Name(name) => self.find(name).await,
        }
    }
}
