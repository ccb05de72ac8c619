//! Classification of sentences and pairs of sentences beside GLUE and `SuperGLUE`.

use super::glue::MNLI;
use super::{BuiltIn, PAIR, PLAIN, PREMISE, Reference, SAME, Target};
use crate::task::split::SplitRule;

pub(super) const SNLI: BuiltIn = BuiltIn {
    name: "snli",
    rule: SplitRule::Given,
    reference: Reference {
        template: Some("premise: {premise} hypothesis:  {hypothesis}"),
        rule: Some(SplitRule::HeldOut),
        keeps_undecided: true,
        ..SAME
    },
    ..MNLI
};

pub(super) const SCITAIL: BuiltIn = BuiltIn {
    name: "scitail",
    template: "premise: {premise} hypothesis: {hypothesis}",
    fields: PREMISE,
    label: &["gold_label", "label"],
    target: Target::Ids(&[
        ("entailment", "0"),
        ("neutral", "1"),
        ("entails", "0"),
        ("not_entailment", "1"),
        ("0", "0"),
        ("1", "1"),
    ]),
    rule: SplitRule::Given,
    headerless: &["premise", "hypothesis", "label"],
    reference: Reference { rule: Some(SplitRule::Halved), ..SAME },
    ..PLAIN
};

pub(super) const PAWS: BuiltIn = BuiltIn {
    name: "paws",
    template: "sentence1: {sentence1} sentence2: {sentence2}",
    fields: PAIR,
    rule: SplitRule::Given,
    headerless: &["id", "sentence1", "sentence2", "label"],
    ..PLAIN
};

pub(super) const YELP_POLARITY: BuiltIn = BuiltIn {
    name: "yelp_polarity",
    aliases: &["yelp"],
    template: "sentence: {text}",
    fields: &[("text", &["text"])],
    rule: SplitRule::Large,
    reference: Reference { train_rows: Some(100_000), ..SAME },
    ..PLAIN
};

pub(super) const AMAZON_POLARITY: BuiltIn = BuiltIn {
    name: "amazon_polarity",
    aliases: &["amazon"],
    template: "sentence: <title> {title} <context> {content}",
    // The authors' code asks for a column that the published data call otherwise.
    fields: &[("title", &["title"]), ("content", &["content", "context"])],
    rule: SplitRule::Large,
    ..PLAIN
};
