//! The whole specs in `docs/spec.md` are valid and have as many trials as the page says.

#![allow(clippy::unwrap_used)]

use deptune_sweep::model::ModelConfig;
use deptune_sweep::spec::{Format, Spec};

#[test]
fn the_pages_specs_are_valid() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/spec.md"));
    let base = r#"{"model_type":"t5","d_model":768,"d_kv":64,"d_ff":3072,"num_layers":12,
        "num_heads":12,"vocab_size":32128}"#;
    let base = ModelConfig::parse("config.json", base).unwrap();
    let page = page.unwrap();
    let blocks = page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let totals: Vec<u64> = blocks
        .filter(|block| block.contains("[model]"))
        .map(|block| Spec::parse(block, Format::Toml, Some(&base)).unwrap().total())
        .collect();
    assert_eq!(totals, [108, 6]);
}
