//! LoRA, full fine-tuning and Adafactor against traces that `tests/python/methods.py` made with
//! transformers and peft.
//!
//! Reads the directory named by `DEPTUNE_METHODS`, or the project's own copy.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deptune_sweep::model::ModelConfig;
use deptune_trainer::schedule::Scheduler;
use deptune_trainer::tensors::from_bytes;
use deptune_trainer::weights::Weights;
use deptune_trainer::{
    Adapter, Batch, Example, Member, Method, Model, Optimizer, Pack, Padding, Settings,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Largest distance of a tensor, relative to its norm.
const TOLERANCE: f64 = 1e-4;
/// Largest distance of a loss.
const LOSS: f64 = 2e-5;

fn root() -> PathBuf {
    std::env::var_os("DEPTUNE_METHODS")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/methods"))
}

struct Trace {
    dir: PathBuf,
    facts: Value,
    batches: Vec<Batch>,
}

fn traces() -> Vec<Trace> {
    let mut dirs: Vec<PathBuf> =
        std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    dirs.sort();
    assert!(dirs.len() >= 3, "{dirs:?}");
    dirs.into_iter()
        .map(|dir| {
            let text = std::fs::read_to_string(dir.join("runs.json")).unwrap();
            let facts: Value = serde_json::from_str(&text).unwrap();
            let ids = |value: &Value| -> Vec<i64> {
                value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
            };
            let row = |row: &Value| Example { input_ids: ids(&row[0]), labels: ids(&row[1]) };
            let batch = |rows: &Value| Batch {
                examples: rows.as_array().unwrap().iter().map(row).collect(),
            };
            let batches = facts["batches"].as_array().unwrap().iter().map(batch).collect();
            Trace { dir, facts, batches }
        })
        .collect()
}

impl Trace {
    fn model(&self) -> Rc<Model> {
        Rc::new(Model::load(&self.dir, Kind::Float, Device::Cpu).unwrap())
    }

    fn settings(&self, run: &Value) -> Settings {
        Settings {
            steps: self.facts["steps"].as_u64().unwrap(),
            warmup_steps: self.facts["warmup_steps"].as_u64().unwrap(),
            scheduler: match run["scheduler"].as_str().unwrap() {
                "linear" => Scheduler::Linear,
                "cosine" => Scheduler::Cosine,
                "constant" => Scheduler::Constant,
                other => panic!("{other}"),
            },
            optimizer: match run["optimizer"].as_str().unwrap() {
                "adamw" => Optimizer::AdamW,
                "adafactor" => Optimizer::Adafactor,
                other => panic!("{other}"),
            },
            weight_decay: run["weight_decay"].as_f64().unwrap(),
            max_length: 16,
            dropout: 0.0,
            padding: Padding::Longest { multiple: 4 },
            ..Settings::default()
        }
    }

    fn pack(&self, runs: &[&Value]) -> Pack {
        let settings = self.settings(runs[0]);
        let members: Vec<Member> = runs.iter().map(|run| member(run)).collect();
        if let [Member { method: Method::Full, .. }] = members[..] {
            let text = std::fs::read_to_string(self.dir.join("config.json")).unwrap();
            let config = ModelConfig::parse("config.json", &text).unwrap();
            let weights = Weights::open(&self.dir, Kind::Float, Device::Cpu).unwrap();
            return Pack::fine_tuning(config, &weights, members[0], settings).unwrap();
        }
        Pack::new(self.model(), members, settings, &[1]).unwrap()
    }

    /// Starts trial `k` where the trace starts.
    fn start(&self, pack: &mut Pack, k: usize, run: &str) {
        let start = adapter(self.tensors(run), "start.");
        if !start.is_empty() {
            pack.set_parameters(k, &start).unwrap();
        }
    }

    fn tensors(&self, run: &str) -> BTreeMap<String, Tensor> {
        let path = self.dir.join(format!("{run}.safetensors"));
        from_bytes(&std::fs::read(path).unwrap()).unwrap()
    }

    fn compare(&self, pack: &Pack, k: usize, run: &str) {
        let expected = adapter(self.tensors(run), "final.");
        let found = pack.parameters(k).unwrap();
        assert_eq!(found.named().count(), expected.named().count(), "{run}");
        for (name, tensor) in found.named() {
            let expected = expected.get(name).unwrap_or_else(|| panic!("{run}: {name}"));
            assert_eq!(tensor.size(), expected.size(), "{run}: {name}");
            let distance = (tensor - expected).norm().double_value(&[]);
            let norm = expected.norm().double_value(&[]);
            let place = format!("{} {run}: {name}", self.dir.display());
            assert!(distance <= TOLERANCE * norm, "{place}: {distance:e} of {norm:e}");
        }
    }
}

fn adapter(tensors: BTreeMap<String, Tensor>, prefix: &str) -> Adapter {
    let named = tensors.into_iter().filter_map(|(name, tensor)| {
        name.strip_prefix(prefix).map(|name| (name.to_owned(), tensor))
    });
    Adapter::new(named.collect())
}

fn member(run: &Value) -> Member {
    let rate = run["rate"].as_f64().unwrap();
    let size = |key: &str| run[key].as_u64().unwrap() as usize;
    match run["method"].as_str().unwrap() {
        "lora" => {
            let method = Method::Lora { rank: size("rank"), alpha: run["alpha"].as_f64().unwrap() };
            Member::weights(method, rate, 42)
        }
        "full" => Member::weights(Method::Full, rate, 42),
        "pt" => {
            let method = Method::PromptTuning { prompt_length: size("prompt_length") };
            Member::prompt(method, rate, 0.0, 42)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn every_method_follows_transformers() {
    tch::set_num_threads(1);
    let mut replayed = 0;
    for trace in traces() {
        for (run, facts) in trace.facts["runs"].as_object().unwrap() {
            let mut pack = trace.pack(&[facts]);
            trace.start(&mut pack, 0, run);
            for (batch, loss) in trace.batches.iter().zip(facts["losses"].as_array().unwrap()) {
                let report = pack.step(std::slice::from_ref(batch)).unwrap();
                let (found, expected) = (report.trials[0].loss, loss.as_f64().unwrap());
                let place = format!("{} {run} step {}", trace.dir.display(), report.step);
                assert!((found - expected).abs() <= LOSS, "{place}: {found} for {expected}");
            }
            trace.compare(&pack, 0, run);
            replayed += 1;
        }
    }
    assert!(replayed >= 13, "{replayed}");
}

#[test]
fn a_pack_of_other_ranks_rates_and_methods_changes_nothing() {
    tch::set_num_threads(1);
    for trace in traces() {
        let run = &trace.facts["runs"]["lora"];
        let mut pack = {
            let large = Method::Lora { rank: 5, alpha: 2.0 };
            let dept = Method::Dept { prompt_length: 2, rank: 2 };
            let members = vec![
                Member::weights(large, 0.1, 42),
                member(run),
                Member::prompt(dept, 0.3, 5e-3, 42),
            ];
            Pack::new(trace.model(), members, trace.settings(run), &[1]).unwrap()
        };
        trace.start(&mut pack, 1, "lora");
        for batch in &trace.batches {
            pack.step(std::slice::from_ref(batch)).unwrap();
        }
        trace.compare(&pack, 1, "lora");
    }
}

#[test]
fn lora_starts_as_the_bare_model() {
    for trace in traces() {
        let run = &trace.facts["runs"]["lora"];
        let members = vec![
            member(run),
            Member::prompt(Method::PromptTuning { prompt_length: 1 }, 0.0, 0.0, 1),
        ];
        let pack = Pack::new(trace.model(), members, trace.settings(run), &[1]).unwrap();
        let full = trace.pack(&[&trace.facts["runs"]["full"]]);
        let batch = &trace.batches[0];
        let (lora, bare) = (pack.eval_loss(batch).unwrap(), full.eval_loss(batch).unwrap());
        assert!((lora[0] - bare[0]).abs() < 1e-5, "{lora:?} {bare:?}");
        assert!((lora[1] - bare[0]).abs() > 1e-4, "a prompt changes the loss");
        let texts = pack.generate(batch, 5).unwrap();
        assert_eq!(texts[0], full.generate(batch, 5).unwrap()[0]);
    }
}
