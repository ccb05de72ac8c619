//! The sublayers that encoder and decoder share, with the way back to their inputs: the weights
//! are frozen, so that no gradient of theirs is needed.

use tch::{TchError, Tensor};

use super::buffer::{Buffer, Pool};
use super::element::Element;
use super::kernels::{self, Drop};
use super::products::{linear, linear_back};
use super::weights::FeedForward;
use crate::dropout::Law;

/// What the way back through a norm needs.
pub(super) struct SavedNorm<E> {
    unit: Buffer<E>,
    factors: Buffer<f32>,
}

/// RMS norm of tokens [n, d]; also gives the normed tokens as products take them.
pub(super) fn norm<E: Element>(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    pool: &mut Pool,
) -> (SavedNorm<E>, Buffer<E>) {
    let (mut unit, mut scaled) = (pool.take(x.len()), pool.take(x.len()));
    let mut factors = pool.take(x.len() / weight.len().max(1));
    kernels::norm(x, weight, epsilon, &mut unit, &mut scaled, &mut factors);
    (SavedNorm { unit, factors }, scaled)
}

impl<E: Element> SavedNorm<E> {
    /// Adds the gradient of the norm's input to `dx`.
    pub(super) fn back<G: Element>(
        self,
        grad: &[G],
        weight: &[f32],
        dx: &mut [f32],
        pool: &mut Pool,
    ) {
        kernels::norm_back(grad, &self.unit, weight, &self.factors, dx);
        self.give(pool);
    }

    pub(super) fn give(self, pool: &mut Pool) {
        pool.give(self.unit);
        pool.give(self.factors);
    }
}

/// x += (input Wᵀ) ∘ mask.
pub(super) fn project<E: Element>(
    input: &[E],
    weight: &Tensor,
    x: &mut [f32],
    width: usize,
    drop: Option<Drop<'_>>,
    pool: &mut Pool,
) -> Result<(), TchError> {
    let mut out: Buffer<E> = pool.take(x.len());
    linear(input, weight, &mut out)?;
    kernels::add_dropped(x, &out, width, drop);
    pool.give(out);
    Ok(())
}

/// The way back through [`project`]: the gradient of its input, `inputs` numbers in all.
pub(super) fn project_back<E: Element>(
    dx: &[f32],
    weight: &Tensor,
    width: usize,
    inputs: usize,
    drop: Option<Drop<'_>>,
    pool: &mut Pool,
) -> Result<Buffer<E>, TchError> {
    let mut grad: Buffer<E> = pool.take(dx.len());
    kernels::dropped(dx, width, drop, &mut grad);
    let mut back = pool.take(inputs);
    linear_back(&grad, weight, &mut back)?;
    pool.give(grad);
    Ok(back)
}

/// What the way back through a feed-forward sublayer needs.
pub(super) struct SavedFeedForward<E> {
    norm: SavedNorm<E>,
    inner: Inner<E>,
}

impl<E: Element> SavedFeedForward<E> {
    pub(super) fn give(self, pool: &mut Pool) {
        self.norm.give(pool);
        match self.inner {
            Inner::Relu(active) => pool.give(active),
            Inner::Gated(u) => pool.give(u),
        }
    }
}

enum Inner<E> {
    /// Which elements passed relu and dropout.
    Relu(Buffer<u8>),
    /// Gate and value.
    Gated(Buffer<E>),
}

/// Dropout within and behind a feed-forward sublayer.
#[derive(Clone, Copy)]
pub(super) struct FeedForwardDrops<'a> {
    pub(super) inner: Option<Drop<'a>>,
    pub(super) output: Option<Drop<'a>>,
}

impl FeedForward {
    fn inner_width(&self, tokens: usize) -> usize {
        tokens * if self.gated { 2 * self.width } else { self.width }
    }

    /// The sublayer with its norm and residual connection, on tokens x [n, d] in place.
    pub(super) fn forward<E: Element>(
        &self,
        x: &mut [f32],
        epsilon: f32,
        law: &Law,
        drops: FeedForwardDrops<'_>,
        pool: &mut Pool,
    ) -> Result<SavedFeedForward<E>, TchError> {
        let d = self.norm.len();
        let tokens = x.len() / d;
        let (norm, scaled) = norm(x, &self.norm, epsilon, pool);
        let mut u: Buffer<E> = pool.take(self.inner_width(tokens));
        linear(&scaled, &self.inner, &mut u)?;
        pool.give(scaled);
        let inner = if self.gated {
            let mut out: Buffer<E> = pool.take(tokens * self.width);
            kernels::gated(&u, self.width, drops.inner, law, &mut out);
            project(&out, &self.outer, x, d, drops.output, pool)?;
            pool.give(out);
            Inner::Gated(u)
        } else {
            let mut active = pool.take(tokens * self.width / 8);
            kernels::relu(&mut u, self.width, drops.inner, &mut active);
            project(&u, &self.outer, x, d, drops.output, pool)?;
            pool.give(u);
            Inner::Relu(active)
        };
        Ok(SavedFeedForward { norm, inner })
    }

    /// Adds the gradient of the sublayer's input to that of its output, dx [n, d].
    pub(super) fn back<E: Element>(
        &self,
        saved: SavedFeedForward<E>,
        dx: &mut [f32],
        law: &Law,
        drops: FeedForwardDrops<'_>,
        pool: &mut Pool,
    ) -> Result<(), TchError> {
        let d = self.norm.len();
        let tokens = dx.len() / d;
        let inner = tokens * self.width;
        let mut du: Buffer<E> = project_back(dx, &self.outer, d, inner, drops.output, pool)?;
        match saved.inner {
            Inner::Relu(active) => {
                kernels::relu_back(&mut du, &active, law);
                pool.give(active);
            }
            Inner::Gated(u) => {
                let grad = du;
                du = pool.take(self.inner_width(tokens));
                kernels::gated_back(&grad, &u, self.width, drops.inner, law, &mut du);
                pool.give(grad);
                pool.give(u);
            }
        }
        let mut grad: Buffer<E> = pool.take(dx.len());
        linear_back(&du, &self.inner, &mut grad)?;
        pool.give(du);
        saved.norm.back(&grad, &self.norm, dx, pool);
        pool.give(grad);
        Ok(())
    }
}
