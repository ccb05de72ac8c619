//! Metrics over predicted and target texts, all in percent except where said otherwise.
//!
//! Predictions are compared as strings, after decoding and trimming. The definitions, including
//! what happens to answers that are no label at all, are those of the DePT authors' evaluation
//! (which takes them from scikit-learn and SciPy), so that figures can be laid beside theirs.

mod classification;
mod correlation;
mod gold;
mod kind;
mod number;
mod report;
mod text;

pub use gold::Gold;
pub use kind::{MetricKind, UnknownMetric};
pub use number::Number;
pub use report::class_reports;
pub use text::normalize_answer;

use gold::Golds;

use crate::task::Recipe;

/// Metrics by name, in the order asked for.
pub type Metrics = Vec<(String, Number)>;

/// How many different answers [`constant_answer`] tries for a task without a list of labels.
const MAX_CONSTANTS: usize = 64;

/// Why metrics could not be computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// Every target needs exactly one prediction.
    #[error("{predictions} predictions for {targets} targets")]
    Lengths {
        /// Number of predictions.
        predictions: usize,
        /// Number of targets.
        targets: usize,
    },
}

/// Computes each of `kinds` for `predictions` against `golds` (same length, trimmed texts).
///
/// `classes` are the task's target texts in class order; F1 takes the second as the positive
/// class, macro F1 averages over all of them. For a task with free text it is empty, and "0" and
/// "1" stand in for F1, the distinct targets for macro F1. `em` and `token_f1` take the best of a
/// row's answers, all other metrics its first; with [`Recipe::Reference`] they all take the first.
/// Every metric of no rows at all is NaN.
///
/// # Errors
/// When the numbers of predictions and golds differ.
pub fn evaluate<P: AsRef<str>, T: Gold>(
    kinds: &[MetricKind],
    classes: &[String],
    recipe: Recipe,
    predictions: &[P],
    golds: &[T],
) -> Result<Metrics, MetricError> {
    if predictions.len() != golds.len() {
        return Err(MetricError::Lengths { predictions: predictions.len(), targets: golds.len() });
    }
    let predictions: Vec<&str> = predictions.iter().map(AsRef::as_ref).collect();
    Ok(score(kinds, classes, &Golds::new(kinds, recipe, golds), &predictions))
}

/// The metrics of the best constant answer: what a model that ignores its input can reach.
///
/// The answer is one of `classes`, or, where there are none, one of the 64 most frequent targets.
/// Best means the largest first metric of `kinds`; the first of ties wins, in the order of
/// `classes`, or by frequency and then by text.
#[must_use]
pub fn constant_answer<T: Gold>(
    kinds: &[MetricKind],
    classes: &[String],
    recipe: Recipe,
    golds: &[T],
) -> Metrics {
    let golds = Golds::new(kinds, recipe, golds);
    let rows = golds.targets().len();
    let mut best: Option<Metrics> = None;
    for answer in constants(classes, golds.targets()) {
        let metrics = score(kinds, classes, &golds, &vec![answer; rows]);
        let better = match (&best, metrics.first()) {
            (None, _) => true,
            (Some(best), Some((_, value))) => {
                best.first().is_some_and(|(_, old)| value.is_better_than(*old, true))
            }
            (Some(_), None) => false,
        };
        if better {
            best = Some(metrics);
        }
    }
    best.unwrap_or_else(|| score(kinds, classes, &golds, &[]))
}

fn constants<'a>(classes: &'a [String], targets: &[&'a str]) -> Vec<&'a str> {
    if !classes.is_empty() {
        return classes.iter().map(String::as_str).collect();
    }
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for target in targets {
        *counts.entry(target).or_default() += 1;
    }
    let mut answers: Vec<(&str, usize)> = counts.into_iter().collect();
    answers.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    answers.into_iter().take(MAX_CONSTANTS).map(|(answer, _)| answer).collect()
}

fn score(
    kinds: &[MetricKind],
    classes: &[String],
    golds: &Golds<'_>,
    predictions: &[&str],
) -> Metrics {
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    let targets = golds.targets().iter().copied();
    let pairs: Vec<(&str, &str)> = predictions.iter().copied().zip(targets).collect();
    let value = |kind: MetricKind| match kind {
        _ if pairs.is_empty() => f64::NAN,
        MetricKind::ExactMatch => golds.exact_match(predictions),
        MetricKind::TokenF1 => golds.token_f1(predictions),
        MetricKind::GroupExactMatch => golds.group_exact_match(predictions),
        MetricKind::Accuracy => classification::accuracy(&pairs),
        MetricKind::F1 => match classes[..] {
            [negative, positive] => classification::f1(&pairs, negative, positive),
            _ => classification::f1(&pairs, "0", "1"),
        },
        MetricKind::MatthewsCorrelation => classification::matthews(&pairs),
        MetricKind::F1Multiclass if classes.is_empty() => {
            let targets: std::collections::BTreeSet<&str> = pairs.iter().map(|p| p.1).collect();
            classification::macro_f1(&pairs, &targets.into_iter().collect::<Vec<_>>())
        }
        MetricKind::F1Multiclass => classification::macro_f1(&pairs, &classes),
        MetricKind::Pearson => correlation::pearson_of_texts(&pairs),
        MetricKind::Spearman => correlation::spearman_of_texts(&pairs),
    };
    kinds.iter().map(|kind| (kind.name().to_owned(), value(*kind).into())).collect()
}

/// 100 · part / whole.
#[allow(clippy::cast_precision_loss)] // counts of rows are far below 2^53
fn percent(part: usize, whole: usize) -> f64 {
    100.0 * (part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: Recipe = Recipe::Default;

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|t| (*t).to_owned()).collect()
    }

    #[test]
    fn lengths_must_agree() {
        let error =
            evaluate(&[MetricKind::Accuracy], &[], DEFAULT, &["a"], &["a", "b"]).unwrap_err();
        assert_eq!(error, MetricError::Lengths { predictions: 1, targets: 2 });
    }

    #[test]
    fn no_rows_give_nan() {
        let none: [&str; 0] = [];
        let metrics = evaluate(&MetricKind::ALL, &[], DEFAULT, &none, &none).unwrap();
        assert!(metrics.iter().all(|(_, value)| *value == Number::NaN));
        assert_eq!(constant_answer(&[MetricKind::F1], &[], DEFAULT, &none)[0].1, Number::NaN);
    }

    #[test]
    fn constant_answer_follows_the_first_metric() {
        let targets = ["0", "0", "0", "1"];
        let classes = names(&["0", "1"]);
        let by_accuracy =
            constant_answer(&[MetricKind::Accuracy, MetricKind::F1], &classes, DEFAULT, &targets);
        assert_eq!(by_accuracy[0], ("accuracy".to_owned(), Number::Finite(75.0)));
        assert_eq!(by_accuracy[1], ("f1".to_owned(), Number::Finite(0.0)));
        let by_f1 =
            constant_answer(&[MetricKind::F1, MetricKind::Accuracy], &classes, DEFAULT, &targets);
        assert_eq!(by_f1[0], ("f1".to_owned(), Number::Finite(40.0)));
        assert_eq!(by_f1[1], ("accuracy".to_owned(), Number::Finite(25.0)));
    }

    #[test]
    fn constant_answer_without_classes_takes_the_most_frequent() {
        let metrics = constant_answer(&[MetricKind::ExactMatch], &[], DEFAULT, &["x", "y", "y"]);
        assert_eq!(metrics[0].1, Number::from(percent(2, 3)));
    }

    #[test]
    fn f1_takes_the_second_class_as_positive() {
        let classes = names(&["negative", "positive"]);
        let metrics = evaluate(
            &[MetricKind::F1],
            &classes,
            DEFAULT,
            &["positive", "negative", "nonsense"],
            &["positive", "positive", "negative"],
        )
        .unwrap();
        // "nonsense" becomes "positive", the opposite of its target: tp 1, fp 1, fn 1.
        assert_eq!(metrics[0].1, Number::Finite(50.0));
    }
}
