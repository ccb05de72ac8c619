//! Holds what `examples/quickstart/data/README.md` promises of the demo's data set: enough
//! sentences, balanced classes, a varied vocabulary, and no text shared between sentences or files.

#![allow(clippy::panic, reason = "the readers of rows fail the test that calls them")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

const PARTS: [&str; 3] = ["train", "validation", "test"];
const MIN_SENTENCES: usize = 800;
const MIN_DISTINCT_WORDS: usize = 2_500;
/// Runs of this many words may occur in one sentence only.
const RUN: usize = 5;
/// Sentences are to be mostly within this many words, both ends included.
const USUAL_WORDS: std::ops::RangeInclusive<usize> = 8..=20;

struct Sentence {
    part: &'static str,
    /// One-based line within the part's file.
    line: usize,
    text: String,
    positive: bool,
    /// Lower-cased runs of `[a-z']`.
    words: Vec<String>,
}

impl Sentence {
    fn place(&self) -> String {
        format!("{}.jsonl:{}", self.part, self.line)
    }
}

fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split(|c: char| !(c.is_ascii_lowercase() || c == '\''))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The value of a field that must be there and be a string.
fn string_field<'a>(row: &'a Map<String, Value>, name: &str, place: &str) -> &'a str {
    match row.get(name) {
        Some(Value::String(value)) => value,
        other => panic!("{place}: {name} is {other:?}, not a string"),
    }
}

/// Reads all three files; fails on a row that is not exactly a text and a known label.
fn sentences() -> Vec<Sentence> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/data");
    let mut all = Vec::new();
    for part in PARTS {
        let path = folder.join(format!("{part}.jsonl"));
        let content = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
        for (index, line) in content.lines().enumerate() {
            let place = format!("{part}.jsonl:{}", index + 1);
            let row: Map<String, Value> = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{place} is not a JSON object: {error}"));
            assert_eq!(row.len(), 2, "{place} has other fields than text and sentiment");
            let text = string_field(&row, "text", &place).to_owned();
            let positive = match string_field(&row, "sentiment", &place) {
                "positive" => true,
                "negative" => false,
                other => panic!("{place}: unknown sentiment {other:?}"),
            };
            assert_eq!(text.trim(), text, "{place} has blanks at an end");
            let words = words(&text);
            all.push(Sentence { part, line: index + 1, text, positive, words });
        }
    }
    all
}

/// Both classes hold 45 to 55 % of the sentences.
fn assert_balanced<'a>(name: &str, sentences: impl Iterator<Item = &'a Sentence>) {
    let labels: Vec<bool> = sentences.map(|sentence| sentence.positive).collect();
    let positive = labels.iter().filter(|positive| **positive).count();
    assert!(
        positive * 100 >= labels.len() * 45 && positive * 100 <= labels.len() * 55,
        "{name}: {positive} of {} sentences are positive",
        labels.len()
    );
}

#[test]
fn there_are_enough_sentences_in_every_part() {
    let all = sentences();
    assert!(all.len() >= MIN_SENTENCES, "only {} sentences", all.len());
    for (part, least) in [("train", 500), ("validation", 100), ("test", 150)] {
        let count = all.iter().filter(|sentence| sentence.part == part).count();
        assert!(count >= least, "{part} has only {count} sentences");
    }
}

#[test]
fn classes_are_balanced_overall_and_in_every_part() {
    let all = sentences();
    assert_balanced("all parts", all.iter());
    for part in PARTS {
        assert_balanced(part, all.iter().filter(|sentence| sentence.part == part));
    }
}

#[test]
fn no_sentence_occurs_twice_in_or_across_parts() {
    let all = sentences();
    // By words, so that case and punctuation do not hide a repeat.
    let mut seen: HashMap<&[String], &Sentence> = HashMap::new();
    for sentence in &all {
        if let Some(earlier) = seen.insert(&sentence.words, sentence) {
            panic!("{} repeats {}: {}", sentence.place(), earlier.place(), sentence.text);
        }
    }
}

#[test]
fn no_two_sentences_share_five_consecutive_words() {
    let all = sentences();
    let mut owner: HashMap<&[String], usize> = HashMap::new();
    for (index, sentence) in all.iter().enumerate() {
        for run in sentence.words.windows(RUN) {
            let first = *owner.entry(run).or_insert(index);
            assert!(
                first == index,
                "{} and {} share {:?}",
                all[first].place(),
                sentence.place(),
                run.join(" ")
            );
        }
    }
}

#[test]
fn the_vocabulary_is_varied() {
    let all = sentences();
    let distinct: HashSet<&String> = all.iter().flat_map(|sentence| &sentence.words).collect();
    assert!(distinct.len() >= MIN_DISTINCT_WORDS, "only {} distinct words", distinct.len());

    // Varied openings, too: no first word starts more than a third of the sentences.
    let mut openings: BTreeMap<&str, usize> = BTreeMap::new();
    for sentence in &all {
        *openings.entry(sentence.words[0].as_str()).or_default() += 1;
    }
    for (word, count) in openings {
        assert!(count * 3 <= all.len(), "{count} sentences start with {word:?}");
    }
}

#[test]
fn sentences_have_an_ordinary_length() {
    let all = sentences();
    let usual = all.iter().filter(|sentence| USUAL_WORDS.contains(&sentence.words.len())).count();
    assert!(usual * 10 >= all.len() * 9, "only {usual} of {} sentences", all.len());
    for sentence in &all {
        let count = sentence.words.len();
        assert!((RUN..=40).contains(&count), "{} has {count} words", sentence.place());
    }
}
