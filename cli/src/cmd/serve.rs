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
use crate::{duration, paths, stop};

/// Runs a coordinator
///
/// It keeps everything in the data directory: the database, the files by hash, the token and the
/// address, so that commands on the same machine find it. Start it again on the same directory
/// after a crash, and every sweep goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune serve --data-dir ~/sweeps
  deptune serve --listen login1:7077 --insecure       for workers on other nodes")]
pub(crate) struct Args {
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7077",
        value_parser = listen_address)]
    listen: SocketAddr,
    /// The database, on a local disk [default: deptune.db in the data directory]
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// Allows an address that other machines reach, although nothing is encrypted
    #[arg(long)]
    insecure: bool,
    /// For how long a silent worker keeps its trials
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    lease_ttl: Duration,
    /// For how long a file stays that no sweep and no trial needs any more
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = duration::parse)]
    keep_unused: Duration,
}

/// Serves until Ctrl-C or SIGTERM.
pub(super) async fn run(globals: &Globals, args: Args) -> Result<Exit, Error> {
    logging::start(Talk::Service, globals.verbose, globals.color.on_stderr(), None)?;
    let stop = stop::on_signal("stopping")?;
    let mut options = Options::new(args.listen, paths::data_dir(globals)?);
    options.database = args.database;
    options.insecure = args.insecure;
    options.keep_unused = args.keep_unused;
    options.scheduler.lease_ttl =
        u64::try_from(args.lease_ttl.as_millis()).unwrap_or(u64::MAX).max(1_000);
    let mut coordinator = Coordinator::start(options).await?;
    say(&format!("listening on {}", coordinator.address));
    say(&format!("token file {}", coordinator.token_file.display()));
    say(&format!("database {}", coordinator.database.display()));
    tokio::select! {
        ended = coordinator.ended() => return ended.map(|()| Exit::Done),
        () = stop.cancelled() => coordinator.shut_down(),
    }
    coordinator.ended().await?;
    Ok(Exit::Done)
}
