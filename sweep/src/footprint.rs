//! What training takes: trained numbers and bytes of memory, from the shapes alone.

use crate::model::ModelConfig;
use crate::space::trainable_parameters;
use crate::spec::{Method, Settings};

impl Settings {
    /// Numbers that a trial of these settings trains. Saturates.
    #[must_use]
    pub fn trainable_parameters(&self, model: &ModelConfig) -> u64 {
        match self.method {
            Method::Dept | Method::Pt => trainable_parameters(
                self.prompt_length,
                self.rank,
                self.train.max_length,
                model.hidden_size(),
            ),
            Method::Lora => model.lora_parameters(self.rank),
            Method::Full => model.weight_count(),
        }
    }

    /// Bytes that a pack needs whatever its size, roughly: the weights in fp32.
    #[must_use]
    pub fn shared_bytes(&self, model: &ModelConfig) -> u64 {
        model.weight_count().saturating_mul(4)
    }

    /// Bytes that each trial of a pack needs besides, roughly: per layer that the text passes and
    /// input position (m + s of them in each row) the saved activations of attention (queries,
    /// keys, values, output, residual) and feed-forward, and two score matrices per head; the
    /// trial's numbers, gradients and moments. A T5's decoder, with a few tokens per row, is left
    /// out.
    #[must_use]
    pub fn trial_bytes(&self, model: &ModelConfig) -> u64 {
        let [d, ff, heads, size, layers] = [
            model.hidden_size(),
            model.inner_size(),
            model.heads(),
            model.head_dim(),
            model.text_layers(),
        ]
        .map(u64::from);
        let positions = u64::from(self.prompt_length) + u64::from(self.train.max_length);
        let rows = u64::from(self.train.batch_size);
        let per_position = 4 * heads * size + 3 * d + 2 * ff;
        let scores = 2 * heads * positions;
        let saved = layers.saturating_mul(rows).saturating_mul(positions);
        let activations = saved.saturating_mul(per_position.saturating_add(scores));
        // The trained weights of full fine-tuning are the model's own.
        let each = if self.method == Method::Full { 12 } else { 16 };
        let trained = self.trainable_parameters(model).saturating_mul(each);
        activations.saturating_mul(4).saturating_add(trained)
    }

    /// Most trials of these settings that fit into `memory` bytes together, at least 1: whether
    /// one fits is found out by trying.
    #[must_use]
    pub fn members_within(&self, model: &ModelConfig, memory: u64) -> u32 {
        let left = memory.saturating_sub(self.shared_bytes(model));
        let members = left / self.trial_bytes(model).max(1);
        u32::try_from(members).unwrap_or(u32::MAX).max(1)
    }
}
