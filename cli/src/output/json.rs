//! Wire messages as JSON for programs, under the names that the database uses.

use deptune_proto::v1;
use serde_json::{Value, json};

use super::number;

/// A number; those that JSON cannot write are the strings `nan`, `inf` and `-inf`.
pub(crate) fn real(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else if value.is_nan() {
        json!("nan")
    } else if value > 0.0 {
        json!("inf")
    } else {
        json!("-inf")
    }
}

fn optional(value: Option<f64>) -> Value {
    value.map_or(Value::Null, real)
}

/// A text, or null for an empty one.
fn text(value: &str) -> Value {
    if value.is_empty() { Value::Null } else { json!(value) }
}

/// `sweep.index`, or null.
fn trial_id(id: Option<v1::TrialId>) -> Value {
    id.map_or(Value::Null, |id| json!(trial_name(id)))
}

/// `sweep.index`.
pub(crate) fn trial_name(id: v1::TrialId) -> String {
    format!("{}.{}", id.sweep, id.index)
}

/// The status in words; empty when it is unknown.
pub(crate) fn status(value: i32) -> &'static str {
    match v1::SweepStatus::try_from(value) {
        Ok(v1::SweepStatus::Running) => "running",
        Ok(v1::SweepStatus::Paused) => "paused",
        Ok(v1::SweepStatus::Finished) => "finished",
        Ok(v1::SweepStatus::Cancelled) => "cancelled",
        Ok(v1::SweepStatus::Unspecified) | Err(_) => "",
    }
}

/// The outcome in words; empty when there is none.
pub(crate) fn outcome(value: i32) -> &'static str {
    match v1::Outcome::try_from(value) {
        Ok(v1::Outcome::Succeeded) => "succeeded",
        Ok(v1::Outcome::Failed) => "failed",
        Ok(v1::Outcome::Cancelled) => "cancelled",
        Ok(v1::Outcome::Pruned) => "pruned",
        Ok(v1::Outcome::Unspecified) | Err(_) => "",
    }
}

/// The failure class in words; empty when there is none.
pub(crate) fn failure_class(value: i32) -> &'static str {
    match v1::FailureClass::try_from(value) {
        Ok(v1::FailureClass::Preempted) => "preempted",
        Ok(v1::FailureClass::WorkerLost) => "worker_lost",
        Ok(v1::FailureClass::Oom) => "oom",
        Ok(v1::FailureClass::Crashed) => "crashed",
        Ok(v1::FailureClass::Timeout) => "timeout",
        Ok(v1::FailureClass::Diverged) => "diverged",
        Ok(v1::FailureClass::Data) => "data",
        Ok(v1::FailureClass::UserError) => "user_error",
        Ok(v1::FailureClass::Infra) => "infra",
        Ok(v1::FailureClass::Unspecified) | Err(_) => "",
    }
}

/// A sweep.
pub(crate) fn sweep(sweep: &v1::Sweep) -> Value {
    let mut value = json!({
        "sweep": sweep.id,
        "name": sweep.name,
        "status": status(sweep.status),
        "trials": sweep.trials,
        "succeeded": sweep.succeeded,
        "failed": sweep.failed,
        "cancelled": sweep.cancelled,
        "pruned": sweep.pruned,
        "running": sweep.running,
        "pending": sweep.pending,
        "metric_name": sweep.metric_name,
        "best": optional(sweep.best),
        "best_trial": trial_id(sweep.best_trial),
        "submitted": number::time(sweep.submitted_unix_ms),
        "finished": sweep.finished_unix_ms.map(number::time),
        "spec_hash": sweep.spec_hash,
        "priority": sweep.priority,
        "weight": sweep.weight,
        "max_parallel": sweep.max_parallel,
        "budget_gpu_hours": sweep.budget_gpu_hours,
        "used_gpu_hours": real(sweep.used_gpu_hours),
    });
    if !sweep.spec.is_empty() {
        value["spec"] = json!(sweep.spec);
    }
    value
}

/// A list of metrics as an object.
fn metrics(list: &[v1::Metric]) -> Value {
    list.iter()
        .map(|one| (one.name.clone(), real(one.value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// An evaluation.
pub(crate) fn evaluation(one: &v1::Evaluation) -> Value {
    json!({
        "step": one.step,
        "split": one.split,
        "loss": real(one.loss),
        "train_loss": optional(one.train_loss),
        "metrics": metrics(&one.metrics),
        "constant_answer": metrics(&one.constant),
        "rows": one.rows,
        "seconds": real(one.seconds),
        "per_class": one.per_class.iter().map(class).collect::<Vec<_>>(),
    })
}

fn class(one: &v1::ClassReport) -> Value {
    json!({
        "label": one.label,
        "precision": real(one.precision),
        "recall": real(one.recall),
        "f1": real(one.f1),
        "support": one.support,
    })
}

/// What a trial ended with.
fn result(result: Option<&v1::TrialResult>) -> Value {
    result.map_or(Value::Null, |result| {
        json!({
            "metric_name": result.metric_name,
            "metric": real(result.metric),
            "best_step": result.best_step,
            "test": result.test.as_ref().map(evaluation),
            "constant_answer": real(result.constant_metric),
            "steps": result.steps,
            "stopped_early": result.stopped_early,
            "predictions": result.predictions.iter().map(|one| json!({
                "split": one.split,
                "hash": one.hash,
            })).collect::<Vec<_>>(),
            "trainable_parameters": result.trainable_parameters,
            "train_seconds": real(result.train_seconds),
            "peak_memory_bytes": result.peak_memory_bytes,
            "mean_utilization": result.mean_utilization,
            "mean_power_watts": result.mean_power_watts,
        })
    })
}

/// A trial.
pub(crate) fn trial(trial: &v1::Trial) -> Value {
    json!({
        "trial_id": trial_id(trial.id),
        "phase": trial.phase,
        "epoch": trial.epoch,
        "configuration": trial.configuration,
        "method": trial.method,
        "prompt_length": trial.prompt_length,
        "rank": trial.rank,
        "prompt_lr": optional(trial.prompt_lr),
        "lowrank_lr": optional(trial.lowrank_lr),
        "learning_rate": optional(trial.learning_rate),
        "source": trial.source,
        "seed": trial.seed,
        "outcome": text(outcome(trial.outcome)),
        "failure_class": text(failure_class(trial.failure_class)),
        "message": text(&trial.message),
        "result": result(trial.result.as_ref()),
        "adapter_hash": text(&trial.adapter_hash),
        "attempts": trial.attempts,
        "worker": text(&trial.worker),
        "retry_of": trial_id(trial.retry_of),
    })
}

/// An attempt.
pub(crate) fn attempt(attempt: &v1::Attempt) -> Value {
    json!({
        "epoch": attempt.epoch,
        "worker": attempt.worker,
        "slot": attempt.slot,
        "first_step": attempt.first_step,
        "last_step": attempt.last_step,
        "end": text(&attempt.end),
        "failure_class": text(failure_class(attempt.failure_class)),
        "message": text(&attempt.message),
        "started": number::time(attempt.started_unix_ms),
        "ended": attempt.ended_unix_ms.map(number::time),
    })
}

/// A configuration of the leaderboard.
pub(crate) fn leaderboard_row(row: &v1::LeaderboardRow, metric_name: &str) -> Value {
    json!({
        "place": row.place,
        "configuration": row.configuration,
        "method": row.method,
        "prompt_length": row.prompt_length,
        "rank": row.rank,
        "prompt_lr": optional(row.prompt_lr),
        "lowrank_lr": optional(row.lowrank_lr),
        "learning_rate": optional(row.learning_rate),
        "source": row.source,
        "other_settings":
            serde_json::from_str::<Value>(&row.other_settings).unwrap_or(Value::Null),
        "seeds": row.seeds,
        "metric_name": metric_name,
        "mean": real(row.mean),
        "std": optional(row.std),
        "ci_low": optional(row.ci_low),
        "ci_high": optional(row.ci_high),
        "test_mean": optional(row.test_mean),
        "test_std": optional(row.test_std),
        "constant_answer": real(row.constant_answer),
        "test_constant_answer": optional(row.test_constant_answer),
        "trainable_parameters": row.trainable_parameters,
        "best_step": real(row.best_step),
        "train_seconds": real(row.train_seconds),
    })
}

/// News from a watched sweep.
pub(crate) fn news(news: &v1::watch_sweep_response::What) -> Value {
    use v1::log_entry::What;
    use v1::watch_sweep_response::What as News;
    match news {
        News::Progress(progress) => json!({
            "kind": "progress",
            "sweep": progress.sweep.as_ref().map(sweep),
            "running": progress.running.iter().map(running).collect::<Vec<_>>(),
            "steps_per_second": real(progress.steps_per_second),
            "steps_done": progress.steps_done,
            "steps_total": progress.steps_total,
        }),
        News::Entry(entry) => {
            let mut value = match &entry.what {
                Some(What::Submitted(it)) => json!({"kind": "submitted", "trials": it.trials}),
                Some(What::Leased(it)) => json!({
                    "kind": "leased",
                    "epoch": it.epoch,
                    "worker": it.worker_id,
                    "first_step": it.first_step,
                }),
                Some(What::Requeued(it)) => json!({
                    "kind": "requeued",
                    "epoch": it.epoch,
                    "end": it.end,
                    "failure_class": text(failure_class(it.failure_class)),
                    "message": text(&it.message),
                }),
                Some(What::Evaluated(it)) => {
                    json!({"kind": "evaluated", "evaluation": evaluation(it)})
                }
                Some(What::Ended(it)) => json!({
                    "kind": "ended",
                    "outcome": outcome(it.outcome),
                    "failure_class": text(failure_class(it.failure_class)),
                    "message": text(&it.message),
                    "result": result(it.result.as_ref()),
                }),
                Some(What::Finished(it)) => {
                    json!({"kind": "finished", "status": status(it.status)})
                }
                Some(What::Paused(_)) => json!({"kind": "paused"}),
                Some(What::Resumed(_)) => json!({"kind": "resumed"}),
                Some(What::Added(it)) => json!({
                    "kind": "added", "first": it.first, "count": it.count, "retries": it.retries,
                }),
                Some(What::Changed(it)) => json!({
                    "kind": "changed", "priority": it.priority, "weight": it.weight,
                    "max_parallel": it.max_parallel, "budget_gpu_hours": it.budget_gpu_hours,
                }),
                Some(What::Quarantined(it)) => json!({
                    "kind": "quarantined", "worker_id": it.worker_id, "worker": it.name,
                    "seconds": it.seconds,
                }),
                None => json!({"kind": "unknown"}),
            };
            value["cursor"] = json!(entry.cursor);
            value["trial_id"] = trial_id(entry.trial);
            value["at"] = json!(number::time(entry.at_unix_ms));
            value
        }
    }
}

fn running(trial: &v1::RunningTrial) -> Value {
    json!({
        "trial_id": trial_id(trial.trial),
        "epoch": trial.epoch,
        "worker": trial.worker,
        "step": trial.step,
        "steps": trial.steps,
        "loss": real(trial.loss),
        "steps_per_second": real(trial.steps_per_second),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_cannot_write_is_a_string() {
        assert_eq!(real(f64::NAN), json!("nan"));
        assert_eq!(real(f64::NEG_INFINITY), json!("-inf"));
        assert_eq!(real(0.5), json!(0.5));
    }

    #[test]
    fn a_sweep_reads_like_the_database() {
        let one = v1::Sweep {
            id: 3,
            name: "a".to_owned(),
            status: v1::SweepStatus::Running.into(),
            best: Some(81.25),
            best_trial: Some(v1::TrialId { sweep: 3, index: 17 }),
            ..v1::Sweep::default()
        };
        let value = sweep(&one);
        assert_eq!(value["status"], "running");
        assert_eq!(value["best_trial"], "3.17");
        assert_eq!(value.get("spec"), None);
    }
}
