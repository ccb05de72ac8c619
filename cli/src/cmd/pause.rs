//! `deptune pause`.

use deptune_proto::v1::PauseSweepRequest;

use super::{connect, request_id, tell_changed};
use crate::args::Globals;
use crate::output::error::{Error, Exit};

/// Pauses a sweep
///
/// Nothing more of it is started until it is resumed. Trials that run go on to their end.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune pause 3")]
pub(crate) struct Args {
    /// The sweep, by id or name
    #[arg(value_name = "SWEEP")]
    sweep: String,
}

/// Pauses.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    const DOING: &str = "pause the sweep";
    let client = connect(globals).await?;
    let request = PauseSweepRequest { request_id: request_id(), sweep: args.sweep.clone() };
    let answer = client
        .call(DOING, || {
            let (mut sweeps, request) = (client.sweeps(), request.clone());
            async move { sweeps.pause_sweep(request).await }
        })
        .await?;
    tell_changed(globals, DOING, answer.into_inner().sweep)
}
