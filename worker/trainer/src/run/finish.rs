//! The end of trials: the best parameters on the test split, files, the result.

use std::io::Write;

use deptune_sweep::child::{Evaluation, Message, TrialResult};
use deptune_sweep::task::Split;

use super::failure::Failure;
use super::{Interrupt, Run, trial, words};
use crate::evaluate::Judged;
use crate::gpu;

/// The answers could not be written down.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the predictions as JSON")]
struct Unwritable(#[source] serde_json::Error);

impl<W: Write> Run<'_, W> {
    /// Ends the trials that have had as many evaluations without gain as their spec has patience
    /// for. A diverged trial may be among those that stand still; it has ended already.
    pub(super) fn finish_patient(&mut self) -> Result<(), Interrupt> {
        let Some(patience) = self.prepared.settings.train.patience else { return Ok(()) };
        let done =
            |trial: &trial::Trial| trial.is_running() && trial.progress.without_gain >= patience;
        let numbered = self.trials.iter().enumerate().filter(|(_, trial)| done(trial));
        let ended: Vec<usize> = numbered.map(|(k, _)| k).collect();
        self.finish(&ended, true)
    }

    /// Ends some trials that are running: from here on they stand still at the parameters of
    /// their best evaluation. The test split is read here, and nowhere else.
    pub(super) fn finish(&mut self, ended: &[usize], early: bool) -> Result<(), Interrupt> {
        if ended.is_empty() {
            return Ok(());
        }
        let steps = self.prepared.pack.steps_done();
        for &k in ended {
            self.prepared.pack.stop(k)?;
            if let Some(best) = self.trials.get(k).and_then(|t| t.best.as_ref()) {
                self.prepared.pack.set_parameters(k, &best.adapter)?;
            }
        }
        if self.prepared.settings.train.save_predictions {
            // The best evaluation may have been made by a process that is gone.
            let judge = self.judge(Split::Validation);
            let judged = judge.evaluate(&self.prepared.pack, ended, steps)?;
            self.write_answers(ended, Split::Validation, &judged)?;
        }
        let mut tests = Vec::new();
        if !self.prepared.data.test.examples.is_empty() {
            tests = self.judge(Split::Test).evaluate(&self.prepared.pack, ended, steps)?;
            if self.prepared.settings.train.save_predictions {
                self.write_answers(ended, Split::Test, &tests)?;
            }
        }
        let seconds = self.clock.elapsed().as_secs_f64();
        let took = gpu::took(self.device.as_ref());
        for (place, &k) in ended.iter().enumerate() {
            let Some(trial) = self.trials.get_mut(k) else { continue };
            let Some(best) = &trial.best else { continue };
            let id = trial.member.trial;
            let test = tests.get(place).map(|judged: &Judged| judged.evaluation.clone());
            let test = test.map(|test| Evaluation { step: best.step, ..test });
            if let Some(evaluation) = test.clone() {
                tracing::info!(trial = %id, "{}", words(&evaluation));
                self.out.send(&Message::Eval { trial: id, evaluation })?;
            }
            let result = TrialResult {
                metric_name: best.metric_name.clone(),
                metric: best.metric,
                best_step: best.step,
                test,
                constant_metric: best.constant,
                steps,
                stopped_early: early,
                predictions: Vec::new(),
                trainable_parameters: best.adapter.numel() as u64,
                train_seconds: trial.progress.train_seconds + seconds,
                peak_memory_bytes: took.peak_memory_bytes,
                mean_utilization: took.mean_utilization,
                mean_power_watts: took.mean_power_watts,
            };
            let adapter = trial.export(best, &self.scratch)?;
            self.out.send(&Message::Done { trial: id, result, adapter })?;
            trial.end();
        }
        Ok(())
    }

    fn write_answers(
        &mut self,
        ended: &[usize],
        split: Split,
        judged: &[Judged],
    ) -> Result<(), Interrupt> {
        for (&k, judged) in ended.iter().zip(judged) {
            let Some(trial) = self.trials.get(k) else { continue };
            let lines = self.judge(split).lines(&judged.answers);
            let lines = lines.map_err(|e| Failure::infra(&Unwritable(e)))?;
            let path = trial.write_answers(split, &lines, &self.scratch)?;
            let (trial, split) = (trial.member.trial, split.name().to_owned());
            self.out.send(&Message::Predictions { trial, split, path })?;
        }
        Ok(())
    }
}
