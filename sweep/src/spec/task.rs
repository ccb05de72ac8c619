//! `[task]`: data, text format, labels, metrics.

use std::collections::BTreeMap;
use std::error::Error as _;

use super::document::{Node, Value};
use super::reader::{Planned, Report, Section, flag, shorten, small, text, wrong_kind};
use crate::hub::{DatasetFile, DatasetName};
use crate::task::{Format, KShotSampling, Labels, Recipe, TaskDef, TaskError, TaskSpec};

pub(super) const KEYS: &[&str] = &[
    "name",
    "format",
    "train",
    "validation",
    "test",
    "dataset",
    "dataset_config",
    "columns",
    "template",
    "label",
    "labels",
    "metrics",
    "train_limit",
    "validation_limit",
    "test_limit",
    "header",
    "add_prefix",
    "k_shot",
    "k_shot_sampling",
];

const PLANNED: &[Planned] =
    &[("few_shot", "use k_shot"), ("files", "name the files with train, validation and test")];

/// Most rows that a limit can ask for.
const MAX_LIMIT: u64 = 1 << 40;

/// Most rows of a few-shot training part.
const MAX_SHOTS: u32 = 1_000_000;

/// Reads the section and resolves the task; both are `None` when something is wrong.
pub(super) fn read(
    section: Section<'_>,
    recipe: Recipe,
    report: &mut Report<'_>,
) -> (Option<TaskSpec>, Option<TaskDef>) {
    section.check_keys(PLANNED, super::axes::section_of, report);
    let Some(task) = read_keys(section, report) else { return (None, None) };
    let resolved = resolve(&task, section, recipe, report);
    (Some(task), resolved)
}

fn read_keys(section: Section<'_>, report: &mut Report<'_>) -> Option<TaskSpec> {
    if section.get("name").is_none() {
        section.missing("name", "name = \"rte\"", report);
    }
    // Everything is read before anything is given up, so that every problem is found.
    let name = read_name(section, report);
    let format = match section.get("format") {
        None => Some(Format::Auto),
        Some(_) => {
            let formats = [Format::Auto, Format::Jsonl, Format::Tsv, Format::Csv, Format::Parquet];
            let names = ["auto", "jsonl", "tsv", "csv", "parquet"];
            let choices: Vec<_> = names.into_iter().zip(formats).collect();
            section.choice("format", &choices, &[], report)
        }
    };
    let train = files(section, "train", report);
    let validation = files(section, "validation", report);
    let test = files(section, "test", report);
    let dataset = optional(section, "dataset", report, dataset_name);
    let dataset_config = optional(section, "dataset_config", report, owned);
    check_dataset(section, report);
    let columns = columns(section, report);
    let template = optional(section, "template", report, owned);
    let label = optional(section, "label", report, owned);
    let labels = optional(section, "labels", report, read_labels);
    let metrics = optional(section, "metrics", report, list);
    let mut limit = |key| match section.get(key) {
        None => Some(None),
        Some(_) => section.whole(key, 1..=MAX_LIMIT, None, report).map(Some),
    };
    let train_limit = limit("train_limit");
    let validation_limit = limit("validation_limit");
    let test_limit = limit("test_limit");
    let header = optional(section, "header", report, flag);
    let add_prefix = optional(section, "add_prefix", report, flag);
    let k_shot = optional(section, "k_shot", report, |path, node, report| {
        small(path, node, 1..=MAX_SHOTS, report)
    });
    let k_shot_sampling = match section.get("k_shot_sampling") {
        None => Some(None),
        Some(_) => {
            let choices: Vec<_> = KShotSampling::ALL.iter().map(|s| (s.as_str(), *s)).collect();
            section.choice("k_shot_sampling", &choices, &[], report).map(Some)
        }
    };
    Some(TaskSpec {
        name: name?,
        format: format?,
        train: train?,
        validation: validation?,
        test: test?,
        dataset: dataset?,
        dataset_config: dataset_config?,
        columns: columns?,
        template: template?,
        label: label?,
        labels: labels?,
        metrics: metrics?,
        train_limit: train_limit?,
        validation_limit: validation_limit?,
        test_limit: test_limit?,
        k_shot: k_shot?,
        k_shot_sampling: k_shot_sampling?,
        header: header?,
        add_prefix: add_prefix?.unwrap_or(false),
    })
}

/// The name, on one line because messages and tables show it.
fn read_name(section: Section<'_>, report: &mut Report<'_>) -> Option<String> {
    let name = section.text("name", report)?;
    if !name.contains(char::is_control) && name.len() <= 100 {
        return Some(name.to_owned());
    }
    let at = section.get("name").map_or(section.at, |entry| entry.node.at);
    let message = format!("'{}' is no name for a task", shorten(name));
    report.add("task.name", at, message, "use one line of at most 100 bytes".to_owned());
    None
}

/// `Some(None)` when left out, `None` when wrong.
fn optional<T>(
    section: Section<'_>,
    key: &'static str,
    report: &mut Report<'_>,
    read: impl FnOnce(&str, &Node, &mut Report<'_>) -> Option<T>,
) -> Option<Option<T>> {
    match section.get(key) {
        None => Some(None),
        Some(entry) => read(&section.path(key), &entry.node, report).map(Some),
    }
}

fn owned(path: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    text(path, node, report).map(str::to_owned)
}

/// A string, or a list of strings.
fn list(path: &str, node: &Node, report: &mut Report<'_>) -> Option<Vec<String>> {
    match &node.value {
        Value::Text(_) => owned(path, node, report).map(|one| vec![one]),
        Value::List(items) => {
            let texts: Vec<Option<String>> = items
                .iter()
                .enumerate()
                .map(|(i, item)| owned(&format!("{path}[{i}]"), item, report))
                .collect();
            texts.into_iter().collect()
        }
        _ => {
            wrong_kind(path, node, "a string or a list of strings", report);
            None
        }
    }
}

fn files(section: Section<'_>, key: &'static str, report: &mut Report<'_>) -> Option<Vec<String>> {
    let names = optional(section, key, report, list).map(Option::unwrap_or_default)?;
    let wrong = |name: &&String| DatasetFile::is_one(name) && DatasetFile::parse(name).is_none();
    if let (Some(name), Some(entry)) = (names.iter().find(wrong), section.get(key)) {
        let message = format!("'{}' is no file of the hub", shorten(name));
        let hint = "write hf://datasets/ORG/NAME/PATH or hf://datasets/ORG/NAME@REVISION/PATH";
        report.add(section.path(key), entry.node.at, message, hint.to_owned());
        return None;
    }
    Some(names)
}

fn dataset_name(path: &str, node: &Node, report: &mut Report<'_>) -> Option<String> {
    let name = owned(path, node, report)?;
    if DatasetName::parse(&name).is_some() {
        return Some(name);
    }
    let message = format!("'{}' is no dataset of the hub", shorten(&name));
    report.add(path, node.at, message, "write ORG/NAME or ORG/NAME@REVISION".to_owned());
    None
}

/// A dataset brings all splits, and only a dataset has a configuration.
fn check_dataset(section: Section<'_>, report: &mut Report<'_>) {
    let dataset = section.get("dataset").is_some();
    let files = ["train", "validation", "test"].map(|key| (key, dataset));
    for (key, unfit) in files.into_iter().chain([("dataset_config", !dataset)]) {
        if let Some(entry) = section.get(key).filter(|_| unfit) {
            let (message, hint) = if dataset {
                let message = format!("'{key}' cannot stand beside 'dataset'");
                (message, "name all files, those of the hub as hf://datasets/ORG/NAME/PATH")
            } else {
                let message = "'dataset_config' needs 'dataset'".to_owned();
                (message, "add dataset = \"ORG/NAME\"")
            };
            report.add(section.path(key), entry.node.at, message, hint.to_owned());
        }
    }
}

fn columns(section: Section<'_>, report: &mut Report<'_>) -> Option<BTreeMap<String, String>> {
    let Some(entry) = section.get("columns") else { return Some(BTreeMap::new()) };
    let path = section.path("columns");
    let pairs = table(&path, &entry.node, "a table from field to column", report)?;
    Some(pairs.into_iter().collect())
}

fn read_labels(path: &str, node: &Node, report: &mut Report<'_>) -> Option<Labels> {
    if matches!(node.value, Value::List(_)) {
        return list(path, node, report).map(Labels::List);
    }
    let wanted = "a list of target texts, or a table from label to target text";
    table(path, node, wanted, report).map(Labels::Map)
}

fn table(
    path: &str,
    node: &Node,
    wanted: &str,
    report: &mut Report<'_>,
) -> Option<Vec<(String, String)>> {
    let Value::Table(entries) = &node.value else {
        wrong_kind(path, node, wanted, report);
        return None;
    };
    let pairs: Vec<Option<(String, String)>> = entries
        .iter()
        .map(|entry| {
            let value = owned(&format!("{path}.{}", shorten(&entry.key)), &entry.node, report)?;
            Some((entry.key.clone(), value))
        })
        .collect();
    pairs.into_iter().collect()
}

/// Resolves the task. What is wrong is noted and taken out, so that the next problem shows too.
fn resolve(
    task: &TaskSpec,
    section: Section<'_>,
    recipe: Recipe,
    report: &mut Report<'_>,
) -> Option<TaskDef> {
    let mut task = task.clone();
    let mut fine = true;
    // Each round takes one thing out; the bound only guards against a round that does not.
    for _ in 0..=task.columns.len().min(50) + 10 {
        match task.resolve(recipe) {
            Ok(def) => return fine.then_some(def),
            Err(error) => {
                fine = false;
                note(&error, section, report);
                if !take_out(&mut task, &error) {
                    return None;
                }
            }
        }
    }
    None
}

/// Whether something was taken out.
fn take_out(task: &mut TaskSpec, error: &TaskError) -> bool {
    match error {
        TaskError::BuiltInHasOwn { key: "template", .. } => task.template.take().is_some(),
        TaskError::BuiltInHasOwn { key: "label", .. } => task.label.take().is_some(),
        TaskError::BuiltInHasOwn { key: "labels", .. } => task.labels.take().is_some(),
        TaskError::UnknownField { field, .. } => task.columns.remove(field).is_some(),
        TaskError::UnknownMetric { .. } | TaskError::UnfitMetric { .. } => {
            task.metrics.take().is_some()
        }
        _ => false,
    }
}

fn note(error: &TaskError, section: Section<'_>, report: &mut Report<'_>) {
    let path = match error {
        TaskError::UnknownTask { .. } => "name".to_owned(),
        TaskError::BuiltInHasOwn { key, .. }
        | TaskError::NoRows { key, .. }
        | TaskError::KShot { key, .. } => (*key).to_owned(),
        TaskError::Template { .. } => "template".to_owned(),
        TaskError::UnknownField { field, .. } => format!("columns.{field}"),
        TaskError::UnknownMetric { .. } | TaskError::UnfitMetric { .. } => "metrics".to_owned(),
        TaskError::Labels { .. } => "labels".to_owned(),
        TaskError::Missing { key, .. } => (*key).to_owned(),
        TaskError::NoTrain { .. } | TaskError::NoFiles { .. } => "train".to_owned(),
        TaskError::UnknownSplit(_) => String::new(),
    };
    let at = super::locate::offset(section.entries, &path).unwrap_or(section.at);
    let (message, hint) = words(error);
    report.add(section.path(&path), at, message, hint);
}

/// An error of the task, as message and hint.
fn words(error: &TaskError) -> (String, String) {
    let meant = |suggestion: &Option<String>| {
        suggestion.as_ref().map(|name| format!("did you mean '{name}'? ")).unwrap_or_default()
    };
    match error {
        TaskError::UnknownTask { name, suggestion } => (
            format!("unknown task '{}'", shorten(name)),
            format!(
                "{}built-in tasks are {}; for your own data give 'template' and 'label'",
                meant(suggestion),
                crate::task::builtin_names().collect::<Vec<_>>().join(", ")
            ),
        ),
        TaskError::UnknownField { task, field, fields, suggestion } => (
            format!("columns.{} is not used by task '{task}'", shorten(field)),
            format!("{}its fields are {}", meant(suggestion), fields.join(", ")),
        ),
        other => {
            let text = match other.source() {
                Some(source) => format!("{other}: {source}"),
                None => other.to_string(),
            };
            // What follows a semicolon says what to do.
            match text.split_once("; ") {
                Some((message, hint)) => (message.to_owned(), hint.to_owned()),
                None => (text, String::new()),
            }
        }
    }
}
