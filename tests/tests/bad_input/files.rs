//! Models and data files that cannot be used.

use std::fs;
use std::os::unix::fs::symlink;

use deptune_tests::{Project, World, fake_trainer, quickstart};

use super::{assert_untouched, refused};

/// Says the file and the spec's line that names it.
fn at_model(project: &Project, says: &[&str]) -> Vec<String> {
    let line = project.at("path = \"model\"");
    says.iter().map(|&text| text.to_owned()).chain([line]).collect()
}

#[test]
fn a_model_that_cannot_be_used_is_named_with_its_file() {
    let world = World::new();
    let coordinator = world.serve();
    let expect = |project: &Project, says: &[&str]| {
        let says = at_model(project, says);
        let says: Vec<&str> = says.iter().map(String::as_str).collect();
        refused(&world, project, &[], &says);
        refused(&world, project, &["--upload-model"], &says);
    };

    let project = world.project("no-model");
    fs::remove_file(project.dir.join("model")).unwrap();
    expect(&project, &["model 'model' is no directory here", "hint: looked at", "--model-config"]);

    for name in ["model.safetensors", "tokenizer.json"] {
        let project = world.project(&format!("no-{name}")).with_own_model();
        fs::remove_file(project.dir.join("model").join(name)).unwrap();
        expect(&project, &[&format!("model/{name} is missing"), "hint:"]);
    }
    let project = world.project("no-config.json").with_own_model();
    fs::remove_file(project.dir.join("model/config.json")).unwrap();
    expect(&project, &["model/config.json", "hint: a model is a directory with config.json"]);

    let project = world.project("truncated").with_own_model();
    let weights = project.dir.join("model/model.safetensors");
    let whole = fs::metadata(&weights).unwrap().len();
    fs::File::options().write(true).open(&weights).unwrap().set_len(whole / 2).unwrap();
    expect(
        &project,
        &[
            &format!("model.safetensors is truncated: expected {whole} bytes, found {}", whole / 2),
            "hint: fetch the model again",
        ],
    );
    fs::File::options().write(true).open(&weights).unwrap().set_len(5).unwrap();
    expect(&project, &["model.safetensors", "hint:"]);

    assert_untouched(&world, coordinator);
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let world = World::new();
    let coordinator = world.serve();
    let project = world.project("tokenizer").with_own_model();
    let file = project.dir.join("model/tokenizer.json");
    let mut tokenizer: serde_json::Value =
        serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    tokenizer["added_tokens"][0]["id"] = 32_099.into();
    fs::write(&file, tokenizer.to_string()).unwrap();
    let says = at_model(
        &project,
        &[
            "tokenizer does not fit the model",
            "tokenizer.json has ids up to 32099, config.json's vocab_size is",
            "hint: take both files from the same model",
        ],
    );
    refused(&world, &project, &[], &says.iter().map(String::as_str).collect::<Vec<_>>());
    assert_untouched(&world, coordinator);
}

#[test]
fn data_that_cannot_be_used_are_named_with_file_and_line() {
    let world = World::new();
    let coordinator = world.serve();
    let expect = |project: &Project, key: &str, says: &[&str]| {
        let line = project.at(key);
        refused(&world, project, &[], &[says, &[&line]].concat());
    };

    let project = world.project("missing");
    fs::remove_file(project.dir.join("validation.jsonl")).unwrap();
    expect(
        &project,
        "validation = ",
        &["cannot read the data file", "validation.jsonl", "hint: paths are relative to the spec"],
    );

    let project = world.project("empty");
    project.file("test.jsonl", "");
    expect(&project, "test = ", &["test.jsonl"]);

    let project = world.project("blank");
    project.file("train.jsonl", "\n\n\n");
    expect(&project, "train = ", &["train.jsonl has no rows"]);

    let project = world.project("unlabelled");
    let text = fs::read_to_string(project.dir.join("train.jsonl")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[2] = r#"{"text": "nobody said what to think of this"}"#;
    lines[4] = r#"{"text": "nor of this", "sentiment": "undecided"}"#;
    project.file("train.jsonl", lines.join("\n"));
    expect(
        &project,
        "train = ",
        &["2 bad rows", "train.jsonl:3: no label in column 'sentiment'", "train.jsonl:5:"],
    );

    // A directory in the place of a file.
    let project = world.project("directory");
    fs::remove_file(project.dir.join("train.jsonl")).unwrap();
    symlink(quickstart(), project.dir.join("train.jsonl")).unwrap();
    expect(&project, "train = ", &["cannot read the data file", "train.jsonl"]);

    assert_untouched(&world, coordinator);
}

#[test]
fn up_refuses_bad_input_before_it_starts_anything() {
    let world = World::new();
    let project = world.project("rows");
    project.file(
        "train.jsonl",
        "{\"text\": \"no label\"}\n{\"text\": \"a\", \"sentiment\": \"positive\"}\n",
    );
    let trainer = fake_trainer().display().to_string();
    let says = ["train.jsonl:1: no label in column 'sentiment'", &project.at("train = ")];
    world.run(&["up", &project.spec(), "--trainer", &trainer]).code(2).says(&says);
    let absent = world.path("absent").display().to_string();
    let up = ["up", &world.project("fine").spec(), "--trainer", &absent];
    world.run(&up).says(&["deptune-trainer", "hint:"]);
    assert!(!world.data_dir().exists(), "something was started");
}
