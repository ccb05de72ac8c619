//! What a trial costs as the store fills, how fast a coordinator starts on a full one, and how much
//! memory it takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::machine::{self, Machine};
use super::rig::Server;
use super::{Store, unexpected, work};
use crate::client::Client;
use crate::output::error::Error;
use crate::output::number;
use crate::output::table::{Right, Table};

/// Trials whose cost is measured, at the end of each stretch.
const WINDOW: u64 = 1_000;

/// Slots of the worker that fills the store between windows.
const FILL: u32 = 64;

/// Trials in the store at the end of each window.
const MARKS: [u64; 3] = [2_000, 10_000, 100_000];

/// Trials left for those who come after the windows.
const REST: u64 = 2_000;

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Trials in the store in the end; marks beyond are left out.
    pub(crate) trials: u64,
    /// Workers that hold a trial each when memory is looked at.
    pub(crate) workers: u32,
    /// Directory of the database.
    pub(crate) directory: PathBuf,
}

/// What 1,000 trials cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Cost {
    /// Trials in the store in the end.
    pub(crate) at: u64,
    /// SQL statements per trial.
    pub(crate) statements: f64,
    /// Bytes per trial that went to the disk.
    pub(crate) written: f64,
    /// Milliseconds of the coordinator's processor time per trial.
    pub(crate) cpu_ms: f64,
    /// Trials per second of one worker with one slot.
    pub(crate) trials_per_second: f64,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    /// Per mark.
    pub(crate) costs: Vec<Cost>,
    /// Trials in the store at the restart.
    pub(crate) trials: u64,
    /// Seconds from the coordinator's start, after a kill, to the first lease of a new worker.
    pub(crate) first_lease_seconds: f64,
    /// Workers that held a trial each when memory was looked at.
    pub(crate) workers: u32,
    /// Bytes of the restarted coordinator's memory with them.
    pub(crate) memory: u64,
    /// The same at its highest.
    pub(crate) memory_peak: u64,
    /// Bytes of the database.
    pub(crate) database: u64,
    /// Seconds until the leaderboard's first page was there.
    pub(crate) leaderboard_seconds: f64,
    /// The machine before the run.
    pub(crate) machine: Machine,
    /// Load average over one minute after the run.
    pub(crate) load_after: f64,
}

/// A worker with so many slots, and what they hold.
struct Hand<'a> {
    client: &'a Client,
    id: String,
    slots: Vec<u32>,
    held: Vec<deptune_proto::v1::Lease>,
}

impl Hand<'_> {
    async fn new<'a>(client: &'a Client, slots: u32) -> Result<Hand<'a>, Error> {
        let id = work::register(client, "bench", slots).await?;
        Ok(Hand { client, id, slots: (0..slots).collect(), held: Vec::new() })
    }

    /// Leases and finishes so many trials, none of which it holds afterwards.
    async fn work(&mut self, mut trials: u64) -> Result<(), Error> {
        while trials > 0 || !self.held.is_empty() {
            let reports = self.held.iter().map(work::finished).collect();
            let wanted = usize::try_from(trials).unwrap_or(usize::MAX).min(self.slots.len());
            let free = self.slots.get(..wanted).unwrap_or_default().to_vec();
            self.held = work::exchange(self.client, &self.id, reports, free).await?;
            if self.held.len() < wanted {
                return Err(unexpected("the benchmark", "the sweep has too few trials"));
            }
            trials -= wanted as u64;
        }
        Ok(())
    }
}

/// Runs it.
///
/// # Errors
/// When the coordinator fails or refuses anything: there is no result then.
pub(crate) async fn run(plan: &Plan) -> Result<Measured, Error> {
    let machine = Machine::look(&plan.directory)
        .map_err(|source| Error::Write { path: plan.directory.clone(), source })?;
    let home = plan.directory.join("coordinator");
    let mut server = Server::start(&home, Store::Sqlite, true)?;
    let client = server.connect().await?;
    work::submit(&client, plan.trials + REST + u64::from(plan.workers)).await?;
    let costs = fill(plan, &mut server, &client).await?;
    drop(client);
    server.kill();
    drop(server);

    let start = Instant::now();
    let server = Server::start(&home, Store::Sqlite, false)?;
    let client = server.connect().await?;
    // A kill leaves no lease here, so that the new worker's trial is one that nobody has had.
    let first = work::register(&client, "bench", 1).await?;
    let leases = work::exchange(&client, &first, Vec::new(), vec![0]).await?;
    if leases.is_empty() {
        return Err(unexpected("the benchmark", "the restarted coordinator leased nothing"));
    }
    let first_lease_seconds = start.elapsed().as_secs_f64();

    for _ in 1..plan.workers {
        let worker = work::register(&client, "bench", 1).await?;
        work::exchange(&client, &worker, Vec::new(), vec![0]).await?;
    }
    let asked = Instant::now();
    let request = deptune_proto::v1::GetLeaderboardRequest { sweep: "1".to_owned(), limit: 10 };
    let rows = client.sweeps().get_leaderboard(request).await;
    rows.map_err(|status| client.refused("read the leaderboard", status))?;
    let leaderboard_seconds = asked.elapsed().as_secs_f64();
    let (memory, memory_peak) = machine::memory_bytes(server.pid()).unwrap_or_default();
    let file = home.join(deptune_coordinator::DATABASE_FILE);
    let database = std::fs::metadata(file).map_or(0, |found| found.len());
    server.end()?;
    Ok(Measured {
        costs,
        trials: plan.trials,
        first_lease_seconds,
        workers: plan.workers,
        memory,
        memory_peak,
        database,
        leaderboard_seconds,
        machine,
        load_after: machine::load().unwrap_or(f64::NAN),
    })
}

async fn fill(plan: &Plan, server: &mut Server, client: &Client) -> Result<Vec<Cost>, Error> {
    let mut filling = Hand::new(client, FILL).await?;
    let mut measuring = Hand::new(client, 1).await?;
    let mut costs = Vec::new();
    let mut there = 0;
    for mark in MARKS.into_iter().filter(|mark| *mark <= plan.trials) {
        filling.work(mark - WINDOW - there).await?;
        let (before, start) = (Counters::read(server)?, Instant::now());
        measuring.work(WINDOW).await?;
        let (after, passed) = (Counters::read(server)?, start.elapsed());
        costs.push(after.since(&before, mark, passed));
        there = mark;
    }
    filling.work(plan.trials.saturating_sub(there)).await?;
    Ok(costs)
}

struct Counters {
    statements: u64,
    written: u64,
    cpu: f64,
}

impl Counters {
    fn read(server: &mut Server) -> Result<Counters, Error> {
        let pid = server.pid();
        let gone = || unexpected("the benchmark's coordinator", "it cannot be looked at");
        Ok(Counters {
            statements: server.statements()?,
            written: machine::written_bytes(pid).ok_or_else(gone)?,
            cpu: machine::cpu_seconds(pid).ok_or_else(gone)?,
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    fn since(&self, before: &Counters, at: u64, passed: Duration) -> Cost {
        let trials = WINDOW as f64;
        Cost {
            at,
            statements: (self.statements - before.statements) as f64 / trials,
            written: (self.written - before.written) as f64 / trials,
            cpu_ms: (self.cpu - before.cpu) * 1e3 / trials,
            trials_per_second: trials / passed.as_secs_f64(),
        }
    }
}

impl Measured {
    /// As tables, and what the machine was.
    pub(crate) fn table(&self) -> String {
        let mut costs = Table::new([
            ("trials in the store", Right),
            ("statements/trial", Right),
            ("bytes/trial", Right),
            ("CPU ms/trial", Right),
            ("trials/s, one worker", Right),
        ]);
        for cost in &self.costs {
            costs.row([
                number::whole(cost.at),
                format!("{:.1}", cost.statements),
                format!("{:.0}", cost.written),
                format!("{:.2}", cost.cpu_ms),
                format!("{:.0}", cost.trials_per_second),
            ]);
        }
        format!(
            "{}{} trials, restarted after a kill: first lease of a new worker after {:.2} s; with \
             {} workers {} of memory (at most {}); database {}; leaderboard in {:.2} s\n{}",
            costs.render(),
            number::whole(self.trials),
            self.first_lease_seconds,
            number::whole(self.workers.into()),
            number::bytes(self.memory),
            number::bytes(self.memory_peak),
            number::bytes(self.database),
            self.leaderboard_seconds,
            self.machine.line(self.load_after)
        )
    }
}
