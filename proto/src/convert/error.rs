//! Why a message was refused.

/// A field of a message that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// Path of the field from the top of the message, as in `reports[3].lease.trial`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It must be there.
    #[error("is missing")]
    Missing,
    /// No UUID.
    #[error("is no UUID (expected e.g. 6f1c1f0a-6f0e-4c5e-9a51-0d8f3c0a7b11)")]
    NoUuid,
    /// No artifact hash.
    #[error("is no blake3 hash (expected 64 lower-case hexadecimal digits)")]
    NoHash,
    /// None of the accepted words or numbers.
    #[error("has the unknown value '{found}' (expected {expected})")]
    Unknown {
        /// What was sent, shortened.
        found: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// More bytes than are accepted.
    #[error("has {found} bytes, at most {limit} are accepted")]
    TooLong {
        /// Bytes sent.
        found: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// More entries than are accepted.
    #[error("has {found} entries, at most {limit} are accepted")]
    TooMany {
        /// Entries sent.
        found: usize,
        /// Entries accepted.
        limit: usize,
    },
    /// A number outside its range.
    #[error("is {found}, expected {expected}")]
    OutOfRange {
        /// What was sent.
        found: String,
        /// The range.
        expected: &'static str,
    },
    /// A name with a path separator or a control character.
    #[error("holds a character that is not accepted: {0:?}")]
    Character(char),
    /// JSON that does not describe what it should.
    #[error("is not the expected JSON: {0}")]
    Json(String),
}

impl InvalidField {
    /// A problem with `field`.
    #[must_use]
    pub fn new(field: impl Into<String>, problem: Problem) -> InvalidField {
        InvalidField { field: field.into(), problem }
    }

    /// The same problem, seen from the message that holds this one under `parent`.
    #[must_use]
    pub fn within(self, parent: &str) -> InvalidField {
        InvalidField { field: format!("{parent}.{}", self.field), problem: self.problem }
    }
}
