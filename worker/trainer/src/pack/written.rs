//! Losses and gradients by the engine, which knows nothing of packs.

use tch::{Kind, TchError, Tensor, no_grad};

use super::{Backward, Doing, Error, Gradients, Member, Pack};
use crate::batch::{Batch, Example};
use crate::dropout::Axis;
use crate::engine::{Engine, Outcome, Row, Task, Trial};
use crate::method::{Adapter, Method, scaling};

impl Pack {
    /// The engine, made when it is first needed; none where gradients are recorded.
    pub(super) fn engine(&self) -> Result<Option<&Engine>, Error> {
        if self.engine.get().is_none() {
            let known = |member: &Member| {
                matches!(member.method, Method::Dept { .. } | Method::PromptTuning { .. })
            };
            let written = self.settings.backward == Backward::Written;
            let engine = if written && self.members.iter().all(known) {
                Engine::new(&self.model).doing("start the training threads")?
            } else {
                None
            };
            // Nobody else sets it.
            let _ = self.engine.set(engine);
        }
        Ok(self.engine.get().and_then(Option::as_ref))
    }

    pub(super) fn written(
        &self,
        engine: &Engine,
        micro_batches: &[Batch],
    ) -> Result<Gradients, Error> {
        no_grad(|| self.by_engine(engine, micro_batches)).doing("compute losses and gradients")
    }

    /// The `wanted` trials' states of rows without dropout, as [`crate::model::Model::pass`] gives
    /// them for `axis`.
    pub(super) fn states(
        &self,
        engine: &Engine,
        examples: &[&Example],
        wanted: &[usize],
        axis: Axis,
    ) -> Result<Tensor, TchError> {
        let trials = wanted.iter().map(|&k| self.trial_of(k).map(Some));
        let rows = rows(examples.iter().copied(), 0);
        let task = Task::new(trials.collect::<Result<_, _>>()?, rows);
        engine.encode(task, axis.prompt, axis.text)
    }

    /// Trials that stand still are not computed: their loss is NaN and their gradient 0.
    fn by_engine(&self, engine: &Engine, micro_batches: &[Batch]) -> Result<Gradients, TchError> {
        let alive = Vec::<bool>::try_from(self.alive.f_flatten(0, -1)?)?;
        let flat = self.params.f_detach()?.f_zeros_like()?;
        let mut losses: Vec<f64> =
            alive.iter().map(|&alive| if alive { 0.0 } else { f64::NAN }).collect();
        let mut first_row = 0;
        for batch in micro_batches {
            let trials = alive.iter().enumerate();
            let trials = trials.map(|(k, &alive)| alive.then(|| self.trial_of(k)).transpose());
            let rows = rows(batch.examples.iter(), first_row);
            let tokens = self.label_tokens(batch).max(1) * micro_batches.len();
            let mut task = Task::new(trials.collect::<Result<_, _>>()?, rows);
            task.step = self.step + 1;
            task.dropout = self.settings.dropout;
            task.factor = 1.0 / tokens as f32;
            let outcomes = engine.run(task)?;
            for ((k, outcome), loss) in outcomes.into_iter().enumerate().zip(&mut losses) {
                let Some(outcome) = outcome else { continue };
                *loss += outcome.loss;
                self.add(k, &outcome, &flat)?;
            }
            first_row += batch.examples.len();
        }
        let methods = self.members.iter().map(|member| member.method).collect();
        let losses = Tensor::f_from_slice(&losses)?.f_to_kind(self.model.kind())?;
        Ok(Gradients { layout: self.layout.clone(), methods, losses, flat })
    }

    /// A copy of a trial's parameters.
    fn trial_of(&self, k: usize) -> Result<Trial, TchError> {
        let Some(member) = self.members.get(k) else { return Ok(Trial::default()) };
        let method = member.method;
        let own = self.layout.views(&self.params, k, method)?;
        let lowrank = own.lowrank();
        let numbers = |tensor: Option<&Tensor>| match tensor {
            None => Ok(Vec::new()),
            Some(tensor) => Vec::<f32>::try_from(tensor.f_detach()?.f_reshape([-1])?),
        };
        Ok(Trial {
            seed: member.seed,
            prompt_length: method.prompt_length(),
            prompt: numbers(own.prompt())?,
            rank: method.rank(),
            a: numbers(lowrank.as_ref().map(|lowrank| &lowrank.a))?,
            b: numbers(lowrank.as_ref().map(|lowrank| &lowrank.b))?,
            scaling: scaling(method.rank()) as f32,
        })
    }

    /// Adds a trial's gradients to its row of a buffer [K, N].
    fn add(&self, k: usize, outcome: &Outcome, flat: &Tensor) -> Result<(), TchError> {
        let Some(member) = self.members.get(k) else { return Ok(()) };
        let own: Adapter = self.layout.views(flat, k, member.method)?;
        let add = |place: Tensor, values: &[f32]| -> Result<(), TchError> {
            let columns = place.size2()?.1;
            let values = Tensor::f_from_slice(values)?.f_view([-1, columns])?;
            let mut place = place.f_narrow(0, 0, values.size2()?.0)?;
            place.f_add_(&values.f_to_kind(Kind::Float)?).map(drop)
        };
        if let Some(prompt) = own.prompt() {
            add(prompt.shallow_clone(), &outcome.prompt)?;
        }
        if let Some(lowrank) = own.lowrank() {
            add(lowrank.a, &outcome.a)?;
            add(lowrank.b, &outcome.b)?;
        }
        Ok(())
    }
}

/// The rows of a micro-batch, after `first` rows of the effective batch.
fn rows<'a>(examples: impl Iterator<Item = &'a Example>, first: usize) -> Vec<Row> {
    let row = |(number, example): (usize, &Example)| Row {
        number: (first + number) as u32,
        input_ids: example.input_ids.clone(),
        labels: example.labels.clone(),
    };
    examples.enumerate().map(row).collect()
}
