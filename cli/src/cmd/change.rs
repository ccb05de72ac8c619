//! `deptune change`.

use std::path::{Path, PathBuf};

use deptune_proto::v1::{AddedSpace, ChangeSweepRequest};
use deptune_sweep::spec::MAX_SEED;

use super::show::limits;
use super::{connect, request_id, tell_changed};
use crate::args::Globals;
use crate::output;
use crate::output::error::{Error, Exit};
use crate::spec_file;

/// Changes what a sweep may use, or gives it more seeds or points
///
/// Sweeps of a higher priority go first; sweeps of one priority share the slots by weight. A
/// bound of 0 takes it away. More seeds make a new trial of every configuration for each of them.
/// More points are given as a section [space]: an axis that it leaves out keeps the values of the
/// sweep's spec, and points that the sweep has are not run again. A sweep that had ended goes on.
/// All of it is done, or nothing if a part is refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune change 3 --priority 10 --max-parallel 4
  deptune change 3 --budget-gpu-hours 40
  deptune change 3 --add-seeds 45,46
  printf '[space]\nprompt_lr = [0.6, 0.7]\n' > more.toml
  deptune change 3 --add-space more.toml")]
pub(crate) struct Args {
    /// The sweep, by id or name
    #[arg(value_name = "SWEEP")]
    sweep: String,
    /// Sweeps of a higher priority go first, -1000 to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    priority: Option<i32>,
    /// Share among sweeps of one priority, 1 to 1000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    weight: Option<u32>,
    /// Trials that run at the same time; 0 for no bound
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    max_parallel: Option<u32>,
    /// Hours for which slots may be busy with it, all together; 0 for no bound
    #[arg(long, value_name = "HOURS")]
    budget_gpu_hours: Option<f64>,
    /// Runs every configuration with these seeds too
    #[arg(long, value_name = "SEED,…", value_delimiter = ',',
          value_parser = clap::value_parser!(u64).range(..=MAX_SEED))]
    add_seeds: Vec<u64>,
    /// Runs the points of another [space] too: a TOML or JSON file with that section alone
    #[arg(long, value_name = "FILE")]
    add_space: Option<PathBuf>,
}

fn read_space(file: &Path) -> Result<AddedSpace, Error> {
    let (text, format) = spec_file::read_text(file)?;
    Ok(AddedSpace { text, format: format.as_str().to_owned() })
}

/// Changes it.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    const DOING: &str = "change the sweep";
    let request = ChangeSweepRequest {
        request_id: request_id(),
        sweep: args.sweep.clone(),
        priority: args.priority,
        weight: args.weight,
        max_parallel: args.max_parallel,
        budget_gpu_hours: args.budget_gpu_hours,
        add_seeds: args.add_seeds.clone(),
        add_space: args.add_space.as_deref().map(read_space).transpose()?,
    };
    let nothing = ChangeSweepRequest {
        request_id: request.request_id.clone(),
        sweep: args.sweep.clone(),
        ..ChangeSweepRequest::default()
    };
    if request == nothing {
        return Err(Error::Usage {
            what: "nothing is to change".to_owned(),
            hint: "give --priority, --weight, --max-parallel, --budget-gpu-hours, --add-seeds or \
                   --add-space"
                .to_owned(),
        });
    }
    let client = connect(globals).await?;
    let answer = client
        .call(DOING, || {
            let (mut sweeps, request) = (client.sweeps(), request.clone());
            async move { sweeps.change_sweep(request).await }
        })
        .await?
        .into_inner();
    if let Some(sweep) = answer.sweep.as_ref().filter(|_| !globals.json) {
        output::say(&limits(sweep));
    }
    tell_changed(globals, DOING, answer.sweep)
}
