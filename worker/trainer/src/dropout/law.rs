//! Masks as bits: how they are made on the processor.

use super::random::random_bits;
use super::{Axis, PROMPT, Place, mix};

/// Random bits that decide one element.
const LANE_BITS: u32 = 16;
/// Elements of one word of a mask.
const WORD: usize = 64;

/// Masks bit by bit: runs of the same length, each from a byte of its own on. A bit that is set
/// keeps its element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    bytes: Vec<u8>,
    /// Bytes from one run to the next, a multiple of 8.
    pitch: usize,
}

impl Bits {
    pub(super) fn new(runs: usize, longest: usize) -> Self {
        let pitch = longest.div_ceil(WORD) * (WORD / 8);
        Self { bytes: vec![0; runs * pitch], pitch }
    }

    /// The bits of a run, least significant first; a few beyond its length are 0 or 1.
    #[must_use]
    pub(crate) fn run(&self, place: usize) -> &[u8] {
        self.bytes.get(place * self.pitch..(place + 1) * self.pitch).unwrap_or_default()
    }

    pub(super) fn runs_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_exact_mut(self.pitch.max(1))
    }
}

/// How random lanes become bits, and bits become factors.
#[derive(Debug, Clone)]
pub(crate) struct Law {
    pub(super) threshold: u16,
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

    pub(super) fn spread(&self, bits: &[u8], out: &mut [f32]) {
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

    pub(super) fn hidden<'a>(
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
    pub(super) fn weights<'a>(
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
