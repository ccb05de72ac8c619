//! What a trial trains: DePT's prompt and low-rank pair, a prompt alone, LoRA's pairs beside the
//! attention's maps, or every weight of the model.

mod adapter;
mod init;
mod layout;
mod lora;

pub use adapter::{Adapter, LowRank};
pub use init::{PromptInit, initial, scaling};
pub(crate) use init::{lora_start, vocabulary_rows};
pub(crate) use layout::{Dimensions, Layout, Rate};
pub(crate) use lora::{Lora, Module};

/// Reference name of the prompt P [m, d], which is PEFT's too.
pub const PROMPT_KEY: &str = "prompt_embeddings";
/// Reference name of A [s, r].
pub const LOWRANK_A_KEY: &str = "prompt_encoder.lora_embedding_A";
/// Reference name of B [r, d].
pub const LOWRANK_B_KEY: &str = "prompt_encoder.lora_embedding_B";

/// The method of a trial with its sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Decomposed prompt tuning with prompt length m and rank r. With r = 0 it is prompt tuning,
    /// with m = 0 the offset A B alone; not both can be 0.
    Dept {
        /// m, 0 or more.
        prompt_length: usize,
        /// r, 0 or more.
        rank: usize,
    },
    /// Vanilla prompt tuning with prompt length m.
    PromptTuning {
        /// m, 1 or more.
        prompt_length: usize,
    },
    /// LoRA on the attention's query and value maps (one joint map in GPT-2): every such map W
    /// becomes W + (α/r) B A.
    Lora {
        /// r, 1 or more.
        rank: usize,
        /// α, above 0.
        alpha: f64,
    },
    /// Every weight of the model. Such a trial is a pack of its own.
    Full,
}

impl Method {
    /// m; 0 where there is no prompt.
    pub fn prompt_length(self) -> usize {
        match self {
            Self::Dept { prompt_length, .. } | Self::PromptTuning { prompt_length } => {
                prompt_length
            }
            Self::Lora { .. } | Self::Full => 0,
        }
    }

    /// r of the offset A B; 0 where there is none.
    pub fn rank(self) -> usize {
        match self {
            Self::Dept { rank, .. } => rank,
            Self::PromptTuning { .. } | Self::Lora { .. } | Self::Full => 0,
        }
    }

    /// r of LoRA's pairs; 0 where there are none.
    pub fn lora_rank(self) -> usize {
        match self {
            Self::Lora { rank, .. } => rank,
            Self::Dept { .. } | Self::PromptTuning { .. } | Self::Full => 0,
        }
    }

    /// Factor on LoRA's pairs: α/r, 0 where there are none. (DePT's own factor on A B is another
    /// one, [`scaling`].)
    pub fn lora_scaling(self) -> f64 {
        match self {
            Self::Lora { rank, alpha } if rank > 0 => alpha / rank as f64,
            _ => 0.0,
        }
    }
}
