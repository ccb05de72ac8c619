//! Rows of parquet files as JSON-like records.
//!
//! The `parquet` crate decodes pages; what a file claims about its sizes is checked before
//! (`check`), and rows are put together here (`tree`), because the crate's own row reader panics
//! where columns contradict each other.

mod check;
mod leaf;
mod thrift;
mod tree;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use parquet::basic::Compression;
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use serde_json::{Map, Value};

use self::check::Chunk;
use self::leaf::Leaf;
use self::tree::Tree;
use super::DataError;
use super::read::{Record, Sink};

/// Rows that are decoded at a time.
const BATCH: usize = 512;

/// Reads the rows of a parquet file, numbered from 1. Of the top columns that are not `wanted`
/// only the names are read.
///
/// # Errors
/// In words, when the file cannot be read on; the rows before that place were handed on.
pub(super) fn read(
    bytes: &[u8],
    wanted: &BTreeSet<&str>,
    sink: &mut Sink<'_>,
) -> Result<(), String> {
    check::file(bytes)?;
    let owned = Bytes::copy_from_slice(bytes);
    let file = guarded(|| SerializedFileReader::new(owned))?;
    let columns = columns(&file, wanted);
    let (mut number, mut content) = (0, 0);
    for group in 0..file.num_row_groups() {
        let group = guarded(|| file.get_row_group(group))?;
        let (mut readers, mut leaves) = open(bytes, &*group, &columns)?;
        let mut left = usize::try_from(group.metadata().num_rows())
            .map_err(|_| "a part of it has a negative number of rows".to_owned())?;
        while left > 0 {
            let batch = left.min(BATCH);
            for (leaf, reader) in leaves.iter_mut().zip(&mut readers) {
                let Some(reader) = reader else { continue };
                if guarded(|| leaf.fill(reader, batch))? != batch {
                    return Err(tree::torn());
                }
            }
            for _ in 0..batch {
                number += 1;
                let row = take(&columns, &mut leaves)?;
                let size = row.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>();
                content += size as u64;
                if content > DataError::MAX_FILE {
                    let most = DataError::MAX_FILE;
                    return Err(format!("its rows have more than {most} bytes; split it"));
                }
                let row = if size > DataError::MAX_LINE {
                    let most = DataError::MAX_LINE;
                    Err(format!("the row has {size} bytes; at most {most} are read"))
                } else {
                    Ok(Record::Object(row))
                };
                if sink(number, row).is_break() {
                    return Ok(());
                }
            }
            left -= batch;
        }
    }
    Ok(())
}

/// The top columns by name, with their trees where they are wanted.
type Columns = Vec<(String, Tree, bool)>;

fn columns(file: &SerializedFileReader<Bytes>, wanted: &BTreeSet<&str>) -> Columns {
    let mut leaf = 0;
    let column = |column: &parquet::schema::types::TypePtr| {
        let tree = Tree::new(column, leaf);
        leaf = tree.end();
        (column.name().to_owned(), tree, wanted.contains(column.name()))
    };
    file.metadata().file_metadata().schema().get_fields().iter().map(column).collect()
}

/// Readers for the leaves of the wanted columns, none for the others.
fn open(
    bytes: &[u8],
    group: &dyn RowGroupReader,
    columns: &Columns,
) -> Result<(Vec<Option<ColumnReader>>, Vec<Leaf>), String> {
    let (mut readers, mut leaves) = (Vec::new(), Vec::new());
    let metadata = group.metadata();
    for (name, tree, wanted) in columns {
        for index in tree.start()..tree.end() {
            let Some(column) = metadata.columns().get(index) else { return Err(tree::torn()) };
            let description = column.column_descr();
            let (deepest, repeats) = (description.max_def_level(), description.max_rep_level() > 0);
            leaves.push(Leaf::new(deepest, repeats));
            if !wanted {
                readers.push(None);
                continue;
            }
            let codec = column.compression();
            if !matches!(
                codec,
                Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_)
            ) {
                return Err(format!(
                    "column '{name}' is compressed with {codec}; write it with snappy or zstd"
                ));
            }
            let start = match column.dictionary_page_offset() {
                Some(offset) if offset < column.data_page_offset() => offset,
                _ => column.data_page_offset(),
            };
            let chunk = Chunk { start, length: column.compressed_size() };
            check::pages(bytes, chunk).map_err(|problem| format!("column '{name}': {problem}"))?;
            readers.push(Some(guarded(|| group.get_column_reader(index))?));
        }
    }
    Ok((readers, leaves))
}

/// The next row. Columns that are not wanted are null.
fn take(columns: &Columns, leaves: &mut [Leaf]) -> Result<Map<String, Value>, String> {
    let cell = |(name, tree, wanted): &(String, Tree, bool)| {
        let value = if *wanted { tree.take(leaves)? } else { Value::Null };
        Ok((name.clone(), value))
    };
    columns.iter().map(cell).collect()
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(|item| 8 + size(item)).sum(),
        Value::Object(object) => object.iter().map(|(key, value)| key.len() + size(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}

/// Runs a part of the library that may panic on a damaged file.
fn guarded<T>(work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("its content contradicts itself".to_owned()),
    }
}

#[cfg(test)]
mod tests;
