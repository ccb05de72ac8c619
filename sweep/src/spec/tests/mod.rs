//! Tests of the parser: what is accepted, with which defaults, and every kind of bad input by
//! the words and the line that a person gets.

mod accepted;
mod bad_keys;
mod bad_values;
mod hub;
mod methods;
mod robust;
mod spaces;

use super::{Diagnostics, Format, Spec};
use crate::model::ModelConfig;

/// A small valid spec; the tests change one thing in it.
pub(crate) const BASE: &str = r#"name = "rte-dept"

[model]
path = "models/t5-mini"

[task]
name = "rte"
train = "RTE/train.jsonl"
validation = "RTE/val.jsonl"

[space]
prompt_lr = [0.3, 0.4]
lowrank_lr = [1e-4, 5e-3]
prompt_length = [20, 40]
rank = { equal_parameters_to = 100 }
seeds = [42, 43, 44]

[train]
steps = 2000
max_length = 128
"#;

/// A backbone of hidden size `d_model`.
pub(crate) fn model(d_model: u32) -> ModelConfig {
    let text = format!(
        r#"{{"model_type":"t5","d_model":{d_model},"d_kv":64,"d_ff":768,"num_layers":3,
            "num_heads":3,"vocab_size":8064}}"#
    );
    ModelConfig::parse("config.json", &text).unwrap()
}

/// The base spec with each `(old, new)` replaced; every `old` must be there.
pub(crate) fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(BASE.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old} is not in the spec");
        text.replacen(old, new, 1)
    })
}

pub(crate) fn parse(text: &str) -> Result<Spec, Diagnostics> {
    Spec::parse(text, Format::Toml, Some(&model(192)))
}

/// The rendered problems of the base spec after the changes.
pub(crate) fn problems(changes: &[(&str, &str)]) -> String {
    parse(&with(changes)).unwrap_err().render("s.toml")
}

/// One problem: `expected` is the whole of what is printed.
#[track_caller]
pub(crate) fn expect(changes: &[(&str, &str)], expected: &str) {
    assert_eq!(problems(changes), expected);
}
