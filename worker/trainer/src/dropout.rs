//! Counter-based dropout masks.
//!
//! A mask bit is a pure function of (seed, step, site, layer, row of the effective batch, head,
//! query position, key position or channel). Prompt positions are counted apart from text
//! positions, and backwards from the text, so a bit depends neither on the pack, nor on padding
//! or grouping, nor on the prompt length: trials of one seed see the same masks, which are made
//! once and broadcast, and a resumed run repeats them.

use tch::{Device, Kind, TchError, Tensor};

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
/// Random bits that decide one element.
const LANE_BITS: u32 = 16;
/// Elements of one word of a mask.
const WORD: usize = 64;

/// Masks bit by bit: runs of the same length, each from a byte of its own on. A bit that is set
/// keeps its element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bits {
    bytes: Vec<u8>,
    /// Bytes from one run to the next, a multiple of 8.
    pitch: usize,
}

impl Bits {
    fn new(runs: usize, longest: usize) -> Self {
        let pitch = longest.div_ceil(WORD) * (WORD / 8);
        Self { bytes: vec![0; runs * pitch], pitch }
    }

    /// The bits of a run, least significant first; a few beyond its length are 0 or 1.
    #[must_use]
    pub fn run(&self, place: usize) -> &[u8] {
        self.bytes.get(place * self.pitch..(place + 1) * self.pitch).unwrap_or_default()
    }

    fn runs_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_exact_mut(self.pitch.max(1))
    }
}

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
        tensor.f_to_kind(self.kind)?.f_to_device(self.device)
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

/// How random lanes become bits, and bits become factors.
#[derive(Debug, Clone)]
pub(crate) struct Law {
    threshold: u16,
    /// Factors of eight elements by the byte of their bits: 0 or 1/(1-rate).
    factors: Vec<[f32; 8]>,
}

impl Law {
    pub(crate) fn new(rate: f64) -> Self {
        let range = f64::from(1u32 << LANE_BITS);
        let threshold = (rate * range).ceil().clamp(0.0, range - 1.0);
        // The scale belongs to the rate that the lanes can hold, so that the mean is exactly 1.
        let keep = (range / (range - threshold)) as f32;
        let factor = |byte: u8, bit: usize| if byte >> bit & 1 == 1 { keep } else { 0.0 };
        let factors = (0..=u8::MAX).map(|byte| std::array::from_fn(|bit| factor(byte, bit)));
        Self { threshold: threshold as u16, factors: factors.collect() }
    }

    /// Factors of eight elements by the byte of their bits.
    #[inline(always)]
    pub(crate) fn factors(&self) -> &[[f32; 8]; 256] {
        // Always 256 of them.
        self.factors.first_chunk().unwrap_or(&[[0.0; 8]; 256])
    }

    fn spread(&self, bits: &[u8], out: &mut [f32]) {
        for (out, &byte) in out.chunks_mut(8).zip(bits) {
            for (out, factor) in out.iter_mut().zip(self.factors()[usize::from(byte)]) {
                *out = factor;
            }
        }
    }

    /// The masks of `runs` places of hidden states, made one row at a time: a run per position.
    pub(crate) fn hidden_bits(
        &self,
        place: Place,
        rows: impl Iterator<Item = (u64, u32, Axis)>,
        positions: usize,
        channels: usize,
    ) -> Bits {
        let mut bits = Bits::new(positions, channels);
        let mut runs = bits.runs_mut();
        for (seed, row, axis) in rows {
            self.hidden(place, seed, row, axis, channels, runs.by_ref());
        }
        drop(runs);
        bits
    }

    /// The masks of attention weights, made one row at a time: a run per head and query.
    pub(crate) fn weight_bits(
        &self,
        place: Place,
        heads: usize,
        rows: impl Iterator<Item = (u64, u32, Axis, Axis)> + Clone,
    ) -> Bits {
        let runs = rows.clone().map(|(.., queries, _)| heads * queries.len()).sum();
        let longest = rows.clone().map(|(.., keys)| keys.len()).max().unwrap_or(0);
        let mut bits = Bits::new(runs, longest);
        let mut runs = bits.runs_mut();
        for (seed, row, queries, keys) in rows {
            self.weights(place, seed, row, heads, queries, keys, runs.by_ref());
        }
        drop(runs);
        bits
    }

    fn hidden<'a>(
        &self,
        place: Place,
        seed: u64,
        row: u32,
        axis: Axis,
        channels: usize,
        runs: impl Iterator<Item = &'a mut [u8]>,
    ) {
        let key = place.key(seed, row);
        for (position, run) in (0..axis.len()).zip(runs) {
            random_bits(mix(key, axis.counter(position)), self.threshold, channels, run);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a place has as many coordinates")]
    fn weights<'a>(
        &self,
        place: Place,
        seed: u64,
        row: u32,
        heads: usize,
        queries: Axis,
        keys: Axis,
        mut runs: impl Iterator<Item = &'a mut [u8]>,
    ) {
        let key = place.key(seed, row);
        let mut words = [Vec::new(), Vec::new()].map(|mut words: Vec<u8>| {
            words.resize(keys.len().div_ceil(WORD) * (WORD / 8), 0);
            words
        });
        let [prompt, text] = &mut words;
        for head in 0..heads {
            let key = mix(key, head as u64);
            for query in 0..queries.len() {
                let Some(run) = runs.next() else { return };
                let key = mix(key, queries.counter(query));
                if keys.prompt == 0 {
                    random_bits(key, self.threshold, keys.text, run);
                    continue;
                }
                random_bits(mix(key, PROMPT), self.threshold, keys.prompt, prompt);
                random_bits(key, self.threshold, keys.text, text);
                let mut joined = Joined::new(run);
                let (prompt, _) = prompt.as_chunks::<8>();
                for word in (0..keys.prompt.div_ceil(WORD)).rev() {
                    let bits = (keys.prompt - word * WORD).min(WORD);
                    let value = prompt.get(word).map_or(0, |&word| u64::from_le_bytes(word));
                    joined.push(value.reverse_bits() >> (WORD - bits), bits);
                }
                let (text, _) = text.as_chunks::<8>();
                for (word, &value) in text.iter().take(keys.text.div_ceil(WORD)).enumerate() {
                    let bits = (keys.text - word * WORD).min(WORD);
                    joined.push(u64::from_le_bytes(value), bits);
                }
                joined.end();
            }
        }
    }
}

/// Writes bits one behind the other.
struct Joined<'a> {
    words: std::slice::IterMut<'a, [u8; 8]>,
    pending: u64,
    filled: usize,
}

impl<'a> Joined<'a> {
    fn new(out: &'a mut [u8]) -> Self {
        Self { words: out.as_chunks_mut::<8>().0.iter_mut(), pending: 0, filled: 0 }
    }

    /// The low `bits` of a word, 1 to 64.
    fn push(&mut self, word: u64, bits: usize) {
        let word = if bits < WORD { word & ((1 << bits) - 1) } else { word };
        self.pending |= word << self.filled;
        if self.filled + bits < WORD {
            self.filled += bits;
            return;
        }
        self.write();
        let used = WORD - self.filled;
        self.pending = if used < WORD { word >> used } else { 0 };
        self.filled = bits - used;
    }

    fn write(&mut self) {
        if let Some(place) = self.words.next() {
            *place = self.pending.to_le_bytes();
        }
    }

    fn end(mut self) {
        if self.filled > 0 {
            self.write();
        }
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

/// Bits of `lanes` consecutive elements of one key, in whole bytes of `out` (at least as many as
/// they need, a multiple of 8). A bit is set where its 16-bit lane is not below the threshold.
/// Two lanes come from each 32-bit word; words are hashed counters, so that a vector of them is
/// made at once.
fn random_bits(key: u64, threshold: u16, lanes: usize, out: &mut [u8]) {
    let blocks = lanes.div_ceil(BLOCK);
    let (chunks, _) = out.as_chunks_mut::<{ BLOCK / 8 }>();
    let chunks = &mut chunks[..blocks];
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bw") {
        #[expect(unsafe_code, reason = "vector instructions, behind a check that they are there")]
        // SAFETY: the processor has them.
        unsafe {
            x86::random_bits(key, threshold, chunks);
        }
        return;
    }
    for (block, chunk) in chunks.iter_mut().enumerate() {
        let first = (block * BLOCK / 2) as u32;
        let mut bits = 0u32;
        for word in 0..BLOCK as u32 / 2 {
            let random = hash(key, first + word);
            let low = random as u16 >= threshold;
            let high = (random >> 16) as u16 >= threshold;
            bits |= (u32::from(low) | u32::from(high) << 1) << (2 * word);
        }
        *chunk = bits.to_le_bytes();
    }
}

/// Elements that are made at a time.
const BLOCK: usize = 32;
/// Distance between consecutive counters: 2³² divided by the golden ratio.
const WEYL: u32 = 0x9e37_79b9;
/// Multipliers with the least bias that C. Wellons's search of 32-bit mixers found.
const MULTIPLIERS: [u32; 2] = [0x21f0_aaad, 0xd35a_2d97];

/// A word of two lanes.
fn hash(key: u64, counter: u32) -> u32 {
    let mut x = counter.wrapping_mul(WEYL).wrapping_add(key as u32);
    x = (x ^ (x >> 16)).wrapping_mul(MULTIPLIERS[0]) ^ (key >> 32) as u32;
    x = (x ^ (x >> 15)).wrapping_mul(MULTIPLIERS[1]);
    x ^ (x >> 15)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, MULTIPLIERS, WEYL};

    /// As the portable loop of the same name.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn random_bits(key: u64, threshold: u16, out: &mut [[u8; BLOCK / 8]]) {
        let weyl = _mm512_set1_epi32(WEYL as i32);
        let counters = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let mut state = _mm512_add_epi32(
            _mm512_mullo_epi32(counters, weyl),
            _mm512_set1_epi32(key as u32 as i32),
        );
        let step = _mm512_set1_epi32(WEYL.wrapping_mul(BLOCK as u32 / 2) as i32);
        let high = _mm512_set1_epi32((key >> 32) as u32 as i32);
        let first = _mm512_set1_epi32(MULTIPLIERS[0] as i32);
        let second = _mm512_set1_epi32(MULTIPLIERS[1] as i32);
        let threshold = _mm512_set1_epi16(threshold as i16);
        for out in out {
            let x = _mm512_xor_si512(state, _mm512_srli_epi32::<16>(state));
            let x = _mm512_xor_si512(_mm512_mullo_epi32(x, first), high);
            let x = _mm512_xor_si512(x, _mm512_srli_epi32::<15>(x));
            let x = _mm512_mullo_epi32(x, second);
            let x = _mm512_xor_si512(x, _mm512_srli_epi32::<15>(x));
            *out = _mm512_cmpge_epu16_mask(x, threshold).to_le_bytes();
            state = _mm512_add_epi32(state, step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masks<'a>(seeds: &'a [u64], rows: &'a [u32]) -> Masks<'a> {
        Masks { seeds, step: 7, rows, rate: 0.1, kind: Kind::Float, device: Device::Cpu }
    }

    #[test]
    fn vectors_make_the_bits_of_the_portable_loop() {
        let (key, threshold) = (mix(DOMAIN, 5), 6554u16);
        let mut found = [0u8; 24];
        random_bits(key, threshold, 150, &mut found);
        for lane in 0..150usize {
            let word = hash(key, lane as u32 / 2);
            let expected = (word >> (16 * (lane % 2))) as u16 >= threshold;
            assert_eq!(found[lane / 8] >> (lane % 8) & 1 == 1, expected, "lane {lane}");
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
