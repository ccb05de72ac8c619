//! Taking trials out of a pack and putting them back.

use tch::{Tensor, no_grad};

use super::{Doing, Error, Pack};
use crate::method::Adapter;

/// Everything that a trial needs to go on, as copies that share no memory with the pack.
#[derive(Debug)]
pub struct TrialState {
    /// Updates done.
    pub step: u64,
    /// P, A, B.
    pub parameters: Adapter,
    /// Their first moments.
    pub exp_avg: Adapter,
    /// Their second moments.
    pub exp_avg_sq: Adapter,
    /// The trial stands still since its loss or gradient was not finite.
    pub diverged: bool,
}

impl Pack {
    /// A copy of trial `k`'s parameters.
    ///
    /// # Errors
    /// [`Error::NoTrial`].
    pub fn parameters(&self, k: usize) -> Result<Adapter, Error> {
        self.copy_of(&self.params, k)
    }

    /// Overwrites trial `k`'s parameters, for example with those of a source task or the best
    /// snapshot; its moments stay.
    ///
    /// # Errors
    /// [`Error::StateShape`] when they do not fit.
    pub fn set_parameters(&mut self, k: usize, parameters: &Adapter) -> Result<(), Error> {
        self.overwrite(&self.params.shallow_clone(), k, parameters)
    }

    /// A copy of all that trial `k` needs to go on.
    ///
    /// # Errors
    /// [`Error::NoTrial`].
    pub fn state(&self, k: usize) -> Result<TrialState, Error> {
        Ok(TrialState {
            step: self.step,
            parameters: self.parameters(k)?,
            exp_avg: self.copy_of(&self.optim.exp_avg, k)?,
            exp_avg_sq: self.copy_of(&self.optim.exp_avg_sq, k)?,
            diverged: self.alive.f_int64_value(&[k as i64, 0]).doing("read a flag")? == 0,
        })
    }

    /// Puts all trials where their states, one per member in order, left off.
    ///
    /// # Errors
    /// [`Error`] when their number, steps or shapes do not fit; the pack must then be dropped.
    pub fn resume(&mut self, states: &[TrialState]) -> Result<(), Error> {
        let steps: Vec<u64> = states.iter().map(|state| state.step).collect();
        let (Some(&step), true) = (steps.first(), states.len() == self.members.len()) else {
            return Err(Error::NoTrial { trial: states.len(), members: self.members.len() });
        };
        if steps.iter().any(|&other| other != step) {
            return Err(Error::StateSteps { steps });
        }
        for (k, state) in states.iter().enumerate() {
            self.set_parameters(k, &state.parameters)?;
            self.overwrite(&self.optim.exp_avg.shallow_clone(), k, &state.exp_avg)?;
            self.overwrite(&self.optim.exp_avg_sq.shallow_clone(), k, &state.exp_avg_sq)?;
        }
        let alive: Vec<bool> = states.iter().map(|state| !state.diverged).collect();
        self.alive = Tensor::f_from_slice(&alive)
            .and_then(|alive| alive.f_view([-1, 1])?.f_to_device(self.model.device()))
            .doing("restore the flags")?;
        self.step = step;
        Ok(())
    }

    fn copy_of(&self, flat: &Tensor, k: usize) -> Result<Adapter, Error> {
        let method = self.method(k)?;
        no_grad(|| self.layout.views(flat, k, method)?.copied()).doing("copy a trial's state")
    }

    fn overwrite(&self, flat: &Tensor, k: usize, from: &Adapter) -> Result<(), Error> {
        let doing = "restore a trial's state";
        let method = self.method(k)?;
        let mut to = no_grad(|| self.layout.views(flat, k, method)).doing(doing)?;
        if from.shapes() != to.shapes() {
            let (found, expected) = (from.shapes(), to.shapes());
            return Err(Error::StateShape { trial: k, found, expected });
        }
        no_grad(|| to.copy_from(from)).doing(doing)
    }
}
