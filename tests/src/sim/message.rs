//! What travels through the simulated network.

use deptune_sweep::id::{ArtifactHash, RequestId, SweepId};
use deptune_sweep::record::Submission;
use deptune_sweep::scheduler::Control;
use deptune_worker::protocol::{Answer, Call, CallError};

/// Who calls a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// An agent, by its node.
    Node(usize),
    /// A client.
    Client(usize),
}

/// A call under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Who called.
    pub(crate) peer: Peer,
    /// Which run of it.
    pub(crate) run: u64,
    /// Number of the call within that run.
    pub(crate) call: u64,
}

/// What is asked of a coordinator.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// By an agent.
    Worker(Call),
    /// By a client: submit a sweep.
    Submit {
        /// Idempotency key.
        request_id: RequestId,
        /// The sweep.
        submission: Submission,
    },
    /// By a client: change a sweep.
    Control {
        /// Idempotency key.
        request_id: RequestId,
        /// Hash of what is asked for.
        content: ArtifactHash,
        /// Which.
        sweep: SweepId,
        /// How.
        control: Control,
    },
}

/// What a client hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ClientAnswer {
    /// The sweep.
    Sweep(SweepId),
    /// Certainly not carried out.
    Refused(String),
    /// Certainly not carried out, and it would not be if it came again.
    Declined(String),
    /// It may or may not have been carried out.
    Unknown(String),
}

/// What comes back.
#[derive(Debug, Clone)]
pub(crate) enum Response {
    /// To an agent.
    Worker(Result<Answer, CallError>),
    /// To a client.
    Client(ClientAnswer),
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// To a coordinator.
    Up {
        /// Which coordinator.
        to: usize,
        /// The call.
        ticket: Ticket,
        /// What is asked.
        request: Request,
        /// Milliseconds that the caller waits.
        timeout: u64,
    },
    /// From a coordinator.
    Down {
        /// Which coordinator.
        from: usize,
        /// The call.
        ticket: Ticket,
        /// The answer.
        response: Response,
    },
}

impl Message {
    /// The link on which it travels, and whether towards the coordinator.
    #[must_use]
    pub(crate) fn link(&self) -> (Peer, usize, bool) {
        match self {
            Message::Up { to, ticket, .. } => (ticket.peer, *to, true),
            Message::Down { from, ticket, .. } => (ticket.peer, *from, false),
        }
    }
}

/// The hash of a file with this name: content follows from the name, so that a repeated attempt
/// makes the same bytes.
#[must_use]
pub(crate) fn content(path: &std::path::Path) -> ArtifactHash {
    ArtifactHash::of(path.as_os_str().as_encoded_bytes())
}
