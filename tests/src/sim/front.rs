//! What stands between the network and the owner in a coordinator: files are here before they are
//! named, requests for trials wait for some, superseded checkpoints go.

use std::collections::BTreeSet;

use deptune_coordinator::runtime::Error;
use deptune_coordinator::store::Store;
use deptune_proto::convert::Assignment;
use deptune_proto::v1;
use deptune_sweep::id::{ArtifactHash, RequestId, SweepId, TrialId, WorkerId};
use deptune_sweep::scheduler::{
    Ack, Config, Control, Event, Grant, LeaseKey, Refusal, Reply, ReportEnd,
};
use deptune_worker::protocol::{Answer, Call, CallError};
use futures::FutureExt;

use super::message::{ClientAnswer, Message, Peer, Request, Response, Ticket};
use super::world::{Happening, World};

/// How long a request for trials waits for some, in milliseconds.
const PATIENCE: u64 = 10_000;
/// When a worker that got nothing asks again.
const RETRY_AFTER: u64 = 250;

/// Who asked the owner, and what to do with the answer.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The call; `None` for the coordinator's own ticks.
    pub(crate) ticket: Option<Ticket>,
    /// World time until which the caller waits.
    pub(crate) until: u64,
    /// What was asked.
    pub(crate) ask: Ask,
}

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    /// Nothing.
    Tick,
    /// A registration.
    Register,
    /// An exchange.
    Exchange {
        /// Who.
        worker: WorkerId,
        /// Under which id.
        request_id: RequestId,
        /// For which slots.
        free_slots: Vec<u32>,
        /// The reported leases, and whether as a success.
        reports: Vec<(LeaseKey, bool)>,
        /// Until when it waits for trials; 0 when it reports something.
        patience: u64,
        /// Where it waits, once it does: one timer for all its turns.
        parking: Option<u64>,
    },
    /// A heartbeat, or progress with these checkpoints.
    Hear(bool, Vec<(TrialId, ArtifactHash)>),
    /// A farewell.
    Leave,
    /// That a worker should end.
    Drain(WorkerId),
    /// A client's submission.
    Submit(RequestId),
    /// A client's change of a sweep.
    Control {
        /// Under which id.
        request_id: RequestId,
        /// Hash of what was asked for.
        content: ArtifactHash,
        /// Which sweep.
        sweep: SweepId,
        /// Whether it is to be cancelled.
        cancels: bool,
    },
}

impl Caller {
    /// The coordinator itself.
    #[must_use]
    pub(crate) fn tick() -> Caller {
        Caller { ticket: None, until: u64::MAX, ask: Ask::Tick }
    }

    /// A person who wants a worker to end, and does not ask again.
    #[must_use]
    pub(crate) fn operator(worker: WorkerId) -> Caller {
        Caller { ticket: None, until: u64::MAX, ask: Ask::Drain(worker) }
    }
}

/// A request that waits for trials.
#[derive(Debug)]
pub(crate) struct Parked(Caller);

impl World {
    /// A request has arrived at a coordinator.
    pub(crate) fn receive(&mut self, c: usize, ticket: Ticket, request: Request, timeout: u64) {
        if !self.processes[c].up {
            let unreachable = || "connection refused".to_owned();
            self.respond(
                c,
                ticket,
                match request {
                    Request::Worker(_) => {
                        Response::Worker(Err(CallError::Unreachable(unreachable())))
                    }
                    _ => Response::Client(ClientAnswer::Refused(unreachable())),
                },
            );
            return;
        }
        let at = self.queue.now();
        let until = at + timeout;
        let (event, ask) = match request {
            Request::Submit { request_id, submission } => {
                let Ok(spec) = submission.parse() else {
                    self.violation("I15", "the simulator's own spec is refused".to_owned());
                    return;
                };
                let event = Event::Submit { request_id, submission, spec: Box::new(spec) };
                (event, Ask::Submit(request_id))
            }
            Request::Control { request_id, content, sweep, mut control } => {
                if let Control::Delete { answer } = &mut control {
                    // Another one each time: the first is the one that counts.
                    *answer = format!("as of {at}");
                }
                let cancels = control == Control::Cancel;
                let ask = Ask::Control { request_id, content: content.clone(), sweep, cancels };
                (Event::Control { request_id, content, sweep, control }, ask)
            }
            Request::Worker(Call::Upload { kept, .. }) => {
                let run = self.processes[c].run;
                let wait = self.chance.store.within(2, 60);
                self.queue.after(wait, Happening::Stored { c, run, ticket, hash: kept.hash });
                return;
            }
            Request::Worker(call) => match self.worker_event(ticket.peer, call, until, at) {
                Ok(found) => found,
                Err(error) => {
                    self.respond(c, ticket, Response::Worker(Err(error)));
                    return;
                }
            },
        };
        self.command(c, event, Caller { ticket: Some(ticket), until, ask });
    }

    fn worker_event(
        &self,
        peer: Peer,
        call: Call,
        until: u64,
        at: u64,
    ) -> Result<(Event, Ask), CallError> {
        Ok(match call {
            Call::Register { worker, slots, lost } => {
                let (name, version) = (format!("node-{worker}"), "0".to_owned());
                let labels = match peer {
                    Peer::Node(n) => self.nodes[n].labels.clone(),
                    Peer::Client(_) => Vec::new(),
                };
                (Event::Register { worker, name, version, labels, slots, lost }, Ask::Register)
            }
            Call::Exchange { worker, request_id, reports, free_slots } => {
                let adapters = reports.iter().filter_map(|report| match &report.end {
                    ReportEnd::Succeeded { adapter, .. } => Some(adapter),
                    _ => None,
                });
                self.check_here(adapters)?;
                let told = reports
                    .iter()
                    .map(|r| (r.lease, matches!(r.end, ReportEnd::Succeeded { .. })))
                    .collect();
                let waits = reports.is_empty() && !free_slots.is_empty();
                let patience = if waits { (at + PATIENCE).min(until) } else { 0 };
                let ask = Ask::Exchange {
                    worker,
                    request_id,
                    free_slots: free_slots.clone(),
                    reports: told,
                    patience,
                    parking: None,
                };
                (Event::Exchange { worker, request_id, reports, free_slots }, ask)
            }
            Call::Heartbeat { worker, leases } => {
                (Event::Heartbeat { worker, leases }, Ask::Hear(true, Vec::new()))
            }
            Call::Progress { worker, trials } => {
                let named: Vec<(TrialId, ArtifactHash)> = trials
                    .iter()
                    .filter_map(|t| Some((t.lease.trial, t.checkpoint.as_ref()?.hash.clone())))
                    .collect();
                self.check_here(named.iter().map(|(_, hash)| hash))?;
                (Event::Progress { worker, trials }, Ask::Hear(false, named))
            }
            Call::Leave { worker } => (Event::Leave { worker }, Ask::Leave),
            // Received before.
            Call::Upload { .. } => return Err(CallError::Refused("an upload".to_owned())),
        })
    }

    fn check_here<'a>(
        &self,
        mut hashes: impl Iterator<Item = &'a ArtifactHash>,
    ) -> Result<(), CallError> {
        let here = hashes.all(|hash| self.artifacts.contains(hash));
        if here { Ok(()) } else { Err(CallError::MissingFile) }
    }

    /// An upload is durable.
    pub(crate) fn stored(&mut self, c: usize, ticket: Ticket, hash: ArtifactHash) {
        if self.disk_full {
            let full = CallError::Unreachable("the coordinator's disk is full".to_owned());
            self.respond(c, ticket, Response::Worker(Err(full)));
            return;
        }
        self.artifacts.insert(&hash);
        let Some(answer) = self.upload_answer(ticket, hash) else { return };
        self.respond(c, ticket, Response::Worker(Ok(answer)));
    }

    /// The owner has answered.
    pub(crate) fn answered(&mut self, c: usize, caller: Caller, answer: Result<Reply, Error>) {
        let stale = self.processes[c].unfenced;
        let checked = self.checks.answered(&caller.ask, &answer, stale, &mut self.counters);
        self.verdict(checked);
        let Some(ticket) = caller.ticket else { return };
        let response = match (caller.ask, answer) {
            (Ask::Submit(_) | Ask::Control { .. }, answer) => {
                Response::Client(client_answer(answer))
            }
            (_, Err(error)) => Response::Worker(Err(call_error(error))),
            (
                Ask::Exchange { worker, request_id, free_slots, reports, patience, parking },
                Ok(reply),
            ) => {
                let Reply::Exchanged { acks, grants } = reply else { return };
                for ((lease, succeeded), ack) in reports.iter().zip(&acks) {
                    if *succeeded && *ack == Ack::Accepted {
                        let superseded = self.processes[c].retention.ended(lease.trial);
                        self.discard(c, superseded);
                    }
                }
                if grants.is_empty() && self.queue.now() < patience {
                    let parking = Some(parking.unwrap_or_else(|| self.plan_patience(c, patience)));
                    let ask = Ask::Exchange {
                        worker,
                        request_id,
                        free_slots,
                        reports,
                        patience,
                        parking,
                    };
                    self.park(c, Caller { ticket: Some(ticket), until: caller.until, ask });
                    return;
                }
                let filled: BTreeSet<u32> = grants.iter().map(|grant| grant.slot).collect();
                let retry_after = if filled.len() < free_slots.len() { RETRY_AFTER } else { 0 };
                let leases = match grants.into_iter().map(assignment).collect() {
                    Ok(leases) => leases,
                    Err(words) => {
                        self.violation("I15", words);
                        return;
                    }
                };
                Response::Worker(Ok(Answer::Exchanged { request_id, acks, leases, retry_after }))
            }
            (Ask::Hear(heartbeat, checkpoints), Ok(Reply::Heard { stops, drain })) => {
                for (trial, hash) in checkpoints {
                    if !stops.iter().any(|stop| stop.lease.trial == trial) {
                        let superseded = self.processes[c].retention.committed(trial, hash);
                        self.discard(c, superseded);
                    }
                }
                Response::Worker(Ok(if heartbeat {
                    Answer::HeartbeatHeard { stops, drain }
                } else {
                    Answer::ProgressRecorded { stops }
                }))
            }
            (Ask::Register, Ok(_)) => {
                let heartbeat = Config::default().lease_ttl / 3;
                Response::Worker(Ok(Answer::Registered { heartbeat }))
            }
            (Ask::Leave, Ok(_)) => Response::Worker(Ok(Answer::Left)),
            (_, Ok(_)) => return,
        };
        self.respond(c, ticket, response);
    }

    fn discard(&mut self, c: usize, hashes: Vec<ArtifactHash>) {
        for hash in hashes {
            let Some(store) = &self.processes[c].store else { return };
            let referenced = store.is_artifact_referenced(&hash).now_or_never();
            if let Some(Ok(false)) = referenced {
                self.artifacts.remove(&hash);
            }
        }
    }

    fn plan_patience(&mut self, c: usize, until: u64) -> u64 {
        self.parkings += 1;
        let (id, run) = (self.parkings, self.processes[c].run);
        self.queue.at(until, Happening::PatienceOver { c, run, id });
        id
    }

    fn park(&mut self, c: usize, caller: Caller) {
        if let Ask::Exchange { parking: Some(id), .. } = caller.ask {
            self.processes[c].parked.insert(id, Parked(caller));
        }
    }

    /// Trials may have become available: whoever waits asks again.
    pub(crate) fn wake_parked(&mut self, c: usize) {
        let parked = std::mem::take(&mut self.processes[c].parked);
        for Parked(caller) in parked.into_values() {
            if let Ask::Exchange { worker, request_id, free_slots, .. } = &caller.ask {
                let event = Event::Exchange {
                    worker: *worker,
                    request_id: *request_id,
                    reports: Vec::new(),
                    free_slots: free_slots.clone(),
                };
                self.command(c, event, caller);
            }
        }
    }

    /// A request has waited long enough.
    pub(crate) fn patience_over(&mut self, c: usize, id: u64) {
        let Some(Parked(caller)) = self.processes[c].parked.remove(&id) else { return };
        let (Some(ticket), Ask::Exchange { request_id, .. }) = (caller.ticket, caller.ask) else {
            return;
        };
        let retry_after = RETRY_AFTER;
        let (acks, leases) = (Vec::new(), Vec::new());
        let answer = Answer::Exchanged { request_id, acks, leases, retry_after };
        self.respond(c, ticket, Response::Worker(Ok(answer)));
    }

    fn respond(&mut self, c: usize, ticket: Ticket, response: Response) {
        self.transmit(Message::Down { from: c, ticket, response });
    }
}

/// As it arrives at an agent: through the wire's form.
fn assignment(grant: Grant) -> Result<Assignment, String> {
    Assignment::try_from(v1::Lease::from(grant)).map_err(|e| format!("a lease is unreadable: {e}"))
}

fn call_error(error: Error) -> CallError {
    match error {
        Error::Refused(Refusal::UnknownWorker(_)) => CallError::UnknownWorker,
        Error::Refused(refusal) => CallError::Refused(refusal.to_string()),
        error => CallError::Unreachable(error.to_string()),
    }
}

fn client_answer(answer: Result<Reply, Error>) -> ClientAnswer {
    match answer {
        Ok(Reply::Sweep(id) | Reply::Deleted { sweep: id, .. }) => ClientAnswer::Sweep(id),
        Ok(other) => ClientAnswer::Unknown(format!("{other:?}")),
        Err(error @ Error::Refused(_)) => ClientAnswer::Declined(error.to_string()),
        Err(error @ (Error::Busy | Error::DiskFull)) => ClientAnswer::Refused(error.to_string()),
        Err(error) => ClientAnswer::Unknown(error.to_string()),
    }
}
