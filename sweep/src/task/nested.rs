//! Records of published files that hold several rows each.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::read::Record;
use super::shape::Shape;

/// The rows of a record: itself, unless it is one of the nested forms that its task is published
/// in.
///
/// # Errors
/// What the record lacks.
pub(super) fn expand(shape: Shape, record: Record) -> Result<Vec<Record>, String> {
    match (shape, &record) {
        (Shape::MultiRc, Record::Object(object)) if object.contains_key("passage") => {
            multirc(object)
        }
        (Shape::Record, Record::Object(object)) if object.contains_key("qas") => queries(object),
        (Shape::Qa { .. }, Record::Object(object)) if object.contains_key("qas") => mrqa(object),
        // The first line of an MRQA file describes it.
        (Shape::Qa { .. }, Record::Object(object)) if object.contains_key("header") => {
            Ok(Vec::new())
        }
        _ => Ok(vec![record]),
    }
}

fn list<'a>(value: &'a Value, key: &str, of: &str) -> Result<&'a Vec<Value>, String> {
    let list = value.get(key).and_then(Value::as_array);
    list.ok_or_else(|| format!("{of} has no list '{key}'"))
}

fn row(cells: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Record {
    let cells = cells.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Record::Object(cells.collect())
}

/// `MultiRC`: one row per answer of each question about a paragraph.
fn multirc(object: &Map<String, Value>) -> Result<Vec<Record>, String> {
    let passage = object.get("passage").ok_or("no 'passage'")?;
    let paragraph = passage.get("text").cloned().ok_or("the passage has no 'text'")?;
    let mut rows = Vec::new();
    for question in list(passage, "questions", "the passage")? {
        let text = question.get("question").cloned().ok_or("a question has no 'question'")?;
        for answer in list(question, "answers", "a question")? {
            rows.push(row([
                ("paragraph", Some(paragraph.clone())),
                ("question", Some(text.clone())),
                ("answer", answer.get("text").cloned()),
                ("label", answer.get("label").cloned()),
            ]));
        }
    }
    if rows.is_empty() {
        return Err("the passage has no answers".to_owned());
    }
    Ok(rows)
}

/// `ReCoRD`: one row per query about a passage, whose entities are given by their places.
fn queries(object: &Map<String, Value>) -> Result<Vec<Record>, String> {
    let passage = object.get("passage").ok_or("no 'passage'")?;
    let text = passage.get("text").and_then(Value::as_str).ok_or("the passage has no 'text'")?;
    let characters: Vec<char> = text.chars().collect();
    let mut entities = BTreeSet::new();
    for entity in list(passage, "entities", "the passage")? {
        let place = |key: &str| {
            let place = entity.get(key).and_then(Value::as_u64);
            place.and_then(|place| usize::try_from(place).ok())
        };
        let span = place("start").zip(place("end"));
        // The last character belongs to the entity.
        let span = span.and_then(|(start, end)| characters.get(start..=end));
        let span = span.ok_or("an entity of the passage lies outside of its text")?;
        entities.insert(span.iter().collect::<String>());
    }
    let entities: Value = entities.into_iter().collect();
    let whole = Value::Object(object.clone());
    let mut rows = Vec::new();
    for question in list(&whole, "qas", "the row")? {
        let answers = question.get("answers").and_then(Value::as_array).map(|answers| {
            let texts = answers.iter().filter_map(|answer| answer.get("text")?.as_str());
            texts.collect::<BTreeSet<_>>().into_iter().collect::<Value>()
        });
        rows.push(row([
            ("query", question.get("query").cloned()),
            ("entities", Some(entities.clone())),
            ("passage", Some(text.into())),
            ("answers", answers),
        ]));
    }
    Ok(rows)
}

/// The MRQA files: one row per question about a context.
fn mrqa(object: &Map<String, Value>) -> Result<Vec<Record>, String> {
    let context = object.get("context").ok_or("no 'context'")?;
    let whole = Value::Object(object.clone());
    let rows = list(&whole, "qas", "the row")?.iter().map(|question| {
        row([
            ("context", Some(context.clone())),
            ("question", question.get("question").cloned()),
            ("answers", question.get("answers").cloned()),
        ])
    });
    Ok(rows.collect())
}
