//! What a pack is made from.

use deptune_sweep::spec::DropoutMasks;
use deptune_sweep::task::Recipe;

use super::Error;
use crate::batch::Padding;
use crate::method::{Method, PromptInit, Rate};
use crate::model::Model;
use crate::optim::Optimizer;
use crate::schedule::Scheduler;

/// One trial of a pack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// Method with its sizes.
    pub method: Method,
    /// What P starts from.
    pub init: PromptInit,
    /// α1, the learning rate of P (unused by LoRA and full fine-tuning).
    pub prompt_lr: f64,
    /// α2, the learning rate of A and B (unused but by DePT). The reference has DePT with one
    /// learning rate too: then it equals α1.
    pub lowrank_lr: f64,
    /// The learning rate of LoRA's pairs or of all weights (unused by DePT and prompt tuning).
    pub learning_rate: f64,
    /// Decides the start values that are drawn, and the dropout masks.
    pub seed: u64,
}

impl Member {
    /// A trial of DePT or prompt tuning that starts from a text.
    #[must_use]
    pub fn prompt(method: Method, prompt_lr: f64, lowrank_lr: f64, seed: u64) -> Member {
        let init = PromptInit::Text;
        Member { method, init, prompt_lr, lowrank_lr, learning_rate: 0.0, seed }
    }

    /// A trial of LoRA or full fine-tuning.
    #[must_use]
    pub fn weights(method: Method, learning_rate: f64, seed: u64) -> Member {
        Member { learning_rate, ..Member::prompt(method, 0.0, 0.0, seed) }
    }

    /// The learning rate of a parameter.
    pub(super) fn rate(&self, of: Rate) -> f64 {
        match of {
            Rate::Prompt => self.prompt_lr,
            Rate::LowRank => self.lowrank_lr,
            Rate::Only => self.learning_rate,
        }
    }
}

/// How gradients are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backward {
    /// By the written-out way back, where there is one for model, methods and device (DePT and
    /// prompt tuning of T5 on processors), else as [`Backward::Recorded`].
    #[default]
    Written,
    /// By libtorch, which records every operation: slower, and it needs more memory. Gives the
    /// same up to rounding.
    Recorded,
}

/// What the trials of a pack have in common. The default is the reference's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Updates of the whole run.
    pub steps: u64,
    /// Updates of the linear warm-up.
    pub warmup_steps: u64,
    /// What the learning rates do after it.
    pub scheduler: Scheduler,
    /// How gradients become updates.
    pub optimizer: Optimizer,
    /// Decoupled weight decay, 0 or more, of everything that is trained; the reference has 0.
    pub weight_decay: f64,
    /// s: the longest input, and the rows of A.
    pub max_length: usize,
    /// Largest joint gradient norm; the reference has 1.
    pub grad_clip: f64,
    /// Dropout rate of the backbone in training, 0 to below 1.
    pub dropout: f64,
    /// Who draws the masks. The written way back always draws exact ones.
    pub dropout_masks: DropoutMasks,
    /// Whether the recorded way back keeps the inputs of blocks alone and computes the rest again.
    /// The written way back needs less memory as it is.
    pub activation_checkpointing: bool,
    /// How far batches are padded.
    pub padding: Padding,
    /// Where it is the reference's, a decoder's rows of A, positions and over-long rows are as
    /// the reference has them, in training other than in generation; deptune's own counts real
    /// tokens alone and cuts no label. T5 has no such difference.
    pub recipe: Recipe,
    /// Most groups of similar length that a micro-batch is cut into, 1 or more. Any number
    /// gives the same result up to rounding.
    pub groups: usize,
    /// How gradients are found.
    pub backward: Backward,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            steps: 30_000,
            warmup_steps: 500,
            scheduler: Scheduler::Linear,
            optimizer: Optimizer::AdamW,
            weight_decay: 0.0,
            max_length: 256,
            grad_clip: 1.0,
            dropout: 0.1,
            dropout_masks: DropoutMasks::Exact,
            activation_checkpointing: false,
            padding: Padding::Longest { multiple: 4 },
            recipe: Recipe::Default,
            groups: 1,
            backward: Backward::Written,
        }
    }
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
        match member.method {
            Method::Dept { prompt_length: 0, rank: 0 } => {
                let expected = "1 or more where prompt_length is 0: something must be trained";
                return bad("rank", "0".to_owned(), expected);
            }
            Method::PromptTuning { prompt_length: 0 } => {
                return bad("prompt_length", "0".to_owned(), "1 or more");
            }
            Method::Lora { rank: 0, .. } => {
                return bad("rank", "0".to_owned(), "1 or more");
            }
            Method::Lora { alpha, .. } if !(alpha > 0.0 && alpha.is_finite()) => {
                return bad("lora_alpha", alpha.to_string(), "a finite number above 0");
            }
            Method::Full if members.len() > 1 => {
                let expected = "one trial per pack in full fine-tuning";
                return bad("members", members.len().to_string(), expected);
            }
            _ => {}
        }
        let rates = [
            ("prompt_lr", member.prompt_lr),
            ("lowrank_lr", member.lowrank_lr),
            ("learning_rate", member.learning_rate),
        ];
        for (field, rate) in rates {
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
    if !(settings.weight_decay >= 0.0 && settings.weight_decay.is_finite()) {
        let value = settings.weight_decay.to_string();
        return bad("weight_decay", value, "a finite number, 0 or more");
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
