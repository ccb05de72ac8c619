//! Counter-based dropout masks.
//!
//! A mask bit is a pure function of (seed, step, site, layer, row of the effective batch, head,
//! query position, key position or channel). Prompt positions are counted apart from text
//! positions, and backwards from the text, so a bit depends neither on the pack, nor on padding
//! or grouping, nor on the prompt length: trials of one seed see the same masks, which are made
//! once and broadcast, and a resumed run repeats them.

mod device;
mod law;
mod random;

use tch::{Device, Kind, TchError, Tensor};

pub(crate) use law::{Bits, Law};

/// Which half of the model a mask is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// The encoder.
    Encoder,
    /// The decoder.
    Decoder,
}

/// Where in a stack a mask is applied. The discriminants are part of the mask's law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// On the input embeddings (prompt and offset included).
    Embedding = 0,
    /// On the weights of self-attention.
    SelfWeights = 1,
    /// On the weights of cross-attention.
    CrossWeights = 2,
    /// On the output of self-attention.
    SelfOutput = 3,
    /// On the output of cross-attention.
    CrossOutput = 4,
    /// On the inner activations of the feed-forward layer.
    FeedForwardInner = 5,
    /// On the output of the feed-forward layer.
    FeedForwardOutput = 6,
    /// After the last norm of a stack.
    Final = 7,
}

/// The positions along one axis: `prompt` prompt tokens, then `text` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Prompt positions in front.
    pub prompt: usize,
    /// Text positions behind them.
    pub text: usize,
}

impl Axis {
    /// An axis without prompt.
    pub fn text(text: usize) -> Self {
        Self { prompt: 0, text }
    }

    /// Positions in all.
    pub fn len(self) -> usize {
        self.prompt + self.text
    }

    /// No positions at all.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The counter of a position: text counts from 0, prompt from [`PROMPT`] backwards.
    fn counter(self, position: usize) -> u64 {
        match position.checked_sub(self.prompt) {
            Some(text) => text as u64,
            None => PROMPT + (self.prompt - 1 - position) as u64,
        }
    }
}

/// First counter of prompt positions, beyond every text position.
const PROMPT: u64 = 1 << 32;

/// The masks of one update (for one micro-batch or group of rows).
#[derive(Debug, Clone)]
pub struct Masks<'a> {
    /// One seed for the whole pack, or one per trial.
    pub seeds: &'a [u64],
    /// The update, counted from 1.
    pub step: u64,
    /// Row numbers within the effective batch.
    pub rows: &'a [u32],
    /// Probability of a zero, 0 to below 1 (taken to the next multiple of 2^-16).
    pub rate: f64,
    /// Number format of the masks.
    pub kind: Kind,
    /// Where they are used.
    pub device: Device,
    /// Whether the device's own generator draws them instead; then they depend on all that the
    /// generator was asked for since [`Masks::reseed`].
    pub kernel: bool,
}

impl Masks<'_> {
    /// Mask [S, B, T, channels] for hidden states: 0 or 1/(1-rate); S is the number of seeds.
    ///
    /// # Errors
    /// What libtorch says when memory is short.
    pub fn hidden(
        &self,
        stack: Stack,
        site: Site,
        layer: usize,
        axis: Axis,
        channels: usize,
    ) -> Result<Tensor, TchError> {
        let shape = [self.seeds.len(), self.rows.len(), axis.len(), channels];
        let place = Place { step: self.step, stack, site, layer };
        let law = Law::new(self.rate);
        if self.device != Device::Cpu {
            return device::hidden(self, &law, place, axis, channels);
        }
        self.fill(&shape, |out| {
            let mut tensor = out.chunks_exact_mut((axis.len() * channels).max(1));
            for (seed, row) in self.rows_of_seeds() {
                let Some(out) = tensor.next() else { return };
                let mut bits = Bits::new(axis.len(), channels);
                law.hidden(place, seed, row, axis, channels, bits.runs_mut());
                for (position, out) in out.chunks_exact_mut(channels.max(1)).enumerate() {
                    law.spread(bits.run(position), out);
                }
            }
        })
    }

    /// Mask [S, B, heads, Tq, Tk] for attention weights: 0 or 1/(1-rate).
    ///
    /// # Errors
    /// What libtorch says when memory is short.
    pub fn weights(
        &self,
        stack: Stack,
        site: Site,
        layer: usize,
        heads: usize,
        queries: Axis,
        keys: Axis,
    ) -> Result<Tensor, TchError> {
        let shape = [self.seeds.len(), self.rows.len(), heads, queries.len(), keys.len()];
        let place = Place { step: self.step, stack, site, layer };
        let law = Law::new(self.rate);
        if self.device != Device::Cpu {
            return device::weights(self, &law, place, heads, [queries, keys]);
        }
        self.fill(&shape, |out| {
            let runs = heads * queries.len();
            let mut tensor = out.chunks_exact_mut((runs * keys.len()).max(1));
            for (seed, row) in self.rows_of_seeds() {
                let Some(out) = tensor.next() else { return };
                let mut bits = Bits::new(runs, keys.len());
                law.weights(place, seed, row, heads, queries, keys, bits.runs_mut());
                for (run, out) in out.chunks_exact_mut(keys.len().max(1)).enumerate() {
                    law.spread(bits.run(run), out);
                }
            }
        })
    }

    /// Puts libtorch's generators where they stood before this piece of the pass was first
    /// computed, if it is they that draw the masks.
    pub(crate) fn reseed(&self, piece: usize) {
        if !self.kernel {
            return;
        }
        let seed = self.seeds.iter().fold(DOMAIN, |key, &seed| mix(key, seed));
        let rows = self.rows.iter().fold(mix(seed, self.step), |key, &row| mix(key, row.into()));
        tch::manual_seed(mix(rows, piece as u64).cast_signed());
    }

    /// All (seed, row) in the order of a tensor's leading dimensions.
    fn rows_of_seeds(&self) -> impl Iterator<Item = (u64, u32)> {
        self.seeds.iter().flat_map(|&seed| self.rows.iter().map(move |&row| (seed, row)))
    }

    fn fill(&self, shape: &[usize], write: impl FnOnce(&mut [f32])) -> Result<Tensor, TchError> {
        let size: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let tensor = Tensor::f_empty(size, (Kind::Float, Device::Cpu))?;
        let elements = shape.iter().product();
        if elements > 0 {
            #[expect(unsafe_code, reason = "writing in place saves a copy of every mask")]
            // SAFETY: a fresh, contiguous CPU tensor of `elements` f32, alive and not shared
            // until this function returns; f32 has no invalid bit patterns.
            let out = unsafe {
                std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), elements)
            };
            write(out);
        }
        tensor.f_to_kind(self.kind)
    }
}

/// Where and when a mask is used, but for seed and row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The update, counted from 1.
    pub(crate) step: u64,
    pub(crate) stack: Stack,
    pub(crate) site: Site,
    pub(crate) layer: usize,
}

impl Place {
    fn key(self, seed: u64, row: u32) -> u64 {
        let Self { step, stack, site, layer } = self;
        let place = (layer as u64) << 8 | (stack as u64) << 4 | site as u64;
        mix(mix(mix(mix(DOMAIN, seed), step), place), u64::from(row))
    }
}

/// Separates these random numbers from every other use of a seed.
const DOMAIN: u64 = u64::from_be_bytes(*b"dropout2");
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Derives a key: the finaliser of MurmurHash3 (constants of its variant "Mix13" by D. Stafford)
/// over a Weyl step, as in SplitMix64.
fn mix(key: u64, counter: u64) -> u64 {
    let mut x = key.wrapping_add(STRIDE.wrapping_mul(counter.wrapping_add(1)));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks<'a>(seeds: &'a [u64], rows: &'a [u32]) -> Masks<'a> {
        Masks {
            seeds,
            step: 7,
            rows,
            rate: 0.1,
            kind: Kind::Float,
            device: Device::Cpu,
            kernel: false,
        }
    }

    #[test]
    fn hidden_masks_depend_neither_on_padding_nor_prompt_length_nor_grouping() {
        let (all, some) = ([0, 1, 2, 3], [3, 1]);
        let place = (Stack::Encoder, Site::Embedding, 0);
        let wide = Axis { prompt: 9, text: 20 };
        let narrow = Axis { prompt: 4, text: 11 };
        let wide = masks(&[5], &all).hidden(place.0, place.1, place.2, wide, 10).unwrap();
        let narrow = masks(&[5], &some).hidden(place.0, place.1, place.2, narrow, 10).unwrap();
        let cut = wide.narrow(2, 5, 15).index_select(1, &Tensor::from_slice(&[3i64, 1]));
        assert!(cut.equal(&narrow));
    }

    #[test]
    fn weight_masks_depend_neither_on_padding_nor_prompt_length() {
        let rows = [2];
        let site = (Stack::Encoder, Site::SelfWeights, 1);
        let make =
            |axis| masks(&[5], &rows).weights(site.0, site.1, site.2, 3, axis, axis).unwrap();
        let wide = make(Axis { prompt: 6, text: 9 });
        let narrow = make(Axis { prompt: 3, text: 5 });
        assert!(wide.narrow(3, 3, 8).narrow(4, 3, 8).equal(&narrow));
    }

    #[test]
    fn trials_of_a_pack_see_the_masks_of_their_own_seed() {
        let rows = [0, 1];
        let axis = Axis { prompt: 2, text: 6 };
        let make = |seeds: &[u64]| {
            masks(seeds, &rows).hidden(Stack::Decoder, Site::Final, 0, axis, 16).unwrap()
        };
        let both = make(&[1, 2]);
        assert!(both.narrow(0, 0, 1).equal(&make(&[1])));
        assert!(both.narrow(0, 1, 1).equal(&make(&[2])));
        assert!(!make(&[1]).equal(&make(&[2])));
    }

    #[test]
    fn sites_layers_steps_and_heads_differ_and_the_mean_is_one() {
        let rows: Vec<u32> = (0..32).collect();
        let axis = Axis { prompt: 20, text: 64 };
        let make = |step, site, layer| {
            let masks = Masks { step, ..masks(&[1], &rows) };
            masks.hidden(Stack::Encoder, site, layer, axis, 192).unwrap()
        };
        let base = make(1, Site::Final, 0);
        let expected = 1.0 - 0.1f64;
        for other in
            [make(2, Site::Final, 0), make(1, Site::SelfOutput, 0), make(1, Site::Final, 1)]
        {
            // Independent masks agree on a "keep" with probability 0.81; 5 sigma are 0.003.
            let kept = (base.gt(0.0).logical_and(&other.gt(0.0))).to_kind(Kind::Double);
            assert!((kept.mean(Kind::Double).double_value(&[]) - expected * expected).abs() < 3e-3);
        }
        assert!((base.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 3e-3);
        // Neighbours along every axis are uncorrelated.
        let centred = base - 1.0;
        for dim in 1..4 {
            let size = centred.size()[dim as usize];
            let product = centred.narrow(dim, 0, size - 1) * centred.narrow(dim, 1, size - 1);
            assert!(product.mean(Kind::Double).double_value(&[]).abs() < 1e-3, "axis {dim}");
        }
    }
}
