//! Questions about a passage, answered in its words: the MRQA tasks, `SQuAD` and DROP.

use super::{BuiltIn, PLAIN, Reference, SAME, Target};
use crate::metric::MetricKind;
use crate::task::shape::Shape;
use crate::task::split::SplitRule;

/// Most tokens of a target, end token included, as in the authors' code.
pub(super) const TARGET_TOKENS: usize = 20;

const QA: BuiltIn = BuiltIn {
    template: "question: {question} context: {context}",
    metrics: &[MetricKind::ExactMatch, MetricKind::TokenF1],
    fields: &[("question", &["question"]), ("context", &["context"])],
    label: &["answers.text", "answers", "answer"],
    target: Target::Answers,
    shape: Shape::Qa { whole_answers: false },
    rule: SplitRule::Large,
    target_tokens: Some(TARGET_TOKENS),
    ..PLAIN
};

pub(super) const HOTPOTQA: BuiltIn = BuiltIn { name: "hotpotqa", ..QA };
pub(super) const NEWSQA: BuiltIn = BuiltIn { name: "newsqa", ..QA };
pub(super) const NQ: BuiltIn = BuiltIn { name: "nq", aliases: &["naturalquestions"], ..QA };
pub(super) const SEARCHQA: BuiltIn = BuiltIn { name: "searchqa", ..QA };

pub(super) const SQUAD: BuiltIn =
    BuiltIn { name: "squad", shape: Shape::Qa { whole_answers: true }, ..QA };

pub(super) const TRIVIAQA: BuiltIn = BuiltIn {
    name: "triviaqa",
    // The authors use the class of SQuAD, and with it its data.
    reference: Reference { prefix: Some("squad"), ..SAME },
    ..SQUAD
};

pub(super) const DROP: BuiltIn = BuiltIn {
    name: "drop",
    fields: &[("question", &["question"]), ("context", &["passage", "context"])],
    label: &["answers_spans.spans"],
    rule: SplitRule::Given,
    ..QA
};
