//! What an error of a database means.

use sqlx::Error;
use sqlx::postgres::PgDatabaseError;

use crate::store::CommitError;

/// Primary result codes of SQLite, <https://sqlite.org/rescode.html>.
mod sqlite {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const INTERRUPT: i32 = 9;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const TOOBIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const NOTADB: i32 = 26;
}

/// What an error means, as far as it matters to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Trouble {
    /// Somebody else holds a lock for too long.
    Busy,
    /// The disk is full.
    Full,
    /// The rows contradict each other or what is stored.
    Constraint,
    /// The transaction was rolled back in favour of another one.
    RolledBack,
    /// The statement was ended because of its time.
    Interrupted,
    /// A value is larger than the statement may make it.
    TooLarge,
    /// The file is damaged or no database.
    Damaged,
    /// Anything else.
    Other,
}

/// What an error means.
pub(in crate::store) fn trouble(error: &Error) -> Trouble {
    let Some(error) = error.as_database_error() else { return Trouble::Other };
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        return postgres(error.code());
    }
    let extended: Option<i32> = error.code().and_then(|code| code.parse().ok());
    match extended.map(|code| code & 0xff) {
        Some(sqlite::BUSY | sqlite::LOCKED) => Trouble::Busy,
        Some(sqlite::FULL) => Trouble::Full,
        Some(sqlite::CONSTRAINT) => Trouble::Constraint,
        Some(sqlite::TOOBIG) => Trouble::TooLarge,
        Some(sqlite::INTERRUPT) => Trouble::Interrupted,
        Some(sqlite::CORRUPT | sqlite::NOTADB) => Trouble::Damaged,
        _ => Trouble::Other,
    }
}

/// By SQLSTATE, <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn postgres(state: &str) -> Trouble {
    match state {
        // lock_not_available
        "55P03" => Trouble::Busy,
        // disk_full
        "53100" => Trouble::Full,
        // query_canceled
        "57014" => Trouble::Interrupted,
        // statement_completion_unknown is the one of its class that says nothing.
        "40003" => Trouble::Other,
        _ if state.starts_with("40") => Trouble::RolledBack,
        _ if state.starts_with("23") => Trouble::Constraint,
        _ => Trouble::Other,
    }
}

/// Sorts a refusal before the commit by its cause.
pub(in crate::store) fn refused(what: &'static str) -> impl Fn(Error) -> CommitError {
    move |source| match trouble(&source) {
        Trouble::Busy => CommitError::Busy(source),
        Trouble::Full => CommitError::Full(source),
        _ => CommitError::Other { what, source },
    }
}

/// What a refused commit means: the database says that the transaction did not take place, or
/// nobody knows.
pub(in crate::store) fn uncommitted(source: Error) -> CommitError {
    match trouble(&source) {
        Trouble::Busy | Trouble::Full | Trouble::Constraint | Trouble::RolledBack => {
            refused("the transaction's end")(source)
        }
        Trouble::Interrupted | Trouble::TooLarge | Trouble::Damaged | Trouble::Other => {
            CommitError::Unknown(source)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_certainly_did_not_happen_is_told_from_the_unknown() {
        let certain = ["40001", "40P01", "23503", "23505", "55P03", "53100"];
        for state in certain {
            assert!(!matches!(postgres(state), Trouble::Other | Trouble::Interrupted), "{state}");
        }
        // Statement completion unknown, connection failure, admin shutdown, crash shutdown.
        for state in ["40003", "08006", "57P01", "57P02", "XX000"] {
            assert_eq!(postgres(state), Trouble::Other, "{state}");
        }
        let broken = Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(matches!(uncommitted(broken), CommitError::Unknown(_)));
    }
}
