//! How many trials per second go through a coordinator, and how long one exchange takes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deptune_proto::v1;
use serde::Serialize;

use super::machine::{self, Machine};
use super::rig::{Server, Worker};
use super::{Store, floor, unexpected, work};
use crate::output::error::Error;
use crate::output::number;
use crate::output::table::{Left, Right, Table};

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Trials of the sweep; rounded up to a full grid.
    pub(crate) trials: u64,
    /// Worker processes.
    pub(crate) workers: u32,
    /// Where results are kept.
    pub(crate) store: Store,
    /// Directory of the database.
    pub(crate) directory: PathBuf,
    /// End after this time, though trials are left.
    pub(crate) seconds: Option<Duration>,
    /// Whether the floor is measured too.
    pub(crate) floor: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    /// Where results were kept.
    pub(crate) store: &'static str,
    /// Worker processes.
    pub(crate) workers: u32,
    /// Acknowledged results.
    pub(crate) trials: u64,
    /// Distinct trials among them.
    pub(crate) distinct: u64,
    /// Trials that the coordinator says have succeeded.
    pub(crate) succeeded: u64,
    /// Seconds from the word to the last answer.
    pub(crate) seconds: f64,
    /// Acknowledged results per second.
    pub(crate) trials_per_second: f64,
    /// Milliseconds of one exchange, median.
    pub(crate) p50_ms: f64,
    /// Milliseconds that 99 of 100 exchanges stay below.
    pub(crate) p99_ms: f64,
    /// Milliseconds of the coordinator's processor time per trial.
    pub(crate) coordinator_cpu_ms: f64,
    /// Milliseconds of the workers' processor time per trial.
    pub(crate) worker_cpu_ms: f64,
    /// Trials per second of one connection that commits twice per trial; null if not measured.
    pub(crate) floor: Option<f64>,
    /// Trials per second, as a multiple of the floor.
    pub(crate) times_floor: Option<f64>,
    /// The machine before the run.
    pub(crate) machine: Machine,
    /// Load average over one minute after the run.
    pub(crate) load_after: f64,
}

/// Runs it.
///
/// # Errors
/// When any process or any report is refused: there is no result then.
pub(crate) async fn run(plan: &Plan) -> Result<Measured, Error> {
    let machine = Machine::look(&plan.directory)
        .map_err(|source| Error::Write { path: plan.directory.clone(), source })?;
    let before = floor_of(plan).await?;
    let home = plan.directory.join("coordinator");
    let server = Server::start(&home, plan.store, false)?;
    let client = server.connect().await?;
    work::refuse_company(&client).await?;
    let sweep = work::submit(&client, plan.trials).await?;
    let mut workers = (0..plan.workers)
        .map(|_| Worker::start(&server, plan.seconds))
        .collect::<Result<Vec<_>, _>>()?;
    workers.iter_mut().try_for_each(Worker::ready)?;

    let cpu = machine::cpu_seconds(server.pid());
    workers.iter_mut().try_for_each(Worker::go)?;
    let mut done = Vec::new();
    for worker in workers {
        done.push(worker.done()?);
    }
    let cpu =
        machine::cpu_seconds(server.pid()).zip(cpu).map_or(f64::NAN, |(end, start)| end - start);

    let request = v1::GetSweepRequest { sweep: sweep.id.to_string() };
    let answer = client.sweeps().get_sweep(request).await;
    let sweep = answer.map_err(|status| client.refused("find the sweep", status))?.into_inner();
    let succeeded = sweep.sweep.map_or(0, |sweep| sweep.succeeded);
    server.end()?;
    std::fs::remove_dir_all(&home).map_err(|source| Error::Write { path: home, source })?;
    // The disk's mood changes within minutes: the mean of before and after stands for between.
    let after = floor_of(plan).await?;
    let floor = before.zip(after).map(|(before, after)| f64::midpoint(before, after));

    let trials: u64 = done.iter().map(|one| one.trials.len() as u64).sum();
    let distinct: BTreeSet<u64> = done.iter().flat_map(|one| one.trials.iter().copied()).collect();
    let mut latencies: Vec<u64> = done.iter().flat_map(|one| one.latencies.clone()).collect();
    latencies.sort_unstable();
    let seconds = done.iter().map(|one| one.seconds).fold(0.0, f64::max);
    if trials == 0 || seconds == 0.0 {
        return Err(unexpected("the benchmark", "no trial was finished in this time"));
    }
    let worker_cpu: f64 = done.iter().map(|one| one.cpu).sum();
    #[allow(clippy::cast_precision_loss, reason = "far fewer than 2^52 trials")]
    let count = trials as f64;
    let rate = count / seconds;
    Ok(Measured {
        store: plan.store.as_str(),
        workers: plan.workers,
        trials,
        distinct: distinct.len() as u64,
        succeeded,
        seconds,
        trials_per_second: rate,
        p50_ms: quantile(&latencies, 50),
        p99_ms: quantile(&latencies, 99),
        coordinator_cpu_ms: cpu * 1e3 / count,
        worker_cpu_ms: worker_cpu * 1e3 / count,
        floor,
        times_floor: floor.map(|floor| rate / floor),
        machine,
        load_after: machine::load().unwrap_or(f64::NAN),
    })
}

async fn floor_of(plan: &Plan) -> Result<Option<f64>, Error> {
    match plan.store {
        Store::Sqlite if plan.floor => floor::sqlite(&plan.directory).await.map(Some),
        Store::Postgres if plan.floor => floor::postgres().await.map(Some),
        _ => Ok(None),
    }
}

/// Milliseconds below which so many percent of the sorted microseconds stay.
fn quantile(sorted: &[u64], percent: usize) -> f64 {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    let micros = sorted.get(at).copied().unwrap_or(0);
    Duration::from_micros(micros).as_secs_f64() * 1e3
}

impl Measured {
    /// As a table, and what the machine was.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new([
            ("store", Left),
            ("workers", Right),
            ("trials", Right),
            ("distinct", Right),
            ("trials/s", Right),
            ("p50 ms", Right),
            ("p99 ms", Right),
            ("floor/s", Right),
            ("× floor", Right),
            ("coordinator ms/trial", Right),
        ])
        .leaving_out_empty(&["floor/s", "× floor"]);
        table.row([
            self.store.to_owned(),
            self.workers.to_string(),
            number::whole(self.trials),
            number::whole(self.distinct),
            format!("{:.0}", self.trials_per_second),
            format!("{:.2}", self.p50_ms),
            format!("{:.2}", self.p99_ms),
            self.floor.map(|floor| format!("{floor:.0}")).unwrap_or_default(),
            self.times_floor.map(|times| format!("{times:.1}")).unwrap_or_default(),
            format!("{:.2}", self.coordinator_cpu_ms),
        ]);
        format!("{}{}", table.render(), self.machine.line(self.load_after))
    }
}

impl Machine {
    /// The machine in a line.
    pub(crate) fn line(&self, load_after: f64) -> String {
        format!(
            "{}, {} processors, {}; fsync {:.2} ms; load {:.1} before, {load_after:.1} after\n",
            self.cpu, self.processors, self.instructions, self.fsync_ms, self.load
        )
    }
}

/// A directory for one benchmark's files, removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below `parent`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn new(parent: &Path) -> Result<Scratch, Error> {
        let path = parent.join(format!("deptune-bench-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path)
            .map_err(|source| Error::Write { path: path.clone(), source })?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies in a directory that the person named.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let times: Vec<u64> = (1..=1000).map(|ms| ms * 1000).collect();
        assert_eq!(quantile(&times, 50), 501.0);
        assert_eq!(quantile(&times, 99), 991.0);
        assert_eq!(quantile(&[7000], 99), 7.0);
    }
}
