//! A sweep is submitted.

use crate::id::{RequestId, SweepId};
use crate::mutation;
use crate::outcome::SweepStatus;
use crate::record::{LogEntry, Submission, SweepRecord};
use crate::scheduler::event::{Effect, Now, Refusal, Reply, Step, Write};
use crate::scheduler::request::Asked;
use crate::scheduler::state::{Scheduler, Sweep};
use crate::spec::Spec;

impl Scheduler {
    pub(super) fn on_submit(
        &mut self,
        request_id: RequestId,
        submission: Submission,
        spec: Spec,
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, Refusal> {
        let spec_hash = submission.hash();
        if let Some(before) = self.submitted_before(request_id, &spec_hash) {
            return before;
        }
        let last = |last: Option<SweepId>| last.map_or(0, |last| last.0);
        let deleted = last(self.deleted.keys().next_back().copied());
        let deleted = if mutation::on("id used again after deletion") { 0 } else { deleted };
        // A deleted sweep's id is not given again: somebody may still report about it.
        let id = SweepId(last(self.sweeps.keys().next_back().copied()).max(deleted) + 1);
        let record = SweepRecord {
            id,
            request_id,
            name: spec.name.clone(),
            submission,
            spec_hash,
            total: spec.total(),
            next_index: 0,
            status: SweepStatus::Running,
            submitted: now.wall,
            finished: None,
            controls: Some(spec.limits.controls()),
            used: 0,
        };
        step.writes.push(Write::Sweep(Box::new(record.clone())));
        self.log(id, None, LogEntry::Submitted { trials: record.total }, now, step);
        self.requests.insert(request_id, Asked::Submit(id));
        let mut sweep = Sweep::new(record, spec);
        sweep.place = self.share.place(sweep.controls.priority);
        self.sweeps.insert(id, sweep);
        self.note_status(id);
        step.effects.push(Effect::WorkAvailable);
        Ok(Reply::Sweep(id))
    }
}
