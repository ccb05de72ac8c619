//! Rows of token ids laid out as tensors: text, its positions, its rows of A, and the labels.
//!
//! Text stands on the left and padding on the right, whatever the reference does: a position's
//! number and its row of A are given apart from its place. For T5 the answer is apart from the
//! text. A decoder has one sequence: text, answer. There the reference pads to s tokens on the
//! left, so that a sequence of n tokens meets the *last* n rows of A, and in training (though
//! not in generation) the positions m+s-n..m+s-1; what is longer than s loses its end.
//! deptune's own recipe counts real tokens alone: text token i has row i of A and position m+i
//! in training and generation alike, and the answer follows without rows of A.

use deptune_sweep::task::Recipe;
use tch::{TchError, Tensor};

use crate::batch::{Example, Padding};
use crate::cuda::upload;
use crate::model::Model;
use crate::model::layers::lowest;

/// What of a decoder's sequence is laid out. For T5 the two are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text and answer, for the loss.
    Whole,
    /// The text alone, for what follows it.
    Text,
}

/// Which rows of A the places of a batch meet.
pub(crate) enum Offsets {
    /// Place i meets row i.
    Aligned,
    /// Place i meets row i where this mask [1, B, L, 1] is 1, and none where it is 0.
    Masked(Tensor),
    /// Numbers of the rows, [B · L].
    Rows(Tensor),
}

/// How rows are laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) part: Part,
    pub(crate) recipe: Recipe,
    pub(crate) padding: Padding,
    /// s
    pub(crate) max_length: usize,
    /// Places of the prompt, in front of every row.
    pub(crate) prompt: usize,
}

/// A batch (or a group of its rows) as tensors.
pub(crate) struct Collated {
    /// [B, L]
    pub(crate) input_ids: Tensor,
    /// Additive mask of the text, [1, B, 1, 1, L]; none when nothing is padded, or when padding
    /// is hidden by standing behind all that counts.
    pub(crate) mask: Option<Tensor>,
    pub(crate) offsets: Offsets,
    /// What is added to the places' numbers to give positions, row by row.
    pub(crate) shifts: Vec<i64>,
    /// Tokens of each row that are no padding.
    pub(crate) lengths: Vec<i64>,
    /// Answers shifted right behind the start token, [B, T].
    pub(crate) answer_ids: Tensor,
    /// Whether `label_places` are places in the whole sequences, prompt included, flattened from
    /// [B · (m + L)], or in the answers, flattened from [B · T].
    pub(crate) in_sequence: bool,
    /// From where the label tokens are predicted, [n].
    pub(crate) label_places: Tensor,
    /// The label tokens, [n].
    pub(crate) labels: Tensor,
}

impl Rules {
    /// Label tokens of a row that count: those that the reference does not cut off.
    pub(crate) fn labels(&self, model: &Model, example: &Example) -> usize {
        let labels = example.labels.len();
        if model.is_decoder() && self.recipe == Recipe::Reference {
            labels.min(self.max_length.saturating_sub(example.input_ids.len()))
        } else {
            labels
        }
    }

    /// The tokens of a row that pass through the model, and their distance from row 0 of A (and,
    /// in the reference's training, from position m).
    fn tokens<'a>(&self, model: &Model, example: &'a Example) -> (Vec<&'a [i64]>, usize) {
        let (text, labels) = (example.input_ids.as_slice(), example.labels.as_slice());
        if !model.is_decoder() {
            return (vec![text], 0);
        }
        let counted = self.labels(model, example);
        // The last label is only predicted.
        let seen = labels.get(..counted.saturating_sub(1)).unwrap_or_default();
        match (self.recipe, self.part) {
            (Recipe::Default, Part::Text) => (vec![text], 0),
            (Recipe::Default, Part::Whole) => (vec![text, seen], 0),
            (Recipe::Reference, part) => {
                let text = text.get(..self.max_length).unwrap_or(text);
                match part {
                    Part::Text => (vec![text], self.max_length - text.len()),
                    Part::Whole => (vec![text, seen], self.max_length - text.len() - counted),
                }
            }
        }
    }
}

impl Collated {
    /// Lays out checked rows.
    pub(crate) fn new(
        examples: &[&Example],
        rules: &Rules,
        model: &Model,
    ) -> Result<Self, TchError> {
        let (kind, device) = (model.kind(), model.device());
        let pad = i64::from(model.config().pad_token_id());
        let rows: Vec<(Vec<&[i64]>, usize)> =
            examples.iter().map(|example| rules.tokens(model, example)).collect();
        let lengths: Vec<usize> =
            rows.iter().map(|(parts, _)| parts.iter().map(|part| part.len()).sum()).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        // Behind s tokens of text there may be an answer.
        let most = longest.max(rules.max_length);
        let width = rules.padding.length(longest, most);
        let most_labels = examples.iter().map(|e| e.labels.len()).max().unwrap_or(0);
        let whole = model.is_decoder() && rules.part == Part::Whole;

        let mut input_ids = Vec::with_capacity(rows.len() * width);
        let mut answer_ids = Vec::with_capacity(rows.len() * most_labels);
        let (mut places, mut labels) = (Vec::new(), Vec::new());
        for (row, (example, (parts, _))) in examples.iter().zip(&rows).enumerate() {
            parts.iter().for_each(|part| input_ids.extend_from_slice(part));
            input_ids.resize((row + 1) * width, pad);
            let counted = rules.labels(model, example);
            let first = if whole {
                let text = parts.first().map_or(0, |text| text.len());
                (row * (rules.prompt + width) + rules.prompt + text).saturating_sub(1)
            } else {
                row * most_labels
            };
            places.extend((first as i64..).take(counted));
            labels.extend(example.labels.iter().take(counted));
            answer_ids.push(model.start_token());
            answer_ids.extend(example.labels.iter().take(example.labels.len() - 1));
            answer_ids.resize((row + 1) * most_labels, pad);
        }

        let size = rows.len() as i64;
        let ids = |ids: &[i64]| upload(Tensor::f_from_slice(ids)?, device);
        let per_place = |value: &dyn Fn(usize, usize) -> f64, shape: &[i64]| {
            let values: Vec<f64> = (0..rows.len())
                .flat_map(|row| (0..width).map(move |place| (row, place)))
                .map(|(row, place)| value(row, place))
                .collect();
            upload(Tensor::f_from_slice(&values)?.f_to_kind(kind)?, device)?.f_view(shape)
        };
        let length = |row: usize| lengths.get(row).copied().unwrap_or(0);
        let mask = if whole || lengths.iter().all(|&length| length == width) {
            None
        } else {
            let hidden = |row, place| if place < length(row) { 0.0 } else { lowest(kind) };
            Some(per_place(&hidden, &[1, size, 1, 1, width as i64])?)
        };
        let offsets = match rules.recipe {
            Recipe::Reference if model.is_decoder() => {
                let last = rules.max_length.saturating_sub(1);
                let row_of_a = |&(_, start): &(Vec<&[i64]>, usize)| {
                    (start..).take(width).map(move |row| row.min(last) as i64)
                };
                Offsets::Rows(ids(&rows.iter().flat_map(row_of_a).collect::<Vec<i64>>())?)
            }
            _ if whole => {
                let text = |row: usize| examples.get(row).map_or(0, |e| e.input_ids.len());
                let met = |row, place| if place < text(row) { 1.0 } else { 0.0 };
                Offsets::Masked(per_place(&met, &[1, size, width as i64, 1])?)
            }
            _ => Offsets::Aligned,
        };
        let shift = |&(_, start): &(Vec<&[i64]>, usize)| if whole { start as i64 } else { 0 };
        Ok(Self {
            input_ids: ids(&input_ids)?.f_view([size, width as i64])?,
            mask,
            offsets,
            shifts: rows.iter().map(shift).collect(),
            lengths: lengths.iter().map(|&length| length as i64).collect(),
            answer_ids: ids(&answer_ids)?.f_view([size, most_labels as i64])?,
            in_sequence: whole,
            label_places: ids(&places)?,
            labels: ids(&labels)?,
        })
    }
}
