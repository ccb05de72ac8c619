//! `deptune explain`.

use deptune_proto::v1::ExplainTrialRequest;
use deptune_sweep::id::TrialId;
use serde_json::json;

use super::{connect, wire_id};
use crate::args::Globals;
use crate::output;
use crate::output::error::{Error, Exit};

/// Says why a trial waits
///
/// Or where it runs, or how it ended.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune explain 3.17")]
pub(crate) struct Args {
    /// The trial, as SWEEP.INDEX
    #[arg(value_name = "TRIAL")]
    trial: TrialId,
}

/// Explains it.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let answer = client
        .call("explain the trial", || {
            let mut sweeps = client.sweeps();
            let request = ExplainTrialRequest { trial: Some(wire_id(args.trial)) };
            async move { sweeps.explain_trial(request).await }
        })
        .await?
        .into_inner();
    if globals.json {
        output::json_line(&json!({
            "trial_id": args.trial.to_string(),
            "reason": answer.reason,
            "explanation": answer.explanation,
        }))?;
    } else {
        output::data(&format!("trial {}: {}", args.trial, answer.explanation))?;
    }
    Ok(Exit::Done)
}
