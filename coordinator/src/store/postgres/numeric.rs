//! Postgres's exact decimals, which sums and averages of whole numbers give.

use crate::store::SqlValue;

/// Reads the binary form of a `numeric`: the number of digits in base 10,000, the power of the
/// first one, sign, digits after the point, then the digits, each a big-endian 16-bit number
/// (`numeric_send` in Postgres's `numeric.c`). A whole number stays one, as far as it fits.
pub(super) fn value(bytes: &[u8]) -> Option<SqlValue> {
    let mut numbers = bytes.chunks_exact(2).map(|pair| match pair {
        [high, low] => i32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let count = numbers.next()?;
    let weight = i32::from(numbers.next()? as u16 as i16);
    let sign = numbers.next()?;
    let scale = numbers.next()?;
    match sign {
        0xc000 => return Some(SqlValue::Real(f64::NAN)),
        0xd000 => return Some(SqlValue::Real(f64::INFINITY)),
        0xf000 => return Some(SqlValue::Real(f64::NEG_INFINITY)),
        _ => {}
    }
    // As text, which the standard library reads exactly.
    let mut text = String::from(if sign == 0x4000 { "-" } else { "" });
    let digits: Vec<i32> = numbers.take(usize::try_from(count).ok()?).collect();
    for digit in &digits {
        text.push_str(&format!("{digit:04}"));
    }
    if digits.is_empty() {
        text.push('0');
    }
    let exponent = 4 * (weight + 1 - i32::try_from(digits.len()).ok()?);
    if scale == 0 && exponent >= 0 {
        let whole = format!("{text}{}", "0".repeat(usize::try_from(exponent).ok()?.min(40)));
        if let Ok(whole) = whole.parse() {
            return Some(SqlValue::Integer(whole));
        }
    }
    format!("{text}e{exponent}").parse().ok().map(SqlValue::Real)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: &[u16]) -> Vec<u8> {
        numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
    }

    #[test]
    fn digits_become_numbers() {
        let read = |numbers: &[u16]| value(&bytes(numbers)).unwrap();
        assert_eq!(read(&[0, 0, 0, 0]), SqlValue::Integer(0));
        assert_eq!(read(&[1, 0, 0, 0, 42]), SqlValue::Integer(42));
        // 120,000: its last group is left out.
        assert_eq!(read(&[1, 1, 0x4000, 0, 12]), SqlValue::Integer(-120_000));
        assert_eq!(read(&[2, 0, 0, 2, 3, 1700]), SqlValue::Real(3.17));
        assert_eq!(read(&[1, 0xffff, 0, 4, 5]), SqlValue::Real(0.0005));
        assert!(matches!(read(&[0, 0, 0xc000, 0]), SqlValue::Real(x) if x.is_nan()));
        assert_eq!(read(&[1, 9, 0, 0, 1]), SqlValue::Real(1e36));
        assert_eq!(value(&[0, 1]), None);
    }
}
