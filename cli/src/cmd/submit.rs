//! `deptune submit`, and the steps of it that `deptune up` shares.

use std::path::{Path, PathBuf};

use deptune_proto::v1;
use deptune_sweep::child::FileHash;
use deptune_sweep::id::ArtifactHash;
use deptune_sweep::model::CONFIG_FILE;
use deptune_sweep::record::{DataRef, SOURCE, Submission};
use uuid::Uuid;

use super::{check, connect, watch};
use crate::args::Globals;
use crate::client::Client;
use crate::hub::Freshness;
use crate::model_dir;
use crate::output::error::{Error, Exit};
use crate::output::{self, json, number, say};
use crate::spec_file::{Draft, SpecFile};
use crate::upload::{self, Hashed};

/// Submits a sweep to a coordinator
///
/// Paths in the spec are relative to the spec file. The data files are sent by their hash if the
/// coordinator lacks them, so workers need not see this machine's files. The model is expected
/// under a --model-root of the workers, unless --upload-model sends it too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune submit sweep.toml --wait
  deptune submit sweep.toml --server node7:7077 --token-file token --upload-model")]
pub(crate) struct Args {
    /// The spec, TOML or JSON
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    /// Follows the sweep to its end; the exit code says how it ended
    #[arg(long)]
    wait: bool,
    /// Sends the model's files too
    #[arg(long)]
    upload_model: bool,
    /// The model's config.json, when the model is not on this machine
    #[arg(long, value_name = "FILE")]
    model_config: Option<PathBuf>,
    /// Names this submission: the same id again is the same sweep [default: a new one]
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
}

/// Submits.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let spec = read(&args.spec, args.model_config.as_deref())?;
    let parcel = pack(&spec, args.upload_model).await?;
    let client = connect(globals).await?;
    let request_id = args.request_id.unwrap_or_else(Uuid::new_v4);
    let (sweep, warnings) = send(&client, &parcel, request_id).await?;
    warn(&warnings);
    if !warnings.is_empty() {
        say(&format!("hint: start a worker with: deptune worker --server {}", client.address()));
    }
    if args.wait {
        say(&accepted(&sweep));
        return watch::to_the_end(globals, &client, sweep.id).await;
    }
    if globals.json {
        output::json_line(&json::sweep(&sweep))?;
    } else {
        output::line(&sweep.id.to_string())?;
        say(&accepted(&sweep));
        say(&format!("follow it with: deptune watch {}", sweep.id));
    }
    Ok(Exit::Done)
}

/// Reads a spec and all rows of its data: a bad row would fail every trial, one after the other.
///
/// # Errors
/// Every problem of the spec and its data.
pub(super) fn read(spec: &Path, model_config: Option<&Path>) -> Result<SpecFile, Error> {
    let mut draft = Draft::read(spec, model_config, Freshness::Current)?;
    check::look_at_data(&mut draft);
    draft.find_sources();
    draft.finish()
}

/// `sweep 3 (name) submitted: 36 trials`.
pub(super) fn accepted(sweep: &v1::Sweep) -> String {
    let trials = number::count(sweep.trials, "trial");
    format!("sweep {} ({}) submitted: {trials}", sweep.id, sweep.name)
}

/// A submission and the files that belong to it.
pub(super) struct Parcel {
    /// What is submitted.
    pub(super) submission: Submission,
    /// The data files.
    data: Vec<Hashed>,
    /// The model's files, when they are to be sent.
    model: Vec<Hashed>,
}

/// Hashes everything that a spec names.
///
/// # Errors
/// A file that is missing or cannot be read, at its line of the spec.
pub(super) async fn pack(spec: &SpecFile, upload_model: bool) -> Result<Parcel, Error> {
    let mut data = Vec::new();
    let mut hashed_data = Vec::new();
    for file in spec.data.clone() {
        let hashed = upload::hash(&file.path).await.map_err(|error| match error {
            Error::Read { path, source } => spec.problem(
                &format!("task.{}", file.split),
                format!("cannot read the data file {}: {source}", path.display()),
                Some("paths are relative to the spec file".to_owned()),
            ),
            other => other,
        })?;
        if hashed.size == 0 {
            return Err(spec.problem(
                &format!("task.{}", file.split),
                format!("the data file {} is empty", file.path.display()),
                Some("'deptune check' looks at every row".to_owned()),
            ));
        }
        data.push(DataRef {
            split: file.split.to_string(),
            name: file.name,
            hash: hashed.hash.clone(),
            size: hashed.size,
        });
        hashed_data.push(hashed);
    }
    for source in &spec.sources {
        let hashed = upload::hash(&source.path).await?;
        data.push(DataRef {
            split: SOURCE.to_owned(),
            name: source.name.clone(),
            hash: hashed.hash.clone(),
            size: hashed.size,
        });
        hashed_data.push(hashed);
    }
    let model = model_files(spec, upload_model).await?;
    let mut model_files: Vec<FileHash> = model.iter().map(file_hash).collect();
    if model_files.is_empty() && spec.model_hub.is_some() {
        // A worker's own copy under a model root must be the same version.
        let hash = ArtifactHash::of(spec.model_config.as_bytes()).as_str().to_owned();
        model_files.push(FileHash { name: CONFIG_FILE.to_owned(), hash });
    }
    let submission = Submission {
        spec: spec.text.clone(),
        format: spec.format.to_string(),
        model_config: spec.model_config.clone(),
        model_dir: spec.model_dir.as_deref().map(canonical),
        model_files,
        model_uploaded: upload_model,
        model_hub: spec.model_hub.clone(),
        data,
    };
    let model = if upload_model { model } else { Vec::new() };
    Ok(Parcel { submission, data: hashed_data, model })
}

/// The model's files that are here.
async fn model_files(spec: &SpecFile, needed: bool) -> Result<Vec<Hashed>, Error> {
    let fetched = match (&spec.model_dir, &spec.model_hub) {
        (None, Some(model)) if needed => {
            let found = spec.hub.model(model);
            Some(
                found
                    .map_err(|trouble| spec.problem("model.path", trouble.message, trouble.hint))?,
            )
        }
        _ => None,
    };
    let Some(dir) = spec.model_dir.as_ref().or(fetched.as_ref()) else {
        if needed {
            return Err(Error::Usage {
                what: format!("model '{}' is not on this machine", spec.spec.model.path),
                hint: "leave --upload-model out, and let the workers see the model under a \
                       --model-root"
                    .to_owned(),
            });
        }
        return Ok(Vec::new());
    };
    // A damaged model would fail every trial, one after the other.
    if let Some(message) = model_dir::problems(dir, &spec.model).into_iter().next() {
        let (message, hint) = match message.split_once("; ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (message, None),
        };
        return Err(spec.problem("model.path", message, hint));
    }
    let mut files = Vec::new();
    let names = model_dir::files(dir);
    for name in names.map_err(|message| spec.problem("model.path", message, None))? {
        files.push(upload::hash(&dir.join(name)).await?);
    }
    Ok(files)
}

fn file_hash(file: &Hashed) -> FileHash {
    let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned());
    FileHash { name: name.unwrap_or_default(), hash: file.hash.as_str().to_owned() }
}

fn canonical(dir: &Path) -> String {
    dir.canonicalize().unwrap_or_else(|_| dir.to_owned()).display().to_string()
}

/// Sends the files that the coordinator lacks, then the submission.
///
/// # Errors
/// A file that changed since it was hashed, a refusal, an unreachable coordinator.
pub(super) async fn send(
    client: &Client,
    parcel: &Parcel,
    request_id: Uuid,
) -> Result<(v1::Sweep, Vec<String>), Error> {
    upload::send(client, &parcel.data, "data").await?;
    upload::send(client, &parcel.model, "model").await?;
    let submission = &parcel.submission;
    let request = v1::SubmitSweepRequest {
        request_id: request_id.to_string(),
        spec: submission.spec.clone(),
        format: submission.format.clone(),
        model_config: submission.model_config.clone(),
        model_dir: submission.model_dir.clone().unwrap_or_default(),
        model_files: submission
            .model_files
            .iter()
            .map(|file| v1::FileHash { name: file.name.clone(), hash: file.hash.clone() })
            .collect(),
        model_uploaded: submission.model_uploaded,
        model_hub: submission.model_hub.clone().map(Into::into),
        data: submission
            .data
            .iter()
            .map(|data| v1::DataRef {
                split: data.split.clone(),
                name: data.name.clone(),
                hash: data.hash.as_str().to_owned(),
                size: data.size,
            })
            .collect(),
    };
    // The same request id at every try: however often it arrives, it is one sweep.
    let answer = client
        .call("submit the sweep", || {
            let (mut sweeps, request) = (client.sweeps(), request.clone());
            async move { sweeps.submit_sweep(request).await }
        })
        .await?;
    let answer = answer.into_inner();
    let missing = Error::Answer { doing: "submit the sweep", what: "sweep" };
    Ok((answer.sweep.ok_or(missing)?, answer.warnings))
}

/// Says what the coordinator had to say of a sweep that it took.
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        say(&format!("warning: {warning}"));
    }
}
