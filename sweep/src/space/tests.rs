//! Tests of the grid.

use proptest::prelude::*;

use super::*;
use crate::spec::Format;

/// d, s, and pairs (m, r) on the line of prompt tuning with 100 rows.
type Line = (u32, u32, &'static [(u32, u32)]);

const LINES: &[Line] = &[
    (192, 128, &[(20, 48), (40, 36), (60, 24), (80, 12)]),
    (512, 256, &[(10, 60), (22, 52), (40, 40), (52, 32), (61, 26), (70, 20), (79, 14), (88, 8)]),
    (512, 512, &[(20, 40), (40, 30), (60, 20), (80, 10)]),
    (768, 128, &[(2, 84), (16, 72), (30, 60), (44, 48), (58, 36), (65, 30), (72, 24), (86, 12)]),
    (768, 256, &[(0, 75), (20, 60), (40, 45), (60, 30), (80, 15)]),
    (768, 512, &[(0, 60), (20, 48), (40, 36), (60, 24), (80, 12)]),
    (1024, 256, &[(0, 80), (20, 64), (40, 48), (60, 32), (80, 16)]),
    (1024, 512, &[(10, 60), (25, 50), (40, 40), (55, 30), (70, 20), (85, 10)]),
    (1280, 256, &[(10, 75), (40, 50), (58, 35), (70, 25), (82, 15)]),
    (1600, 256, &[(13, 75), (42, 50), (71, 25)]),
    (4096, 256, &[(15, 80), (32, 64), (49, 48), (66, 32), (83, 16)]),
    (4096, 512, &[(10, 80), (28, 64), (46, 48), (64, 32), (82, 16)]),
    (5120, 256, &[(16, 80), (37, 60), (58, 40), (79, 20)]),
    (5120, 512, &[(12, 80), (34, 60), (56, 40), (78, 20)]),
];

#[test]
fn the_known_pairs_lie_on_the_line() {
    for (d, s, pairs) in LINES {
        let all = equal_pairs(100, *s, *d);
        for (m, r) in *pairs {
            assert_eq!(trainable_parameters(*m, *r, *s, *d), 100 * u64::from(*d), "d {d} s {s}");
            assert_eq!(equal_rank(100, *m, *s, *d, Rounding::Exact), Some(*r), "d {d} s {s}");
            assert!(all.contains(&(*m, *r)), "d {d} s {s} m {m}");
        }
    }
    assert_eq!(equal_pairs(100, 348, 768), [(7, 64)]);
}

#[test]
fn the_nearest_pairs_surround_the_wanted_length() {
    assert_eq!(nearest_pairs(100, 30, 256, 768, 2), [(28, 54), (32, 51)]);
    assert_eq!(nearest_pairs(100, 60, 348, 768, 3), [(7, 64)]);
    assert_eq!(nearest_pairs(1, 0, 256, 768, 3), []);
}

#[test]
fn rounding_goes_to_the_nearest_whole_rank() {
    // 40·768 / 1116 = 27.5
    assert_eq!(equal_rank(100, 60, 348, 768, Rounding::Exact), None);
    assert_eq!(equal_rank(100, 60, 348, 768, Rounding::Nearest), Some(28));
    // 1·2 / (2 + 2) = 0.5 goes up.
    assert_eq!(equal_rank(1, 0, 2, 2, Rounding::Nearest), Some(1));
    assert_eq!(equal_rank(100, 101, 256, 768, Rounding::Nearest), None);
    assert_eq!(equal_rank(100, 100, 256, 768, Rounding::Exact), Some(0));
}

#[test]
fn parameters_are_counted_as_in_the_recorded_runs() {
    assert_eq!(trainable_parameters(60, 30, 256, 768), 76_800);
    assert_eq!(trainable_parameters(60, 30, 348, 768), 79_560);
    assert_eq!(trainable_parameters(60, 30, 256, 512), 53_760);
    assert_eq!(trainable_parameters(u32::MAX, u32::MAX, u32::MAX, u32::MAX), u64::MAX);
}

#[test]
fn the_order_is_fixed_and_seeds_are_fastest() {
    let text = r#"
        name = "order"
        [model]
        path = "m"
        [task]
        name = "rte"
        train = "t"
        [space]
        seeds = [1, 2]
        lowrank_lr = [1e-4, 1e-3]
        prompt_lr = [0.3, 0.4]
        rank = [8, 16]
        prompt_length = [10, 20]
        steps = [100, 200]
        [train]
        max_length = 64
    "#;
    let spec = Spec::parse(text, Format::Toml, None).unwrap();
    assert_eq!((spec.total(), spec.configurations()), (64, 32));
    let row = |index: u64| {
        let s = spec.settings(index).unwrap();
        (s.prompt_length, s.rank, s.prompt_lr, s.lowrank_lr, s.train.steps, s.seed)
    };
    assert_eq!(row(0), (10, 8, Some(0.3), Some(1e-4), 100, 1));
    assert_eq!(row(1), (10, 8, Some(0.3), Some(1e-4), 100, 2));
    assert_eq!(row(2), (10, 8, Some(0.3), Some(1e-4), 200, 1));
    assert_eq!(row(4), (10, 8, Some(0.3), Some(1e-3), 100, 1));
    assert_eq!(row(8), (10, 8, Some(0.4), Some(1e-4), 100, 1));
    assert_eq!(row(16), (10, 16, Some(0.3), Some(1e-4), 100, 1));
    assert_eq!(row(32), (20, 8, Some(0.3), Some(1e-4), 100, 1));
    assert_eq!(row(63), (20, 16, Some(0.4), Some(1e-3), 200, 2));
    assert_eq!(spec.settings(64), None);
    assert_eq!(spec.settings(u64::MAX), None);
    assert_eq!((spec.configuration(0), spec.configuration(1), spec.configuration(2)), (0, 0, 1));
}

prop_compose! {
    /// A grid of a few values per axis, ranks listed or on the equal-parameter line.
    fn spaces()(
        prompt_length in prop::collection::btree_set(1..100_u32, 1..5),
        rank in prop::collection::btree_set(0..64_u32, 1..4),
        prompt_lr in prop::collection::btree_set(1..1000_u32, 1..4),
        lowrank_lr in prop::collection::btree_set(1..1000_u32, 1..4),
        seeds in prop::collection::btree_set(any::<u32>(), 1..5),
        sources in prop::collection::btree_set(prop::option::of("[a-c]"), 0..3),
        lengths in prop::collection::btree_set(64..256_u32, 0..3),
        dropout in prop::collection::btree_set(0..99_u32, 0..3),
        line in any::<bool>(),
        hidden in prop::sample::select(vec![64_u32, 192, 512, 768]),
    ) -> Space {
        let rates = |set: std::collections::BTreeSet<u32>| {
            set.into_iter().map(|n| f64::from(n) / 1000.0).collect::<Vec<_>>()
        };
        let mut train = Vec::new();
        if !lengths.is_empty() {
            train.push(TrainAxis::MaxLength(lengths.into_iter().collect()));
        }
        if !dropout.is_empty() {
            train.push(TrainAxis::Dropout(rates(dropout)));
        }
        Space {
            source: sources.into_iter().collect(),
            prompt_length: prompt_length.into_iter().collect(),
            rank: if line {
                Ranks::EqualParameters { to: 100, hidden, rounding: Rounding::Nearest }
            } else {
                Ranks::List(rank.into_iter().collect())
            },
            prompt_lr: rates(prompt_lr),
            lowrank_lr: rates(lowrank_lr),
            one_rate: false,
            learning_rate: Vec::new(),
            train,
            follow: Follow::default(),
            seeds: seeds.into_iter().map(u64::from).collect(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_index_has_its_own_settings(space in spaces()) {
        let base = crate::spec::tests::parse(crate::spec::tests::BASE).unwrap();
        let spec = Spec { space, ..base };
        let mut seen = std::collections::BTreeSet::new();
        for index in 0..spec.total() {
            let settings = spec.settings(index).unwrap();
            prop_assert_eq!(spec.settings(index).unwrap(), settings.clone());
            let json = serde_json::to_string(&settings).unwrap();
            prop_assert!(seen.insert(json), "index {} repeats another", index);
            let first = spec.configuration(index) * spec.space.seeds.len() as u64;
            let mut same = spec.settings(first).unwrap();
            same.seed = settings.seed;
            prop_assert_eq!(same, settings);
        }
        prop_assert_eq!(seen.len() as u64, spec.total());
        prop_assert_eq!(spec.configurations() * spec.space.seeds.len() as u64, spec.total());
        prop_assert!(spec.settings(spec.total()).is_none());
    }

    #[test]
    fn a_cohort_is_what_shares_seed_and_training_settings(space in spaces(), pick in any::<u64>()) {
        let base = crate::spec::tests::parse(crate::spec::tests::BASE).unwrap();
        let spec = Spec { space, ..base };
        let index = pick % spec.total();
        let (cohort, settings) = (spec.cohort(index).unwrap(), spec.settings(index).unwrap());
        prop_assert_eq!(cohort.seed, settings.seed);
        prop_assert_eq!(cohort.prompt_length, settings.prompt_length);
        prop_assert_eq!(cohort.max_length, settings.train.max_length);
        prop_assert!(cohort.takes(&cohort));
        let (first, stride) = spec.cohort_indexes(&cohort).unwrap();
        let listed: Vec<u64> =
            (first..spec.total()).step_by(usize::try_from(stride).unwrap()).collect();
        let shares = |other: &u64| {
            let other = spec.settings(*other).unwrap();
            other.seed == settings.seed && other.train == settings.train
        };
        let expected: Vec<u64> = (0..spec.total()).filter(shares).collect();
        prop_assert_eq!(listed, expected);
        prop_assert!(spec.cohort(spec.total()).is_none());
    }

    #[test]
    fn equal_ranks_satisfy_the_equation(
        to in 1..2000_u32, m in 0..2000_u32, s in 1..2000_u32, d in 1..5000_u32,
    ) {
        let whole = u64::from(to) * u64::from(d);
        match equal_rank(to, m, s, d, Rounding::Exact) {
            Some(rank) => prop_assert_eq!(trainable_parameters(m, rank, s, d), whole),
            None => {
                let each = u64::from(s) + u64::from(d);
                let left = m <= to && (u64::from(to - m) * u64::from(d)).is_multiple_of(each);
                prop_assert!(!left);
            }
        }
        if let Some(rank) = equal_rank(to, m, s, d, Rounding::Nearest) {
            // At most half a rank away from the line.
            let off = trainable_parameters(m, rank, s, d).abs_diff(whole);
            prop_assert!(off * 2 <= u64::from(s) + u64::from(d));
        }
        for (m, rank) in equal_pairs(to, s, d) {
            prop_assert_eq!(trainable_parameters(m, rank, s, d), whole);
            prop_assert!(rank >= 1 && rank <= s.min(d));
        }
    }
}
