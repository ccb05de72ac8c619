//! Metrics over free-text answers, after SQuAD. Pairs are (prediction, target).

use std::collections::BTreeMap;

use super::percent;

/// Share of pairs that are equal once normalised, percent.
pub(super) fn exact_match(pairs: &[(&str, &str)]) -> f64 {
    let equal = pairs.iter().filter(|(p, t)| normalize_answer(p) == normalize_answer(t)).count();
    percent(equal, pairs.len())
}

/// F1 of the bags of words of the normalised texts, averaged over pairs, percent. Two empty texts
/// share no word, so they count 0 here although they are an exact match.
#[allow(clippy::cast_precision_loss)] // counts of words and rows are far below 2^53
pub(super) fn token_f1(pairs: &[(&str, &str)]) -> f64 {
    let sum: f64 = pairs
        .iter()
        .map(|(prediction, target)| {
            let (prediction, target) = (normalize_answer(prediction), normalize_answer(target));
            let (predicted, p_total) = bag(&prediction);
            let (wanted, t_total) = bag(&target);
            let shared: usize = predicted
                .iter()
                .map(|(word, count)| *count.min(wanted.get(word).unwrap_or(&0)))
                .sum();
            if shared == 0 { 0.0 } else { (2 * shared) as f64 / (p_total + t_total) as f64 }
        })
        .sum();
    100.0 * (sum / pairs.len() as f64)
}

fn bag(text: &str) -> (BTreeMap<&str, usize>, usize) {
    let mut counts = BTreeMap::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        *counts.entry(word).or_default() += 1;
    }
    let total = counts.values().sum();
    (counts, total)
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

    #[test]
    fn articles_are_whole_words() {
        assert_eq!(normalize_answer("The theme: an  Answer, a"), "theme answer");
    }

    #[test]
    fn two_empty_answers_match_but_share_no_word() {
        assert_eq!(exact_match(&[("", "")]), 100.0);
        assert_eq!(token_f1(&[("the", "")]), 0.0);
    }

    #[test]
    fn repeated_words_count_as_often_as_they_occur_in_both() {
        // 1 shared word, 2 predicted, 1 wanted.
        assert!((token_f1(&[("x x", "x")]) - 200.0 / 3.0).abs() < 1e-9);
    }
}
