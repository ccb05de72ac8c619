//! A run that is killed again and again ends with the same bits as one that is left alone: for
//! every architecture, method and optimiser, with dropout.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};

use deptune_sweep::model::ModelConfig;
use deptune_trainer::weights::Weights;
use deptune_trainer::{
    Batch, Checkpoint, Example, Identity, Member, Method, Model, Optimizer, Pack, Settings,
};
use serde_json::Value;
use tch::{Device, Kind};

const STEPS: u64 = 26;

fn dir(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(model)
}

fn pack(model: &str, method: Method, optimizer: Optimizer) -> Pack {
    let dir = dir(model);
    let settings = Settings {
        steps: STEPS,
        warmup_steps: 2,
        max_length: 24,
        dropout: 0.1,
        weight_decay: 0.01,
        groups: 2,
        optimizer,
        ..Settings::default()
    };
    let member = Member { learning_rate: 1e-3, ..Member::prompt(method, 0.3, 5e-3, 42) };
    if method == Method::Full {
        let text = std::fs::read_to_string(dir.join("config.json")).unwrap();
        let config = ModelConfig::parse("config.json", &text).unwrap();
        let weights = Weights::open(&dir, Kind::Float, Device::Cpu).unwrap();
        return Pack::fine_tuning(config, &weights, member, settings).unwrap();
    }
    let model = std::rc::Rc::new(Model::load(&dir, Kind::Float, Device::Cpu).unwrap());
    Pack::new(model, vec![member], settings, &[271, 48, 19, 1]).unwrap()
}

fn batch(step: u64) -> Batch {
    let row = |row: i64| {
        let step = step as i64;
        let length = 3 + (row * 7 + step) % 17;
        let input_ids = (0..length).map(|i| 2 + (i * i * 31 + row * 17 + step * 5) % 380);
        Example { input_ids: input_ids.collect(), labels: vec![5 + row, 1] }
    };
    Batch { examples: (0..4).map(row).collect() }
}

/// Twenty different steps, drawn from all but the last.
fn kills() -> Vec<u64> {
    let mut steps: Vec<u64> = (1..STEPS).collect();
    let mut state = 20_231_123u64;
    while steps.len() > 20 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        steps.remove((state >> 33) as usize % steps.len());
    }
    steps
}

fn identity() -> Identity {
    let [settings_hash, data_hash, model_hash] = ["s", "d", "m"].map(str::to_owned);
    Identity { settings_hash, data_hash, model_hash }
}

fn saved(pack: &Pack) -> Vec<u8> {
    let state = pack.state(0).unwrap();
    Checkpoint { state, best: None, identity: identity(), counters: Value::Null }
        .to_bytes()
        .unwrap()
}

#[test]
fn twenty_kills_leave_no_trace() {
    tch::set_num_threads(1);
    let dept = Method::Dept { prompt_length: 4, rank: 3 };
    let runs = [
        (dept, Optimizer::AdamW),
        (dept, Optimizer::Adafactor),
        (Method::PromptTuning { prompt_length: 6 }, Optimizer::AdamW),
        (Method::Lora { rank: 2, alpha: 8.0 }, Optimizer::AdamW),
        (Method::Lora { rank: 2, alpha: 8.0 }, Optimizer::Adafactor),
        (Method::Full, Optimizer::AdamW),
        (Method::Full, Optimizer::Adafactor),
    ];
    let kills = kills();
    assert_eq!(kills.len(), 20);
    for model in ["t5_v10", "gpt2", "llama"] {
        for (method, optimizer) in runs {
            let mut straight = pack(model, method, optimizer);
            let mut killed = pack(model, method, optimizer);
            for step in 1..=STEPS {
                let expected = straight.step(&[batch(step)]).unwrap();
                assert_eq!(killed.step(&[batch(step)]).unwrap(), expected, "{model} {method:?}");
                if kills.contains(&step) {
                    let bytes = saved(&killed);
                    drop(killed);
                    let checkpoint = Checkpoint::from_bytes(&bytes, &identity()).unwrap();
                    killed = pack(model, method, optimizer);
                    killed.resume(&[checkpoint.state]).unwrap();
                }
            }
            let bytes = |pack: &Pack| pack.parameters(0).unwrap().to_bytes().unwrap();
            assert_eq!(bytes(&killed), bytes(&straight), "{model} {method:?} {optimizer:?}");
            assert_eq!(saved(&killed), saved(&straight), "{model} {method:?} {optimizer:?}");
        }
    }
}

#[test]
fn an_optimizers_state_fits_no_other() {
    let method = Method::PromptTuning { prompt_length: 2 };
    let state = pack("t5_v10", method, Optimizer::AdamW).state(0).unwrap();
    let error = pack("t5_v10", method, Optimizer::Adafactor).resume(&[state]).unwrap_err();
    assert!(error.to_string().contains("exp_avg_sq_row.prompt_embeddings"), "{error}");
}
