//! Records from the bytes of a file, whatever its format.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{DataError, Format, SourceFile};

/// One row of a file.
#[derive(Debug, Clone)]
pub(super) enum Record {
    /// A line of jsonl.
    Object(Map<String, Value>),
    /// A line of tsv or csv: column names and cells, equally many.
    Cells(Arc<[String]>, Vec<String>),
}

/// What a column of a row holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    /// There is no such column.
    Absent,
    /// A text, or a number or truth value as it is written.
    Text(String),
    /// A list of such texts.
    List(Vec<String>),
    /// Something that has no text: null, a list of lists, an object.
    Other(&'static str),
}

impl Record {
    /// The cell of a column; in an object, `a.b` also names the member `b` of the object `a`,
    /// `a.0` the first item of the list `a`, and `a.b` the members `b` of a list's objects.
    pub(super) fn get(&self, column: &str) -> Cell {
        match self {
            Self::Cells(columns, cells) => columns
                .iter()
                .position(|name| name == column)
                .and_then(|index| cells.get(index))
                .map_or(Cell::Absent, |cell| Cell::Text(cell.clone())),
            Self::Object(object) => member(object, column).map_or(Cell::Absent, |v| cell_of(&v)),
        }
    }

    /// The value of an object's column that is no text.
    pub(super) fn value(&self, column: &str) -> Option<&Value> {
        match self {
            Self::Cells(..) => None,
            Self::Object(object) => object.get(column),
        }
    }

    /// Names of the columns, those of an object sorted, with its objects' members as `a.b`.
    pub(super) fn columns(&self) -> Vec<String> {
        match self {
            Self::Cells(columns, _) => columns.to_vec(),
            Self::Object(object) => {
                let mut names: Vec<String> = object
                    .iter()
                    .flat_map(|(name, value)| match value {
                        Value::Object(inner) => {
                            inner.keys().map(|key| format!("{name}.{key}")).collect()
                        }
                        _ => vec![name.clone()],
                    })
                    .collect();
                // Whether an object keeps the order of its file depends on how serde_json is built.
                names.sort_unstable();
                names
            }
        }
    }
}

fn member<'a>(object: &'a Map<String, Value>, path: &str) -> Option<Cow<'a, Value>> {
    if let Some(value) = object.get(path) {
        return Some(Cow::Borrowed(value));
    }
    let (outer, inner) = path.split_once('.')?;
    within(object.get(outer)?, inner)
}

/// What a path names within a value.
fn within<'a>(value: &'a Value, path: &str) -> Option<Cow<'a, Value>> {
    match value {
        Value::Object(object) => member(object, path),
        Value::Array(items) => {
            let (first, rest) = path.split_once('.').map_or((path, None), |(a, b)| (a, Some(b)));
            if let Ok(index) = first.parse::<usize>() {
                let item = items.get(index)?;
                return rest.map_or(Some(Cow::Borrowed(item)), |rest| within(item, rest));
            }
            let members = items.iter().map(|item| within(item, path).map(Cow::into_owned));
            members.collect::<Option<Vec<Value>>>().map(|list| Cow::Owned(Value::Array(list)))
        }
        _ => None,
    }
}

fn cell_of(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::Other("null"),
        Value::Object(_) => Cell::Other("an object"),
        Value::Array(items) => {
            let texts = items.iter().map(text_of).collect::<Option<Vec<String>>>();
            texts.map_or(Cell::Other("a list of lists or objects"), Cell::List)
        }
        scalar => text_of(scalar).map_or(Cell::Absent, Cell::Text),
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// How the first line of a table is understood.
#[derive(Clone, Copy)]
pub(super) struct TableLayout<'a> {
    /// Whether it holds column names; `None`: if `is_header` recognises it.
    pub(super) header: Option<bool>,
    /// Column names where it does not; empty: 1, 2, 3, ….
    pub(super) headerless: &'a [String],
    /// Recognises a line of column names.
    pub(super) is_header: &'a dyn Fn(&[String]) -> bool,
    /// Whether rows with fewer columns than the others are left out.
    pub(super) ragged: bool,
}

/// Receives each line's number (from 1) and its record or what is wrong with it.
pub(super) type Sink<'s> = dyn FnMut(u64, Result<Record, String>) -> ControlFlow<()> + 's;

/// The format of a file by its spec, its name or its first line.
///
/// # Errors
/// When none of them tells.
pub(super) fn format_of(file: &SourceFile<'_>, asked: Format) -> Result<Format, DataError> {
    if asked != Format::Auto {
        return Ok(asked);
    }
    let ending = file.name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref() {
        Some("jsonl" | "ndjson" | "json") => Ok(Format::Jsonl),
        Some("tsv") => Ok(Format::Tsv),
        Some("csv") => Ok(Format::Csv),
        Some("parquet" | "pq") => Ok(Format::Parquet),
        _ if file.bytes.starts_with(b"PAR1") => Ok(Format::Parquet),
        _ => {
            let first = file.bytes.split(|b| *b == b'\n').next().unwrap_or_default();
            if first.trim_ascii_start().starts_with(b"{") {
                Ok(Format::Jsonl)
            } else if first.contains(&b'\t') {
                Ok(Format::Tsv)
            } else {
                Err(DataError::UnknownFormat { file: file.name.to_owned() })
            }
        }
    }
}

/// Reads jsonl; blank lines are skipped.
pub(super) fn jsonl(text: &str, sink: &mut Sink<'_>) {
    for (number, line) in lines(text) {
        let record = checked(line).and_then(|line| {
            if line.starts_with('[') {
                return Err("a JSON list; write one object per line".to_owned());
            }
            serde_json::from_str(line).map(Record::Object).map_err(|error| {
                let whole = error.to_string();
                let what = whole.split(" at line ").next().unwrap_or_default();
                format!("no JSON object, at column {}: {what}", error.column())
            })
        });
        if sink(number, record).is_break() {
            return;
        }
    }
}

/// Reads tab-separated lines, in which quotation marks mean nothing; blank lines are skipped.
/// `extra` adds a last column, given the line's number.
pub(super) fn tsv(
    text: &str,
    layout: TableLayout<'_>,
    extra: &dyn Fn(u64) -> Option<Result<String, String>>,
    sink: &mut Sink<'_>,
) {
    let mut table = Table::new(layout);
    for (number, line) in lines(text) {
        let cells = checked(line).and_then(|line| {
            let mut cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
            if let Some(cell) = extra(number) {
                cells.push(cell?);
            }
            Ok(cells)
        });
        if table.row(number, cells, sink).is_break() {
            return;
        }
    }
}

/// Reads comma-separated records by RFC 4180; a record's number is that of its first line.
pub(super) fn csv(text: &str, layout: TableLayout<'_>, sink: &mut Sink<'_>) {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut table = Table::new(layout);
    let mut record = csv::StringRecord::new();
    loop {
        let (number, cells) = match reader.read_record(&mut record) {
            Ok(false) => return,
            Ok(true) => {
                let number = record.position().map_or(0, csv::Position::line);
                let cells = checked(record.as_slice())
                    .map(|_| record.iter().map(str::to_owned).collect::<Vec<_>>());
                (number, cells)
            }
            Err(error) => {
                let number = error.position().map_or(0, csv::Position::line);
                (number, Err(format!("no csv record: {error}")))
            }
        };
        if table.row(number, cells, sink).is_break() {
            return;
        }
    }
}

/// Lines that are not blank, with their numbers from 1 and without their ends.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (u64, &str)> {
    (1..)
        .zip(text.split('\n'))
        .map(|(number, line)| (number, line.strip_suffix('\r').unwrap_or(line)))
        .filter(|(_, line)| !line.trim().is_empty())
}

fn checked(line: &str) -> Result<&str, String> {
    if line.len() > DataError::MAX_LINE {
        return Err(format!(
            "the row has {} bytes; at most {} are read",
            line.len(),
            DataError::MAX_LINE
        ));
    }
    Ok(line)
}

/// The columns of a table, known once its first line was seen.
struct Table<'a> {
    layout: TableLayout<'a>,
    columns: Option<Arc<[String]>>,
}

impl<'a> Table<'a> {
    fn new(layout: TableLayout<'a>) -> Self {
        Self { layout, columns: None }
    }

    fn row(
        &mut self,
        number: u64,
        cells: Result<Vec<String>, String>,
        sink: &mut Sink<'_>,
    ) -> ControlFlow<()> {
        let cells = match cells {
            Ok(cells) => cells,
            Err(problem) => return sink(number, Err(problem)),
        };
        let columns = match &self.columns {
            Some(columns) => Arc::clone(columns),
            None => {
                let layout = &self.layout;
                if layout
                    .header
                    .unwrap_or_else(|| layout.headerless.is_empty() || (layout.is_header)(&cells))
                {
                    self.columns = Some(cells.into_iter().map(|name| clean(&name)).collect());
                    return ControlFlow::Continue(());
                }
                let columns: Arc<[String]> = if layout.headerless.is_empty() {
                    (1..=cells.len()).map(|number| number.to_string()).collect()
                } else {
                    layout.headerless.into()
                };
                self.columns = Some(Arc::clone(&columns));
                columns
            }
        };
        if cells.len() < columns.len() && self.layout.ragged {
            return ControlFlow::Continue(());
        }
        if cells.len() != columns.len() {
            let (has, wants) = (cells.len(), columns.len());
            let problem = format!("{has} columns where the file has {wants}");
            return sink(number, Err(problem));
        }
        sink(number, Ok(Record::Cells(columns, cells)))
    }
}

/// A column name without the spaces and quotation marks around it.
pub(super) fn clean(name: &str) -> String {
    name.trim().trim_matches('"').to_owned()
}
