//! Specs that name models and data of a hub, with the real programs and a hub on this machine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::time::Duration;

use deptune_tests::{Access, HubServer, Project, World, fake_trainer, quickstart};

const TOKEN: &str = "hf_secretsecretsecret";
const PATIENCE: Duration = Duration::from_secs(90);

/// A hub that holds the quickstart's model, and programs that use it.
struct Scene {
    hub: HubServer,
    world: World,
    commit: String,
}

impl Scene {
    fn new() -> Scene {
        let hub = HubServer::start(TOKEN);
        let commit = push_model(&hub);
        let world = World::new()
            .with_variable("HF_ENDPOINT", &hub.endpoint)
            .with_variable("HF_HUB_OFFLINE", "0");
        Scene { hub, world, commit }
    }

    /// A spec that names the hub's model.
    fn project(&self) -> Project {
        let project =
            self.world.project("project").with("path = \"model\"", "path = \"org/small\"");
        fs::remove_file(project.dir.join("model")).unwrap();
        project
    }

    fn cache(&self) -> std::path::PathBuf {
        self.world.path("home/.cache/huggingface/hub")
    }
}

fn push_model(hub: &HubServer) -> String {
    let read = |name: &str| fs::read(quickstart().join("model").join(name)).unwrap();
    let names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
    let contents = names.map(|name| (name, read(name)));
    let files: Vec<(&str, &[u8])> =
        contents.iter().map(|(name, content)| (*name, content.as_slice())).collect();
    hub.push("models/org/small", "main", &files)
}

#[test]
fn a_spec_is_checked_by_the_hubs_config_alone() {
    let scene = Scene::new();
    let project = scene.project();
    let checked = scene.world.run(&["check", &project.spec()]).code(0);
    assert!(checked.stdout.contains("not in the hub cache"), "{checked}");
    assert_eq!(scene.hub.fetched("config.json"), 1);
    assert_eq!(scene.hub.fetched("model.safetensors") + scene.hub.fetched("tokenizer.json"), 0);
    // What is cached is not asked for again.
    let asked = scene.hub.seen().len();
    scene.world.run(&["check", &project.spec(), "--config-only"]).code(0);
    scene.world.run(&["plan", &project.spec()]).code(0);
    assert_eq!(scene.hub.seen().len(), asked);

    let project = project.with("path = \"org/small\"", "path = \"org/none\"");
    scene.world.run(&["check", &project.spec()]).code(2).says(&[
        &project.at("org/none"),
        "model 'org/none' is no directory here, and the hub has no model 'org/none' for you",
        "HF_TOKEN",
        "--model-config",
    ]);
    let project = project.with("path = \"org/none\"", "path = \"org/small\"\nrevision = \"v9\"");
    let none = scene.world.run(&["check", &project.spec()]).code(2);
    none.says(&["'org/small' has no revision 'v9'"]);
    let project = project.with("org/small", "./model");
    let none = scene.world.run(&["check", &project.spec()]).code(2);
    none.says(&[&project.at("revision"), "a directory has no revision"]);
}

#[test]
fn a_sweep_trains_the_commit_of_its_submission() {
    let scene = Scene::new();
    let project = scene.project();
    let coordinator = scene.world.serve();
    scene.world.run(&["submit", &project.spec()]).code(0);
    // The branch moves on, to something that no worker could use.
    scene.hub.push("models/org/small", "main", &[("config.json", b"{}")]);
    let worker = scene.world.worker("node", &fake_trainer(), &[], &[]);
    let waited = scene.world.start("watch", &["watch", "1"]);
    waited.wait(PATIENCE).code(0);
    let mut database = coordinator.database();
    let recorded = database.rows("select model_repo, model_commit from sweeps");
    assert_eq!(recorded, [["org/small", &scene.commit]]);
    assert_eq!(database.rows("select outcome from outcomes"), [["succeeded"]]);
    let snapshot = scene.cache().join("models--org--small/snapshots").join(&scene.commit);
    let weights = fs::read(snapshot.join("model.safetensors")).unwrap();
    assert_eq!(weights, fs::read(quickstart().join("model/model.safetensors")).unwrap());
    drop(worker);

    // A node without network: what it lacks is said, what it has is enough.
    let offline = |name: &str, variables: &[(&str, &str)]| {
        let world = World::new().with_variable("HF_HUB_OFFLINE", "1");
        let world = variables.iter().fold(world, |world, (n, v)| world.with_variable(n, v));
        let args = ["--server", &coordinator.address, "--token-file"];
        let token = coordinator.token_file.display().to_string();
        let args = [&args[..], &[token.as_str()]].concat();
        let worker = world.worker(name, &fake_trainer(), &[], &args);
        (world, worker)
    };
    // The cached config still names the first commit.
    let pinned = format!("path = \"org/small@{}\"", scene.commit);
    let project = project.with("path = \"org/small\"", &pinned);
    let (_empty, lacking) = offline("lacking", &[]);
    scene.world.run_within(PATIENCE, &["submit", &project.spec(), "--wait"]).code(1);
    let message = database.rows("select message, failure_class from outcomes where sweep = 2");
    assert!(message[0][0].contains("is not in the hub cache"), "{message:?}");
    assert_eq!(message[0][1], "user_error");
    drop(lacking);
    let cache = scene.cache().display().to_string();
    let (_full, _having) = offline("having", &[("HF_HUB_CACHE", &cache)]);
    scene.world.run_within(PATIENCE, &["submit", &project.spec(), "--wait"]).code(0);
}

#[test]
fn a_worker_goes_on_with_a_broken_download_and_refuses_a_wrong_one() {
    let scene = Scene::new();
    let project = scene.project().with("[space]", "[limits]\nmax_attempts = 2\n\n[space]");
    let coordinator = scene.world.serve();
    let _worker = scene.world.worker("node", &fake_trainer(), &[], &[]);
    scene.hub.corrupt("model.safetensors", true);
    scene.world.run_within(PATIENCE, &["submit", &project.spec(), "--wait"]).code(1);
    let mut database = coordinator.database();
    let outcome = database.rows("select failure_class, message from outcomes where sweep = 1");
    assert_eq!(outcome[0][0], "infra");
    assert!(outcome[0][1].contains("arrived with another hash"), "{outcome:?}");
    // Two attempts, each from the beginning.
    assert_eq!(database.number("select count(*) from attempts where sweep = 1"), 2);

    scene.hub.corrupt("model.safetensors", false);
    scene.hub.cut("model.safetensors", &[3_000_000, 2_000_000, 1_000_000]);
    scene.world.run_within(PATIENCE, &["submit", &project.spec(), "--wait"]).code(0);
    assert_eq!(database.number("select count(*) from attempts where sweep = 2"), 1);
}

#[test]
fn two_processes_fetch_a_file_once() {
    let scene = Scene::new();
    let rows = fs::read(quickstart().join("data/train.jsonl")).unwrap();
    scene.hub.push("datasets/org/rows", "main", &[("data/train.jsonl", &rows)]);
    let project = scene
        .project()
        .with("train = \"train.jsonl\"", "train = \"hf://datasets/org/rows/data/train.jsonl\"");
    scene.hub.slow_down(Duration::from_millis(700));
    let checks = ["first", "second", "third"]
        .map(|name| scene.world.start(name, &["check", &project.spec()]));
    for check in checks {
        let checked = check.wait(PATIENCE).code(0);
        assert!(checked.stdout.contains("train 600"), "{checked}");
    }
    let fetched = scene.hub.seen().into_iter().filter(|seen| seen.contents).count();
    assert_eq!(fetched, 1);
    let other = project.with("data/train.jsonl", "data/none.jsonl");
    let missing = scene.world.run(&["check", &other.spec()]).code(2);
    missing.says(&[&other.at("hf://"), "'org/rows' has no file 'data/none.jsonl'"]);
}

#[test]
fn the_token_shows_nowhere() {
    let scene = Scene::new();
    scene.hub.protect("models/org/small", Access::Private);
    let project = scene.project();
    let world = World::new()
        .with_variable("HF_ENDPOINT", &scene.hub.endpoint)
        .with_variable("HF_HUB_OFFLINE", "")
        .with_variable("HF_TOKEN", TOKEN);
    let coordinator = world.serve();
    let mut worker = world.worker("node", &fake_trainer(), &[], &["-vv"]);
    let done = world.run_within(PATIENCE, &["submit", &project.spec(), "--wait", "-vv"]).code(0);
    assert!(!done.stderr.contains(TOKEN) && !done.stdout.contains(TOKEN), "{done}");
    worker.wait_for("fetching from the hub");
    let said = worker.stderr();
    assert!(!said.contains(TOKEN), "{said}");
    for pid in worker.children() {
        let shown = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&shown).contains(TOKEN));
    }
    let seen = scene.hub.seen();
    assert!(seen.iter().any(|seen| seen.contents));
    assert!(seen.iter().all(|seen| seen.contents == seen.authorization.is_none()), "{seen:?}");
    assert!(!fs::read_to_string(project.spec()).unwrap().contains(TOKEN));
    let stored = fs::read(&coordinator.database).unwrap();
    assert!(!stored.windows(TOKEN.len()).any(|bytes| bytes == TOKEN.as_bytes()));
}
