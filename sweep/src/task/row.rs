//! From one record to its examples.

use super::label::TargetRule;
use super::pad::pad_punctuation;
use super::read::{Cell, Record};
use super::shape::Shape;
use super::{Example, Recipe, RowId, TaskDef, python};

/// Why a record is of no use.
pub(super) struct Problem {
    pub(super) what: String,
    /// Whether it has a label, be it a wrong one.
    pub(super) labelled: bool,
}

impl Problem {
    fn of(labelled: bool) -> impl Fn(String) -> Self {
        move |what| Self { what, labelled }
    }
}

/// The examples of a record: one; in the authors' `ReCoRD` one per answer; none where the
/// annotators could not decide.
pub(super) fn examples(
    def: &TaskDef,
    row: RowId,
    record: &Record,
) -> Result<Vec<Example>, Problem> {
    let labels = labels(def, record)?;
    let undecided = |label: &String| def.undecided.iter().any(|text| text == label.trim());
    let answers = if labels.iter().any(undecided) {
        if !def.keeps_undecided {
            return Ok(Vec::new());
        }
        labels
    } else {
        let answers: Result<Vec<String>, String> =
            labels.iter().map(|label| answer(def, label)).collect();
        answers.map_err(Problem::of(true))?
    };
    let texts = texts(def, record).map_err(Problem::of(true))?;
    let group = def.shape.group(&texts);
    let source = def.source_of(texts).map_err(Problem::of(true))?;
    let example = |answers: Vec<String>| {
        let target = answers.first().cloned().unwrap_or_default();
        Example { source: source.clone(), target, answers, group, row }
    };
    Ok(match (def.shape, def.recipe) {
        (Shape::Record, Recipe::Reference) => {
            answers.into_iter().map(|answer| example(vec![answer])).collect()
        }
        _ => vec![example(answers)],
    })
}

/// What the row holds as its label: one text, or where any text may be one, several.
fn labels(def: &TaskDef, record: &Record) -> Result<Vec<String>, Problem> {
    let none = || Problem::of(false)(format!("no label in column {}", quoted(&def.label)));
    let unfit = |kind| Problem::of(true)(format!("the label is {kind}, not a text"));
    if def.shape == (Shape::Qa { whole_answers: true }) && def.recipe == Recipe::Reference {
        // The authors' code reads the whole column, whatever it holds.
        if let Some(value) = record.value("answers") {
            return Ok(vec![python::text(value)]);
        }
    }
    let labels = match first_cell(record, &def.label) {
        Cell::Text(label) => vec![label],
        Cell::List(labels) if def.target == TargetRule::Free => labels,
        Cell::Absent | Cell::Other("null") => return Err(none()),
        Cell::List(_) => return Err(unfit("a list")),
        Cell::Other(kind) => return Err(unfit(kind)),
    };
    let labels: Vec<String> = labels.into_iter().filter(|label| !label.trim().is_empty()).collect();
    // Published test files without labels have this number in the column.
    let undecided = def.undecided.iter().any(|text| text == "-1");
    let hidden = |label: &String| label.trim() == "-1" && def.hides_labels() && !undecided;
    if labels.is_empty() || labels.iter().any(hidden) { Err(none()) } else { Ok(labels) }
}

/// The text of a right answer.
fn answer(def: &TaskDef, label: &str) -> Result<String, String> {
    match def.shape {
        Shape::Qa { .. } => Ok(pad_punctuation(label, def.recipe)),
        _ => def.target.target(label),
    }
}

fn texts(def: &TaskDef, record: &Record) -> Result<Vec<String>, String> {
    let text = |columns: &[String]| match first_cell(record, columns) {
        Cell::Text(text) => Ok(text),
        Cell::List(items) if def.shape == Shape::Record => Ok(items.join(", ")),
        Cell::List(_) => {
            let first = columns.first().map(String::as_str).unwrap_or_default();
            Err(format!(
                "column {} is a list, not a text; name one of its items, like '{first}.0'",
                quoted(columns)
            ))
        }
        Cell::Absent => Err(format!("no column {}", quoted(columns))),
        Cell::Other(kind) => Err(format!("column {} is {kind}, not a text", quoted(columns))),
    };
    def.fields.iter().map(|field| text(&field.columns)).collect()
}

fn first_cell(record: &Record, columns: &[String]) -> Cell {
    columns
        .iter()
        .map(|column| record.get(column))
        .find(|cell| *cell != Cell::Absent)
        .unwrap_or(Cell::Absent)
}

fn quoted(columns: &[String]) -> String {
    columns.iter().map(|column| format!("'{column}'")).collect::<Vec<_>>().join(" or ")
}
