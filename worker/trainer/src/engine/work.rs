//! One thread's share of an update: some rows of some trials, forward and backward.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tch::TchError;

use super::buffer::{Buffer, Pool};
use super::decoder::{Decoded, Decoder, DecoderRow, Memory};
use super::element::Element;
use super::encoder::{Encoder, EncoderMasks, SavedEncoder};
use super::layout::Layout;
use super::products::{Matrices, each, rows};
use super::weights::{Sizes, Weights};
use super::{Row, Task, Trial};
use crate::dropout::{Axis, Law};

/// Most bytes of activations that are kept for the way back at a time, unless those of one row
/// are more.
const WAVE: usize = 1 << 30;

/// Rows (by their places in the task) of one trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) trial: usize,
    /// Which of the task's chunks of rows.
    pub(super) chunk: usize,
}

/// What an item adds to its trial's loss and gradients.
pub(super) struct Part {
    pub(super) trial: usize,
    /// Cross-entropies summed, times the task's factor.
    pub(super) loss: f64,
    /// [m, d]
    pub(super) prompt: Vec<f32>,
    /// [longest text, r]
    pub(super) a: Vec<f32>,
    /// [r, d]
    pub(super) b: Vec<f32>,
}

struct Lay {
    layout: Layout,
    rows: Vec<(u32, Axis)>,
}

/// Computes items one wave after the other.
pub(super) fn work<E: Element>(
    weights: &Weights,
    task: &Task,
    items: &[Item],
    pool: &mut Pool,
) -> Result<Vec<Part>, TchError> {
    let law = Law::new(task.dropout);
    let mut lays: HashMap<(usize, usize), Lay> = HashMap::new();
    for &Item { trial, chunk } in items {
        let m = task.trial(trial)?.prompt_length;
        lays.entry((chunk, m)).or_insert_with(|| {
            let axis = |row: &Row| Axis { prompt: m, text: row.input_ids.len() };
            let rows: Vec<_> = task.rows(chunk).map(|row| (row.number, axis(row))).collect();
            let lengths: Vec<usize> = rows.iter().map(|(_, axis)| axis.len()).collect();
            Lay { layout: Layout::new(&lengths), rows }
        });
    }
    let mut masks: HashMap<(usize, usize, u64), EncoderMasks> = HashMap::new();
    for &Item { trial, chunk } in items.iter().filter(|_| task.dropout > 0.0) {
        let Trial { prompt_length: m, seed, .. } = *task.trial(trial)?;
        if let (Entry::Vacant(place), Some(lay)) =
            (masks.entry((chunk, m, seed)), lays.get(&(chunk, m)))
        {
            let tokens = lay.layout.tokens;
            place.insert(EncoderMasks::new(&law, weights, seed, task.step, &lay.rows, tokens));
        }
    }
    let mut parts = Vec::with_capacity(items.len());
    let mut rest = items;
    while !rest.is_empty() {
        let size = wave::<E>(weights, task, rest, &lays)?;
        let (items, after) = rest.split_at(size);
        rest = after;
        let mut encoders = Vec::with_capacity(items.len());
        for item in items {
            let Trial { prompt_length: m, seed, .. } = *task.trial(item.trial)?;
            let Some(lay) = lays.get(&(item.chunk, m)) else { continue };
            let masks = masks.get(&(item.chunk, m, seed));
            let layout = &lay.layout;
            encoders.push(Encoder { weights, layout, law: &law, masks, keep: true });
        }
        let wave = Wave { weights, task, items, encoders, law: &law };
        parts.extend(wave.run::<E>(pool)?);
    }
    Ok(parts)
}

/// How many of the next items are computed together.
fn wave<E>(
    weights: &Weights,
    task: &Task,
    items: &[Item],
    lays: &HashMap<(usize, usize), Lay>,
) -> Result<usize, TchError> {
    let mut bytes = 0;
    for (count, item) in items.iter().enumerate() {
        let Some(lay) = lays.get(&(item.chunk, task.trial(item.trial)?.prompt_length)) else {
            continue;
        };
        let labels = task.rows(item.chunk).map(|row| row.labels.len()).max().unwrap_or(0);
        bytes += kept_bytes::<E>(weights, &lay.layout, labels);
        if bytes > WAVE && count > 0 {
            return Ok(count);
        }
    }
    Ok(items.len())
}

/// Most tokens of an item, so that what it keeps is no more than a wave, for rows of at most
/// `longest` tokens.
pub(super) fn most_tokens<E>(weights: &Weights, longest: usize) -> usize {
    let layout = Layout::new(&[longest.max(1)]);
    let bytes = kept_bytes::<E>(weights, &layout, 0);
    WAVE / (bytes / longest.max(1)).max(1)
}

/// Bytes that an item keeps for the way back: of the encoder, and of cross-attention (weights and
/// gradients of scores, gradients of sums and queries).
fn kept_bytes<E>(weights: &Weights, layout: &Layout, labels: usize) -> usize {
    let Sizes { d, heads, .. } = weights.sizes;
    let Layout { padded, pairs, spans, .. } = layout;
    let attention = padded * (2 * d + 3 * weights.sizes.inner()) + pairs * heads;
    let encoder = weights.encoder.iter().map(|(_, feed_forward)| {
        let inner = padded * feed_forward.width;
        let (numbers, bits) = if feed_forward.gated { (2 * inner, 0) } else { (0, inner / 8) };
        (attention + numbers) * size_of::<E>() + bits
    });
    let queries = 2 * weights.decoder.len() * heads * labels;
    let crossed = queries * (padded + spans.len() * d) * size_of::<E>();
    encoder.sum::<usize>() + crossed
}

struct Wave<'a> {
    weights: &'a Weights,
    task: &'a Task,
    items: &'a [Item],
    encoders: Vec<Encoder<'a>>,
    law: &'a Law,
}

impl Wave<'_> {
    fn run<E: Element>(&self, pool: &mut Pool) -> Result<Vec<Part>, TchError> {
        let (task, items) = (self.task, self.items);
        let mut saved: Vec<SavedEncoder<E>> = Vec::with_capacity(items.len());
        let mut states: Vec<Buffer<E>> = Vec::with_capacity(items.len());
        let mut decoder_rows = Vec::new();
        let mut firsts = Vec::with_capacity(items.len());
        for (item, encoder) in items.iter().zip(&self.encoders) {
            let trial = task.trial(item.trial)?;
            let x = inputs(self.weights, task, item, encoder.layout, pool)?;
            let (kept, last) = encoder.forward(x, pool)?;
            saved.push(kept);
            let mut grouped = pool.take(encoder.layout.padded * self.weights.sizes.d);
            encoder.layout.split(&last, self.weights.sizes.d, 0, 1, &mut grouped);
            pool.give(last);
            states.push(grouped);
            firsts.push(decoder_rows.len());
            decoder_rows.extend(task.rows(item.chunk).map(|row| DecoderRow {
                seed: trial.seed,
                number: row.number,
                labels: &row.labels,
                axis: Axis { prompt: trial.prompt_length, text: row.input_ids.len() },
            }));
        }
        let mut memories: Vec<Memory<'_, E>> = Vec::with_capacity(items.len());
        for ((encoder, states), &first) in self.encoders.iter().zip(&states).zip(&firsts) {
            memories.push(Memory { layout: encoder.layout, states, first });
        }
        let decoder =
            Decoder::new(self.weights, self.law, &decoder_rows, task.step, task.dropout > 0.0);
        let Decoded { losses, grads } = decoder.run(&memories, task.factor, pool)?;
        drop(memories);
        states.into_iter().for_each(|states| pool.give(states));
        let mut parts = Vec::with_capacity(items.len());
        let all = items.iter().zip(&self.encoders).zip(saved).zip(grads).zip(&firsts);
        for ((((item, encoder), saved), grad), &first) in all {
            let dx = encoder.back(saved, &grad, pool)?;
            pool.give(grad);
            let rows = task.rows(item.chunk).count();
            let losses = losses.get(first..first + rows).unwrap_or_default();
            let loss: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
            let loss = loss * f64::from(task.factor);
            let trial = task.trial(item.trial)?;
            parts.push(self.part(item, trial, loss, encoder.layout, &dx, pool)?);
            pool.give(dx);
        }
        Ok(parts)
    }

    /// The gradients of a trial's parameters from that of its inputs.
    fn part(
        &self,
        item: &Item,
        trial: &Trial,
        loss: f64,
        layout: &Layout,
        dx: &[f32],
        pool: &mut Pool,
    ) -> Result<Part, TchError> {
        let d = self.weights.sizes.d;
        let length = self.task.longest(item.chunk);
        let mut prompt = vec![0f32; trial.prompt_length * d];
        let mut offsets: Buffer<f32> = pool.zeros(length * d);
        for span in &layout.spans {
            let own = &dx[span.start * d..(span.start + span.length) * d];
            let (of_prompt, text) = own.split_at(trial.prompt_length * d);
            prompt.iter_mut().zip(of_prompt).for_each(|(sum, x)| *sum += x);
            offsets.iter_mut().zip(text).for_each(|(sum, x)| *sum += x);
        }
        let (mut a, mut b) = (vec![0f32; length * trial.rank], vec![0f32; trial.b.len()]);
        if trial.rank > 0 {
            offsets.iter_mut().for_each(|x| *x *= trial.scaling);
            let offsets = Matrices::new(&offsets, 1, length, d);
            let b_of = Matrices::new(&trial.b, 1, trial.rank, d);
            each(offsets, b_of.transposed(), &mut a)?;
            let a_of = Matrices::new(&trial.a, 1, length, trial.rank);
            each(a_of.transposed(), offsets, &mut b)?;
        }
        pool.give(offsets);
        Ok(Part { trial: item.trial, loss, prompt, a, b })
    }
}

/// Prompt, then embeddings plus scaling * A B, row after row, [tokens, d].
pub(super) fn inputs(
    weights: &Weights,
    task: &Task,
    item: &Item,
    layout: &Layout,
    pool: &mut Pool,
) -> Result<Buffer<f32>, TchError> {
    let (d, trial, length) = (weights.sizes.d, task.trial(item.trial)?, task.longest(item.chunk));
    let mut offsets: Buffer<f32> = pool.take(length * d);
    if trial.rank > 0 {
        let a = Matrices::new(&trial.a, 1, length, trial.rank);
        each(a, Matrices::new(&trial.b, 1, trial.rank, d), &mut offsets)?;
        offsets.iter_mut().for_each(|x| *x *= trial.scaling);
    } else {
        offsets.fill(0.0);
    }
    let mut x: Buffer<f32> = pool.zeros(layout.tokens * d);
    for (row, span) in task.rows(item.chunk).zip(&layout.spans) {
        let own = &mut x[span.start * d..(span.start + span.length) * d];
        let (prompt, text) = own.split_at_mut(trial.prompt_length * d);
        prompt.copy_from_slice(&trial.prompt);
        rows(&weights.embedding, &row.input_ids, text)?;
        text.iter_mut().zip(offsets.iter()).for_each(|(x, offset)| *x += offset);
    }
    pool.give(offsets);
    Ok(x)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::{Device, Kind};

    use super::*;
    use crate::model::Model;

    #[test]
    fn an_item_keeps_no_more_than_a_wave() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models/t5_v11");
        let model = Model::load(&dir, Kind::Float, Device::Cpu).unwrap();
        let weights = Weights::of(&model).unwrap().unwrap();
        for longest in [32, 500] {
            let rows = most_tokens::<f32>(&weights, longest) / longest;
            let kept = |rows| kept_bytes::<f32>(&weights, &Layout::new(&vec![longest; rows]), 0);
            assert!(kept(rows) <= WAVE && kept(2 * rows) > WAVE, "{longest}");
        }
    }
}
