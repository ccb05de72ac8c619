//! Why a trial failed, as the agent is told: a class that decides about a retry, and words.

use std::error::Error;

use deptune_sweep::outcome::FailureClass;

use crate::{data, evaluate, pack};

/// A failure of a trial or of the whole pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its class.
    pub class: FailureClass,
    /// What happened, causes included.
    pub message: String,
}

impl Failure {
    /// A failure of a class, described by an error and its causes.
    pub fn new(class: FailureClass, error: &dyn Error) -> Failure {
        let message = chain(error);
        // libtorch says so in words only.
        let memory = ["out of memory", "can't allocate memory", "not enough memory"];
        let class = if memory.iter().any(|words| message.contains(words)) {
            FailureClass::Oom
        } else {
            class
        };
        Failure { class, message }
    }

    /// The spec asks for something that cannot be done.
    pub fn user(error: &dyn Error) -> Failure {
        Failure::new(FailureClass::UserError, error)
    }

    /// A file is missing, damaged or changed.
    pub fn data(error: &dyn Error) -> Failure {
        Failure::new(FailureClass::Data, error)
    }

    /// The node failed.
    pub fn infra(error: &dyn Error) -> Failure {
        Failure::new(FailureClass::Infra, error)
    }
}

/// An error and its causes, in one line; libtorch's C++ traces are left out.
fn chain(error: &dyn Error) -> String {
    let mut words = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let text = text.split("\nException raised from").next().unwrap_or_default().trim();
        if !words.is_empty() {
            words.push_str(": ");
        }
        words.push_str(text);
        next = error.source();
    }
    words
}

impl From<data::Error> for Failure {
    fn from(error: data::Error) -> Failure {
        Failure::data(&error)
    }
}

impl From<pack::Error> for Failure {
    fn from(error: pack::Error) -> Failure {
        match &error {
            pack::Error::Setting { .. } | pack::Error::Positions { .. } => Failure::user(&error),
            pack::Error::Batch(_)
            | pack::Error::Parameter { .. }
            | pack::Error::MissingParameter { .. }
            | pack::Error::UnknownParameter { .. } => Failure::data(&error),
            _ => Failure::infra(&error),
        }
    }
}

impl From<evaluate::Error> for Failure {
    fn from(error: evaluate::Error) -> Failure {
        match error {
            evaluate::Error::Pack { source, .. } => source.into(),
            other => Failure::infra(&other),
        }
    }
}
