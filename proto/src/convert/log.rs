//! Entries of a sweep's log, for watchers.

use deptune_sweep::record::{LogEntry, LogRecord};

use super::control::hours;
use super::enums::class_number;
use crate::v1;
use crate::v1::log_entry::{
    Added, Changed, Ended, Finished, Leased, Paused, Quarantined, Requeued, Resumed, Submitted,
    What,
};

impl From<LogRecord> for v1::LogEntry {
    fn from(record: LogRecord) -> Self {
        Self {
            cursor: record.cursor,
            trial: record.trial.map(Into::into),
            at_unix_ms: record.at,
            what: Some(record.what.into()),
        }
    }
}

impl From<LogEntry> for What {
    fn from(entry: LogEntry) -> Self {
        match entry {
            LogEntry::Submitted { trials } => What::Submitted(Submitted { trials }),
            LogEntry::Leased { epoch, worker, first_step } => {
                What::Leased(Leased { epoch: epoch.0, worker_id: worker.to_string(), first_step })
            }
            LogEntry::Requeued { epoch, end, class, message } => What::Requeued(Requeued {
                epoch: epoch.0,
                end: end.as_str().to_owned(),
                failure_class: class_number(Some(class)),
                message,
            }),
            LogEntry::Evaluated { evaluation } => What::Evaluated(evaluation.into()),
            LogEntry::Ended { outcome, class, message, result } => What::Ended(Ended {
                outcome: v1::Outcome::from(outcome) as i32,
                failure_class: class_number(class),
                message,
                result: result.map(|result| (*result).into()),
            }),
            LogEntry::Finished { status } => {
                What::Finished(Finished { status: v1::SweepStatus::from(status) as i32 })
            }
            LogEntry::Paused => What::Paused(Paused {}),
            LogEntry::Resumed => What::Resumed(Resumed {}),
            LogEntry::Added { first, count, retries } => {
                What::Added(Added { first, count, retries })
            }
            LogEntry::Changed { controls } => What::Changed(Changed {
                priority: controls.priority,
                weight: controls.weight,
                max_parallel: controls.max_parallel,
                budget_gpu_hours: controls.budget.map(hours),
            }),
            LogEntry::Quarantined { worker, name, seconds } => {
                What::Quarantined(Quarantined { worker_id: worker.to_string(), name, seconds })
            }
        }
    }
}
