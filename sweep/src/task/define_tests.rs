use super::*;

fn resolve(toml: &str) -> Result<TaskDef, TaskError> {
    let mut spec: TaskSpec = toml::from_str(toml).unwrap();
    spec.train.push("train.jsonl".into());
    spec.resolve(Recipe::Default)
}

fn problem(toml: &str) -> String {
    resolve(toml).unwrap_err().to_string()
}

const OWN: &str = "name = 'reviews'\ntemplate = '{text}'\nlabel = 'stars'\n";

#[test]
fn an_unknown_task_names_the_nearest_and_all() {
    let text = problem("name = 'ste2'");
    assert!(text.starts_with(
        "unknown task 'ste2', did you mean 'sst2'?; built-in tasks are amazon_polarity, boolq"
    ));
    assert!(
        text.ends_with("wnli, wsc, yelp_polarity; for your own data give 'template' and 'label'"),
        "{text}"
    );
    assert!(problem("name = 'reviews'").starts_with("unknown task 'reviews'; built-in"));
}

#[test]
fn aliases_are_the_same_task() {
    assert_eq!(resolve("name = 'superglue-wsc.fixed'").unwrap(), resolve("name = 'wsc'").unwrap());
}

#[test]
fn an_own_task_needs_template_and_label() {
    assert!(problem("name = 'reviews'\nlabel = 'x'").contains("needs 'template'"));
    assert!(problem("name = 'reviews'\ntemplate = '{x}'").contains("needs 'label'"));
    let error = resolve("name = 'reviews'\nlabel = 'x'\ntemplate = '{x'").unwrap_err();
    assert!(matches!(error, TaskError::Template { .. }));
}

#[test]
fn a_built_in_task_keeps_its_own_form() {
    let text = problem("name = 'rte'\nlabels = ['a', 'b']");
    assert!(text.starts_with("task 'rte' is built in and has its own 'labels'"));
}

#[test]
fn columns_must_belong_to_a_field() {
    assert_eq!(
        problem(&format!("{OWN}columns = {{ txt = 'body' }}")),
        "columns.txt is not used by task 'reviews', did you mean 'text'?; its fields are text, stars"
    );
    assert!(resolve("name = 'rte'\ncolumns = { label = 'gold', sentence1 = 'a' }").is_ok());
}

#[test]
fn metrics_must_exist_and_fit() {
    let metrics = |list: &str| problem(&format!("{OWN}metrics = {list}"));
    assert_eq!(metrics("['acuracy']"), "the metrics of task 'reviews' cannot be read");
    assert!(metrics("[]").contains("needs 'metrics'"));
    assert!(metrics("['f1']").contains("needs 'labels' with two texts"));
    assert!(metrics("['f1_multiclass']").contains("needs 'labels'"));
    assert!(metrics("['em', 'em']").contains("listed twice"));
    let labelled =
        |metric: &str| resolve(&format!("{OWN}labels = ['bad', 'good']\nmetrics = ['{metric}']"));
    assert!(labelled("f1").is_ok());
    assert!(labelled("pearson").unwrap_err().to_string().contains("labels that are numbers"));
    assert!(resolve("name = 'stsb'\nmetrics = ['spearmanr']").is_ok());
}

#[test]
fn limits_and_files_must_leave_rows() {
    assert_eq!(
        problem("name = 'rte'\nvalidation_limit = 0"),
        "'validation_limit' of task 'rte' leaves no rows"
    );
    let none = TaskSpec { name: "rte".into(), ..TaskSpec::default() };
    assert!(matches!(none.resolve(Recipe::Default), Err(TaskError::NoFiles { .. })));
    let (validation, test) = (vec!["a".to_owned()], vec!["b".to_owned()]);
    let no_train = TaskSpec { validation, test, ..none };
    assert!(matches!(no_train.resolve(Recipe::Default), Err(TaskError::NoTrain { .. })));
}

#[test]
fn source_texts_of_typed_sentences() {
    let def = resolve("name = 'rte'\nadd_prefix = true").unwrap();
    assert_eq!(def.fields().collect::<Vec<_>>(), ["sentence1", "sentence2"]);
    let mut texts = BTreeMap::from([("sentence1".to_owned(), "A.".to_owned())]);
    assert_eq!(def.source(&texts).unwrap_err(), "no text for the field 'sentence2'");
    texts.insert("sentence2".into(), "B.".into());
    assert_eq!(def.source(&texts).unwrap(), "rte sentence1: A. sentence2: B.");
}
