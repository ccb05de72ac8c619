//! What goes wrong when trials already run: it becomes their recorded outcome, and the sweep goes
//! on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use deptune_tests::{Process, World, fake_trainer, quickstart, trainer};

/// Longer than a small sweep takes.
const SWEEP: Duration = Duration::from_secs(90);

/// A worker whose children do as they are told.
fn worker(world: &World, orders: &str) -> Process {
    world.worker_with(orders, "fake", &fake_trainer(), &[&quickstart()], &[])
}

#[test]
fn a_diverged_trial_is_an_outcome_and_the_sweep_goes_on() {
    let world = World::new();
    let coordinator = world.serve();
    let _worker = worker(&world, "fault=diverged index=2 at=4");
    let project = world.project("diverged").with("[42]", "[1, 2, 3, 4, 5]");
    world.run_within(SWEEP, &["submit", &project.spec(), "--wait"]).code(1);

    let mut database = coordinator.database();
    let row = |outcome: &str, class: &str| vec![outcome.to_owned(), class.to_owned()];
    let mut expected = vec![row("succeeded", "NULL"); 5];
    expected[2] = row("failed", "diverged");
    let sql = "select outcome, failure_class from trial_results order by trial_index";
    assert_eq!(database.rows(sql), expected);
    // Trying again would diverge again.
    let sql = "select attempts, message from trial_results where trial_index = 2";
    assert_eq!(database.rows(sql), [["1", "the loss is not finite"]]);
    assert_eq!(database.rows("select status, failed from sweep_progress"), [["finished", "1"]]);
    // The other seeds make the configuration's row.
    assert_eq!(database.rows("select seeds from leaderboard"), [["4"]]);
    database.assert_sound();
    world.run(&["show", "1"]).code(0);
    world.run(&["best", "1"]).code(0);
}

#[test]
fn measures_that_are_no_numbers_are_stored_and_shown() {
    let world = World::new();
    let coordinator = world.serve();
    let _worker = worker(&world, "fault=nan index=1 at=2");
    let project = world.project("nan").with("[42]", "[1, 2]");
    world.run_within(SWEEP, &["submit", &project.spec(), "--wait"]).code(0);
    let mut database = coordinator.database();
    assert_eq!(
        database.rows(
            "select trial_index, step, metric, metric_state from learning_curves
             where split = 'validation' and metric_state <> 'finite' order by trial_index, step"
        ),
        [["1", "3", "NULL", "nan"], ["1", "6", "NULL", "nan"]]
    );
    database.assert_sound();
    for command in ["show", "best", "curves"] {
        world.run(&[command, "1"]).code(0);
        world.run(&[command, "1", "--json"]).code(0);
    }
}

#[test]
fn a_model_file_that_changed_after_submit_fails_the_trial_with_its_name() {
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        let world = World::new();
        let coordinator = world.serve();
        let project = world.project("project").with_own_model();
        world.run(&["submit", &project.spec()]).code(0);
        let file = project.dir.join("model").join(name);
        let mut content = fs::read(&file).unwrap();
        let last = content.len() - 1;
        content[last] ^= 1;
        fs::write(&file, content).unwrap();

        let _worker = world.worker("fake", &fake_trainer(), &[&project.dir], &[]);
        world.run_within(SWEEP, &["watch", "1"]).code(1);
        let mut database = coordinator.database();
        let sql = "select outcome, failure_class, attempts, message from trial_results";
        let rows = database.rows(sql);
        assert_eq!(rows[0][..3], ["failed", "data", "1"], "{rows:?}");
        let message = &rows[0][3];
        for part in [
            &format!("model file {name} changed after submit"),
            &file.display().to_string(),
            "submit the sweep again",
        ] {
            assert!(message.contains(part), "'{part}' is not in '{message}'");
        }
        database.assert_sound();
    }
}

#[test]
fn a_model_outside_of_the_roots_is_never_opened() {
    let world = World::new();
    let coordinator = world.serve();
    let project = world.project("project").with_own_model();
    world.run(&["submit", &project.spec()]).code(0);
    let roots = world.path("roots");
    fs::create_dir(&roots).unwrap();
    let _worker = world.worker("fake", &fake_trainer(), &[&roots], &[]);
    world.run_within(SWEEP, &["watch", "1"]).code(1);
    let mut database = coordinator.database();
    let rows = database.rows("select outcome, failure_class, message from trial_results");
    assert_eq!(rows[0][0], "failed", "{rows:?}");
    for part in ["does not find the model 'model'", "--upload-model", "--model-root"] {
        assert!(rows[0][2].contains(part), "'{part}' is not in {rows:?}");
    }
    database.assert_sound();
}

/// Makes the first number of a tensor not a number.
fn spoil(weights: &Path, tensor: &str) {
    let mut content = fs::read(weights).unwrap();
    let (length, rest) = content.split_first_chunk::<8>().unwrap();
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&rest[..length]).unwrap();
    assert_eq!(header[tensor]["dtype"], "BF16", "{tensor}");
    let start = header[tensor]["data_offsets"][0].as_u64().unwrap();
    let at = 8 + length + usize::try_from(start).unwrap();
    content[at..at + 2].copy_from_slice(&0x7fc0_u16.to_le_bytes());
    fs::write(weights, content).unwrap();
}

#[test]
fn real_trials_that_diverge_are_outcomes_and_the_sweep_goes_on() {
    let Some(trainer) = trainer() else { return };
    let world = World::new();
    let coordinator = world.serve();
    let project = world.project("project").with_own_model().with("[42]", "[1, 2]");
    spoil(&project.dir.join("model/model.safetensors"), "encoder.final_layer_norm.weight");
    let _worker = world.worker("real", &trainer, &[&project.dir], &[]);
    world.run_within(SWEEP, &["submit", &project.spec(), "--wait"]).code(1);
    let mut database = coordinator.database();
    let rows = database.rows("select outcome, failure_class, attempts, message from trial_results");
    assert_eq!(rows.len(), 2);
    for row in rows {
        assert_eq!(row[..3], ["failed", "diverged", "1"], "{row:?}");
        assert!(row[3].contains("step"), "{row:?}");
    }
    assert_eq!(database.rows("select status from sweep_progress"), [["finished"]]);
    database.assert_sound();
}
