//! `deptune bench`.

use std::path::PathBuf;
use std::time::Duration;

use crate::args::Globals;
use crate::bench::{Store, broken, coordinator, dispatch, growth, worker};
use crate::client::Client;
use crate::duration;
use crate::output::error::{Error, Exit};
use crate::{output, paths};

/// Measures the coordinator on this machine, without training anything
///
/// Everything that a benchmark starts ends with it, and its files are removed.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Dispatch(Dispatch),
    Growth(Growth),
    #[command(hide = true)]
    Coordinator(Coordinator),
    #[command(hide = true)]
    Worker(Worker),
}

/// Measures how many trials per second a coordinator hands out and records
///
/// A coordinator and so many workers, each a process of its own, speak gRPC over loopback. Each
/// worker holds one trial at a time; one call reports it and leases the next, and every result is
/// durable before its call returns. Beside it stands the floor: what the same database does in the
/// same minute for one connection that claims and finishes a trial with two commits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune bench dispatch --trials 2000 --workers 8
  deptune bench dispatch --trials 200000 --seconds 30s --dir /mnt/fast --json")]
pub(crate) struct Dispatch {
    /// Trials of the sweep; rounded up to a full grid
    #[arg(long, value_name = "N", default_value_t = 2000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    trials: u64,
    /// Worker processes
    #[arg(long, value_name = "W", default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=256))]
    workers: u32,
    /// Where the coordinator keeps results
    #[arg(long, value_name = "STORE", default_value = "sqlite")]
    store: Store,
    /// Ends after this time, though trials are left
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    seconds: Option<Duration>,
    /// Directory for the database; its disk is what is measured [default: the current one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Does not measure the floor
    #[arg(long)]
    no_floor: bool,
}

/// Measures what a trial costs as the store fills, and how a coordinator starts on a full one
///
/// Statements, bytes and processor time per trial of the 1,000 trials that end at 2,000, at 10,000
/// and at 100,000; then, after a kill, the time from the start to the first lease of a new worker,
/// and the coordinator's memory with many workers that hold a trial each.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune bench growth --trials 100000 --workers 1000")]
pub(crate) struct Growth {
    /// Trials in the store in the end
    #[arg(long, value_name = "N", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(2_000..=900_000))]
    trials: u64,
    /// Workers that hold a trial each when memory is looked at
    #[arg(long, value_name = "W", default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: u32,
    /// Directory for the database [default: the current one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The coordinator of a benchmark
#[derive(Debug, clap::Args)]
pub(crate) struct Coordinator {
    #[arg(long)]
    store: Store,
    #[arg(long)]
    counting: bool,
}

/// A worker of a benchmark
#[derive(Debug, clap::Args)]
pub(crate) struct Worker {
    #[arg(long, value_parser = duration::parse)]
    seconds: Option<Duration>,
}

/// Runs a benchmark.
pub(super) async fn run(globals: &Globals, command: Command) -> Result<Exit, Error> {
    match command {
        Command::Dispatch(args) => {
            let scratch = dispatch::Scratch::new(&args.dir.unwrap_or_else(|| PathBuf::from(".")))?;
            let measured = dispatch::run(&dispatch::Plan {
                trials: args.trials,
                workers: args.workers,
                store: args.store,
                directory: scratch.path().to_owned(),
                seconds: args.seconds,
                floor: !args.no_floor,
            })
            .await?;
            show(globals, &measured, &measured.table())?;
        }
        Command::Growth(args) => {
            let scratch = dispatch::Scratch::new(&args.dir.unwrap_or_else(|| PathBuf::from(".")))?;
            let directory = scratch.path().to_owned();
            let (trials, workers) = (args.trials, args.workers);
            let measured = growth::run(&growth::Plan { trials, workers, directory }).await?;
            show(globals, &measured, &measured.table())?;
        }
        Command::Coordinator(args) => {
            coordinator::run(paths::data_dir(globals)?, args.store, args.counting).await?;
        }
        Command::Worker(args) => {
            let client = Client::connect(&paths::target(globals)?).await?;
            worker::run(&client, "bench", args.seconds).await?;
        }
    }
    Ok(Exit::Done)
}

/// Prints a result as the person wants it.
fn show(globals: &Globals, measured: &impl serde::Serialize, table: &str) -> Result<(), Error> {
    if globals.json {
        let value = serde_json::to_value(measured).map_err(broken("the result"))?;
        return output::json_line(&value);
    }
    output::data(table)
}
