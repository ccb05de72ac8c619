//! Taking trials out of a pack and putting them back.

use tch::{Tensor, no_grad};

use super::{Doing, Error, Pack};
use crate::method::Adapter;

/// Everything that a trial needs to go on, as copies that share no memory with the pack.
#[derive(Debug)]
pub struct TrialState {
    /// Updates done.
    pub step: u64,
    /// What it trains.
    pub parameters: Adapter,
    /// What its optimiser keeps: for AdamW the moments behind `exp_avg.` and `exp_avg_sq.`, for
    /// Adafactor the mean squares behind `exp_avg_sq_row.`, `exp_avg_sq_col.` and `exp_avg_sq.`.
    pub optimizer: Adapter,
    /// The trial stands still since its loss or gradient was not finite.
    pub diverged: bool,
}

impl Pack {
    /// A copy of trial `k`'s parameters.
    ///
    /// # Errors
    /// [`Error::NoTrial`].
    pub fn parameters(&self, k: usize) -> Result<Adapter, Error> {
        let method = self.method(k)?;
        no_grad(|| self.layout.views(&self.params, k, method)?.copied())
            .doing("copy a trial's parameters")
    }

    /// Overwrites trial `k`'s parameters, for example with those of a source task or the best
    /// snapshot; what its optimiser keeps stays.
    ///
    /// # Errors
    /// [`Error::Parameter`], [`Error::MissingParameter`] or [`Error::UnknownParameter`] when
    /// they do not fit.
    pub fn set_parameters(&mut self, k: usize, parameters: &Adapter) -> Result<(), Error> {
        let method = self.method(k)?;
        let own = no_grad(|| self.layout.views(&self.params, k, method));
        overwrite(k, &own.doing("restore a trial's parameters")?, parameters)
    }

    /// A copy of all that trial `k` needs to go on.
    ///
    /// # Errors
    /// [`Error::NoTrial`].
    pub fn state(&self, k: usize) -> Result<TrialState, Error> {
        let method = self.method(k)?;
        let optimizer = no_grad(|| self.optim.state(&self.layout, k, method)?.copied());
        Ok(TrialState {
            step: self.step,
            parameters: self.parameters(k)?,
            optimizer: optimizer.doing("copy the optimiser's state")?,
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
            let own = no_grad(|| {
                self.optim
                    .state(&self.layout, k, self.method(k)?)
                    .doing("restore the optimiser's state")
            })?;
            overwrite(k, &own, &state.optimizer)?;
        }
        let alive: Vec<bool> = states.iter().map(|state| !state.diverged).collect();
        self.alive = Tensor::f_from_slice(&alive)
            .and_then(|alive| alive.f_view([-1, 1])?.f_to_device(self.model.device()))
            .doing("restore the flags")?;
        self.step = step;
        Ok(())
    }

    /// Lets trial `k` stand still from now on; the others go on.
    ///
    /// # Errors
    /// [`Error::NoTrial`].
    pub fn stop(&mut self, k: usize) -> Result<(), Error> {
        self.method(k)?;
        no_grad(|| self.alive.f_get(k as i64)?.f_fill_(0)).doing("stop a trial").map(|_| ())
    }
}

/// Overwrites the tensors of trial `k` with those of the same names.
fn overwrite(trial: usize, to: &Adapter, from: &Adapter) -> Result<(), Error> {
    for (name, own) in to.named() {
        let name = name.to_owned();
        let Some(given) = from.get(&name) else {
            return Err(Error::MissingParameter { trial, name, expected: own.size() });
        };
        if given.size() != own.size() {
            let (found, expected) = (given.size(), own.size());
            return Err(Error::Parameter { trial, name, found, expected });
        }
    }
    if let Some((name, _)) = from.named().find(|(name, _)| to.get(name).is_none()) {
        return Err(Error::UnknownParameter { trial, name: name.to_owned() });
    }
    let copy = || {
        for (name, own) in to.named() {
            if let Some(given) = from.get(name) {
                own.shallow_clone().f_copy_(given)?;
            }
        }
        Ok(())
    };
    no_grad(copy).doing("copy a trial's tensors")
}
