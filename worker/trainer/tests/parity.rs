//! Holds the trainer to transformers on small random models of odd shapes.
//!
//! Reads the directory named by `DEPTUNE_PARITY`, which tests/python/parity.py fills, or the few
//! models that are kept beside this file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deptune_sweep::task::Recipe;
use deptune_trainer::{
    Adapter, Batch, Example, LowRank, Member, Method, Model, Pack, Padding, Settings,
};
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

/// Of the largest logit.
const LOGITS: f64 = 2e-5;
const LOSS: f64 = 5e-6;
/// Of the gradient's norm.
const GRADIENTS: f64 = 1e-4;
const MAX_LENGTH: usize = 16;
const ANSWER: usize = 5;

type Tensors = BTreeMap<String, Tensor>;

#[test]
fn models_of_odd_shapes_agree_with_transformers() {
    tch::set_num_threads(1);
    let root = std::env::var_os("DEPTUNE_PARITY")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity"));
    let mut steps = 0;
    for entry in std::fs::read_dir(&root).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.join("config.json").exists() {
            continue;
        }
        let model = Rc::new(Model::load(&dir, Kind::Float, Device::Cpu).unwrap());
        for (law, recipe) in [("default", Recipe::Default), ("reference", Recipe::Reference)] {
            let path = dir.join(format!("{law}.step.safetensors"));
            if !path.exists() {
                continue;
            }
            let step = read(&path);
            let label = format!("{} {law}", dir.file_name().unwrap().to_string_lossy());
            for padding in [Padding::MaxLength, Padding::Longest { multiple: 1 }] {
                compare(&model, &step, recipe, padding, &format!("{label} {padding:?}"));
            }
            steps += 1;
        }
    }
    assert!(steps >= 6, "only {steps} steps in {}", root.display());
}

fn compare(model: &Rc<Model>, step: &Tensors, recipe: Recipe, padding: Padding, label: &str) {
    let (prompt_length, _) = step["prompt"].size2().unwrap();
    let (_, rank) = step["A"].size2().unwrap();
    let method = Method::Dept { prompt_length: prompt_length as usize, rank: rank as usize };
    let member = Member::prompt(method, 0.3, 5e-3, 42);
    let settings = Settings {
        steps: 2,
        warmup_steps: 0,
        max_length: MAX_LENGTH,
        grad_clip: 1.0,
        dropout: 0.0,
        padding,
        recipe,
        ..Settings::default()
    };
    let mut pack = Pack::new(model.clone(), vec![member], settings, &[5]).unwrap();
    let lowrank = Some(LowRank { a: step["A"].shallow_clone(), b: step["B"].shallow_clone() });
    let start = Adapter::dept(Some(step["prompt"].shallow_clone()), lowrank);
    pack.set_parameters(0, &start).unwrap();
    let rows = rows(&step["input_ids"]).into_iter().zip(rows(&step["labels"]));
    let examples = rows.map(|(input_ids, labels)| Example { input_ids, labels }).collect();
    let batch = Batch { examples };

    let evaluation = pack.evaluate(&batch, ANSWER).unwrap();
    let loss = evaluation.loss_sums[0] / evaluation.label_tokens as f64;
    let expected = step["loss"].double_value(&[0]);
    assert!((loss - expected).abs() <= LOSS, "{label}: loss {loss} instead of {expected}");
    assert_eq!(evaluation.generated[0], self::rows(&step["answers"]), "{label}");

    let logits = pack.label_logits(&pack.encode(&batch).unwrap()).unwrap().get(0);
    let largest = step["logits"].abs().max().double_value(&[]);
    let error = (&logits - &step["logits"]).abs().max().double_value(&[]);
    assert!(error <= LOGITS * largest, "{label}: logits differ by {error} of {largest}");

    let gradients = pack.gradients(&[batch]).unwrap().trial(0).unwrap();
    for ((_, found), name) in gradients.named().zip(["prompt", "A", "B"]) {
        let expected = &step[&format!("grad.{name}")];
        let norm = expected.norm().double_value(&[]);
        let error = (found - expected).norm().double_value(&[]);
        assert!(norm > 0.0 && error <= GRADIENTS * norm, "{label} {name}: {error} of {norm}");
    }
}

/// Rows without the -1 that fill them up.
fn rows(tensor: &Tensor) -> Vec<Vec<i64>> {
    let row = |n: i64| -> Vec<i64> {
        let ids = Vec::<i64>::try_from(tensor.get(n)).unwrap();
        ids.into_iter().filter(|&id| id >= 0).collect()
    };
    (0..tensor.size()[0]).map(row).collect()
}

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, view)| {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::I64 => Kind::Int64,
            other => panic!("{}: {name} is {other:?}", path.display()),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
        (name.to_owned(), Tensor::from_data_size(view.data(), &shape, kind))
    });
    tensors.collect()
}
