//! [`Number`]: a measured value that may have gone wrong.

use std::cmp::Ordering;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A measured value: finite, or one of the three ways in which a number stops being one.
///
/// A diverged trial is a result like any other, so these are values and never an error. Build one
/// with [`Number::from`], which keeps [`Number::Finite`] finite. In JSON a finite number is a
/// number and the others are the strings `"nan"`, `"inf"` and `"-inf"`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// An ordinary number.
    Finite(f64),
    /// Not a number.
    NaN,
    /// Positive infinity.
    Infinity,
    /// Negative infinity.
    NegInfinity,
}

impl Number {
    /// The same value as a floating-point number.
    #[must_use]
    pub fn get(self) -> f64 {
        match self {
            Self::Finite(value) => value,
            Self::NaN => f64::NAN,
            Self::Infinity => f64::INFINITY,
            Self::NegInfinity => f64::NEG_INFINITY,
        }
    }

    /// The value if it is finite.
    #[must_use]
    pub fn finite(self) -> Option<f64> {
        Some(self.get()).filter(|value| value.is_finite())
    }

    /// A total order for ranking: NaN, -Inf, the finite numbers, +Inf.
    ///
    /// NaN comes first, so that it loses where larger is better; -0.0 and 0.0 are equal.
    #[must_use]
    pub fn total_cmp(self, other: Self) -> Ordering {
        let (a, b) = (self.get(), other.get());
        // `None` only where one of them is NaN.
        a.partial_cmp(&b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
    }

    /// Orders from worse to better for a goal; NaN is the worst under both goals.
    #[must_use]
    pub fn quality_cmp(self, other: Self, larger_is_better: bool) -> Ordering {
        let order = self.total_cmp(other);
        let has_nan = self.get().is_nan() || other.get().is_nan();
        if larger_is_better || has_nan { order } else { order.reverse() }
    }

    /// Whether `self` is strictly better than `other`, so that the first of ties wins.
    #[must_use]
    pub fn is_better_than(self, other: Self, larger_is_better: bool) -> bool {
        self.quality_cmp(other, larger_is_better) == Ordering::Greater
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Self::Finite(value)
        } else if value.is_nan() {
            Self::NaN
        } else if value > 0.0 {
            Self::Infinity
        } else {
            Self::NegInfinity
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::from(self.get()) {
            Self::Finite(value) => value.fmt(f),
            Self::NaN => f.pad("nan"),
            Self::Infinity => f.pad("inf"),
            Self::NegInfinity => f.pad("-inf"),
        }
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Self::from(self.get()) {
            Self::Finite(value) => serializer.serialize_f64(value),
            Self::NaN => serializer.serialize_str("nan"),
            Self::Infinity => serializer.serialize_str("inf"),
            Self::NegInfinity => serializer.serialize_str("-inf"),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or one of the strings \"nan\", \"inf\", \"-inf\"")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Number, E> {
        Ok(Number::from(value))
    }

    // Integers beyond 2^53 lose their last digits, as everywhere in JSON.
    #[allow(clippy::cast_precision_loss)]
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
        Ok(Number::from(value as f64))
    }

    #[allow(clippy::cast_precision_loss)]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
        Ok(Number::from(value as f64))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Number, E> {
        match value {
            "nan" => Ok(Number::NaN),
            "inf" => Ok(Number::Infinity),
            "-inf" => Ok(Number::NegInfinity),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_forms() {
        let values =
            [Number::Finite(61.5), Number::NaN, Number::Infinity, Number::NegInfinity, 3.0.into()];
        let text = serde_json::to_string(&values).unwrap();
        assert_eq!(text, r#"[61.5,"nan","inf","-inf",3.0]"#);
        assert_eq!(serde_json::from_str::<Vec<Number>>(&text).unwrap(), values);
        assert_eq!(serde_json::from_str::<Number>("7").unwrap(), Number::Finite(7.0));
        assert!(serde_json::from_str::<Number>("\"many\"").is_err());
        // A variant built by hand cannot smuggle a NaN into JSON.
        assert_eq!(serde_json::to_string(&Number::Finite(f64::NAN)).unwrap(), "\"nan\"");
    }

    #[test]
    fn nan_is_never_better() {
        let worst_to_best = [Number::NaN, Number::NegInfinity, 0.0.into(), Number::Infinity];
        assert!(worst_to_best.is_sorted_by(|a, b| a.quality_cmp(*b, true).is_le()));
        let worst_to_best = [Number::NaN, Number::Infinity, 0.0.into(), Number::NegInfinity];
        assert!(worst_to_best.is_sorted_by(|a, b| a.quality_cmp(*b, false).is_le()));
        assert!(!Number::NaN.is_better_than(Number::NaN, true));
        assert!(!Number::from(0.0).is_better_than((-0.0).into(), true));
    }

    proptest! {
        #[test]
        fn every_f64_survives_json(bits in any::<u64>()) {
            let number = Number::from(f64::from_bits(bits));
            let text = serde_json::to_string(&number).unwrap();
            let back: Number = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(number, back);
        }

        #[test]
        fn order_is_total(a in any::<f64>(), b in any::<f64>(), c in any::<f64>()) {
            let mut values = [a, b, c].map(Number::from);
            values.sort_by(|x, y| x.total_cmp(*y));
            prop_assert!(values[0].total_cmp(values[2]).is_le());
            prop_assert_eq!(values[0].total_cmp(values[1]), values[1].total_cmp(values[0]).reverse());
        }
    }
}
