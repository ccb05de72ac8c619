//! `deptune watch`.

use super::{best, connect, sweep_exit};
use crate::args::Globals;
use crate::client::Client;
use crate::follow::follow;
use crate::output::error::{Error, Exit};
use crate::output::{json, number, say};

/// Follows a sweep until it ends
///
/// Shows how many trials are done, the best result so far with the best constant answer beside
/// it, the speed and the time left; ends with the leaderboard. A coordinator that restarts is
/// found again. Ctrl-C stops the watching, not the sweep.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune watch 3
  deptune watch quickstart --json     all news, one JSON document per line")]
pub(crate) struct Args {
    /// The sweep, by id or name
    #[arg(value_name = "SWEEP")]
    sweep: String,
}

/// Follows.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    // By number from here on: a name means the latest, which may change.
    let id = super::get_sweep(&client, &args.sweep).await?.id;
    to_the_end(globals, &client, id).await
}

/// Follows to the end, tells how it ended, prints the leaderboard.
///
/// # Errors
/// As every call.
pub(super) async fn to_the_end(globals: &Globals, client: &Client, id: u64) -> Result<Exit, Error> {
    let name = id.to_string();
    let sweep = tokio::select! {
        sweep = follow(client, &name, globals.json) => sweep?,
        _ = tokio::signal::ctrl_c() => {
            say(&format!("the sweep goes on; 'deptune watch {id}' follows it again"));
            return Ok(Exit::Interrupted);
        }
    };
    conclude(globals, client, &sweep).await
}

/// Tells how a sweep ended and prints the leaderboard (but not among the news of `--json`).
///
/// # Errors
/// As every call.
pub(super) async fn conclude(
    globals: &Globals,
    client: &Client,
    sweep: &deptune_proto::v1::Sweep,
) -> Result<Exit, Error> {
    if globals.json {
        return Ok(sweep_exit(sweep));
    }
    let mut parts = vec![format!("{} succeeded", number::whole(sweep.succeeded))];
    for (number, what) in
        [(sweep.failed, "failed"), (sweep.cancelled, "cancelled"), (sweep.pruned, "pruned")]
    {
        if number > 0 {
            parts.push(format!("{} {what}", number::whole(number)));
        }
    }
    say(&format!(
        "sweep {} ({}) is {}: {} of {}",
        sweep.id,
        sweep.name,
        json::status(sweep.status),
        parts.join(", "),
        number::count(sweep.trials, "trial")
    ));
    let board = best::fetch(client, &sweep.id.to_string(), 20).await?;
    best::print(globals, &board)?;
    Ok(sweep_exit(sweep))
}
