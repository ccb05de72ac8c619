//! What predictions are judged against.

use std::collections::BTreeMap;

use super::text::Bag;
use super::{MetricKind, percent};
use crate::task::Recipe;

/// What one prediction is judged against.
pub trait Gold {
    /// The right answers, the one that is trained on first.
    fn answers(&self) -> Vec<&str>;

    /// The rows that [`MetricKind::GroupExactMatch`] judges together have the same number; a row
    /// without one stands alone.
    fn group(&self) -> Option<u64> {
        None
    }
}

impl Gold for str {
    fn answers(&self) -> Vec<&str> {
        vec![self]
    }
}

impl Gold for String {
    fn answers(&self) -> Vec<&str> {
        vec![self]
    }
}

impl<T: Gold + ?Sized> Gold for &T {
    fn answers(&self) -> Vec<&str> {
        (**self).answers()
    }

    fn group(&self) -> Option<u64> {
        (**self).group()
    }
}

impl<T: AsRef<str>> Gold for Vec<T> {
    fn answers(&self) -> Vec<&str> {
        self.iter().map(AsRef::as_ref).collect()
    }
}

/// The golds of all rows, laid out for judging any number of lists of predictions.
pub(super) struct Golds<'a> {
    /// The first answer of each row.
    targets: Vec<&'a str>,
    groups: Vec<Option<u64>>,
    /// The answers that count, normalised; empty unless a metric needs them.
    bags: Vec<Vec<Bag>>,
    recipe: Recipe,
}

impl<'a> Golds<'a> {
    pub(super) fn new<T: Gold>(kinds: &[MetricKind], recipe: Recipe, golds: &'a [T]) -> Self {
        let answers: Vec<Vec<&str>> = golds.iter().map(Gold::answers).collect();
        let texts = [MetricKind::ExactMatch, MetricKind::TokenF1];
        let bags = if kinds.iter().any(|kind| texts.contains(kind)) {
            let counted = match recipe {
                Recipe::Default => usize::MAX,
                // The authors' targets are tokenised from the first answer and decoded back.
                Recipe::Reference => 1,
            };
            let bags =
                |texts: &Vec<&str>| texts.iter().take(counted).map(|t| Bag::new(t)).collect();
            answers.iter().map(bags).collect()
        } else {
            Vec::new()
        };
        Self {
            targets: answers.iter().map(|a| a.first().copied().unwrap_or_default()).collect(),
            groups: golds.iter().map(Gold::group).collect(),
            bags,
            recipe,
        }
    }

    pub(super) fn targets(&self) -> &[&'a str] {
        &self.targets
    }

    /// Share of rows whose prediction equals one of the answers once normalised, percent.
    pub(super) fn exact_match(&self, predictions: &[&str]) -> f64 {
        self.mean_of_best(predictions, Bag::exact_match)
    }

    /// Word-overlap F1 against the answer that it is best for, averaged over rows, percent. Two
    /// empty texts agree, but count 0 in the authors' code.
    pub(super) fn token_f1(&self, predictions: &[&str]) -> f64 {
        let empty = match self.recipe {
            Recipe::Default => 1.0,
            Recipe::Reference => 0.0,
        };
        self.mean_of_best(predictions, |prediction, gold| prediction.f1(gold, empty))
    }

    #[allow(clippy::cast_precision_loss)] // counts of rows are far below 2^53
    fn mean_of_best(&self, predictions: &[&str], score: impl Fn(&Bag, &Bag) -> f64) -> f64 {
        // A constant answer is the same for all rows.
        let mut last: Option<(&str, Bag)> = None;
        let mut sum = 0.0;
        for (prediction, golds) in predictions.iter().zip(&self.bags) {
            let bag = match last.take() {
                Some((text, bag)) if text == *prediction => bag,
                _ => Bag::new(prediction),
            };
            sum += golds.iter().map(|gold| score(&bag, gold)).fold(0.0, f64::max);
            last = Some((prediction, bag));
        }
        100.0 * (sum / predictions.len() as f64)
    }

    /// Share of groups in which every prediction equals its target, percent.
    pub(super) fn group_exact_match(&self, predictions: &[&str]) -> f64 {
        let mut groups = BTreeMap::<u64, bool>::new();
        let (mut alone, mut right) = (0, 0);
        for ((prediction, target), group) in predictions.iter().zip(&self.targets).zip(&self.groups)
        {
            let equal = prediction == target;
            match group {
                Some(group) => *groups.entry(*group).or_insert(true) &= equal,
                None => {
                    alone += 1;
                    right += usize::from(equal);
                }
            }
        }
        right += groups.values().filter(|all| **all).count();
        percent(right, alone + groups.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row(&'static str, u64);

    impl Gold for Row {
        fn answers(&self) -> Vec<&str> {
            vec![self.0]
        }

        fn group(&self) -> Option<u64> {
            Some(self.1)
        }
    }

    #[test]
    fn a_group_is_right_when_all_of_it_is() {
        let rows = [Row("1", 7), Row("0", 7), Row("1", 8), Row("0", 9)];
        let golds = Golds::new(&[], Recipe::Default, &rows);
        let value = golds.group_exact_match(&["1", "1", "1", "0"]);
        assert!((value - 200.0 / 3.0).abs() < 1e-9);
        let alone = ["a", "b"];
        let golds = Golds::new(&[], Recipe::Default, &alone);
        assert_eq!(golds.group_exact_match(&["a", "c"]), 50.0);
    }

    #[test]
    fn the_best_of_all_answers_counts() {
        let rows = [vec!["New York City", "NYC"], vec!["x"]];
        let kinds = [MetricKind::ExactMatch, MetricKind::TokenF1];
        let values = |recipe| {
            let golds = Golds::new(&kinds, recipe, &rows);
            let predictions = ["nyc", "y"];
            (golds.exact_match(&predictions), golds.token_f1(&predictions))
        };
        assert_eq!(values(Recipe::Default), (50.0, 50.0));
        assert_eq!(values(Recipe::Reference), (0.0, 0.0));
    }
}
