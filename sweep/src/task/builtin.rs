//! The built-in tasks: columns, source text, labels, metrics and split rule of each.

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
}

/// How a built-in task's label becomes its target text.
#[derive(Debug)]
pub(super) enum Target {
    /// Label in the file, class id.
    Ids(&'static [(&'static str, &'static str)]),
    /// A score from 0 to 5.
    Score,
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

const BINARY: Target = Target::Ids(&[("0", "0"), ("1", "1")]);
const TRUTH: Target =
    Target::Ids(&[("false", "0"), ("true", "1"), ("0", "0"), ("1", "1"), ("f", "0"), ("t", "1")]);
const ENTAILMENT: Target =
    Target::Ids(&[("entailment", "0"), ("not_entailment", "1"), ("0", "0"), ("1", "1")]);
const PAIR: &[(&str, &[&str])] = &[("sentence1", &["sentence1"]), ("sentence2", &["sentence2"])];
const LABEL: &[&str] = &["label"];

static TASKS: &[BuiltIn] = &[
    BuiltIn {
        name: "boolq",
        aliases: &["superglue-boolq"],
        template: "question: {question} passage: {passage}",
        metrics: &[MetricKind::Accuracy],
        fields: &[("question", &["question"]), ("passage", &["passage"])],
        label: LABEL,
        target: TRUTH,
        shape: Shape::Plain,
        rule: SplitRule::Small,
        headerless: &[],
    },
    BuiltIn {
        name: "cb",
        aliases: &["superglue-cb"],
        template: "premise: {premise} hypothesis: {hypothesis}",
        metrics: &[MetricKind::F1Multiclass, MetricKind::Accuracy],
        fields: &[("premise", &["premise"]), ("hypothesis", &["hypothesis"])],
        label: LABEL,
        target: Target::Ids(&[
            ("entailment", "0"),
            ("contradiction", "1"),
            ("neutral", "2"),
            ("0", "0"),
            ("1", "1"),
            ("2", "2"),
        ]),
        shape: Shape::Plain,
        rule: SplitRule::Small,
        headerless: &[],
    },
    BuiltIn {
        name: "cola",
        aliases: &[],
        template: "sentence: {sentence}",
        metrics: &[MetricKind::MatthewsCorrelation],
        fields: &[("sentence", &["sentence"])],
        label: LABEL,
        target: BINARY,
        shape: Shape::Plain,
        rule: SplitRule::Small,
        headerless: &["source", "label", "mark", "sentence"],
    },
    BuiltIn {
        name: "mrpc",
        aliases: &[],
        template: "sentence1: {sentence1} sentence2: {sentence2}",
        metrics: &[MetricKind::Accuracy, MetricKind::F1],
        fields: &[
            ("sentence1", &["sentence1", "#1 String"]),
            ("sentence2", &["sentence2", "#2 String"]),
        ],
        label: &["label", "Quality"],
        target: BINARY,
        shape: Shape::Plain,
        rule: SplitRule::Small,
        headerless: &[],
    },
    BuiltIn {
        name: "multirc",
        aliases: &["superglue-multirc"],
        template: "question: {question} answer: {answer} paragraph: {paragraph}",
        metrics: &[MetricKind::F1],
        fields: &[
            ("question", &["question"]),
            ("answer", &["answer"]),
            ("paragraph", &["paragraph"]),
        ],
        label: LABEL,
        target: TRUTH,
        shape: Shape::MultiRc,
        rule: SplitRule::Small,
        headerless: &[],
    },
    BuiltIn {
        name: "paws",
        aliases: &[],
        template: "sentence1: {sentence1} sentence2: {sentence2}",
        metrics: &[MetricKind::Accuracy],
        fields: PAIR,
        label: LABEL,
        target: BINARY,
        shape: Shape::Plain,
        rule: SplitRule::Given,
        headerless: &["id", "sentence1", "sentence2", "label"],
    },
    BuiltIn {
        name: "qnli",
        aliases: &[],
        template: "question: {question} sentence: {sentence}",
        metrics: &[MetricKind::Accuracy],
        fields: &[("question", &["question"]), ("sentence", &["sentence"])],
        label: LABEL,
        target: ENTAILMENT,
        shape: Shape::Plain,
        rule: SplitRule::Large,
        headerless: &[],
    },
    BuiltIn {
        name: "rte",
        aliases: &[],
        template: "sentence1: {sentence1} sentence2: {sentence2}",
        metrics: &[MetricKind::Accuracy],
        fields: &[
            ("sentence1", &["sentence1", "premise"]),
            ("sentence2", &["sentence2", "hypothesis"]),
        ],
        label: LABEL,
        target: ENTAILMENT,
        shape: Shape::Plain,
        rule: SplitRule::Small,
        headerless: &[],
    },
    BuiltIn {
        name: "scitail",
        aliases: &[],
        template: "premise: {premise} hypothesis: {hypothesis}",
        metrics: &[MetricKind::Accuracy],
        fields: &[
            ("premise", &["premise", "sentence1"]),
            ("hypothesis", &["hypothesis", "sentence2"]),
        ],
        label: &["gold_label", "label"],
        target: Target::Ids(&[
            ("entailment", "0"),
            ("neutral", "1"),
            ("entails", "0"),
            ("not_entailment", "1"),
            ("0", "0"),
            ("1", "1"),
        ]),
        shape: Shape::Plain,
        rule: SplitRule::Small,
        headerless: &["premise", "hypothesis", "label"],
    },
    BuiltIn {
        name: "sst2",
        aliases: &["sst-2"],
        template: "sentence: {sentence}",
        metrics: &[MetricKind::Accuracy],
        fields: &[("sentence", &["sentence"])],
        label: LABEL,
        target: BINARY,
        shape: Shape::Plain,
        rule: SplitRule::Large,
        headerless: &[],
    },
    BuiltIn {
        name: "stsb",
        aliases: &["sts-b"],
        template: "sentence1: {sentence1} sentence2: {sentence2}",
        metrics: &[MetricKind::Pearson, MetricKind::Spearman],
        fields: PAIR,
        label: &["score", "label"],
        target: Target::Score,
        shape: Shape::Plain,
        rule: SplitRule::Small,
        headerless: &[],
    },
    // The same rows as rte; the authors' code words them differently.
    BuiltIn {
        name: "superglue-rte",
        aliases: &[],
        template: "premise: {premise} hypothesis: {hypothesis}",
        metrics: &[MetricKind::Accuracy],
        fields: &[
            ("premise", &["premise", "sentence1"]),
            ("hypothesis", &["hypothesis", "sentence2"]),
        ],
        label: LABEL,
        target: ENTAILMENT,
        shape: Shape::Plain,
        rule: SplitRule::Small,
        headerless: &[],
    },
    BuiltIn {
        name: "wic",
        aliases: &["superglue-wic"],
        template: "sentence1: {sentence1} sentence2: {sentence2} word: {word}",
        metrics: &[MetricKind::Accuracy],
        fields: &[
            ("sentence1", &["sentence1"]),
            ("sentence2", &["sentence2"]),
            ("word", &["word"]),
        ],
        label: LABEL,
        target: TRUTH,
        shape: Shape::Wic,
        rule: SplitRule::Small,
        // Of the `.data.txt` files; the label comes from the `.gold.txt` file beside each.
        headerless: &["word", "part_of_speech", "positions", "sentence1", "sentence2", "label"],
    },
    BuiltIn {
        name: "wsc",
        aliases: &["superglue-wsc.fixed", "wsc.fixed", "superglue-wsc"],
        template: "text: {text}",
        metrics: &[MetricKind::Accuracy],
        fields: &[
            ("text", &["text"]),
            ("span1_text", &["span1_text", "target.span1_text"]),
            ("span1_index", &["span1_index", "target.span1_index"]),
            ("span2_text", &["span2_text", "target.span2_text"]),
            ("span2_index", &["span2_index", "target.span2_index"]),
        ],
        label: LABEL,
        target: TRUTH,
        shape: Shape::Wsc,
        rule: SplitRule::Small,
        headerless: &[],
    },
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
            let template = Template::parse(task.template).unwrap();
            for field in template.fields() {
                assert!(task.fields.iter().any(|(name, _)| name == field), "{}", task.name);
            }
        }
    }
}
