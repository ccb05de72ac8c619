//! Metrics, source texts and splits against outputs of the DePT authors' code
//! (`tests/data/metrics_formats_splits.json`), under `recipe = "reference"`.

// Helpers of tests may stop at what is wrong, and say what they skipped.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;

use deptune_sweep::metric::{self, MetricKind};
use deptune_sweep::task::{
    BuiltIn, Example, Recipe, RowId, SourceFile, Split, TaskDef, TaskSpec, assemble, parse_rows,
    permutation,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Golden {
    metrics: Vec<MetricCase>,
    normalize_squad: Vec<(String, String)>,
    pad_punctuation: Vec<(String, String)>,
    formats: Vec<FormatCase>,
    splits: BTreeMap<String, SplitCase>,
}

#[derive(Deserialize)]
struct MetricCase {
    metric: String,
    predictions: Vec<String>,
    targets: Vec<Value>,
    result: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct FormatCase {
    task: String,
    add_prefix: bool,
    example: Value,
    result: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct SplitCase {
    n: u32,
    first16: Vec<u32>,
    last4: Vec<u32>,
    /// Sum of (i + 1) · p_i over the whole permutation.
    weighted_sum: u64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("data/metrics_formats_splits.json")).unwrap()
}

fn resolve(task: &str, add_prefix: bool) -> TaskDef {
    let spec = TaskSpec {
        name: task.to_owned(),
        train: vec!["row.jsonl".to_owned()],
        add_prefix,
        ..TaskSpec::default()
    };
    spec.resolve(Recipe::Reference).unwrap()
}

#[test]
fn metrics_agree() {
    let mut checked = 0;
    for case in golden().metrics {
        let kinds: &[MetricKind] = match case.metric.as_str() {
            "accuracy" => &[MetricKind::Accuracy],
            "f1_score_with_invalid" => &[MetricKind::F1],
            "matthews_corrcoef" => &[MetricKind::MatthewsCorrelation],
            "mean_multiclass_f1_3" => &[MetricKind::F1Multiclass],
            "pearson_corrcoef" => &[MetricKind::Pearson],
            "spearman_corrcoef" => &[MetricKind::Spearman],
            "squad" => &[MetricKind::ExactMatch, MetricKind::TokenF1],
            other => panic!("no metric for {other}"),
        };
        let classes: &[&str] = match case.metric.as_str() {
            "mean_multiclass_f1_3" => &["0", "1", "2"],
            "f1_score_with_invalid" => &["0", "1"],
            _ => &[],
        };
        let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
        let golds: Vec<Vec<&str>> = case
            .targets
            .iter()
            .map(|target| match target {
                Value::Array(answers) => answers.iter().map(|a| a.as_str().unwrap()).collect(),
                one => vec![one.as_str().unwrap()],
            })
            .collect();
        let recipe = Recipe::Reference;
        let metrics = metric::evaluate(kinds, &classes, recipe, &case.predictions, &golds).unwrap();
        assert_eq!(metrics.len(), case.result.len());
        for (name, value) in metrics {
            let name = if name == "token_f1" { "f1" } else { &name };
            let (value, wanted) = (value.finite().unwrap(), case.result[name]);
            assert!((value - wanted).abs() < 1e-10, "{} {value} {wanted}", case.metric);
            checked += 1;
        }
    }
    println!("{checked} metric values checked");
    assert!(checked >= 18);
}

#[test]
fn answers_normalize_alike() {
    let pairs = golden().normalize_squad;
    assert!(!pairs.is_empty());
    for (text, wanted) in pairs {
        assert_eq!(metric::normalize_answer(&text), wanted);
    }
}

#[test]
fn punctuation_stands_apart_alike() {
    let def = resolve("nq", false);
    let pairs = golden().pad_punctuation;
    assert!(!pairs.is_empty());
    for (text, wanted) in pairs {
        let texts = [("question", text.as_str()), ("context", "")];
        let texts = texts.map(|(field, text)| (field.to_owned(), text.to_owned()));
        let source = def.source(&BTreeMap::from(texts)).unwrap();
        assert_eq!(source, format!("question: {wanted} context: "));
    }
}

#[test]
fn source_and_target_texts_agree() {
    let mut tasks = std::collections::BTreeSet::new();
    let mut checked = 0;
    for case in golden().formats {
        assert!(BuiltIn::find(&case.task).is_some(), "{} is not built in", case.task);
        let def = resolve(&case.task, case.add_prefix);
        let line = case.example.to_string();
        let file = SourceFile { name: "row.jsonl", bytes: line.as_bytes() };
        let rows = parse_rows(&def, Split::Train, &[file]).unwrap();
        let [row] = &rows[..] else { panic!("{} rows", rows.len()) };
        assert_eq!(row.source, case.result["source"], "{}", case.task);
        assert_eq!(row.target, case.result["target"], "{}", case.task);
        assert_eq!(row.answers.first(), Some(&row.target));
        tasks.insert(case.task);
        checked += 1;
    }
    // Each with and without its name in front.
    assert_eq!((tasks.len(), checked), (26, 52));
}

#[test]
fn permutations_agree() {
    let mut checked = 0;
    for (task, case) in golden().splits {
        let order = permutation(case.n, 42);
        assert!(order.starts_with(&case.first16), "{task}");
        assert!(order.ends_with(&case.last4), "{task}");
        let sum: u64 = (1..).zip(&order).map(|(i, p)| i * u64::from(*p)).sum();
        assert_eq!(sum, case.weighted_sum, "{task}");
        checked += 1;
    }
    assert!(checked >= 13, "{checked}");
}

#[test]
fn splits_take_the_rows_that_the_permutation_says() {
    let rows = |split, n: u32| -> Vec<Example> {
        let row = |line| RowId { split, file: 0, line };
        (0..u64::from(n))
            .map(|line| Example {
                source: String::new(),
                target: String::new(),
                answers: Vec::new(),
                group: None,
                row: row(line),
            })
            .collect()
    };
    let mut checked = 0;
    for (key, case) in golden().splits {
        let (task, large) = key.strip_suffix("_train").map_or((key.as_str(), false), |t| (t, true));
        assert!(BuiltIn::find(task).is_some(), "{task} is not built in");
        // The permuted file is train for the large tasks and validation for the small ones.
        let (train, validation) = if large { (case.n, 7) } else { (7, case.n) };
        let given = BTreeMap::from([
            (Split::Train, rows(Split::Train, train)),
            (Split::Validation, rows(Split::Validation, validation)),
        ]);
        let data = assemble(&resolve(task, false), given).unwrap();
        let lines = |rows: &[Example]| rows.iter().map(|e| e.row.line as u32).collect::<Vec<_>>();
        let rest = if large { &data.train } else { &data.test };
        assert!(lines(&data.validation).starts_with(&case.first16), "{key}");
        assert!(lines(rest).ends_with(&case.last4), "{key}");
        let first = if large { 1000 } else { case.n as usize / 2 };
        assert_eq!((data.validation.len(), rest.len()), (first, case.n as usize - first), "{key}");
        checked += 1;
    }
    assert_eq!(checked, 13);
}
