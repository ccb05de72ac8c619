//! The whole specs in `docs/spec.md` and `examples/paper` are valid and have as many trials and
//! parameters as they say.

#![allow(clippy::unwrap_used)]

use deptune_sweep::model::ModelConfig;
use deptune_sweep::spec::{Format, Spec};
use deptune_sweep::task::Recipe;

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

#[test]
fn the_papers_runs_are_valid() {
    let paper = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/paper");
    let config = std::fs::read_to_string(paper.join("t5-base/config.json")).unwrap();
    let config = ModelConfig::parse("config.json", &config).unwrap();
    let readme = std::fs::read_to_string(paper.join("README.md")).unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&paper).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let spec = Spec::parse(&text, Format::Toml, Some(&config)).unwrap();
        assert_eq!((spec.total(), spec.recipe), (1, Recipe::Reference), "{}", path.display());
        let settings = spec.settings(0).unwrap();
        let (m, r) = (u64::from(settings.prompt_length), u64::from(settings.rank));
        let (s, d) = (u64::from(settings.train.max_length), 768);
        let parameters = m * d + r * (s + d);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(parameters, if name == "multirc.toml" { 79_560 } else { 76_800 }, "{name}");
        // Selected by the metric whose figure is recorded first.
        let def = spec.task.resolve(spec.recipe).unwrap();
        assert_eq!(spec.objective.metric, def.metrics()[0], "{name}");
        let row = readme.lines().find(|line| line.starts_with(&format!("| [{name}]"))).unwrap();
        assert!(row.contains(&format!("| {m} | {r} | {s} |")), "{row}");
        names.push(name);
    }
    assert_eq!(names.len(), 17);
}
