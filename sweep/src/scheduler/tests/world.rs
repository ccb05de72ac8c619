//! Random worlds: workers that die, come back, repeat themselves and report late; a coordinator
//! that restarts; time that jumps forward. Whatever happens, every trial ends exactly once.

use proptest::prelude::*;

use super::behaviour::{Bench, progress, success};
use super::model::request;
use crate::id::{SweepId, TrialId, WorkerId};
use crate::outcome::FailureClass;
use crate::scheduler::{Event, LeaseKey, Reply, Report, ReportEnd};

/// Most trials of a pack.
const MAX_PACK: u32 = 3;

#[derive(Debug, Clone, Copy)]
enum Move {
    /// Worker asks for work on a slot; `lost`: the answer never arrives.
    Ask { worker: usize, slot: u32, lost: bool },
    /// Worker ends one of its leases; `twice`: the report is sent again later.
    End { worker: usize, which: usize, how: u8, twice: bool },
    /// Worker tells that it lives.
    Beat { worker: usize },
    /// Worker dies and starts again, with or without its directory.
    Die { worker: usize, remembers: bool },
    /// Milliseconds pass.
    Wait(u16),
    /// The same, and the coordinator stood still meanwhile.
    Stall(u16),
    /// The coordinator restarts from the store.
    Restart,
    /// An old report arrives again.
    Replay { which: usize },
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        5 => (0..3usize, 0..2u32, prop::bool::weighted(0.1))
            .prop_map(|(worker, slot, lost)| Move::Ask { worker, slot, lost }),
        4 => (0..3usize, 0..4usize, 0..10u8, prop::bool::weighted(0.2))
            .prop_map(|(worker, which, how, twice)| Move::End { worker, which, how, twice }),
        3 => (0..3usize).prop_map(|worker| Move::Beat { worker }),
        1 => (0..3usize, any::<bool>())
            .prop_map(|(worker, remembers)| Move::Die { worker, remembers }),
        2 => (0..40_000u16).prop_map(Move::Wait),
        1 => (0..60_000u16).prop_map(Move::Stall),
        1 => Just(Move::Restart),
        1 => (0..8usize).prop_map(|which| Move::Replay { which }),
    ]
}

struct World {
    bench: Bench,
    agents: Vec<Agent>,
    next_worker: u128,
    next_request: u128,
    sent: Vec<(WorkerId, Report)>,
}

struct Agent {
    id: WorkerId,
    held: Vec<LeaseKey>,
}

impl World {
    fn new() -> World {
        let mut bench = Bench::new();
        bench.submit("");
        let mut world =
            World { bench, agents: vec![], next_worker: 1, next_request: 1000, sent: vec![] };
        for _ in 0..3 {
            let id = world.birth(vec![]);
            world.agents.push(Agent { id, held: vec![] });
        }
        world
    }

    fn birth(&mut self, lost: Vec<LeaseKey>) -> WorkerId {
        let n = self.next_worker;
        self.next_worker += 1;
        self.bench.register_packing(n, 2, MAX_PACK, lost)
    }

    fn exchange(&mut self, id: WorkerId, reports: Vec<Report>, slots: Vec<u32>) -> Vec<LeaseKey> {
        self.next_request += 1;
        let request_id = request(self.next_request);
        let event = Event::Exchange { worker: id, request_id, reports, free_slots: slots.clone() };
        match self.bench.send(event) {
            Ok(Reply::Exchanged { grants, .. }) => grants.iter().map(|g| g.lease).collect(),
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                // Given up for its silence: it registers again under its own id.
                let n = id.0.as_u128();
                self.bench.register_packing(n, 2, MAX_PACK, vec![]);
                vec![]
            }
        }
    }

    fn make(&mut self, next: Move) {
        match next {
            Move::Ask { worker, slot, lost } => {
                let id = self.agents[worker].id;
                let leases = self.exchange(id, vec![], vec![slot]);
                if !lost {
                    self.agents[worker].held.extend(leases);
                }
            }
            Move::End { worker, which, how, twice } => {
                if self.agents[worker].held.is_empty() {
                    return;
                }
                let which = which % self.agents[worker].held.len();
                let lease = self.agents[worker].held.remove(which);
                let report = report(lease, how);
                let id = self.agents[worker].id;
                if twice {
                    self.sent.push((id, report.clone()));
                }
                self.exchange(id, vec![report], vec![]);
            }
            Move::Beat { worker } => self.beat(worker),
            Move::Die { worker, remembers } => {
                let held = std::mem::take(&mut self.agents[worker].held);
                self.agents[worker].id = self.birth(if remembers { held } else { vec![] });
            }
            Move::Wait(ms) => {
                self.bench.pass(u64::from(ms));
            }
            Move::Stall(ms) => {
                self.bench.now += u64::from(ms);
                self.bench.send(Event::Tick).unwrap();
            }
            Move::Restart => self.bench.restart(),
            Move::Replay { which } => {
                if let Some((id, report)) = self.sent.get(which).cloned() {
                    self.exchange(id, vec![report], vec![]);
                }
            }
        }
        self.check();
    }

    fn beat(&mut self, worker: usize) {
        let agent = &self.agents[worker];
        let id = agent.id;
        let leases = agent.held.iter().map(|&lease| progress(lease, 1)).collect();
        match self.bench.send(Event::Heartbeat { worker: id, leases }) {
            Ok(Reply::Heard { stops, .. }) => {
                let over: Vec<_> = stops.iter().map(|s| s.lease).collect();
                self.agents[worker].held.retain(|lease| !over.contains(lease));
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                self.bench.register_packing(id.0.as_u128(), 2, MAX_PACK, vec![]);
            }
        }
    }

    /// I4 (conservation) and I5 (capacity), from the outside.
    fn check(&self) {
        let sweep = SweepId(1);
        let progress = self.bench.scheduler.progress(sweep).unwrap();
        let ended = self.bench.store.outcomes.len() as u64;
        assert_eq!(ended + progress.pending + progress.running.len() as u64, 12);
        let slots = 2 * (self.next_worker - 1) as u64;
        assert!(progress.running.len() as u64 <= slots * u64::from(MAX_PACK));
        for trial in self.bench.store.trials.values() {
            if let Some(holder) = trial.phase.holder() {
                let others = self.bench.store.trials.values().filter_map(|t| t.phase.holder());
                let there = (holder.worker, holder.slot);
                let pack: Vec<_> = others.filter(|h| (h.worker, h.slot) == there).collect();
                assert!(pack.len() <= MAX_PACK as usize, "{} trials on a slot", pack.len());
                assert!(pack.iter().all(|other| *other == holder), "two packs on a slot");
            }
        }
    }

    /// Faults off: a healthy worker must bring the sweep to its end.
    fn settle(&mut self) {
        self.agents.clear();
        self.bench.pass(200_000);
        let id = self.birth(vec![]);
        for _ in 0..200 {
            let leases = self.exchange(id, vec![], vec![0, 1]);
            let reports = leases.into_iter().map(success).collect();
            self.exchange(id, reports, vec![]);
            self.bench.pass(61_000);
            if self.bench.store.outcomes.len() == 12 {
                break;
            }
        }
        let ended: Vec<TrialId> = self.bench.store.outcomes.keys().copied().collect();
        let all: Vec<TrialId> = (0..12).map(|index| TrialId { sweep: SweepId(1), index }).collect();
        assert_eq!(ended, all, "every trial has its outcome");
        assert!(self.bench.scheduler.running_sweeps().is_empty());
    }
}

fn report(lease: LeaseKey, how: u8) -> Report {
    let class = match how {
        0..=4 => return success(lease),
        5 => return Report { end: ReportEnd::Released, ..success(lease) },
        6 => FailureClass::Crashed,
        7 => FailureClass::Diverged,
        8 => FailureClass::Oom,
        _ => FailureClass::WorkerLost,
    };
    Report { end: ReportEnd::Failed { class, message: "why".into() }, ..success(lease) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_trial_ends_exactly_once(moves in prop::collection::vec(moves(), 0..120)) {
        let mut world = World::new();
        for next in moves {
            world.make(next);
        }
        world.settle();
    }

    #[test]
    fn equal_events_give_equal_stores(moves in prop::collection::vec(moves(), 0..60)) {
        let run = || {
            let mut world = World::new();
            for &next in &moves {
                world.make(next);
            }
            format!("{:?}", world.bench.store)
        };
        prop_assert_eq!(run(), run());
    }
}
