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
        | DataError::Parquet { file, .. }
        | DataError::Unpaired { file, .. } => file_key(task, file),
        DataError::TooFewOfClass { .. } => "task.k_shot".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::task_section;
    use crate::task::BadRow;

    const TEXT: &str = r#"[task]
name = "mine"
train = "a.jsonl"
test = "c.jsonl"
template = "review: {text} {title}"
columns = { title = "head" }
label = "stars"
"#;

    fn column(name: &str) -> DataError {
        DataError::Column {
            file: "a.jsonl".to_owned(),
            wanted: vec![name.to_owned()],
            columns: vec!["txt".to_owned(), "star".to_owned()],
            suggestion: Some("txt".to_owned()),
        }
    }

    #[track_caller]
    fn expect(error: &DataError, expected: &str) {
        let (task, _) = task_section(TEXT, Format::Toml).unwrap();
        assert_eq!(data_problem(TEXT, Format::Toml, &task, error).render("s.toml"), expected);
    }

    #[test]
    fn a_wrong_column_stands_at_the_key_that_asks_for_it() {
        let hint = "\n  hint: columns are: txt, star; did you mean 'txt'?";
        expect(&column("head"), &format!("s.toml:6:13: column 'head' not found in a.jsonl{hint}"));
        expect(&column("text"), &format!("s.toml:5:1: column 'text' not found in a.jsonl{hint}"));
        expect(&column("stars"), &format!("s.toml:7:1: column 'stars' not found in a.jsonl{hint}"));
        expect(&column("other"), &format!("s.toml:3:1: column 'other' not found in a.jsonl{hint}"));
    }

    #[test]
    fn a_bad_file_stands_at_the_key_that_names_it() {
        expect(
            &DataError::EmptyFile { file: "c.jsonl".to_owned() },
            "s.toml:4:1: c.jsonl has no rows",
        );
        let row = BadRow { file: "c.jsonl".to_owned(), line: 7, problem: "no label".to_owned() };
        expect(
            &DataError::BadRows { rows: vec![row], total: 1 },
            "s.toml:4:1: 1 bad row: c.jsonl:7: no label",
        );
        expect(
            &DataError::EmptySplit { split: Split::Validation },
            "s.toml:1:2: the validation split is empty",
        );
    }
}
