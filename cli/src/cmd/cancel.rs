//! `deptune cancel`.

use deptune_proto::v1::{CancelSweepRequest, CancelTrialRequest};
use deptune_sweep::id::TrialId;

use super::{connect, request_id, tell_changed, wire_id};
use crate::args::Globals;
use crate::output::error::{Error, Exit};

/// Cancels a sweep or a trial
///
/// What runs of it stops, and every trial without an outcome is recorded as cancelled. Outcomes
/// that are there stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune cancel 3
  deptune cancel 3.17           one trial")]
pub(crate) struct Args {
    /// A sweep, by id or name, or a trial, as SWEEP.INDEX
    #[arg(value_name = "SWEEP|TRIAL")]
    what: String,
}

/// Cancels.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    if let Ok(trial) = args.what.parse::<TrialId>() {
        const DOING: &str = "cancel the trial";
        let request = CancelTrialRequest { request_id: request_id(), trial: Some(wire_id(trial)) };
        let answer = client
            .call(DOING, || {
                let (mut sweeps, request) = (client.sweeps(), request.clone());
                async move { sweeps.cancel_trial(request).await }
            })
            .await?;
        return tell_changed(globals, DOING, answer.into_inner().sweep);
    }
    const DOING: &str = "cancel the sweep";
    let request = CancelSweepRequest { request_id: request_id(), sweep: args.what.clone() };
    let answer = client
        .call(DOING, || {
            let (mut sweeps, request) = (client.sweeps(), request.clone());
            async move { sweeps.cancel_sweep(request).await }
        })
        .await?;
    tell_changed(globals, DOING, answer.into_inner().sweep)
}
