//! Correlations of texts read as numbers. Pairs are (prediction, target).

/// Product-moment correlation, percent; 0 where it is undefined.
pub(super) fn pearson_of_texts(pairs: &[(&str, &str)]) -> f64 {
    let (x, y) = numbers(pairs);
    percent_or_zero(pearson(&x, &y))
}

/// Correlation of ranks, ties sharing their mean rank, percent; 0 where it is undefined.
pub(super) fn spearman_of_texts(pairs: &[(&str, &str)]) -> f64 {
    let (x, y) = numbers(pairs);
    if x.iter().chain(&y).any(|value| value.is_nan()) {
        return 0.0;
    }
    percent_or_zero(pearson(&ranks(&x), &ranks(&y)))
}

fn percent_or_zero(correlation: f64) -> f64 {
    if correlation.is_nan() { 0.0 } else { 100.0 * correlation }
}

/// What cannot be read as a number counts as -1, on either side.
fn numbers(pairs: &[(&str, &str)]) -> (Vec<f64>, Vec<f64>) {
    let read = |text: &str| text.trim().parse().unwrap_or(-1.0);
    pairs.iter().map(|(p, t)| (read(p), read(t))).unzip()
}

/// NaN where a side is constant, infinite or not a number.
fn pearson(x: &[f64], y: &[f64]) -> f64 {
    if is_constant(x) || is_constant(y) {
        return f64::NAN;
    }
    let (x, y) = (centred(x), centred(y));
    let norm = |v: &[f64]| v.iter().map(|a| a * a).sum::<f64>().sqrt();
    let (x_norm, y_norm) = (norm(&x), norm(&y));
    let r: f64 = x.iter().zip(&y).map(|(a, b)| (a / x_norm) * (b / y_norm)).sum();
    r.clamp(-1.0, 1.0)
}

fn is_constant(values: &[f64]) -> bool {
    values.iter().all(|value| Some(value) == values.first())
}

#[allow(clippy::cast_precision_loss)] // counts of rows are far below 2^53
fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

/// Ranks from 1; equal values share the mean of the ranks that they occupy.
#[allow(clippy::cast_precision_loss)] // counts of rows are far below 2^53
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = values.iter().copied().zip(0..).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranked = Vec::with_capacity(values.len());
    let mut before = 0;
    for group in order.chunk_by(|a, b| a.0 == b.0) {
        let rank = before as f64 + (group.len() + 1) as f64 / 2.0;
        ranked.extend(group.iter().map(|&(_, index)| (index, rank)));
        before += group.len();
    }
    ranked.sort_by_key(|&(index, _)| index);
    ranked.into_iter().map(|(_, rank)| rank).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_their_mean_rank() {
        assert_eq!(ranks(&[2.0, 1.0, 2.0, 3.0]), [2.5, 1.0, 2.5, 4.0]);
        // The two zeros are equal, so they tie.
        assert_eq!(ranks(&[0.0, -0.0]), [1.5, 1.5]);
    }

    #[test]
    fn monotone_is_perfect_in_rank_only() {
        let pairs = [("1", "1"), ("2", "10"), ("3", "100")];
        assert!((spearman_of_texts(&pairs) - 100.0).abs() < 1e-9);
        assert!(pearson_of_texts(&pairs) < 95.0);
    }

    #[test]
    fn undefined_is_zero() {
        assert_eq!(pearson_of_texts(&[("3", "1"), ("3", "2")]), 0.0);
        assert_eq!(pearson_of_texts(&[("3", "1")]), 0.0);
        assert_eq!(pearson_of_texts(&[("inf", "1"), ("2", "2")]), 0.0);
        assert_eq!(spearman_of_texts(&[("nan", "1"), ("2", "2")]), 0.0);
    }
}
