//! Which worker gets what: by what a sweep requires, and not once it is to end.

use super::behaviour::{Bench, slot, success};
use super::model::worker;
use crate::id::{SweepId, TrialId};
use crate::record::{SlotKind, SlotRecord};
use crate::scheduler::{Event, Refusal, Reply, Unplaced};

fn gpu(number: u32, memory: Option<u64>) -> SlotRecord {
    SlotRecord { kind: SlotKind::Cuda, memory, ..slot(number) }
}

#[test]
fn a_slot_gets_what_it_fits() {
    let mut bench = Bench::new();
    let picky =
        bench.submit("[requires]\ndevice = \"cuda\"\nmemory_gb = 40\nlabels = [\"pool=a\"]");
    let any = bench.submit("");
    let slots = vec![gpu(0, Some(80_000_000_000)), gpu(1, Some(39_000_000_000)), slot(2)];
    let labelled = bench.register_slots(1, slots.clone(), &["other", "pool=a"], vec![]);
    let plain = bench.register_slots(2, slots, &[], vec![]);
    let of = |bench: &mut Bench, worker, slot| bench.lease(worker, slot).lease.trial.sweep;
    assert_eq!(of(&mut bench, labelled, 1), any, "too little memory");
    assert_eq!(of(&mut bench, labelled, 2), any, "no CUDA");
    assert_eq!(of(&mut bench, plain, 0), any, "no label");
    assert_eq!(of(&mut bench, labelled, 0), picky);
    bench.audit();
}

#[test]
fn who_fits_nowhere_is_told_why() {
    let mut bench = Bench::new();
    let sweep = bench.submit("[requires]\ndevice = \"cuda\"\nmemory_gb = 40");
    assert_eq!(bench.scheduler.unplaced(sweep), Some(Unplaced::NoWorker));
    bench.register(1, 2, vec![]);
    bench.register_slots(2, vec![gpu(0, None)], &[], vec![]);
    bench.register_slots(3, vec![gpu(0, Some(24_000_000_000))], &[], vec![]);
    let trial = TrialId { sweep, index: 0 };
    assert_eq!(
        bench.scheduler.explain(trial).unwrap().to_string(),
        "no worker can take it: w1 computes on cpu, not on cuda; w2 has memory of unknown size, \
         not the 40.0 GB of memory that are required; w3 has 24.0 GB of memory, not the 40.0 GB \
         of memory that are required"
    );
    bench.register_slots(4, vec![slot(0), gpu(1, Some(40_000_000_000))], &[], vec![]);
    assert_eq!(bench.scheduler.unplaced(sweep), None);
    assert_eq!(bench.scheduler.unplaced(SweepId(77)), None);
}

#[test]
fn a_worker_that_is_to_end_gets_nothing_more_and_hears_of_it() {
    let mut bench = Bench::new();
    bench.submit("");
    let w = bench.register(1, 2, vec![]);
    let held = bench.lease(w, 0).lease;
    let heard = |bench: &mut Bench| match bench.send(Event::Heartbeat { worker: w, leases: vec![] })
    {
        Ok(Reply::Heard { drain, .. }) => drain,
        other => panic!("{other:?}"),
    };
    assert!(!heard(&mut bench));
    assert_eq!(bench.send(Event::Drain { worker: w }), Ok(Reply::Done));
    assert_eq!(bench.send(Event::Drain { worker: w }), Ok(Reply::Done), "once more");
    assert_eq!(bench.exchange(w, vec![], vec![1]).1, []);
    // Neither a restart nor that it registers again makes it forgotten.
    bench.restart();
    bench.register(1, 2, vec![]);
    assert!(heard(&mut bench));
    // What it has finished counts.
    bench.exchange(w, vec![success(held)], vec![0, 1]);
    assert_eq!(bench.store.outcomes.len(), 1);
    assert_eq!(bench.exchange(w, vec![], vec![0]).1, []);
    assert_eq!(bench.scheduler.unplaced(held.trial.sweep), Some(Unplaced::NoWorker));
    bench.send(Event::Leave { worker: w }).unwrap();
    let gone = bench.send(Event::Drain { worker: w });
    assert_eq!(gone, Err(Refusal::UnknownWorker(worker(1))));
    let next = bench.register(2, 1, vec![]);
    bench.lease(next, 0);
    bench.audit();
}
