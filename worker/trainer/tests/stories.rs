//! A Llama that was really trained: stories260K (by Andrej Karpathy, in the layout of
//! transformers). `DEPTUNE_MODELS` names the directory that holds `stories260k/`; without it the
//! test skips.
//!
//! stories260k.json holds greedy answers of transformers 4.57.1. The two best logits are never
//! nearer than 0.015 there, so that rounding cannot change a token.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::rc::Rc;

use deptune_sweep::task::Recipe;
use deptune_trainer::{Batch, Example, Member, Method, Model, Pack, Padding, Settings};
use serde::Deserialize;
use tch::{Device, Kind};

#[derive(Deserialize)]
struct Row {
    ids: Vec<i64>,
    answer: Vec<i64>,
}

/// All rows begin so: the prompt's start text.
const START: [i64; 4] = [1, 403, 407, 261];

#[test]
fn a_trained_llama_tells_the_story_that_transformers_tells() {
    let Some(models) = std::env::var_os("DEPTUNE_MODELS").map(PathBuf::from) else {
        eprintln!("SKIPPED: DEPTUNE_MODELS does not name a directory that holds stories260k");
        return;
    };
    tch::set_num_threads(1);
    let model = Model::load(&models.join("stories260k"), Kind::Float, Device::Cpu).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories260k.json");
    let rows: Vec<Row> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let settings = Settings {
        steps: 1,
        warmup_steps: 0,
        max_length: 64,
        grad_clip: 1.0,
        dropout: 0.0,
        padding: Padding::Longest { multiple: 4 },
        recipe: Recipe::Default,
        groups: 1,
        ..Settings::default()
    };
    // A prompt that starts as the embeddings of the first tokens is those tokens.
    let method = Method::PromptTuning { prompt_length: START.len() };
    let member = Member::prompt(method, 0.3, 0.0, 42);
    let pack = Pack::new(Rc::new(model), vec![member], settings, &START).unwrap();
    let example = |row: &Row| {
        assert!(row.ids.starts_with(&START));
        Example { input_ids: row.ids[START.len()..].to_vec(), labels: row.answer.clone() }
    };
    let batch = Batch { examples: rows.iter().map(example).collect() };
    let generated = pack.generate(&batch, 60).unwrap();
    for (row, (expected, found)) in rows.iter().zip(&generated[0]).enumerate() {
        assert_eq!(found, &expected.answer, "row {row}");
    }
    // A trained model is sure of its own story.
    assert!(pack.eval_loss(&batch).unwrap()[0] < 1.5);
}
