//! Models and data of the hub.

use super::{parse, problems, with};

#[test]
fn a_model_of_the_hub_may_have_a_revision() {
    let path = "path = \"models/t5-mini\"";
    let text = with(&[(path, "path = \"google-t5/t5-base\"\nrevision = \"refs/pr/8\"")]);
    let model = parse(&text).unwrap().model;
    assert_eq!(model.path, "google-t5/t5-base");
    assert_eq!(model.revision.as_deref(), Some("refs/pr/8"));
    let text = with(&[(path, "path = \"google-t5/t5-base@main\"")]);
    assert_eq!(parse(&text).unwrap().model.revision, None);

    let found = problems(&[(path, "path = \"a/b@main\"\nrevision = \"main\"")]);
    assert!(found.contains("s.toml:5:") && found.contains("leave one of the two out"), "{found}");
    let found = problems(&[(path, "path = \"./model\"\nrevision = \"main\"")]);
    assert!(found.contains("a directory has no revision"), "{found}");
    let found = problems(&[(path, "path = \"a/b\"\nrevision = \"../main\"")]);
    assert!(found.contains("no such revision can be"), "{found}");
}

#[test]
fn data_may_be_files_of_the_hub_or_a_dataset() {
    let train = "train = \"RTE/train.jsonl\"";
    let validation = "validation = \"RTE/val.jsonl\"";
    let file = "hf://datasets/nyu-mll/glue/rte/train.parquet";
    let task = parse(&with(&[(train, &format!("train = [\"{file}\", \"own.jsonl\"]"))])).unwrap();
    assert_eq!(task.task.train, [file, "own.jsonl"]);
    let found = problems(&[(train, "train = \"hf://nyu-mll/glue/rte/train.parquet\"")]);
    assert!(found.contains("is no file of the hub") && found.contains("s.toml:8:"), "{found}");

    let dataset = "dataset = \"nyu-mll/glue\"\ndataset_config = \"rte\"";
    let task = parse(&with(&[(train, dataset), (validation, "")])).unwrap().task;
    assert_eq!(task.dataset.as_deref(), Some("nyu-mll/glue"));
    assert_eq!(task.dataset_config.as_deref(), Some("rte"));
    let found = problems(&[(train, dataset)]);
    assert!(found.contains("'validation' cannot stand beside 'dataset'"), "{found}");
    let found = problems(&[(train, "dataset = \"glue\""), (validation, "")]);
    assert!(found.contains("is no dataset of the hub"), "{found}");
    let found = problems(&[(validation, "dataset_config = \"rte\"")]);
    assert!(found.contains("'dataset_config' needs 'dataset'"), "{found}");
}
