//! Errors on the wire: a code, a sentence for people, and details for programs.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::time::Duration;

use deptune_proto::convert::InvalidField;
use deptune_sweep::scheduler::Refusal;
use deptune_sweep::spec::Diagnostics;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

use crate::api::{Error, MissingFile, QueryError};
use crate::artifact;
use crate::runtime;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "deptune";

/// When to try again after a moment's trouble.
const RETRY: Duration = Duration::from_secs(1);

/// A status travels in headers, of which many clients take no more than 8 KiB, the details encoded
/// in base64 and the sentence twice. Bytes of the sentence:
const SENTENCE: usize = 1200;
/// Bytes of what is wrong in details:
const DETAILS: usize = 2000;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal),+ $(,)?) => {
        /// The stable reason in an `ErrorInfo`; `docs/grpc.md` lists them with their codes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $variant),+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),+];

            /// The text on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $name),+ }
            }
        }
    };
}

reasons!(
    /// A field of the request cannot be read.
    InvalidField => "INVALID_FIELD",
    /// The spec is not valid.
    SpecInvalid => "SPEC_INVALID",
    /// The model's `config.json` is not valid.
    ModelConfigInvalid => "MODEL_CONFIG_INVALID",
    /// The spec names a data file that the submission does not list.
    DataNotListed => "DATA_NOT_LISTED",
    /// The page token is not this list's.
    PageTokenInvalid => "PAGE_TOKEN_INVALID",
    /// More in one request than is accepted.
    TooMany => "TOO_MANY",
    /// The SQL is not one read-only statement, or the database refused it.
    SqlRefused => "SQL_REFUSED",
    /// The SQL took too long.
    SqlTimeout => "SQL_TIMEOUT",
    /// No such sweep.
    UnknownSweep => "UNKNOWN_SWEEP",
    /// No such trial or attempt.
    UnknownTrial => "UNKNOWN_TRIAL",
    /// The worker is not registered; it should register again.
    UnknownWorker => "UNKNOWN_WORKER",
    /// No such artifact.
    UnknownArtifact => "UNKNOWN_ARTIFACT",
    /// The request id was used before for other content.
    RequestReused => "REQUEST_REUSED",
    /// The sweep's status does not allow it.
    WrongStatus => "WRONG_STATUS",
    /// The trial is not run again.
    NotRetried => "NOT_RETRIED",
    /// The sweep's budget is used up.
    BudgetSpent => "BUDGET_SPENT",
    /// Files must be uploaded first.
    ArtifactMissing => "ARTIFACT_MISSING",
    /// The content is not what its hash and size announced.
    HashMismatch => "HASH_MISMATCH",
    /// A file or a piece is larger than accepted.
    TooLarge => "TOO_LARGE",
    /// The disk of the coordinator's files or of its database has no room.
    DiskFull => "DISK_FULL",
    /// The files that the coordinator keeps take as much as they may together.
    QuotaUsed => "QUOTA_USED",
    /// Too many requests wait, or are open.
    Busy => "BUSY",
    /// More requests per second on one connection than allowed.
    RateLimited => "RATE_LIMITED",
    /// The store is not available.
    StoreUnavailable => "STORE_UNAVAILABLE",
    /// The coordinator is shutting down.
    Stopping => "STOPPING",
    /// Another coordinator leads; the metadata's `leader` is its address, if it is known.
    NotLeading => "NOT_LEADING",
    /// The coordinator's file system refused.
    StorageFailed => "STORAGE_FAILED",
    /// The token is missing or wrong.
    Unauthenticated => "UNAUTHENTICATED",
    /// The request took longer than the coordinator allows.
    DeadlineExceeded => "DEADLINE_EXCEEDED",
);

/// A status with an `ErrorInfo`.
pub(super) fn status(code: Code, reason: Reason, message: impl Into<String>) -> Status {
    with_details(code, reason, message, ErrorDetails::new())
}

fn with_details(
    code: Code,
    reason: Reason,
    message: impl Into<String>,
    mut details: ErrorDetails,
) -> Status {
    details.set_error_info(reason.as_str(), DOMAIN, HashMap::new());
    Status::with_error_details(code, cut(&message.into(), SENTENCE), details)
}

/// A text without what is beyond a number of bytes.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// The first items whose sizes fit into [`DETAILS`]; at least one.
fn fitting<T>(items: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut bytes = 0;
    let fit = items.iter().take_while(|item| {
        bytes += size(item);
        bytes <= DETAILS
    });
    let count = fit.count().max(1);
    items.into_iter().take(count).collect()
}

/// What a coordinator that stands by answers to everything.
pub(super) fn not_leading(leader: Option<&str>) -> Status {
    let text = match leader {
        Some(leader) => format!("this coordinator stands by; the one at {leader} leads"),
        None => "this coordinator stands by, and cannot find out which one leads".to_owned(),
    };
    let mut details = ErrorDetails::new();
    let metadata: HashMap<String, String> =
        leader.map(|leader| ("leader".to_owned(), leader.to_owned())).into_iter().collect();
    details.set_error_info(Reason::NotLeading.as_str(), DOMAIN, metadata);
    details.set_retry_info(Some(RETRY));
    Status::with_error_details(Code::Unavailable, text, details)
}

/// The error and what caused it, in one line.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let text = chain(&error);
        let is = |code, reason| status(code, reason, text.clone());
        match error {
            Error::Field(field) => invalid_field(&field),
            Error::Spec(diagnostics) => invalid_spec("spec", &diagnostics),
            Error::ModelConfig(_) => is(Code::InvalidArgument, Reason::ModelConfigInvalid),
            Error::DataNotListed { .. } => is(Code::InvalidArgument, Reason::DataNotListed),
            Error::Missing(files) => missing(&text, &files),
            Error::UnknownSweep(_) => is(Code::NotFound, Reason::UnknownSweep),
            Error::UnknownTrial(_) | Error::UnknownAttempt { .. } => {
                is(Code::NotFound, Reason::UnknownTrial)
            }
            Error::Unwritable(_) => is(Code::Internal, Reason::StorageFailed),
            Error::PageToken => is(Code::InvalidArgument, Reason::PageTokenInvalid),
            Error::Runtime(error) => runtime_error(&error, &text),
            Error::Query(QueryError::Timeout { .. }) => {
                is(Code::DeadlineExceeded, Reason::SqlTimeout)
            }
            Error::Query(QueryError::Unavailable(_)) | Error::Read(_) => {
                tracing::error!(error = text, "the store could not be read");
                soon(Code::Unavailable, Reason::StoreUnavailable, &text)
            }
            Error::TooManyQueries => soon(Code::ResourceExhausted, Reason::Busy, &text),
            Error::Query(_) => is(Code::InvalidArgument, Reason::SqlRefused),
            Error::Artifact(error) => artifact_error(&error, &text),
        }
    }
}

pub(super) fn invalid_field(field: &InvalidField) -> Status {
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation(field.field.clone(), field.problem.to_string());
    let message = format!("the request is not valid: {field}");
    with_details(Code::InvalidArgument, Reason::InvalidField, message, details)
}

/// One field violation per problem, as many as fit: the key's path, and
/// `LINE:COLUMN: message; hint: …`.
/// `what` is a spec or a space.
fn invalid_spec(what: &str, diagnostics: &Diagnostics) -> Status {
    let violation = |one: &deptune_sweep::spec::Diagnostic| {
        let place = one.position.map(|at| format!("{at}: ")).unwrap_or_default();
        let hint = one.hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
        let description = format!("{place}{}{hint}", one.message);
        FieldViolation::new(cut(&one.path, DETAILS / 4), cut(&description, DETAILS / 2))
    };
    let violations: Vec<FieldViolation> = diagnostics.0.iter().map(violation).collect();
    let violations = fitting(violations, |one| one.field.len() + one.description.len());
    let message = format!(
        "the {what} is not valid, {} problems:\n{}",
        diagnostics.0.len(),
        diagnostics.render(what)
    );
    let mut details = ErrorDetails::new();
    details.set_bad_request(violations);
    with_details(Code::InvalidArgument, Reason::SpecInvalid, message, details)
}

fn missing(text: &str, files: &[MissingFile]) -> Status {
    let violation = |file: &MissingFile| {
        let description = format!("'{}' is not here; upload it", file.name);
        PreconditionViolation::new("ARTIFACT", file.hash.as_str(), description)
    };
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).take(8).collect();
    let violations: Vec<PreconditionViolation> = files.iter().map(violation).collect();
    let violations = fitting(violations, |one| one.subject.len() + one.description.len());
    let mut details = ErrorDetails::new();
    details.set_precondition_failure(violations);
    let message = format!("{text} ({})", names.join(", "));
    with_details(Code::FailedPrecondition, Reason::ArtifactMissing, message, details)
}

fn runtime_error(error: &runtime::Error, text: &str) -> Status {
    match error {
        runtime::Error::Refused(refusal) => {
            let (code, reason) = match refusal {
                Refusal::Space(diagnostics) => return invalid_spec("space", diagnostics),
                Refusal::UnknownSweep(_) => (Code::NotFound, Reason::UnknownSweep),
                Refusal::UnknownWorker(_) => (Code::NotFound, Reason::UnknownWorker),
                Refusal::RequestReused(_) => (Code::AlreadyExists, Reason::RequestReused),
                Refusal::TooMany { .. } => (Code::InvalidArgument, Reason::TooMany),
                Refusal::Deleted(_) => (Code::NotFound, Reason::UnknownSweep),
                Refusal::UnknownTrial(_) => (Code::NotFound, Reason::UnknownTrial),
                Refusal::NotNow { .. } => (Code::FailedPrecondition, Reason::WrongStatus),
                Refusal::NotRetried { .. } => (Code::FailedPrecondition, Reason::NotRetried),
                Refusal::BudgetSpent(_) => (Code::FailedPrecondition, Reason::BudgetSpent),
                Refusal::OutOfRange { .. } => (Code::InvalidArgument, Reason::InvalidField),
            };
            status(code, reason, refusal.to_string())
        }
        runtime::Error::Busy => soon(Code::ResourceExhausted, Reason::Busy, text),
        runtime::Error::Unavailable => soon(Code::Unavailable, Reason::StoreUnavailable, text),
        runtime::Error::DiskFull => soon(Code::ResourceExhausted, Reason::DiskFull, text),
        runtime::Error::Stopping => soon(Code::Unavailable, Reason::Stopping, text),
    }
}

fn artifact_error(error: &artifact::Error, text: &str) -> Status {
    use artifact::Error as E;
    let (code, reason) = match error {
        E::HashMismatch { .. } | E::SizeMismatch { .. } => {
            (Code::InvalidArgument, Reason::HashMismatch)
        }
        E::TooLarge { .. } | E::ChunkTooLarge { .. } => (Code::InvalidArgument, Reason::TooLarge),
        E::NoSpace { .. } => (Code::ResourceExhausted, Reason::DiskFull),
        E::Quota { .. } => (Code::ResourceExhausted, Reason::QuotaUsed),
        E::Unknown(_) => (Code::NotFound, Reason::UnknownArtifact),
        E::Io { .. } => {
            tracing::error!(error = text, "the file system refused");
            (Code::Internal, Reason::StorageFailed)
        }
    };
    status(code, reason, text)
}

/// A status that says to try again in a moment.
pub(super) fn soon(code: Code, reason: Reason, text: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(RETRY));
    with_details(code, reason, text, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_documented_with_its_name() {
        let page = include_str!("../../../docs/grpc.md");
        for reason in Reason::ALL {
            assert!(page.contains(&format!("`{}`", reason.as_str())), "{}", reason.as_str());
        }
    }

    #[test]
    fn a_field_violation_carries_path_and_domain() {
        let field = InvalidField::new("request_id", deptune_proto::convert::Problem::Missing);
        let status = Status::from(Error::Field(field));
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INVALID_FIELD", "deptune"));
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "request_id");
    }
}
