//! The hub's cache against a hub on this machine: interrupted, damaged, offline and forbidden
//! downloads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use deptune_hub::{Error, Hub, Settings, Silent, Token};
use deptune_sweep::hub::{DatasetFile, DatasetName, HubModel, ModelName};
use deptune_sweep::task::Split;
use deptune_tests::{Access, HubServer};
use tempfile::TempDir;

const TOKEN: &str = "hf_secretsecretsecret";
const REPO: &str = "models/org/small";

/// A hub with one model, and an empty cache.
struct Scene {
    server: HubServer,
    dir: TempDir,
    commit: String,
    weights: Vec<u8>,
}

impl Scene {
    fn new() -> Scene {
        let server = HubServer::start(TOKEN);
        let weights: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let commit = server.push(
            REPO,
            "main",
            &[
                ("config.json", b"{\"model_type\": \"t5\"}"),
                ("tokenizer.json", b"{}"),
                ("generation_config.json", b"{}"),
                ("model.safetensors", &weights),
                ("pytorch_model.bin", b"never"),
                ("README.md", b"never"),
            ],
        );
        Scene { server, dir: TempDir::new().unwrap(), commit, weights }
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint: self.server.endpoint.clone(),
            cache_dir: self.dir.path().to_owned(),
            token: None,
            offline: false,
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings()).unwrap()
    }

    fn offline(&self) -> Hub {
        Hub::new(Settings { offline: true, ..self.settings() }).unwrap()
    }

    fn model(&self) -> HubModel {
        HubModel { repo: "org/small".to_owned(), commit: self.commit.clone() }
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let dir = self.dir.path().join("models--org--small/blobs");
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn name(text: &str) -> ModelName {
    ModelName::parse(text, None).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_download_that_breaks_off_three_times_goes_on_where_it_was() {
    let scene = Scene::new();
    scene.server.cut("model.safetensors", &[100_000, 50_000, 70_000]);
    let dir = scene.hub().model(&scene.model(), &Silent).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), scene.weights);
    let ranges: Vec<Option<String>> = scene
        .server
        .seen()
        .into_iter()
        .filter(|seen| seen.contents)
        .map(|seen| seen.range)
        .collect();
    let expected = [None, Some("bytes=100000-"), Some("bytes=150000-"), Some("bytes=220000-")];
    assert_eq!(ranges, expected.map(|range| range.map(str::to_owned)));
    // Only what a trainer reads, and nothing half.
    assert_eq!(
        names(&dir),
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json"]
    );
    assert!(scene.blobs().iter().all(|blob| blob.extension().is_none()));
}

#[test]
fn a_later_process_goes_on_and_a_server_without_ranges_begins_anew() {
    let scene = Scene::new();
    let hub = scene.hub();
    hub.model_config(&name("org/small"), false, &Silent).unwrap();
    scene.server.cut("model.safetensors", &[120_000, 0, 0, 0, 0, 0]);
    let error = hub.model(&scene.model(), &Silent).unwrap_err();
    assert!(matches!(error, Error::Interrupted { done: 120_000, total: 300_000, .. }), "{error}");
    assert!(error.is_passing());
    assert!(scene.blobs().iter().any(|blob| blob.extension().is_some()));
    scene.server.forget_ranges();
    let dir = scene.hub().model(&scene.model(), &Silent).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), scene.weights);
}

#[test]
fn a_wrong_hash_is_refused_and_nothing_of_it_stays() {
    let scene = Scene::new();
    for file in ["config.json", "model.safetensors"] {
        scene.server.corrupt(file, true);
        let error = scene.hub().model(&scene.model(), &Silent).unwrap_err();
        assert!(matches!(&error, Error::WrongHash { file: found, .. } if found == file), "{error}");
        scene.server.corrupt(file, false);
        let snapshot = scene.dir.path().join("models--org--small/snapshots").join(&scene.commit);
        assert!(!snapshot.join(file).exists());
        assert!(scene.blobs().iter().all(|blob| blob.extension().is_none()), "{:?}", scene.blobs());
    }
    scene.hub().model(&scene.model(), &Silent).unwrap();
}

#[test]
fn a_wrong_piece_of_an_earlier_process_does_not_spoil_a_download() {
    let scene = Scene::new();
    scene.server.cut("model.safetensors", &[120_000, 0, 0, 0, 0, 0]);
    scene.hub().model(&scene.model(), &Silent).unwrap_err();
    let part = scene.blobs().into_iter().find(|blob| blob.extension().is_some()).unwrap();
    fs::write(&part, vec![7; 110_000]).unwrap();
    scene.server.cut("model.safetensors", &[]);
    let dir = scene.hub().model(&scene.model(), &Silent).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), scene.weights);
}

#[test]
fn offline_the_cache_is_enough_or_says_what_is_missing() {
    let scene = Scene::new();
    let error = scene.offline().model_config(&name("org/small"), false, &Silent).unwrap_err();
    assert!(matches!(error, Error::NotCached { .. }), "{error}");
    scene.hub().model_config(&name("org/small"), false, &Silent).unwrap();
    let error = scene.offline().model(&scene.model(), &Silent).unwrap_err();
    assert!(error.to_string().contains("HF_HUB_OFFLINE"), "{error}");
    scene.hub().model(&scene.model(), &Silent).unwrap();

    let asked = scene.server.seen().len();
    let hub = scene.offline();
    let (model, config) = hub.model_config(&name("org/small"), false, &Silent).unwrap();
    assert_eq!((model.clone(), config.as_str()), (scene.model(), "{\"model_type\": \"t5\"}"));
    let dir = hub.model(&model, &Silent).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), scene.weights);
    assert_eq!(scene.server.seen().len(), asked);

    // Damaged behind our back: removed, and fetched again where the hub may be asked.
    let blob = dir.join("model.safetensors").canonicalize().unwrap();
    let mut bytes = scene.weights.clone();
    bytes[1000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let error = scene.offline().model(&scene.model(), &Silent).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(!blob.exists());
    scene.hub().model(&scene.model(), &Silent).unwrap();
    scene.offline().model(&scene.model(), &Silent).unwrap();
}

#[test]
fn an_unreachable_hub_is_replaced_by_the_cache_where_it_can_be() {
    let scene = Scene::new();
    scene.hub().model_config(&name("org/small"), false, &Silent).unwrap();
    // A port that nobody listens on.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = Settings { endpoint: format!("http://{gone}"), ..scene.settings() };
    let hub = Hub::new(settings).unwrap();
    let (model, _) = hub.model_config(&name("org/small"), false, &Silent).unwrap();
    assert_eq!(model, scene.model());
    let error = hub.model_config(&name("org/other"), false, &Silent).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn a_commit_stays_what_it_is_when_its_branch_moves() {
    let scene = Scene::new();
    let (old, _) = scene.hub().model_config(&name("org/small"), false, &Silent).unwrap();
    let files: [(&str, &[u8]); 3] =
        [("config.json", b"{}"), ("tokenizer.json", b"{}"), ("model.safetensors", b"new")];
    let newer = scene.server.push(REPO, "main", &files);
    // What the cache knows is good enough for those who say so.
    let (cached, _) = scene.hub().model_config(&name("org/small"), true, &Silent).unwrap();
    assert_eq!(cached, old);
    let (now, config) = scene.hub().model_config(&name("org/small"), false, &Silent).unwrap();
    assert_eq!((now.commit.as_str(), config.as_str()), (newer.as_str(), "{}"));
    let dir = scene.hub().model(&old, &Silent).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), scene.weights);
    // A whole commit needs no question once it is here.
    let asked = scene.server.seen().len();
    let pinned = name(&format!("org/small@{}", old.commit));
    assert_eq!(scene.hub().model_config(&pinned, false, &Silent).unwrap().0, old);
    assert_eq!(scene.server.seen().len(), asked);
}

#[test]
fn the_token_opens_what_is_closed_and_goes_to_the_hub_alone() {
    let scene = Scene::new();
    let with_token = || {
        let settings = Settings { token: Token::new(TOKEN), ..scene.settings() };
        Hub::new(settings).unwrap()
    };
    scene.server.protect(REPO, Access::Gated);
    let error = scene.hub().model_config(&name("org/small"), false, &Silent).unwrap_err();
    assert!(matches!(error, Error::Gated { .. }), "{error}");
    assert!(error.to_string().contains("HF_TOKEN"), "{error}");
    scene.server.protect(REPO, Access::Private);
    let error = scene.hub().model_config(&name("org/small"), false, &Silent).unwrap_err();
    assert!(matches!(error, Error::UnknownRepo { .. }), "{error}");

    let hub = with_token();
    let dir = hub.model(&scene.model(), &Silent).unwrap();
    assert_eq!(fs::read(dir.join("model.safetensors")).unwrap(), scene.weights);
    let seen = scene.server.seen();
    assert!(seen.iter().any(|seen| seen.contents));
    for seen in seen.iter().filter(|seen| seen.contents) {
        assert_eq!(seen.authorization, None, "{seen:?}");
    }
    let sent = format!("Bearer {TOKEN}");
    assert!(seen.iter().any(|s| !s.contents && s.authorization.as_deref() == Some(&sent)));
    assert!(!format!("{hub:?}").contains("secret"), "{hub:?}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let scene = Scene::new();
    let error = |text: &str| scene.hub().model_config(&name(text), false, &Silent).unwrap_err();
    assert!(matches!(error("org/none"), Error::UnknownRepo { .. }));
    assert!(matches!(error("org/small@v2"), Error::UnknownRevision { .. }));
    let old = [("config.json", b"{}" as &[u8]), ("pytorch_model.bin", b"pickled")];
    scene.server.push("models/org/old", "main", &old);
    let pickle = error("org/old");
    assert!(matches!(&pickle, Error::OnlyPickle { file, .. } if file == "pytorch_model.bin"));
    assert!(pickle.to_string().contains("safe_serialization"), "{pickle}");
    assert_eq!(scene.server.fetched("pytorch_model.bin"), 0);
    let slow = [("config.json", b"{}" as &[u8]), ("model.safetensors", b"w")];
    scene.server.push("models/org/slow", "main", &slow);
    let error = error("org/slow");
    assert!(matches!(&error, Error::NoFile { file, .. } if file == "tokenizer.json"), "{error}");
}

#[test]
fn shards_are_those_of_the_index() {
    let scene = Scene::new();
    let index = br#"{"metadata": {}, "weight_map": {"a": "model-1.safetensors",
        "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let files: [(&str, &[u8]); 6] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
        ("model-3.safetensors", b"not named"),
    ];
    let commit = scene.server.push("models/org/large", "main", &files);
    let model = HubModel { repo: "org/large".to_owned(), commit };
    let dir = scene.hub().model(&model, &Silent).unwrap();
    assert_eq!(fs::read(dir.join("model-2.safetensors")).unwrap(), b"two");
    assert!(!dir.join("model-3.safetensors").exists());
    assert_eq!(scene.offline().model(&model, &Silent).unwrap(), dir);

    let index = br#"{"weight_map": {"a": "../../../escape.safetensors"}}"#;
    let files: [(&str, &[u8]); 3] = [
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors.index.json", index),
    ];
    let commit = scene.server.push("models/org/bad", "main", &files);
    let model = HubModel { repo: "org/bad".to_owned(), commit };
    assert!(scene.hub().model(&model, &Silent).is_err());
}

#[test]
fn datasets_come_from_the_hubs_parquet_files() {
    let scene = Scene::new();
    let large = vec![5; 10_000];
    let files: [(&str, &[u8]); 4] = [
        ("rte/train/0000.parquet", &large),
        ("rte/train/0001.parquet", b"second"),
        ("rte/validation/0000.parquet", b"third"),
        ("sst2/train/0000.parquet", b"other"),
    ];
    let commit = scene.server.push("datasets/nyu-mll/glue", "refs/convert/parquet", &files);
    let dataset = DatasetName::parse("nyu-mll/glue").unwrap();
    let hub = scene.hub();
    let splits = hub.dataset_splits(&dataset, Some("rte")).unwrap();
    assert_eq!(
        splits.iter().map(|part| part.split).collect::<Vec<_>>(),
        [Split::Train, Split::Validation]
    );
    for file in splits.iter().flat_map(|part| &part.files) {
        assert_eq!(file.revision, commit);
        hub.dataset_file(file, &Silent).unwrap();
    }
    let first = hub.dataset_file(&splits[0].files[0], &Silent).unwrap();
    assert_eq!(fs::read(first).unwrap(), large);
    assert_eq!(scene.offline().dataset_splits(&dataset, Some("rte")).unwrap(), splits);

    scene.server.push("datasets/org/rows", "main", &[("data/train.jsonl", b"{}")]);
    let file = DatasetFile::parse("hf://datasets/org/rows/data/train.jsonl").unwrap();
    let path = scene.hub().dataset_file(&file, &Silent).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"{}");
    assert_eq!(scene.offline().dataset_file(&file, &Silent).unwrap(), path);
    let other = DatasetFile::parse("hf://datasets/org/rows/data/test.jsonl").unwrap();
    let error = scene.hub().dataset_file(&other, &Silent).unwrap_err();
    assert!(matches!(error, Error::NoFile { .. }), "{error}");
}
