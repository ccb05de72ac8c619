//! A worker process of a benchmark: registers, waits for the word, then takes one trial at a time.

use std::io::{BufRead as _, Write as _};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{broken, work};
use crate::client::Client;
use crate::output::error::Error;

/// What a worker says when it is ready.
pub(crate) const READY: &str = "ready";

/// What a worker did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Indexes of the trials whose reports were acknowledged.
    pub(crate) trials: Vec<u64>,
    /// Microseconds of each call, in order.
    pub(crate) latencies: Vec<u64>,
    /// Seconds from the word to the last answer.
    pub(crate) seconds: f64,
    /// Processor seconds of this process.
    pub(crate) cpu: f64,
}

/// Works until there is no trial left or `seconds` have passed, then prints a [`Done`]. Ends
/// without work when nobody says that it may start.
///
/// # Errors
/// Any refusal: a benchmark that goes wrong has no result.
pub(crate) async fn run(
    client: &Client,
    name: &str,
    seconds: Option<Duration>,
) -> Result<(), Error> {
    let worker = work::register(client, name, 1).await?;
    let stdout = |text: String| {
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|source| Error::Stdout { source })
    };
    stdout(format!("{READY}\n"))?;
    let started = tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().next())
        .await
        .map_err(broken("waiting for the start"))?;
    if started.is_none() {
        return Ok(());
    }
    let done = trials(client, &worker, seconds).await?;
    let text = serde_json::to_string(&done).map_err(broken("the worker's result"))?;
    stdout(format!("{text}\n"))
}

async fn trials(client: &Client, worker: &str, seconds: Option<Duration>) -> Result<Done, Error> {
    let mut done = Done { trials: Vec::new(), latencies: Vec::new(), seconds: 0.0, cpu: 0.0 };
    let start = Instant::now();
    let end = seconds.map(|seconds| start + seconds);
    let mut held = None;
    loop {
        let over = end.is_some_and(|end| Instant::now() >= end);
        let reports: Vec<_> = held.iter().map(work::finished).collect();
        if over && reports.is_empty() {
            break;
        }
        let before = Instant::now();
        let free = if over { Vec::new() } else { vec![0] };
        let leases = work::exchange(client, worker, reports, free).await?;
        let passed = u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX);
        done.latencies.push(passed);
        let index = |lease: &deptune_proto::v1::Lease| Some(lease.lease?.trial?.index);
        done.trials.extend(held.as_ref().and_then(index));
        held = leases.into_iter().next();
        if held.is_none() {
            break;
        }
    }
    done.seconds = start.elapsed().as_secs_f64();
    done.cpu = super::machine::cpu_seconds(std::process::id()).unwrap_or(0.0);
    Ok(done)
}
