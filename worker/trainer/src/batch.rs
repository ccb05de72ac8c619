//! Batches of token ids, checked and laid out as tensors.

use tch::{TchError, Tensor};

use crate::model::{Model, lowest};

/// One row: token ids of the input and of the target, both with their end token, without
/// padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// 1 to s ids.
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
    fn length(self, longest: usize, max_length: usize) -> usize {
        match self {
            Self::Longest { multiple } => longest.next_multiple_of(multiple.max(1)).min(max_length),
            Self::MaxLength => max_length,
        }
    }
}

impl Batch {
    /// Refuses what the model cannot take.
    pub(crate) fn check(&self, model: &Model, max_length: usize) -> Result<(), BatchError> {
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
            if length > max_length {
                return Err(BatchError::TooLong { row, length, max_length });
            }
            let vocabulary = model.vocab_size();
            let mut ids = example.input_ids.iter().chain(&example.labels);
            if let Some(&id) = ids.find(|&&id| id < 0 || id as usize >= vocabulary) {
                return Err(BatchError::UnknownToken { row, id, vocabulary });
            }
        }
        Ok(())
    }

    /// Label tokens of all rows: the denominator of the loss.
    pub fn label_tokens(&self) -> usize {
        self.examples.iter().map(|example| example.labels.len()).sum()
    }

    /// Numbers of the rows in groups of similar length (each sorted by length), so that each
    /// group can be cut to its own longest row: at most `most` groups, chosen for the fewest
    /// padded positions, where a row costs its length plus `overhead` (the prompt) and a group
    /// beyond the first must save a twentieth of the whole.
    pub(crate) fn groups(&self, most: usize, overhead: usize) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.examples.len()).collect();
        let length = |row: usize| self.examples.get(row).map_or(0, |e| e.input_ids.len());
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
fn cheapest_cuts(lengths: &[usize], most: usize) -> Vec<usize> {
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

/// A batch (or a group of its rows) as tensors.
pub(crate) struct Collated {
    /// [B, L]
    pub(crate) input_ids: Tensor,
    /// Additive mask of the text positions, [1, B, 1, 1, L]; none when nothing is padded.
    pub(crate) mask: Option<Tensor>,
    /// Labels shifted right behind the start token, [B, T].
    pub(crate) decoder_ids: Tensor,
    /// Places of the label tokens in the flattened [B * T], and the tokens, [n] each.
    pub(crate) label_places: Tensor,
    pub(crate) labels: Tensor,
}

impl Collated {
    /// Lays out the given rows (all, if none are given) of a checked batch.
    pub(crate) fn new(
        examples: &[&Example],
        padding: Padding,
        max_length: usize,
        model: &Model,
    ) -> Result<Self, TchError> {
        let (kind, device) = (model.kind(), model.device());
        let pad = i64::from(model.config().pad_token_id());
        let longest = |part: fn(&Example) -> usize| examples.iter().map(|e| part(e)).max();
        let rows = examples.len();
        let width = longest(|e| e.input_ids.len()).unwrap_or(0);
        let width = padding.length(width, max_length);
        let target = longest(|e| e.labels.len()).unwrap_or(0);

        let mut input_ids = Vec::with_capacity(rows * width);
        let mut mask = Vec::with_capacity(rows * width);
        let mut decoder_ids = Vec::with_capacity(rows * target);
        let (mut places, mut labels) = (Vec::new(), Vec::new());
        for (row, example) in examples.iter().enumerate() {
            let end = (row + 1) * width;
            input_ids.extend_from_slice(&example.input_ids);
            mask.resize(input_ids.len(), 0f64);
            input_ids.resize(end, pad);
            mask.resize(end, lowest(kind));
            let start = (row * target) as i64;
            places.extend((start..).take(example.labels.len()));
            labels.extend_from_slice(&example.labels);
            decoder_ids.push(model.start_token());
            decoder_ids.extend(example.labels.iter().take(example.labels.len() - 1));
            decoder_ids.resize((row + 1) * target, pad);
        }
        let padded = mask.iter().any(|&value| value != 0.0);
        let (rows, width, target) = (rows as i64, width as i64, target as i64);
        let ids = |ids: &[i64]| Tensor::f_from_slice(ids)?.f_to_device(device);
        let mask = if padded {
            let mask = Tensor::f_from_slice(&mask)?.f_to_kind(kind)?.f_to_device(device)?;
            Some(mask.f_view([1, rows, 1, 1, width])?)
        } else {
            None
        };
        Ok(Self {
            input_ids: ids(&input_ids)?.f_view([rows, width])?,
            mask,
            decoder_ids: ids(&decoder_ids)?.f_view([rows, target])?,
            label_places: ids(&places)?,
            labels: ids(&labels)?,
        })
    }
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
        assert_eq!(batch.groups(1, 0).len(), 1);
        let groups = batch.groups(3, 0);
        assert_eq!(groups, [vec![7, 0, 4, 2], vec![5, 6], vec![3, 1]]);
        assert!(cost(&groups) < cost(&batch.groups(2, 0)));
        let mut rows: Vec<usize> = batch.groups(4, 20).concat();
        rows.sort_unstable();
        assert_eq!(rows, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn equal_rows_stay_together() {
        assert_eq!(batch(&[7; 6]).groups(4, 3).len(), 1);
    }
}
