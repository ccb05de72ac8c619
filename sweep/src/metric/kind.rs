//! Names of the metrics.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A metric; larger is better for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum MetricKind {
    /// `accuracy`: share of predictions that equal their target.
    Accuracy,
    /// `f1`: F1 of the positive of two classes; an answer that is neither class counts as the
    /// opposite of its target.
    F1,
    /// `matthews_correlation`: multiclass, with every other answer as a class of its own; 0 when
    /// predictions or targets are constant.
    MatthewsCorrelation,
    /// `pearson`: product-moment correlation of the texts as numbers; a prediction that is no
    /// number counts as -1, a constant side gives 0.
    Pearson,
    /// `spearmanr`: rank correlation, otherwise like `pearson`.
    Spearman,
    /// `f1_multiclass`: F1 per class, averaged over the task's classes.
    F1Multiclass,
    /// `em`: share of predictions that equal one of their answers after normalisation
    /// (see [`super::normalize_answer`]).
    ExactMatch,
    /// `token_f1`: F1 of the bags of words after the same normalisation, against the answer that
    /// gives the most, averaged over rows.
    TokenF1,
    /// `group_em`: share of groups of rows (in `MultiRC` a question's answers) whose predictions
    /// all equal their targets.
    GroupExactMatch,
}

impl MetricKind {
    /// Every metric.
    pub const ALL: [Self; 9] = [
        Self::Accuracy,
        Self::F1,
        Self::MatthewsCorrelation,
        Self::Pearson,
        Self::Spearman,
        Self::F1Multiclass,
        Self::ExactMatch,
        Self::TokenF1,
        Self::GroupExactMatch,
    ];

    /// The name in specs, reports and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "f1",
            Self::MatthewsCorrelation => "matthews_correlation",
            Self::Pearson => "pearson",
            Self::Spearman => "spearmanr",
            Self::F1Multiclass => "f1_multiclass",
            Self::ExactMatch => "em",
            Self::TokenF1 => "token_f1",
            Self::GroupExactMatch => "group_em",
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<MetricKind> for &'static str {
    fn from(kind: MetricKind) -> Self {
        kind.name()
    }
}

impl FromStr for MetricKind {
    type Err = UnknownMetric;

    fn from_str(text: &str) -> Result<Self, UnknownMetric> {
        let same = |kind: &Self| kind.name().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(same).ok_or_else(|| UnknownMetric {
            name: text.to_owned(),
            suggestion: crate::task::suggest(text, Self::ALL.map(Self::name)).map(str::to_owned),
        })
    }
}

impl TryFrom<String> for MetricKind {
    type Error = UnknownMetric;

    fn try_from(text: String) -> Result<Self, UnknownMetric> {
        text.parse()
    }
}

/// A name that is no metric's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown metric '{name}'{}; metrics are {}",
    crate::task::did_you_mean(suggestion.as_deref()),
    MetricKind::ALL.map(MetricKind::name).join(", ")
)]
pub struct UnknownMetric {
    /// The name as written.
    pub name: String,
    /// The nearest metric name, if one is near.
    pub suggestion: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for kind in MetricKind::ALL {
            assert_eq!(kind.name().parse::<MetricKind>().unwrap(), kind);
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(json, format!("\"{kind}\""));
            assert_eq!(serde_json::from_str::<MetricKind>(&json).unwrap(), kind);
        }
    }

    #[test]
    fn a_misspelt_name_gets_a_suggestion() {
        let error = "acuracy".parse::<MetricKind>().unwrap_err();
        assert_eq!(error.suggestion.as_deref(), Some("accuracy"));
        let text = error.to_string();
        assert!(text.starts_with("unknown metric 'acuracy', did you mean 'accuracy'?; metrics"));
        assert!("zzz".parse::<MetricKind>().unwrap_err().suggestion.is_none());
    }
}
