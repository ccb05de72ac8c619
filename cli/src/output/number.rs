//! Numbers for people.

use std::time::Duration;

/// A metric value, two digits after the point: `81.25`, `NaN`.
pub(crate) fn metric(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { odd(value) }
}

/// A mean and its deviation: `81.25 ± 1.10`; the mean alone when there is no deviation.
pub(crate) fn mean_std(mean: f64, std: Option<f64>) -> String {
    match std {
        Some(std) => format!("{} ± {}", metric(mean), metric(std)),
        None => metric(mean),
    }
}

/// A learning rate as people write it: `0.3`, `5e-4`.
pub(crate) fn rate(value: f64) -> String {
    if value == 0.0 || (0.01..1000.0).contains(&value.abs()) {
        format!("{value}")
    } else if value.is_finite() {
        format!("{value:e}")
    } else {
        odd(value)
    }
}

/// Any number, six significant digits: `91.25`, `1.76777`, `5e-4`.
pub(crate) fn real(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return odd(value);
    }
    if size != 0.0 && !(1e-3..1e9).contains(&size) {
        let text = format!("{value:.5e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{power}", trim(digits));
    }
    // How many digits stand before the point.
    let before = format!("{size:.0}").len();
    trim(&format!("{value:.*}", 6_usize.saturating_sub(before))).to_owned()
}

/// Without zeros at the end of a fraction.
fn trim(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// A loss, four digits after the point.
pub(crate) fn loss(value: f64) -> String {
    if value.is_finite() { format!("{value:.4}") } else { odd(value) }
}

fn odd(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value > 0.0 {
        "+Inf".to_owned()
    } else {
        "-Inf".to_owned()
    }
}

/// A whole number with thousands apart: `76,800`.
pub(crate) fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes: `512 B`, `9.3 MB`, `1.2 GB`.
pub(crate) fn bytes(value: u64) -> String {
    // Three significant digits are shown; what the conversion rounds away does not show.
    #[allow(clippy::cast_precision_loss)]
    let real = value as f64;
    match value {
        0..1_000 => format!("{value} B"),
        1_000..1_000_000 => format!("{:.1} kB", real / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", real / 1e6),
        _ => format!("{:.1} GB", real / 1e9),
    }
}

/// A time span: `45 s`, `3 min 20 s`, `2 h 05 min`, `3 d 04 h`.
pub(crate) fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".to_owned();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = Duration::try_from_secs_f64(seconds.round()).unwrap_or(Duration::MAX).as_secs();
    match whole {
        0..60 => format!("{whole} s"),
        60..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// A point in time, UTC to the second.
pub(crate) fn time(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms)
        .map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
        .unwrap_or_else(|_| unix_ms.to_string())
}

/// `1 trial`, `12 trials`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", whole(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_have_two_digits_and_diverged_ones_a_name() {
        assert_eq!(mean_std(81.254, Some(1.1)), "81.25 ± 1.10");
        assert_eq!(mean_std(f64::NAN, None), "NaN");
        assert_eq!(metric(f64::NEG_INFINITY), "-Inf");
    }

    #[test]
    fn rates_look_as_in_the_spec() {
        assert_eq!([0.3, 5e-4, 1e-4, 0.05, 2.0].map(rate), ["0.3", "5e-4", "1e-4", "0.05", "2"]);
    }

    #[test]
    fn any_number_has_six_digits() {
        let numbers = [91.25, 1.767_766_952_966_368_9, 5e-4, 0.0, -12_345.678, 1e12, 0.1];
        assert_eq!(numbers.map(real), ["91.25", "1.76777", "5e-4", "0", "-12345.7", "1e12", "0.1"]);
    }

    #[test]
    fn counts_bytes_and_spans_are_grouped() {
        assert_eq!(
            [0, 999, 1_000, 76_800, 1_234_567].map(whole),
            ["0", "999", "1,000", "76,800", "1,234,567"]
        );
        assert_eq!(bytes(9_304_488), "9.3 MB");
        assert_eq!(
            [3.21, 45.4, 200.0, 7_500.0, 273_600.0].map(span),
            ["3.2 s", "45 s", "3 min 20 s", "2 h 05 min", "3 d 04 h"]
        );
        assert_eq!(span(f64::INFINITY), "unknown");
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!((count(1, "trial"), count(2, "trial")), ("1 trial".into(), "2 trials".into()));
    }
}
