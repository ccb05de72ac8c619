//! First all writes of a commit at once, and one by one where that is refused.

use deptune_sweep::crash::{Point, point};
use deptune_sweep::scheduler::Write;

use super::{Untold, many, one};
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::trouble::{Trouble, refused, trouble};

/// How the writes of a commit are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Manner {
    /// With as few statements as they allow.
    Together,
    /// One after the other, so that the one that is refused is known.
    OneByOne,
}

/// Why a transaction did not take place.
#[derive(Debug)]
pub(in crate::store) enum Failure {
    Told(CommitError),
    /// It is not known which write was refused.
    Untold(Untold),
}

impl Failure {
    /// Whether the writes are worth another try, one by one. Whatever stands in the way of all of
    /// them stands in the way of each.
    pub(in crate::store) fn is_of_one_write(&self) -> bool {
        match self {
            Failure::Told(_) => false,
            Failure::Untold(Untold::Refused(error)) => {
                !matches!(trouble(error), Trouble::Busy | Trouble::Full)
            }
            Failure::Untold(Untold::Alone(error)) => {
                !matches!(error, CommitError::Busy(_) | CommitError::Full(_))
            }
            Failure::Untold(Untold::Rows { .. }) => true,
        }
    }
}

impl From<CommitError> for Failure {
    fn from(error: CommitError) -> Failure {
        Failure::Told(error)
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> CommitError {
        match failure {
            Failure::Told(error) | Failure::Untold(Untold::Alone(error)) => error,
            Failure::Untold(Untold::Refused(source)) => refused("some rows")(source),
            Failure::Untold(Untold::Rows { expected, changed }) => CommitError::Inconsistent {
                what: "some rows",
                why: format!("{changed} rows of {expected} were changed"),
            },
        }
    }
}

impl Manner {
    /// Carries out the writes within the transaction that `connection` is in.
    pub(in crate::store) async fn carry_out(
        self,
        connection: &mut Connection<'_>,
        writes: &[Write],
    ) -> Result<(), Failure> {
        match self {
            Manner::Together => many(connection, writes).await.map_err(Failure::Untold),
            Manner::OneByOne => {
                for write in writes {
                    point(Point::BeforeWrite);
                    one(connection, write).await?;
                    point(Point::AfterWrite);
                }
                Ok(())
            }
        }
    }
}
