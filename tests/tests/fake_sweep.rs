//! A thousand trials over four workers of which one is killed: what is recorded is exactly the
//! grid of the spec, each point once. The children only pretend to train.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use deptune_sweep::model::ModelConfig;
use deptune_sweep::spec::{Format, Spec};
use deptune_tests::{Project, World, fake_trainer, quickstart, until};
use nix::sys::signal::Signal;

const TRIALS: u64 = 1000;

/// Far longer than it takes (half a minute on two idle cores).
const PATIENCE: Duration = Duration::from_secs(300);

/// More than a call that was sent takes until it is answered and stored, less than a lease lasts.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// 4 prompt lengths × 5 × 5 rates × 10 seeds.
fn grid(world: &World) -> (Project, Spec) {
    let seeds: Vec<u32> = (1..=10).collect();
    let project = world
        .project("grid")
        .with("prompt_lr = [0.3]", "prompt_lr = [0.1, 0.2, 0.3, 0.4, 0.5]")
        .with("lowrank_lr = [1e-3]", "lowrank_lr = [1e-5, 1e-4, 5e-4, 1e-3, 5e-3]")
        .with("prompt_length = [8]", "prompt_length = [5, 12, 19, 26]")
        .with("rank = [24]", "rank = { equal_parameters_to = 40 }")
        .with("seeds = [42]", &format!("seeds = {seeds:?}"))
        .with("eval_every = 3", "eval_every = 6");
    let config = std::fs::read_to_string(quickstart().join("model/config.json")).unwrap();
    let config = ModelConfig::parse("config.json", &config).unwrap();
    let spec = Spec::parse(project.text(), Format::Toml, Some(&config)).unwrap();
    assert_eq!(spec.total(), TRIALS);
    (project, spec)
}

#[test]
fn a_thousand_trials_end_once_each_although_a_worker_dies() {
    let world = World::new();
    let (project, spec) = grid(&world);
    let coordinator = world.serve_at("127.0.0.1:0", &["--lease-ttl", "10s"]);
    let roots = quickstart();
    let mut workers: Vec<_> = ["one", "two", "three", "four"]
        .map(|name| world.worker(name, &fake_trainer(), &[&roots], &["--slots", "2"]))
        .into();
    let start = Instant::now();
    let mut waiting = world.start("submit", &["submit", &project.spec(), "--wait"]);

    // Amid its work: with a trial in hand and some behind it. It is frozen before it is looked at:
    // what a running worker held a moment ago it may have reported by now.
    let mut database = coordinator.database();
    let held = "select count(*) from trials t join workers w on w.id = t.worker
                where t.phase = 'leased' and w.name = 'one'";
    until("the first worker is at work", PATIENCE, || {
        assert!(waiting.is_running(), "{}", waiting.stderr());
        if database.number("select count(*) from outcomes") < 100 || database.number(held) == 0 {
            return None;
        }
        workers[0].signal(Signal::SIGSTOP);
        std::thread::sleep(ON_ITS_WAY);
        let holds = database.number(held) > 0;
        if !holds {
            workers[0].signal(Signal::SIGCONT);
        }
        holds.then_some(())
    });
    workers.remove(0).kill();

    waiting.wait(PATIENCE).code(0);
    eprintln!("the sweep took {:?}", start.elapsed());

    // Exactly the spec's own enumeration.
    let expected: Vec<Vec<String>> = (0..TRIALS)
        .map(|index| {
            let settings = spec.settings(index).unwrap();
            vec![
                index.to_string(),
                spec.configuration(index).to_string(),
                settings.prompt_length.to_string(),
                settings.rank.to_string(),
                format!("{:?}", settings.prompt_lr.unwrap()),
                format!("{:?}", settings.lowrank_lr.unwrap()),
                settings.seed.to_string(),
                "succeeded".to_owned(),
            ]
        })
        .collect();
    let distinct: BTreeSet<&[String]> = expected.iter().map(|row| &row[1..]).collect();
    assert_eq!(distinct.len() as u64, TRIALS, "(configuration, seed) are distinct");
    let found = database.rows(
        "select trial_index, configuration, prompt_length, rank, prompt_lr, lowrank_lr, seed,
         outcome from trial_results where sweep = 1 order by trial_index",
    );
    assert!(found == expected, "other trials are recorded than the spec has");
    assert_eq!(database.number("select count(*) from outcomes"), 1000);
    database.assert_sound();

    // The same by the program, and nothing is left to do.
    let sql = "select count(*) as outcomes, count(distinct configuration || '.' || seed) as points
               from trial_results where outcome = 'succeeded'";
    let answer = world.run(&["sql", sql, "--json"]).code(0).json();
    assert_eq!(answer, serde_json::json!({ "outcomes": 1000, "points": 1000 }));
    assert_eq!(
        database.rows("select status, pending, running, succeeded from sweep_progress"),
        [["finished", "0", "0", "1000"]]
    );

    // What the dead worker held was tried again by another one.
    let lost = database.rows(
        "select a.trial_index, w.name, o.worker = a.worker from attempts a
         join workers w on w.id = a.worker
         join outcomes o on o.sweep = a.sweep and o.trial_index = a.trial_index
         where a.ending = 'expired'",
    );
    assert!(!lost.is_empty(), "the worker was killed between two trials");
    for row in lost {
        assert_eq!(row[1..], ["one", "0"], "trial {}", row[0]);
    }
    drop(workers);
}
