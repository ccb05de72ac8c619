//! Requests that come again. What a person asks for has an id and a content: the same of both is the
//! same request, whose answer was lost; the same id with another content is a mistake.

use crate::id::{ArtifactHash, RequestId, SweepId};
use crate::mutation;
use crate::record::RequestRecord;
use crate::scheduler::event::{Refusal, Reply};
use crate::scheduler::state::Scheduler;

/// What a request id was used for.
#[derive(Debug)]
pub(super) enum Asked {
    /// To submit a sweep.
    Submit(SweepId),
    /// To change one.
    Control(RequestRecord),
}

impl Scheduler {
    /// What came of a request that changed a sweep, if it came before.
    #[must_use]
    pub fn controlled_before(
        &self,
        request_id: RequestId,
        content: &ArtifactHash,
    ) -> Option<Result<Reply, Refusal>> {
        let any = mutation::on("other content under a request id taken for a repetition");
        let same =
            |known: &Option<ArtifactHash>| any || known.as_ref().is_none_or(|c| c == content);
        let record = match self.requests.get(&request_id)? {
            Asked::Control(record) if same(&record.content) => record,
            _ => return Some(Err(Refusal::RequestReused(request_id))),
        };
        let sweep = record.sweep;
        Some(match &record.answer {
            Some(answer) => Ok(Reply::Deleted { sweep, answer: answer.clone() }),
            None if self.deleted.contains_key(&sweep) => Err(Refusal::Deleted(sweep)),
            None => Ok(Reply::Sweep(sweep)),
        })
    }

    /// What came of a submission, if it came before.
    #[must_use]
    pub fn submitted_before(
        &self,
        request_id: RequestId,
        spec_hash: &ArtifactHash,
    ) -> Option<Result<Reply, Refusal>> {
        let reused = Some(Err(Refusal::RequestReused(request_id)));
        let Asked::Submit(sweep) = *self.requests.get(&request_id)? else { return reused };
        if let Some(deleted) = self.deleted.get(&sweep) {
            let same = deleted.spec_hash.as_ref().is_none_or(|hash| hash == spec_hash);
            return if same { Some(Err(Refusal::Deleted(sweep))) } else { reused };
        }
        let same = self.sweeps.get(&sweep).is_some_and(|s| s.record.spec_hash == *spec_hash);
        if same { Some(Ok(Reply::Sweep(sweep))) } else { reused }
    }
}
