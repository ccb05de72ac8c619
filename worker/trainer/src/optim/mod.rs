//! The optimisers on the flat parameters [K, N] of a pack: one state per trial, one joint
//! gradient norm per trial, and nothing that multiplies across trials.

mod adafactor;
mod adamw;

pub use deptune_sweep::spec::Optimizer;
use tch::{Kind, TchError, Tensor};

use crate::method::{Adapter, Layout, Method, Rate};
use adafactor::Adafactor;
use adamw::AdamW;

/// One update's inputs.
#[derive(Clone, Copy)]
pub(crate) struct Update<'a> {
    /// Gradients [K, N] before clipping.
    pub(crate) grads: &'a Tensor,
    /// Their joint L2 norms [K, 1].
    pub(crate) norms: &'a Tensor,
    /// Trials whose flag [K, 1] is false keep parameters and state.
    pub(crate) alive: &'a Tensor,
    /// Number of the update, from 1.
    pub(crate) step: u64,
    /// The schedule's factor on the learning rates.
    pub(crate) factor: f64,
}

/// What all optimisers take.
pub(crate) struct Options<'a> {
    pub(crate) layout: &'a Layout,
    /// The trials' methods.
    pub(crate) methods: &'a [Method],
    /// Every trial's learning rates before the schedule.
    pub(crate) rates: &'a dyn Fn(usize, Rate) -> f64,
    /// Decoupled weight decay.
    pub(crate) weight_decay: f64,
    /// Largest joint gradient norm.
    pub(crate) clip: f64,
}

enum Rule {
    AdamW(AdamW),
    Adafactor(Adafactor),
}

/// An optimiser with its state.
pub(crate) struct Optim {
    rule: Rule,
    clip: f64,
}

impl Optim {
    /// A fresh state for parameters [K, N].
    pub(crate) fn new(
        kind: Optimizer,
        params: &Tensor,
        options: &Options<'_>,
    ) -> Result<Self, TchError> {
        let rule = match kind {
            Optimizer::AdamW => Rule::AdamW(AdamW::new(params, options)?),
            Optimizer::Adafactor => Rule::Adafactor(Adafactor::new(params, options)?),
        };
        Ok(Self { rule, clip: options.clip })
    }

    /// Joint L2 norms [K, 1] of gradients [K, N].
    pub(crate) fn norms(grads: &Tensor) -> Result<Tensor, TchError> {
        grads.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)
    }

    /// Clips the gradients to the largest norm, g·min(1, clip/(‖g‖+10⁻⁶)), and updates `params`
    /// [K, N] in place.
    pub(crate) fn update(
        &mut self,
        params: &mut Tensor,
        update: Update<'_>,
    ) -> Result<(), TchError> {
        let clip = update.norms.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(self.clip)?;
        let grads = update.grads.f_mul(&clip.f_clamp_max(1.0)?)?;
        let update = Update { grads: &grads, ..update };
        match &mut self.rule {
            Rule::AdamW(rule) => rule.update(params, update),
            Rule::Adafactor(rule) => rule.update(params, update),
        }
    }

    /// What is kept of trial `k`, not copied.
    pub(crate) fn state(
        &self,
        layout: &Layout,
        k: usize,
        method: Method,
    ) -> Result<Adapter, TchError> {
        match &self.rule {
            Rule::AdamW(rule) => rule.state(layout, k, method),
            Rule::Adafactor(rule) => Ok(rule.state(k)),
        }
    }
}

/// Which trials [K, 1] go on: those with finite loss and gradient norm.
pub(crate) fn finite(losses: &Tensor, norms: &Tensor) -> Result<Tensor, TchError> {
    let losses = losses.f_view([-1, 1])?.f_isfinite()?;
    norms.f_isfinite()?.f_logical_and(&losses)?.f_to_kind(Kind::Bool)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_not_finite_stops_its_trial() {
        let norms = Tensor::from_slice(&[1.0, f64::INFINITY, 1.0]).view([3, 1]);
        let alive = finite(&Tensor::from_slice(&[1.0, 1.0, f64::NAN]), &norms).unwrap();
        assert_eq!(Vec::<bool>::try_from(alive.view([-1])).unwrap(), [true, false, false]);
    }
}
