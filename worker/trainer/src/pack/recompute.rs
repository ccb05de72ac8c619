//! Activation checkpointing: of a pass only the inputs of the blocks are kept, and a block's
//! activations are computed again when the way back reaches it.

use std::rc::Rc;

use tch::{TchError, Tensor, no_grad};

use super::{Doing, Encoded, Error, Pack};
use crate::batch::Example;
use crate::collate::{Collated, Part};
use crate::dropout::Masks;
use crate::method::Lora;
use crate::model::{Model, Pass, Passed};

const DOING: &str = "compute losses and gradients";

/// What a piece of the pass is computed with. Every piece has its own, since a way back frees what
/// was recorded on the way from the parameters to them.
struct Piece {
    model: Rc<Model>,
    lora: Option<Lora>,
}

impl Piece {
    fn pass<'a>(&'a self, masks: Option<&'a Masks<'a>>) -> Pass<'a> {
        Pass { masks, lora: self.lora.as_ref() }
    }
}

/// A way back in pieces.
struct Back<'a> {
    leaves: &'a [Tensor],
    /// Gradients so far, one per leaf.
    sums: Vec<Tensor>,
}

impl Back<'_> {
    /// The gradient of `total` with respect to `input`; what the leaves get is added up.
    fn through(&mut self, total: &Tensor, input: &Tensor) -> Result<Tensor, TchError> {
        let wanted: Vec<&Tensor> = std::iter::once(input).chain(self.leaves).collect();
        let mut found = Tensor::f_run_backward(&[total], &wanted, false, false)?.into_iter();
        let gradient = found.next().unwrap_or_default();
        for (sum, more) in self.sums.iter_mut().zip(found).filter(|(_, more)| more.defined()) {
            *sum = if sum.defined() { sum.f_add(&more)? } else { more };
        }
        Ok(gradient)
    }
}

/// A number whose gradient with respect to `output` is `gradient`.
fn seen_from(output: &Tensor, gradient: &Tensor) -> Result<Tensor, TchError> {
    output.f_mul(gradient)?.f_sum(output.kind())
}

impl Pack {
    fn piece(&self) -> Result<Piece, Error> {
        Ok(Piece { model: self.current()?, lora: self.lora().doing(DOING)? })
    }

    /// Losses [K] and gradients as a way back in one piece gives them.
    pub(super) fn backward_in_pieces(
        &self,
        examples: &[&Example],
        masks: Option<&Masks<'_>>,
        tokens: usize,
    ) -> Result<(Tensor, Vec<Tensor>), Error> {
        let reseed = |piece: usize| masks.iter().for_each(|masks| masks.reseed(piece));
        let batch = Collated::new(examples, &self.rules(Part::Whole), &self.model).doing(DOING)?;
        let sequence = self.sequence(&batch).doing(DOING)?;
        let start = self.piece()?;
        let (first, mut hidden, mut kept) = (|| -> Result<_, TchError> {
            let trunk = start.model.trunk(&sequence, start.pass(masks))?;
            reseed(0);
            let first = trunk.begin(&self.inputs(&start.model, &batch)?)?;
            let (mut hidden, mut kept) = (first.f_detach()?, Vec::new());
            no_grad(|| -> Result<(), TchError> {
                for layer in 0..start.model.blocks() {
                    reseed(1 + layer);
                    let next = trunk.block(layer, &hidden, None)?;
                    kept.push(std::mem::replace(&mut hidden, next));
                }
                Ok(())
            })?;
            Ok((first, hidden, kept))
        })()
        .doing(DOING)?;
        let mut back = Back {
            leaves: &self.leaves,
            sums: self.leaves.iter().map(|_| Tensor::new()).collect(),
        };

        let Piece { model, lora } = self.piece()?;
        let (loss, mut gradient, sequence) = (|| -> Result<_, TchError> {
            hidden = hidden.f_set_requires_grad(true)?;
            reseed(1 + kept.len());
            let pass = Pass { masks, lora: lora.as_ref() };
            let states = model.trunk(&sequence, pass)?.end(&hidden)?;
            let (rows, _) = batch.input_ids.size2()?;
            let encoded = Encoded {
                passed: Passed::new(states, sequence),
                model,
                lora,
                rows,
                batch,
                examples: Vec::new(),
                chosen: false,
            };
            let loss = self.losses(&self.logits(&encoded, masks)?, &encoded.batch)?;
            let loss = loss.f_div_scalar(tokens as f64)?;
            // The sum's gradient is 1 for every trial: their gradients stay apart.
            let gradient = back.through(&loss.f_sum(loss.kind())?, &hidden)?;
            Ok((loss.f_detach()?, gradient, encoded.passed.sequence))
        })()
        .doing(DOING)?;

        while let Some(input) = kept.pop() {
            let piece = self.piece()?;
            gradient = (|| -> Result<Tensor, TchError> {
                let input = input.f_set_requires_grad(true)?;
                reseed(1 + kept.len());
                let trunk = piece.model.trunk(&sequence, piece.pass(masks))?;
                let output = trunk.block(kept.len(), &input, None)?;
                back.through(&seen_from(&output, &gradient)?, &input)
            })()
            .doing(DOING)?;
        }
        if first.requires_grad() {
            let total = seen_from(&first, &gradient).doing(DOING)?;
            // What it is for is added up on its way.
            let _ = back.through(&total, &first).doing(DOING)?;
        }
        Ok((loss, back.sums))
    }
}
