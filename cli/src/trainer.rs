//! The trainer program as a child of the command line: `deptune-trainer answer` and `measure`.
//!
//! The protocols are [`deptune_sweep::answer`] and [`deptune_sweep::measure`]: one request on its
//! standard input, one reply per line on its standard output. The command line links no libtorch,
//! and a trainer that dies takes nothing with it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::Args;
use deptune_sweep::answer::{Question, Reply, Request};
use deptune_sweep::child::{Device, MAX_LINE, PROTOCOL};
use deptune_sweep::hub::ModelName;
use deptune_sweep::measure::{self, Measured};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::adapter_dir::Adapter;
use crate::hub::{self, Freshness};
use crate::output::error::Error;

/// Name of the program.
const PROGRAM: &str = "deptune-trainer";

/// Most of the child's talk that an error repeats, in bytes.
const TALK: usize = 4096;

/// How to run the trainer.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Threads to compute with [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// The trainer program [default: deptune-trainer beside this program, or in PATH]
    #[arg(long, env = "DEPTUNE_TRAINER", hide_env_values = true, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

/// Finds the trainer: the given program, else beside this program, in `../lib/deptune` from it, or
/// in `PATH`.
///
/// # Errors
/// When it is nowhere.
pub(crate) fn find(given: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(program) = given {
        return match program.is_file() {
            true => Ok(program.to_owned()),
            false => Err(Error::NoTrainer { looked: vec![program.to_owned()] }),
        };
    }
    let mut places = Vec::new();
    if let Ok(this) = std::env::current_exe()
        && let Some(dir) = this.parent()
    {
        places.push(dir.join(PROGRAM));
        places.push(dir.join("../lib/deptune").join(PROGRAM));
    }
    if let Some(path) = std::env::var_os("PATH") {
        places.extend(std::env::split_paths(&path).map(|dir| dir.join(PROGRAM)));
    }
    match places.iter().find(|place| place.is_file()) {
        Some(program) => Ok(program.clone()),
        None => {
            places.truncate(2);
            places.push(PathBuf::from("PATH"));
            Err(Error::NoTrainer { looked: places })
        }
    }
}

/// The directory of a model: the given one, else that of the hub's cache, fetched if it is not
/// there. `None` when it can be neither.
fn model_directory(model: &Path) -> Option<Result<PathBuf, Error>> {
    if model.is_dir() {
        return Some(Ok(model.to_owned()));
    }
    let name = ModelName::parse(model.to_str()?, None)?;
    let hub = hub::Lazy::default();
    let found = hub.model_config(&name, Freshness::Cached).and_then(|(model, _)| hub.model(&model));
    Some(found.map_err(|trouble| Error::Nothing {
        what: format!("{} is no directory here, and {}", model.display(), trouble.message),
        hint: trouble.hint.unwrap_or_default(),
    }))
}

/// Asks the trainer about an adapter of a model, its directory or its name on the hub; `each` is
/// given every reply but failures.
///
/// # Errors
/// The trainer's own words when it says no, or that it cannot be run.
pub(crate) async fn ask(
    options: &Options,
    adapter: Adapter,
    model: &Path,
    question: Question,
    verbose: bool,
    mut each: impl FnMut(Reply) -> Result<(), Error>,
) -> Result<(), Error> {
    let program = find(options.trainer.as_deref())?;
    let model = model_directory(model).ok_or_else(|| Error::Nothing {
        what: format!("{} is no directory", model.display()),
        hint: format!(
            "--model names the directory of the model that the adapter was trained on ('{}' in \
             its spec), or a model of the hub as ORG/NAME",
            adapter.manifest.base_model_name_or_path
        ),
    })??;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let request = Request {
        protocol: PROTOCOL,
        model: absolute(&model)?,
        adapter: absolute(&adapter.weights)?,
        settings: adapter.manifest.settings,
        device: Device::Cpu,
        threads: options.threads.unwrap_or_else(|| u32::try_from(cpus).unwrap_or(1)),
        question,
    };
    converse(&program, "answer", &request, verbose, |reply| match reply {
        Reply::Failed { message } => Err(Error::TrainerFailed { message, input: true }),
        reply => each(reply),
    })
    .await
}

/// What a pack takes on this machine.
///
/// # Errors
/// The trainer's own words when it cannot say, or that it cannot be run.
pub(crate) async fn measure(
    program: &Path,
    request: &measure::Request,
    verbose: bool,
) -> Result<Measured, Error> {
    let mut found = None;
    converse(program, "measure", request, verbose, |reply| match reply {
        measure::Reply::Failed { message } => Err(Error::TrainerFailed { message, input: true }),
        measure::Reply::Measured { measured } => {
            found = Some(measured);
            Ok(())
        }
    })
    .await?;
    found.ok_or_else(|| broken("it said nothing"))
}

/// Runs the program with a command and one request; `each` is given every reply.
async fn converse<Reply: DeserializeOwned>(
    program: &Path,
    command: &str,
    request: &impl Serialize,
    verbose: bool,
    mut each: impl FnMut(Reply) -> Result<(), Error>,
) -> Result<(), Error> {
    let failed = |source| Error::Trainer { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(if verbose { Stdio::inherit() } else { Stdio::piped() })
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut line = serde_json::to_vec(request)
        .map_err(|source| Error::Task { task: "writing the request", source: source.into() })?;
    line.push(b'\n');
    let input = child.stdin.take();
    let output = child.stdout.take();
    let talk = tokio::spawn(listen(child.stderr.take()));
    let write = async {
        if let Some(mut input) = input {
            // A child that ends without reading says why on its way out.
            let _ = input.write_all(&line).await;
        }
        Ok::<(), Error>(())
    };
    let read = async {
        let Some(output) = output else { return Ok(()) };
        let mut lines = BufReader::new(output.take(1 << 32)).lines();
        while let Some(line) = lines.next_line().await.map_err(failed)? {
            if line.len() > MAX_LINE {
                return Err(broken("a line of its answer is too long"));
            }
            match serde_json::from_str(&line) {
                Ok(reply) => each(reply)?,
                Err(error) => {
                    tracing::debug!(%error, line, "no reply");
                    return Err(broken("its answer is none; is it of the same version?"));
                }
            }
        }
        Ok(())
    };
    tokio::try_join!(write, read)?;
    finish(child, talk).await
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn broken(why: &str) -> Error {
    Error::TrainerFailed { message: format!("the trainer failed: {why}"), input: false }
}

/// The end of what the child says on standard error.
async fn listen(from: Option<tokio::process::ChildStderr>) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut tail = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tail.extend(buffer.iter().take(read));
        let over = tail.len().saturating_sub(TALK);
        tail.drain(..over);
    }
    String::from_utf8_lossy(&tail).into_owned()
}

async fn finish(mut child: Child, talk: tokio::task::JoinHandle<String>) -> Result<(), Error> {
    let status = child
        .wait()
        .await
        .map_err(|source| Error::Trainer { program: PathBuf::from(PROGRAM), source })?;
    if status.success() {
        return Ok(());
    }
    let talk = talk.await.unwrap_or_default();
    Err(broken(&format!("{status}\n{}", talk.trim())))
}
