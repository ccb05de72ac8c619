//! What several unit tests need.

use deptune_sweep::spec::{Format, Settings, Spec};

/// The settings of a small trial of 100 steps, evaluated every 10.
pub(crate) fn settings() -> Settings {
    let text = r#"
        name = "small"
        [model]
        path = "t5"
        [task]
        name = "sst2"
        train = "train.tsv"
        validation = "dev.tsv"
        [method]
        kind = "pt"
        [space]
        prompt_lr = [0.3]
        prompt_length = [10]
        seeds = [1]
        [search]
        kind = "grid"
        [train]
        steps = 100
        eval_every = 10
    "#;
    Spec::parse(text, Format::Toml, None).unwrap().settings(0).unwrap()
}
