//! `deptune curves`.

use std::collections::BTreeMap;

use deptune_proto::v1;
use deptune_sweep::id::TrialId;
use serde_json::json;

use super::{configuration_text, connect, list_evaluations, list_trials};
use crate::args::Globals;
use crate::client::Client;
use crate::output::error::{Error, Exit};
use crate::output::plot::{Series, draw};
use crate::output::{self, json as wire};

/// Draws learning curves in the terminal
///
/// Of a sweep: the mean over seeds of each of the best configurations. Of a trial: its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune curves quickstart
  deptune curves 3 --metric loss --top 3
  deptune curves 3.17")]
pub(crate) struct Args {
    /// A sweep, by id or name, or a trial, as SWEEP.INDEX
    #[arg(value_name = "SWEEP|TRIAL")]
    what: String,
    /// What to draw: a metric of the task, loss or train_loss [default: the selection metric]
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// At most this many configurations
    #[arg(long, value_name = "N", default_value_t = 6)]
    top: usize,
}

/// Draws.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let trial = args.what.parse::<TrialId>().ok();
    let sweep = match trial {
        Some(id) => id.sweep.to_string(),
        // By number from here on: a name means the latest, which may change.
        None => super::get_sweep(&client, &args.what).await?.id.to_string(),
    };
    let evaluations = list_evaluations(&client, &sweep, trial).await?;
    if globals.json {
        for one in &evaluations {
            let Some(evaluation) = &one.evaluation else { continue };
            let mut value = wire::evaluation(evaluation);
            value["trial_id"] = json!(one.trial.map(wire::trial_name));
            output::json_line(&value)?;
        }
        return Ok(Exit::Done);
    }
    let on_validation: Vec<(v1::TrialId, &v1::Evaluation)> = evaluations
        .iter()
        .filter_map(|one| Some((one.trial?, one.evaluation.as_ref()?)))
        .filter(|(_, evaluation)| evaluation.split == "validation")
        .collect();
    let Some((_, first)) = on_validation.first() else {
        let kind = if trial.is_some() { "trial" } else { "sweep" };
        output::say(&format!("no evaluation of {kind} {} yet", args.what));
        return Ok(Exit::Done);
    };
    let name = match &args.metric {
        Some(name) => name.clone(),
        None => first.metrics.first().map(|one| one.name.clone()).unwrap_or_default(),
    };
    if value_of(first, &name).is_none() {
        let known: Vec<&str> = first.metrics.iter().map(|one| one.name.as_str()).collect();
        return Err(Error::Usage {
            what: format!("'{name}' was not measured"),
            hint: format!("there are: {}, loss, train_loss", known.join(", ")),
        });
    }
    let series = match trial {
        Some(id) => vec![of_trial(id, &on_validation, &name)],
        None => of_configurations(&client, &sweep, &on_validation, &name, args.top).await?,
    };
    output::data(&draw(&series, "step", &format!("{name} on the validation split")))?;
    Ok(Exit::Done)
}

fn value_of(evaluation: &v1::Evaluation, name: &str) -> Option<f64> {
    match name {
        "loss" => Some(evaluation.loss),
        "train_loss" => evaluation.train_loss,
        _ => evaluation.metrics.iter().find(|one| one.name == name).map(|one| one.value),
    }
}

/// Steps are far below 2^53.
#[allow(clippy::cast_precision_loss)]
fn x(step: u64) -> f64 {
    step as f64
}

fn of_trial(id: TrialId, all: &[(v1::TrialId, &v1::Evaluation)], name: &str) -> Series {
    let points = all
        .iter()
        .filter_map(|(_, evaluation)| Some((x(evaluation.step), value_of(evaluation, name)?)));
    Series { name: format!("trial {id}"), points: points.collect() }
}

/// The mean over seeds of the configurations that got furthest, the best first.
async fn of_configurations(
    client: &Client,
    sweep: &str,
    all: &[(v1::TrialId, &v1::Evaluation)],
    name: &str,
    top: usize,
) -> Result<Vec<Series>, Error> {
    let trials = list_trials(client, sweep).await?;
    let by_index: BTreeMap<u64, &v1::Trial> =
        trials.iter().filter_map(|trial| Some((trial.id?.index, trial))).collect();
    let mut sums: BTreeMap<u64, (String, BTreeMap<u64, Vec<f64>>)> = BTreeMap::new();
    for (id, evaluation) in all {
        let (Some(trial), Some(value)) = (by_index.get(&id.index), value_of(evaluation, name))
        else {
            continue;
        };
        let (_, steps) = sums
            .entry(trial.configuration)
            .or_insert_with(|| (configuration_text(trial), BTreeMap::new()));
        steps.entry(evaluation.step).or_default().push(value);
    }
    // Losses are better when they are small.
    let sign = if matches!(name, "loss" | "train_loss") { -1.0 } else { 1.0 };
    let mut series: Vec<(f64, Series)> = sums
        .into_values()
        .map(|(name, steps)| {
            // A handful of seeds.
            #[allow(clippy::cast_precision_loss)]
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let points: Vec<(f64, f64)> =
                steps.iter().map(|(step, values)| (x(*step), mean(values))).collect();
            let best = points.iter().map(|point| sign * point.1).fold(f64::NEG_INFINITY, f64::max);
            (best, Series { name, points })
        })
        .collect();
    series.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    Ok(series.into_iter().take(top).map(|(_, one)| one).collect())
}
