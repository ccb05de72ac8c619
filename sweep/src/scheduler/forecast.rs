//! What packs a sweep would make, found by leasing its trials for once without training them.

use crate::id::{RequestId, WorkerId};
use crate::outcome::FailureClass;
use crate::record::{SlotRecord, Submission};
use crate::scheduler::event::{
    Effect, Event, Grant, LeaseKey, Now, Refusal, Reply, Report, ReportEnd,
};
use crate::scheduler::state::{Config, Scheduler};
use crate::spec::Spec;

/// The packs of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// How many.
    pub packs: u64,
    /// Trials of the largest.
    pub largest: u32,
    /// Packs that the busiest slot trains, one after the other.
    pub rounds: u64,
}

/// Leases a sweep's trials to `slots` slots like `slot`, on which all packs take equally long. Takes
/// time in proportion to the trials.
///
/// # Errors
/// When the scheduler refuses the sweep.
pub fn forecast(
    submission: Submission,
    spec: Spec,
    slot: &SlotRecord,
    slots: u32,
) -> Result<Forecast, Refusal> {
    const NOW: Now = Now { monotonic: 0, wall: 0 };
    let mut scheduler = Scheduler::new(Config::default());
    let mut requests = 0_u128;
    let mut next_request = || {
        requests += 1;
        RequestId(uuid::Uuid::from_u128(requests))
    };
    let mut send = |event| reply(scheduler.step(event, NOW).effects);
    let request_id = next_request();
    // On workers that the sweep's trials may go to.
    let requires = spec.requires.clone();
    let (kind, memory) = (requires.device.unwrap_or(slot.kind), requires.memory.max(slot.memory));
    send(Event::Submit { request_id, submission, spec: Box::new(spec) })?;
    // A worker for each slot, with what it has to report.
    let worker = |n: u32| WorkerId(uuid::Uuid::from_u128(u128::from(n)));
    let mut workers: Vec<(WorkerId, Vec<Report>)> =
        (0..slots.max(1)).map(|n| (worker(n), Vec::new())).collect();
    for (worker, _) in &workers {
        send(Event::Register {
            worker: *worker,
            name: String::new(),
            version: String::new(),
            labels: requires.labels.clone(),
            slots: vec![SlotRecord { slot: 0, kind, memory, ..slot.clone() }],
            lost: Vec::new(),
        })?;
    }
    let mut forecast = Forecast { packs: 0, largest: 0, rounds: 0 };
    loop {
        // However they end, all packs of a round end at once, before the next begins.
        for (worker, reports) in &mut workers {
            let reports = std::mem::take(reports);
            let (worker, request_id, free_slots) = (*worker, next_request(), Vec::new());
            send(Event::Exchange { worker, request_id, reports, free_slots })?;
        }
        let before = forecast.packs;
        for (worker, reports) in &mut workers {
            let (worker, request_id, free_slots) = (*worker, next_request(), vec![0]);
            let ask = Event::Exchange { worker, request_id, reports: Vec::new(), free_slots };
            let grants: Vec<Grant> = match send(ask)? {
                Some(Reply::Exchanged { grants, .. }) => grants,
                _ => Vec::new(),
            };
            let members = u32::try_from(grants.len()).unwrap_or(u32::MAX);
            forecast.packs += u64::from(members > 0);
            forecast.largest = forecast.largest.max(members);
            reports.extend(grants.iter().map(|grant| over(grant.lease)));
        }
        if forecast.packs == before {
            return Ok(forecast);
        }
        forecast.rounds += 1;
    }
}

fn reply(effects: Vec<Effect>) -> Result<Option<Reply>, Refusal> {
    let answers = effects.into_iter().find_map(|effect| match effect {
        Effect::Reply(answer) => Some(answer),
        Effect::WorkAvailable => None,
    });
    answers.transpose()
}

fn over(lease: LeaseKey) -> Report {
    let end = ReportEnd::Failed { class: FailureClass::UserError, message: String::new() };
    Report { lease, evaluations: Vec::new(), last_step: 0, end }
}
