//! The protocol between the command line and `deptune-trainer measure`: a pack is begun as a worker
//! would begin it, timed for some updates and an evaluation, and thrown away.
//!
//! The command line writes one [`Request`] as a single JSON line to the child's standard input and
//! closes it; the child answers with one [`Reply`] on standard output. It exits with 0 when it
//! measured, with 1 after a [`Reply::Failed`].

use serde::{Deserialize, Serialize};

use crate::child::Job;

/// What to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The pack. Nothing is written to its scratch directory.
    pub job: Job,
    /// Seconds that updates are made for, and evaluations.
    pub seconds: f64,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Reply {
    /// What was found.
    Measured {
        /// The figures.
        measured: Measured,
    },
    /// It cannot be done.
    Failed {
        /// Why.
        message: String,
    },
}

/// What a pack takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Trials of the pack.
    pub members: u32,
    /// Seconds until model and data were loaded.
    pub load_seconds: f64,
    /// Seconds of an update of all trials together.
    pub update_seconds: f64,
    /// Seconds of an evaluation of all trials together on the validation split, projected from
    /// some of its rows.
    pub validation_seconds: f64,
    /// The same on the test split, read once at a trial's end; 0 where there is none.
    pub test_seconds: f64,
    /// Most bytes of memory that the process took: of the machine's, or of a CUDA device's, where 0
    /// means that the driver does not say.
    pub peak_bytes: u64,
}

impl Measured {
    /// Seconds that a pack takes from its start to its end.
    #[must_use]
    pub fn pack_seconds(&self, steps: u64, eval_every: u64) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "an estimate for people")]
        let [steps, evaluations] =
            [steps, steps.div_ceil(eval_every.max(1))].map(|count| count as f64);
        self.load_seconds
            + steps * self.update_seconds
            + evaluations * self.validation_seconds
            + self.test_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_takes_its_load_its_updates_and_its_evaluations() {
        let measured = Measured {
            members: 4,
            load_seconds: 1.0,
            update_seconds: 0.5,
            validation_seconds: 10.0,
            test_seconds: 20.0,
            peak_bytes: 0,
        };
        // Evaluations after updates 40, 80 and 100.
        assert_eq!(measured.pack_seconds(100, 40), 1.0 + 50.0 + 30.0 + 20.0);
    }
}
