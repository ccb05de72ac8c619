//! `deptune resume`.

use deptune_proto::v1::ResumeSweepRequest;

use super::{connect, request_id, tell_changed};
use crate::args::Globals;
use crate::output::error::{Error, Exit};

/// Resumes a paused sweep
///
/// Its trials are started again, in turn with those of other sweeps.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune resume 3")]
pub(crate) struct Args {
    /// The sweep, by id or name
    #[arg(value_name = "SWEEP")]
    sweep: String,
}

/// Resumes.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    const DOING: &str = "resume the sweep";
    let client = connect(globals).await?;
    let request = ResumeSweepRequest { request_id: request_id(), sweep: args.sweep.clone() };
    let answer = client
        .call(DOING, || {
            let (mut sweeps, request) = (client.sweeps(), request.clone());
            async move { sweeps.resume_sweep(request).await }
        })
        .await?;
    tell_changed(globals, DOING, answer.into_inner().sweep)
}
