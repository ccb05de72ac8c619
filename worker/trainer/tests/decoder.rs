//! Decoders beyond the reference's traces: both laws of positions, generation with a cache,
//! masks and cuts that leave no trace, resuming bit for bit, and what does not fit.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::rc::Rc;

use deptune_sweep::task::Recipe;
use deptune_trainer::{
    Adapter, Batch, Checkpoint, Example, Identity, LowRank, Member, Method, Model, Pack, Padding,
    Settings,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const INIT: [i64; 4] = [271, 48, 19, 1];
const DEPT: Method = Method::Dept { prompt_length: 4, rank: 3 };
const NAMES: [&str; 2] = ["gpt2", "llama"];

fn model(name: &str, kind: Kind) -> Rc<Model> {
    tch::set_num_threads(1);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name);
    Rc::new(Model::load(&dir, kind, Device::Cpu).unwrap())
}

fn settings(recipe: Recipe) -> Settings {
    Settings {
        steps: 20,
        warmup_steps: 2,
        max_length: 32,
        grad_clip: 1.0,
        dropout: 0.1,
        padding: Padding::Longest { multiple: 1 },
        recipe,
        groups: 1,
        ..Settings::default()
    }
}

fn member(method: Method, seed: u64) -> Member {
    Member::prompt(method, 0.3, 5e-3, seed)
}

/// Rows of different lengths, different in every step.
fn batch(step: i64) -> Batch {
    let row = |row: i64| {
        let length = 3 + (row * 7 + step) % 25;
        let input_ids = (0..length).map(|i| 2 + (i * i * 31 + row * 17 + step * 5) % 380);
        let labels = if row % 3 == 0 { vec![5 + row, 9, 1] } else { vec![7 + step, 1] };
        Example { input_ids: input_ids.collect(), labels }
    };
    Batch { examples: (0..6).map(row).collect() }
}

/// A pack whose B is not zero, so that every row of A counts.
fn stirred(model: &Rc<Model>, members: Vec<Member>, settings: Settings) -> Pack {
    let mut pack = Pack::new(model.clone(), members, settings, &INIT).unwrap();
    for k in 0..pack.members().len() {
        let start = pack.parameters(k).unwrap();
        let Some(LowRank { a, b }) = start.lowrank() else { continue };
        let numbers = Tensor::arange(b.numel() as i64, (b.kind(), b.device()));
        let b = (numbers * 0.7).sin().view_as(&b) * 0.3;
        let prompt = start.prompt().map(Tensor::shallow_clone);
        let start = Adapter::dept(prompt, Some(LowRank { a, b }));
        pack.set_parameters(k, &start).unwrap();
    }
    pack
}

fn train(pack: &mut Pack, steps: std::ops::RangeInclusive<i64>) -> Vec<Vec<f64>> {
    let losses = |step| {
        let report = pack.step(&[batch(step)]).unwrap();
        report.trials.iter().map(|trial| trial.loss).collect()
    };
    steps.map(losses).collect()
}

fn identity() -> Identity {
    Identity {
        settings_hash: "s".to_owned(),
        data_hash: "d".to_owned(),
        model_hash: "m".to_owned(),
    }
}

fn bytes(pack: &Pack, k: usize) -> Vec<u8> {
    let state = pack.state(k).unwrap();
    Checkpoint { state, best: None, identity: identity(), counters: Value::Null }
        .to_bytes()
        .unwrap()
}

fn assert_close(one: &[Vec<f64>], other: &[Vec<f64>], relative: f64) {
    assert_eq!(one.len(), other.len());
    for (a, b) in one.iter().flatten().zip(other.iter().flatten()) {
        assert!((a - b).abs() <= relative * a.abs(), "{a} and {b}");
    }
}

#[test]
fn a_resumed_run_equals_an_unbroken_one_bit_for_bit() {
    for name in NAMES {
        let model = model(name, Kind::Float);
        let members = vec![member(DEPT, 42), member(Method::PromptTuning { prompt_length: 6 }, 42)];
        let fresh =
            || Pack::new(model.clone(), members.clone(), settings(Recipe::Default), &INIT).unwrap();
        let mut straight = fresh();
        let losses = train(&mut straight, 1..=8);
        let mut first = fresh();
        train(&mut first, 1..=3);
        let states: Vec<_> = (0..2)
            .map(|k| Checkpoint::from_bytes(&bytes(&first, k), &identity()).unwrap().state)
            .collect();
        let mut second = fresh();
        second.resume(&states).unwrap();
        assert_eq!(train(&mut second, 4..=8), losses[3..], "{name}");
        for k in 0..2 {
            assert_eq!(bytes(&second, k), bytes(&straight, k), "{name} trial {k}");
        }
    }
}

#[test]
fn dropout_leaves_no_trace_of_padding_grouping_or_pack() {
    for name in NAMES {
        let model = model(name, Kind::Double);
        for recipe in [Recipe::Default, Recipe::Reference] {
            let run = |members: Vec<Member>, settings: Settings| {
                train(&mut stirred(&model, members, settings), 1..=4)
            };
            let settings = settings(recipe);
            let solo = run(vec![member(DEPT, 42)], settings);
            let padded = Settings { padding: Padding::MaxLength, ..settings };
            assert_close(&solo, &run(vec![member(DEPT, 42)], padded), 1e-9);
            let grouped =
                Settings { groups: 3, padding: Padding::Longest { multiple: 4 }, ..settings };
            assert_close(&solo, &run(vec![member(DEPT, 42)], grouped), 1e-9);
            // Another prompt length moves no position of this trial.
            let other = member(Method::Dept { prompt_length: 9, rank: 5 }, 42);
            let packed = run(vec![other, member(DEPT, 42)], settings);
            let second: Vec<Vec<f64>> = packed.iter().map(|step| vec![step[1]]).collect();
            assert_close(&solo, &second, 1e-9);
            let still = run(vec![member(DEPT, 42)], Settings { dropout: 0.0, ..settings });
            assert!((still[0][0] - solo[0][0]).abs() > 1e-6, "{name}: no dropout at all");
        }
    }
}

#[test]
fn gradients_are_those_of_the_loss() {
    for name in NAMES {
        for recipe in [Recipe::Default, Recipe::Reference] {
            let settings = Settings { dropout: 0.0, ..settings(recipe) };
            let model = model(name, Kind::Double);
            let mut pack = stirred(&model, vec![member(DEPT, 42)], settings);
            let start = pack.parameters(0).unwrap();
            let batch = batch(3);
            let gradients = pack.gradients(std::slice::from_ref(&batch)).unwrap().trial(0).unwrap();
            // The reference pads on the left: its text meets the last rows of A.
            let row = if recipe == Recipe::Reference { 30 } else { 2 };
            for (part, (key, gradient)) in gradients.named().enumerate() {
                for place in [[0, 0], [if part == 1 { row } else { 2 }, 1]] {
                    let mut loss_at = |step: f64| {
                        pack.set_parameters(0, &start).unwrap();
                        let moved = pack.parameters(0).unwrap();
                        let (_, tensor) = moved.named().nth(part).unwrap();
                        let mut element = tensor.get(place[0]).get(place[1]);
                        let _ = element.g_add_scalar_(step);
                        pack.set_parameters(0, &moved).unwrap();
                        pack.eval_loss(&batch).unwrap()[0]
                    };
                    let step = 1e-5;
                    let slope = (loss_at(step) - loss_at(-step)) / (2.0 * step);
                    let found = gradient.double_value(&place);
                    let error = (found - slope).abs();
                    assert!(error < 1e-8, "{name} {key} {place:?}: {found} for {slope}");
                    assert!(place == [0, 0] || slope.abs() > 1e-9, "{name} {key}: no slope");
                }
            }
        }
    }
}

/// The cache changes nothing: fed its own answer, the model gives it again. In deptune's recipe
/// training and generation agree; in the reference's they do not.
#[test]
fn a_generated_answer_is_what_the_labels_logits_say() {
    for name in NAMES {
        let model = model(name, Kind::Double);
        let members =
            || vec![member(DEPT, 42), member(Method::Dept { prompt_length: 7, rank: 2 }, 1)];
        let pack = stirred(&model, members(), settings(Recipe::Default));
        let mut batch = batch(2);
        let generated = pack.generate(&batch, 6).unwrap();
        for (k, answers) in generated.iter().enumerate() {
            for (example, answer) in batch.examples.iter_mut().zip(answers) {
                example.labels.clone_from(answer);
            }
            let logits = pack.label_logits(&pack.encode(&batch).unwrap()).unwrap();
            let best = Vec::<i64>::try_from(logits.get(k as i64).argmax(-1, false)).unwrap();
            assert_eq!(best, answers.concat(), "{name} trial {k}");
        }
        let texts: std::collections::BTreeSet<_> = generated.concat().into_iter().collect();
        assert!(texts.len() > 1, "{name}: one answer to all tells nothing");
    }
    let losses = |recipe| {
        let pack = stirred(&model("gpt2", Kind::Double), vec![member(DEPT, 42)], settings(recipe));
        pack.eval_loss(&batch(2)).unwrap()[0]
    };
    assert!((losses(Recipe::Default) - losses(Recipe::Reference)).abs() > 1e-3);
}

/// The reference cuts an over-long row's end, and with it the label.
#[test]
fn labels_that_the_reference_cuts_off_do_not_count() {
    let model = model("gpt2", Kind::Double);
    let pack = stirred(&model, vec![member(DEPT, 42)], settings(Recipe::Reference));
    let row = |length: i64| Example {
        input_ids: (0..length).map(|i| 3 + i * 5 % 300).collect(),
        labels: vec![5, 6, 1],
    };
    let batch = |lengths: &[i64]| Batch { examples: lengths.iter().map(|&n| row(n)).collect() };
    assert_eq!(pack.label_tokens(&batch(&[29, 30, 32, 40])), 3 + 2);
    let sums = |lengths: &[i64]| {
        let encoded = pack.encode(&batch(lengths)).unwrap();
        pack.label_loss(&encoded, &pack.label_logits(&encoded).unwrap()).unwrap()[0]
    };
    let (whole, apart) = (sums(&[29, 30, 40]), sums(&[29]) + sums(&[30]));
    assert!((whole - apart).abs() < 1e-9, "{whole} {apart}");
    // A batch without any label has no loss, and no gradient.
    let gradients = pack.gradients(&[batch(&[40])]).unwrap().trial(0).unwrap();
    assert_eq!(gradients.prompt().unwrap().abs().max().double_value(&[]), 0.0);

    let pack = stirred(&model, vec![member(DEPT, 42)], settings(Recipe::Default));
    let error = pack.gradients(&[batch(&[40])]).err().unwrap().to_string();
    assert!(error.contains("40 input tokens"), "{error}");
    assert_eq!(pack.label_tokens(&batch(&[32])), 3);
    assert!(pack.eval_loss(&batch(&[32, 30])).unwrap()[0].is_finite());
}

#[test]
fn a_prompt_that_does_not_fit_the_positions_is_refused() {
    let long = member(Method::PromptTuning { prompt_length: 40 }, 42);
    // GPT-2 has 64 positions, 32 of them for the text.
    let gpt2 = model("gpt2", Kind::Float);
    let error = Pack::new(gpt2.clone(), vec![long], settings(Recipe::Default), &INIT);
    let error = error.err().unwrap().to_string();
    assert!(error.contains("prompt_length 40") && error.contains("64 positions"), "{error}");
    assert!(
        Pack::new(model("t5_v10", Kind::Float), vec![long], settings(Recipe::Default), &INIT)
            .is_ok()
    );
    let fits = member(Method::PromptTuning { prompt_length: 28 }, 42);
    let pack = Pack::new(gpt2, vec![fits], settings(Recipe::Default), &INIT).unwrap();
    let row = Example { input_ids: vec![7; 32], labels: vec![9, 9, 9, 1] };
    let batch = Batch { examples: vec![row] };
    assert!(pack.generate(&batch, 4).is_ok());
    let error = pack.generate(&batch, 5).err().unwrap().to_string();
    assert!(error.contains("needs 65 positions"), "{error}");
}
