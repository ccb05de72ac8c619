//! What packs took decides how large the next ones are.

use super::behaviour::{Bench, failure, slot, success};
use super::model::{request, submission};
use crate::footprint::ModelSize;
use crate::id::WorkerId;
use crate::outcome::FailureClass;
use crate::record::{SlotKind, SlotRecord};
use crate::scheduler::{Event, Grant, LeaseKey, Report, ReportEnd};
use crate::spec::Spec;

/// The spec of a sweep with 32 trials of each of three seeds, whose packs need much more than the
/// model does.
fn spec(length: u32) -> String {
    let rates: Vec<String> = (1..=16).map(|n| format!("0.{n:02}")).collect();
    let rates = format!("prompt_lr = [{}]", rates.join(", "));
    let length = format!("prompt_length = [{length}]");
    let changes = [
        ("prompt_lr = [0.3, 0.4]", rates.as_str()),
        ("batch_size = 8", "batch_size = 256"),
        ("prompt_length = [4]", &length),
    ];
    let changed = |spec: String, (from, to): &(&str, &str)| {
        assert!(spec.contains(from), "{from}");
        spec.replace(from, to)
    };
    changes.iter().fold(submission("").spec, changed)
}

fn submit(bench: &mut Bench, length: u32) -> Spec {
    bench.requests += 1;
    let request_id = request(bench.requests);
    let submission = crate::record::Submission { spec: spec(length), ..submission("") };
    let spec = submission.parse().unwrap();
    let copy = Box::new(spec.clone());
    bench.send(Event::Submit { request_id, submission, spec: copy }).unwrap();
    spec
}

fn on(device: &str, memory: Option<u64>) -> SlotRecord {
    SlotRecord { device: device.to_owned(), kind: SlotKind::Cuda, max_pack: 12, memory, ..slot(0) }
}

/// Bytes that a pack of so many of a sweep's trials is estimated to need.
fn estimate(spec: &Spec, members: u32) -> u64 {
    let settings = spec.settings(0).unwrap();
    let model = crate::model::ModelConfig::parse("config.json", &submission("").model_config);
    settings.pack_bytes(&ModelSize::new(model.unwrap()), &on("GPU", None), members)
}

/// A success that says what the pack took.
fn took(lease: LeaseKey, bytes: u64) -> Report {
    let mut report = success(lease);
    if let ReportEnd::Succeeded { result, .. } = &mut report.end {
        result.peak_memory_bytes = Some(bytes);
    }
    report
}

/// A bench with a sweep, and a worker whose one slot holds `members` trials by the estimate.
struct World {
    bench: Bench,
    spec: Spec,
    worker: WorkerId,
}

impl World {
    fn new(members: u32) -> World {
        let mut bench = Bench::new();
        let spec = submit(&mut bench, 4);
        let memory = estimate(&spec, members);
        let worker = bench.register_slots(1, vec![on("GPU", Some(memory))], &[], vec![]);
        World { bench, spec, worker }
    }

    /// The next pack of the worker.
    fn pack(&mut self) -> Vec<LeaseKey> {
        let (_, grants) = self.bench.exchange(self.worker, vec![], vec![0]);
        self.bench.audit();
        grants.iter().map(|grant: &Grant| grant.lease).collect()
    }

    /// The pack succeeds, and says that it took so many bytes.
    fn end(&mut self, pack: Vec<LeaseKey>, bytes: u64) {
        let reports = pack.into_iter().map(|lease| took(lease, bytes)).collect();
        self.bench.exchange(self.worker, reports, vec![]);
        self.bench.audit();
    }

    /// The first pack, of so many, took so many bytes.
    fn probe(&mut self, members: u32, bytes: u64) {
        let pack = self.pack();
        assert_eq!(pack.len(), members as usize);
        self.end(pack, bytes);
    }

    fn estimate(&self, members: u32) -> u64 {
        estimate(&self.spec, members)
    }

    /// What each trial is estimated to add.
    fn each(&self) -> u64 {
        self.estimate(2) - self.estimate(1)
    }
}

#[test]
fn a_pack_that_took_more_than_estimated_makes_the_next_ones_smaller() {
    let mut world = World::new(8);
    let took = |world: &World, members: u64| world.estimate(0) + 2 * members * world.each();
    let bytes = took(&world, 8);
    world.probe(8, bytes);
    // Each trial adds twice as much, or all is more: to be sure.
    let pack = world.pack();
    let members = pack.len() as u64;
    assert!((1..4).contains(&members), "{members} trials");
    // Now it is known which.
    let bytes = took(&world, members);
    world.end(pack, bytes);
    assert_eq!(world.pack().len(), 4);
}

#[test]
fn a_pack_that_took_less_than_estimated_makes_the_next_ones_larger_within_the_bounds() {
    let mut world = World::new(4);
    let bytes = world.estimate(4) - 2 * world.each();
    world.probe(4, bytes);
    let pack = world.pack();
    assert!((5..8).contains(&pack.len()), "{} trials", pack.len());
    let bytes = bytes / 4;
    world.end(pack, bytes);
    assert_eq!(world.pack().len(), 11, "thirty-two in packs of at most twelve");
}

#[test]
fn what_was_measured_survives_a_restart() {
    let mut world = World::new(8);
    let bytes = 3 * world.estimate(8) / 2;
    world.probe(8, bytes);
    let before: Vec<_> = world.bench.scheduler.pack_memories().cloned().collect();
    world.bench.restart();
    let after: Vec<_> = world.bench.scheduler.pack_memories().cloned().collect();
    assert_eq!(before, after);
    assert_eq!((after[0].members, after[0].bytes), (8, bytes));
    assert!(world.pack().len() < 5);
}

#[test]
fn another_device_and_another_shape_are_not_meant() {
    let mut world = World::new(8);
    let memory = world.estimate(8);
    world.probe(8, 2 * memory);
    let slots = vec![on("another GPU", Some(memory))];
    let other = world.bench.register_slots(2, slots, &[], vec![]);
    let (_, grants) = world.bench.exchange(other, vec![], vec![0]);
    assert_eq!(grants.len(), 8);
    // A sweep with other prompts, on the same device.
    let mut bench = Bench { store: world.bench.store.clone(), requests: 1000, ..Bench::new() };
    bench.store.sweeps.clear();
    bench.store.trials.clear();
    bench.store.outcomes.clear();
    bench.restart();
    let spec = submit(&mut bench, 8);
    let slots = vec![on("GPU", Some(estimate(&spec, 8)))];
    let worker = bench.register_slots(3, slots, &[], vec![]);
    assert_eq!(bench.scheduler.pack_memories().count(), 1);
    assert_eq!(bench.exchange(worker, vec![], vec![0]).1.len(), 8);
}

#[test]
fn absurd_reports_do_no_harm() {
    for absurd in [0, 1, 1 << 40, 1 << 63, u64::MAX] {
        let mut world = World::new(8);
        world.probe(8, absurd);
        assert_eq!(world.bench.store.measured, 0, "{absurd}");
        assert_eq!(world.pack().len(), 8, "{absurd}");
    }
}

#[test]
fn absurd_rows_do_no_harm() {
    let mut world = World::new(8);
    let bytes = world.estimate(8);
    world.probe(8, bytes);
    for (bytes, estimated, members) in [(0, 0, 8), (u64::MAX, 1, 8), (1, u64::MAX, 8), (5, 5, 0)] {
        for memory in world.bench.store.pack_memories.values_mut() {
            (memory.bytes, memory.estimated, memory.members) = (bytes, estimated, members);
        }
        world.bench.restart();
        world.bench.audit();
        assert_eq!(world.bench.scheduler.pack_memories().count(), 0);
    }
    assert_eq!(world.pack().len(), 8);
}

#[test]
fn what_is_known_already_is_not_written_again() {
    let mut world = World::new(8);
    let bytes = world.estimate(8);
    let pack = world.pack();
    let mut written = Vec::new();
    for (n, lease) in (0..).zip(pack) {
        // A little more each time, and once noticeably more.
        let bytes = bytes + n + if n > 4 { bytes / 8 } else { 0 };
        world.end(vec![lease], bytes);
        written.push(world.bench.store.measured);
    }
    assert_eq!(written, [1, 1, 1, 1, 1, 2, 2, 2]);
    world.bench.restart();
    let pack = world.pack();
    let members = pack.len();
    assert!(members < 8, "{members} trials");
    world.end(pack, bytes / 2);
    assert_eq!(world.bench.store.measured, 3, "of another size");
}

#[test]
fn a_pack_that_ran_out_of_memory_counts_for_more_than_what_was_measured() {
    let mut world = World::new(8);
    let bytes = world.estimate(8) / 2;
    world.probe(8, bytes);
    let pack = world.pack();
    assert!(pack.len() > 8, "{} trials", pack.len());
    let half = pack.len() / 2;
    let oom = |lease| failure(lease, FailureClass::Oom);
    world.bench.exchange(world.worker, pack.into_iter().map(oom).collect(), vec![]);
    world.bench.restart();
    let pack = world.pack();
    assert!(pack.len() <= half && pack.len() > 1, "{} trials", pack.len());
}
