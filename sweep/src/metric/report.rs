//! How each class fared.

use super::percent;
use crate::child::ClassReport;

/// Precision, recall, F1 and support of each of `classes`, in their order, for predictions
/// against targets (as many). An answer that is no class lowers the recall of its row's class and
/// the precision of none.
#[must_use]
pub fn class_reports<P: AsRef<str>, T: AsRef<str>>(
    classes: &[String],
    predictions: &[P],
    targets: &[T],
) -> Vec<ClassReport> {
    let count = |rows: &dyn Fn(&str, &str) -> bool| {
        let pairs = predictions.iter().zip(targets);
        pairs.filter(|(p, t)| rows(p.as_ref(), t.as_ref())).count()
    };
    let share = |part, whole| if whole == 0 { 0.0 } else { percent(part, whole) };
    classes
        .iter()
        .map(|class| {
            let predicted = count(&|prediction, _| prediction == class);
            let support = count(&|_, target| target == class);
            let both = count(&|prediction, target| prediction == class && target == class);
            ClassReport {
                label: class.clone(),
                precision: share(both, predicted),
                recall: share(both, support),
                f1: share(2 * both, predicted + support),
                support: support as u64,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_judged_by_its_own_rows_and_answers() {
        let classes = ["no", "yes", "maybe"].map(str::to_owned);
        let predictions = ["yes", "yes", "no", "nonsense"];
        let targets = ["yes", "no", "no", "yes"];
        let reports = class_reports(&classes, &predictions, &targets);
        let numbers: Vec<_> =
            reports.iter().map(|r| (r.precision, r.recall, r.f1, r.support)).collect();
        let two_thirds = percent(2, 3);
        assert_eq!(numbers[0], (100.0, 50.0, two_thirds, 2));
        assert_eq!(numbers[1], (50.0, 50.0, 50.0, 2));
        assert_eq!(numbers[2], (0.0, 0.0, 0.0, 0));
        assert_eq!(reports[2].label, "maybe");
    }
}
