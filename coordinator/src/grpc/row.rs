//! Rows of the store as messages.

use deptune_proto::convert::hours;
use deptune_proto::v1;
use deptune_sweep::outcome::FailureClass;

use crate::api::{
    AttemptRow, EvaluationRow, LeaderboardRow, News, QueryRows, SqlValue, SweepSummary, TrialRow,
};

/// Rows of a query's answer in one message: at most this many …
const ROWS: usize = 1000;
/// … and few enough that their values take about this many bytes.
const ROW_BYTES: usize = 256 << 10;

fn class(class: Option<FailureClass>) -> i32 {
    class.map_or(0, |class| v1::FailureClass::from(class) as i32)
}

pub(super) fn sweep(summary: SweepSummary) -> v1::Sweep {
    v1::Sweep {
        id: summary.id.0,
        name: summary.name,
        status: v1::SweepStatus::from(summary.status) as i32,
        trials: summary.trials,
        succeeded: summary.succeeded,
        failed: summary.failed,
        cancelled: summary.cancelled,
        pruned: summary.pruned,
        running: summary.running,
        pending: summary.pending,
        metric_name: summary.metric_name,
        best: summary.best.map(|(_, value)| value),
        best_trial: summary.best.map(|(trial, _)| trial.into()),
        submitted_unix_ms: summary.submitted,
        finished_unix_ms: summary.finished,
        spec_hash: summary.spec_hash.to_string(),
        priority: summary.controls.priority,
        weight: summary.controls.weight,
        max_parallel: summary.controls.max_parallel,
        budget_gpu_hours: summary.controls.budget.map(hours),
        used_gpu_hours: hours(summary.used),
        ..Default::default()
    }
}

pub(super) fn trial(row: TrialRow) -> v1::Trial {
    v1::Trial {
        id: Some(row.id.into()),
        epoch: row.epoch.0,
        phase: row.phase.as_str().to_owned(),
        configuration: row.configuration,
        method: row.method.as_str().to_owned(),
        prompt_length: row.prompt_length,
        rank: row.rank,
        prompt_lr: row.prompt_lr,
        lowrank_lr: row.lowrank_lr,
        learning_rate: row.learning_rate,
        source: row.source,
        seed: row.seed,
        retry_of: row.retry_of.map(Into::into),
        outcome: row.outcome.map_or(0, |outcome| v1::Outcome::from(outcome) as i32),
        failure_class: class(row.class),
        message: row.message,
        result: row.result.map(Into::into),
        adapter_hash: row.adapter.map(|hash| hash.to_string()).unwrap_or_default(),
        attempts: row.attempts,
        worker: row.worker.unwrap_or_default(),
    }
}

pub(super) fn attempt(row: AttemptRow) -> v1::Attempt {
    v1::Attempt {
        epoch: row.epoch.0,
        worker: row.worker,
        slot: row.slot,
        first_step: row.first_step,
        last_step: row.last_step,
        end: row.end.map(|end| end.as_str().to_owned()).unwrap_or_default(),
        failure_class: class(row.class),
        message: row.message,
        started_unix_ms: row.started,
        ended_unix_ms: row.ended,
    }
}

pub(super) fn leaderboard(row: LeaderboardRow) -> v1::LeaderboardRow {
    v1::LeaderboardRow {
        place: u32::try_from(row.place).unwrap_or(u32::MAX),
        configuration: row.configuration,
        method: row.method.as_str().to_owned(),
        prompt_length: row.prompt_length,
        rank: row.rank,
        prompt_lr: row.prompt_lr,
        lowrank_lr: row.lowrank_lr,
        learning_rate: row.learning_rate,
        source: row.source,
        other_settings: row.other_settings,
        seeds: row.seeds,
        mean: row.mean.unwrap_or(f64::NAN),
        std: row.std,
        ci_low: row.ci_low,
        ci_high: row.ci_high,
        test_mean: row.test_mean,
        test_std: row.test_std,
        constant_answer: row.constant_answer.unwrap_or(f64::NAN),
        test_constant_answer: row.test_constant_answer,
        trainable_parameters: row.trainable_parameters,
        best_step: row.best_step,
        train_seconds: row.train_seconds.unwrap_or(f64::NAN),
    }
}

pub(super) fn evaluation(row: EvaluationRow) -> v1::TrialEvaluation {
    v1::TrialEvaluation { trial: Some(row.trial.into()), evaluation: Some(row.evaluation.into()) }
}

pub(super) fn news(news: News) -> v1::WatchSweepResponse {
    use v1::watch_sweep_response::What;
    let what = match news {
        News::Entry(record) => What::Entry((*record).into()),
        News::Progress(progress) => {
            let (summary, progress) = *progress;
            let mut wire = v1::Progress::from(progress);
            wire.sweep = Some(sweep(summary));
            What::Progress(wire)
        }
    };
    v1::WatchSweepResponse { what: Some(what) }
}

/// The answer to a query in messages of bounded size; at least one, for the column names. Behind a
/// large one there is always another, so that a large one has been read when the end is asked for.
pub(super) fn query(answer: QueryRows) -> Vec<v1::QueryResponse> {
    let mut messages = vec![v1::QueryResponse { columns: answer.columns, ..Default::default() }];
    let mut bytes = 0;
    for row in answer.rows {
        bytes += row.iter().map(size).sum::<usize>();
        let values = row.into_iter().map(value).collect();
        if let Some(last) = messages.last_mut() {
            last.rows.push(v1::query_response::Row { values });
            if bytes > ROW_BYTES || last.rows.len() == ROWS {
                bytes = 0;
                messages.push(v1::QueryResponse::default());
            }
        }
    }
    if let Some(last) = messages.last_mut() {
        last.truncated = answer.truncated;
    }
    messages
}

/// Bytes of the texts and blobs in a message, which are most of a large one.
pub(super) fn query_size(message: &v1::QueryResponse) -> usize {
    use v1::query_response::value::Kind;
    let size = |value: &v1::query_response::Value| match &value.kind {
        Some(Kind::Text(text)) => text.len(),
        Some(Kind::Blob(bytes)) => bytes.len(),
        _ => 0,
    };
    message.rows.iter().flat_map(|row| &row.values).map(size).sum()
}

fn size(value: &SqlValue) -> usize {
    match value {
        SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) => 16,
        SqlValue::Text(text) => text.len() + 16,
        SqlValue::Blob(bytes) => bytes.len() + 16,
    }
}

fn value(value: SqlValue) -> v1::query_response::Value {
    use v1::query_response::value::Kind;
    let kind = match value {
        SqlValue::Null => None,
        SqlValue::Integer(number) => Some(Kind::Integer(number)),
        SqlValue::Real(number) => Some(Kind::Real(number)),
        SqlValue::Text(text) => Some(Kind::Text(text)),
        SqlValue::Blob(bytes) => Some(Kind::Blob(bytes)),
    };
    v1::query_response::Value { kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_comes_in_pieces_and_loses_nothing() {
        let rows = (0..2500).map(|n| vec![SqlValue::Integer(n), SqlValue::Null]).collect();
        let columns = vec!["n".to_owned(), "nothing".to_owned()];
        let messages = query(QueryRows { columns: columns.clone(), rows, truncated: true });
        assert_eq!(messages.len(), 3);
        assert_eq!(messages[0].columns, columns);
        assert_eq!(messages.iter().map(|m| m.rows.len()).sum::<usize>(), 2500);
        let truncated: Vec<bool> = messages.iter().map(|m| m.truncated).collect();
        assert_eq!(truncated, [false, false, true]);
        assert_eq!(query(QueryRows::default()).len(), 1);
    }
}
