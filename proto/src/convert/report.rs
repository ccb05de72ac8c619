//! Ends of attempts.

use deptune_sweep::scheduler::{Report, ReportEnd};

use super::enums::{class_number, required_class};
use super::error::InvalidField;
use super::field;
use super::progress::MAX_EVALUATIONS;
use crate::v1;
use crate::v1::report::{End, Failed, Released, Succeeded};

impl From<Report> for v1::Report {
    fn from(report: Report) -> Self {
        let end = match report.end {
            ReportEnd::Succeeded { result, adapter } => End::Succeeded(Succeeded {
                result: Some(result.into()),
                adapter_hash: adapter.as_str().to_owned(),
            }),
            ReportEnd::Failed { class, message } => {
                End::Failed(Failed { failure_class: class_number(Some(class)), message })
            }
            ReportEnd::Released => End::Released(Released {}),
        };
        Self {
            lease: Some(report.lease.into()),
            evaluations: report.evaluations.into_iter().map(Into::into).collect(),
            last_step: report.last_step,
            end: Some(end),
        }
    }
}

impl TryFrom<v1::Report> for Report {
    type Error = InvalidField;

    fn try_from(wire: v1::Report) -> Result<Self, InvalidField> {
        let end = match field::required(wire.end, "end")? {
            End::Succeeded(end) => ReportEnd::Succeeded {
                result: field::nested(end.result, "succeeded.result")?,
                adapter: field::hash(&end.adapter_hash, "succeeded.adapter_hash")?,
            },
            End::Failed(end) => ReportEnd::Failed {
                class: required_class(end.failure_class, "failed.failure_class")?,
                message: field::message(end.message),
            },
            End::Released(Released {}) => ReportEnd::Released,
        };
        Ok(Report {
            lease: field::nested(wire.lease, "lease")?,
            evaluations: field::list(wire.evaluations, "evaluations", MAX_EVALUATIONS)?,
            last_step: field::count(wire.last_step, "last_step")?,
            end,
        })
    }
}

#[cfg(test)]
mod tests {
    use deptune_sweep::id::{ArtifactHash, Epoch, SweepId, TrialId};
    use deptune_sweep::metric::Number;
    use deptune_sweep::outcome::FailureClass;
    use deptune_sweep::scheduler::LeaseKey;

    use super::*;
    use crate::convert::Problem;

    fn report(end: ReportEnd) -> Report {
        let trial = TrialId { sweep: SweepId(3), index: 17 };
        Report {
            lease: LeaseKey { trial, epoch: Epoch(2) },
            evaluations: Vec::new(),
            last_step: 100,
            end,
        }
    }

    #[test]
    fn every_end_survives_the_wire() {
        let result = deptune_sweep::child::TrialResult {
            metric_name: "accuracy".to_owned(),
            metric: Number::Finite(91.25),
            best_step: 50,
            test: None,
            constant_metric: Number::Finite(50.0),
            steps: 100,
            trainable_parameters: 640,
            train_seconds: 1.5,
            peak_memory_bytes: Some(300 << 20),
            mean_utilization: Some(0.75),
            mean_power_watts: Some(412.5),
            stopped_early: false,
            predictions: Vec::new(),
        };
        for class in FailureClass::ALL {
            let sent = report(ReportEnd::Failed { class: *class, message: "why".to_owned() });
            assert_eq!(Report::try_from(v1::Report::from(sent.clone())), Ok(sent));
        }
        let adapter = ArtifactHash::of(b"adapter");
        for end in [ReportEnd::Released, ReportEnd::Succeeded { result, adapter }] {
            let sent = report(end);
            assert_eq!(Report::try_from(v1::Report::from(sent.clone())), Ok(sent));
        }
    }

    #[test]
    fn a_report_without_class_hash_or_trial_names_the_field() {
        let sent = report(ReportEnd::Released);
        let mut wire = v1::Report::from(sent.clone());
        wire.end = None;
        assert_eq!(Report::try_from(wire).unwrap_err().field, "end");
        let mut wire = v1::Report::from(sent.clone());
        wire.end = Some(End::Failed(Failed::default()));
        assert_eq!(Report::try_from(wire).unwrap_err().field, "failed.failure_class");
        let mut wire = v1::Report::from(sent);
        wire.lease = Some(v1::LeaseRef { trial: None, epoch: 1 });
        let error = Report::try_from(wire).unwrap_err();
        assert_eq!((error.field.as_str(), error.problem), ("lease.trial", Problem::Missing));
    }
}
