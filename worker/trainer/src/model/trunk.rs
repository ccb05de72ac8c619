//! The blocks that a text passes (a T5's encoder, or a decoder), one by one: what is computed again
//! on the way back is computed from the inputs of a block.

use tch::{TchError, Tensor};

use super::layers::Cache;
use super::{Body, Model, Pass, Sequence, decoder, t5};

/// One pass, with its masks, biases and pairs.
pub(crate) enum Trunk<'a> {
    T5(t5::encoder::Walk<'a>),
    Decoder(decoder::Walk<'a>),
}

impl Model {
    /// Blocks of the trunk.
    pub(crate) fn blocks(&self) -> usize {
        match &self.body {
            Body::T5(t5) => t5.encoder.blocks.len(),
            Body::Decoder(decoder) => decoder.len(),
        }
    }

    pub(crate) fn trunk<'a>(
        &'a self,
        sequence: &Sequence,
        pass: Pass<'a>,
    ) -> Result<Trunk<'a>, TchError> {
        match &self.body {
            Body::T5(t5) => {
                t5.encoder.walk(sequence.mask.as_ref(), sequence.axis, pass).map(Trunk::T5)
            }
            Body::Decoder(decoder) => {
                decoder.walk(sequence, (self.kind, self.device), pass).map(Trunk::Decoder)
            }
        }
    }
}

impl Trunk<'_> {
    /// What the first block takes, of embedded inputs [K, B, T, d]; same shape, as all that
    /// follows.
    pub(crate) fn begin(&self, inputs: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Trunk::T5(walk) => walk.begin(inputs),
            Trunk::Decoder(walk) => walk.begin(inputs),
        }
    }

    /// With a cache, a decoder's keys and values are kept for what follows.
    pub(crate) fn block(
        &self,
        layer: usize,
        hidden: &Tensor,
        cache: Option<&mut Cache>,
    ) -> Result<Tensor, TchError> {
        match self {
            Trunk::T5(walk) => walk.block(layer, hidden),
            Trunk::Decoder(walk) => walk.block(layer, hidden, cache),
        }
    }

    /// Last hidden states, of what the last block gave.
    pub(crate) fn end(&self, hidden: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Trunk::T5(walk) => walk.end(hidden),
            Trunk::Decoder(walk) => walk.end(hidden),
        }
    }
}
