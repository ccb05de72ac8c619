//! From the files of one split to examples, or to the list of what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::error::BadRow;
use super::read::{self, Cell, Record, TableLayout};
use super::row;
use super::shape::Shape;
use super::suggest::suggest;
use super::{DataError, Example, Format, RowId, SourceFile, Split, TaskDef};
use super::{nested, parquet};

/// Reads the files of one split, in order.
///
/// Every row must have all texts of the task and a label; blank lines are skipped. Texts are taken
/// as they are, spaces included; labels are trimmed. A test part of a hub's dataset that has no
/// labels gives no rows.
///
/// # Errors
/// Bad rows of all files together, or the first file that cannot be read as rows of this task at
/// all (a missing column, no labels, no rows).
pub fn parse_rows(
    def: &TaskDef,
    split: Split,
    files: &[SourceFile<'_>],
) -> Result<Vec<Example>, DataError> {
    if files.is_empty() {
        return Err(DataError::EmptySplit { split });
    }
    let mut bad = BadRowList::default();
    let mut examples = Vec::new();
    let golds = gold_files(def, files)?;
    for (index, file) in (0u32..).zip(files) {
        if golds.values().any(|gold| *gold == file.name) {
            continue;
        }
        let gold = golds.get(file.name).and_then(|name| files.iter().find(|f| f.name == *name));
        let mut reader = FileReader {
            def,
            split,
            file,
            index,
            bad: &mut bad,
            examples: &mut examples,
            rows: 0,
            last_line: 0,
            labels: 0,
            columns: None,
            fatal: None,
        };
        match reader.read(gold) {
            Err(DataError::Unlabelled { .. })
                if split == Split::Test && def.drops_unlabelled_test =>
            {
                return Ok(Vec::new());
            }
            read => read?,
        }
    }
    if bad.total > 0 {
        return Err(DataError::BadRows { rows: bad.rows, total: bad.total });
    }
    Ok(examples)
}

#[derive(Default)]
struct BadRowList {
    rows: Vec<BadRow>,
    total: u64,
}

impl BadRowList {
    fn push(&mut self, file: &str, line: u64, problem: String) {
        self.total += 1;
        if self.rows.len() < DataError::MAX_ROWS {
            self.rows.push(BadRow { file: file.to_owned(), line, problem });
        }
    }
}

/// Which `.gold.txt` file holds the labels of which `.data.txt` file.
fn gold_files<'a>(
    def: &TaskDef,
    files: &[SourceFile<'a>],
) -> Result<BTreeMap<&'a str, &'a str>, DataError> {
    let mut golds = BTreeMap::new();
    if def.shape != Shape::Wic {
        return Ok(golds);
    }
    for (ours, theirs, is_data) in
        [(".data.txt", ".gold.txt", true), (".gold.txt", ".data.txt", false)]
    {
        for file in files {
            let Some(stem) = file.name.strip_suffix(ours) else { continue };
            let partner = format!("{stem}{theirs}");
            match files.iter().find(|other| other.name == partner) {
                None => return Err(DataError::Unpaired { file: file.name.to_owned(), partner }),
                Some(other) if is_data => {
                    golds.insert(file.name, other.name);
                }
                Some(_) => {}
            }
        }
    }
    Ok(golds)
}

/// The name of a file of labels, and its lines.
type Gold<'a> = (&'a str, BTreeMap<u64, &'a str>);

/// Reads one file of a split.
struct FileReader<'r, 'f> {
    def: &'r TaskDef,
    split: Split,
    file: &'r SourceFile<'f>,
    index: u32,
    bad: &'r mut BadRowList,
    examples: &'r mut Vec<Example>,
    /// Lines seen that are not blank, good or bad.
    rows: u64,
    /// The last of them.
    last_line: u64,
    /// Rows that had a label.
    labels: u64,
    /// Columns of the first readable row.
    columns: Option<Vec<String>>,
    fatal: Option<DataError>,
}

impl FileReader<'_, '_> {
    fn read(&mut self, gold: Option<&SourceFile<'_>>) -> Result<(), DataError> {
        let bad_before = (self.bad.rows.len(), self.bad.total);
        let format =
            if gold.is_some() { Format::Tsv } else { read::format_of(self.file, self.def.format)? };
        let gold = if format == Format::Parquet {
            self.parquet()?;
            None
        } else {
            let Some(text) = self.text(self.file)? else { return Ok(()) };
            let gold = match gold {
                None => None,
                Some(gold) => match self.text(gold)? {
                    None => return Ok(()),
                    Some(text) => Some((gold.name, read::lines(text).collect())),
                },
            };
            self.table(text, format, gold.as_ref());
            gold
        };
        if let Some(error) = self.fatal.take() {
            return Err(error);
        }
        if self.rows == 0 {
            return Err(DataError::EmptyFile { file: self.file.name.to_owned() });
        }
        if let Some((name, labels)) = gold
            && let Some((line, _)) = labels.range(self.last_line + 1..).next()
        {
            let problem = format!("a label without its row in {}", self.file.name);
            self.bad.push(name, *line, problem);
        }
        if self.labels == 0
            && let Some(columns) = self.columns.take()
        {
            // One message for the file instead of one for each of its rows.
            self.bad.rows.truncate(bad_before.0);
            self.bad.total = bad_before.1;
            return Err(DataError::Unlabelled {
                file: self.file.name.to_owned(),
                split: self.split,
                wanted: self.def.label.clone(),
                columns,
            });
        }
        Ok(())
    }

    fn parquet(&mut self) -> Result<(), DataError> {
        let file = self.file;
        let bytes = file.bytes.len() as u64;
        if bytes > DataError::MAX_FILE {
            return Err(DataError::TooLarge { file: file.name.to_owned(), bytes });
        }
        let def = self.def;
        let wanted = top_columns(def);
        let mut sink = |number, record| self.record(number, record);
        parquet::read(file.bytes, &wanted, &mut sink)
            .map_err(|reason| DataError::Parquet { file: file.name.to_owned(), reason })
    }

    /// Reads lines; the labels of a `.data.txt` file come from its `.gold.txt` file.
    fn table(&mut self, text: &str, format: Format, gold: Option<&Gold<'_>>) {
        let def = self.def;
        let layout = TableLayout {
            header: if gold.is_some() { Some(false) } else { def.header },
            headerless: &def.headerless,
            is_header: &|names| is_header(def, names),
            ragged: def.ragged,
        };
        // The label of a row stands on the same line there.
        let extra = |line: u64| {
            let (name, labels) = gold?;
            let label = labels.get(&line).map(|label| label.trim().to_owned());
            Some(label.ok_or_else(|| format!("no label on line {line} of {name}")))
        };
        let mut sink = |line, record| self.record(line, record);
        match format {
            Format::Jsonl | Format::Auto | Format::Parquet => read::jsonl(text, &mut sink),
            Format::Tsv => read::tsv(text, layout, &extra, &mut sink),
            Format::Csv => read::csv(text, layout, &mut sink),
        }
    }

    /// The file's text without a byte order mark; `None` when it is no UTF-8 and noted as bad.
    fn text<'b>(&mut self, file: &SourceFile<'b>) -> Result<Option<&'b str>, DataError> {
        let bytes = file.bytes.len() as u64;
        if bytes > DataError::MAX_FILE {
            return Err(DataError::TooLarge { file: file.name.to_owned(), bytes });
        }
        match str::from_utf8(file.bytes) {
            Ok(text) => Ok(Some(text.strip_prefix('\u{feff}').unwrap_or(text))),
            Err(error) => {
                let before = file.bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.bad.push(file.name, line, "not UTF-8; save the file as UTF-8".to_owned());
                Ok(None)
            }
        }
    }

    fn record(&mut self, line: u64, record: Result<Record, String>) -> ControlFlow<()> {
        self.rows += 1;
        self.last_line = line;
        let expanded = record.and_then(|record| nested::expand(self.def.shape, record));
        let records = match expanded {
            Ok(records) => records,
            Err(problem) => {
                self.bad.push(self.file.name, line, problem);
                return ControlFlow::Continue(());
            }
        };
        for record in records {
            if self.columns.is_none() {
                self.columns = Some(record.columns());
                if let Some(error) = self.missing_column(&record) {
                    self.fatal = Some(error);
                    return ControlFlow::Break(());
                }
            }
            let id = RowId { split: self.split, file: self.index, line };
            match row::examples(self.def, id, &record) {
                Ok(examples) => {
                    self.labels += 1;
                    self.examples.extend(examples);
                }
                Err(problem) => {
                    self.labels += u64::from(problem.labelled);
                    self.bad.push(self.file.name, line, problem.what);
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// A column that the file's first row lacks, and so probably the whole file.
    fn missing_column(&self, record: &Record) -> Option<DataError> {
        let absent = |columns: &[String]| columns.iter().all(|c| record.get(c) == Cell::Absent);
        let field = self.def.fields.iter().find(|field| absent(&field.columns))?;
        let columns = record.columns();
        let suggestion = field
            .columns
            .iter()
            .find_map(|wanted| suggest(wanted, columns.iter().map(String::as_str)))
            .map(str::to_owned);
        let (file, wanted) = (self.file.name.to_owned(), field.columns.clone());
        Some(DataError::Column { file, wanted, columns, suggestion })
    }
}

/// The top columns of a nested file that the task may read.
fn top_columns(def: &TaskDef) -> BTreeSet<&str> {
    let columns = def.fields.iter().flat_map(|field| &field.columns).chain(&def.label);
    let mut names: BTreeSet<&str> = columns
        .flat_map(|column| [column.as_str(), column.split('.').next().unwrap_or_default()])
        .collect();
    // Forms that several rows come in.
    if def.shape != Shape::Plain {
        names.extend(["passage", "qas", "context", "answers"]);
    }
    names
}

/// Whether a line names all columns that the task reads texts from.
fn is_header(def: &TaskDef, names: &[String]) -> bool {
    let named = |column: &String| names.iter().any(|name| read::clean(name) == *column);
    def.fields.iter().all(|field| field.columns.iter().any(named))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
