//! The learning rate schedules: linear warm-up, then a decay or none.

pub use deptune_sweep::spec::Scheduler;

/// Factor on all learning rates as a function of the update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// What follows the warm-up.
    pub scheduler: Scheduler,
    /// Updates of the whole run.
    pub steps: u64,
    /// Updates of the warm-up.
    pub warmup_steps: u64,
}

impl Schedule {
    /// The factor of update `step` = k, counted from 1, in a run of T updates with w of warm-up:
    /// (k-1)/w while k-1 < w; then, with x = (k-1-w)/(T-w), 1-x (linear), (1+cos πx)/2 (cosine)
    /// or 1 (constant). The first update of a run with warm-up has factor 0, as in the
    /// reference, whose scheduler is one step behind.
    #[must_use]
    pub fn factor(&self, step: u64) -> f64 {
        let done = step.saturating_sub(1);
        if done < self.warmup_steps {
            return done as f64 / self.warmup_steps as f64;
        }
        let decay = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        match self.scheduler {
            Scheduler::Linear => self.steps.saturating_sub(done) as f64 / decay,
            Scheduler::Cosine => {
                let progress = (done - self.warmup_steps) as f64 / decay;
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
            Scheduler::Constant => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(scheduler: Scheduler, steps: u64, warmup_steps: u64) -> Vec<f64> {
        let schedule = Schedule { scheduler, steps, warmup_steps };
        (1..=steps + 1).map(|step| schedule.factor(step)).collect()
    }

    #[test]
    fn warms_up_from_zero_and_ends_one_step_above_zero() {
        let linear = factors(Scheduler::Linear, 20, 4);
        assert_eq!(&linear[..6], &[0.0, 0.25, 0.5, 0.75, 1.0, 0.9375]);
        assert_eq!(linear[19..], [1.0 / 16.0, 0.0]);
    }

    #[test]
    fn runs_without_warm_up_or_decay() {
        assert_eq!(factors(Scheduler::Linear, 4, 0)[0], 1.0);
        assert_eq!(factors(Scheduler::Linear, 4, 4)[3], 0.75);
        assert_eq!(factors(Scheduler::Constant, 5, 2), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_cosine_is_half_way_down_in_the_middle() {
        let cosine = factors(Scheduler::Cosine, 12, 4);
        assert_eq!(&cosine[..5], &[0.0, 0.25, 0.5, 0.75, 1.0]);
        for (step, factor) in [(6, 0.853_553_390_593_273_8), (8, 0.5), (12, 0.0)] {
            assert!((cosine[step] - factor).abs() < 1e-12, "{step}: {}", cosine[step]);
        }
    }
}
