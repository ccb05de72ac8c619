//! The coordinator answered, or did not.

use std::collections::BTreeSet;

use deptune_proto::convert::Assignment;
use deptune_sweep::id::RequestId;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::scheduler::{Ack, LeaseKey, ReportEnd, Stop};

use super::event::{Action, Answer, CallError, CallKind, FileKind, Kept, Millis};
use super::held::{Ending, Held, Pack, Parcel, ParcelState, Phase};
use super::on_child::save;
use super::{Agent, Mode};

/// Shortest wait before asking again for slots that got nothing.
const MIN_RETRY: Millis = 100;

impl Agent {
    pub(super) fn on_answer(&mut self, answer: Answer, now: Millis, out: &mut Vec<Action>) {
        self.link.heard = now;
        self.link.failures = 0;
        self.link.not_before = now;
        match answer {
            Answer::Registered { heartbeat } => self.on_registered(heartbeat, now),
            Answer::Exchanged { request_id, acks, leases, retry_after } => {
                self.on_exchanged(request_id, acks, leases, retry_after, now, out);
            }
            Answer::HeartbeatHeard { stops, drain } => {
                self.link.heartbeating = false;
                self.on_stops(&stops, out);
                if drain {
                    self.begin_drain(now);
                }
            }
            Answer::ProgressRecorded { stops } => {
                self.on_delivered(out);
                self.on_stops(&stops, out);
            }
            Answer::Uploaded { lease, file, hash } => {
                if let Some(parcel) = self.parcel(lease, file)
                    && parcel.kept.hash == hash
                {
                    parcel.state = ParcelState::There;
                }
            }
            Answer::Left => self.on_left(),
        }
    }

    fn on_registered(&mut self, heartbeat: u64, now: Millis) {
        self.link.registering = false;
        self.link.registered = true;
        self.link.ever = true;
        self.link.heartbeat = heartbeat.max(100);
        self.link.heartbeat_at = now;
        if self.estate.is_none() {
            self.lost.clear();
        }
    }

    fn on_exchanged(
        &mut self,
        request_id: RequestId,
        acks: Vec<Ack>,
        leases: Vec<Assignment>,
        retry_after: u64,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let Some(exchange) = self.exchanges.remove(&request_id) else { return };
        if acks.len() != exchange.reports.len() {
            let (sent, got) = (exchange.reports.len(), acks.len());
            tracing::warn!(sent, got, "the coordinator acknowledged another number of reports");
        }
        self.one_by_one = false;
        for (report, ack) in exchange.reports.iter().zip(acks) {
            let trial = report.lease.trial;
            match ack {
                Ack::Accepted => {}
                Ack::Stale { reason, .. } => {
                    tracing::warn!(%trial, %reason, "a report came too late");
                }
                Ack::Rejected { reason } => {
                    tracing::warn!(%trial, reason, "a report was rejected");
                }
            }
            self.discard(report.lease, out);
        }
        self.accept(leases, now, out);
        if exchange.free_slots.iter().any(|slot| !self.packs.contains_key(slot)) {
            self.ask_at = now + self.dice.jitter(retry_after.max(MIN_RETRY));
        }
    }

    /// Starts what was leased; hands back what cannot be started.
    fn accept(&mut self, leases: Vec<Assignment>, now: Millis, out: &mut Vec<Action>) {
        let mut packs: Vec<(u32, Vec<Assignment>)> = Vec::new();
        for lease in leases {
            let key = lease.lease;
            if self.trials.contains_key(&key) {
                continue;
            }
            let first_step = lease.checkpoint.as_ref().map_or(0, |c| c.step);
            let mut held = Held::new(first_step);
            let ours = self.me.slots.iter().any(|s| s.slot == lease.slot);
            let free = ours && !self.packs.contains_key(&lease.slot);
            if self.mode != Mode::Working || !self.room || !free {
                let report = held.report(key, ReportEnd::Released);
                save(&mut held, report, out);
            }
            let ended = held.end.is_some();
            self.trials.insert(key, held);
            if ended {
                continue;
            }
            match packs.iter_mut().find(|(slot, _)| *slot == lease.slot) {
                Some((_, pack)) => pack.push(lease),
                None => packs.push((lease.slot, vec![lease])),
            }
        }
        for (slot, leases) in packs {
            self.runs += 1;
            let run = self.runs;
            out.push(Action::Start { slot, run, pack: leases.clone() });
            let phase = Phase::Preparing { failures: 0 };
            self.packs.insert(
                slot,
                Pack { run, leases, phase, moved: now, stop: None, gone: BTreeSet::new() },
            );
        }
    }

    fn on_stops(&mut self, stops: &[Stop], out: &mut Vec<Action>) {
        for stop in stops {
            if self.trials.contains_key(&stop.lease) {
                let trial = stop.lease.trial;
                tracing::info!(%trial, reason = %stop.reason, "the trial is no longer ours");
            }
            self.discard(stop.lease, out);
        }
    }

    /// The progress call's content is recorded.
    fn on_delivered(&mut self, out: &mut Vec<Action>) {
        for delivery in self.progress.take().unwrap_or_default() {
            let lease = delivery.lease;
            let Some(held) = self.trials.get_mut(&lease) else { continue };
            for sent in delivery.evaluations {
                let name = (sent.step, sent.split.clone());
                // Made again meanwhile, with another result: that one goes next.
                if held.evaluations.get(&name) == Some(&sent) {
                    held.evaluations.remove(&name);
                }
            }
            if delivery.checkpoint.is_some() {
                drop_checkpoint(lease, held, out);
            }
        }
    }

    fn on_left(&mut self) {
        let left = self.link.leaving.take();
        if left.is_some() && left == self.goodbye {
            self.goodbye = None;
        } else if left.is_some() {
            // Nothing is held any more, so nothing is left to say.
            self.link.registered = false;
        }
    }

    pub(super) fn on_failure(
        &mut self,
        call: CallKind,
        error: CallError,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        if !matches!(error, CallError::Unreachable(_) | CallError::Denied(_)) {
            self.link.heard = now;
        }
        if error == CallError::UnknownWorker && call != CallKind::Leave {
            self.link.registered = false;
        }
        let refused = match &error {
            CallError::Refused(reason) => Some(reason.clone()),
            CallError::Unreachable(reason) | CallError::Denied(reason) => {
                if self.link.failures == 0 {
                    tracing::warn!(reason, "the coordinator does not answer, trying again");
                }
                self.back_off(now);
                None
            }
            CallError::UnknownWorker | CallError::MissingFile => {
                self.back_off(now);
                None
            }
        };
        if error == CallError::MissingFile {
            self.upload_again();
        }
        match call {
            CallKind::Register => {
                self.link.registering = false;
                if !self.link.ever
                    && let CallError::Refused(reason) | CallError::Denied(reason) = error
                {
                    self.mode = Mode::Ended;
                    out.push(Action::Fail(reason));
                } else {
                    self.back_off(now);
                }
            }
            CallKind::Heartbeat => {
                self.link.heartbeating = false;
                // Due at once when the coordinator is back.
                self.link.heartbeat_at = now;
                if refused.is_some() {
                    self.back_off(now);
                }
            }
            CallKind::Exchange(id) => match refused {
                Some(reason) => self.on_exchange_refused(id, &reason, now, out),
                None => {
                    if let Some(exchange) = self.exchanges.get_mut(&id) {
                        exchange.in_flight = false;
                    }
                }
            },
            CallKind::Progress => match refused {
                Some(reason) => {
                    tracing::warn!(reason, "the coordinator refused evaluations, dropping them");
                    self.on_delivered(out);
                }
                None => self.progress = None,
            },
            CallKind::Upload { lease, file, hash } => match refused {
                Some(reason) => self.on_upload_refused(lease, file, &reason, out),
                None => {
                    if let Some(parcel) = self.parcel(lease, file)
                        && parcel.kept.hash == hash
                    {
                        parcel.state = ParcelState::Here;
                    }
                }
            },
            CallKind::Leave => match error {
                CallError::Refused(_) | CallError::UnknownWorker => self.on_left(),
                _ => self.link.leaving = None,
            },
        }
    }

    /// Finds the report that the coordinator cannot take, and gives that one up.
    fn on_exchange_refused(
        &mut self,
        id: RequestId,
        reason: &str,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let Some(exchange) = self.exchanges.remove(&id) else { return };
        match exchange.reports.as_slice() {
            [] => self.back_off(now),
            [report] => {
                let lease = report.lease;
                tracing::warn!(trial = %lease.trial, reason, "the coordinator refused a report");
                let succeeded = matches!(report.end, ReportEnd::Succeeded { .. });
                match self.trials.get_mut(&lease) {
                    Some(held) if succeeded => {
                        held.evaluations.clear();
                        let message = format!("the coordinator refused the result: {reason}");
                        let report = held.failed(lease, FailureClass::Infra, message);
                        save(held, report, out);
                    }
                    _ => self.discard(lease, out),
                }
            }
            _ => self.one_by_one = true,
        }
    }

    /// The coordinator lost files, e.g. because its disk was restored from a copy.
    fn upload_again(&mut self) {
        for held in self.trials.values_mut() {
            let adapter = match &mut held.end {
                Some(Ending::Saved { adapter, .. }) => adapter.as_mut(),
                _ => None,
            };
            for parcel in held.checkpoint.iter_mut().chain(adapter) {
                if parcel.state == ParcelState::There {
                    parcel.state = ParcelState::Here;
                }
            }
        }
    }

    fn on_upload_refused(
        &mut self,
        lease: LeaseKey,
        file: FileKind,
        reason: &str,
        out: &mut Vec<Action>,
    ) {
        let Some(held) = self.trials.get_mut(&lease) else { return };
        let trial = lease.trial;
        tracing::warn!(%trial, ?file, reason, "the coordinator refused a file");
        match file {
            FileKind::Checkpoint => drop_checkpoint(lease, held, out),
            FileKind::Adapter => {
                let message = format!("the adapter could not be stored: {reason}");
                let report = held.failed(lease, FailureClass::Infra, message);
                save(held, report, out);
            }
        }
    }

    fn parcel(&mut self, lease: LeaseKey, file: FileKind) -> Option<&mut Parcel> {
        let held = self.trials.get_mut(&lease)?;
        match (file, &mut held.end) {
            (FileKind::Checkpoint, _) => held.checkpoint.as_mut(),
            (
                FileKind::Adapter,
                Some(Ending::Saving { adapter, .. } | Ending::Saved { adapter, .. }),
            ) => adapter.as_mut(),
            (FileKind::Adapter, _) => None,
        }
    }
}

/// The checkpoint under way has arrived or never will; the next may go.
fn drop_checkpoint(lease: LeaseKey, held: &mut Held, out: &mut Vec<Action>) {
    if let Some(Parcel { kept: Kept { step, .. }, .. }) = held.checkpoint.take() {
        out.push(Action::ForgetCheckpoint { lease, step });
    }
    held.checkpoint = held.fresh.take().map(Parcel::new);
}
