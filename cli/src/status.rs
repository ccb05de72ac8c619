//! The coordinator's refusals in words: what was refused, the exit code, the next step.

use std::path::Path;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::output::error::Exit;

/// Whether trying the same call again may help.
pub(crate) fn is_transient(status: &Status) -> bool {
    if matches!(reason(status).as_deref(), Some("DISK_FULL" | "QUOTA_USED")) {
        return false;
    }
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::Aborted)
        || is_broken_connection(status)
}

/// A connection that broke within a call shows as `UNKNOWN`, `CANCELLED` or `INTERNAL` with what
/// happened to it behind it. What a coordinator answers has nothing behind it.
fn is_broken_connection(status: &Status) -> bool {
    matches!(status.code(), Code::Unknown | Code::Cancelled | Code::Internal)
        && std::error::Error::source(status).is_some()
}

/// The stable reason that the coordinator gave, if it gave one.
pub(crate) fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// The address of the coordinator that leads, where the one that was asked stands by.
pub(crate) fn leader(status: &Status) -> Option<String> {
    status.get_details_error_info()?.metadata.remove("leader")
}

/// What was refused.
pub(crate) fn what(doing: &str, status: &Status) -> String {
    if is_transient(status) && reason(status).is_none() {
        let why = status.message();
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        format!("cannot {doing}: the coordinator cannot be reached{why}")
    } else {
        format!("cannot {doing}: {}", status.message())
    }
}

/// The exit code that a refusal gives.
pub(crate) fn exit(status: &Status) -> Exit {
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::OutOfRange
        | Code::FailedPrecondition => Exit::Usage,
        Code::Unavailable
        | Code::Unauthenticated
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Aborted => Exit::Refused,
        _ if is_broken_connection(status) => Exit::Refused,
        _ => Exit::Internal,
    }
}

/// The next step.
pub(crate) fn hint(address: &str, token: Option<&Path>, status: &Status) -> Option<String> {
    let by_reason = match reason(status).as_deref() {
        Some("UNKNOWN_SWEEP") => Some("'deptune list' shows the sweeps"),
        Some("UNKNOWN_TRIAL") => Some("'deptune show SWEEP' shows the sweep's trials"),
        Some("BUDGET_SPENT") => Some(
            "'deptune change SWEEP --budget-gpu-hours HOURS' raises it; 0 takes the bound away",
        ),
        Some("REQUEST_REUSED") => Some("leave --request-id out, or give a new one"),
        Some("ARTIFACT_MISSING" | "HASH_MISMATCH") => Some("submit again"),
        Some("UNKNOWN_ARTIFACT") => Some("the coordinator no longer has it, or never had"),
        Some("SQL_REFUSED") => Some(
            "docs/results.md describes the views and their columns; try: deptune sql 'select * from \
             leaderboard'",
        ),
        Some("NOT_LEADING") => {
            return Some(match leader(status) {
                Some(leader) => format!("name the one that leads too: --server {address},{leader}"),
                None => format!("is the database of the coordinator at {address} running?"),
            });
        }
        Some("SQL_TIMEOUT") => Some("ask for less, as with 'limit 100' or a where clause"),
        Some("QUOTA_USED") => Some(
            "'deptune delete' removes sweeps that nobody needs; their files go within an hour of \
             --keep-unused after that",
        ),
        Some("STORE_UNAVAILABLE") => {
            Some("the coordinator does not get its database to take anything; its log says why")
        }
        Some("DISK_FULL") => Some("make room on the coordinator's disk, then try again"),
        _ => None,
    };
    if let Some(hint) = by_reason {
        return Some(hint.to_owned());
    }
    match status.code() {
        Code::Unauthenticated => Some(match token {
            Some(file) => format!(
                "the token used is the one in {}; take the file that the coordinator at \
                 {address} printed at its start (--token-file)",
                file.display()
            ),
            None => "no token was sent; name the coordinator's token file with --token-file \
                     (the coordinator prints its path at its start)"
                .to_owned(),
        }),
        Code::PermissionDenied => Some("the token does not allow this".to_owned()),
        Code::DeadlineExceeded => {
            Some(format!("the coordinator at {address} is slow; try again in a minute"))
        }
        Code::Unimplemented => Some(
            "the coordinator is of another version; compare 'deptune --version' on both sides"
                .to_owned(),
        ),
        _ if is_transient(status) => {
            Some(format!("is 'deptune serve' running, and is {address} its address?"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn an_unreachable_coordinator_is_exit_3_and_names_the_address() {
        let status = Status::unavailable("tcp connect error");
        assert_eq!(exit(&status), Exit::Refused);
        assert!(hint("127.0.0.1:1", None, &status).unwrap().contains("127.0.0.1:1"));
        assert_eq!(
            what("list the sweeps", &status),
            "cannot list the sweeps: the coordinator cannot be reached (tcp connect error)"
        );
    }

    #[test]
    fn a_stream_that_broke_is_tried_again_and_a_defect_is_not() {
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let mut status = Status::internal("h2 protocol error: error reading a body");
        assert!(!is_transient(&status));
        status.set_source(std::sync::Arc::new(broken));
        assert!(is_transient(&status));
    }

    #[test]
    fn the_leader_is_named() {
        let mut details = ErrorDetails::new();
        let metadata = std::collections::HashMap::from([("leader".to_owned(), "b:2".to_owned())]);
        details.set_error_info("NOT_LEADING", "deptune", metadata);
        let status = Status::with_error_details(Code::Unavailable, "stands by", details);
        assert!(is_transient(&status));
        assert_eq!(leader(&status).as_deref(), Some("b:2"));
        assert!(hint("a:1", None, &status).unwrap().contains("--server a:1,b:2"));
    }

    #[test]
    fn a_store_that_takes_nothing_is_no_question_of_the_address() {
        let mut details = ErrorDetails::new();
        let none = std::collections::HashMap::new();
        details.set_error_info("STORE_UNAVAILABLE", "deptune", none);
        let status = Status::with_error_details(Code::Unavailable, "not stored", details);
        assert!(is_transient(&status));
        let hint = hint("a:1", None, &status).unwrap();
        assert!(hint.contains("log") && !hint.contains("a:1"), "{hint}");
    }

    #[test]
    fn a_wrong_token_names_the_file() {
        let status = Status::unauthenticated("the token is wrong");
        let hint = hint("a:1", Some(Path::new("/x/token")), &status).unwrap();
        assert!(hint.contains("/x/token") && hint.contains("--token-file"), "{hint}");
        assert_eq!(exit(&status), Exit::Refused);
    }

    #[test]
    fn reasons_lead_to_commands() {
        let mut details = ErrorDetails::new();
        details.set_error_info("UNKNOWN_SWEEP", "deptune", std::collections::HashMap::new());
        let status = Status::with_error_details(Code::NotFound, "sweep 'x' is unknown", details);
        assert_eq!(hint("a:1", None, &status).as_deref(), Some("'deptune list' shows the sweeps"));
        assert_eq!(exit(&status), Exit::Usage);
    }
}
