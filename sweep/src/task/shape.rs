//! What some built-in tasks do to a row between file and template.

use super::Recipe;
use super::pad::pad_punctuation;

/// How a task's rows are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One row of the file is one example.
    Plain,
    /// `SuperGLUE`'s paragraph → questions → answers, one example per answer, or flat rows; HTML
    /// bold and line breaks are removed.
    MultiRc,
    /// Two spans of the text are marked.
    Wsc,
    /// `SuperGLUE` rows, or the original pair of `.data.txt` and `.gold.txt`.
    Wic,
    /// Questions about a context: punctuation stands apart, in the answers too.
    Qa {
        /// Whether the authors' code makes one text of all that is known about the answers.
        whole_answers: bool,
    },
    /// `ReCoRD`: queries about a passage, whose highlights become sentences; a list of entities
    /// is written with commas.
    Record,
    /// The fields from this one on are choices; the authors' code takes their first characters.
    Choices {
        /// Index into the task's fields.
        from: usize,
    },
}

impl Shape {
    /// A number for the rows that are judged, and kept, together: those of one question about one
    /// paragraph, given its texts in the order of the task's fields.
    pub(super) fn group(self, texts: &[String]) -> Option<u64> {
        let together = match (self, texts) {
            (Self::MultiRc, [question, _, paragraph]) => [question, paragraph],
            (Self::Record, [query, _, passage]) => [query, passage],
            _ => return None,
        };
        let mut hasher = blake3::Hasher::new();
        for text in together {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        let bytes = hasher.finalize();
        bytes.as_bytes().first_chunk().map(|first| u64::from_le_bytes(*first))
    }

    /// Edits the texts of one row, given in the order of the task's fields.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub(super) fn prepare(self, recipe: Recipe, texts: &mut [String]) -> Result<(), String> {
        match (self, texts) {
            (Self::Plain | Self::Wic, _) => Ok(()),
            (Self::MultiRc, texts) => {
                for text in texts {
                    *text = text.replace("<br>", " ").replace("<b>", "").replace("</b>", "");
                }
                Ok(())
            }
            (Self::Wsc, [text, span1, index1, span2, index2]) => {
                let mut spans =
                    [Span::read("span1", span1, index1)?, Span::read("span2", span2, index2)?];
                *text = match recipe {
                    Recipe::Reference => mark_as_reference(text, &mut spans),
                    Recipe::Default => mark(text, &spans)?,
                };
                Ok(())
            }
            (Self::Wsc, _) => Err("a row of this task has five fields".to_owned()),
            (Self::Qa { .. }, texts) => {
                texts.iter_mut().for_each(|text| *text = pad_punctuation(text, recipe));
                Ok(())
            }
            (Self::Record, texts) => {
                // Query and entities hold no highlights.
                texts.iter_mut().for_each(|text| *text = without_highlights(text));
                Ok(())
            }
            (Self::Choices { from }, texts) => {
                if recipe == Recipe::Reference {
                    for text in texts.iter_mut().skip(from) {
                        *text = text.chars().take(1).collect();
                    }
                }
                Ok(())
            }
        }
    }
}

/// Each highlight as a sentence of the text before it.
fn without_highlights(text: &str) -> String {
    const HIGHLIGHT: &str = "\n@highlight\n";
    let mut parts = text.split(HIGHLIGHT);
    let mut joined = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let ended = joined.ends_with(['.', '?', '!', '"', '\'']);
        joined.push_str(if ended { " " } else { ". " });
        joined.push_str(part);
    }
    joined
}

/// Words of a text, and the index of the first of them.
#[derive(Debug, Clone)]
struct Span {
    name: &'static str,
    text: String,
    index: usize,
}

impl Span {
    fn read(name: &'static str, text: &str, index: &str) -> Result<Self, String> {
        let index = index
            .trim()
            .parse()
            .map_err(|_| format!("{name}_index '{index}' is no whole number from 0"))?;
        if text.trim().is_empty() {
            return Err(format!("{name}_text is empty"));
        }
        Ok(Self { name, text: text.to_owned(), index })
    }
}

/// Puts `*` around the first span and `#` around the second, as the authors' data do: only where
/// the span stands exactly at its word index, words being separated by single spaces. A span whose
/// text occurs nowhere is first brought to the case of the word at its index and loses its final
/// full stops; one that is still not at its index stays unmarked.
fn mark_as_reference(text: &str, spans: &mut [Span; 2]) -> String {
    for span in spans.iter_mut() {
        if !text.contains(&span.text) {
            mend(text, span);
        }
    }
    let [first, second] = spans;
    let marked = mark_at(text, &first.text, first.index, '*');
    // The first marks are two words more in front of a later span, whether or not they were set.
    let shift = if first.index < second.index { 2 } else { 0 };
    mark_at(&marked, &second.text, second.index + shift, '#')
}

fn mend(text: &str, span: &mut Span) {
    let Some(word) = text.split_whitespace().nth(span.index) else { return };
    let mut chars = span.text.chars();
    let Some(first) = chars.next() else { return };
    let lower = word.chars().next().is_some_and(char::is_lowercase);
    let first: String =
        if lower { first.to_lowercase().collect() } else { first.to_uppercase().collect() };
    let mended = format!("{first}{}", chars.as_str());
    span.text = mended.trim_end_matches('.').replace('\n', " ");
}

/// Marks `span` where it begins exactly after `index` words that are each followed by one space.
fn mark_at(text: &str, span: &str, index: usize, mark: char) -> String {
    let mut rest = text;
    for _ in 0..index {
        match rest.split_once(char::is_whitespace) {
            Some((word, after)) if !word.is_empty() => rest = after,
            _ => return text.to_owned(),
        }
    }
    let before = text.strip_suffix(rest).unwrap_or_default();
    match rest.strip_prefix(span) {
        Some(after) => format!("{before}{mark} {span} {mark}{after}"),
        None => text.to_owned(),
    }
}

/// Marks both spans in every row: where the span's words occur nearest to its index, without
/// regard to case and punctuation, or else at the index itself.
fn mark(text: &str, spans: &[Span; 2]) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ranges = [locate(&words, &spans[0])?, locate(&words, &spans[1])?];
    let mut marked: Vec<String> = Vec::with_capacity(words.len() + 4);
    for (index, word) in words.iter().enumerate() {
        for (range, mark) in ranges.iter().zip(["*", "#"]) {
            if range.start == index {
                marked.push(mark.to_owned());
            }
        }
        // Punctuation behind the last word of a span belongs behind the mark.
        let (mut body, mut tail) = (*word, "");
        for (range, span) in ranges.iter().zip(spans) {
            if range.end == index + 1 && !span.text.trim_end().ends_with(is_punctuation) {
                let bare = word.trim_end_matches(is_punctuation);
                if !bare.is_empty() {
                    (body, tail) = word.split_at(bare.len());
                }
            }
        }
        marked.push(body.to_owned());
        let mut ends = String::new();
        for (range, mark) in ranges.iter().zip(["*", "#"]).rev() {
            if range.end == index + 1 {
                ends.push_str(if ends.is_empty() { "" } else { " " });
                ends.push_str(mark);
            }
        }
        if !ends.is_empty() {
            ends.push_str(tail);
            marked.push(ends);
        }
    }
    Ok(marked.join(" "))
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation()
}

/// The words that a span covers.
fn locate(words: &[&str], span: &Span) -> Result<std::ops::Range<usize>, String> {
    if span.index >= words.len() {
        return Err(format!(
            "{}_index {} is beyond the text's {} words",
            span.name,
            span.index,
            words.len()
        ));
    }
    let plain = |word: &str| word.trim_matches(is_punctuation).to_lowercase();
    let wanted: Vec<String> = span.text.split_whitespace().map(plain).collect();
    let length = wanted.len().max(1);
    let found = words
        .windows(length)
        .enumerate()
        .filter(|(_, window)| window.iter().zip(&wanted).all(|(a, b)| plain(a) == *b))
        .map(|(start, _)| start)
        // The first of two equally near.
        .min_by_key(|start| start.abs_diff(span.index));
    let start = found.unwrap_or(span.index);
    Ok(start..(start + length).min(words.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(recipe: Recipe, text: &str, one: (&str, &str), two: (&str, &str)) -> String {
        let mut texts = [text, one.0, one.1, two.0, two.1].map(str::to_owned);
        Shape::Wsc.prepare(recipe, &mut texts).unwrap();
        let [text, ..] = texts;
        text
    }

    #[test]
    fn both_recipes_mark_plain_rows_alike() {
        for recipe in [Recipe::Default, Recipe::Reference] {
            let text = marked(
                recipe,
                "Mark told Pete lies, which Pete put in. He erred.",
                ("Mark", "0"),
                ("He", "8"),
            );
            assert_eq!(text, "* Mark * told Pete lies, which Pete put in. # He # erred.");
            let text = marked(recipe, "They saw it .", ("it", "2"), ("They", "0"));
            assert_eq!(text, "# They # saw * it * .");
        }
    }

    #[test]
    fn case_is_mended() {
        for recipe in [Recipe::Default, Recipe::Reference] {
            let text =
                marked(recipe, "we ate the cake as it was big", ("The cake", "2"), ("it", "5"));
            assert_eq!(text, "we ate * the cake * as # it # was big");
        }
    }

    #[test]
    fn a_wrong_index_is_mended_by_default_only() {
        let row =
            |recipe| marked(recipe, "put it in the safe. It fits", ("safe", "2"), ("It", "5"));
        assert_eq!(row(Recipe::Default), "put it in the * safe *. # It # fits");
        // Not at its word, so unmarked; the second span is looked for two words further on.
        assert_eq!(row(Recipe::Reference), "put it in the safe. It fits");
    }

    #[test]
    fn an_index_beyond_the_text_is_a_bad_row() {
        let mut texts = ["one two", "one", "0", "two", "2"].map(str::to_owned);
        let problem = Shape::Wsc.prepare(Recipe::Default, &mut texts).unwrap_err();
        assert_eq!(problem, "span2_index 2 is beyond the text's 2 words");
        let mut texts = ["one two", "one", "-1", "two", "1"].map(str::to_owned);
        assert!(Shape::Wsc.prepare(Recipe::Default, &mut texts).is_err());
    }

    #[test]
    fn highlights_become_sentences() {
        let text = "One.\n@highlight\nTwo\n@highlight\nThree";
        assert_eq!(without_highlights(text), "One. Two. Three");
    }

    #[test]
    fn html_is_removed() {
        let mut texts = ["<b>Sent 1: </b>a<br>b".to_owned()];
        Shape::MultiRc.prepare(Recipe::Default, &mut texts).unwrap();
        assert_eq!(texts[0], "Sent 1: a b");
    }
}
