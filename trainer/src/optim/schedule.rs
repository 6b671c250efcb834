//! The learning rate of each step: linear warm-up from zero, then a decline to zero, as transformers' `get_cosine_schedule_with_warmup` and
//! `get_linear_schedule_with_warmup` have it.

/// How the rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decline {
    /// Along half a cosine: the recipe's.
    Cosine,
    /// In a straight line.
    Linear,
}

/// The learning rate over a whole run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate, reached after the warm-up.
    pub peak: f64,
    /// How many steps the warm-up takes; see [`warm_up_steps`].
    pub warm_up: u32,
    /// How many steps the run takes.
    pub steps: u32,
    /// What comes after the warm-up.
    pub decline: Decline,
}

/// The recipe's warm-up (arXiv 2601.20789).
const WARM_UP: u32 = 48;

/// The recipe's 48 steps, but no more than a tenth of the run: with few samples 48 would be all of it.
pub fn warm_up_steps(steps: u32) -> u32 {
    WARM_UP.min(steps / 10)
}

impl Schedule {
    /// The rate of step number `step`, counted from 1: zero at the first, if there is a warm-up, and the peak right after it.
    pub fn rate(&self, step: u32) -> f64 {
        let done = step.saturating_sub(1);
        if done < self.warm_up {
            return self.peak * f64::from(done) / f64::from(self.warm_up);
        }
        let falling = f64::from(self.steps.saturating_sub(self.warm_up).max(1));
        let progress = (f64::from(done - self.warm_up) / falling).min(1.0);
        self.peak
            * match self.decline {
                Decline::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
                Decline::Linear => 1.0 - progress,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(decline: Decline, warm_up: u32, steps: u32) -> Vec<f64> {
        let schedule = Schedule { peak: 2.0, warm_up, steps, decline };
        (1..=steps + 1).map(|step| schedule.rate(step)).collect()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} is not {expected:?}");
    }

    #[test]
    fn the_rate_rises_from_zero_and_falls_to_zero() {
        let slanted = 0.5f64.sqrt();
        assert_close(&rates(Decline::Linear, 2, 6), &[0.0, 1.0, 2.0, 1.5, 1.0, 0.5, 0.0]);
        assert_close(&rates(Decline::Cosine, 2, 6), &[0.0, 1.0, 2.0, 1.0 + slanted, 1.0, 1.0 - slanted, 0.0]);
    }

    #[test]
    fn without_warm_up_the_first_step_is_at_the_peak() {
        assert_close(&rates(Decline::Linear, 0, 2), &[2.0, 1.0, 0.0]);
    }

    #[test]
    fn steps_beyond_the_run_do_not_rise_again() {
        let schedule = Schedule { peak: 2.0, warm_up: 1, steps: 4, decline: Decline::Cosine };
        assert!(schedule.rate(9).abs() < 1e-12 && schedule.rate(u32::MAX).abs() < 1e-12);
        assert!(Schedule { warm_up: 4, ..schedule }.rate(5).is_finite());
    }

    #[test]
    fn the_warm_up_is_48_steps_or_a_tenth() {
        assert_eq!([5, 10, 200, 479, 480, 10_000].map(warm_up_steps), [0, 1, 20, 47, 48, 48]);
    }
}
