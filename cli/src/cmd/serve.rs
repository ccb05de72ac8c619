//! `deptune serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use deptune_coordinator::Options;

use crate::args::Globals;
use crate::local::{Coordinator, listen_address};
use crate::logging::{self, Talk};
use crate::output::error::{Error, Exit};
use crate::output::say;
use crate::{duration, paths, stop, storage};

/// Runs a coordinator
///
/// It keeps everything in the data directory: the database, the files by hash, the token and the
/// address, so that commands on the same machine find it. Start it again on the same directory
/// after a crash, and every sweep goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune serve --data-dir ~/sweeps
  deptune serve --listen login1:7077 --insecure       for workers on other nodes
  DATABASE_URL=postgres://deptune:PASSWORD@localhost/deptune deptune serve")]
pub(crate) struct Args {
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7077",
        value_parser = listen_address)]
    listen: SocketAddr,
    /// The database, on a local disk [default: deptune.db in the data directory]
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// A Postgres database instead, postgres://USER@HOST:PORT/NAME [default: DATABASE_URL]. Several
    /// coordinators may share one, and the data directory: one leads, the others stand by
    #[arg(long, value_name = "URL", conflicts_with = "database")]
    store: Option<String>,
    /// Where clients and workers reach this coordinator, for the others to name it [default: the
    /// address that it listens on]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Allows an address that other machines reach, although nothing is encrypted
    #[arg(long)]
    insecure: bool,
    /// For how long a silent worker keeps its trials
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    lease_ttl: Duration,
    /// For how long a file stays that no sweep and no trial needs any more, at least an hour
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = keep_unused)]
    keep_unused: Duration,
    /// GB (10⁹ bytes) that the files of all sweeps may take together; data and models beyond are
    /// refused, what trials make is kept all the same [default: no bound]
    #[arg(long, value_name = "GB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_artifacts_gb: Option<u64>,
}

/// Serves until Ctrl-C or SIGTERM.
pub(super) async fn run(globals: &Globals, args: Args) -> Result<Exit, Error> {
    logging::start(Talk::Service, globals.verbose, globals.color.on_stderr(), None)?;
    let stop = stop::on_signal("stopping")?;
    let mut options = Options::new(args.listen, paths::data_dir(globals)?);
    options.storage = storage::chosen(args.database, args.store)?;
    options.advertise = args.advertise;
    options.insecure = args.insecure;
    options.keep_unused = args.keep_unused;
    options.max_artifact_bytes = args.max_artifacts_gb.map(|gb| gb * 1_000_000_000);
    options.scheduler.lease_ttl =
        u64::try_from(args.lease_ttl.as_millis()).unwrap_or(u64::MAX).max(1_000);
    // The database may not answer.
    let starting = stop.run_until_cancelled(Coordinator::start(options)).await;
    let Some(started) = starting else { return Ok(Exit::Done) };
    let mut coordinator = started?;
    say(&format!("listening on {}", coordinator.address));
    say(&format!("token file {}", coordinator.token_file.display()));
    say(&format!("database {}", coordinator.database));
    tokio::select! {
        ended = coordinator.ended() => return ended.map(|()| Exit::Done),
        () = stop.cancelled() => coordinator.shut_down(),
    }
    coordinator.ended().await?;
    Ok(Exit::Done)
}

/// Time enough for a sweep whose files are sent, and for a leader that another one has replaced and
/// that has not noticed yet.
const LEAST_KEPT: Duration = Duration::from_secs(3600);

fn keep_unused(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text)?;
    if time < LEAST_KEPT {
        return Err("at least an hour (1h): what is being sent must not be removed".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_for_an_hour_at_least() {
        assert_eq!(keep_unused("1h"), Ok(LEAST_KEPT));
        for text in ["0s", "59m", "soon"] {
            assert!(keep_unused(text).is_err(), "{text}");
        }
    }
}
