use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::spec::Format;
use crate::spec::tests::{BASE, model, parse, with};

fn space(spec: &str, text: &str) -> Spec {
    let spec = (spec, Format::Toml);
    Spec::with_space(spec, (text, Format::Toml), Some(&model(192))).unwrap()
}

#[test]
fn points_of_added_spaces_come_behind_those_before() {
    let base = parse(BASE).unwrap();
    let mut points = Points::new(base.clone());
    assert_eq!((points.total(), points.spaces()), (24, 0));
    points.add(space(BASE, "[space]\nprompt_lr = 0.5\nseeds = [42, 99]\n"));
    points.add(space(BASE, "[space]\nsteps = [100, 2000]\n"));
    assert_eq!((points.total(), points.spaces()), (24 + 8 + 48, 2));
    assert_eq!(points.settings(23), base.settings(23));
    let first = points.settings(24).unwrap();
    assert_eq!((first.prompt_lr, first.seed, first.train.steps), (Some(0.5), 42, 2000));
    assert_eq!(points.settings(25).unwrap().seed, 99);
    let last = points.settings(79).unwrap();
    assert_eq!((last.prompt_lr, last.seed, last.train.steps), (Some(0.4), 44, 2000));
    assert_eq!((points.steps(23), points.steps(31), points.steps(32)), (2000, 2000, 100));
    assert_eq!((points.settings(80), points.cohort(80), points.steps(80)), (None, None, 0));
}

/// Configurations are equal where settings are, but for the seed, and only there.
fn check_configurations(points: &Points) {
    let mut numbers: BTreeMap<String, u64> = BTreeMap::new();
    for point in 0..points.total() {
        let mut settings = points.settings(point).unwrap();
        settings.seed = 0;
        let number = points.configuration(point);
        let known = *numbers.entry(format!("{settings:?}")).or_insert(number);
        assert_eq!(known, number, "point {point}");
        let mut first = points.settings(points.first_of(number).unwrap()).unwrap();
        first.seed = 0;
        assert_eq!(first, settings, "configuration {number}");
    }
    let different: BTreeSet<u64> = numbers.values().copied().collect();
    assert_eq!(different.len(), numbers.len());
    assert_eq!((points.first_of(1 << 40), points.first_of(u64::MAX)), (None, None));
}

proptest! {
    #[test]
    fn equal_settings_have_one_configuration(
        spaces in prop::collection::vec(
            (
                prop::sample::subsequence(vec!["0.3", "0.4", "0.5", "0.6"], 1..4),
                prop::sample::subsequence(vec!["20", "40", "60"], 1..3),
                prop::sample::subsequence(vec!["15", "30"], 0..2),
                prop::sample::subsequence(vec!["100", "2000", "5000"], 0..3),
                prop::sample::subsequence(vec!["0.0", "0.1"], 0..2),
                prop::sample::subsequence(vec!["42", "43", "45"], 1..3),
            ),
            0..4,
        ),
    ) {
        let base = with(&[("[train]\n", "[train]\ndropout = 0.1\n")]);
        let mut points = Points::new(parse(&base).unwrap());
        for (rates, rows, ranks, steps, dropout, seeds) in spaces {
            let mut text = "[space]\n".to_owned();
            let axes = [
                ("prompt_lr", rates), ("prompt_length", rows), ("rank", ranks), ("steps", steps),
                ("dropout", dropout), ("seeds", seeds),
            ];
            for (key, values) in axes.iter().filter(|(_, values)| !values.is_empty()) {
                text.push_str(&format!("{key} = [{}]\n", values.join(", ")));
            }
            points.add(space(&base, &text));
        }
        check_configurations(&points);
        // Those that train together have the same training settings and the same seed.
        for point in 0..points.total() {
            let (cohort, settings) = (points.cohort(point).unwrap(), points.settings(point).unwrap());
            for other in 0..point {
                if points.cohort(other).unwrap().takes(&cohort) {
                    let other = points.settings(other).unwrap();
                    prop_assert_eq!((&other.train, other.seed), (&settings.train, settings.seed));
                }
            }
        }
    }
}

#[test]
fn spaces_with_the_same_training_share_cohorts() {
    let mut points = Points::new(parse(BASE).unwrap());
    points.add(space(BASE, "[space]\nprompt_lr = 0.5\n"));
    points.add(space(BASE, "[space]\nsteps = 100\n"));
    points.add(space(BASE, "[space]\nsteps = 100\nprompt_lr = 0.6\n"));
    let cohort = |point| points.cohort(point).unwrap();
    assert_eq!(cohort(0), cohort(24));
    assert_ne!(cohort(0), cohort(36));
    assert_eq!(cohort(36), cohort(60));
    assert_eq!(points.spec().cohort_indexes(&cohort(24)), points.spec().cohort_indexes(&cohort(0)));
    assert_eq!(points.spec().cohort_indexes(&cohort(36)), None);
}

#[test]
fn what_varies_over_all_spaces_is_known() {
    let mut points = Points::new(parse(BASE).unwrap());
    assert!(points.varied().is_empty());
    points.add(space(BASE, "[space]\nprompt_lr = 0.5\nsteps = 2000\n"));
    assert!(points.varied().is_empty());
    points.add(space(BASE, "[space]\nsteps = 100\nbatch_size = [32, 8]\n"));
    assert_eq!(points.varied(), ["steps", "batch_size"]);
    points.add(space(BASE, "[space]\nwarmup_steps = [1, 2]\n"));
    assert_eq!(points.varied(), ["steps", "batch_size", "warmup_steps"]);
}
