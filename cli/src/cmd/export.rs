//! `deptune export`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::ValueEnum;

use super::{connect, get_sweep, sql};
use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::output::{self, number, say};
use crate::query::{self, Answer};

/// Writes a sweep's results, one row per trial
///
/// The columns are those of the view trial_results, which docs/results.md describes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune export quickstart --format csv --output trials.csv
  deptune export 3 --format jsonl | jq .metric")]
pub(crate) struct Args {
    /// The sweep, by id or name
    #[arg(value_name = "SWEEP")]
    sweep: String,
    /// How to write them
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    format: Format,
    /// Where to [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values with a header line
    Csv,
    /// One JSON object per line
    Jsonl,
}

/// Most rows of one answer: no sweep has more trials.
const LIMIT: u32 = 1_000_000;

/// Exports.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let client = connect(globals).await?;
    let id = get_sweep(&client, &args.sweep).await?.id;
    let statement = format!("select * from trial_results where sweep = {id} order by trial_index");
    let Answer { columns, rows, truncated } = Answer::of(&client, &statement, LIMIT).await?;
    let mut sink = Sink::open(args.output.clone())?;
    match args.format {
        Format::Csv => sink.write(&sql::csv(&columns, &rows))?,
        Format::Jsonl => rows
            .iter()
            .try_for_each(|row| sink.write(&format!("{}\n", query::object(&columns, row))))?,
    }
    sink.close()?;
    if let Some(path) = &args.output {
        let count = rows.len() as u64;
        say(&format!("wrote {} to {}", number::count(count, "row"), path.display()));
    }
    if truncated {
        say(&format!(
            "only the first {} fit into an answer; 'deptune sql' reads the rest: select * from \
             trial_results where sweep = {id} order by trial_index limit 1000000 offset {}",
            number::count(rows.len() as u64, "row"),
            rows.len(),
        ));
    }
    Ok(Exit::Done)
}

/// A file that appears only when it is complete, or standard output.
enum Sink {
    Stdout,
    File { file: BufWriter<File>, partial: PathBuf, path: PathBuf },
}

impl Sink {
    fn open(path: Option<PathBuf>) -> Result<Sink, Error> {
        let Some(path) = path else { return Ok(Sink::Stdout) };
        let mut name = path.clone().into_os_string();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let file = File::create(&partial)
            .map_err(|source| Error::Write { path: partial.clone(), source })?;
        Ok(Sink::File { file: BufWriter::new(file), partial, path })
    }

    fn write(&mut self, text: &str) -> Result<(), Error> {
        match self {
            Sink::Stdout => output::data(text),
            Sink::File { file, partial, .. } => file
                .write_all(text.as_bytes())
                .map_err(|source| Error::Write { path: partial.clone(), source }),
        }
    }

    fn close(self) -> Result<(), Error> {
        let Sink::File { mut file, partial, path } = self else { return Ok(()) };
        let failed = |source| Error::Write { path: path.clone(), source };
        file.flush().map_err(failed)?;
        file.get_ref().sync_all().map_err(failed)?;
        std::fs::rename(&partial, &path).map_err(failed)
    }
}
