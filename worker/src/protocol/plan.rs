//! What is due, apart from calls: children to stop or start again, leases to write down, the end.

use deptune_sweep::scheduler::LeaseKey;

use super::event::{Action, Millis};
use super::held::{Phase, StopWhy};
use super::{Agent, Mode};
use crate::Exit;

/// How long a child may live after its last trial ended.
const LINGER: Millis = 10_000;
/// How long after the deadline of draining the last reports may take.
const LAST_WORDS: Millis = 5_000;

impl Agent {
    pub(super) fn plan(&mut self, now: Millis, out: &mut Vec<Action>) {
        if self.mode == Mode::Ended {
            return;
        }
        self.wake = None;
        if let Some(at) = self.config.drain_at
            && self.mode == Mode::Working
        {
            if now >= at {
                tracing::info!("the walltime ends soon");
                self.begin_drain(now);
            } else {
                self.wake_at(at);
            }
        }
        self.plan_packs(now, out);
        self.plan_drain(now, out);
        self.plan_estate(out);
        self.note_leases(now, out);
        self.plan_calls(now, out);
        self.plan_exit(now, out);
    }

    pub(super) fn begin_drain(&mut self, now: Millis) {
        if self.mode == Mode::Working {
            self.mode = Mode::Draining { deadline: now + self.config.drain_timeout };
        }
    }

    fn plan_packs(&mut self, now: Millis, out: &mut Vec<Action>) {
        let slots: Vec<u32> = self.packs.keys().copied().collect();
        for slot in slots {
            let Some(pack) = self.packs.get(&slot) else { continue };
            if pack.stop.is_some() {
                continue;
            }
            let members = || pack.leases.iter().filter_map(|l| self.trials.get(&l.lease));
            let held = members().next().is_some();
            let training = members().any(|h| h.end.is_none());
            let (phase, run) = (pack.phase, pack.run);
            let hangs_at = pack.moved + self.config.hang_timeout;
            let lingers_at = pack.moved + LINGER;
            match phase {
                _ if !held => self.stop(slot, StopWhy::Over, out),
                Phase::Waiting { until, failures } if now >= until => {
                    if let Some(pack) = self.packs.get_mut(&slot) {
                        pack.phase = Phase::Preparing { failures };
                        let pack = pack.leases.clone();
                        out.push(Action::Start { slot, run, pack });
                    }
                }
                Phase::Waiting { until, .. } => self.wake_at(until),
                Phase::Preparing { .. } => {}
                Phase::Running => {
                    self.drop_members(slot, out);
                    let (why, at) = if training {
                        (StopWhy::Hang, hangs_at)
                    } else {
                        (StopWhy::Over, lingers_at)
                    };
                    if now >= at {
                        self.stop(slot, why, out);
                    } else {
                        self.wake_at(at);
                    }
                }
            }
        }
    }

    /// Tells the child of a slot which of its members are no longer ours.
    fn drop_members(&mut self, slot: u32, out: &mut Vec<Action>) {
        let Some(pack) = self.packs.get_mut(&slot) else { return };
        for lease in pack.leases.iter().map(|member| member.lease) {
            if !self.trials.contains_key(&lease) && pack.gone.insert(lease) {
                out.push(Action::Drop { slot, run: pack.run, lease });
            }
        }
    }

    fn plan_drain(&mut self, now: Millis, out: &mut Vec<Action>) {
        let Mode::Draining { deadline } = self.mode else { return };
        let slots: Vec<u32> = self.packs.keys().copied().collect();
        for slot in slots {
            match self.packs.get(&slot).map(|p| p.stop) {
                Some(None) => self.stop(slot, StopWhy::Drain, out),
                Some(Some(StopWhy::Drain)) if now >= deadline => {
                    self.stop(slot, StopWhy::Overdue, out);
                }
                _ => {}
            }
        }
        self.wake_at(if now < deadline { deadline } else { deadline + LAST_WORDS });
    }

    /// Becomes itself once all that an earlier agent left is delivered.
    fn plan_estate(&mut self, out: &mut Vec<Action>) {
        if self.estate.is_none() {
            return;
        }
        let delivered = self
            .trials
            .values()
            .all(|h| h.end.is_none() && h.evaluations.is_empty() && h.has_no_checkpoint());
        if !self.link.registered || !delivered || !self.exchanges.is_empty() {
            return;
        }
        self.estate = None;
        self.link.registered = false;
        let rest: Vec<LeaseKey> = self.trials.keys().copied().collect();
        for lease in rest {
            self.trials.remove(&lease);
            self.lost.push(lease);
            out.push(Action::Forget(lease));
        }
    }

    /// Writes the leases down whenever they change.
    fn note_leases(&mut self, now: Millis, out: &mut Vec<Action>) {
        // Until the registration is answered, the file still says what the earlier agent held.
        if self.estate.is_some() || !self.link.ever || !self.lost.is_empty() {
            return;
        }
        let leases: Vec<LeaseKey> = self.trials.keys().copied().collect();
        if self.noted.as_ref() != Some(&leases) {
            if now < self.note_at {
                self.wake_at(self.note_at);
                return;
            }
            let (worker, slots) = (self.me.worker, self.me.slots.clone());
            out.push(Action::SaveLeases { worker, slots, leases: leases.clone() });
            self.noted = Some(leases);
        }
    }

    fn plan_exit(&mut self, now: Millis, out: &mut Vec<Action>) {
        let exit = match self.mode {
            Mode::Draining { deadline } => {
                // A coordinator that is away finds out by itself, and so does the next agent.
                let parted = !self.link.registered || self.link.failures > 0;
                let done = self.is_empty_handed() && parted && self.link.leaving.is_none();
                let stranger = !self.link.ever && self.packs.is_empty();
                let exit = done || stranger || now >= deadline + LAST_WORDS;
                exit.then_some(Exit::Clean)
            }
            Mode::Working if !self.link.ever => {
                let at = self.started + self.config.register_timeout;
                self.wake_at(at);
                (now >= at).then_some(Exit::NeverRegistered)
            }
            // Undelivered results are work too: only an agent that holds nothing gives up.
            Mode::Working if self.is_empty_handed() => {
                let at = self.link.heard + self.config.idle_timeout;
                self.wake_at(at);
                (now >= at).then_some(Exit::Clean)
            }
            _ => None,
        };
        if let Some(exit) = exit {
            self.mode = Mode::Ended;
            self.wake = None;
            out.push(Action::Exit(exit));
        }
    }
}
