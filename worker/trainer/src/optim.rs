//! The reference's optimiser on the flat parameters of a pack.

use tch::{Kind, TchError, Tensor};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
/// Added before the bias correction, unlike torch's AdamW (where it is added after).
const EPSILON: f64 = 1e-6;

/// AdamW without weight decay, as `transformers.AdamW`: with m and v the moments at update t,
/// p -= lr·√(1-β₂ᵗ)/(1-β₁ᵗ) · m / (√v + ε). One state per trial, one joint gradient norm per
/// trial, and nothing that multiplies across trials.
pub(crate) struct AdamW {
    /// First moments [K, N].
    pub(crate) exp_avg: Tensor,
    /// Second moments [K, N].
    pub(crate) exp_avg_sq: Tensor,
    /// Learning rates before the schedule, [K, N].
    rates: Tensor,
    /// Largest joint gradient norm.
    clip: f64,
}

impl AdamW {
    pub(crate) fn new(rates: Tensor, clip: f64) -> Result<Self, TchError> {
        Ok(Self { exp_avg: rates.f_zeros_like()?, exp_avg_sq: rates.f_zeros_like()?, rates, clip })
    }

    /// Joint L2 norms [K, 1] of gradients [K, N].
    pub(crate) fn norms(grads: &Tensor) -> Result<Tensor, TchError> {
        grads.f_norm_scalaropt_dim(2.0, [1i64].as_slice(), true)
    }

    /// Update `step` (from 1) of `params` [K, N] with the schedule's `factor`. Trials whose
    /// `alive` [K, 1] is false keep parameters and moments.
    pub(crate) fn update(
        &mut self,
        params: &mut Tensor,
        grads: &Tensor,
        norms: &Tensor,
        alive: &Tensor,
        step: u64,
        factor: f64,
    ) -> Result<(), TchError> {
        let clip = norms.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(self.clip)?;
        let grads = grads.f_mul(&clip.f_clamp_max(1.0)?)?;
        let exp_avg = self.exp_avg.f_mul_scalar(BETA1)?.f_add(&grads.f_mul_scalar(1.0 - BETA1)?)?;
        let squares = grads.f_square()?.f_mul_scalar(1.0 - BETA2)?;
        let exp_avg_sq = self.exp_avg_sq.f_mul_scalar(BETA2)?.f_add(&squares)?;
        let t = step as f64;
        let correction = (1.0 - BETA2.powf(t)).sqrt() / (1.0 - BETA1.powf(t));
        let change = exp_avg
            .f_div(&exp_avg_sq.f_sqrt()?.f_add_scalar(EPSILON)?)?
            .f_mul(&self.rates.f_mul_scalar(factor * correction)?)?;
        let updated = params.f_sub(&change)?;
        self.exp_avg = exp_avg.f_where_self(alive, &self.exp_avg)?;
        self.exp_avg_sq = exp_avg_sq.f_where_self(alive, &self.exp_avg_sq)?;
        let updated = updated.f_where_self(alive, params)?;
        params.f_copy_(&updated)
    }
}

/// Which trials [K, 1] go on: those with finite loss and gradient norm.
pub(crate) fn finite(losses: &Tensor, norms: &Tensor) -> Result<Tensor, TchError> {
    let losses = losses.f_view([-1, 1])?.f_isfinite()?;
    norms.f_isfinite()?.f_logical_and(&losses)?.f_to_kind(Kind::Bool)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn row(values: &[f64]) -> Tensor {
        Tensor::from_slice(values).view([-1, 2])
    }

    /// The update rule written out for one number.
    fn expected(gradients: &[f64], rate: f64) -> f64 {
        let (mut p, mut m, mut v) = (0.0, 0.0, 0.0f64);
        for (g, t) in gradients.iter().zip(1..) {
            m = BETA1 * m + (1.0 - BETA1) * g;
            v = BETA2 * v + (1.0 - BETA2) * g * g;
            let correction = (1.0 - BETA2.powi(t)).sqrt() / (1.0 - BETA1.powi(t));
            p -= rate * correction * m / (v.sqrt() + EPSILON);
        }
        p
    }

    #[test]
    fn each_trial_is_clipped_by_its_own_norm_and_stopped_ones_stand_still() {
        // Norms 5 and 0.5 and not a number; the last trial is not alive.
        let grads = row(&[3.0, 4.0, 0.3, 0.4, f64::NAN, 1.0]);
        let rates = row(&[0.1, 0.2, 0.1, 0.2, 0.1, 0.2]);
        let mut params = Tensor::zeros([3, 2], (Kind::Double, Device::Cpu));
        let mut optim = AdamW::new(rates, 1.0).unwrap();
        let losses = Tensor::from_slice(&[1.0, 1.0, 1.0]);
        let norms = AdamW::norms(&grads).unwrap();
        let alive = finite(&losses, &norms).unwrap();
        for step in 1..=3 {
            optim.update(&mut params, &grads, &norms, &alive, step, 0.5).unwrap();
        }
        let clipped = 1.0 / (5.0 + 1e-6);
        let wanted = [
            expected(&[3.0 * clipped; 3], 0.05),
            expected(&[4.0 * clipped; 3], 0.1),
            expected(&[0.3; 3], 0.05),
            expected(&[0.4; 3], 0.1),
            0.0,
            0.0,
        ];
        let difference = (&params - row(&wanted)).abs().max().double_value(&[]);
        assert!(difference < 1e-12, "{params:?} {wanted:?}");
        // The step hardly shows a common factor of the gradients; the moments do.
        let moments = optim.exp_avg.get(0) / (1.0 - BETA1.powi(3));
        let difference = (moments - row(&[3.0 * clipped, 4.0 * clipped]).get(0)).abs().max();
        assert!(difference.double_value(&[]) < 1e-12);
        assert_eq!(optim.exp_avg_sq.get(2).abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn a_loss_that_is_not_finite_stops_its_trial() {
        let norms = Tensor::from_slice(&[1.0, f64::INFINITY, 1.0]).view([3, 1]);
        let alive = finite(&Tensor::from_slice(&[1.0, 1.0, f64::NAN]), &norms).unwrap();
        assert_eq!(Vec::<bool>::try_from(alive.view([-1])).unwrap(), [true, false, false]);
    }
}
