//! Batches of token ids, checked and grouped.

use deptune_sweep::task::Recipe;

use crate::model::Model;

/// One row: token ids of the input (for T5 with its end token) and of the target with its end
/// token, without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// 1 to s ids; more where the reference's recipe cuts a decoder's rows itself.
    pub input_ids: Vec<i64>,
    /// 1 or more ids.
    pub labels: Vec<i64>,
}

/// Rows that pass through the model together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The rows.
    pub examples: Vec<Example>,
}

/// What a batch must not be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BatchError {
    /// No rows, or no micro-batches.
    #[error("the batch is empty")]
    Empty,
    /// An input or target without tokens.
    #[error("row {row} of the batch has no {part}")]
    EmptyRow {
        /// Number of the row, from 0.
        row: usize,
        /// "input tokens" or "label tokens".
        part: &'static str,
    },
    /// An input longer than s; A has no rows for the rest.
    #[error(
        "row {row} of the batch has {length} input tokens, more than max_length = {max_length}"
    )]
    TooLong {
        /// Number of the row, from 0.
        row: usize,
        /// Its tokens.
        length: usize,
        /// s
        max_length: usize,
    },
    /// Prompt, text and answer have more tokens than the model has positions.
    #[error(
        "row {row} of the batch needs {needed} positions for prompt, text and answer, the model \
         has {available}; lower prompt_length or max_length"
    )]
    Positions {
        /// Number of the row, from 0.
        row: usize,
        /// m + tokens of text and answer.
        needed: usize,
        /// What the model has.
        available: usize,
    },
    /// A token id outside of the embedding.
    #[error("row {row} of the batch has token id {id}; the model's vocabulary has {vocabulary}")]
    UnknownToken {
        /// Number of the row, from 0.
        row: usize,
        /// The id.
        id: i64,
        /// Rows of the embedding.
        vocabulary: usize,
    },
}

/// How far the rows of a batch are padded. Padding never changes the result beyond rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// To the longest row, rounded up to a multiple, at most s.
    Longest {
        /// 1 or more.
        multiple: usize,
    },
    /// To s, as the reference does.
    MaxLength,
}

impl Padding {
    pub(crate) fn length(self, longest: usize, max_length: usize) -> usize {
        match self {
            Self::Longest { multiple } => longest.next_multiple_of(multiple.max(1)).min(max_length),
            Self::MaxLength => max_length,
        }
    }
}

/// What a batch must keep to.
#[derive(Clone, Copy)]
pub(crate) struct Limits<'a> {
    pub(crate) model: &'a Model,
    pub(crate) recipe: Recipe,
    /// s
    pub(crate) max_length: usize,
    /// m, the longest of the pack.
    pub(crate) prompt: usize,
    /// Tokens of a free answer, where one is to be generated.
    pub(crate) answer: usize,
}

impl Limits<'_> {
    /// A decoder's rows may be longer than s where the reference cuts them.
    fn cuts(&self) -> bool {
        self.model.is_decoder() && self.recipe == Recipe::Reference
    }

    fn positions(&self, row: usize, example: &Example) -> Result<(), BatchError> {
        let Some(available) = self.model.max_positions() else { return Ok(()) };
        let answer = example.labels.len().max(self.answer);
        let text = match self.recipe {
            Recipe::Default => example.input_ids.len() + answer,
            // Padding counts in training.
            Recipe::Reference => {
                self.max_length.max(example.input_ids.len().min(self.max_length) + self.answer)
            }
        };
        let needed = self.prompt + text;
        if needed > available {
            return Err(BatchError::Positions { row, needed, available });
        }
        Ok(())
    }
}

impl Batch {
    /// Refuses what the model cannot take.
    pub(crate) fn check(&self, limits: &Limits<'_>) -> Result<(), BatchError> {
        let Limits { model, max_length, .. } = *limits;
        if self.examples.is_empty() {
            return Err(BatchError::Empty);
        }
        for (row, example) in self.examples.iter().enumerate() {
            let length = example.input_ids.len();
            if length == 0 {
                return Err(BatchError::EmptyRow { row, part: "input tokens" });
            }
            if example.labels.is_empty() {
                return Err(BatchError::EmptyRow { row, part: "label tokens" });
            }
            if length > max_length && !limits.cuts() {
                return Err(BatchError::TooLong { row, length, max_length });
            }
            let vocabulary = model.vocab_size();
            let mut ids = example.input_ids.iter().chain(&example.labels);
            if let Some(&id) = ids.find(|&&id| id < 0 || id as usize >= vocabulary) {
                return Err(BatchError::UnknownToken { row, id, vocabulary });
            }
            limits.positions(row, example)?;
        }
        Ok(())
    }

    /// Label tokens of all rows: the denominator of the loss, unless some are cut off (see
    /// [`crate::Pack::label_tokens`]).
    pub fn label_tokens(&self) -> usize {
        self.examples.iter().map(|example| example.labels.len()).sum()
    }

    /// Numbers of the rows in groups of similar length (each sorted by length), so that each
    /// group can be cut to its own longest row: at most `most` groups, chosen for the fewest
    /// padded positions, where a row costs its length (with its labels, where they are `joined`
    /// to the input) plus `overhead` (the prompt) and a group beyond the first must save a
    /// twentieth of the whole.
    pub(crate) fn groups(&self, most: usize, overhead: usize, joined: bool) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        let labels = |e: &Example| if joined { e.labels.len() } else { 0 };
        let length =
            |row: usize| self.examples.get(row).map_or(0, |e| e.input_ids.len() + labels(e));
        order.sort_by_key(|&row| (length(row), row));
        let lengths: Vec<usize> = order.iter().map(|&row| length(row) + overhead).collect();
        let cuts = cheapest_cuts(&lengths, most);
        let mut rest = order.as_slice();
        let mut groups = Vec::new();
        for size in cuts {
            let (group, tail) = rest.split_at(size.min(rest.len()));
            groups.push(group.to_vec());
            rest = tail;
        }
        groups
    }
}

/// Sizes of the groups that sorted `lengths` are cut into.
pub(crate) fn cheapest_cuts(lengths: &[usize], most: usize) -> Vec<usize> {
    let rows = lengths.len();
    let whole = rows * lengths.last().copied().unwrap_or(0);
    let penalty = whole / 20;
    // best[n] = (cost of the first n rows, size of their last group), one more group per round.
    let mut rounds: Vec<Vec<(usize, usize)>> = vec![
        std::iter::once((0, 0))
            .chain(lengths.iter().zip(1..).map(|(&longest, size)| (size * longest, size)))
            .collect(),
    ];
    for round in 1..most.max(1) {
        let previous = &rounds[round - 1];
        let mut next = previous.clone();
        for (end, &longest) in lengths.iter().enumerate() {
            let end = end + 1;
            for size in 1..end {
                let cost = previous[end - size].0 + size * longest + penalty;
                if cost < next[end].0 {
                    next[end] = (cost, size);
                }
            }
        }
        rounds.push(next);
    }
    let mut sizes = Vec::new();
    let (mut end, mut round) = (rows, rounds.len() - 1);
    while end > 0 {
        let size = rounds[round][end].1;
        sizes.push(size);
        end -= size;
        round = round.saturating_sub(1);
    }
    sizes.reverse();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lengths: &[usize]) -> Batch {
        let row = |&n: &usize| Example { input_ids: vec![3; n], labels: vec![4, 1] };
        Batch { examples: lengths.iter().map(row).collect() }
    }

    #[test]
    fn groups_hold_every_row_once_and_save_padding() {
        let lengths = [10, 64, 12, 60, 11, 30, 31, 9];
        let batch = batch(&lengths);
        let cost = |groups: &[Vec<usize>]| -> usize {
            groups.iter().map(|g| g.len() * g.iter().map(|&r| lengths[r]).max().unwrap()).sum()
        };
        assert_eq!(batch.groups(1, 0, false).len(), 1);
        let groups = batch.groups(3, 0, false);
        assert_eq!(groups, [vec![7, 0, 4, 2], vec![5, 6], vec![3, 1]]);
        assert!(cost(&groups) < cost(&batch.groups(2, 0, false)));
        let mut rows: Vec<usize> = batch.groups(4, 20, true).concat();
        rows.sort_unstable();
        assert_eq!(rows, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn equal_rows_stay_together() {
        assert_eq!(batch(&[7; 6]).groups(4, 3, false).len(), 1);
    }
}
