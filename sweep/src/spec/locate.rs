//! Where a key stands, for problems that show only outside the spec: a missing file, a wrong
//! column.

use super::diagnostic::{Diagnostic, Position};
use super::document::{self, Entry, Value};
use super::reader::{Report, Section};
use super::{Format, MAX_SPEC_BYTES, parse, task};
use crate::id::reads_as_number;
use crate::task::{Recipe, TaskSpec};

/// The position of the key at `path` (as in `task.columns.text`), or of the nearest key above it
/// when it is not there; `None` when nothing of it is, or the text cannot be read.
#[must_use]
pub fn locate(text: &str, format: Format, path: &str) -> Option<Position> {
    let entries = read(text, format)?;
    offset(&entries, path).map(|at| Position::of(text, at))
}

/// The value of `model.path`, for callers that must read the model's configuration before they
/// can parse the spec.
#[must_use]
pub fn model_path(text: &str, format: Format) -> Option<String> {
    model_key(text, format, "path")
}

/// The value of `model.revision`, for the same callers.
#[must_use]
pub fn model_revision(text: &str, format: Format) -> Option<String> {
    model_key(text, format, "revision")
}

fn model_key(text: &str, format: Format, key: &str) -> Option<String> {
    let entries = read(text, format)?;
    let Value::Table(model) = &entries.iter().find(|entry| entry.key == "model")?.node.value else {
        return None;
    };
    match &model.iter().find(|entry| entry.key == key)?.node.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

/// The `[task]` section and the recipe, so that the data can be checked although other parts of
/// the spec are wrong; `None` when the section itself cannot be understood.
#[must_use]
pub fn task_section(text: &str, format: Format) -> Option<(TaskSpec, Recipe)> {
    let entries = read(text, format)?;
    let top = Section { path: "", at: 0, entries: &entries, known: &[] };
    // Whatever is wrong is reported by the spec's own reading.
    let mut ignored = Report::new(text);
    let recipe = parse::read_recipe(top, &mut ignored)?;
    let (task, resolved) =
        task::read(top.table("task", task::KEYS, &mut ignored)?, recipe, &mut ignored);
    resolved.and(task).map(|task| (task, recipe))
}

/// A name that no new sweep gets, although stored sweeps may have it: one that reads as a number
/// would be taken for the sweep or the trial of that number.
#[must_use]
pub fn name_problem(text: &str, format: Format, name: &str) -> Option<Diagnostic> {
    if !reads_as_number(name) {
        return None;
    }
    let message = format!("'{name}' reads as the number of a sweep or a trial");
    let hint = "give it a name with a letter, as in 'run-7'".to_owned();
    Some(Diagnostic::at(text, format, "name", message, Some(hint)))
}

impl Diagnostic {
    /// A problem with the key at `path` that was found outside the spec.
    #[must_use]
    pub fn at(
        text: &str,
        format: Format,
        path: &str,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Diagnostic {
        let position = locate(text, format, path);
        Diagnostic { path: path.to_owned(), position, message: message.into(), hint }
    }
}

fn read(text: &str, format: Format) -> Option<Vec<Entry>> {
    if text.len() > MAX_SPEC_BYTES {
        return None;
    }
    document::read(text, format).ok()
}

/// The byte offset of the key at `path` below `entries`, or of the nearest key above it.
pub(super) fn offset(entries: &[Entry], path: &str) -> Option<usize> {
    let mut found = None;
    let mut entries = entries;
    let mut rest = path;
    while !rest.is_empty() {
        // Keys may hold points themselves (column names do), so the longest match wins.
        let fits = |entry: &&Entry| {
            rest.strip_prefix(entry.key.as_str())
                .is_some_and(|after| after.is_empty() || after.starts_with('.'))
        };
        let Some(entry) = entries.iter().filter(fits).max_by_key(|entry| entry.key.len()) else {
            break;
        };
        found = Some(entry.at);
        let Value::Table(below) = &entry.node.value else { break };
        entries = below;
        rest = rest.get(entry.key.len() + 1..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[model]\npath = 'm'\n[task]\nname = 'x'\ncolumns = { a = 'b', c = 'd' }\n";

    #[test]
    fn keys_are_found_at_any_depth() {
        let line = |path| locate(TEXT, Format::Toml, path).map(|p| (p.line, p.column));
        assert_eq!(line("model.path"), Some((2, 1)));
        assert_eq!(line("task.columns.c"), Some((5, 22)));
        assert_eq!(line("task.template"), Some((3, 2)));
        assert_eq!(line("other"), None);
    }

    #[test]
    fn the_models_path_is_known_before_the_rest() {
        assert_eq!(model_path(TEXT, Format::Toml).as_deref(), Some("m"));
        assert_eq!(model_path("{\"model\": {\"path\": 3}}", Format::Json), None);
        assert_eq!(model_path("not = [toml", Format::Toml), None);
    }
}
