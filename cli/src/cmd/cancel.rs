//! `deptune cancel`.

use deptune_proto::v1::CancelSweepRequest;

use super::connect;
use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::output::{self, json, number};

/// Cancels a sweep
///
/// Running trials stop, and every trial without an outcome is recorded as cancelled. Outcomes that
/// are there stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune cancel 3")]
pub(crate) struct Args {
    /// The sweep, by id or name
    #[arg(value_name = "SWEEP")]
    sweep: String,
}

/// Cancels.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let request = CancelSweepRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        sweep: args.sweep.clone(),
    };
    let answer = client
        .call("cancel the sweep", || {
            let (mut sweeps, request) = (client.sweeps(), request.clone());
            async move { sweeps.cancel_sweep(request).await }
        })
        .await?;
    let sweep = answer
        .into_inner()
        .sweep
        .ok_or(Error::Answer { doing: "cancel the sweep", what: "sweep" })?;
    if globals.json {
        output::json_line(&json::sweep(&sweep))?;
    } else {
        output::say(&format!(
            "sweep {} ({}) is {}: {} cancelled, {} succeeded, {} failed",
            sweep.id,
            sweep.name,
            json::status(sweep.status),
            number::count(sweep.cancelled, "trial"),
            sweep.succeeded,
            sweep.failed
        ));
    }
    Ok(Exit::Done)
}
