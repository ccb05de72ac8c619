//! Where the parameters of a pack lie: one flat buffer [K, N] with N = P | A | B, so that
//! clipping and AdamW are the same few operations for any K.
//!
//! Trials may differ in m and r. A shorter prompt takes the last rows of the prompt's place (the
//! rows in front of it are masked keys), a smaller rank the first columns of A and rows of B
//! (the others are zero in both, so their gradients are exactly zero).

use tch::{TchError, Tensor};

use super::{Adapter, LowRank, Method};

/// Sizes of the flat buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// Longest prompt of the pack.
    pub(crate) prompt_length: i64,
    /// Largest rank of the pack.
    pub(crate) rank: i64,
    /// s
    pub(crate) max_length: i64,
    /// d
    pub(crate) d_model: i64,
}

impl Layout {
    pub(crate) fn new(methods: &[Method], max_length: usize, d_model: usize) -> Self {
        let largest = |size: fn(Method) -> usize| {
            methods.iter().map(|&method| size(method)).max().unwrap_or(0) as i64
        };
        Self {
            prompt_length: largest(Method::prompt_length),
            rank: largest(Method::rank),
            max_length: max_length as i64,
            d_model: d_model as i64,
        }
    }

    fn prompt_size(&self) -> i64 {
        self.prompt_length * self.d_model
    }

    /// N
    pub(crate) fn size(&self) -> i64 {
        self.prompt_size() + self.rank * (self.max_length + self.d_model)
    }

    /// P [K, m, d] of a buffer [K, N].
    pub(crate) fn prompt(&self, flat: &Tensor) -> Result<Tensor, TchError> {
        flat.f_narrow(1, 0, self.prompt_size())?.f_view([-1, self.prompt_length, self.d_model])
    }

    /// A [K, s, r] of a buffer [K, N].
    pub(crate) fn lowrank_a(&self, flat: &Tensor) -> Result<Tensor, TchError> {
        flat.f_narrow(1, self.prompt_size(), self.max_length * self.rank)?.f_view([
            -1,
            self.max_length,
            self.rank,
        ])
    }

    /// B [K, r, d] of a buffer [K, N].
    pub(crate) fn lowrank_b(&self, flat: &Tensor) -> Result<Tensor, TchError> {
        let start = self.prompt_size() + self.max_length * self.rank;
        flat.f_narrow(1, start, self.rank * self.d_model)?.f_view([-1, self.rank, self.d_model])
    }

    /// The places of one trial in row `k` of a buffer, as views shaped P [m, d], A [s, r],
    /// B [r, d].
    pub(crate) fn views(
        &self,
        flat: &Tensor,
        k: usize,
        method: Method,
    ) -> Result<Adapter, TchError> {
        let row = flat.f_narrow(0, k as i64, 1)?;
        let length = method.prompt_length() as i64;
        let prompt =
            self.prompt(&row)?.f_get(0)?.f_narrow(0, self.prompt_length - length, length)?;
        let rank = method.rank() as i64;
        if rank == 0 {
            return Ok(Adapter { prompt, lowrank: None });
        }
        let a = self.lowrank_a(&row)?.f_get(0)?.f_narrow(1, 0, rank)?;
        let b = self.lowrank_b(&row)?.f_get(0)?.f_narrow(0, 0, rank)?;
        Ok(Adapter { prompt, lowrank: Some(LowRank { a, b }) })
    }

    /// Learning rates per element [K, N] of one trial's row as f64 values: `prompt_lr` on P,
    /// `lowrank_lr` on A and B.
    pub(crate) fn rates(&self, prompt_lr: f64, lowrank_lr: f64) -> Vec<f64> {
        let mut rates = vec![prompt_lr; self.prompt_size() as usize];
        rates.resize(self.size() as usize, lowrank_lr);
        rates
    }
}

impl Adapter {
    /// A copy that shares no memory with the pack.
    pub(crate) fn copied(&self) -> Result<Self, TchError> {
        let copy = |tensor: &Tensor| -> Result<Tensor, TchError> {
            let mut copy = Tensor::f_empty(tensor.size(), (tensor.kind(), tensor.device()))?;
            copy.f_copy_(&tensor.f_detach()?)?;
            Ok(copy)
        };
        let lowrank = match &self.lowrank {
            None => None,
            Some(LowRank { a, b }) => Some(LowRank { a: copy(a)?, b: copy(b)? }),
        };
        Ok(Self { prompt: copy(&self.prompt)?, lowrank })
    }

    /// Overwrites these tensors with another's values.
    pub(crate) fn copy_from(&mut self, other: &Self) -> Result<(), TchError> {
        self.prompt.f_copy_(&other.prompt)?;
        if let (Some(to), Some(from)) = (&mut self.lowrank, &other.lowrank) {
            to.a.f_copy_(&from.a)?;
            to.b.f_copy_(&from.b)?;
        }
        Ok(())
    }

    /// Shapes in the order P, A, B.
    pub(crate) fn shapes(&self) -> Vec<Vec<i64>> {
        self.named().into_iter().map(|(_, tensor)| tensor.size()).collect()
    }
}
