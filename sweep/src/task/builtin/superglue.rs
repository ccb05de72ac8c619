//! `SuperGLUE`.

use super::{BuiltIn, ENTAILMENT, PLAIN, PREMISE, Reference, SAME, TRUTH, Target};
use crate::metric::MetricKind;
use crate::task::shape::Shape;
use crate::task::split::SplitRule;

pub(super) const BOOLQ: BuiltIn = BuiltIn {
    name: "boolq",
    aliases: &["superglue-boolq"],
    template: "question: {question} passage: {passage}",
    fields: &[("question", &["question"]), ("passage", &["passage"])],
    target: TRUTH,
    ..PLAIN
};

pub(super) const CB: BuiltIn = BuiltIn {
    name: "cb",
    aliases: &["superglue-cb"],
    template: "premise: {premise} hypothesis: {hypothesis}",
    metrics: &[MetricKind::F1Multiclass, MetricKind::Accuracy],
    fields: &[("premise", &["premise"]), ("hypothesis", &["hypothesis"])],
    target: Target::Ids(&[
        ("entailment", "0"),
        ("contradiction", "1"),
        ("neutral", "2"),
        ("0", "0"),
        ("1", "1"),
        ("2", "2"),
    ]),
    ..PLAIN
};

pub(super) const COPA: BuiltIn = BuiltIn {
    name: "copa",
    aliases: &["superglue-copa"],
    template: "question: {question} premise: {premise} choice1: {choice1} choice2: {choice2}",
    fields: &[
        ("question", &["question"]),
        ("premise", &["premise"]),
        ("choice1", &["choice1"]),
        ("choice2", &["choice2"]),
    ],
    reference: Reference {
        template: Some("premise: {premise} choice1: {choice1} choice2: {choice2}"),
        ..SAME
    },
    ..PLAIN
};

pub(super) const MULTIRC: BuiltIn = BuiltIn {
    name: "multirc",
    aliases: &["superglue-multirc"],
    template: "question: {question} answer: {answer} paragraph: {paragraph}",
    metrics: &[MetricKind::F1, MetricKind::GroupExactMatch],
    fields: &[("question", &["question"]), ("answer", &["answer"]), ("paragraph", &["paragraph"])],
    target: TRUTH,
    shape: Shape::MultiRc,
    reference: Reference { metrics: Some(&[MetricKind::F1]), ..SAME },
    ..PLAIN
};

pub(super) const RECORD: BuiltIn = BuiltIn {
    name: "record",
    aliases: &["superglue-record"],
    template: "record query: {query} entities: {entities} passage: {passage}",
    metrics: &[MetricKind::TokenF1, MetricKind::ExactMatch],
    fields: &[("query", &["query"]), ("entities", &["entities"]), ("passage", &["passage"])],
    label: &["answers"],
    target: Target::Answers,
    shape: Shape::Record,
    rule: SplitRule::Large,
    target_tokens: Some(super::qa::TARGET_TOKENS),
    ..PLAIN
};

// The same rows as GLUE's; the authors' code words them differently.
pub(super) const RTE: BuiltIn = BuiltIn {
    name: "superglue-rte",
    template: "premise: {premise} hypothesis: {hypothesis}",
    fields: PREMISE,
    target: ENTAILMENT,
    ..PLAIN
};

pub(super) const WIC: BuiltIn = BuiltIn {
    name: "wic",
    aliases: &["superglue-wic"],
    template: "sentence1: {sentence1} sentence2: {sentence2} word: {word}",
    fields: &[("sentence1", &["sentence1"]), ("sentence2", &["sentence2"]), ("word", &["word"])],
    target: TRUTH,
    shape: Shape::Wic,
    // Of the `.data.txt` files; the label comes from the `.gold.txt` file beside each.
    headerless: &["word", "part_of_speech", "positions", "sentence1", "sentence2", "label"],
    ..PLAIN
};

pub(super) const WSC: BuiltIn = BuiltIn {
    name: "wsc",
    aliases: &["superglue-wsc.fixed", "wsc.fixed", "superglue-wsc"],
    template: "text: {text}",
    fields: &[
        ("text", &["text"]),
        ("span1_text", &["span1_text", "target.span1_text"]),
        ("span1_index", &["span1_index", "target.span1_index"]),
        ("span2_text", &["span2_text", "target.span2_text"]),
        ("span2_index", &["span2_index", "target.span2_index"]),
    ],
    target: TRUTH,
    shape: Shape::Wsc,
    ..PLAIN
};
