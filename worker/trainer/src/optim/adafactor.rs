//! Adafactor (Shazeer and Stern 2018), with which prompt tuning was published (Lester et al.
//! 2021): the learning rate is the one given, neither relative nor scaled.

use tch::{TchError, Tensor, no_grad};

use super::{Options, Update};
use crate::method::{Adapter, Layout, Method};

/// Exponent of the decay rate.
const DECAY: f64 = -0.8;
/// Added to the squared gradient.
const EPSILON: f64 = 1e-30;
/// Largest root mean square of an update, in units of the learning rate.
const CLIP: f64 = 1.0;

/// `transformers.Adafactor` with `scale_parameter`, `relative_step` and `warmup_init` off and no
/// first moment. At update t, with β = 1 - t^-0.8 and q = g² + 10⁻³⁰, a matrix keeps two vectors,
///
/// R = β R + (1-β)·(mean of q over columns),  C = β C + (1-β)·(mean of q over rows),
///
/// and u = g / (√(R / mean(R)) · √C); any other tensor keeps V = β V + (1-β) q and has
/// u = g / √V. Then p -= lr·w·p for a weight decay w, and p -= lr · u / max(1, rms(u)).
pub(super) struct Adafactor {
    layout: Layout,
    /// Per trial.
    trials: Vec<Trial>,
    weight_decay: f64,
}

struct Trial {
    method: Method,
    /// Learning rate and statistics per parameter.
    parts: Vec<(String, f64, Statistics)>,
}

enum Statistics {
    /// R [rows] and C [columns].
    Factored {
        row: Tensor,
        column: Tensor,
    },
    Whole(Tensor),
}

impl Adafactor {
    pub(super) fn new(params: &Tensor, options: &Options<'_>) -> Result<Self, TchError> {
        let layout = options.layout.clone();
        let mut trials = Vec::new();
        for (k, &method) in options.methods.iter().enumerate() {
            let own = no_grad(|| layout.views(params, k, method))?;
            let mut parts = Vec::new();
            for (name, tensor) in own.named() {
                let zeros =
                    |shape: &[i64]| Tensor::f_zeros(shape, (tensor.kind(), tensor.device()));
                let statistics = match *tensor.size().as_slice() {
                    [rows, columns] => {
                        Statistics::Factored { row: zeros(&[rows])?, column: zeros(&[columns])? }
                    }
                    ref shape => Statistics::Whole(zeros(shape)?),
                };
                let rate = layout.rate_of(name).map_or(0.0, |which| (options.rates)(k, which));
                parts.push((name.to_owned(), rate, statistics));
            }
            trials.push(Trial { method, parts });
        }
        Ok(Self { layout, trials, weight_decay: options.weight_decay })
    }

    pub(super) fn update(
        &mut self,
        params: &mut Tensor,
        update: Update<'_>,
    ) -> Result<(), TchError> {
        let beta = 1.0 - (update.step as f64).powf(DECAY);
        for (k, trial) in self.trials.iter_mut().enumerate() {
            let alive = update.alive.f_get(k as i64)?;
            let grads = self.layout.views(update.grads, k, trial.method)?;
            let own = self.layout.views(params, k, trial.method)?;
            for ((_, rate, statistics), ((_, grad), (_, tensor))) in
                trial.parts.iter_mut().zip(grads.named().zip(own.named()))
            {
                let direction = statistics.update(grad, beta, &alive)?;
                // rms(u) of the tensor as a whole.
                let size = (direction.numel() as f64).sqrt();
                let rms = direction.f_norm()?.f_div_scalar(size * CLIP)?.f_clamp_min(1.0)?;
                let rate = *rate * update.factor;
                let change = direction.f_div(&rms)?.f_mul_scalar(rate)?;
                let mut updated = tensor.shallow_clone();
                if self.weight_decay > 0.0 {
                    updated = updated.f_sub(&updated.f_mul_scalar(rate * self.weight_decay)?)?;
                }
                let updated = updated.f_sub(&change)?.f_where_self(&alive, tensor)?;
                tensor.shallow_clone().f_copy_(&updated)?;
            }
        }
        Ok(())
    }

    /// `exp_avg_sq_row.*` and `exp_avg_sq_col.*` of matrices, `exp_avg_sq.*` of other tensors.
    pub(super) fn state(&self, k: usize) -> Adapter {
        let mut tensors = Vec::new();
        for (name, _, statistics) in self.trials.get(k).map_or(&[][..], |trial| &trial.parts) {
            match statistics {
                Statistics::Factored { row, column } => tensors.extend([
                    (format!("exp_avg_sq_row.{name}"), row.shallow_clone()),
                    (format!("exp_avg_sq_col.{name}"), column.shallow_clone()),
                ]),
                Statistics::Whole(whole) => {
                    tensors.push((format!("exp_avg_sq.{name}"), whole.shallow_clone()));
                }
            }
        }
        Adapter::new(tensors)
    }
}

impl Statistics {
    /// Takes in a gradient, unless `alive` [1] is false, and gives u.
    fn update(&mut self, grad: &Tensor, beta: f64, alive: &Tensor) -> Result<Tensor, TchError> {
        let square = grad.f_square()?.f_add_scalar(EPSILON)?;
        let blend = |old: &mut Tensor, new: &Tensor| -> Result<(), TchError> {
            let blended = old.f_mul_scalar(beta)?.f_add(&new.f_mul_scalar(1.0 - beta)?)?;
            old.f_copy_(&blended.f_where_self(alive, old)?)
        };
        match self {
            Self::Factored { row, column } => {
                blend(row, &square.f_mean_dim([1i64].as_slice(), false, square.kind())?)?;
                blend(column, &square.f_mean_dim([0i64].as_slice(), false, square.kind())?)?;
                let rows = row.f_div(&row.f_mean(row.kind())?)?.f_rsqrt()?.f_unsqueeze(1)?;
                let columns = column.f_rsqrt()?.f_unsqueeze(0)?;
                rows.f_mul(&columns)?.f_mul(grad)
            }
            Self::Whole(whole) => {
                blend(whole, &square)?;
                whole.f_rsqrt()?.f_mul(grad)
            }
        }
    }
}
