//! `deptune logs`.

use deptune_proto::v1::ReadTrialLogRequest;
use deptune_sweep::id::TrialId;

use super::{connect, wire_id};
use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::output::{self, say};

/// Prints a trial's log
///
/// That is what its trainer wrote, attempt by attempt.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune logs 3.17 --follow")]
pub(crate) struct Args {
    /// The trial, as SWEEP.INDEX
    #[arg(value_name = "TRIAL")]
    trial: TrialId,
    /// Waits for more until the trial ends
    #[arg(short, long)]
    follow: bool,
    /// Only the attempt of this epoch
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    epoch: u32,
}

/// Prints the log.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let request = ReadTrialLogRequest {
        trial: Some(wire_id(args.trial)),
        epoch: args.epoch,
        follow: args.follow,
    };
    let mut stream = client
        .call("read the log", || {
            let (mut artifacts, request) = (client.artifacts(), request);
            async move { artifacts.read_trial_log(request).await }
        })
        .await?
        .into_inner();
    let mut epoch = None;
    while let Some(part) =
        stream.message().await.map_err(|status| client.refused("read the log", status))?
    {
        if globals.json {
            let text = String::from_utf8_lossy(&part.text);
            output::json_line(&serde_json::json!({"epoch": part.epoch, "text": text}))?;
            continue;
        }
        if epoch != Some(part.epoch) {
            say(&format!("attempt {}", part.epoch));
            epoch = Some(part.epoch);
        }
        output::data(&safe(&part.text))?;
    }
    if epoch.is_none() && !globals.json {
        say(&format!("the log of trial {} is empty", args.trial));
    }
    Ok(Exit::Done)
}

/// Text as it is, without characters that would change the terminal's state.
fn safe(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
}
