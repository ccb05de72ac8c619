//! Metrics over class labels. Pairs are (prediction, target).

use std::collections::BTreeMap;

use super::percent;

/// Share of equal pairs, percent.
pub(super) fn accuracy(pairs: &[(&str, &str)]) -> f64 {
    percent(pairs.iter().filter(|(p, t)| p == t).count(), pairs.len())
}

/// F1 of `positive`, percent, with every answer outside the two classes replaced by the opposite
/// of its target, so that it always counts as wrong.
pub(super) fn f1(pairs: &[(&str, &str)], negative: &str, positive: &str) -> f64 {
    let mended: Vec<(&str, &str)> = pairs
        .iter()
        .map(|&(prediction, target)| {
            if prediction == negative || prediction == positive {
                (prediction, target)
            } else {
                (if target == positive { negative } else { positive }, target)
            }
        })
        .collect();
    100.0 * class_f1(&mended, positive)
}

/// F1 per class averaged over `classes`, percent. A class that occurs nowhere counts as 0.
#[allow(clippy::cast_precision_loss)] // a handful of classes
pub(super) fn macro_f1(pairs: &[(&str, &str)], classes: &[&str]) -> f64 {
    let sum: f64 = classes.iter().map(|class| class_f1(pairs, class)).sum();
    100.0 * (sum / classes.len() as f64)
}

/// 2·tp / (2·tp + fp + fn) of one class, 0 where the denominator is.
#[allow(clippy::cast_precision_loss)] // counts of rows are far below 2^53
fn class_f1(pairs: &[(&str, &str)], class: &str) -> f64 {
    let predicted = pairs.iter().filter(|(p, _)| *p == class).count();
    let actual = pairs.iter().filter(|(_, t)| *t == class).count();
    let both = pairs.iter().filter(|(p, t)| *p == class && *t == class).count();
    if both == 0 { 0.0 } else { (2 * both) as f64 / (predicted + actual) as f64 }
}

/// Multiclass Matthews correlation (Gorodkin 2004), percent:
/// (c·n - Σ p_k·t_k) / sqrt((n² - Σ p_k²)·(n² - Σ t_k²)), 0 where the root is.
#[allow(clippy::cast_precision_loss)] // counts of rows are far below 2^53
pub(super) fn matthews(pairs: &[(&str, &str)]) -> f64 {
    let mut counts = BTreeMap::<&str, (f64, f64)>::new();
    let mut correct = 0.0;
    for &(prediction, target) in pairs {
        counts.entry(prediction).or_default().0 += 1.0;
        counts.entry(target).or_default().1 += 1.0;
        correct += f64::from(u8::from(prediction == target));
    }
    let n = pairs.len() as f64;
    let sum = |product: fn(&(f64, f64)) -> f64| counts.values().map(product).sum::<f64>();
    let covariance = correct * n - sum(|(p, t)| p * t);
    let of_predictions = n * n - sum(|(p, _)| p * p);
    let of_targets = n * n - sum(|(_, t)| t * t);
    let root = (of_predictions * of_targets).sqrt();
    if root == 0.0 { 0.0 } else { 100.0 * (covariance / root) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_and_inverted() {
        let same = [("0", "0"), ("1", "1"), ("1", "1")];
        let swapped = [("1", "0"), ("0", "1"), ("0", "1")];
        assert_eq!((accuracy(&same), accuracy(&swapped)), (100.0, 0.0));
        assert_eq!((f1(&same, "0", "1"), f1(&swapped, "0", "1")), (100.0, 0.0));
        assert!((matthews(&same) - 100.0).abs() < 1e-9);
        assert!((matthews(&swapped) + 100.0).abs() < 1e-9);
    }

    #[test]
    fn macro_f1_counts_a_class_that_never_occurs() {
        let pairs = [("0", "0"), ("1", "1")];
        assert!((macro_f1(&pairs, &["0", "1", "2"]) - 200.0 / 3.0).abs() < 1e-9);
    }
}
