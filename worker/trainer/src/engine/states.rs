//! The encoder's states of rows, for evaluations: without dropout, and nothing is kept.

use tch::TchError;

use super::Task;
use super::buffer::Pool;
use super::element::Element;
use super::encoder::Encoder;
use super::layout::Layout;
use super::weights::Weights;
use super::work::{Item, inputs};
use crate::dropout::Law;

/// Most tokens that pass together: enough for products to be large, few enough for what lies
/// between them to stay near the processor.
pub(super) const TOKENS: usize = 4096;

/// Last hidden states of an item's rows, one behind the other, [length, d] each.
pub(super) struct States<E> {
    pub(super) item: Item,
    pub(super) numbers: Vec<E>,
}

/// One thread's share of a task.
pub(super) fn states<E: Element>(
    weights: &Weights,
    task: &Task,
    items: &[Item],
    pool: &mut Pool,
) -> Result<Vec<States<E>>, TchError> {
    items.iter().map(|&item| one(weights, task, item, pool)).collect()
}

fn one<E: Element>(
    weights: &Weights,
    task: &Task,
    item: Item,
    pool: &mut Pool,
) -> Result<States<E>, TchError> {
    let d = weights.sizes.d;
    let m = task.trial(item.trial)?.prompt_length;
    let lengths: Vec<usize> = task.rows(item.chunk).map(|row| m + row.input_ids.len()).collect();
    let layout = Layout::new(&lengths);
    let law = Law::new(0.0);
    let encoder = Encoder { weights, layout: &layout, law: &law, masks: None, keep: false };
    let x = inputs(weights, task, &item, &layout, pool)?;
    let (kept, last) = encoder.forward::<E>(x, pool)?;
    kept.give(pool);
    let numbers = last.iter().take(lengths.iter().sum::<usize>() * d).copied().collect();
    pool.give(last);
    Ok(States { item, numbers })
}
