//! Student's t distribution, for 95 % intervals of means.

/// The 97.5 % quantile for `df` degrees of freedom (at least 1), by bisection, to about 1e-12.
pub(super) fn t975(df: u32) -> f64 {
    let (mut low, mut high) = (1.0, 13.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if central(middle, df) < 0.95 {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// P(-t < T < t) for a whole number of degrees of freedom, by the finite series of Abramowitz and
/// Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
fn central(t: f64, df: u32) -> f64 {
    let angle = (t / f64::from(df).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = df % 2 == 1;
    // Terms: odd df, cos + 2/3 cos^3 + (2·4)/(3·5) cos^5 + …; even df, 1 + 1/2 cos^2 + ….
    let (mut term, mut divisor) = if odd { (cos, 3) } else { (1.0, 2) };
    let mut sum = if df == 1 { 0.0 } else { term };
    while divisor + 1 < df + u32::from(odd) {
        term *= cos * cos * f64::from(divisor - 1) / f64::from(divisor);
        sum += term;
        divisor += 2;
    }
    if odd { (angle + sin * sum) * std::f64::consts::FRAC_2_PI } else { sin * sum }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let table = [
            (1, 12.706_205),
            (2, 4.302_653),
            (3, 3.182_446),
            (4, 2.776_445),
            (5, 2.570_582),
            (9, 2.262_157),
            (10, 2.228_139),
            (30, 2.042_272),
            (99, 1.984_217),
            (1000, 1.962_339),
        ];
        for (df, expected) in table {
            assert!((t975(df) - expected).abs() < 1e-6, "{df}: {}", t975(df));
        }
    }

    /// The same table as the ones that the SQL views read.
    #[test]
    fn the_tables_in_sql_hold_these_quantiles() {
        for sql in [
            include_str!("../../../migrations/sqlite/0002_student_t.sql"),
            include_str!("../../../migrations/postgres/0002_student_t.sql"),
        ] {
            let mut rows = 0;
            for pair in sql.split("values").nth(1).unwrap().split('(').skip(1) {
                let (df, t) = pair.split(')').next().unwrap().split_once(", ").unwrap();
                let (df, t): (u32, f64) = (df.parse().unwrap(), t.parse().unwrap());
                assert!((t975(df) - t).abs() < 1e-6, "{df}: {} and {t}", t975(df));
                rows += 1;
            }
            assert!(rows > 100);
        }
    }
}
