//! `deptune predict`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use deptune_sweep::answer::{Question, Reply};
use serde_json::json;

use crate::adapter_dir::Adapter;
use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::output::table::{Left, Table};
use crate::output::{self, printable, say};
use crate::trainer;

/// Answers texts with a trained adapter
///
/// A text fills the one field of the task's template. For tasks with several fields, give a JSON
/// object with a text for each. '-' reads texts from standard input, one per line. It computes on
/// the processor, in the precision of the adapter's training.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune predict --adapter adapter --model t5-base 'the soup was cold'
  deptune predict --adapter adapter --model t5-base '{\"premise\": \"…\", \"hypothesis\": \"…\"}'
  deptune predict --adapter adapter --model t5-base - < texts.txt")]
pub(crate) struct Args {
    /// Directory of the adapter, as 'deptune train' or 'deptune adapter get' wrote it
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The model that the adapter was trained on: its directory, or its name on the hub
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    #[command(flatten)]
    trainer: trainer::Options,
    /// Texts, or '-' for standard input
    #[arg(value_name = "TEXT", required = true)]
    texts: Vec<String>,
}

/// Most bytes that are read from standard input.
const MAX_INPUT: u64 = 8 << 20;

/// Predicts.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let adapter = Adapter::open(&args.adapter)?;
    let settings = &adapter.manifest.settings;
    let def = settings.task.resolve(settings.recipe).map_err(|source| Error::Unusable {
        path: args.adapter.clone(),
        hint: "fetch the adapter again with 'deptune adapter get'".to_owned(),
        source: source.into(),
    })?;
    let fields: Vec<&str> = def.fields().collect();
    let texts = texts(&args.texts)?;
    let rows = texts.iter().map(|text| row(text, &fields)).collect::<Result<Vec<_>, _>>()?;
    let mut table = Table::new([("answer", Left), ("text", Left)]);
    let mut strange = 0_usize;
    let question = Question::Predict { rows };
    trainer::ask(&args.trainer, adapter, &args.model, question, globals.verbose > 0, |reply| {
        let Reply::Prediction { row, source, answer, known_label } = reply else { return Ok(()) };
        strange += usize::from(!known_label);
        if globals.json {
            return output::json_line(&json!({
                "row": row,
                "source": source,
                "answer": answer,
                "known_label": known_label,
            }));
        }
        let text = usize::try_from(row).ok().and_then(|row| texts.get(row));
        table.row([answer.as_str(), text.map_or(source.as_str(), String::as_str)]);
        Ok(())
    })
    .await?;
    if !globals.json {
        output::data(&table.render())?;
        if strange > 0 {
            say(&format!(
                "{strange} of the answers are none of the task's labels ({})",
                printable(&def.classes().join(", "))
            ));
        }
    }
    Ok(Exit::Done)
}

fn texts(given: &[String]) -> Result<Vec<String>, Error> {
    let mut texts = Vec::new();
    for text in given {
        if text != "-" {
            texts.push(text.clone());
            continue;
        }
        if std::io::stdin().is_terminal() {
            say("reading texts, one per line, until Ctrl-D");
        }
        let mut input = String::new();
        std::io::stdin()
            .lock()
            .take(MAX_INPUT)
            .read_to_string(&mut input)
            .map_err(|source| Error::Read { path: "standard input".into(), source })?;
        texts.extend(input.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
    }
    if texts.is_empty() {
        return Err(Error::Usage {
            what: "no text is given".to_owned(),
            hint: "give texts as arguments, or one per line on standard input with '-'".to_owned(),
        });
    }
    Ok(texts)
}

/// A text as the task's fields.
fn row(text: &str, fields: &[&str]) -> Result<BTreeMap<String, String>, Error> {
    if text.trim_start().starts_with('{')
        && let Ok(row) = serde_json::from_str::<BTreeMap<String, String>>(text)
    {
        return Ok(row);
    }
    if let [field] = fields {
        return Ok(BTreeMap::from([((*field).to_owned(), text.to_owned())]));
    }
    let example: Vec<String> = fields.iter().map(|field| format!("\"{field}\": \"…\"")).collect();
    Err(Error::Usage {
        what: format!("the adapter's task reads {} texts: {}", fields.len(), fields.join(", ")),
        hint: format!("give a JSON object: '{{{}}}'", example.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_fills_one_field_and_an_object_fills_several() {
        assert_eq!(row("hello", &["text"]).unwrap()["text"], "hello");
        let pair = row(r#"{"premise": "a", "hypothesis": "b"}"#, &["premise", "hypothesis"]);
        assert_eq!(pair.unwrap()["hypothesis"], "b");
        let error = row("hello", &["premise", "hypothesis"]).unwrap_err();
        assert!(error.render(false).contains(r#"'{"premise": "…", "hypothesis": "…"}'"#));
    }
}
