//! From what a row holds as its label to the target text.

use super::spec::Labels;
use super::suggest::{did_you_mean, suggest};

/// How labels become target texts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TargetRule {
    /// The label is the target.
    Free,
    /// The value in the file, and the target text for it.
    Table(Vec<(String, String)>),
    /// A score from 0 to 5, rounded to one of `steps` values per unit and written with one decimal.
    Score {
        /// Steps per unit: 5 rounds to 0.2, 10 to 0.1.
        steps: u8,
        /// Whether the score passes through single precision first.
        single: bool,
    },
}

impl TargetRule {
    /// For the labels of a person's own task.
    ///
    /// # Errors
    /// What is wrong with the labels.
    pub(super) fn from_labels(labels: &Labels) -> Result<Self, String> {
        let table = match labels {
            Labels::List(texts) => table_of_list(texts)?,
            Labels::Map(pairs) => pairs.clone(),
        };
        for (position, (value, text)) in table.iter().enumerate() {
            if text.trim() != text || text.is_empty() {
                return Err(format!("the text '{text}' is empty or has spaces around it"));
            }
            if table.iter().take(position).any(|(earlier, _)| earlier == value) {
                return Err(format!("'{value}' is listed twice"));
            }
        }
        let rule = Self::Table(table);
        if rule.classes().len() < 2 {
            return Err("there must be at least two different texts".to_owned());
        }
        Ok(rule)
    }

    /// The target texts in class order; empty where any text may occur.
    pub(super) fn classes(&self) -> Vec<String> {
        match self {
            Self::Free => Vec::new(),
            Self::Table(pairs) => {
                let mut classes: Vec<String> = Vec::new();
                for (_, text) in pairs {
                    if !classes.contains(text) {
                        classes.push(text.clone());
                    }
                }
                classes
            }
            Self::Score { steps, .. } => {
                let steps = u32::from(*steps);
                (0..=5 * steps).map(|i| score_text(f64::from(i), f64::from(steps))).collect()
            }
        }
    }

    /// The target text for a label as the file holds it.
    ///
    /// # Errors
    /// What is wrong with the label.
    pub(super) fn target(&self, label: &str) -> Result<String, String> {
        let label = label.trim();
        match self {
            Self::Free => Ok(label.to_owned()),
            Self::Table(pairs) => {
                let find = |wanted: &str| pairs.iter().find(|(value, _)| value == wanted);
                find(label)
                    // Spreadsheets and data frames write True, and 1.0 where a column has gaps.
                    .or_else(|| find(&label.to_ascii_lowercase()))
                    .or_else(|| find(label.strip_suffix(".0")?))
                    .map(|(_, text)| text.clone())
                    .ok_or_else(|| {
                        let values = || pairs.iter().map(|(value, _)| value.as_str());
                        format!(
                            "label '{label}' is none of {}{}",
                            values().collect::<Vec<_>>().join(", "),
                            did_you_mean(suggest(label, values()))
                        )
                    })
            }
            Self::Score { steps, single } => {
                let score: f64 = label
                    .parse()
                    .ok()
                    .filter(|score| (0.0..=5.0).contains(score))
                    .ok_or_else(|| format!("label '{label}' is no number from 0 to 5"))?;
                #[allow(clippy::cast_possible_truncation)] // the loss is the point
                let score = if *single { f64::from(score as f32) } else { score };
                let steps = f64::from(*steps);
                Ok(score_text((score * steps).round_ties_even(), steps))
            }
        }
    }
}

fn score_text(step: f64, steps: f64) -> String {
    // Adding zero turns -0.0 into 0.0.
    format!("{:.1}", step / steps + 0.0)
}

fn table_of_list(texts: &[String]) -> Result<Vec<(String, String)>, String> {
    let mut table: Vec<(String, String)> =
        texts.iter().map(|text| (text.clone(), text.clone())).collect();
    if let Some(twice) = texts.iter().enumerate().find(|(i, text)| texts[..*i].contains(text)) {
        return Err(format!("'{}' is listed twice", twice.1));
    }
    // An index or a truth value only where it cannot be mistaken for one of the texts.
    let numeric = texts.iter().any(|text| text.parse::<f64>().is_ok());
    if !numeric {
        table.extend(texts.iter().enumerate().map(|(i, text)| (i.to_string(), text.clone())));
    }
    if let [no, yes] = texts
        && !texts.iter().any(|text| matches!(text.as_str(), "true" | "false"))
    {
        table.push(("false".to_owned(), no.clone()));
        table.push(("true".to_owned(), yes.clone()));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Result<TargetRule, String> {
        TargetRule::from_labels(&Labels::List(texts.iter().map(|t| (*t).into()).collect()))
    }

    #[test]
    fn a_list_takes_texts_indices_and_truth_values() {
        let rule = list(&["bad", "good"]).unwrap();
        for value in ["good", "1", "true", "True", "1.0", " good "] {
            assert_eq!(rule.target(value).unwrap(), "good", "{value}");
        }
        assert_eq!(rule.classes(), ["bad", "good"]);
        assert_eq!(
            rule.target("god").unwrap_err(),
            "label 'god' is none of bad, good, 0, 1, false, true, did you mean 'good'?"
        );
    }

    #[test]
    fn numbers_in_a_list_are_no_indices() {
        let rule = list(&["1", "2"]).unwrap();
        assert_eq!(rule.target("1").unwrap(), "1");
        assert!(rule.target("0").is_err());
    }

    #[test]
    fn a_table_may_join_labels() {
        let pairs = [("neg", "no"), ("neu", "no"), ("pos", "yes")];
        let pairs = pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
        let rule = TargetRule::from_labels(&Labels::Map(pairs)).unwrap();
        assert_eq!(rule.target("neu").unwrap(), "no");
        assert_eq!(rule.classes(), ["no", "yes"]);
    }

    #[test]
    fn useless_labels_are_refused() {
        assert!(list(&["a"]).unwrap_err().contains("two different"));
        assert!(list(&["a", "a"]).unwrap_err().contains("twice"));
        assert!(list(&["a", " b"]).unwrap_err().contains("spaces"));
    }

    #[test]
    fn scores_round_by_recipe() {
        let reference = TargetRule::Score { steps: 10, single: true };
        let default = TargetRule::Score { steps: 5, single: false };
        let both = |text| (reference.target(text).unwrap(), default.target(text).unwrap());
        assert_eq!(both("3.800"), ("3.8".into(), "3.8".into()));
        assert_eq!(both("4.75"), ("4.8".into(), "4.8".into()));
        assert_eq!(both("3.53"), ("3.5".into(), "3.6".into()));
        // A tie in decimal is none in single precision.
        assert_eq!(reference.target("4.65").unwrap(), "4.7");
        assert_eq!(reference.classes().len(), 51);
        assert_eq!(default.classes().len(), 26);
        assert_eq!(default.classes().last().map(String::as_str), Some("5.0"));
        assert!(default.target("5.1").unwrap_err().contains("from 0 to 5"));
    }
}
