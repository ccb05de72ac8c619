//! `deptune delete`.

use deptune_proto::v1::{DeleteSweepRequest, DeleteSweepResponse};
use serde_json::json;

use super::{connect, request_id};
use crate::args::Globals;
use crate::client::Client;
use crate::output::error::{Error, Exit};
use crate::output::{self, json as wire, number};

/// Deletes a sweep with its trials and results
///
/// The sweep must have ended. Without --yes it only says what would be removed. Its number is not
/// given to another sweep.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune delete 3              what would be removed
  deptune delete 3 --yes        removes it")]
pub(crate) struct Args {
    /// The sweep, by id or name
    #[arg(value_name = "SWEEP")]
    sweep: String,
    /// Removes it, instead of saying what would be removed
    #[arg(long)]
    yes: bool,
}

const DOING: &str = "delete the sweep";

async fn ask(client: &Client, sweep: String, preview: bool) -> Result<DeleteSweepResponse, Error> {
    let request = DeleteSweepRequest { request_id: request_id(), sweep, preview };
    let answer = client.call(DOING, || {
        let (mut sweeps, request) = (client.sweeps(), request.clone());
        async move { sweeps.delete_sweep(request).await }
    });
    Ok(answer.await?.into_inner())
}

/// Deletes it.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let mut answer = ask(&client, args.sweep.clone(), true).await?;
    let mut sweep = answer.sweep.take().ok_or(Error::Answer { doing: DOING, what: "sweep" })?;
    if args.yes {
        // By number: a call that is repeated because its answer was lost must not find another
        // sweep of the same name.
        answer = ask(&client, sweep.id.to_string(), false).await?;
        sweep = answer.sweep.take().ok_or(Error::Answer { doing: DOING, what: "sweep" })?;
    }
    if globals.json {
        output::json_line(&json!({
            "deleted": args.yes,
            "sweep": wire::sweep(&sweep),
            "attempts": answer.attempts,
            "evaluations": answer.evaluations,
            "log_entries": answer.log_entries,
        }))?;
        return Ok(Exit::Done);
    }
    let what = format!(
        "sweep {} ({}): {}, {}, {}, {}",
        sweep.id,
        sweep.name,
        number::count(sweep.trials, "trial"),
        number::count(answer.attempts, "attempt"),
        number::count(answer.evaluations, "evaluation"),
        number::count(answer.log_entries, "log line"),
    );
    if args.yes {
        output::say(&format!("deleted {what}"));
    } else {
        output::say(&format!("would delete {what}; --yes does it"));
    }
    Ok(Exit::Done)
}
