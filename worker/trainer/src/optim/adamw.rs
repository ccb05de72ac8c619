//! The reference's optimiser.

use tch::{TchError, Tensor, no_grad};

use super::{Options, Update};
use crate::method::{Adapter, Layout, Method};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
/// Added before the bias correction, unlike torch's AdamW (where it is added after).
const EPSILON: f64 = 1e-6;

/// AdamW as `transformers.AdamW`: with m and v the moments at update t,
/// p -= lr·√(1-β₂ᵗ)/(1-β₁ᵗ) · m / (√v + ε), and then, with weight decay w, p -= lr·w·p.
pub(super) struct AdamW {
    /// First moments [K, N].
    exp_avg: Tensor,
    /// Second moments [K, N].
    exp_avg_sq: Tensor,
    /// Learning rates before the schedule, [K, N], or [K, 1] where a trial has only one.
    rates: Tensor,
    weight_decay: f64,
}

impl AdamW {
    pub(super) fn new(params: &Tensor, options: &Options<'_>) -> Result<Self, TchError> {
        let layout = options.layout;
        let rates_of = |k: usize| -> Vec<f64> {
            let rate = |which| (options.rates)(k, which);
            match layout.segment_rates().next() {
                Some(only) if layout.one_rate() => vec![rate(only)],
                _ => layout.rates(rate),
            }
        };
        let rates: Vec<f64> = (0..options.methods.len()).flat_map(rates_of).collect();
        let rates = Tensor::f_from_slice(&rates)?
            .f_view([options.methods.len() as i64, -1])?
            .f_to_kind(params.kind())?
            .f_to_device(params.device())?;
        let zeros = || params.f_detach()?.f_zeros_like();
        let weight_decay = options.weight_decay;
        Ok(Self { exp_avg: zeros()?, exp_avg_sq: zeros()?, rates, weight_decay })
    }

    pub(super) fn update(
        &mut self,
        params: &mut Tensor,
        update: Update<'_>,
    ) -> Result<(), TchError> {
        let Update { grads, alive, step, factor, .. } = update;
        let exp_avg = self.exp_avg.f_mul_scalar(BETA1)?.f_add(&grads.f_mul_scalar(1.0 - BETA1)?)?;
        let squares = grads.f_square()?.f_mul_scalar(1.0 - BETA2)?;
        let exp_avg_sq = self.exp_avg_sq.f_mul_scalar(BETA2)?.f_add(&squares)?;
        let t = step as f64;
        let correction = (1.0 - BETA2.powf(t)).sqrt() / (1.0 - BETA1.powf(t));
        let change = exp_avg
            .f_div(&exp_avg_sq.f_sqrt()?.f_add_scalar(EPSILON)?)?
            .f_mul(&self.rates.f_mul_scalar(factor * correction)?)?;
        let mut updated = params.f_sub(&change)?;
        if self.weight_decay > 0.0 {
            let decay = self.rates.f_mul_scalar(factor * self.weight_decay)?;
            updated = updated.f_sub(&updated.f_mul(&decay)?)?;
        }
        self.exp_avg = exp_avg.f_where_self(alive, &self.exp_avg)?;
        self.exp_avg_sq = exp_avg_sq.f_where_self(alive, &self.exp_avg_sq)?;
        let updated = updated.f_where_self(alive, params)?;
        params.f_copy_(&updated)
    }

    /// `exp_avg.*` and `exp_avg_sq.*`, one tensor per parameter.
    pub(super) fn state(
        &self,
        layout: &Layout,
        k: usize,
        method: Method,
    ) -> Result<Adapter, TchError> {
        no_grad(|| {
            let mut state = layout.views(&self.exp_avg, k, method)?.prefixed("exp_avg.");
            state.extend(layout.views(&self.exp_avg_sq, k, method)?.prefixed("exp_avg_sq."));
            Ok(state)
        })
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::super::{Optim, Optimizer, finite};
    use super::*;
    use crate::method::{Dimensions, Rate};

    fn row(values: &[f64]) -> Tensor {
        Tensor::from_slice(values).view([-1, 2])
    }

    /// The update rule written out for one number.
    fn expected(start: f64, gradients: &[f64], rate: f64, decay: f64) -> f64 {
        let (mut p, mut m, mut v) = (start, 0.0, 0.0f64);
        for (g, t) in gradients.iter().zip(1..) {
            m = BETA1 * m + (1.0 - BETA1) * g;
            v = BETA2 * v + (1.0 - BETA2) * g * g;
            let correction = (1.0 - BETA2.powi(t)).sqrt() / (1.0 - BETA1.powi(t));
            p -= rate * correction * m / (v.sqrt() + EPSILON);
            p -= rate * decay * p;
        }
        p
    }

    #[test]
    fn each_trial_is_clipped_by_its_own_norm_and_stopped_ones_stand_still() {
        // Prompts of two numbers.
        let methods = [Method::PromptTuning { prompt_length: 2 }; 3];
        let dimensions = Dimensions { max_length: 1, d_model: 1, ..Dimensions::default() };
        let layout = Layout::new(&methods, &dimensions);
        for decay in [0.0, 0.1] {
            // Norms 5 and 0.5 and not a number; the last trial is not alive.
            let grads = row(&[3.0, 4.0, 0.3, 0.4, f64::NAN, 1.0]);
            let mut params = Tensor::ones([3, 2], (Kind::Double, Device::Cpu));
            let options = Options {
                layout: &layout,
                methods: &methods,
                rates: &|k, rate| if rate == Rate::Prompt { 0.1 * (k + 1) as f64 } else { 9.0 },
                weight_decay: decay,
                clip: 1.0,
            };
            let mut optim = Optim::new(Optimizer::AdamW, &params, &options).unwrap();
            let norms = Optim::norms(&grads).unwrap();
            let alive = finite(&Tensor::from_slice(&[1.0, 1.0, 1.0]), &norms).unwrap();
            let (grads, norms, alive) = (&grads, &norms, &alive);
            for step in 1..=3 {
                let update = Update { grads, norms, alive, step, factor: 0.5 };
                optim.update(&mut params, update).unwrap();
            }
            let clipped = 1.0 / (5.0 + 1e-6);
            let wanted = [
                expected(1.0, &[3.0 * clipped; 3], 0.05, decay),
                expected(1.0, &[4.0 * clipped; 3], 0.05, decay),
                expected(1.0, &[0.3; 3], 0.1, decay),
                expected(1.0, &[0.4; 3], 0.1, decay),
                1.0,
                1.0,
            ];
            let difference = (&params - row(&wanted)).abs().max().double_value(&[]);
            assert!(difference < 1e-12, "{params:?} {wanted:?}");
            // The step hardly shows a common factor of the gradients; the moments do.
            let state = |k: usize| optim.state(&layout, k, methods[k]).unwrap();
            let moments = state(0).get("exp_avg.prompt_embeddings").unwrap().view([2])
                / (1.0 - BETA1.powi(3));
            let difference = (moments - row(&[3.0 * clipped, 4.0 * clipped]).get(0)).abs().max();
            assert!(difference.double_value(&[]) < 1e-12);
            let still = state(2);
            let still = still.get("exp_avg_sq.prompt_embeddings").unwrap();
            assert_eq!(still.abs().max().double_value(&[]), 0.0);
        }
    }
}
