//! `deptune predictions`.

use std::path::PathBuf;

use clap::ValueEnum;
use deptune_sweep::id::TrialId;
use serde_json::json;

use super::{connect, get_trial};
use crate::args::Globals;
use crate::download;
use crate::output::error::{Error, Exit};
use crate::output::{self, say};

/// Prints what a trial's best checkpoint answered to each row
///
/// JSON lines, one per row, as the trainer wrote them. Only trials of a spec with save_predictions
/// = true in [train] have them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune predictions 3.17
  deptune predictions 3.17 --split test -o answers.jsonl")]
pub(crate) struct Args {
    /// The trial, as SWEEP.INDEX
    #[arg(value_name = "TRIAL")]
    trial: TrialId,
    /// Which rows
    #[arg(long, value_name = "SPLIT", default_value = "validation")]
    split: Split,
    /// File to write to [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Splits that are evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Split {
    /// The validation split
    Validation,
    /// The test split
    Test,
}

impl Split {
    fn name(self) -> &'static str {
        match self {
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
}

/// Prints.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let trial = get_trial(&client, args.trial).await?;
    let split = args.split.name();
    let kept = trial.result.iter().flat_map(|result| &result.predictions);
    let Some(found) = kept.clone().find(|one| one.split == split) else {
        let there: Vec<&str> = kept.map(|one| one.split.as_str()).collect();
        return Err(Error::Nothing {
            what: format!("trial {} has no predictions of the {split} split", args.trial),
            hint: match (&trial.result, there.as_slice()) {
                (None, _) => format!("it has not succeeded: deptune show {}", args.trial),
                (Some(_), []) => "submit the spec with save_predictions = true in [train]".into(),
                (Some(_), there) => format!("there are those of: {}", there.join(", ")),
            },
        });
    };
    let bytes = download::fetch(&client, &found.hash, "fetch the predictions").await?;
    match &args.output {
        None => output::bytes(&bytes)?,
        Some(path) => {
            std::fs::write(path, &bytes)
                .map_err(|source| Error::Write { path: path.clone(), source })?;
            if globals.json {
                let path = path.display().to_string();
                output::json_line(
                    &json!({"trial_id": args.trial.to_string(), "split": split, "file": path}),
                )?;
            } else {
                say(&format!("wrote {}", path.display()));
            }
        }
    }
    Ok(Exit::Done)
}
