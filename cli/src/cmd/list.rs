//! `deptune list`.

use clap::ValueEnum;
use deptune_proto::v1;

use super::connect;
use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::output::table::{Left, Right, Table};
use crate::output::{self, json, number};

/// Lists sweeps, the latest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune list --status running")]
pub(crate) struct Args {
    /// Only sweeps in this state
    #[arg(long, value_name = "STATUS")]
    status: Option<Status>,
    /// At most this many sweeps
    #[arg(long, value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
}

/// State of a sweep.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Status {
    /// Some trial has no outcome yet
    Running,
    /// Paused by a person
    Paused,
    /// Every trial has an outcome
    Finished,
    /// Cancelled by a person
    Cancelled,
}

/// Lists sweeps.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let status = match args.status {
        None => v1::SweepStatus::Unspecified,
        Some(Status::Running) => v1::SweepStatus::Running,
        Some(Status::Paused) => v1::SweepStatus::Paused,
        Some(Status::Finished) => v1::SweepStatus::Finished,
        Some(Status::Cancelled) => v1::SweepStatus::Cancelled,
    };
    let mut found = Vec::new();
    let mut page_token = String::new();
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    while found.len() < limit {
        let request = v1::ListSweepsRequest {
            page_size: u32::try_from(limit - found.len()).unwrap_or(1000).min(1000),
            page_token,
            status: status.into(),
            spec_hash: String::new(),
        };
        let answer = client
            .call("list the sweeps", || {
                let (mut sweeps, request) = (client.sweeps(), request.clone());
                async move { sweeps.list_sweeps(request).await }
            })
            .await?
            .into_inner();
        found.extend(answer.sweeps);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if globals.json {
        found.iter().try_for_each(|sweep| output::json_line(&json::sweep(sweep)))?;
    } else if found.is_empty() {
        output::say("no sweeps yet; 'deptune submit SPEC' submits one");
    } else {
        output::data(&table(&found))?;
    }
    if !page_token.is_empty() {
        output::say(&format!(
            "only the latest {} sweeps are shown; --limit N shows more",
            found.len()
        ));
    }
    Ok(Exit::Done)
}

fn table(sweeps: &[v1::Sweep]) -> String {
    let mut table = Table::new([
        ("sweep", Right),
        ("name", Left),
        ("status", Left),
        ("trials", Right),
        ("done", Right),
        ("failed", Right),
        ("running", Right),
        ("metric", Left),
        ("best", Right),
        ("submitted", Left),
    ]);
    for sweep in sweeps {
        table.row([
            sweep.id.to_string(),
            sweep.name.clone(),
            json::status(sweep.status).to_owned(),
            number::whole(sweep.trials),
            number::whole(sweep.succeeded + sweep.failed + sweep.cancelled + sweep.pruned),
            number::whole(sweep.failed),
            number::whole(sweep.running),
            sweep.metric_name.clone(),
            sweep.best.map(number::metric).unwrap_or_default(),
            number::time(sweep.submitted_unix_ms),
        ]);
    }
    table.render()
}
