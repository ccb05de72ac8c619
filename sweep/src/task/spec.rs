//! The `[task]` table of a sweep's spec.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::outcome::Unknown;

/// What the task is and where its data lie.
///
/// Only `name` is needed for a built-in task beside its files; the person's own task also needs
/// `template` and `label`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// A built-in task, or a name for the person's own.
    pub name: String,
    /// How all files are written.
    #[serde(default, skip_serializing_if = "Format::is_auto")]
    pub format: Format,
    /// Training files; several are read as one, in this order.
    #[serde(default, with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub train: Vec<String>,
    /// Validation files.
    #[serde(default, with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub validation: Vec<String>,
    /// Test files.
    #[serde(default, with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// A dataset of the hub, `ORG/NAME` or `ORG/NAME@REVISION`, in the place of files: the splits
    /// come from the parquet files that the hub makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
    /// Which configuration of the dataset. Default: the only one, or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset_config: Option<String>,
    /// The file's column for a field of the template (or of the built-in task), where the two
    /// names differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Source text with fields in braces, like `review: {text}`; see [`super::Template`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The field (column) that holds the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The labels and the texts that stand for them; without it every text is a label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Names of metrics, the one that checkpoints are selected by first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<String>>,
    /// Rows of the training split to use, at least 1, chosen by a fixed permutation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<u64>,
    /// The same for the validation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_limit: Option<u64>,
    /// The same for the test split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<u64>,
    /// Training rows of all classes together, at least one per class, sampled with the trial's
    /// seed; validation and test stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k_shot: Option<u32>,
    /// How `k_shot` rows are chosen. Default: by the recipe, see [`KShotSampling`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k_shot_sampling: Option<KShotSampling>,
    /// Whether tsv and csv files begin with a line of column names. Without a header the columns
    /// are called 1, 2, 3, … (built-in tasks know their own). Default: built-in tasks look, own
    /// tasks have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// Whether the task's name is put in front of each source text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub add_prefix: bool,
}

/// How the rows of a few-shot training part are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KShotSampling {
    /// Exactly `k_shot` rows, as many of each class as of every other, or one more. The default
    /// of `recipe = "default"`.
    Balanced,
    /// As the authors' code chooses them: `k_shot / classes` rows of each class, rounded down,
    /// and any one row where exactly one is missing, so that there may be fewer than `k_shot`
    /// rows, or two more of one class than of another. The default of `recipe = "reference"`.
    Reference,
}

crate::outcome::names!(KShotSampling, "k-shot sampling", Balanced => "balanced", Reference => "reference");

/// How a data file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// By the ending of each file's name, or else by its first line.
    #[default]
    Auto,
    /// One JSON object per line.
    Jsonl,
    /// Tab-separated, one row per line, quotation marks without meaning (as in GLUE).
    Tsv,
    /// Comma-separated with quoting by RFC 4180.
    Csv,
    /// Apache Parquet, uncompressed or with snappy or zstd.
    Parquet,
}

impl Format {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Jsonl => "jsonl",
            Self::Tsv => "tsv",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        })
    }
}

/// The labels of the person's own task, in class order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Target texts. A row holds one of them, or its index from 0, or, where there are two and
    /// neither is called so, `false` and `true`.
    List(Vec<String>),
    /// What a row holds (booleans as `true` and `false`) and the target text for it, in the order
    /// written.
    Map(Vec<(String, String)>),
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::List(texts) => {
                let mut list = serializer.serialize_seq(Some(texts.len()))?;
                texts.iter().try_for_each(|text| list.serialize_element(text))?;
                list.end()
            }
            Self::Map(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                pairs.iter().try_for_each(|(value, text)| map.serialize_entry(value, text))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LabelsVisitor)
    }
}

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = Labels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of target texts, or a table from label to target text")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Labels, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element()? {
            texts.push(text);
        }
        Ok(Labels::List(texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Labels::Map(pairs))
    }
}

/// One file name or a list of them; written as a list.
mod one_or_many {
    use super::{Deserializer, SeqAccess, Serialize, Serializer, Visitor, de, fmt};

    pub(super) fn serialize<S: Serializer>(files: &[String], to: S) -> Result<S::Ok, S::Error> {
        files.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
        from.deserialize_any(FilesVisitor)
    }

    struct FilesVisitor;

    impl<'de> Visitor<'de> for FilesVisitor {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a file name or a list of file names")
        }

        fn visit_str<E: de::Error>(self, file: &str) -> Result<Vec<String>, E> {
            Ok(vec![file.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut files = Vec::new();
            while let Some(file) = list.next_element()? {
                files.push(file);
            }
            Ok(files)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_or_several() {
        let spec: TaskSpec =
            toml::from_str("name = 'rte'\ntrain = 'a'\ntest = ['b', 'c']").unwrap();
        assert_eq!((spec.train, spec.test), (vec!["a".into()], vec!["b".into(), "c".into()]));
        assert!(toml::from_str::<TaskSpec>("name = 'rte'\ntrain = 3").is_err());
    }

    #[test]
    fn labels_keep_the_order_written() {
        let spec: TaskSpec =
            toml::from_str("name = 'mine'\nlabels = { pos = 'good', neg = 'bad' }").unwrap();
        let pairs = vec![("pos".into(), "good".into()), ("neg".into(), "bad".into())];
        assert_eq!(spec.labels, Some(Labels::Map(pairs)));
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(json, r#"{"name":"mine","labels":{"pos":"good","neg":"bad"}}"#);
        assert_eq!(serde_json::from_str::<TaskSpec>(&json).unwrap(), spec);
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        let error = toml::from_str::<TaskSpec>("name = 'rte'\ntrian = 'a'").unwrap_err();
        assert!(error.to_string().contains("unknown field `trian`"), "{error}");
    }
}
