//! `deptune serve`.

use crate::args::Globals;
use crate::local::Coordinator;
use crate::logging::{self, Talk};
use crate::output::error::{Error, Exit};
use crate::output::say;
use crate::{paths, stop};

/// Runs a coordinator
///
/// It keeps everything in the data directory: the database, the files by hash, the token and the
/// address, so that commands on the same machine find it. Start it again on the same directory
/// after a crash, and every sweep goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune serve --data-dir ~/sweeps
  deptune serve --listen 0.0.0.0:7077 --insecure      for workers on other nodes")]
pub(crate) struct Args {
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7077")]
    listen: String,
    /// Allows an address that other machines reach, although nothing is encrypted
    #[arg(long)]
    insecure: bool,
}

/// Serves until Ctrl-C or SIGTERM.
pub(super) async fn run(globals: &Globals, args: Args) -> Result<Exit, Error> {
    logging::start(Talk::Service, globals.verbose, globals.color.on_stderr(), None)?;
    let stop = stop::on_signal("stopping")?;
    let coordinator =
        Coordinator::start(paths::data_dir(globals)?, &args.listen, args.insecure).await?;
    say(&format!("listening on {}", coordinator.address));
    say(&format!("token file {}", coordinator.token_file.display()));
    say(&format!("database {}", coordinator.database.display()));
    coordinator.until(stop).await?;
    Ok(Exit::Done)
}
