//! What training takes: trained numbers and bytes of memory, from the shapes alone.

use crate::model::{FeedForward, ModelConfig};
use crate::record::{PackMemory, SlotKind, SlotRecord};
use crate::space::trainable_parameters;
use crate::spec::{Method, Precision, Settings};

/// Bytes of a trainer that has no model yet: libtorch's code and tables.
const TRAINER: u64 = 200 << 20;

/// How many times more, or less, than estimated a pack is taken to need at most, whatever was
/// measured.
const TRUST: u64 = 4;

/// Bytes of activations that a thread of the written backward keeps at a time, unless those of one
/// row are more.
const WAVE: u64 = 1 << 30;

/// A model as far as memory goes. Its weights are counted once: that takes a while.
#[derive(Debug, Clone)]
pub struct ModelSize {
    config: ModelConfig,
    weights: u64,
}

impl ModelSize {
    /// Of the model with this configuration.
    #[must_use]
    pub fn new(config: ModelConfig) -> ModelSize {
        ModelSize { weights: config.weight_count(), config }
    }
}

impl Settings {
    /// Numbers that a trial of these settings trains. Saturates.
    #[must_use]
    pub fn trainable_parameters(&self, model: &ModelSize) -> u64 {
        match self.method {
            Method::Dept | Method::Pt => trainable_parameters(
                self.prompt_length,
                self.rank,
                self.train.max_length,
                model.config.hidden_size(),
            ),
            Method::Lora => model.config.lora_parameters(self.rank),
            Method::Full => model.weights,
        }
    }

    /// Bytes that a pack needs whatever its size, roughly: the weights in fp32, and the trainer
    /// itself.
    fn shared_bytes(model: &ModelSize) -> u64 {
        model.weights.saturating_mul(4).saturating_add(TRAINER)
    }

    /// Bytes of memory that a pack of so many trials of these settings needs on a slot, roughly. The
    /// store keeps it beside what was measured: with another formula a migration empties
    /// `packs_measured`.
    #[must_use]
    pub fn pack_bytes(&self, model: &ModelSize, slot: &SlotRecord, members: u32) -> u64 {
        let members = u64::from(members);
        let (each, most) = self.activation_bytes(model, slot);
        let activations = members.saturating_mul(each).min(most);
        let trained = members.saturating_mul(self.trained_bytes(model));
        Self::shared_bytes(model).saturating_add(activations).saturating_add(trained)
    }

    /// Most trials of these settings that fit into a slot's `memory` bytes together, at least 1:
    /// whether one fits is found out by trying.
    #[must_use]
    pub fn members_within(&self, model: &ModelSize, slot: &SlotRecord, memory: u64) -> u32 {
        let left = memory.saturating_sub(Self::shared_bytes(model));
        let (each, most) = self.activation_bytes(model, slot);
        let trained = self.trained_bytes(model);
        // Where the activations' bound fits, only what is trained adds up.
        let bounded = left.saturating_sub(most) / trained.max(1);
        let added_up = left / each.saturating_add(trained).max(1);
        u32::try_from(bounded.max(added_up)).unwrap_or(u32::MAX).max(1)
    }

    /// The same where packs of that shape were measured, of which these are the smallest and the
    /// largest. A straight line goes through both. Where they are one, or nearly, what was off in
    /// the estimate may be off everywhere alike, or only in what each trial adds to what a pack needs
    /// anyway: of those two lines the higher one counts.
    #[must_use]
    pub fn members_within_measured(
        &self,
        model: &ModelSize,
        slot: &SlotRecord,
        memory: u64,
        smallest: &PackMemory,
        largest: &PackMemory,
    ) -> u32 {
        let point = |it: &PackMemory| {
            let most = it.estimated.saturating_mul(TRUST);
            (it.estimated, it.bytes.clamp(it.estimated / TRUST, most))
        };
        let (estimated, bytes) = point(largest);
        let distance = memory.abs_diff(bytes);
        // How far the estimate goes along the line from another point while the bytes go so far.
        let along = |(from, at): (u64, u64)| {
            let (run, rise) = (estimated.saturating_sub(from), bytes.saturating_sub(at));
            let way = scaled(distance, run, rise);
            way.clamp(distance / TRUST, distance.saturating_mul(TRUST))
        };
        let apart = smallest.members <= largest.members / 2;
        let shared = Self::shared_bytes(model);
        let ways = if apart { [point(smallest); 2] } else { [(0, 0), (shared, shared)] }.map(along);
        let room = if memory >= bytes {
            estimated.saturating_add(ways[0].min(ways[1]))
        } else {
            estimated.saturating_sub(ways[0].max(ways[1]))
        };
        self.members_within(model, slot, room)
    }

    /// Bytes of a trial's numbers, gradients and moments.
    fn trained_bytes(&self, model: &ModelSize) -> u64 {
        // The trained weights of full fine-tuning are the model's own.
        let each = if self.method == Method::Full { 12 } else { 16 };
        self.trainable_parameters(model).saturating_mul(each)
    }

    /// Bytes of the activations that each trial of a pack keeps for the way back, and at most for
    /// all of them: with m + s tokens in every row, of the layers that the text passes. A T5's
    /// decoder, with a few tokens per row, is left out.
    fn activation_bytes(&self, model: &ModelSize, slot: &SlotRecord) -> (u64, u64) {
        let model = &model.config;
        let [d, ff, heads, size, layers] = [
            model.hidden_size(),
            model.inner_size(),
            model.heads(),
            model.head_dim(),
            model.text_layers(),
        ]
        .map(u64::from);
        let positions = u64::from(self.prompt_length) + u64::from(self.train.max_length);
        let tokens = u64::from(self.train.batch_size).saturating_mul(positions);
        let prompts = matches!(self.method, Method::Dept | Method::Pt);
        if let (SlotKind::Cpu, ModelConfig::T5(config), true) = (slot.kind, model, prompts) {
            // The written backward keeps two normed inputs, query, key and value, one matrix of
            // attention weights per head, and of the feed-forward layer a bit per number, or gate
            // and value.
            let number = match self.train.precision {
                Precision::Fp32 => 4,
                Precision::Bf16 => 2,
            };
            let inner = match config.feed_forward {
                FeedForward::Relu => ff / 8,
                FeedForward::GatedGelu => 2 * ff * number,
            };
            let each = (2 * d + 3 * heads * size + heads * positions) * number + inner;
            let each = layers.saturating_mul(tokens).saturating_mul(each);
            let row = each / u64::from(self.train.batch_size.max(1));
            return (each, u64::from(slot.threads).saturating_mul(row.max(WAVE)));
        }
        // libtorch keeps queries, keys, values, output and residual, and two score matrices per
        // head, in fp32.
        let block = 4 * heads * size + 3 * d + 2 * ff + 2 * heads * positions;
        let each = if self.train.activation_checkpointing {
            layers.saturating_mul(d).saturating_add(block)
        } else {
            layers.saturating_mul(block)
        };
        let each = tokens.saturating_mul(each).saturating_mul(4);
        (each, u64::MAX)
    }
}

/// `bytes` times `by` over `over`. Saturates.
fn scaled(bytes: u64, by: u64, over: u64) -> u64 {
    let product = u128::from(bytes) * u128::from(by);
    u64::try_from(product / u128::from(over.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ArtifactHash, SweepId, TrialId};
    use crate::spec::{Format, Spec};

    /// A T5-small, m = 40, s = 256, 8 rows.
    fn settings(precision: &str) -> (Settings, ModelSize) {
        let model = r#"{"model_type":"t5","d_model":512,"d_kv":64,"d_ff":2048,"num_layers":6,
            "num_heads":8,"vocab_size":32128}"#;
        let model = ModelConfig::parse("config.json", model).unwrap();
        let spec = format!(
            "name = \"x\"\n[model]\npath = \"m\"\n[task]\nname = \"rte\"\ntrain = \"train.tsv\"\n[method]\nkind = \"dept\"\n\
             [space]\nprompt_lr = [0.3]\nlowrank_lr = [1e-3]\nprompt_length = [40]\nrank = [40]\n\
             seeds = [42]\n[train]\nsteps = 10\nbatch_size = 8\nmax_length = 256\n\
             precision = \"{precision}\"\n"
        );
        let spec = Spec::parse(&spec, Format::Toml, Some(&model)).unwrap();
        (spec.settings(0).unwrap(), ModelSize::new(model))
    }

    fn slot(kind: SlotKind, threads: u32) -> SlotRecord {
        let device = String::new();
        SlotRecord { slot: 0, kind, threads, device, max_pack: 8, memory: None }
    }

    #[test]
    fn on_processors_the_activations_of_a_pack_are_bounded() {
        let (settings, model) = settings("bf16");
        let cpu = slot(SlotKind::Cpu, 1);
        let bytes = |members| settings.pack_bytes(&model, &cpu, members);
        let shared = 60_506_624 * 4 + TRAINER;
        // 6 layers, 8 rows of 296 tokens: 2 · 512, 3 · 512 and 8 · 296 numbers of 2 bytes, 256 of
        // bits.
        let trial = 6 * 8 * 296 * ((1024 + 1536 + 2368) * 2 + 256);
        let trained = 16 * (40 * 512 + 40 * (256 + 512));
        assert_eq!(bytes(1), shared + trial + trained);
        assert_eq!(bytes(7), shared + 7 * (trial + trained));
        assert_eq!(bytes(100), shared + (1 << 30) + 100 * trained);
        for members in [1, 3, 7, 8, 9, 100] {
            assert_eq!(settings.members_within(&model, &cpu, bytes(members)), members);
        }
        assert_eq!(settings.members_within(&model, &cpu, 0), 1);
    }

    /// What a GPU is estimated to need for so many, and how many fit into `memory` bytes of one where
    /// packs of some sizes took some bytes.
    struct Gpu(Settings, ModelSize, SlotRecord);

    impl Gpu {
        fn new() -> Gpu {
            let (settings, model) = settings("fp32");
            Gpu(settings, model, slot(SlotKind::Cuda, 1))
        }

        fn bytes(&self, members: u32) -> u64 {
            self.0.pack_bytes(&self.1, &self.2, members)
        }

        fn members(&self, memory: u64, taken: &[(u32, u64)]) -> u32 {
            let memories: Vec<_> = taken
                .iter()
                .map(|&(members, bytes)| PackMemory {
                    shape: ArtifactHash::of(b"shape"),
                    device: String::new(),
                    members,
                    bytes,
                    estimated: self.bytes(members),
                    trial: TrialId { sweep: SweepId(1), index: 0 },
                })
                .collect();
            let (smallest, largest) = (&memories[0], &memories[memories.len() - 1]);
            self.0.members_within_measured(&self.1, &self.2, memory, smallest, largest)
        }
    }

    #[test]
    fn a_measured_pack_bends_the_estimate() {
        let gpu = Gpu::new();
        let each = gpu.bytes(5) - gpu.bytes(4);
        for count in [1, 4, 9] {
            let as_estimated = gpu.members(gpu.bytes(count), &[(4, gpu.bytes(4))]);
            assert_eq!(as_estimated, count);
        }
        // Each trial adds twice as much as thought, or all is more.
        let took = gpu.bytes(4) + 4 * each;
        assert_eq!(gpu.members(took, &[(4, took)]), 4, "the pack that was measured fits");
        assert_eq!(gpu.members(took - 16, &[(4, took)]), 3);
        assert_eq!(gpu.members(took + 8 * each, &[(4, took)]), 8);
        let fewer = gpu.members(took - 4 * each, &[(4, took)]);
        assert!(fewer < 2, "{fewer}");
        // Half as much, or all is less.
        let took = gpu.bytes(4) - 2 * each;
        assert_eq!(gpu.members(took, &[(4, took)]), 4);
        assert_eq!(gpu.members(took - 16, &[(4, took)]), 3);
        let more = gpu.members(took + 4 * each, &[(4, took)]);
        assert!((8..12).contains(&more), "{more}");
    }

    #[test]
    fn two_measured_packs_make_a_line() {
        let gpu = Gpu::new();
        let each = gpu.bytes(5) - gpu.bytes(4);
        // Of all sizes a pack takes 100 MB more, and each trial half as much again.
        let took = |members: u32| gpu.bytes(0) + (100 << 20) + 3 * each * u64::from(members) / 2;
        let taken = [(2, took(2)), (8, took(8))];
        for count in [1, 2, 5, 8, 20] {
            assert_eq!(gpu.members(took(count) + each / 2, &taken), count);
        }
        // Sizes that are close say little about what one more adds.
        let close = [(7, took(8) - 1), (8, took(8))];
        let memory = took(16);
        assert_eq!(gpu.members(memory, &close), gpu.members(memory, &close[1..]));
    }

    #[test]
    fn no_measurement_is_believed_beyond_bounds() {
        let gpu = Gpu::new();
        let memory = gpu.bytes(16);
        let four_times = [(4, 4 * gpu.bytes(4))];
        assert_eq!(gpu.members(memory, &[(4, u64::MAX)]), gpu.members(memory, &four_times));
        let quarter = [(4, gpu.bytes(4) / 4)];
        assert_eq!(gpu.members(memory, &[(4, 0)]), gpu.members(memory, &quarter));
        for taken in [0, 1, 1 << 63, u64::MAX] {
            assert_eq!(gpu.members(0, &[(4, taken)]), 1);
            for other in [0, gpu.bytes(8), u64::MAX] {
                for memory in [0, memory, u64::MAX] {
                    assert!(gpu.members(memory, &[(4, taken), (8, other)]) > 0);
                }
            }
        }
    }

    #[test]
    fn more_than_that_is_kept_by_libtorch() {
        let (mut settings, model) = settings("fp32");
        let [cpu, gpu] = [SlotKind::Cpu, SlotKind::Cuda].map(|kind| slot(kind, 1));
        let bytes = |slot: &SlotRecord, members| settings.pack_bytes(&model, slot, members);
        assert!(bytes(&gpu, 8) > 3 * bytes(&cpu, 8));
        for members in [1, 8, 33] {
            assert_eq!(settings.members_within(&model, &gpu, bytes(&gpu, members)), members);
        }
        let kept = bytes(&gpu, 8);
        settings.train.activation_checkpointing = true;
        let again = settings.pack_bytes(&model, &gpu, 8);
        assert!(again < kept / 2, "{again} and {kept}");
    }
}
