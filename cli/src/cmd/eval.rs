//! `deptune eval`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use deptune_sweep::answer::{Question, Reply};
use deptune_sweep::child::{DataFile, Evaluation};
use deptune_sweep::metric::Number;
use deptune_sweep::task::{self, BuiltIn, TaskSpec, builtin_names};
use serde_json::json;

use super::{check, train};
use crate::adapter_dir::Adapter;
use crate::args::Globals;
use crate::hub::Freshness;
use crate::output::error::{Error, Exit};
use crate::output::table::{Left, Right, Table};
use crate::output::{self, number, say};
use crate::spec_file::{Draft, SpecFile};
use crate::trainer;

/// Evaluates a trained adapter
///
/// With --data, on all rows of some files, in the form and with the columns of the adapter's task,
/// or of the one that --task names. With a spec as --task, on a part of the spec's data, as its
/// trials have it: on the adapter's own spec this repeats what the trial ended with. The best
/// constant answer on the same rows stands beside each metric. It computes on the processor, in
/// the precision of the adapter's training.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune eval run --model t5-base --data more.jsonl
  deptune eval run --model t5-base --task superglue-rte --data rte/val.jsonl
  deptune eval run --task sweep.toml --split validation")]
pub(crate) struct Args {
    /// Directory of the adapter, as 'deptune train' or 'deptune adapter get' wrote it; --adapter
    /// may name it too
    #[arg(value_name = "ADAPTER", required_unless_present = "named")]
    adapter: Option<PathBuf>,
    /// The adapter's directory, as 'deptune predict' takes it
    #[arg(id = "named", long = "adapter", value_name = "DIR", hide = true)]
    #[arg(conflicts_with = "adapter")]
    named: Option<PathBuf>,
    /// The model that the adapter was trained on: its directory, or its name on the hub [default:
    /// the one of the spec in --task]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// What to evaluate on: a built-in task, read from --data, or a spec, TOML or JSON, with its
    /// task and its data [default: the task that the adapter was trained on]
    #[arg(long, value_name = "TASK")]
    task: Option<String>,
    /// Data files, all rows of which are used
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "task")]
    data: Vec<PathBuf>,
    /// Which part of the spec's data [default: test]
    #[arg(long, value_name = "SPLIT", requires = "task", conflicts_with = "data")]
    split: Option<Split>,
    #[command(flatten)]
    trainer: trainer::Options,
}

/// Parts of a task's data.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Split {
    /// The training part
    Train,
    /// The validation part
    Validation,
    /// The test part
    Test,
}

impl From<Split> for task::Split {
    fn from(split: Split) -> task::Split {
        match split {
            Split::Train => task::Split::Train,
            Split::Validation => task::Split::Validation,
            Split::Test => task::Split::Test,
        }
    }
}

/// What `--task` names.
enum Task {
    BuiltIn(Box<TaskSpec>),
    Spec(Box<SpecFile>),
}

/// Evaluates.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let dir = args.adapter.as_ref().or(args.named.as_ref()).ok_or_else(no_adapter)?;
    let mut adapter = Adapter::open(dir)?;
    let mut model = args.model.clone();
    let mut question = None;
    match args.task.as_deref().map(|name| find_task(name, args)).transpose()? {
        None => {}
        Some(Task::BuiltIn(task)) => adapter.manifest.settings.task = *task,
        Some(Task::Spec(spec)) => {
            let recipe = adapter.manifest.settings.recipe;
            if spec.spec.recipe != recipe {
                let (key, what) = ("recipe", "the adapter was trained with the other recipe");
                return Err(spec.problem(key, what.to_owned(), None));
            }
            if model.is_none() {
                model = Some(train::model(&spec)?);
            }
            if args.data.is_empty() {
                let split = args.split.map_or(task::Split::Test, task::Split::from);
                question = Some(Question::EvaluateSplit { files: train::data(&spec)?, split });
            }
            adapter.manifest.settings.task = spec.spec.task;
        }
    }
    let question = match question {
        Some(question) => question,
        None => Question::Evaluate { files: files(&args.data)? },
    };
    let model = model.ok_or_else(|| Error::Usage {
        what: "no model is given".to_owned(),
        hint: format!(
            "--model names the directory of the model that the adapter was trained on ('{}' in \
             its spec), or a model of the hub as ORG/NAME",
            adapter.manifest.base_model_name_or_path
        ),
    })?;
    let task = adapter.manifest.settings.task.name.clone();
    trainer::ask(&args.trainer, adapter, &model, question, globals.verbose > 0, |reply| {
        let Reply::Evaluation { evaluation } = reply else { return Ok(()) };
        if globals.json { print_json(&task, &evaluation) } else { print(&evaluation) }
    })
    .await?;
    Ok(Exit::Done)
}

fn no_adapter() -> Error {
    Error::Usage {
        what: "no adapter is given".to_owned(),
        hint: "name the directory that 'deptune train' or 'deptune adapter get' wrote".to_owned(),
    }
}

/// A spec by its file's ending, else a built-in task.
fn find_task(name: &str, args: &Args) -> Result<Task, Error> {
    let path = Path::new(name);
    if path.extension().is_some_and(|ending| ending == "toml" || ending == "json") {
        let mut draft = Draft::read(path, None, Freshness::Cached)?;
        if args.data.is_empty() {
            check::look_at_data(&mut draft);
        }
        return Ok(Task::Spec(Box::new(draft.finish()?)));
    }
    if BuiltIn::find(name).is_none() {
        let names = builtin_names().collect::<Vec<_>>();
        let near = task::did_you_mean(task::suggest(name, names.iter().copied()));
        return Err(Error::Usage {
            what: format!("'{name}' is no built-in task{near}"),
            hint: format!("give one of {}, or a spec (.toml, .json)", names.join(", ")),
        });
    }
    if args.data.is_empty() {
        return Err(Error::Usage {
            what: format!("the files of {name} are not given"),
            hint: "--data names them; all their rows are used. A spec in --task brings its own \
                   files, and parts them as its trials do"
                .to_owned(),
        });
    }
    let test = args.data.iter().map(|path| path.display().to_string()).collect();
    let task = TaskSpec { name: name.to_owned(), test, ..TaskSpec::default() };
    Ok(Task::BuiltIn(Box::new(task)))
}

fn files(paths: &[PathBuf]) -> Result<Vec<DataFile>, Error> {
    let file = |path: &PathBuf| {
        let name = path.display().to_string();
        let found = path.canonicalize();
        let path = found.map_err(|source| Error::Read { path: path.clone(), source })?;
        Ok(DataFile { split: task::Split::Test.to_string(), name, path })
    };
    paths.iter().map(file).collect()
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

fn print_json(task: &str, evaluation: &Evaluation) -> Result<(), Error> {
    let metrics = |list: &[(String, Number)]| -> serde_json::Map<String, serde_json::Value> {
        list.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    output::json_line(&json!({
        "task": task,
        "metrics": metrics(&evaluation.metrics),
        "constant_answer": metrics(&evaluation.constant),
        "loss": evaluation.loss,
        "rows": evaluation.rows,
        "seconds": evaluation.seconds,
    }))
}
