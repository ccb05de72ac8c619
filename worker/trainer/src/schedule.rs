//! The learning rate schedule: linear warm-up, then linear decay to zero.

/// Factor on both learning rates as a function of the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Updates of the whole run.
    pub steps: u64,
    /// Updates of the warm-up.
    pub warmup_steps: u64,
}

impl Schedule {
    /// The factor of update `step`, counted from 1: (k-1)/warmup while k-1 < warmup, then
    /// (steps-(k-1))/(steps-warmup). The first update of a run with warm-up has factor 0, as in
    /// the reference, whose scheduler starts one step behind.
    pub fn factor(&self, step: u64) -> f64 {
        let done = step.saturating_sub(1);
        if done < self.warmup_steps {
            return done as f64 / self.warmup_steps as f64;
        }
        let decay = self.steps.saturating_sub(self.warmup_steps).max(1);
        self.steps.saturating_sub(done) as f64 / decay as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warms_up_from_zero_and_ends_one_step_above_zero() {
        let schedule = Schedule { steps: 20, warmup_steps: 4 };
        let factors: Vec<f64> = (1..=20).map(|step| schedule.factor(step)).collect();
        assert_eq!(&factors[..6], &[0.0, 0.25, 0.5, 0.75, 1.0, 0.9375]);
        assert_eq!(factors[19], 1.0 / 16.0);
        assert_eq!(schedule.factor(21), 0.0);
    }

    #[test]
    fn runs_without_warm_up_or_decay() {
        assert_eq!(Schedule { steps: 4, warmup_steps: 0 }.factor(1), 1.0);
        assert_eq!(Schedule { steps: 4, warmup_steps: 4 }.factor(4), 0.75);
    }
}
