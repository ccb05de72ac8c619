//! `deptune up`.

use std::net::SocketAddr;
use std::path::PathBuf;

use deptune_proto::v1;
use deptune_worker::{Options, Token};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::submit::{self, Parcel};
use super::{watch, worker};
use crate::args::Globals;
use crate::client::Client;
use crate::follow::follow;
use crate::local::{Coordinator, listen_address};
use crate::logging::{self, Talk};
use crate::output::error::{Error, Exit};
use crate::output::say;
use crate::paths::{self, Target};
use crate::spec_file::SpecFile;
use crate::{stop, trainer};

/// Runs a coordinator and a worker here, and a sweep on them
///
/// With a spec: submits it, shows how it goes, prints the leaderboard and ends; the exit code says
/// how the sweep ended. Ctrl-C checkpoints the running trials; the same command goes on where it
/// stopped. Without a spec: stays until Ctrl-C, for 'deptune submit' and the other commands.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune up examples/quickstart/sweep.toml
  deptune up sweep.toml --data-dir results --slots 4 --threads 2")]
pub(crate) struct Args {
    /// The spec, TOML or JSON
    #[arg(value_name = "SPEC")]
    spec: Option<PathBuf>,
    #[command(flatten)]
    slots: worker::Slots,
    /// Stays when the sweep has ended
    #[arg(long, requires = "spec")]
    keep: bool,
    /// Address to listen on, on this machine [default: a free port]
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0", hide_default_value = true,
        value_parser = listen_address)]
    listen: SocketAddr,
    /// Directory under which models may be opened; the spec's own model always may
    #[arg(long = "model-root", value_name = "DIR")]
    model_roots: Vec<PathBuf>,
    /// The trainer program [default: deptune-trainer beside this program, or in PATH]
    #[arg(long, env = "DEPTUNE_TRAINER", hide_env_values = true, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

/// Where the log goes while a sweep is shown.
const LOG_FILE: &str = "deptune.log";

/// Runs everything.
pub(super) async fn run(globals: &Globals, args: Args) -> Result<Exit, Error> {
    // Whatever can be wrong with the input shows before anything is started.
    let spec = match &args.spec {
        Some(file) => Some(submit::read(file, None)?),
        None => None,
    };
    let trainer = trainer::find(args.trainer.as_deref())?;
    let parcel = match &spec {
        Some(spec) => Some(submit::pack(spec, false).await?),
        None => None,
    };
    let dir = paths::data_dir(globals)?;
    std::fs::create_dir_all(&dir).map_err(|source| Error::Write { path: dir.clone(), source })?;
    let log = (spec.is_some() && globals.verbose == 0).then(|| dir.join(LOG_FILE));
    let color = globals.color.on_stderr();
    logging::start(Talk::Service, globals.verbose, color, log.as_deref())?;
    let stop = stop::on_signal("stopping: trials are checkpointed (Ctrl-C again ends at once)")?;

    let serving = deptune_coordinator::Options::new(args.listen, dir.clone());
    let mut coordinator = Coordinator::start(serving).await?;
    let mut options = worker_options(&coordinator, &dir, &args, spec.as_ref(), trainer);
    options.hub = Some(worker::hub()?);
    let mut agent = Agent::start(options);
    let work = work(globals, &coordinator, parcel.as_ref(), args.keep);
    let ended = tokio::select! {
        done = work => Ended::Work(done),
        error = agent.ended() => Ended::Early(error),
        () = stop.cancelled() => Ended::Stopped,
        ended = watch_over(&coordinator) => Ended::Early(ended),
    };
    // The worker first: it delivers its checkpoints to the coordinator.
    agent.stop().await;
    coordinator.shut_down();
    let stopped = coordinator.ended().await;
    if spec.is_some() {
        say(&format!("results are in {}", coordinator.database));
    }
    let exit = match ended {
        Ended::Work(done) => done?,
        Ended::Early(error) => return Err(stopped.err().unwrap_or(error)),
        Ended::Stopped if spec.is_some() => {
            say("run the same command again to go on");
            Exit::Interrupted
        }
        Ended::Stopped => Exit::Done,
    };
    stopped.map(|()| exit)
}

/// Why the command comes to its end.
enum Ended {
    /// What it was to do is done, or failed.
    Work(Result<Exit, Error>),
    /// The worker or the coordinator ended by itself.
    Early(Error),
    /// Ctrl-C or SIGTERM.
    Stopped,
}

/// Returns when the coordinator has ended by itself.
async fn watch_over(coordinator: &Coordinator) -> Error {
    while !coordinator.is_over() {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    Error::Coordinator { exit: Exit::Internal, hint: None, source: "it ended by itself".into() }
}

/// Runs the sweep, if there is one; stays after it with `keep`, and without one.
async fn work(
    globals: &Globals,
    coordinator: &Coordinator,
    parcel: Option<&Parcel>,
    keep: bool,
) -> Result<Exit, Error> {
    if let Some(parcel) = parcel {
        let exit = sweep(globals, coordinator, parcel).await?;
        if !keep {
            return Ok(exit);
        }
    }
    say(&format!("listening on {}; Ctrl-C stops", coordinator.address));
    std::future::pending().await
}

fn worker_options(
    coordinator: &Coordinator,
    dir: &std::path::Path,
    args: &Args,
    spec: Option<&SpecFile>,
    trainer: PathBuf,
) -> Options {
    let mut options = Options::new(
        vec![coordinator.address.clone()],
        Token::File(coordinator.token_file.clone()),
    );
    options.name = Some("local".to_owned());
    options.state_dir = Some(dir.join("worker"));
    options.cache_dir = Some(dir.join("cache"));
    options.slots = args.slots.options();
    // It is there for this sweep, whatever others it asks for.
    options.labels = spec.map(|spec| spec.spec.requires.labels.clone()).unwrap_or_default();
    options.trainer = Some(trainer);
    options.model_roots.clone_from(&args.model_roots);
    // The coordinator lives as long as this process.
    options.idle_timeout = std::time::Duration::from_secs(366 * 86_400);
    if let Some(model_dir) = spec.and_then(|spec| spec.model_dir.clone()) {
        options.model_roots.push(model_dir.canonicalize().unwrap_or(model_dir));
    }
    options
}

/// Submits the sweep, or finds the unfinished one of an earlier run; follows it to its end.
async fn sweep(
    globals: &Globals,
    coordinator: &Coordinator,
    parcel: &Parcel,
) -> Result<Exit, Error> {
    let target = Target {
        addresses: vec![coordinator.address.clone()],
        token_file: Some(coordinator.token_file.clone()),
    };
    let client = Client::connect(&target).await?;
    let sweep = match unfinished(&client, parcel).await? {
        Some(sweep) => {
            let done = sweep.succeeded + sweep.failed + sweep.cancelled + sweep.pruned;
            say(&format!(
                "going on with sweep {} ({}): {done} of {} trials are done",
                sweep.id, sweep.name, sweep.trials
            ));
            sweep
        }
        None => {
            until_a_worker_is_there(&client).await;
            let (sweep, warnings) = submit::send(&client, parcel, Uuid::new_v4()).await?;
            say(&submit::accepted(&sweep));
            submit::warn(&warnings);
            sweep
        }
    };
    let sweep = follow(&client, &sweep.id.to_string(), globals.json).await?;
    watch::conclude(globals, &client, &sweep).await
}

/// Our own worker registers at the same time; a while is enough, and no reason to fail.
async fn until_a_worker_is_there(client: &Client) {
    for _ in 0..100 {
        let info = client.sweeps().get_server_info(v1::GetServerInfoRequest {}).await;
        if info.is_ok_and(|info| info.into_inner().workers > 0) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// The latest sweep of exactly this submission that has not ended.
async fn unfinished(client: &Client, parcel: &Parcel) -> Result<Option<v1::Sweep>, Error> {
    for status in [v1::SweepStatus::Running, v1::SweepStatus::Paused] {
        let request = v1::ListSweepsRequest {
            page_size: 1,
            page_token: String::new(),
            status: status.into(),
            spec_hash: parcel.submission.hash().as_str().to_owned(),
        };
        let answer = client
            .call("list the sweeps", || {
                let (mut sweeps, request) = (client.sweeps(), request.clone());
                async move { sweeps.list_sweeps(request).await }
            })
            .await?;
        let found = answer.into_inner().sweeps.into_iter().next();
        if let Some(sweep) = &found {
            if status == v1::SweepStatus::Paused {
                let id = sweep.id;
                say(&format!("sweep {id} is paused; 'deptune resume {id}' lets it go on"));
            }
            return Ok(found);
        }
    }
    Ok(None)
}

/// The worker of this process.
struct Agent {
    task: JoinHandle<Result<deptune_worker::Exit, deptune_worker::Error>>,
    drain: CancellationToken,
    is_over: bool,
}

impl Agent {
    fn start(options: Options) -> Agent {
        let drain = CancellationToken::new();
        let task = tokio::spawn(deptune_worker::run(options, drain.clone()));
        Agent { task, drain, is_over: false }
    }

    /// Why it ended although nobody asked it to.
    async fn ended(&mut self) -> Error {
        let result = (&mut self.task).await;
        self.is_over = true;
        match result {
            Ok(Err(error)) => worker::failure(error),
            Ok(Ok(exit)) => Error::Worker {
                exit: Exit::Internal,
                hint: None,
                source: format!("it ended early ({exit:?})").into(),
            },
            Err(source) => Error::Task { task: "the worker", source: source.into() },
        }
    }

    /// Lets it checkpoint and hand back its trials.
    async fn stop(self) {
        self.drain.cancel();
        if !self.is_over
            && let Ok(Err(error)) = self.task.await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "the worker's end");
        }
    }
}
