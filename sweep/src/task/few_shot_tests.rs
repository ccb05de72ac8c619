use proptest::prelude::*;

use super::*;
use crate::task::RowId;

fn def(toml: &str, recipe: Recipe) -> Result<TaskDef, TaskError> {
    let mut spec: TaskSpec = toml::from_str(toml).unwrap();
    spec.train.push("t".into());
    spec.resolve(recipe)
}

fn data(targets: &[&str]) -> Dataset {
    let row = |(line, target): (u64, &&str)| Example {
        source: line.to_string(),
        target: (*target).to_owned(),
        answers: vec![(*target).to_owned()],
        group: None,
        row: RowId { split: Split::Train, file: 0, line },
    };
    let train: Vec<Example> = (0..).zip(targets).map(row).collect();
    Dataset { validation: train.clone(), test: train.clone(), train, how: String::new() }
}

fn lines(data: &Dataset) -> Vec<u64> {
    data.train.iter().map(|row| row.row.line).collect()
}

fn counts(data: &Dataset) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    data.train.iter().for_each(|row| *counts.entry(row.target.clone()).or_default() += 1);
    counts
}

const CB_8_SEED_42: [u64; 6] = [28, 55, 18, 24, 17, 50];
const RTE_7_SEED_7: [u64; 7] = [16, 19, 53, 0, 10, 20, 22];
const STSB_4_SEED_1: [u64; 4] = [5, 0, 2, 6];

/// The authors' loop over the shuffled rows of targets `0 1 2 0 1 2 …`, run with NumPy.
#[test]
fn the_reference_takes_these_rows() {
    let targets: Vec<&str> = (0..60).map(|i| ["0", "1", "2"][i % 3]).collect();
    let cb = def("name = 'cb'\nk_shot = 8", Recipe::Reference).unwrap();
    let sample = data(&targets).sample(&cb, 42).unwrap();
    assert_eq!(lines(&sample), CB_8_SEED_42);
    assert_eq!(sample.validation.len(), 60);
    let rte = def("name = 'rte'\nk_shot = 7", Recipe::Reference).unwrap();
    let targets: Vec<&str> = (0..60).map(|i| if i % 5 == 0 { "1" } else { "0" }).collect();
    assert_eq!(lines(&data(&targets).sample(&rte, 7).unwrap()), RTE_7_SEED_7);
    let stsb = def("name = 'stsb'\nk_shot = 4", Recipe::Reference).unwrap();
    let scores = ["0.0", "2.5", "2.6", "5.0", "1.0", "2.4", "3.0", "4.2"];
    assert_eq!(lines(&data(&scores).sample(&stsb, 1).unwrap()), STSB_4_SEED_1);
}

#[test]
fn a_third_of_32_leaves_two_rows_out() {
    let targets: Vec<&str> = (0..90).map(|i| ["0", "1", "2"][i % 3]).collect();
    let cb = |recipe| def("name = 'cb'\nk_shot = 32", recipe).unwrap();
    let reference = data(&targets).sample(&cb(Recipe::Reference), 3).unwrap();
    assert_eq!(counts(&reference).into_values().collect::<Vec<_>>(), [10, 10, 10]);
    let balanced = data(&targets).sample(&cb(Recipe::Default), 3).unwrap();
    let mut counts: Vec<usize> = counts(&balanced).into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [10, 11, 11]);
}

#[test]
fn settings_that_cannot_be_met_say_why() {
    let problem = |toml: &str| def(toml, Recipe::Default).unwrap_err().to_string();
    assert_eq!(
        problem("name = 'nq'\nk_shot = 8"),
        "'k_shot' of task 'nq' is no use: it needs a task with known labels"
    );
    assert_eq!(
        problem("name = 'cb'\nk_shot = 2"),
        "'k_shot' of task 'cb' is no use: it is less than the number of classes, 3"
    );
    assert!(problem("name = 'cb'\nk_shot_sampling = 'balanced'").contains("needs 'k_shot'"));
    let rte = def("name = 'rte'\nk_shot = 6", Recipe::Default).unwrap();
    let error = data(&["0", "0", "0", "1"]).sample(&rte, 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "class '1' has 1 training rows, 3 are to be sampled; lower k_shot, or give more rows"
    );
}

proptest! {
    #[test]
    fn balanced_samples_are_balanced_and_paired_by_seed(
        k in 3u32..40, seed in any::<u64>(), rows in 45usize..200,
    ) {
        let targets: Vec<&str> = (0..rows).map(|i| ["0", "1", "2"][i % 3]).collect();
        let cb = def(&format!("name = 'cb'\nk_shot = {k}"), Recipe::Default).unwrap();
        let sample = data(&targets).sample(&cb, seed).unwrap();
        prop_assert_eq!(sample.train.len(), k as usize);
        let counts = counts(&sample);
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        prop_assert!(counts.len() == 3 && most - least <= 1);
        prop_assert_eq!(data(&targets).sample(&cb, seed).unwrap(), sample);
    }
}
