//! The pure checks on real model files and on the quickstart's spec, as they lie in this
//! repository.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use deptune_sweep::model::{
    ModelConfig, PREFIX_BYTES, WeightsError, check_tokenizer, check_weights, header_length,
};
use deptune_sweep::spec::{Format, Spec};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn config(model: &Path) -> ModelConfig {
    let text = std::fs::read_to_string(model.join("config.json")).unwrap();
    ModelConfig::parse("config.json", &text).unwrap()
}

fn weights(model: &Path, config: &ModelConfig, keep: Option<usize>) -> Result<(), WeightsError> {
    let bytes = std::fs::read(model.join("model.safetensors")).unwrap();
    let bytes = &bytes[..keep.unwrap_or(bytes.len())];
    let length = bytes.len() as u64;
    let header = header_length("model.safetensors", bytes, length)?;
    let range =
        usize::try_from(PREFIX_BYTES).unwrap()..usize::try_from(PREFIX_BYTES + header).unwrap();
    check_weights("model.safetensors", &bytes[range], length, config)
}

#[test]
fn the_quickstarts_files_fit_together() {
    let model = repository().join("examples/quickstart/model");
    let config = config(&model);
    weights(&model, &config, None).unwrap();
    let tokenizer = std::fs::read(model.join("tokenizer.json")).unwrap();
    check_tokenizer("tokenizer.json", &tokenizer, &config).unwrap();

    let text =
        std::fs::read_to_string(repository().join("examples/quickstart/sweep.toml")).unwrap();
    let spec = Spec::parse(&text, Format::Toml, Some(&config)).unwrap();
    assert_eq!((spec.configurations(), spec.total()), (12, 36));
}

#[test]
fn both_forms_of_t5_have_all_their_tensors() {
    for model in ["t5_v10", "t5_v11"] {
        let model = repository().join("worker/trainer/tests/golden/models").join(model);
        weights(&model, &config(&model), None).unwrap();
    }
}

#[test]
fn a_file_cut_short_is_told_by_its_length() {
    let model = repository().join("examples/quickstart/model");
    let config = config(&model);
    for keep in [0, 7, 8, 5000, 100_000, 4_000_000] {
        let error = weights(&model, &config, Some(keep)).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, WeightsError::Truncated { actual, .. } if actual == keep as u64),
            "{text}"
        );
        assert!(text.contains(&format!("found {keep}; fetch the model again")), "{text}");
    }
}

#[test]
fn files_of_two_models_do_not_fit() {
    let quickstart = repository().join("examples/quickstart/model");
    let other = config(&repository().join("worker/trainer/tests/golden/models/t5_v10"));
    let error = weights(&quickstart, &other, None).unwrap_err().to_string();
    assert!(error.contains("has shape"), "{error}");
    let tokenizer = std::fs::read(quickstart.join("tokenizer.json")).unwrap();
    let error = check_tokenizer("tokenizer.json", &tokenizer, &other).unwrap_err().to_string();
    assert!(error.contains("ids up to 8007, config.json's vocab_size is 384"), "{error}");
}

#[test]
fn weights_of_every_architecture_are_recognised() {
    let models = repository().join("worker/trainer/tests/golden/models");
    for (name, architecture) in
        [("t5_v10", "t5"), ("t5_v11", "t5"), ("gpt2", "gpt2"), ("llama", "llama")]
    {
        let model = models.join(name);
        let config = config(&model);
        assert_eq!(config.model_type(), architecture);
        weights(&model, &config, None).unwrap();
        let bytes = std::fs::metadata(model.join("model.safetensors")).unwrap().len();
        // fp32 numbers and a header: each number counts once, tied heads included.
        let numbers = config.weight_count() * 4;
        assert!(numbers < bytes && bytes - numbers < 20_000, "{name}: {numbers} of {bytes}");
    }
}
