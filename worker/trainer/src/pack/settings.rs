//! What a pack is made from.

use deptune_sweep::task::Recipe;

use super::Error;
use crate::batch::Padding;
use crate::method::Method;
use crate::model::Model;

/// One trial of a pack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// Method with m and r.
    pub method: Method,
    /// α1, the learning rate of P.
    pub prompt_lr: f64,
    /// α2, the learning rate of A and B (unused by prompt tuning).
    pub lowrank_lr: f64,
    /// Decides A's start values and the dropout masks.
    pub seed: u64,
}

/// What the trials of a pack have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Updates of the whole run.
    pub steps: u64,
    /// Updates of the linear warm-up.
    pub warmup_steps: u64,
    /// s: the longest input, and the rows of A.
    pub max_length: usize,
    /// Largest joint gradient norm; the reference has 1.
    pub grad_clip: f64,
    /// Dropout rate of the backbone in training, 0 to below 1.
    pub dropout: f64,
    /// How far batches are padded.
    pub padding: Padding,
    /// Where it is the reference's, a decoder's rows of A, positions and over-long rows are as
    /// the reference has them, in training other than in generation; deptune's own counts real
    /// tokens alone and cuts no label. T5 has no such difference.
    pub recipe: Recipe,
    /// Most groups of similar length that a micro-batch is cut into, 1 or more. Any number
    /// gives the same result up to rounding.
    pub groups: usize,
}

/// Refuses settings and tokens that are out of range.
pub(super) fn check(
    model: &Model,
    members: &[Member],
    settings: &Settings,
    init_ids: &[i64],
) -> Result<(), Error> {
    let bad = |field, value: String, expected| Err(Error::Setting { field, value, expected });
    if members.is_empty() {
        return Err(Error::NoMembers);
    }
    for member in members {
        if member.method.prompt_length() == 0 {
            return bad("prompt_length", "0".to_owned(), "1 or more");
        }
        if let Method::Dept { rank: 0, .. } = member.method {
            return bad("rank", "0".to_owned(), "1 or more; use prompt tuning for none");
        }
        for (field, rate) in [("prompt_lr", member.prompt_lr), ("lowrank_lr", member.lowrank_lr)] {
            if !(rate >= 0.0 && rate.is_finite()) {
                return bad(field, rate.to_string(), "a finite number, 0 or more");
            }
        }
    }
    if settings.max_length == 0 {
        return bad("max_length", "0".to_owned(), "1 or more");
    }
    if settings.grad_clip.is_nan() || settings.grad_clip <= 0.0 {
        return bad("grad_clip", settings.grad_clip.to_string(), "above 0");
    }
    if !(0.0..1.0).contains(&settings.dropout) {
        return bad("dropout", settings.dropout.to_string(), "0 to below 1");
    }
    let longest = members.iter().map(|member| member.method.prompt_length()).max().unwrap_or(0);
    // At least one more for the answer.
    let needed = longest.saturating_add(settings.max_length).saturating_add(1);
    if let Some(available) = model.max_positions()
        && needed > available
    {
        let (prompt_length, max_length) = (longest, settings.max_length);
        return Err(Error::Positions { prompt_length, max_length, available });
    }
    let vocabulary = model.vocab_size() as i64;
    if init_ids.is_empty() || init_ids.iter().any(|id| !(0..vocabulary).contains(id)) {
        return bad("init_ids", format!("{init_ids:?}"), "tokens of the model's vocabulary");
    }
    Ok(())
}
