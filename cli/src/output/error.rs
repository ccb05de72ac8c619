//! What can go wrong for a command, its exit code, and how it is told.

use std::fmt::Write as _;
use std::path::PathBuf;

use deptune_sweep::spec::{Diagnostic, Diagnostics};
use tonic::Status;

use super::printable;
use crate::status;

/// How a command ends, for the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Done,
    /// The sweep ended, but not every trial succeeded.
    FailedTrials,
    /// The command line, the spec or a file named in it is wrong.
    Usage,
    /// The coordinator cannot be reached or said no.
    Refused,
    /// Something else failed.
    Internal,
    /// Stopped by Ctrl-C or SIGTERM before the end.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::FailedTrials => 1,
            Exit::Usage => 2,
            Exit::Refused => 3,
            Exit::Internal => 4,
            Exit::Interrupted => 130,
        }
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The spec, or the files that it names, are wrong.
    #[error("{}", problems(file, found))]
    Spec {
        /// The spec file as the person named it.
        file: String,
        /// Every problem.
        found: Diagnostics,
    },
    /// The arguments do not make sense together.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// The next step.
        hint: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file changed while it was being submitted.
    #[error("{} changed between hashing and upload", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file holds something else than it should.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The next step.
        hint: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// No address of a coordinator is known.
    #[error("no coordinator is known: --server is not given, and {} does not exist", file.display())]
    NoAddress {
        /// Where a local coordinator would have left its address.
        file: PathBuf,
    },
    /// An address is none.
    #[error("'{address}' is no address of a coordinator")]
    Address {
        /// As given.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The token cannot be read.
    #[error("cannot read the token file {}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The token file does not hold a token.
    #[error("{} holds no token: one line of printable ASCII is expected", path.display())]
    NoToken {
        /// The file.
        path: PathBuf,
    },
    /// The coordinator refused a call or could not be reached.
    #[error("{}", status::what(doing, status))]
    Rpc {
        /// What was being done, as in `submit the sweep`.
        doing: &'static str,
        /// The coordinator's address.
        address: String,
        /// Where the token came from.
        token: Option<PathBuf>,
        /// The answer.
        status: Box<Status>,
    },
    /// An answer lacks something that it must have.
    #[error("the coordinator's answer to '{doing}' has no {what}")]
    Answer {
        /// What was being done.
        doing: &'static str,
        /// What is missing.
        what: &'static str,
    },
    /// The local coordinator does not start.
    #[error("the coordinator cannot run")]
    Coordinator {
        /// How the command ends.
        exit: Exit,
        /// The next step, if there is one to name.
        hint: Option<String>,
        /// Why.
        #[source]
        source: Source,
    },
    /// The data directory cannot be backed up, restored or looked at.
    #[error("the data directory cannot be worked on")]
    Upkeep {
        /// The next step.
        hint: String,
        /// Why.
        #[source]
        source: Source,
    },
    /// The worker ended with an error.
    #[error("the worker cannot run")]
    Worker {
        /// How the command ends.
        exit: Exit,
        /// The next step, if there is one to name.
        hint: Option<String>,
        /// Why.
        #[source]
        source: Source,
    },
    /// There is no such device for a command that trains or measures here.
    #[error("--device {asked} cannot be used here")]
    Device {
        /// What was asked for.
        asked: &'static str,
        /// Why not.
        #[source]
        source: Source,
    },
    /// The worker gave up looking for its coordinator.
    #[error("found no coordinator at {addresses} within {seconds} s")]
    NeverRegistered {
        /// Where it looked.
        addresses: String,
        /// For how long.
        seconds: u64,
    },
    /// The trainer program is not there.
    #[error("the trainer program 'deptune-trainer' was not found")]
    NoTrainer {
        /// Places that were looked at.
        looked: Vec<PathBuf>,
    },
    /// The trainer cannot be started or spoken with.
    #[error("cannot run {}", program.display())]
    Trainer {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The trainer said what is wrong.
    #[error("{message}")]
    TrainerFailed {
        /// In its words.
        message: String,
        /// Whether a file or an argument is to blame.
        input: bool,
    },
    /// Asked for something that is not there.
    #[error("{what}")]
    Nothing {
        /// What is not there.
        what: String,
        /// The next step.
        hint: String,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Stdout {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Nobody reads standard output any more.
    #[error("standard output was closed")]
    BrokenPipe,
    /// A background task broke.
    #[error("{task} stopped unexpectedly")]
    Task {
        /// Which.
        task: &'static str,
        /// Why.
        #[source]
        source: Source,
    },
}

fn problems(file: &str, found: &Diagnostics) -> String {
    let number = found.0.len();
    format!("{number} problem{} in {file}", if number == 1 { "" } else { "s" })
}

impl Error {
    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Error::Spec { .. }
            | Error::Usage { .. }
            | Error::Read { .. }
            | Error::Changed { .. }
            | Error::Unusable { .. }
            | Error::Upkeep { .. }
            | Error::Address { .. }
            | Error::Device { .. }
            | Error::Nothing { .. }
            | Error::TrainerFailed { input: true, .. } => Exit::Usage,
            Error::NoAddress { .. }
            | Error::Token { .. }
            | Error::NoToken { .. }
            | Error::NeverRegistered { .. } => Exit::Refused,
            Error::Rpc { status, .. } => status::exit(status),
            Error::Coordinator { exit, .. } | Error::Worker { exit, .. } => *exit,
            Error::BrokenPipe => Exit::Done,
            Error::Write { .. }
            | Error::Answer { .. }
            | Error::NoTrainer { .. }
            | Error::Trainer { .. }
            | Error::TrainerFailed { input: false, .. }
            | Error::Stdout { .. }
            | Error::Task { .. } => Exit::Internal,
        }
    }

    /// The next step, if there is one to name.
    fn hint(&self) -> Option<String> {
        let text = match self {
            Error::Spec { .. } | Error::BrokenPipe => return None,
            Error::Usage { hint, .. }
            | Error::Unusable { hint, .. }
            | Error::Upkeep { hint, .. }
            | Error::Nothing { hint, .. } => hint.clone(),
            Error::Read { .. } => "check the path; a path in a spec is relative to the spec \
                                   file's directory"
                .to_owned(),
            Error::Write { .. } => "check that the directory exists and is yours to write to, and \
                                    the free space"
                .to_owned(),
            Error::Changed { .. } => "let whatever writes it finish, then submit again".to_owned(),
            Error::NoAddress { .. } => "start one with 'deptune serve' or 'deptune up', or name \
                                        one with --server HOST:PORT"
                .to_owned(),
            Error::Address { .. } => "write HOST:PORT, as in --server 127.0.0.1:7077".to_owned(),
            Error::Token { .. } | Error::NoToken { .. } => {
                "the coordinator writes its token at its first start and prints the file's path; \
                 name that file with --token-file"
                    .to_owned()
            }
            Error::Rpc { address, token, status, .. } => {
                return status::hint(address, token.as_deref(), status);
            }
            Error::Answer { .. } => "compare the versions: 'deptune --version' here and where the \
                                     coordinator runs"
                .to_owned(),
            Error::Coordinator { hint, .. } | Error::Worker { hint, .. } => return hint.clone(),
            Error::NeverRegistered { .. } => {
                "is 'deptune serve' running there, and does it listen \
                                              on that address? --register-timeout waits longer"
                    .to_owned()
            }
            Error::NoTrainer { looked } => {
                let places: Vec<String> =
                    looked.iter().map(|place| place.display().to_string()).collect();
                format!(
                    "build it with 'make', or name it with --trainer PROGRAM or DEPTUNE_TRAINER \
                     (looked at: {})",
                    places.join(", ")
                )
            }
            Error::Trainer { .. } => "try it by hand: deptune-trainer --version".to_owned(),
            // The reason names the next step.
            Error::Device { .. }
            | Error::TrainerFailed { .. }
            | Error::Stdout { .. }
            | Error::Task { .. } => return None,
        };
        Some(text)
    }

    /// The whole message: what, causes, next step. No line end after the last line.
    pub(crate) fn render(&self, color: bool) -> String {
        let (red, cyan, plain) =
            if color { ("\u{1b}[1;31m", "\u{1b}[36m", "\u{1b}[0m") } else { ("", "", "") };
        let mut text = String::new();
        if let Error::Spec { file, found } = self {
            for one in &found.0 {
                text.push_str(&problem(one, file, red, cyan, plain));
            }
        }
        let _ = write!(text, "{red}error:{plain} {}", clean(&self.to_string()));
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let _ = write!(text, "\n  caused by: {}", clean(&error.to_string()));
            cause = error.source();
        }
        if let Some(hint) = self.hint() {
            let _ = write!(text, "\n{cyan}hint:{plain} {}", clean(&hint));
        }
        text
    }
}

/// One problem of a spec: `error: FILE:LINE:COLUMN: message` and its hint.
fn problem(one: &Diagnostic, file: &str, red: &str, cyan: &str, plain: &str) -> String {
    let block = one.render(file);
    let mut lines = block.lines();
    let mut text = format!("{red}error:{plain} {}\n", clean(lines.next().unwrap_or_default()));
    for line in lines {
        match line.trim_start().strip_prefix("hint:") {
            Some(hint) => {
                let _ = writeln!(text, "  {cyan}hint:{plain}{}", clean(hint));
            }
            None => {
                let _ = writeln!(text, "  {}", clean(line));
            }
        }
    }
    text
}

/// Without control characters except line ends.
fn clean(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n  ")
}
