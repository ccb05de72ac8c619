//! Metrics over free-text answers, after SQuAD.

use std::collections::BTreeMap;

/// A normalised text as a bag of words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bag {
    text: String,
    counts: BTreeMap<String, usize>,
    words: usize,
}

impl Bag {
    pub(super) fn new(text: &str) -> Self {
        let text = normalize_answer(text);
        let mut counts = BTreeMap::new();
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
        let words = counts.values().sum();
        Self { text, counts, words }
    }

    /// 1 if both are equal once normalised, else 0.
    pub(super) fn exact_match(&self, gold: &Self) -> f64 {
        if self.text == gold.text { 1.0 } else { 0.0 }
    }

    /// F1 of the two bags: twice the words that they share (a repeated word as often as it occurs
    /// in both) over the words of both; `empty` where both are empty.
    #[allow(clippy::cast_precision_loss)] // counts of words are far below 2^53
    pub(super) fn f1(&self, gold: &Self, empty: f64) -> f64 {
        let total = self.words + gold.words;
        if total == 0 {
            return empty;
        }
        let in_both = |(word, count): (&String, &usize)| {
            gold.counts.get(word).map_or(0, |other| *count.min(other))
        };
        let shared: usize = self.counts.iter().map(in_both).sum();
        (2 * shared) as f64 / total as f64
    }
}

/// Lower case, without ASCII punctuation, without the articles a, an and the, and with single
/// spaces: the form in which SQuAD compares answers.
#[must_use]
pub fn normalize_answer(text: &str) -> String {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut without_articles = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        // An article is a whole run of letters and digits: "a-b" has lost its dash by now, but
        // other scripts' punctuation still ends a word.
        let in_word = first.is_alphanumeric();
        let end = rest.find(|c: char| c.is_alphanumeric() != in_word).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        without_articles.push_str(if matches!(run, "a" | "an" | "the") { " " } else { run });
        rest = after;
    }
    let words: Vec<&str> = without_articles.split_whitespace().collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f1(prediction: &str, gold: &str, empty: f64) -> f64 {
        Bag::new(prediction).f1(&Bag::new(gold), empty)
    }

    #[test]
    fn articles_are_whole_words() {
        assert_eq!(normalize_answer("The theme: an  Answer, a"), "theme answer");
    }

    #[test]
    fn two_empty_answers_match_and_share_what_is_asked_for() {
        assert_eq!(Bag::new("").exact_match(&Bag::new("a")), 1.0);
        assert_eq!((f1("the", "", 0.0), f1("the", "", 1.0), f1("x", "", 1.0)), (0.0, 1.0, 0.0));
    }

    #[test]
    fn repeated_words_count_as_often_as_they_occur_in_both() {
        // 1 shared word, 2 predicted, 1 wanted.
        assert!((f1("x x", "x", 0.0) - 2.0 / 3.0).abs() < 1e-12);
    }
}
