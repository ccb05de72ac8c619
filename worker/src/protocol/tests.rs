//! The agent against a coordinator and children that the tests play themselves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deptune_proto::convert::Assignment;
use deptune_sweep::child::{Evaluation, TrialResult};
use deptune_sweep::id::{ArtifactHash, Epoch, RequestId, SweepId, TrialId, WorkerId};
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::record::{SlotKind, SlotRecord};
use deptune_sweep::scheduler::{Ack, LeaseKey, Report, ReportEnd, Stop, StopReason};
use uuid::Uuid;

use super::*;
use crate::Exit;
use crate::fixture::settings;

mod calls;
mod draining;
mod inheriting;
mod training;

const MINUTE: Millis = 60_000;

fn lease(index: u64) -> LeaseKey {
    LeaseKey { trial: TrialId { sweep: SweepId(1), index }, epoch: Epoch(1) }
}

fn trial(index: u64) -> TrialId {
    lease(index).trial
}

fn assignment(index: u64, slot: u32) -> Assignment {
    Assignment {
        lease: lease(index),
        slot,
        pack: slot,
        settings: settings(),
        model_path: "t5".to_owned(),
        model_dir: None,
        model_files: Vec::new(),
        model_uploaded: false,
        model_hub: None,
        data: Vec::new(),
        checkpoint: None,
    }
}

fn evaluation(step: u64) -> Evaluation {
    Evaluation {
        step,
        split: "validation".to_owned(),
        loss: Number::from(1.0),
        train_loss: None,
        metrics: vec![("accuracy".to_owned(), Number::from(step as f64))],
        constant: Vec::new(),
        rows: 10,
        seconds: 0.1,
        per_class: Vec::new(),
    }
}

fn result() -> TrialResult {
    TrialResult {
        metric_name: "accuracy".to_owned(),
        metric: Number::from(90.0),
        best_step: 100,
        test: None,
        constant_metric: Number::from(50.0),
        steps: 100,
        trainable_parameters: 7,
        train_seconds: 1.0,
        peak_memory_bytes: None,
        mean_utilization: None,
        mean_power_watts: None,
        stopped_early: false,
        predictions: Vec::new(),
    }
}

fn identity(number: u128, slots: u32) -> Identity {
    let slot = |slot| SlotRecord {
        slot,
        kind: SlotKind::Cpu,
        threads: 1,
        device: String::new(),
        max_pack: 1,
        memory: None,
    };
    Identity { worker: WorkerId(Uuid::from_u128(number)), slots: (0..slots).map(slot).collect() }
}

fn config() -> Config {
    Config {
        register_timeout: MINUTE,
        idle_timeout: 5 * MINUTE,
        hang_timeout: 10 * MINUTE,
        drain_timeout: MINUTE,
        drain_at: None,
        longest_wait: 10_000,
        seed: [1, 2],
    }
}

/// An agent, the time, and what it wants done.
struct Play {
    agent: Agent,
    now: Millis,
    due: Vec<Action>,
}

impl Play {
    fn new(slots: u32) -> Play {
        Play::with(config(), slots, None)
    }

    fn with(config: Config, slots: u32, estate: Option<Estate>) -> Play {
        let agent = Agent::new(config, identity(9, slots), estate, 0);
        let mut play = Play { agent, now: 0, due: Vec::new() };
        play.event(Event::Tick);
        play
    }

    /// An agent that is registered and got these trials, one per slot.
    fn busy(trials: u32) -> Play {
        let mut play = Play::new(trials);
        play.register();
        play.heartbeat();
        play.answer(Answer::HeartbeatHeard { stops: vec![], drain: false });
        let ask = play.exchange();
        let leases = (0..trials).map(|slot| assignment(slot.into(), slot)).collect();
        play.answer_exchange(ask.0, vec![], leases);
        for slot in 0..trials {
            let run = play.started(slot);
            play.child(slot, run, ChildNews::Spawned);
        }
        play.take();
        play
    }

    fn event(&mut self, event: Event) {
        let actions = self.agent.step(event, self.now);
        self.due.extend(actions);
    }

    fn answer(&mut self, answer: Answer) {
        self.event(Event::Answered(answer));
    }

    fn fail(&mut self, call: CallKind, error: CallError) {
        self.event(Event::CallFailed { call, error });
    }

    fn cut(&mut self, call: CallKind) {
        self.fail(call, CallError::Unreachable("cut".to_owned()));
    }

    fn child(&mut self, slot: u32, run: u64, news: ChildNews) {
        self.event(Event::Child { slot, run, news: Box::new(news) });
    }

    /// Lets time pass, waking the agent whenever it wants to be woken.
    fn pass(&mut self, time: Millis) {
        let end = self.now + time;
        while let Some(wake) = self.agent.wake().filter(|&wake| wake <= end) {
            self.now = self.now.max(wake);
            let before = self.due.len();
            self.event(Event::Tick);
            let again = self.agent.wake().is_some_and(|wake| wake <= self.now);
            assert!(!again || self.due.len() > before, "woken for nothing, again and again");
        }
        self.now = end;
        self.event(Event::Tick);
    }

    fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.due)
    }

    /// Takes the one due action that `pick` knows.
    fn one<T>(&mut self, what: &str, pick: impl Fn(&Action) -> Option<T>) -> T {
        let at = self.due.iter().position(|action| pick(action).is_some());
        let at = at.unwrap_or_else(|| panic!("no {what} among {:#?}", self.due));
        let action = self.due.remove(at);
        pick(&action).unwrap()
    }

    fn none(&self, what: &str, pick: impl Fn(&Action) -> bool) {
        assert!(!self.due.iter().any(pick), "{what} among {:#?}", self.due);
    }

    fn register(&mut self) -> (WorkerId, Vec<LeaseKey>) {
        let call = self.one("registration", |a| match a {
            Action::Call(Call::Register { worker, lost, .. }) => Some((*worker, lost.clone())),
            _ => None,
        });
        self.answer(Answer::Registered { heartbeat: 10_000 });
        call
    }

    /// The exchange that is due: its id, reports and free slots.
    fn exchange(&mut self) -> (RequestId, Vec<Report>, Vec<u32>) {
        self.one("exchange", |a| match a {
            Action::Call(Call::Exchange { request_id, reports, free_slots, .. }) => {
                Some((*request_id, reports.clone(), free_slots.clone()))
            }
            _ => None,
        })
    }

    fn answer_exchange(&mut self, request_id: RequestId, acks: Vec<Ack>, leases: Vec<Assignment>) {
        let retry_after = 1_000;
        self.answer(Answer::Exchanged { request_id, acks, leases, retry_after });
    }

    fn heartbeat(&mut self) -> Vec<LeaseKey> {
        self.one("heartbeat", |a| match a {
            Action::Call(Call::Heartbeat { leases, .. }) => {
                Some(leases.iter().map(|l| l.lease).collect())
            }
            _ => None,
        })
    }

    fn progress(&mut self) -> Vec<(LeaseKey, Vec<u64>, Option<u64>)> {
        self.one("progress", |a| match a {
            Action::Call(Call::Progress { trials, .. }) => Some(
                trials
                    .iter()
                    .map(|t| {
                        let steps = t.evaluations.iter().map(|e| e.step).collect();
                        (t.lease, steps, t.checkpoint.as_ref().map(|c| c.step))
                    })
                    .collect(),
            ),
            _ => None,
        })
    }

    /// The run that is to be started on a slot.
    fn started(&mut self, wanted: u32) -> u64 {
        self.one("start", |a| match a {
            Action::Start { slot, run, .. } if *slot == wanted => Some(*run),
            _ => None,
        })
    }

    fn stopped(&mut self) -> (u32, u64, StopHow) {
        self.one("stop", |a| match a {
            Action::Stop { slot, run, how } => Some((*slot, *run, *how)),
            _ => None,
        })
    }

    /// Saves the report that is due, and gives it back.
    fn save(&mut self) -> Report {
        let report = self.one("report to save", |a| match a {
            Action::SaveReport(report) => Some(Report::clone(report)),
            _ => None,
        });
        self.event(Event::ReportSaved { lease: report.lease, durable: true });
        report
    }

    /// A checkpoint of the child, kept.
    fn checkpoint(&mut self, slot: u32, run: u64, index: u64, step: u64) {
        let path = PathBuf::from(format!("checkpoint-{step}"));
        self.child(slot, run, ChildNews::Checkpoint { trial: trial(index), step, path });
        self.one("checkpoint to keep", |a| match a {
            Action::KeepCheckpoint { lease: l, step: s, .. } => {
                (*l == lease(index) && *s == step).then_some(())
            }
            _ => None,
        });
        let kept = Ok(Kept { step, hash: hash(step) });
        self.event(Event::Kept { lease: lease(index), file: FileKind::Checkpoint, kept });
    }

    fn upload(&mut self) -> (LeaseKey, FileKind, Kept) {
        self.one("upload", |a| match a {
            Action::Call(Call::Upload { lease, file, kept }) => Some((*lease, *file, kept.clone())),
            _ => None,
        })
    }

    fn uploaded(&mut self) -> FileKind {
        let (lease, file, kept) = self.upload();
        self.answer(Answer::Uploaded { lease, file, hash: kept.hash });
        file
    }

    /// The child says that it is done; its adapter is kept and the report saved.
    fn done(&mut self, slot: u32, run: u64, index: u64) {
        let adapter = PathBuf::from("adapter");
        let news = ChildNews::Done { trial: trial(index), result: result(), adapter };
        self.child(slot, run, news);
        self.one("adapter to keep", |a| matches!(a, Action::KeepAdapter { .. }).then_some(()));
        let kept = Ok(Kept { step: 100, hash: hash(1_000 + index) });
        self.event(Event::Kept { lease: lease(index), file: FileKind::Adapter, kept });
        self.save();
    }

    fn exit(&mut self, slot: u32, run: u64) {
        let message = "the trainer exited with code 0".to_owned();
        self.child(slot, run, ChildNews::Exited { class: FailureClass::Crashed, message });
    }

    fn ended(&mut self) -> Exit {
        self.one("exit", |a| match a {
            Action::Exit(exit) => Some(*exit),
            _ => None,
        })
    }
}

fn hash(number: u64) -> ArtifactHash {
    ArtifactHash::of(&number.to_le_bytes())
}

fn is_exchange(action: &Action) -> bool {
    matches!(action, Action::Call(Call::Exchange { .. }))
}
