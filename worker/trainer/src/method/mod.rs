//! What a trial trains: DePT's prompt and low-rank pair, or a prompt alone.

mod init;
mod layout;

use tch::Tensor;

pub use init::{initial, scaling};
pub(crate) use layout::Layout;

/// Reference name of the prompt P [m, d].
pub const PROMPT_KEY: &str = "prompt_embeddings";
/// Reference name of A [s, r].
pub const LOWRANK_A_KEY: &str = "prompt_encoder.lora_embedding_A";
/// Reference name of B [r, d].
pub const LOWRANK_B_KEY: &str = "prompt_encoder.lora_embedding_B";

/// The tensors of one trial: its parameters, or one of their Adam moments.
#[derive(Debug)]
pub struct Adapter {
    /// P [m, d], in front of the input.
    pub prompt: Tensor,
    /// A and B, added to the input; none in vanilla prompt tuning.
    pub lowrank: Option<LowRank>,
}

/// The low-rank pair: row i of scaling * A B is added to the input's position i.
#[derive(Debug)]
pub struct LowRank {
    /// A [s, r].
    pub a: Tensor,
    /// B [r, d].
    pub b: Tensor,
}

impl Adapter {
    /// The same tensors, not copied.
    pub(crate) fn shallow(&self) -> Adapter {
        let lowrank = self.lowrank.as_ref();
        let lowrank = lowrank.map(|l| LowRank { a: l.a.shallow_clone(), b: l.b.shallow_clone() });
        Adapter { prompt: self.prompt.shallow_clone(), lowrank }
    }

    /// The tensors under the names that the reference gives them in its adapter files.
    pub fn named(&self) -> Vec<(&'static str, &Tensor)> {
        let mut named = vec![(PROMPT_KEY, &self.prompt)];
        if let Some(LowRank { a, b }) = &self.lowrank {
            named.extend([(LOWRANK_A_KEY, a), (LOWRANK_B_KEY, b)]);
        }
        named
    }
}

/// The method of a trial with its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Decomposed prompt tuning with prompt length m and rank r.
    Dept {
        /// m, 1 or more.
        prompt_length: usize,
        /// r, 1 or more.
        rank: usize,
    },
    /// Vanilla prompt tuning with prompt length m.
    PromptTuning {
        /// m, 1 or more.
        prompt_length: usize,
    },
}

impl Method {
    /// m
    pub fn prompt_length(self) -> usize {
        match self {
            Self::Dept { prompt_length, .. } | Self::PromptTuning { prompt_length } => {
                prompt_length
            }
        }
    }

    /// r; 0 for prompt tuning.
    pub fn rank(self) -> usize {
        match self {
            Self::Dept { rank, .. } => rank,
            Self::PromptTuning { .. } => 0,
        }
    }
}
