//! Choices between given answers.

use super::{BuiltIn, PLAIN, Reference, SAME, Target};
use crate::task::shape::Shape;
use crate::task::split::SplitRule;

pub(super) const COMMONSENSE_QA: BuiltIn = BuiltIn {
    name: "commonsense_qa",
    template: "question: {question} choice1: {choice1} choice2: {choice2} choice3: {choice3} \
               choice4: {choice4} choice5: {choice5}",
    // As published on the hub, and as distributed by its authors.
    fields: &[
        ("question", &["question.stem", "question"]),
        ("choice1", &["choices.text.0", "question.choices.0.text"]),
        ("choice2", &["choices.text.1", "question.choices.1.text"]),
        ("choice3", &["choices.text.2", "question.choices.2.text"]),
        ("choice4", &["choices.text.3", "question.choices.3.text"]),
        ("choice5", &["choices.text.4", "question.choices.4.text"]),
    ],
    label: &["answerKey"],
    target: Target::Ids(&[("A", "0"), ("B", "1"), ("C", "2"), ("D", "3"), ("E", "4")]),
    rule: SplitRule::Given,
    ..PLAIN
};

pub(super) const SOCIAL_I_QA: BuiltIn = BuiltIn {
    name: "social_i_qa",
    aliases: &["siqa"],
    template: "question: {question} context: {context} || choice0: {answerA} \
               || choice1: {answerB} || choice2: {answerC}",
    fields: &[
        ("question", &["question"]),
        ("context", &["context"]),
        ("answerA", &["answerA"]),
        ("answerB", &["answerB"]),
        ("answerC", &["answerC"]),
    ],
    target: Target::Ids(&[("1", "0"), ("2", "1"), ("3", "2")]),
    shape: Shape::Choices { from: 2 },
    rule: SplitRule::Given,
    ..PLAIN
};

pub(super) const PIQA: BuiltIn = BuiltIn {
    name: "piqa",
    template: "question: {goal} choice1: {sol1} choice2: {sol2}",
    fields: &[("goal", &["goal"]), ("sol1", &["sol1"]), ("sol2", &["sol2"])],
    shape: Shape::Choices { from: 1 },
    rule: SplitRule::Given,
    reference: Reference { rule: Some(SplitRule::Same), ..SAME },
    ..PLAIN
};

pub(super) const WINOGRANDE: BuiltIn = BuiltIn {
    name: "winogrande",
    template: "sentence: {sentence} option0: {option1} option1: {option2}",
    fields: &[("sentence", &["sentence"]), ("option1", &["option1"]), ("option2", &["option2"])],
    label: &["answer"],
    target: Target::Ids(&[("1", "0"), ("2", "1")]),
    rule: SplitRule::Large,
    reference: Reference {
        template: Some("sentence: {sentence} option0: {option1} option1: {option1}"),
        ..SAME
    },
    ..PLAIN
};
