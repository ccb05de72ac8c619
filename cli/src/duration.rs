//! Time spans on the command line: `90`, `90s`, `10m`, `1.5h`, `2d`.

use std::time::Duration;

/// Longest span accepted.
const MAX_SECONDS: f64 = 366.0 * 86_400.0;

/// Reads a span; a number without a unit is seconds.
///
/// # Errors
/// What was expected.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim() {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err("expected a time span as in 90s, 10m, 1.5h or 2d".to_owned()),
    };
    let seconds: f64 = number
        .parse::<f64>()
        .map_err(|_| "expected a time span as in 90s, 10m, 1.5h or 2d".to_owned())?
        * factor;
    if !(0.0..=MAX_SECONDS).contains(&seconds) {
        return Err("expected at most 366d".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        let seconds = |text| parse(text).unwrap().as_secs_f64();
        assert_eq!(
            ["90", "90s", "10m", "1.5h", "2d", "250ms"].map(seconds),
            [90.0, 90.0, 600.0, 5_400.0, 172_800.0, 0.25]
        );
        assert!(["", "ten", "5 weeks", "-3s", "1e9d", "400d"].iter().all(|t| parse(t).is_err()));
    }
}
