//! Following a sweep to its end: the live line, and resuming after a break.

use std::time::{Duration, Instant};

use deptune_proto::v1::log_entry::What;
use deptune_proto::v1::watch_sweep_response::What as News;
use deptune_proto::v1::{GetSweepRequest, LogEntry, Progress, Sweep, WatchSweepRequest};

use crate::client::Client;
use crate::output::error::Error;
use crate::output::progress::Live;
use crate::output::{self, json, number, printable};
use crate::status;

/// Longest wait between two tries to reach the coordinator again.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// For how long an unreachable coordinator is looked for.
const GIVE_UP: Duration = Duration::from_secs(300);

/// Less than this says nothing about the speed.
const LEAST_SEEN: Duration = Duration::from_secs(10);

/// What the live line needs to remember.
#[derive(Debug, Default)]
struct Picture {
    /// The sweep, as it was called.
    sweep: String,
    /// When the first progress was seen, and how many steps were done then.
    start: Option<(Instant, u64)>,
    /// The best constant answer on the validation split.
    constant: Option<f64>,
    /// Trials that ended without success, told one by one up to a bound.
    complaints: usize,
}

/// Failures told one by one; later ones only count.
const MAX_COMPLAINTS: usize = 20;

/// Follows a sweep until every trial has an outcome, and gives it as it is then. With `as_json`,
/// all news go to standard output.
///
/// # Errors
/// A refusal, or a coordinator that stays unreachable.
pub(crate) async fn follow(client: &Client, sweep: &str, as_json: bool) -> Result<Sweep, Error> {
    let mut live = Live::new(as_json);
    let result = follow_with(client, sweep, as_json, &mut live).await;
    live.clear();
    result
}

async fn follow_with(
    client: &Client,
    sweep: &str,
    as_json: bool,
    live: &mut Live,
) -> Result<Sweep, Error> {
    let mut cursor = 0;
    let mut picture = Picture { sweep: sweep.to_owned(), ..Picture::default() };
    let mut lost_since: Option<tokio::time::Instant> = None;
    let mut wait = Duration::from_millis(200);
    loop {
        let before = cursor;
        let request = WatchSweepRequest { sweep: sweep.to_owned(), cursor };
        let at = client.at();
        let broken = match client.sweeps().watch_sweep(request).await {
            Ok(answer) => {
                let mut stream = answer.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            lost_since = None;
                            let Some(news) = message.what else { continue };
                            if as_json {
                                output::json_line(&json::news(&news))?;
                            }
                            if let News::Entry(entry) = &news {
                                cursor = entry.cursor;
                            }
                            show(&news, &mut picture, live);
                        }
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                }
            }
            Err(status) => Some(status),
        };
        let status = match broken {
            None => {
                // The stream ends with the sweep; a coordinator that shuts down ends it early.
                let found = get(client, sweep).await?;
                if matches!(json::status(found.status), "finished" | "cancelled") {
                    return Ok(found);
                }
                tonic::Status::unavailable("the stream ended early")
            }
            Some(status) if status::is_transient(&status) => status,
            Some(status) => return Err(client.refused("watch the sweep", status)),
        };
        let now = tokio::time::Instant::now();
        if lost_since.is_none() {
            live.note("lost the coordinator; trying to reach it again");
        }
        if now.duration_since(*lost_since.get_or_insert(now)) > GIVE_UP {
            return Err(client.refused("watch the sweep", status));
        }
        client.turn(at, &status);
        wait =
            if cursor > before { Duration::from_millis(200) } else { (wait * 2).min(LONGEST_WAIT) };
        tokio::time::sleep(wait).await;
    }
}

async fn get(client: &Client, sweep: &str) -> Result<Sweep, Error> {
    let answer = client
        .call("find the sweep", || {
            let mut sweeps = client.sweeps();
            let request = GetSweepRequest { sweep: sweep.to_owned() };
            async move { sweeps.get_sweep(request).await }
        })
        .await?;
    answer.into_inner().sweep.ok_or(Error::Answer { doing: "find the sweep", what: "sweep" })
}

fn show(news: &News, picture: &mut Picture, live: &mut Live) {
    match news {
        News::Progress(progress) => {
            if let Some(sweep) = &progress.sweep {
                let left = picture.seconds_left(progress);
                live.update(
                    progress.steps_done,
                    progress.steps_total,
                    counts(sweep),
                    more(sweep, progress, picture.constant, left),
                );
            }
        }
        News::Entry(entry) => {
            if let Some(text) = complaint(entry, picture) {
                live.note(&text);
            }
        }
    }
}

/// What is worth a line of its own.
fn complaint(entry: &LogEntry, picture: &mut Picture) -> Option<String> {
    let trial = entry.trial.map(json::trial_name).unwrap_or_default();
    let text = match entry.what.as_ref()? {
        What::Evaluated(evaluation) if evaluation.split == "validation" => {
            if let Some(constant) = evaluation.constant.first() {
                picture.constant = Some(constant.value);
            }
            return None;
        }
        What::Requeued(it) if it.end != "released" => {
            let class = json::failure_class(it.failure_class);
            format!("trial {trial}: {class}, will be tried again{}", because(&it.message))
        }
        What::Ended(it) if json::outcome(it.outcome) == "failed" => {
            let class = json::failure_class(it.failure_class);
            format!("trial {trial} failed: {class}{}", because(&it.message))
        }
        What::Quarantined(it) => format!(
            "worker {}: trial after trial failed, it gets nothing for {}",
            printable(&it.name),
            number::span(it.seconds as f64)
        ),
        _ => return None,
    };
    picture.complaints += 1;
    match picture.complaints.cmp(&MAX_COMPLAINTS) {
        std::cmp::Ordering::Less => Some(text),
        std::cmp::Ordering::Equal => Some(format!(
            "{text}\nfurther failures are not told one by one; 'deptune show {}' lists them",
            picture.sweep
        )),
        std::cmp::Ordering::Greater => None,
    }
}

fn because(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({})", printable(message)) }
}

impl Picture {
    /// Seconds left at the mean speed since the watching began, evaluations and pauses between
    /// trials included; `None` while too little was seen to say.
    fn seconds_left(&mut self, progress: &Progress) -> Option<f64> {
        let now = Instant::now();
        let (at, done) = *self.start.get_or_insert((now, progress.steps_done));
        let made = progress.steps_done.saturating_sub(done);
        let seconds = now.duration_since(at).as_secs_f64();
        if made == 0 || seconds < LEAST_SEEN.as_secs_f64() {
            return None;
        }
        let left = progress.steps_total.saturating_sub(progress.steps_done);
        // An estimate for people.
        #[allow(clippy::cast_precision_loss)]
        let estimate = left as f64 * seconds / made as f64;
        Some(estimate)
    }
}

/// How many trials are where.
fn counts(sweep: &Sweep) -> String {
    let done = sweep.succeeded + sweep.failed + sweep.cancelled + sweep.pruned;
    let mut text = format!(
        "{}/{} trials done, {} running, {} waiting",
        number::whole(done),
        number::whole(sweep.trials),
        sweep.running,
        number::whole(sweep.pending)
    );
    if sweep.failed > 0 {
        text.push_str(&format!(", {} failed", number::whole(sweep.failed)));
    }
    text
}

/// The best so far, the speed, the time left.
fn more(
    sweep: &Sweep,
    progress: &Progress,
    constant: Option<f64>,
    seconds_left: Option<f64>,
) -> String {
    let mut parts = Vec::new();
    if let Some(best) = sweep.best {
        let name = printable(&sweep.metric_name);
        let beside = constant
            .map(|constant| format!(" (constant answer {})", number::metric(constant)))
            .unwrap_or_default();
        parts.push(format!("best {name} {}{beside}", number::metric(best)));
    }
    if progress.steps_per_second > 0.0 {
        parts.push(format!("{:.1} trial-steps/s", progress.steps_per_second));
    }
    if let Some(seconds) = seconds_left {
        parts.push(format!("{} left", number::span(seconds)));
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use deptune_proto::v1;

    #[test]
    fn the_live_line_has_counts_best_constant_speed_and_time_left() {
        let sweep = Sweep {
            trials: 36,
            succeeded: 10,
            failed: 1,
            running: 2,
            pending: 23,
            best: Some(88.0),
            metric_name: "accuracy".to_owned(),
            ..Sweep::default()
        };
        let progress = Progress { steps_per_second: 10.0, ..Progress::default() };
        assert_eq!(counts(&sweep), "11/36 trials done, 2 running, 23 waiting, 1 failed");
        assert_eq!(
            more(&sweep, &progress, Some(50.0), Some(200.0)),
            "best accuracy 88.00 (constant answer 50.00) · 10.0 trial-steps/s · 3 min 20 s left"
        );
    }

    #[test]
    fn failures_are_told_but_not_without_end() {
        let entry = LogEntry {
            trial: Some(v1::TrialId { sweep: 3, index: 1 }),
            what: Some(What::Ended(v1::log_entry::Ended {
                outcome: v1::Outcome::Failed.into(),
                failure_class: v1::FailureClass::Diverged.into(),
                message: "the loss is NaN at step 7".to_owned(),
                result: None,
            })),
            ..LogEntry::default()
        };
        let quarantined = LogEntry {
            what: Some(What::Quarantined(v1::log_entry::Quarantined {
                name: "node0".to_owned(),
                seconds: 60,
                ..v1::log_entry::Quarantined::default()
            })),
            ..LogEntry::default()
        };
        for last in [&entry, &quarantined] {
            let mut picture = Picture { sweep: "small".to_owned(), ..Picture::default() };
            let most = MAX_COMPLAINTS - 1;
            let told: Vec<String> =
                (0..most).map_while(|_| complaint(&entry, &mut picture)).collect();
            assert_eq!(told.len(), most);
            assert_eq!(told[0], "trial 3.1 failed: diverged (the loss is NaN at step 7)");
            let end = complaint(last, &mut picture).unwrap();
            assert!(end.ends_with("not told one by one; 'deptune show small' lists them"), "{end}");
            assert_eq!(complaint(&entry, &mut picture), None);
        }
    }
}
