//! Reading one field.

use std::str::FromStr;

use deptune_sweep::id::{ArtifactHash, RequestId, WorkerId};
use uuid::Uuid;

use super::error::{InvalidField, Problem};

/// Longest name, in bytes.
pub const MAX_NAME: usize = 256;
/// Longest path, in bytes.
pub const MAX_PATH: usize = 4096;
/// Longest message for people, in bytes. A longer one is cut, not refused: it is the evidence of
/// a failure.
pub const MAX_MESSAGE: usize = 16 << 10;

/// A field that must be there.
pub(super) fn required<T>(value: Option<T>, field: &str) -> Result<T, InvalidField> {
    value.ok_or_else(|| InvalidField::new(field, Problem::Missing))
}

/// Reads the nested message `value`, naming its problems from the outside.
pub(super) fn nested<W, T>(value: Option<W>, field: &str) -> Result<T, InvalidField>
where
    T: TryFrom<W, Error = InvalidField>,
{
    T::try_from(required(value, field)?).map_err(|e| e.within(field))
}

/// Reads every entry of a repeated field.
pub(super) fn list<W, T>(values: Vec<W>, field: &str, limit: usize) -> Result<Vec<T>, InvalidField>
where
    T: TryFrom<W, Error = InvalidField>,
{
    at_most(values.len(), field, limit)?;
    let read = |(at, value)| {
        T::try_from(value).map_err(|e: InvalidField| e.within(&format!("{field}[{at}]")))
    };
    values.into_iter().enumerate().map(read).collect()
}

pub(super) fn at_most(found: usize, field: &str, limit: usize) -> Result<(), InvalidField> {
    if found > limit {
        return Err(InvalidField::new(field, Problem::TooMany { found, limit }));
    }
    Ok(())
}

/// A text of at most `limit` bytes.
pub(super) fn text(value: String, field: &str, limit: usize) -> Result<String, InvalidField> {
    let found = value.len();
    if found > limit {
        return Err(InvalidField::new(field, Problem::TooLong { found, limit }));
    }
    Ok(value)
}

/// A name: not empty, no control characters, at most [`MAX_NAME`] bytes.
pub(super) fn name(value: String, field: &str) -> Result<String, InvalidField> {
    if value.is_empty() {
        return Err(InvalidField::new(field, Problem::Missing));
    }
    if let Some(found) = value.chars().find(|c| c.is_control()) {
        return Err(InvalidField::new(field, Problem::Character(found)));
    }
    text(value, field, MAX_NAME)
}

/// The name of a file within one directory: a [`name`] that leads nowhere else.
pub(super) fn file_name(value: String, field: &str) -> Result<String, InvalidField> {
    let value = name(value, field)?;
    if let Some(found) = value.chars().find(|c| matches!(c, '/' | '\\')) {
        return Err(InvalidField::new(field, Problem::Character(found)));
    }
    if value == "." || value == ".." {
        return Err(InvalidField::new(field, Problem::Character('.')));
    }
    Ok(value)
}

/// A message for people, cut to [`MAX_MESSAGE`] bytes.
pub(super) fn message(mut value: String) -> String {
    if value.len() > MAX_MESSAGE {
        let mut end = MAX_MESSAGE;
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        value.truncate(end);
        value.push('…');
    }
    value
}

/// One of a few words.
pub(super) fn word<T: FromStr>(
    value: &str,
    field: &str,
    expected: &'static str,
) -> Result<T, InvalidField> {
    value.parse().map_err(|_| unknown(value, field, expected))
}

/// Refuses a value that is none of the `expected`.
pub(super) fn unknown(value: &str, field: &str, expected: &'static str) -> InvalidField {
    let found = value.chars().take(64).collect();
    InvalidField::new(field, Problem::Unknown { found, expected })
}

/// `train`, `validation` or `test`.
pub(super) fn split(value: String, field: &str) -> Result<String, InvalidField> {
    match value.as_str() {
        "train" | "validation" | "test" => Ok(value),
        _ => Err(unknown(&value, field, "train, validation or test")),
    }
}

/// A rate or a duration: finite and not negative.
pub(super) fn amount(value: f64, field: &str) -> Result<f64, InvalidField> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    let expected = "a finite number, 0 or more";
    Err(InvalidField::new(field, Problem::OutOfRange { found: value.to_string(), expected }))
}

/// A part of a whole.
pub(super) fn fraction(value: f64, field: &str) -> Result<f64, InvalidField> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    let expected = "0 to 1";
    Err(InvalidField::new(field, Problem::OutOfRange { found: value.to_string(), expected }))
}

/// What a device draws, in watts; SQL can add up many of them.
pub(super) fn watts(value: f64, field: &str) -> Result<f64, InvalidField> {
    if (0.0..=1e6).contains(&value) {
        return Ok(value);
    }
    let expected = "0 to 1000000 watts";
    Err(InvalidField::new(field, Problem::OutOfRange { found: value.to_string(), expected }))
}

/// A count that fits SQL's signed 64-bit integers.
pub(super) fn count(value: u64, field: &str) -> Result<u64, InvalidField> {
    if i64::try_from(value).is_ok() {
        return Ok(value);
    }
    let expected = "0 to 9223372036854775807";
    Err(InvalidField::new(field, Problem::OutOfRange { found: value.to_string(), expected }))
}

fn uuid(value: &str, field: &str) -> Result<Uuid, InvalidField> {
    if value.is_empty() {
        return Err(InvalidField::new(field, Problem::Missing));
    }
    match Uuid::try_parse(value) {
        Ok(uuid) if !uuid.is_nil() => Ok(uuid),
        _ => Err(InvalidField::new(field, Problem::NoUuid)),
    }
}

/// A request id: a UUID other than nil.
///
/// # Errors
/// When it is none.
pub fn request_id(value: &str, field: &str) -> Result<RequestId, InvalidField> {
    uuid(value, field).map(RequestId)
}

/// A worker id: a UUID other than nil.
///
/// # Errors
/// When it is none.
pub fn worker_id(value: &str, field: &str) -> Result<WorkerId, InvalidField> {
    uuid(value, field).map(WorkerId)
}

/// An artifact hash: 64 lower-case hexadecimal digits.
///
/// # Errors
/// When it is none.
pub fn hash(value: &str, field: &str) -> Result<ArtifactHash, InvalidField> {
    if value.is_empty() {
        return Err(InvalidField::new(field, Problem::Missing));
    }
    value.parse().map_err(|_| InvalidField::new(field, Problem::NoHash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nil_uuid_and_half_a_uuid_are_refused() {
        assert!(request_id("6f1c1f0a-6f0e-4c5e-9a51-0d8f3c0a7b11", "request_id").is_ok());
        for wrong in ["6f1c1f0a", "00000000-0000-0000-0000-000000000000", "{}"] {
            let error = request_id(wrong, "request_id").unwrap_err();
            assert_eq!(error, InvalidField::new("request_id", Problem::NoUuid));
        }
        assert_eq!(request_id("", "request_id").unwrap_err().problem, Problem::Missing);
    }

    #[test]
    fn a_file_name_leads_nowhere_else() {
        assert!(file_name("model.safetensors".to_owned(), "name").is_ok());
        for wrong in ["..", "a/b", "a\\b", "", "a\nb"] {
            assert!(file_name(wrong.to_owned(), "name").is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let cut = message("é".repeat(MAX_MESSAGE));
        assert!(cut.len() <= MAX_MESSAGE + '…'.len_utf8());
        assert!(cut.ends_with('…'));
    }
}
