//! Problems of data files as problems of the spec's lines.

use super::Format;
use super::diagnostic::Diagnostic;
use crate::task::{DataError, Split, TaskSpec};

/// A problem that showed when the task's files were read, at the key that names the file or the
/// column.
#[must_use]
pub fn data_problem(text: &str, format: Format, task: &TaskSpec, error: &DataError) -> Diagnostic {
    let path = match error {
        DataError::Column { wanted, file, .. } => {
            column_key(task, wanted).unwrap_or_else(|| file_key(task, file))
        }
        DataError::Unlabelled { wanted, split, .. } => {
            column_key(task, wanted).unwrap_or_else(|| split_key(*split))
        }
        DataError::BadRows { rows, .. } => match rows.first() {
            Some(row) => file_key(task, &row.file),
            None => "task".to_owned(),
        },
        DataError::EmptySplit { split } => split_key(*split),
        DataError::EmptyFile { file }
        | DataError::TooLarge { file, .. }
        | DataError::UnknownFormat { file }
        | DataError::Unpaired { file, .. } => file_key(task, file),
        DataError::TooFewRows { .. } | DataError::TooManyRows { .. } | DataError::NoTrain => {
            "task.train".to_owned()
        }
    };
    let whole = error.to_string();
    let (message, hint) = match whole.split_once("; ") {
        // Rows stand one after the other there, all of them the message.
        _ if matches!(error, DataError::BadRows { .. }) => (whole, None),
        Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
        None => (whole, None),
    };
    Diagnostic::at(text, format, &path, message, hint)
}

/// The key that asks for one of the columns `wanted`.
fn column_key(task: &TaskSpec, wanted: &[String]) -> Option<String> {
    let mapped = task.columns.iter().find(|(_, column)| wanted.contains(column));
    if let Some((field, _)) = mapped {
        return Some(format!("task.columns.{field}"));
    }
    if task.label.as_ref().is_some_and(|label| wanted.contains(label)) {
        return Some("task.label".to_owned());
    }
    let braced = |column: &String| format!("{{{column}}}");
    let template = task.template.as_ref()?;
    wanted
        .iter()
        .any(|column| template.contains(&braced(column)))
        .then(|| "task.template".to_owned())
}

fn file_key(task: &TaskSpec, file: &str) -> String {
    let lists = [("train", &task.train), ("validation", &task.validation), ("test", &task.test)];
    let named = lists.iter().find(|(_, files)| files.iter().any(|name| name == file));
    named.map_or_else(|| "task".to_owned(), |(key, _)| format!("task.{key}"))
}

fn split_key(split: Split) -> String {
    format!("task.{split}")
}
