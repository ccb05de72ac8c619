//! Every built-in task on the real files, from the folder that `DEPTUNE_DATA` names.

// Helpers of tests may stop at what is wrong, and say what they skipped.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use deptune_sweep::task::{
    DataError, Recipe, SourceFile, Split, TaskDef, TaskSpec, assemble, parse_rows,
};

/// Task, split, its files, rows.
type Case = (&'static str, Split, &'static [&'static str], usize);

const CASES: &[Case] = &[
    ("boolq", Split::Validation, &["boolq/val.jsonl"], 3270),
    ("cb", Split::Train, &["cb/train.jsonl"], 250),
    ("cb", Split::Validation, &["cb/val.jsonl"], 56),
    ("cola", Split::Train, &["cola/train.tsv"], 8551),
    ("cola", Split::Validation, &["cola/dev.tsv"], 1043),
    ("mrpc", Split::Train, &["mrpc/train.tsv"], 3668),
    ("mrpc", Split::Validation, &["mrpc/dev.tsv"], 408),
    ("mrpc", Split::Test, &["mrpc/test.tsv"], 1725),
    ("multirc", Split::Train, &["multirc/train.jsonl"], 27243),
    ("multirc", Split::Validation, &["multirc/val.jsonl"], 4848),
    ("paws", Split::Validation, &["paws/dev.tsv"], 8000),
    ("paws", Split::Test, &["paws/test.tsv"], 8000),
    ("qnli", Split::Validation, &["qnli/dev.tsv"], 5463),
    ("rte", Split::Train, &["rte/train.jsonl"], 2490),
    ("rte", Split::Validation, &["rte/val.jsonl"], 277),
    ("superglue-rte", Split::Validation, &["rte/val.jsonl"], 277),
    ("scitail", Split::Test, &["scitail/test.jsonl"], 2126),
    ("sst2", Split::Train, &["sst2/train.tsv"], 67349),
    ("sst2", Split::Validation, &["sst2/dev.tsv"], 872),
    ("stsb", Split::Train, &["stsb/train.tsv"], 5749),
    ("stsb", Split::Validation, &["stsb/dev.tsv"], 1500),
    ("wic", Split::Train, &["wic/train.data.txt", "wic/train.gold.txt"], 5428),
    ("wic", Split::Validation, &["wic/dev.data.txt", "wic/dev.gold.txt"], 638),
    ("wic", Split::Validation, &["wic/val.jsonl"], 638),
    ("wsc", Split::Train, &["wsc/train.jsonl"], 554),
    ("wsc", Split::Validation, &["wsc/val.jsonl"], 104),
];

/// Files whose rows have no labels.
const UNLABELLED: [(&str, &str); 3] =
    [("cb", "cb/test.jsonl"), ("rte", "rte/test.jsonl"), ("wsc", "wsc/test.jsonl")];

fn data() -> Option<PathBuf> {
    let data = std::env::var_os("DEPTUNE_DATA").map(PathBuf::from);
    if data.is_none() {
        println!("SKIPPED: DEPTUNE_DATA is not set, no real data file was read");
    }
    data
}

fn resolve(task: &str, recipe: Recipe) -> TaskDef {
    let train = vec!["given".to_owned()];
    TaskSpec { name: task.into(), train, ..TaskSpec::default() }.resolve(recipe).unwrap()
}

fn read(data: &std::path::Path, names: &[&'static str]) -> Vec<(&'static str, Vec<u8>)> {
    names.iter().map(|name| (*name, std::fs::read(data.join(name)).unwrap())).collect()
}

fn files<'a>(contents: &'a [(&'a str, Vec<u8>)]) -> Vec<SourceFile<'a>> {
    contents.iter().map(|(name, bytes)| SourceFile { name, bytes }).collect()
}

#[test]
fn every_file_gives_its_rows() {
    let Some(data) = data() else { return };
    for &(task, split, names, rows) in CASES {
        // Only these two read a row differently.
        let recipes: &[Recipe] = match task {
            "stsb" | "wsc" => &[Recipe::Default, Recipe::Reference],
            _ => &[Recipe::Default],
        };
        for &recipe in recipes {
            let def = resolve(task, recipe);
            let contents = read(&data, names);
            let examples = parse_rows(&def, split, &files(&contents))
                .unwrap_or_else(|error| panic!("{task} {split}: {error}"));
            assert_eq!(examples.len(), rows, "{task} {split}");
            let mut seen = BTreeMap::<&str, usize>::new();
            for example in &examples {
                *seen.entry(&example.target).or_default() += 1;
                assert!(!example.source.contains(['\n', '\r']) || names[0].ends_with("jsonl"));
            }
            // Every class occurs in these splits, and nothing else does.
            if task == "stsb" {
                assert!(seen.keys().all(|target| def.classes().iter().any(|c| c == target)));
                assert!(seen.len() > 20);
            } else {
                assert_eq!(seen.keys().copied().collect::<Vec<_>>(), def.classes(), "{task}");
            }
            if task == "wsc" && recipe == Recipe::Default {
                let marks = |text: &str| (text.matches('*').count(), text.matches('#').count());
                assert!(examples.iter().all(|e| marks(&e.source) == (2, 2)));
            }
        }
    }
}

#[test]
fn both_forms_of_wic_hold_the_same_answers() {
    let Some(data) = data() else { return };
    let def = resolve("wic", Recipe::Default);
    let share = |names: &[&'static str]| {
        let contents = read(&data, names);
        let rows = parse_rows(&def, Split::Validation, &files(&contents)).unwrap();
        rows.iter().filter(|e| e.target == "1").count()
    };
    assert_eq!(share(&["wic/dev.data.txt", "wic/dev.gold.txt"]), share(&["wic/val.jsonl"]));
}

#[test]
fn files_without_labels_are_refused() {
    let Some(data) = data() else { return };
    for (task, name) in UNLABELLED {
        let contents = read(&data, &[name]);
        let def = resolve(task, Recipe::Default);
        let error = parse_rows(&def, Split::Test, &files(&contents)).unwrap_err();
        assert!(matches!(error, DataError::Unlabelled { .. }), "{error}");
    }
}

#[test]
fn constant_answers_are_the_known_ones() {
    let Some(data) = data() else { return };
    let best = |task: &str, split, names: &[&'static str]| {
        let def = resolve(task, Recipe::Reference);
        let contents = read(&data, names);
        let rows = parse_rows(&def, split, &files(&contents)).unwrap();
        let data = assemble(&def, BTreeMap::from([(Split::Train, rows.clone()), (split, rows)]));
        let data = data.unwrap();
        let value = |rows: &[deptune_sweep::task::Example]| {
            def.constant_answer(rows)[0].1.finite().unwrap()
        };
        (value(&data.validation), value(&data.test))
    };
    // The majority answers of the halves of the validation split in the authors' recorded runs.
    let (validation, test) = best("wsc", Split::Validation, &["wsc/val.jsonl"]);
    assert!((validation - 100.0 * 31.0 / 52.0).abs() < 1e-9, "{validation}");
    assert!((test - 100.0 * 35.0 / 52.0).abs() < 1e-9, "{test}");
    let (validation, _) = best("boolq", Split::Validation, &["boolq/val.jsonl"]);
    assert!((validation - 62.63).abs() < 0.005, "{validation}");
}
