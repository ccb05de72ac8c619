//! `deptune train`: one trial without a coordinator, interrupted and resumed. The child only
//! pretends to train, and keeps real checkpoints.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use deptune_tests::{Project, World, fake_trainer, until};
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(120);

fn world(orders: &str) -> World {
    let trainer = fake_trainer().display().to_string();
    World::new().with_variable("DEPTUNE_TRAINER", &trainer).with_variable("DEPTUNE_FAKE", orders)
}

/// Two rates, two seeds.
fn project(world: &World) -> Project {
    world
        .project("project")
        .with("prompt_lr = [0.3]", "prompt_lr = [0.3, 0.4]")
        .with("seeds = [42]", "seeds = [42, 43]")
        .with("eval_every = 3", "eval_every = 3\nsave_predictions = true")
}

#[test]
fn a_trial_leaves_its_adapter_and_its_results() {
    let world = world("");
    let spec = project(&world).spec();
    let out = world.path("out");
    let shown = out.display().to_string();
    let ran = world
        .run(&["train", &spec, "--set", "prompt_lr=0.4", "--set", "seed=43", "--out", &shown])
        .code(0);
    assert!(ran.stdout.contains("validation"), "{ran}");
    let results = std::fs::read_to_string(out.join("results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&results).unwrap();
    assert_eq!(results["result"]["steps"], 6);
    assert_eq!(results["evaluations"].as_array().unwrap().len(), 2);
    let manifest = std::fs::read_to_string(out.join("adapter_config.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["settings"]["prompt_lr"], 0.4);
    assert_eq!(manifest["settings"]["seed"], 43);
    let weights = std::fs::read(out.join("adapter_model.safetensors")).unwrap();
    let hash = deptune_sweep::id::ArtifactHash::of(&weights);
    assert_eq!(manifest["adapter_hash"], hash.as_str());
    assert!(out.join("predictions-validation.jsonl").is_file());

    // Again: nothing is overwritten by mistake, and what is done stays done.
    let again = world.run(&["train", &spec, "--out", &shown]).code(2);
    again.says(&["holds a trial already", "hint: continue it with --resume"]);
    world
        .run(&["train", &spec, "--trial", "1", "--out", &shown, "--resume"])
        .code(2)
        .says(&["holds another trial"]);
    let done = world.run(&["train", &spec, "--trial", "3", "--out", &shown, "--resume", "--json"]);
    assert_eq!(done.code(0).json()["result"]["steps"], 6);
}

#[test]
fn an_interrupted_trial_goes_on_where_it_was() {
    let world = world("");
    let journal = world.path("journal");
    let orders = format!("step_ms=30 journal={}", journal.display());
    let world = world.with_variable("DEPTUNE_FAKE", &orders);
    let project = world.project("project").with("steps = 6", "steps = 60");
    let (spec, out) = (project.spec(), world.path("out").display().to_string());
    let evaluated = |least: usize| {
        until("evaluations are there", PATIENCE, || {
            let text = std::fs::read_to_string(world.path("out/evaluations.jsonl"));
            (text.unwrap_or_default().lines().count() >= least).then_some(())
        });
    };

    // Killed outright, then asked to stop, then left alone.
    let mut first = world.start("train", &["train", &spec, "--out", &out]);
    evaluated(2);
    first.kill();
    let second = world.start("train", &["train", &spec, "--out", &out, "--resume"]);
    evaluated(6);
    second.signal(Signal::SIGINT);
    second.wait(PATIENCE).code(130).says(&["stopped; go on with:", "--resume"]);
    let last = world.run_within(PATIENCE, &["train", &spec, "--out", &out, "--resume", "--json"]);
    let last = last.code(0).says(&["going on from step"]).json();
    assert_eq!(last["result"]["steps"], 60);
    let steps: Vec<u64> = last["evaluations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=20).map(|n| n * 3).collect::<Vec<_>>());
    // No step after the first run's last checkpoint but one was made more than twice.
    let made = std::fs::read_to_string(&journal).unwrap().lines().count();
    assert!((60..=68).contains(&made), "{made} steps were made");
}

#[test]
fn a_torn_checkpoint_is_passed_over() {
    let world = world("step_ms=200");
    let project = world.project("project").with("steps = 6", "steps = 30");
    let (spec, out) = (project.spec(), world.path("out"));
    let shown = out.display().to_string();
    let mut first = world.start("train", &["train", &spec, "--out", &shown]);
    first.wait_for("step 9,");
    until("a checkpoint is there", PATIENCE, || {
        out.join("checkpoints/step-9.safetensors").is_file().then_some(())
    });
    first.kill();
    let mut steps: Vec<u64> = std::fs::read_dir(out.join("checkpoints"))
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()
        })
        .collect();
    steps.sort_unstable();
    assert_eq!(steps.len(), 2);
    let newest = out.join(format!("checkpoints/step-{}.safetensors", steps[1]));
    // A whole file with nothing in it that the child would take.
    std::fs::write(&newest, b"torn").unwrap();
    let ran = world.run_within(PATIENCE, &["train", &spec, "--out", &shown, "--resume"]);
    let before = format!("going on from step {}", steps[0]);
    ran.code(0).says(&["cannot be used", &before]);
}

#[test]
fn what_cannot_be_trained_is_said() {
    let world = world("fault=diverged");
    let project = project(&world);
    let out = world.path("out").display().to_string();
    let train = ["train", &project.spec(), "--out", &out].map(str::to_owned);
    let train: Vec<&str> = train.iter().map(String::as_str).collect();
    let with = |more: &[&str]| world.run(&[&train[..], more].concat());
    with(&["--trial", "4"])
        .code(2)
        .says(&["the grid has no trial 4", "hint: its trials are 0 to 3"]);
    with(&["--set", "prompt_lr=0.7"]).code(2).says(&["no trial of the grid has prompt_lr = 0.7"]);
    with(&["--set", "lr=0.7"]).code(2).says(&["a trial has no setting 'lr'", "prompt_lr"]);
    with(&[]).code(1).says(&["the first of 4 trials", "the trial failed: diverged"]);
}
