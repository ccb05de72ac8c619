//! Every method with the real trainer: as rows of sweeps, and as one trial by `deptune train`,
//! whose adapter `deptune eval` and `deptune predict` then apply.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::time::Duration;

use deptune_tests::{Project, World, quickstart, trainer};
use serde_json::Value;

/// Longer than each part of it may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The lines of the spec that say what is trained, by method.
const SPACES: [(&str, &str); 4] = [
    ("dept", "prompt_lr = [0.3]\nlowrank_lr = [1e-3]\nprompt_length = [8]\nrank = [24]"),
    ("pt", "prompt_lr = [0.3]\nprompt_length = [8]"),
    ("lora", "learning_rate = [1e-3]\nrank = [4]"),
    ("full", "learning_rate = [1e-3]"),
];

fn project(world: &World, method: &str, space: &str) -> Project {
    project_in(world, method, method, space)
}

fn project_in(world: &World, folder: &str, method: &str, space: &str) -> Project {
    let (_, dept) = SPACES[0];
    world
        .project(folder)
        .with("[space]", &format!("[method]\nkind = \"{method}\"\n\n[space]"))
        .with(dept, space)
        .with("name = \"small\"", &format!("name = \"{method}\""))
}

/// A result or an evaluation without what differs from run to run: its step and its time.
fn essence(mut evaluation: Value) -> Value {
    let object = evaluation.as_object_mut().unwrap();
    let kept = ["metrics", "rows", "loss"];
    object.retain(|key, _| kept.contains(&key.as_str()));
    if let Some(Value::Array(pairs)) = object.get("metrics") {
        let pairs =
            pairs.iter().map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()));
        let pairs: serde_json::Map<String, Value> = pairs.collect();
        object.insert("metrics".to_owned(), pairs.into());
    }
    evaluation
}

#[test]
fn a_plan_measures_what_packs_take() {
    let Some(trainer) = trainer() else { return };
    let trainer = trainer.display().to_string();
    let world = World::new();
    for (method, space) in SPACES {
        let space = space.replace("[0.3]", "[0.1, 0.2, 0.3]");
        let spec = project(&world, method, &space).spec();
        let asked = ["plan", &spec, "--measure", "--trainer", &trainer];
        let plan = world.run_within(PATIENCE, &[&asked[..], &["--json"]].concat()).code(0).json();
        let measured = plan["measured"].as_array().unwrap();
        let members: Vec<u64> =
            measured.iter().map(|one| one["members"].as_u64().unwrap()).collect();
        let expected: &[u64] = if space.contains("prompt_lr") { &[1, 2, 3] } else { &[1] };
        assert_eq!(members, expected, "{method}");
        let mut most = 0.0;
        for one in measured {
            let number = |key: &str| one[key].as_f64().unwrap();
            assert!(number("update_seconds") > 0.0 && number("validation_seconds") > 0.0, "{one}");
            assert!((1e7..1e11).contains(&number("peak_bytes")), "{one}");
            most = number("load_seconds") + number("validation_seconds");
        }
        assert!(plan["seconds"].as_f64().unwrap() > most, "{plan}");
    }
    let spec = project_in(&world, "one", "dept", SPACES[0].1).spec();
    let ran = world.run_within(PATIENCE, &["plan", &spec, "--measure", "--trainer", &trainer]);
    let ran = ran.code(0);
    assert!(ran.stdout.contains("evaluations included"), "{ran}");
    assert!(ran.stdout.contains("trial-updates/s"), "{ran}");

    // What cannot be trained is said in the trainer's words, or before it is asked.
    let nowhere = world.path("nowhere").display().to_string();
    world.run(&["plan", &spec, "--measure", "--trainer", &nowhere]).code(4).says(&["trainer"]);
    world.run(&["plan", &spec, "--threads", "1"]).code(2).says(&["--measure"]);
}

#[test]
fn each_method_gives_rows_of_a_sweep() {
    let Some(trainer) = trainer() else { return };
    let world = World::new();
    let coordinator = world.serve();
    let _worker = world.worker("node", &trainer, &[&quickstart()], &[]);
    for (method, space) in SPACES {
        let spec = project(&world, method, space).with("seeds = [42]", "seeds = [42, 43]").spec();
        world.run_within(PATIENCE, &["submit", &spec, "--wait"]).code(0);
    }
    let rows = coordinator.database().rows(
        "select method, count(*), sum(outcome = 'succeeded'), min(trainable_parameters) > 0,
             min(peak_memory_bytes) between 20000000 and 9000000000
         from trial_results group by method order by min(sweep)",
    );
    let expected = SPACES.map(|(method, _)| {
        let texts = [method, "2", "2", "1", "1"];
        texts.map(str::to_owned).to_vec()
    });
    assert_eq!(rows, expected);
}

/// With LoRA libtorch records the pass, also on processors: then what is not kept is computed
/// again, and a kernel draws other masks.
#[test]
fn activations_are_computed_again_and_masks_drawn_as_the_spec_says() {
    let Some(trainer) = trainer() else { return };
    let world = World::new().with_variable("DEPTUNE_TRAINER", &trainer.display().to_string());
    let (method, space) = SPACES[2];
    let losses = |name: &str, settings: &str| -> Vec<f64> {
        let project = project_in(&world, name, method, space);
        let spec = project.with("[train]", &format!("[train]\n{settings}")).spec();
        let out = world.path(&format!("out-{name}")).display().to_string();
        let trained = world.run_within(PATIENCE, &["train", &spec, "--out", &out, "--json"]);
        let trained = trained.code(0).json();
        let evaluations = trained["evaluations"].as_array().unwrap().iter();
        evaluations.map(|one| one["loss"].as_f64().unwrap()).collect()
    };
    let kept = losses("kept", "dropout = 0.1");
    let again = losses("again", "dropout = 0.1\nactivation_checkpointing = true");
    for (one, other) in kept.iter().zip(&again) {
        assert!((one - other).abs() < 1e-4 * one, "{kept:?} and {again:?}");
    }
    let kernel = "dropout = 0.1\ndropout_masks = \"kernel\"";
    let drawn = losses("drawn", kernel);
    assert_ne!(drawn, kept);
    assert_eq!(losses("repeated", kernel), drawn);
}

#[test]
fn each_method_trains_alone_and_its_adapter_repeats_the_results() {
    let Some(trainer) = trainer() else { return };
    let world = World::new().with_variable("DEPTUNE_TRAINER", &trainer.display().to_string());
    for (method, space) in SPACES {
        let spec = project(&world, method, space).spec();
        let out = world.path(&format!("out-{method}")).display().to_string();
        let trained = world.run_within(PATIENCE, &["train", &spec, "--out", &out, "--json"]);
        let trained = trained.code(0).json();

        // The test part, as the trial ended with it; the validation part, as at the best step.
        let eval = |more: &[&str]| {
            let args = [&["eval", &out, "--json", "--task", &spec], more].concat();
            essence(world.run_within(PATIENCE, &args).code(0).json())
        };
        assert_eq!(eval(&[]), essence(trained["result"]["test"].clone()), "{method}");
        let best = &trained["result"]["best_step"];
        let evaluations = trained["evaluations"].as_array().unwrap().iter();
        let mut at_best =
            evaluations.filter(|one| one["split"] == "validation" && one["step"] == *best);
        let at_best = essence(at_best.next().unwrap().clone());
        assert_eq!(eval(&["--split", "validation"]), at_best, "{method}");

        // All rows of a file, read as its own task.
        let model = quickstart().join("model").display().to_string();
        let test = world.path(method).join("test.jsonl").display().to_string();
        let own = ["eval", "--adapter", &out, "--json", "--model", &model, "--data", &test];
        let own = essence(world.run_within(PATIENCE, &own).code(0).json());
        assert_eq!(own, eval(&[]), "{method}");
        let answers = ["predict", "--adapter", &out, "--model", &model, "--json", "a fine film"];
        let answer = world.run_within(PATIENCE, &answers).code(0).json();
        assert_eq!(answer["source"], "sentiment sentence: a fine film", "{method}");
    }
}

#[test]
fn an_adapter_is_evaluated_on_a_built_in_task() {
    let Some(trainer) = trainer() else { return };
    let world = World::new().with_variable("DEPTUNE_TRAINER", &trainer.display().to_string());
    let (method, space) = SPACES[1];
    let spec = project(&world, method, space).spec();
    let out = world.path("out").display().to_string();
    world.run_within(PATIENCE, &["train", &spec, "--out", &out]).code(0);
    let rows = "{\"sentence\": \"a fine film\", \"label\": 1}\n{\"sentence\": \"dull\", \"label\": 0}\n\
                {\"sentence\": \"never again\", \"label\": 0}\n";
    let data = world.path("rows.jsonl");
    std::fs::write(&data, rows).unwrap();
    let (data, model) = (data.display().to_string(), quickstart().join("model"));
    let model = model.display().to_string();
    let eval = |more: &[&str]| world.run_within(PATIENCE, &[&["eval", &out], more].concat());
    let given = eval(&["--model", &model, "--task", "sst2", "--data", &data, "--json"]);
    let found = given.code(0).json();
    assert_eq!((&found["rows"], &found["task"]), (&3.into(), &"sst2".into()));
    // Two of the three rows.
    assert!((found["constant_answer"]["accuracy"].as_f64().unwrap() - 200.0 / 3.0).abs() < 1e-9);

    eval(&["--model", &model]).code(2).says(&["--data"]);
    eval(&["--data", &data]).code(2).says(&["no model is given", "hint: --model names"]);
    eval(&["--model", &model, "--task", "sst2"])
        .code(2)
        .says(&["the files of sst2 are not given", "hint: --data names them"]);
    eval(&["--model", &model, "--task", "sst-3", "--data", &data])
        .code(2)
        .says(&["'sst-3' is no built-in task, did you mean 'sst2'?"]);
    eval(&["--model", &model, "--task", "nowhere.toml"]).code(2).says(&["nowhere.toml"]);
    let other = project_in(&world, "other", method, space);
    let other = other.with("name = \"pt\"", "name = \"pt\"\nrecipe = \"reference\"");
    let other = other.spec();
    eval(&["--task", &other]).code(2).says(&["the adapter was trained with the other recipe"]);
}
