//! One leaf column of a row group, a batch of rows at a time.

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use serde_json::{Number, Value};

use super::tree::torn;

/// Levels and values of a batch, and how many of them are taken.
#[derive(Debug)]
pub(super) struct Leaf {
    deepest: i16,
    repeats: bool,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
    /// Levels in the batch.
    levels: usize,
    values: Vec<Value>,
    level: usize,
    next: usize,
}

impl Leaf {
    /// A leaf before its first batch, with the definition level of a value that is there.
    pub(super) fn new(deepest: i16, repeats: bool) -> Self {
        let (definitions, repetitions, values) = (Vec::new(), Vec::new(), Vec::new());
        Self { deepest, repeats, definitions, repetitions, levels: 0, values, level: 0, next: 0 }
    }

    /// Reads the next rows, at most `rows`; how many there were.
    ///
    /// # Errors
    /// The library's.
    pub(super) fn fill(
        &mut self,
        reader: &mut ColumnReader,
        rows: usize,
    ) -> Result<usize, ParquetError> {
        self.definitions.clear();
        self.repetitions.clear();
        self.values.clear();
        (self.level, self.next) = (0, 0);
        match reader {
            ColumnReader::BoolColumnReader(reader) => self.read(reader, rows, |v| v.into()),
            ColumnReader::Int32ColumnReader(reader) => self.read(reader, rows, |v| v.into()),
            ColumnReader::Int64ColumnReader(reader) => self.read(reader, rows, |v| v.into()),
            ColumnReader::FloatColumnReader(reader) => {
                // The shortest text that gives this number in single precision.
                self.read(reader, rows, |v: f32| number(v.to_string().parse().unwrap_or(f64::NAN)))
            }
            ColumnReader::DoubleColumnReader(reader) => self.read(reader, rows, number),
            ColumnReader::ByteArrayColumnReader(reader) => {
                self.read(reader, rows, |bytes: ByteArray| match bytes.as_utf8() {
                    Ok(text) => text.into(),
                    Err(_) => Value::Null,
                })
            }
            // No text or number is written so.
            ColumnReader::Int96ColumnReader(reader) => self.read(reader, rows, |_| Value::Null),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                self.read(reader, rows, |_| Value::Null)
            }
        }
    }

    fn read<T: DataType>(
        &mut self,
        reader: &mut ColumnReaderImpl<T>,
        rows: usize,
        value: impl Fn(T::T) -> Value,
    ) -> Result<usize, ParquetError> {
        let mut values = Vec::new();
        let (records, _, levels) = reader.read_records(
            rows,
            Some(&mut self.definitions),
            Some(&mut self.repetitions),
            &mut values,
        )?;
        self.levels = levels;
        self.values.extend(values.into_iter().map(value));
        Ok(records)
    }

    /// The definition level of the next value.
    ///
    /// # Errors
    /// When the batch has no more.
    pub(super) fn definition(&self) -> Result<i16, String> {
        if self.level >= self.levels {
            return Err(torn());
        }
        if self.deepest == 0 {
            return Ok(0);
        }
        self.definitions.get(self.level).copied().ok_or_else(torn)
    }

    /// The repetition level of the next value; none where the batch has no more.
    pub(super) fn repetition(&self) -> Option<i16> {
        if self.level >= self.levels {
            return None;
        }
        if self.repeats { self.repetitions.get(self.level).copied() } else { Some(0) }
    }

    /// Takes the next value.
    ///
    /// # Errors
    /// When the batch has no more.
    pub(super) fn value(&mut self) -> Result<Value, String> {
        let there = self.definition()? == self.deepest;
        self.level += 1;
        if !there {
            return Ok(Value::Null);
        }
        let value = self.values.get_mut(self.next).map(Value::take).ok_or_else(torn)?;
        self.next += 1;
        Ok(value)
    }

    /// Passes over a value that is not there.
    ///
    /// # Errors
    /// When the batch has no more.
    pub(super) fn pass(&mut self) -> Result<(), String> {
        self.definition()?;
        self.level += 1;
        Ok(())
    }
}

fn number(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}
