//! Entry points of the fuzzers for everything that reads bytes from outside without libtorch.
//!
//! Each takes any bytes and must neither panic nor need memory out of proportion to them. The
//! corpus that the fuzzers found is kept in `fuzz/corpus` and replayed by this crate's tests.

mod wire;

use std::collections::BTreeMap;

use deptune_sweep::child::{Job, Message};
use deptune_sweep::model::{ModelConfig, check_tokenizer, check_weights, header_length};
use deptune_sweep::points::Points;
use deptune_sweep::spec::{Format, Spec};
use deptune_sweep::task::{self, BuiltIn, Recipe, SourceFile, Split, TaskSpec};

pub use wire::wire;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by the names of their corpus folders.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", config),
    ("weights", weights),
    ("tokenizer", tokenizer),
    ("rows", rows),
    ("own_rows", own_rows),
    ("spec", spec),
    ("child", child),
    ("wire", wire),
];

/// Configurations that files are checked against.
const CONFIGS: &[&str] = &[
    r#"{"model_type":"t5","d_model":8,"d_kv":4,"d_ff":16,"num_layers":1,"num_heads":2,
        "vocab_size":16}"#,
    r#"{"model_type":"t5","d_model":8,"d_kv":6,"d_ff":16,"num_layers":1,"num_heads":2,
        "vocab_size":16,"feed_forward_proj":"gated-gelu","tie_word_embeddings":false}"#,
];

fn configs() -> impl Iterator<Item = ModelConfig> {
    CONFIGS.iter().filter_map(|text| ModelConfig::parse("config.json", text).ok())
}

/// A model's `config.json`.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // What is refused must also have words for people.
    if let Err(error) = ModelConfig::parse("config.json", text) {
        let _ = error.to_string();
    }
}

/// The prefix and header of a safetensors file.
pub fn weights(bytes: &[u8]) {
    let length = bytes.len() as u64;
    let Ok(header) = header_length("model.safetensors", bytes, length) else { return };
    let end = usize::try_from(header).ok().and_then(|header| header.checked_add(8));
    let Some(header) = end.and_then(|end| bytes.get(8..end)) else { return };
    for config in configs() {
        if let Err(error) = check_weights("model.safetensors", header, length, &config) {
            let _ = error.to_string();
        }
    }
}

/// A `tokenizer.json`.
pub fn tokenizer(bytes: &[u8]) {
    for config in configs() {
        if let Err(error) = check_tokenizer("tokenizer.json", bytes, &config) {
            let _ = error.to_string();
        }
    }
}

/// Files whose name's ending decides about their format; the last one leaves it to the content.
const NAMES: &[&str] = &["a.jsonl", "a.tsv", "a.csv", "a.parquet", "a"];

/// Data of a built-in task: two bytes choose task, recipe, split and format, the rest is the file.
pub fn rows(bytes: &[u8]) {
    let _ = built_in(bytes);
}

fn built_in(bytes: &[u8]) -> Option<usize> {
    let [first, second, bytes @ ..] = bytes else { return None };
    let tasks = BuiltIn::all();
    let task = tasks.get(usize::from(*first) % tasks.len())?;
    let recipe = if second & 1 == 0 { Recipe::Default } else { Recipe::Reference };
    let split = Split::ALL[usize::from(second >> 1) % Split::ALL.len()];
    let name = NAMES[usize::from(second >> 3) % NAMES.len()];
    let spec = TaskSpec { name: task.name.to_owned(), train: files(), ..TaskSpec::default() };
    parse(&spec, recipe, split, name, bytes)
}

/// Data of a person's own task: one byte chooses the format.
pub fn own_rows(bytes: &[u8]) {
    let _ = own(bytes);
}

fn own(bytes: &[u8]) -> Option<usize> {
    let [first, bytes @ ..] = bytes else { return None };
    let name = NAMES[usize::from(*first) % NAMES.len()];
    let spec = TaskSpec {
        name: "own".to_owned(),
        train: files(),
        template: Some("{a} and {b}".to_owned()),
        label: Some("c".to_owned()),
        ..TaskSpec::default()
    };
    parse(&spec, Recipe::Default, Split::Train, name, bytes)
}

/// A task without files is refused.
fn files() -> Vec<String> {
    vec!["a".to_owned()]
}

/// How many rows the file has, if all of them are sound.
#[expect(clippy::expect_used, reason = "a target that reads nothing must not go unnoticed")]
fn parse(spec: &TaskSpec, recipe: Recipe, split: Split, name: &str, bytes: &[u8]) -> Option<usize> {
    let def = spec.resolve(recipe).expect("the task is sound");
    let read = task::parse_rows(&def, split, &[SourceFile { name, bytes }]);
    let examples = read.map_err(|error| error.to_string()).ok()?;
    let rows = examples.len();
    match task::assemble(&def, BTreeMap::from([(split, examples)])) {
        Ok(dataset) => {
            for split in Split::ALL {
                let targets: Vec<_> = dataset.split(split).iter().map(|e| &e.target).collect();
                let _ = def.evaluate(&targets, &targets);
            }
        }
        Err(error) => drop(error.to_string()),
    }
    Some(rows)
}

/// What a space may be added to.
const SWEEP: &str = "name = 's'\n[model]\npath = 'm'\n[task]\nname = 'sst2'\ntrain = 't.tsv'\n[space]\n\
    prompt_lr = [0.3]\nlowrank_lr = [1e-4]\nprompt_length = [4, 8]\nrank = [3]\n[train]\nsteps = 100\n";

/// A sweep's spec, or a space that is added to one: one byte chooses the format, then the text.
pub fn spec(bytes: &[u8]) {
    let [first, bytes @ ..] = bytes else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let format = if first & 1 == 0 { Format::Toml } else { Format::Json };
    for config in configs() {
        match Spec::parse(text, format, Some(&config)) {
            Ok(spec) => {
                let trials = spec.total();
                let _ = (spec.settings(0), spec.settings(trials.saturating_sub(1)));
            }
            Err(diagnostics) => {
                let _ = diagnostics.to_string();
            }
        }
        if let Ok(spec) = Spec::with_space((SWEEP, Format::Toml), (text, format), Some(&config)) {
            let mut points = Points::new(spec.clone());
            points.add(spec);
            let last = points.total().saturating_sub(1);
            let _ = (points.settings(last), points.configuration(last), points.varied());
        }
    }
}

/// A line of the protocol between agent and trainer.
pub fn child(bytes: &[u8]) {
    let _ = serde_json::from_slice::<Job>(bytes);
    if let Ok(message) = serde_json::from_slice::<Message>(bytes) {
        let _ = serde_json::to_vec(&message);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Seeds that give rows, by format.
    fn sound(folder: &str, read: fn(&[u8]) -> Option<usize>, format: &str) -> usize {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(folder);
        let seed = format!("seed-{format}");
        let of_format = |path: &Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&seed))
        };
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let seeds = paths.filter(|path| of_format(path));
        seeds
            .filter_map(|path| read(&std::fs::read(path).unwrap()))
            .filter(|rows| *rows > 0)
            .count()
    }

    #[test]
    fn seeds_of_every_format_give_rows() {
        for format in ["json", "tsv", "csv", "parquet"] {
            assert!(sound("rows", built_in, format) > 0, "{format} of built-in tasks");
            assert!(sound("own_rows", own, format) > 0, "{format} of own tasks");
        }
    }
}
