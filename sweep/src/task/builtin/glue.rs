//! GLUE, and MNLI in its own distribution.

use super::{BuiltIn, ENTAILMENT, PAIR, PLAIN, PREMISE, Reference, SAME, Target};
use crate::metric::MetricKind;
use crate::task::split::SplitRule;

pub(super) const COLA: BuiltIn = BuiltIn {
    name: "cola",
    template: "sentence: {sentence}",
    metrics: &[MetricKind::MatthewsCorrelation],
    fields: &[("sentence", &["sentence"])],
    headerless: &["source", "label", "mark", "sentence"],
    ..PLAIN
};

pub(super) const SST2: BuiltIn = BuiltIn {
    name: "sst2",
    aliases: &["sst-2"],
    template: "sentence: {sentence}",
    fields: &[("sentence", &["sentence"])],
    rule: SplitRule::Large,
    ..PLAIN
};

pub(super) const MRPC: BuiltIn = BuiltIn {
    name: "mrpc",
    template: "sentence1: {sentence1} sentence2: {sentence2}",
    metrics: &[MetricKind::Accuracy, MetricKind::F1],
    fields: &[
        ("sentence1", &["sentence1", "#1 String"]),
        ("sentence2", &["sentence2", "#2 String"]),
    ],
    label: &["label", "Quality"],
    ..PLAIN
};

pub(super) const STSB: BuiltIn = BuiltIn {
    name: "stsb",
    aliases: &["sts-b"],
    template: "sentence1: {sentence1} sentence2: {sentence2}",
    metrics: &[MetricKind::Pearson, MetricKind::Spearman],
    fields: PAIR,
    label: &["score", "label"],
    target: Target::Score,
    ..PLAIN
};

pub(super) const QQP: BuiltIn = BuiltIn {
    name: "qqp",
    template: "question1: {question1} question2: {question2}",
    metrics: &[MetricKind::Accuracy, MetricKind::F1],
    fields: &[("question1", &["question1"]), ("question2", &["question2"])],
    label: &["label", "is_duplicate"],
    rule: SplitRule::Large,
    ragged: true,
    ..PLAIN
};

const NLI: Target = Target::Ids(&[
    ("entailment", "0"),
    ("neutral", "1"),
    ("contradiction", "2"),
    ("0", "0"),
    ("1", "1"),
    ("2", "2"),
]);

pub(super) const MNLI: BuiltIn = BuiltIn {
    name: "mnli",
    template: "premise: {premise} hypothesis: {hypothesis}",
    fields: PREMISE,
    label: &["gold_label", "label"],
    target: NLI,
    rule: SplitRule::Given,
    undecided: &["-", "-1"],
    ..PLAIN
};

pub(super) const MULTI_NLI: BuiltIn = BuiltIn {
    name: "multi_nli",
    // The authors' class calls itself so.
    reference: Reference { prefix: Some("mnli"), ..SAME },
    ..MNLI
};

pub(super) const QNLI: BuiltIn = BuiltIn {
    name: "qnli",
    template: "question: {question} sentence: {sentence}",
    fields: &[("question", &["question"]), ("sentence", &["sentence"])],
    target: ENTAILMENT,
    rule: SplitRule::Large,
    ..PLAIN
};

pub(super) const RTE: BuiltIn = BuiltIn {
    name: "rte",
    template: "sentence1: {sentence1} sentence2: {sentence2}",
    fields: &[
        ("sentence1", &["sentence1", "premise"]),
        ("sentence2", &["sentence2", "hypothesis"]),
    ],
    target: ENTAILMENT,
    ..PLAIN
};

pub(super) const WNLI: BuiltIn = BuiltIn {
    name: "wnli",
    template: "sentence1: {sentence1} sentence2: {sentence2}",
    fields: PAIR,
    ..PLAIN
};
