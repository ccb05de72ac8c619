//! One module per command.

pub(crate) mod adapter;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod best;
pub(crate) mod cancel;
pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod curves;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod eval;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod pause;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod predictions;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod sql;
pub(crate) mod submit;
pub(crate) mod train;
pub(crate) mod up;
pub(crate) mod watch;
pub(crate) mod worker;
pub(crate) mod workers;

use deptune_proto::v1;
use deptune_sweep::id::TrialId;

use crate::args::{Cli, Command, Globals};
use crate::client::Client;
use crate::local::Coordinator;
use crate::logging::{self, Talk};
use crate::output::error::{Error, Exit};
use crate::output::{self, json, number};
use crate::paths;

/// Carries out the command.
///
/// # Errors
/// Why it could not be carried out.
pub(crate) async fn run(cli: Cli) -> Result<Exit, Error> {
    let globals = &cli.globals;
    let logs_itself =
        matches!(cli.command, Command::Up(_) | Command::Serve(_) | Command::Worker(_))
            || matches!(cli.command, Command::Bench(bench::Command::Coordinator(_)));
    if !logs_itself {
        logging::start(Talk::Client, globals.verbose, globals.color.on_stderr(), None)?;
    }
    let own = if reads(&cli.command) { Coordinator::for_reading(globals).await? } else { None };
    let done = carry_out(globals, cli.command).await;
    if let Some(mut coordinator) = own {
        coordinator.shut_down();
        coordinator.ended().await?;
    }
    done
}

/// Whether a command only reads results, so that it needs no running coordinator where the
/// database lies on this machine.
fn reads(command: &Command) -> bool {
    matches!(
        command,
        Command::List(_)
            | Command::Show(_)
            | Command::Best(_)
            | Command::Curves(_)
            | Command::Logs(_)
            | Command::Sql(_)
            | Command::Export(_)
            | Command::Adapter(_)
            | Command::Predictions(_)
    )
}

async fn carry_out(globals: &Globals, command: Command) -> Result<Exit, Error> {
    match command {
        Command::Up(args) => up::run(globals, args).await,
        Command::Serve(args) => serve::run(globals, args).await,
        Command::Worker(args) => worker::run(globals, args).await,
        Command::Check(args) => check::run(globals, &args),
        Command::Plan(args) => plan::run(globals, &args).await,
        Command::Submit(args) => submit::run(globals, &args).await,
        Command::Watch(args) => watch::run(globals, &args).await,
        Command::List(args) => list::run(globals, &args).await,
        Command::Show(args) => show::run(globals, &args).await,
        Command::Best(args) => best::run(globals, &args).await,
        Command::Curves(args) => curves::run(globals, &args).await,
        Command::Logs(args) => logs::run(globals, &args).await,
        Command::Workers(args) => workers::run(globals, &args).await,
        Command::Drain(args) => drain::run(globals, &args).await,
        Command::Explain(args) => explain::run(globals, &args).await,
        Command::Pause(args) => pause::run(globals, &args).await,
        Command::Resume(args) => resume::run(globals, &args).await,
        Command::Change(args) => change::run(globals, &args).await,
        Command::Retry(args) => retry::run(globals, &args).await,
        Command::Cancel(args) => cancel::run(globals, &args).await,
        Command::Delete(args) => delete::run(globals, &args).await,
        Command::Sql(args) => sql::run(globals, &args).await,
        Command::Export(args) => export::run(globals, &args).await,
        Command::Adapter(command) => adapter::run(globals, command).await,
        Command::Predictions(args) => predictions::run(globals, &args).await,
        Command::Train(args) => train::run(globals, &args).await,
        Command::Predict(args) => predict::run(globals, &args).await,
        Command::Eval(args) => eval::run(globals, &args).await,
        Command::Backup(args) => backup::run(globals, &args).await,
        Command::Restore(args) => restore::run(globals, &args).await,
        Command::Doctor(args) => doctor::run(globals, &args).await,
        Command::Bench(command) => bench::run(globals, command).await,
    }
}

/// Connects to the coordinator that the options name.
async fn connect(globals: &Globals) -> Result<Client, Error> {
    Client::connect(&paths::target(globals)?).await
}

/// Says how a sweep stands after it was changed.
fn tell_changed(
    globals: &Globals,
    doing: &'static str,
    sweep: Option<v1::Sweep>,
) -> Result<Exit, Error> {
    let sweep = sweep.ok_or(Error::Answer { doing, what: "sweep" })?;
    if globals.json {
        output::json_line(&json::sweep(&sweep))?;
    } else {
        output::say(&format!(
            "sweep {} ({}) is {}: {} running, {} waiting, {} succeeded, {} failed, {} cancelled",
            sweep.id,
            sweep.name,
            json::status(sweep.status),
            number::count(sweep.running, "trial"),
            sweep.pending,
            sweep.succeeded,
            sweep.failed,
            sweep.cancelled,
        ));
    }
    Ok(Exit::Done)
}

/// A request id that nobody used.
fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// One sweep, by id or name.
async fn get_sweep(client: &Client, sweep: &str) -> Result<v1::Sweep, Error> {
    let answer = client
        .call("find the sweep", || {
            let mut sweeps = client.sweeps();
            let request = v1::GetSweepRequest { sweep: sweep.to_owned() };
            async move { sweeps.get_sweep(request).await }
        })
        .await?;
    answer.into_inner().sweep.ok_or(Error::Answer { doing: "find the sweep", what: "sweep" })
}

/// All rows of a list that comes in pages. `page` gives the rows behind a token, and the token of
/// the next page.
async fn every_page<T>(
    page: impl AsyncFn(String) -> Result<(Vec<T>, String), Error>,
) -> Result<Vec<T>, Error> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let (rows, next) = page(token).await?;
        all.extend(rows);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
}

/// The trials of a sweep that were ever leased or ended, by index.
async fn list_trials(client: &Client, sweep: &str) -> Result<Vec<v1::Trial>, Error> {
    every_page(async |page_token| {
        let request =
            v1::ListTrialsRequest { sweep: sweep.to_owned(), page_size: 1000, page_token };
        let answer = client.call("list the trials", || {
            let (mut sweeps, request) = (client.sweeps(), request.clone());
            async move { sweeps.list_trials(request).await }
        });
        let answer = answer.await?.into_inner();
        Ok((answer.trials, answer.next_page_token))
    })
    .await
}

/// The evaluations of a sweep, or of one trial.
async fn list_evaluations(
    client: &Client,
    sweep: &str,
    trial: Option<TrialId>,
) -> Result<Vec<v1::TrialEvaluation>, Error> {
    every_page(async |page_token| {
        let request = v1::ListEvaluationsRequest {
            sweep: sweep.to_owned(),
            trial: trial.map(wire_id),
            page_size: 1000,
            page_token,
        };
        let answer = client.call("list the evaluations", || {
            let (mut sweeps, request) = (client.sweeps(), request.clone());
            async move { sweeps.list_evaluations(request).await }
        });
        let answer = answer.await?.into_inner();
        Ok((answer.evaluations, answer.next_page_token))
    })
    .await
}

/// One trial.
async fn get_trial(client: &Client, id: TrialId) -> Result<v1::Trial, Error> {
    let trials = list_trials(client, &id.sweep.to_string()).await?;
    let found = trials.into_iter().find(|trial| {
        trial.id.is_some_and(|known| known.sweep == id.sweep.0 && known.index == id.index)
    });
    found.ok_or_else(|| Error::Nothing {
        what: format!("trial {id} was not started yet, or does not exist"),
        hint: format!("'deptune show {}' shows the trials of its sweep", id.sweep),
    })
}

/// A trial's id on the wire.
fn wire_id(id: TrialId) -> v1::TrialId {
    v1::TrialId { sweep: id.sweep.0, index: id.index }
}

/// How a sweep's end shows in the exit code.
fn sweep_exit(sweep: &v1::Sweep) -> Exit {
    if sweep.failed + sweep.cancelled > 0 { Exit::FailedTrials } else { Exit::Done }
}

/// Columns that only some methods fill.
const METHOD_COLUMNS: &[&str] =
    &["prompt_length", "rank", "prompt_lr", "lowrank_lr", "learning_rate", "source"];

/// A configuration's settings on one line: `m 20, r 60, prompt_lr 0.3, lowrank_lr 5e-4`. What a
/// method does not have is left out.
fn configuration_text(trial: &v1::Trial) -> String {
    let mut parts = Vec::new();
    if trial.prompt_lr.is_some() {
        parts.push(format!("m {}", trial.prompt_length));
    }
    if trial.method != "full" {
        parts.push(format!("r {}", trial.rank));
    }
    let rates = [
        ("prompt_lr", trial.prompt_lr),
        ("lowrank_lr", trial.lowrank_lr),
        ("learning_rate", trial.learning_rate),
    ];
    for (name, value) in rates {
        if let Some(value) = value {
            parts.push(format!("{name} {}", crate::output::number::rate(value)));
        }
    }
    if let Some(source) = &trial.source {
        parts.push(format!("source {source}"));
    }
    parts.join(", ")
}
