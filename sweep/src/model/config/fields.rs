//! Reading the fields of a `config.json` one by one.

use serde_json::{Map, Value};

use super::ModelError;

/// Largest vocabulary that is accepted.
pub(super) const MAX_VOCAB: u32 = 10_000_000;

/// An object whose fields are read one by one, `null` counting as missing.
pub(super) struct Fields<'a> {
    pub(super) file: &'a str,
    /// Whose file it is, for messages: "a T5".
    pub(super) owner: &'static str,
    pub(super) map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn missing(&self, field: &'static str) -> ModelError {
        ModelError::Missing { file: self.file.to_owned(), owner: self.owner, field }
    }

    pub(super) fn wrong(&self, field: &'static str, expected: String, found: &Value) -> ModelError {
        let found = found.to_string().chars().take(60).collect();
        ModelError::Wrong { file: self.file.to_owned(), field, expected, found }
    }

    /// A whole number in `least..=most`.
    pub(super) fn whole(
        &self,
        field: &'static str,
        default: Option<u32>,
        least: u32,
        most: u32,
    ) -> Result<u32, ModelError> {
        let Some(value) = self.get(field) else {
            return default.ok_or_else(|| self.missing(field));
        };
        value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| {
                self.wrong(field, format!("a whole number from {least} to {most}"), value)
            })
    }

    /// A number in `least..most`.
    pub(super) fn real(
        &self,
        field: &'static str,
        default: f64,
        least: f64,
        most: f64,
    ) -> Result<f64, ModelError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        value.as_f64().filter(|x| (least..most).contains(x)).ok_or_else(|| {
            let least = match least {
                0.0 => "at least 0".to_owned(),
                least if least < 1.0 => "more than 0".to_owned(),
                least => format!("at least {least}"),
            };
            self.wrong(field, format!("a number, {least} and less than {most}"), value)
        })
    }

    /// The token that ends a text: one id, or the first of a list.
    pub(super) fn end_token(&self, default: u32) -> Result<u32, ModelError> {
        let field = "eos_token_id";
        let first = self.get(field).and_then(Value::as_array).map(|ids| ids.first());
        match first {
            None => self.whole(field, Some(default), 0, MAX_VOCAB - 1),
            Some(id) => id
                .and_then(Value::as_u64)
                .and_then(|id| u32::try_from(id).ok())
                .filter(|id| *id < MAX_VOCAB)
                .ok_or_else(|| {
                    let found = self.get(field).unwrap_or(&Value::Null);
                    self.wrong(field, "a token id or a list of them".to_owned(), found)
                }),
        }
    }

    /// The padding token of a decoder, which may be missing; some files say so by -1.
    pub(super) fn padding(&self) -> Result<Option<u32>, ModelError> {
        let field = "pad_token_id";
        match self.get(field) {
            None => Ok(None),
            Some(value) if value.as_i64() == Some(-1) => Ok(None),
            Some(_) => self.whole(field, None, 0, MAX_VOCAB - 1).map(Some),
        }
    }

    /// A field whose other values ask for something that is not built.
    pub(super) fn must_be(&self, field: &'static str, only: bool) -> Result<(), ModelError> {
        let found = self.flag(field, only)?;
        if found == only {
            return Ok(());
        }
        Err(self.unsupported(field, found.to_string(), only.to_string()))
    }

    pub(super) fn unsupported(
        &self,
        field: &'static str,
        found: String,
        supported: String,
    ) -> ModelError {
        ModelError::Unsupported { file: self.file.to_owned(), field, found, supported }
    }

    pub(super) fn flag(&self, field: &'static str, default: bool) -> Result<bool, ModelError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(field, "true or false".to_owned(), value))
    }

    /// One of the `supported` words.
    pub(super) fn choice<'s>(
        &self,
        field: &'static str,
        default: Option<&'s str>,
        supported: &[&'s str],
    ) -> Result<&'s str, ModelError> {
        let Some(value) = self.get(field) else {
            return default.ok_or_else(|| self.missing(field));
        };
        let Some(word) = value.as_str() else {
            return Err(self.wrong(field, "a string".to_owned(), value));
        };
        supported.iter().find(|known| **known == word).copied().ok_or_else(|| {
            self.unsupported(field, word.chars().take(60).collect(), supported.join(", "))
        })
    }
}
