//! The built-in tasks: columns, source text, labels, metrics and split rule of each.

mod choice;
mod glue;
mod pair;
mod qa;
mod superglue;

use super::shape::Shape;
use super::split::SplitRule;
use super::suggest::suggest;
use crate::metric::MetricKind;

/// A task that deptune knows by name.
#[derive(Debug)]
pub struct BuiltIn {
    /// Its short name.
    pub name: &'static str,
    /// Other names for it; the first is the one that the authors' code uses, if it differs.
    pub aliases: &'static [&'static str],
    /// Source text, see [`super::Template`].
    pub template: &'static str,
    /// Metrics, the one that checkpoints are selected by first.
    pub metrics: &'static [MetricKind],
    /// The fields read, each with the columns that may hold it, the most usual first.
    pub(super) fields: &'static [(&'static str, &'static [&'static str])],
    /// The columns that may hold the label.
    pub(super) label: &'static [&'static str],
    pub(super) target: Target,
    pub(super) shape: Shape,
    pub(super) rule: SplitRule,
    /// Columns of the files that have no header, where the task is known in such a form.
    pub(super) headerless: &'static [&'static str],
    /// Labels of rows on which the annotators did not agree; such rows are left out.
    pub(super) undecided: &'static [&'static str],
    /// Whether rows with fewer columns than the file has are left out, as the published file has
    /// some.
    pub(super) ragged: bool,
    /// Most tokens of a target, end token included, where any text may be one.
    pub(super) target_tokens: Option<usize>,
    pub(super) reference: Reference,
}

/// Where the authors' code does otherwise than deptune's own recipe.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reference {
    pub(super) template: Option<&'static str>,
    pub(super) metrics: Option<&'static [MetricKind]>,
    pub(super) rule: Option<SplitRule>,
    /// The name put in front with `add_prefix`.
    pub(super) prefix: Option<&'static str>,
    /// Most rows of the training part.
    pub(super) train_rows: Option<u64>,
    /// Whether rows that the annotators did not agree on are kept, with that label as target.
    pub(super) keeps_undecided: bool,
}

/// How a built-in task's label becomes its target text.
#[derive(Debug)]
pub(super) enum Target {
    /// Label in the file, class id.
    Ids(&'static [(&'static str, &'static str)]),
    /// A score from 0 to 5.
    Score,
    /// One or several texts, each of which is right.
    Answers,
}

impl BuiltIn {
    /// Every built-in task, in alphabetical order.
    #[must_use]
    pub fn all() -> &'static [Self] {
        TASKS
    }

    /// The task of that name or alias.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        TASKS.iter().find(|task| task.name == name || task.aliases.contains(&name))
    }

    /// The name that the authors' code gives the task.
    #[must_use]
    pub fn reference_name(&self) -> &'static str {
        self.aliases.first().filter(|alias| alias.starts_with("superglue-")).unwrap_or(&self.name)
    }

    /// The name or alias nearest to `name`, if one is near.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        let names = TASKS.iter().map(|task| task.name);
        suggest(name, names.chain(TASKS.iter().flat_map(|task| task.aliases).copied()))
    }
}

/// Short names of the built-in tasks, in alphabetical order.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    TASKS.iter().map(|task| task.name)
}

/// What most tasks have in common.
const PLAIN: BuiltIn = BuiltIn {
    name: "",
    aliases: &[],
    template: "",
    metrics: &[MetricKind::Accuracy],
    fields: &[],
    label: &["label"],
    target: Target::Ids(&[("0", "0"), ("1", "1")]),
    shape: Shape::Plain,
    rule: SplitRule::Small,
    headerless: &[],
    undecided: &[],
    ragged: false,
    target_tokens: None,
    reference: SAME,
};

/// The authors' code does the same.
const SAME: Reference = Reference {
    template: None,
    metrics: None,
    rule: None,
    prefix: None,
    train_rows: None,
    keeps_undecided: false,
};

const TRUTH: Target =
    Target::Ids(&[("false", "0"), ("true", "1"), ("0", "0"), ("1", "1"), ("f", "0"), ("t", "1")]);
const ENTAILMENT: Target =
    Target::Ids(&[("entailment", "0"), ("not_entailment", "1"), ("0", "0"), ("1", "1")]);
const PAIR: &[(&str, &[&str])] = &[("sentence1", &["sentence1"]), ("sentence2", &["sentence2"])];
const PREMISE: &[(&str, &[&str])] =
    &[("premise", &["premise", "sentence1"]), ("hypothesis", &["hypothesis", "sentence2"])];

static TASKS: &[BuiltIn] = &[
    pair::AMAZON_POLARITY,
    superglue::BOOLQ,
    superglue::CB,
    glue::COLA,
    choice::COMMONSENSE_QA,
    superglue::COPA,
    qa::DROP,
    qa::HOTPOTQA,
    glue::MNLI,
    glue::MRPC,
    glue::MULTI_NLI,
    superglue::MULTIRC,
    qa::NEWSQA,
    qa::NQ,
    pair::PAWS,
    choice::PIQA,
    glue::QNLI,
    glue::QQP,
    superglue::RECORD,
    glue::RTE,
    pair::SCITAIL,
    qa::SEARCHQA,
    pair::SNLI,
    choice::SOCIAL_I_QA,
    qa::SQUAD,
    glue::SST2,
    glue::STSB,
    superglue::RTE,
    qa::TRIVIAQA,
    superglue::WIC,
    choice::WINOGRANDE,
    glue::WNLI,
    superglue::WSC,
    pair::YELP_POLARITY,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Template;

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(builtin_names().is_sorted());
        let mut names: Vec<&str> = builtin_names().collect();
        names.extend(TASKS.iter().flat_map(|task| task.aliases));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(
            BuiltIn::find("superglue-boolq").map(BuiltIn::reference_name),
            Some("superglue-boolq")
        );
        assert_eq!(BuiltIn::find("wsc.fixed").map(|task| task.name), Some("wsc"));
        assert_eq!(BuiltIn::nearest("ste2"), Some("sst2"));
    }

    #[test]
    fn templates_use_known_fields() {
        for task in TASKS {
            for template in [Some(task.template), task.reference.template].into_iter().flatten() {
                for field in Template::parse(template).unwrap().fields() {
                    assert!(task.fields.iter().any(|(name, _)| name == field), "{}", task.name);
                }
            }
        }
    }
}
