//! Budgets, measured from outside: how long slots really worked for a sweep.

use proptest::prelude::*;

use super::behaviour::{Bench, progress, success};
use super::control::control;
use super::model::request;
use crate::id::{SweepId, WorkerId};
use crate::outcome::SweepStatus;
use crate::scheduler::{Changes, Config, Control, Event, LeaseKey, Reply, Report, ReportEnd};

/// Milliseconds between ticks.
const TICK: u64 = 250;
/// Between a worker's heartbeats.
const BEAT: u64 = 10_000;

/// A slot of a worker, and what it does.
struct Slot {
    worker: usize,
    number: u32,
    pack: Vec<LeaseKey>,
    /// When the pack ends by itself.
    ends: u64,
}

/// Workers that run packs for a while each, and hear of stops by heartbeats only.
struct Fleet {
    bench: Bench,
    workers: Vec<WorkerId>,
    slots: Vec<Slot>,
    /// Milliseconds for which slots really worked.
    worked: u64,
}

impl Fleet {
    fn new(budget: u64, workers: usize, slots: u32, max_pack: u32) -> Fleet {
        let mut bench = Bench::new();
        let hours = budget as f64 / 3_600_000.0;
        let sweep = bench.submit(&format!("[limits]\nbudget_gpu_hours = {hours}\n"));
        let add_seeds = (100..400).collect();
        let changes = Changes { add_seeds, ..Changes::default() };
        bench.send(control(request(9_000), sweep, Control::Change(changes))).unwrap();
        let workers: Vec<WorkerId> = (1..=workers as u128)
            .map(|n| bench.register_packing(n, slots, max_pack, vec![]))
            .collect();
        let slots = (0..workers.len())
            .flat_map(|worker| (0..slots).map(move |number| (worker, number)))
            .map(|(worker, number)| Slot { worker, number, pack: vec![], ends: 0 })
            .collect();
        Fleet { bench, workers, slots, worked: 0 }
    }

    /// One tick's time. `lasts`: how long a pack that begins now will take, and whether it succeeds.
    fn go_on(&mut self, lasts: u64, succeeds: bool) {
        self.worked += TICK * self.slots.iter().filter(|slot| !slot.pack.is_empty()).count() as u64;
        self.bench.now += TICK;
        let now = self.bench.now;
        self.bench.send(Event::Tick).unwrap();
        for worker in 0..self.workers.len() {
            // Each at another time.
            if (now + 1_750 * worker as u64).is_multiple_of(BEAT) {
                self.beat(worker);
            }
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.pack.is_empty() || slot.ends <= now) {
            let report = |lease| match succeeds {
                true => success(lease),
                false => Report { end: ReportEnd::Released, ..success(lease) },
            };
            let reports = slot.pack.drain(..).map(report).collect();
            let worker = self.workers[slot.worker];
            let (_, grants) = self.bench.exchange(worker, reports, vec![slot.number]);
            slot.pack = grants.iter().map(|grant| grant.lease).collect();
            slot.ends = now + lasts;
        }
    }

    fn beat(&mut self, worker: usize) {
        let mine = self.slots.iter().filter(|slot| slot.worker == worker);
        let leases = mine.flat_map(|slot| &slot.pack).map(|&lease| progress(lease, 1)).collect();
        let id = self.workers[worker];
        let Ok(Reply::Heard { stops, .. }) =
            self.bench.send(Event::Heartbeat { worker: id, leases })
        else {
            panic!("a heartbeat is refused");
        };
        for slot in self.slots.iter_mut().filter(|slot| slot.worker == worker) {
            slot.pack.retain(|lease| stops.iter().all(|stop| stop.lease != *lease));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Slots work for a sweep until its budget is used up, and beyond it no longer than until their
    /// workers' next heartbeats; whatever becomes of the packs, and also across a restart.
    #[test]
    fn a_budget_is_overrun_by_a_heartbeat_per_slot_at_most(
        budget in 20_000..400_000u64,
        (workers, slots, max_pack) in (1..4usize, 1..4u32, 1..5u32),
        packs in prop::collection::vec((500..45_000u64, prop::bool::weighted(0.7)), 40),
        restart in prop::option::of(0..200u64),
    ) {
        let budget = budget / 1_000 * 1_000;
        let mut fleet = Fleet::new(budget, workers, slots, max_pack);
        let all = workers as u64 * u64::from(slots);
        let mut uncounted = 0;
        for turn in 0.. {
            let (lasts, succeeds) = packs[turn as usize % packs.len()];
            fleet.go_on(lasts, succeeds);
            if restart == Some(turn) {
                // What slots did since they were heard last is not known any more.
                fleet.bench.restart();
                uncounted = all * BEAT;
            }
            let over = fleet.bench.status(SweepId(1)) == SweepStatus::Cancelled;
            if over && fleet.slots.iter().all(|slot| slot.pack.is_empty()) {
                break;
            }
            prop_assert!(turn < 10_000, "the budget has no end");
        }
        let most = budget + uncounted + all * (BEAT + TICK);
        prop_assert!(fleet.worked >= budget, "{} of {budget}", fleet.worked);
        prop_assert!(fleet.worked <= most, "{}, at most {most}", fleet.worked);
        let used = fleet.bench.store.sweeps[&SweepId(1)].used;
        prop_assert!((budget..=budget + all * TICK).contains(&used), "{used} of {budget}");
        prop_assert!(BEAT * 3 == Config::default().lease_ttl);
    }
}
