//! `deptune eval`.

use std::path::PathBuf;

use deptune_sweep::answer::{Question, Reply};
use deptune_sweep::child::{DataFile, Evaluation};
use deptune_sweep::metric::Number;
use serde_json::json;

use crate::adapter_dir::Adapter;
use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::output::table::{Left, Right, Table};
use crate::output::{self, number, say};
use crate::trainer;

/// Evaluates a trained adapter on data files
///
/// All rows of the files are used, in the format and with the columns of the adapter's task. The
/// best constant answer on the same rows stands beside each metric.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune eval --adapter adapter --model t5-base --data test.jsonl")]
pub(crate) struct Args {
    #[command(flatten)]
    trainer: trainer::Options,
    /// Data files
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
}

/// Evaluates.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let adapter = Adapter::open(&args.trainer.adapter)?;
    let mut files = Vec::new();
    for file in &args.data {
        let path =
            file.canonicalize().map_err(|source| Error::Read { path: file.clone(), source })?;
        files.push(DataFile { split: "test".to_owned(), name: file.display().to_string(), path });
    }
    let question = Question::Evaluate { files };
    trainer::ask(&args.trainer, adapter, question, globals.verbose > 0, |reply| {
        let Reply::Evaluation { evaluation } = reply else { return Ok(()) };
        if globals.json { print_json(&evaluation) } else { print(&evaluation) }
    })
    .await?;
    Ok(Exit::Done)
}

fn print(evaluation: &Evaluation) -> Result<(), Error> {
    let mut table = Table::new([("metric", Left), ("value", Right), ("constant", Right)]);
    for (name, value) in &evaluation.metrics {
        let constant = evaluation.constant.iter().find(|(known, _)| known == name);
        table.row([
            name.clone(),
            number::metric(value.get()),
            constant.map(|(_, value)| number::metric(value.get())).unwrap_or_default(),
        ]);
    }
    table.row(["loss".to_owned(), number::loss(evaluation.loss.get()), String::new()]);
    output::data(&table.render())?;
    say(&format!(
        "{} in {}",
        number::count(evaluation.rows, "row"),
        number::span(evaluation.seconds)
    ));
    Ok(())
}

fn print_json(evaluation: &Evaluation) -> Result<(), Error> {
    let metrics = |list: &[(String, Number)]| -> serde_json::Map<String, serde_json::Value> {
        list.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    output::json_line(&json!({
        "metrics": metrics(&evaluation.metrics),
        "constant_answer": metrics(&evaluation.constant),
        "loss": evaluation.loss,
        "rows": evaluation.rows,
        "seconds": evaluation.seconds,
    }))
}
