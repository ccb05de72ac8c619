//! `deptune show`.

use deptune_proto::v1;
use deptune_sweep::id::TrialId;
use serde_json::{Value, json};

use super::{
    METHOD_COLUMNS, configuration_text, connect, get_sweep, get_trial, list_evaluations,
    list_trials, wire_id,
};
use crate::args::Globals;
use crate::client::Client;
use crate::output::error::{Error, Exit};
use crate::output::table::{Left, Right, Table, pairs};
use crate::output::{self, json as wire, number};
use crate::query::{self, Answer};

/// Shows a sweep with its trials, or a trial with its attempts
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune show quickstart       the latest sweep of that name
  deptune show 3.17             trial 17 of sweep 3
  deptune show 3 --spec         the spec that was submitted")]
pub(crate) struct Args {
    /// A sweep, by id or name, or a trial, as SWEEP.INDEX
    #[arg(value_name = "SWEEP|TRIAL")]
    what: String,
    /// Prints the sweep's spec instead
    #[arg(long)]
    spec: bool,
}

/// Shows a sweep or a trial.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    match args.what.parse::<TrialId>() {
        Ok(trial) if !args.spec => show_trial(globals, &client, trial).await?,
        _ => show_sweep(globals, &client, args).await?,
    }
    Ok(Exit::Done)
}

async fn show_sweep(globals: &Globals, client: &Client, args: &Args) -> Result<(), Error> {
    let sweep = get_sweep(client, &args.what).await?;
    if args.spec {
        return output::data(&sweep.spec);
    }
    let trials = list_trials(client, &sweep.id.to_string()).await?;
    let packs = packs(client, sweep.id).await?;
    if globals.json {
        let mut value = wire::sweep(&sweep);
        value["packs"] = packs;
        value["trial_results"] = trials.iter().map(wire::trial).collect::<Vec<_>>().into();
        return output::json_line(&value);
    }
    output::data(&summary(&sweep, &packs))?;
    if !trials.is_empty() {
        output::data(&format!("\n{}", trial_table(&trials, &sweep.metric_name)))?;
    }
    Ok(())
}

/// The packs that a sweep's trials ran in until now: of each, an attempt is one part.
async fn packs(client: &Client, sweep: u64) -> Result<Value, Error> {
    let sql = format!(
        "select count(*) as attempts, cast(round(sum(1.0 / pack_members)) as integer) as packs,
             max(pack_members) as largest, sum(seconds / pack_members) as slot_seconds,
             (select max(peak_memory_bytes) from trial_results where sweep = {sweep})
                 as peak_memory_bytes,
             (select avg(mean_utilization) from trial_results where sweep = {sweep})
                 as mean_utilization,
             (select avg(mean_power_watts) from trial_results where sweep = {sweep})
                 as mean_power_watts
         from attempts_history where sweep = {sweep}"
    );
    let answer = Answer::of(client, &sql, 1).await?;
    let first = answer.rows.first();
    Ok(first.map_or(Value::Null, |first| query::object(&answer.columns, first)))
}

fn packs_in_words(packs: &Value) -> Option<String> {
    let whole = |key: &str| packs[key].as_u64();
    let (count, largest) = (whole("packs").filter(|&count| count > 0)?, whole("largest")?);
    let mut text =
        format!("{} of at most {}", number::whole(count), number::count(largest, "trial"));
    if let Some(seconds) = packs["slot_seconds"].as_f64() {
        text.push_str(&format!(", {} of slots' time", number::span(seconds)));
    }
    if let Some(bytes) = whole("peak_memory_bytes") {
        text.push_str(&format!(", at most {} of memory", number::bytes(bytes)));
    }
    let mean = |key: &str| packs[key].as_f64();
    if let Some(busy) = busy(mean("mean_utilization"), mean("mean_power_watts")) {
        text.push_str(&format!(", devices {busy} on average"));
    }
    Some(text)
}

/// How busy a device was and what it drew, of what is known.
fn busy(utilization: Option<f64>, watts: Option<f64>) -> Option<String> {
    let utilization = utilization.map(|part| format!("{:.0} % busy", part * 100.0));
    let watts = watts.map(|watts| format!("at {watts:.0} W"));
    let known: Vec<String> = utilization.into_iter().chain(watts).collect();
    (!known.is_empty()).then(|| known.join(" "))
}

fn summary(sweep: &v1::Sweep, packs: &Value) -> String {
    let mut rows = vec![
        ("sweep", format!("{} ({})", sweep.id, sweep.name)),
        ("status", wire::status(sweep.status).to_owned()),
        (
            "trials",
            format!(
                "{}: {} succeeded, {} failed, {} cancelled, {} running, {} waiting",
                number::whole(sweep.trials),
                number::whole(sweep.succeeded),
                number::whole(sweep.failed),
                number::whole(sweep.cancelled),
                number::whole(sweep.running),
                number::whole(sweep.pending)
            ),
        ),
    ];
    if let (Some(best), Some(trial)) = (sweep.best, sweep.best_trial) {
        let at = wire::trial_name(trial);
        rows.push(("best", format!("{} {} (trial {at})", sweep.metric_name, number::metric(best))));
    }
    if let Some(packs) = packs_in_words(packs) {
        rows.push(("packs", packs));
    }
    rows.push(("limits", limits(sweep)));
    rows.push(("used", format!("{:.2} GPU-hours", sweep.used_gpu_hours)));
    rows.push(("submitted", number::time(sweep.submitted_unix_ms)));
    if let Some(finished) = sweep.finished_unix_ms {
        rows.push(("finished", number::time(finished)));
    }
    rows.push(("spec hash", sweep.spec_hash.clone()));
    pairs(&rows)
}

/// What a sweep may use.
pub(super) fn limits(sweep: &v1::Sweep) -> String {
    let parallel = sweep.max_parallel.map(|most| format!(", at most {most} trials at once"));
    let budget = sweep.budget_gpu_hours.map(|hours| format!(", at most {hours} GPU-hours"));
    let (priority, weight) = (sweep.priority, sweep.weight);
    format!(
        "priority {priority}, weight {weight}{}{}",
        parallel.unwrap_or_default(),
        budget.unwrap_or_default()
    )
}

fn trial_table(trials: &[v1::Trial], metric_name: &str) -> String {
    let mut table = Table::new([
        ("trial", Right),
        ("prompt_length", Right),
        ("rank", Right),
        ("prompt_lr", Right),
        ("lowrank_lr", Right),
        ("learning_rate", Right),
        ("source", Left),
        ("seed", Right),
        ("state", Left),
        (metric_name, Right),
        ("best step", Right),
        ("attempts", Right),
        ("worker", Left),
        ("why", Left),
    ])
    .leaving_out_empty(METHOD_COLUMNS);
    for trial in trials {
        let result = trial.result.as_ref();
        table.row([
            trial.id.map(wire::trial_name).unwrap_or_default(),
            if trial.prompt_lr.is_some() { trial.prompt_length.to_string() } else { String::new() },
            if trial.method == "full" { String::new() } else { trial.rank.to_string() },
            trial.prompt_lr.map(number::rate).unwrap_or_default(),
            trial.lowrank_lr.map(number::rate).unwrap_or_default(),
            trial.learning_rate.map(number::rate).unwrap_or_default(),
            trial.source.clone().unwrap_or_default(),
            trial.seed.to_string(),
            state(trial).to_owned(),
            result.map(|result| number::metric(result.metric)).unwrap_or_default(),
            result.map(|result| result.best_step.to_string()).unwrap_or_default(),
            trial.attempts.to_string(),
            trial.worker.clone(),
            why(trial.failure_class, &trial.message),
        ]);
    }
    table.render()
}

/// The outcome, or where the trial stands.
fn state(trial: &v1::Trial) -> &str {
    match wire::outcome(trial.outcome) {
        "" if trial.phase == "leased" => "running",
        "" => &trial.phase,
        outcome => outcome,
    }
}

/// `class: message`, shortened.
fn why(class: i32, message: &str) -> String {
    const WIDTH: usize = 60;
    let class = wire::failure_class(class);
    let text = match (class, message) {
        ("", message) => message.to_owned(),
        (class, "") => class.to_owned(),
        (class, message) => format!("{class}: {message}"),
    };
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

async fn show_trial(globals: &Globals, client: &Client, id: TrialId) -> Result<(), Error> {
    let trial = get_trial(client, id).await?;
    let attempts = client
        .call("list the attempts", || {
            let mut sweeps = client.sweeps();
            let request = v1::ListAttemptsRequest { trial: Some(wire_id(id)) };
            async move { sweeps.list_attempts(request).await }
        })
        .await?
        .into_inner()
        .attempts;
    if globals.json {
        let mut value = wire::trial(&trial);
        value["attempts_history"] = attempts.iter().map(wire::attempt).collect::<Vec<_>>().into();
        let evaluations = list_evaluations(client, &id.sweep.to_string(), Some(id)).await?;
        let evaluations = evaluations.iter().filter_map(|one| one.evaluation.as_ref());
        value["evaluations"] = evaluations.map(wire::evaluation).collect::<Vec<_>>().into();
        return output::json_line(&json!(value));
    }
    output::data(&trial_summary(id, &trial))?;
    let mut table = Table::new([
        ("epoch", Right),
        ("worker", Left),
        ("slot", Right),
        ("steps", Left),
        ("end", Left),
        ("started", Left),
        ("took", Right),
        ("why", Left),
    ]);
    for attempt in &attempts {
        // Far below the 2^53 milliseconds that a double holds exactly.
        #[allow(clippy::cast_precision_loss)]
        let took = attempt
            .ended_unix_ms
            .map(|ended| number::span((ended - attempt.started_unix_ms) as f64 / 1e3));
        table.row([
            attempt.epoch.to_string(),
            attempt.worker.clone(),
            attempt.slot.to_string(),
            format!("{} to {}", attempt.first_step, attempt.last_step),
            if attempt.end.is_empty() { "running".to_owned() } else { attempt.end.clone() },
            number::time(attempt.started_unix_ms),
            took.unwrap_or_default(),
            why(attempt.failure_class, &attempt.message),
        ]);
    }
    output::data(&format!("\n{}", table.render()))?;
    let evaluations = list_evaluations(client, &id.sweep.to_string(), Some(id)).await?;
    match classes(&evaluations, &trial) {
        Some(text) => output::data(&text),
        None => Ok(()),
    }
}

/// How each class fared with the best checkpoint: on the validation split, and on the test split.
fn classes(evaluations: &[v1::TrialEvaluation], trial: &v1::Trial) -> Option<String> {
    let result = trial.result.as_ref()?;
    let best = evaluations
        .iter()
        .filter_map(|one| one.evaluation.as_ref())
        .find(|one| one.split == "validation" && one.step == result.best_step);
    let mut table = Table::new([
        ("split", Left),
        ("class", Left),
        ("precision", Right),
        ("recall", Right),
        ("f1", Right),
        ("rows", Right),
    ]);
    let mut any = false;
    for evaluation in best.into_iter().chain(&result.test) {
        for class in &evaluation.per_class {
            any = true;
            table.row([
                evaluation.split.clone(),
                class.label.clone(),
                number::metric(class.precision),
                number::metric(class.recall),
                number::metric(class.f1),
                number::whole(class.support),
            ]);
        }
    }
    any.then(|| format!("\n{}", table.render()))
}

fn trial_summary(id: TrialId, trial: &v1::Trial) -> String {
    let configuration = configuration_text(trial);
    let mut rows = vec![
        ("trial", id.to_string()),
        ("method", trial.method.clone()),
        ("configuration", format!("{configuration} (number {})", trial.configuration)),
        ("seed", trial.seed.to_string()),
        ("state", state(trial).to_owned()),
    ];
    if !trial.message.is_empty() {
        let class = wire::failure_class(trial.failure_class);
        rows.push(("why", format!("{class}: {}", trial.message)));
    }
    if let Some(result) = &trial.result {
        rows.push((
            "validation",
            format!(
                "{} {} at step {} (constant answer {})",
                result.metric_name,
                number::metric(result.metric),
                result.best_step,
                number::metric(result.constant_metric)
            ),
        ));
        if let Some(test) = &result.test {
            let metrics: Vec<String> = test
                .metrics
                .iter()
                .map(|one| format!("{} {}", one.name, number::metric(one.value)))
                .collect();
            rows.push((
                "test",
                format!("{}, loss {}", metrics.join(", "), number::loss(test.loss)),
            ));
        }
        let early =
            if result.stopped_early { ", stopped early for want of a better one" } else { "" };
        rows.push(("steps", format!("{}{early}", number::whole(result.steps))));
        rows.push(("parameters", number::whole(result.trainable_parameters)));
        rows.push(("training time", number::span(result.train_seconds)));
        if let Some(bytes) = result.peak_memory_bytes {
            rows.push(("memory", format!("{} at most, for its pack", number::bytes(bytes))));
        }
        if let Some(busy) = busy(result.mean_utilization, result.mean_power_watts) {
            rows.push(("device", format!("{busy} on average")));
        }
    }
    if !trial.adapter_hash.is_empty() {
        rows.push(("adapter", trial.adapter_hash.clone()));
    }
    let splits: Vec<&str> =
        trial.result.iter().flat_map(|r| &r.predictions).map(|one| one.split.as_str()).collect();
    if !splits.is_empty() {
        let text = format!("{} ('deptune predictions {id}' prints them)", splits.join(", "));
        rows.push(("predictions", text));
    }
    pairs(&rows)
}
