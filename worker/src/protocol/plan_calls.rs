//! Which calls are due.

use deptune_sweep::mutation;
use deptune_sweep::record::CheckpointRef;
use deptune_sweep::scheduler::{LeaseProgress, Report, TrialProgress};

use super::event::{Action, Call, FileKind, Millis};
use super::held::{Ending, Held, MAX_EVALUATIONS, Parcel, ParcelState};
use super::{Agent, Delivery, Exchange, Mode};

/// Shortest time between two progress calls that carry evaluations only.
const PROGRESS_EVERY: Millis = 1_000;
/// Uploads in flight.
const MAX_UPLOADS: usize = 4;
/// Reports in one exchange.
const MAX_REPORTS: usize = 64;

impl Agent {
    pub(super) fn plan_calls(&mut self, now: Millis, out: &mut Vec<Action>) {
        if now < self.link.not_before {
            self.wake_at(self.link.not_before);
            return;
        }
        if !self.link.registered {
            self.plan_register(out);
            return;
        }
        self.plan_heartbeat(now, out);
        self.plan_uploads(out);
        self.plan_progress(now, out);
        self.plan_exchange(now, out);
        self.plan_leave(out);
    }

    fn plan_register(&mut self, out: &mut Vec<Action>) {
        // A drained agent that holds nothing has nothing to say.
        if self.link.registering || (self.is_empty_handed() && self.mode != Mode::Working) {
            return;
        }
        self.link.registering = true;
        let identity = self.estate.as_ref().unwrap_or(&self.me);
        let lost = if self.estate.is_some() { Vec::new() } else { self.lost.clone() };
        let (worker, slots) = (identity.worker, identity.slots.clone());
        out.push(Action::Call(Call::Register { worker, slots, lost }));
    }

    fn plan_heartbeat(&mut self, now: Millis, out: &mut Vec<Action>) {
        if self.link.heartbeating {
            return;
        }
        if now < self.link.heartbeat_at {
            self.wake_at(self.link.heartbeat_at);
            return;
        }
        self.link.heartbeating = true;
        self.link.heartbeat_at = now + self.link.heartbeat;
        let leases = self
            .trials
            .iter()
            .map(|(&lease, held)| LeaseProgress {
                lease,
                step: held.step,
                loss: held.loss,
                steps_per_second: held.steps_per_second,
            })
            .collect();
        out.push(Action::Call(Call::Heartbeat { worker: self.worker(), leases }));
    }

    fn plan_uploads(&mut self, out: &mut Vec<Action>) {
        let mut parcels = Vec::new();
        for (&lease, held) in &mut self.trials {
            if let Some(parcel) = &mut held.checkpoint {
                parcels.push((lease, FileKind::Checkpoint, parcel));
            }
            if let Some(Ending::Saved { adapter: Some(parcel), .. }) = &mut held.end {
                parcels.push((lease, FileKind::Adapter, parcel));
            }
        }
        let under = |p: &Parcel| p.state == ParcelState::Under;
        let mut room = MAX_UPLOADS.saturating_sub(parcels.iter().filter(|p| under(p.2)).count());
        for (lease, file, parcel) in parcels {
            if room > 0 && parcel.state == ParcelState::Here {
                room -= 1;
                parcel.state = ParcelState::Under;
                let kept = parcel.kept.clone();
                out.push(Action::Call(Call::Upload { lease, file, kept }));
            }
        }
    }

    fn plan_progress(&mut self, now: Millis, out: &mut Vec<Action>) {
        if self.progress.is_some() {
            return;
        }
        let arrived = |p: &Parcel| p.state == ParcelState::There;
        let checkpoints = self.trials.values().any(|h| h.checkpoint.as_ref().is_some_and(arrived));
        // Evaluations of a finished trial travel with its report, unless they are too many.
        let news = |h: &Held| match h.end {
            None => !h.evaluations.is_empty(),
            Some(_) => h.evaluations.len() > MAX_EVALUATIONS,
        };
        if !checkpoints {
            if !self.trials.values().any(news) {
                return;
            }
            if now < self.progress_at {
                self.wake_at(self.progress_at);
                return;
            }
        }
        let mut room = MAX_EVALUATIONS;
        let mut trials = Vec::new();
        let mut deliveries = Vec::new();
        for (&lease, held) in &self.trials {
            let checkpoint = held.checkpoint.as_ref().filter(|p| arrived(p)).map(|p| &p.kept);
            if checkpoint.is_none() && (!news(held) || room == 0) {
                continue;
            }
            let evaluations: Vec<_> = held.evaluations.values().take(room).cloned().collect();
            room -= evaluations.len();
            deliveries.push(Delivery {
                lease,
                evaluations: evaluations.clone(),
                checkpoint: checkpoint.map(|c| c.step),
            });
            let checkpoint =
                checkpoint.map(|c| CheckpointRef { step: c.step, hash: c.hash.clone() });
            trials.push(TrialProgress { lease, evaluations, checkpoint });
        }
        self.progress = Some(deliveries);
        self.progress_at = now + PROGRESS_EVERY;
        out.push(Action::Call(Call::Progress { worker: self.worker(), trials }));
    }

    fn plan_exchange(&mut self, now: Millis, out: &mut Vec<Action>) {
        if let Some(exchange) = self.next_exchange(now) {
            self.exchanges.insert(self.dice.request_id(), exchange);
        }
        let worker = self.worker();
        for (&request_id, exchange) in &mut self.exchanges {
            if !exchange.in_flight {
                exchange.in_flight = true;
                let (reports, free_slots) = (exchange.reports.clone(), exchange.free_slots.clone());
                if mutation::on("outbox entry deleted before ack") {
                    out.extend(reports.iter().map(|report| Action::Forget(report.lease)));
                }
                let call = Call::Exchange { worker, request_id, reports, free_slots };
                out.push(Action::Call(call));
            }
        }
    }

    fn next_exchange(&mut self, now: Millis) -> Option<Exchange> {
        let open = |told: bool| self.exchanges.values().any(|e| e.reports.is_empty() != told);
        let reports = if open(true) { Vec::new() } else { self.ready_reports() };
        let free_slots = self.free_slots();
        if reports.is_empty() {
            // A report that is being written goes with this exchange, not with the next.
            let saving = |h: &Held| matches!(h.end, Some(Ending::Saving { .. }));
            if free_slots.is_empty() || open(false) || self.trials.values().any(saving) {
                return None;
            }
            if now < self.ask_at {
                self.wake_at(self.ask_at);
                return None;
            }
        }
        Some(Exchange { reports, free_slots, in_flight: false })
    }

    fn ready_reports(&self) -> Vec<Report> {
        let most = if self.one_by_one { 1 } else { MAX_REPORTS };
        let mut room = MAX_EVALUATIONS;
        let mut reports = Vec::new();
        for held in self.trials.values() {
            let Some(report) = held.deliverable() else { continue };
            if reports.len() == most || (!reports.is_empty() && held.evaluations.len() > room) {
                break;
            }
            room = room.saturating_sub(held.evaluations.len());
            let mut report = report.clone();
            report.evaluations = held.evaluations.values().cloned().collect();
            reports.push(report);
        }
        reports
    }

    /// Slots that run nothing, could, and for which nothing was asked.
    fn free_slots(&self) -> Vec<u32> {
        if self.mode != Mode::Working || self.estate.is_some() || !self.room {
            return Vec::new();
        }
        let asked = |slot: &u32| self.exchanges.values().any(|e| e.free_slots.contains(slot));
        let slots = self.me.slots.iter().map(|s| s.slot);
        slots.filter(|slot| !self.packs.contains_key(slot) && !asked(slot)).collect()
    }

    fn plan_leave(&mut self, out: &mut Vec<Action>) {
        if self.link.leaving.is_some() {
            return;
        }
        let settled = self.estate.is_none();
        let worker = match self.goodbye {
            Some(worker) if settled => worker,
            _ if settled && self.is_empty_handed() && self.mode != Mode::Working => self.me.worker,
            _ => return,
        };
        self.link.leaving = Some(worker);
        out.push(Action::Call(Call::Leave { worker }));
    }
}
