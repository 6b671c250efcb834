//! Watches whether a training still learns: steps that had to be left out are counted, and one that breaks is stopped before it burns more hours.

use crate::checkpoint::Sums;
use crate::engine::StepReport;

/// A loss above this is that of a model that has forgotten its language: the recipe's limit (arXiv 2601.20789).
const HIGH: f64 = 5.0;
/// So many steps in a row, after the warm-up, end the training: the recipe's.
const HIGH_STEPS: u32 = 3;

/// Why a training is stopped.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Broken {
    /// Too many steps were left out.
    #[error(
        "{skipped} steps were left out, and {limit} are allowed; the last was step {step}: {reason}. Look at those lines, or lower `learningRate`"
    )]
    Skipped {
        /// How many.
        skipped: u32,
        /// How many are allowed.
        limit: u32,
        /// The last of them.
        step: u32,
        /// Why it was, with the ids of its lines.
        reason: String,
    },
    /// The loss rose and stayed up.
    #[error(
        "the loss was above {HIGH} for {HIGH_STEPS} steps up to step {step} ({loss:.3}) after it had been lower; that step saw {ids}. Lower `learningRate`, or look at those lines"
    )]
    Diverged {
        /// The step.
        step: u32,
        /// Its loss.
        loss: f64,
        /// The lines that it saw.
        ids: String,
    },
}

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// How many steps may be left out in all.
    pub skipped: u32,
    /// The steps of the warm-up, in which a high loss is no sign of anything.
    pub warm_up: u32,
}

impl Watch {
    /// Counts a step in `sums`; `ids` names the lines that it saw.
    pub fn after(
        &self,
        step: u32,
        report: &StepReport,
        sums: &mut Sums,
        ids: impl FnOnce() -> String,
    ) -> Result<(), Broken> {
        sums.tokens += report.tokens;
        if let Some(reason) = &report.skipped {
            sums.skipped += 1;
            if sums.skipped > self.skipped {
                return Err(Broken::Skipped {
                    skipped: sums.skipped,
                    limit: self.skipped,
                    step,
                    reason: reason.clone(),
                });
            }
            return Ok(());
        }
        sums.trained_tokens += report.trained;
        sums.loss = Some(report.loss);
        // A model of random weights begins high, and has to be let down first.
        sums.has_been_low |= report.loss <= HIGH;
        let high = report.loss > HIGH && sums.has_been_low && step > self.warm_up;
        sums.high_in_a_row = if high { sums.high_in_a_row + 1 } else { 0 };
        if sums.high_in_a_row >= HIGH_STEPS {
            return Err(Broken::Diverged { step, loss: report.loss, ids: ids() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(loss: f64) -> StepReport {
        let skipped = (!loss.is_finite()).then(|| "the loss is NaN; not finite in `x-1-t2`".to_owned());
        StepReport { loss, trained: 7, tokens: 9, gradient_norm: 1.0, clipped: false, skipped }
    }

    /// The step at which a training of these losses is stopped, and why.
    fn stopped(losses: &[f64], watch: Watch) -> (Option<(u32, Broken)>, Sums) {
        let mut sums = Sums::default();
        for (step, loss) in (1..).zip(losses) {
            if let Err(broken) = watch.after(step, &report(*loss), &mut sums, || "`a`, `b`".to_owned()) {
                return (Some((step, broken)), sums);
            }
        }
        (None, sums)
    }

    const WATCH: Watch = Watch { skipped: 2, warm_up: 2 };

    #[test]
    fn a_loss_that_rises_and_stays_up_ends_the_training_with_the_lines() {
        let (end, _) = stopped(&[1.0, 6.0, 6.0, 6.0, 6.0], WATCH);
        let (step, broken) = end.unwrap();
        assert_eq!(step, 5, "step 2 is in the warm-up");
        assert!(broken.to_string().contains("`a`, `b`"), "{broken}");
    }

    #[test]
    fn a_short_rise_and_a_model_that_begins_high_do_not() {
        assert_eq!(stopped(&[1.0, 1.0, 6.0, 6.0, 1.0, 6.0, 6.0], WATCH).0, None);
        assert_eq!(stopped(&[12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 4.0], WATCH).0, None);
    }

    #[test]
    fn steps_that_are_left_out_are_counted_and_too_many_end_the_training_with_the_lines() {
        let nan = f64::NAN;
        let (end, sums) = stopped(&[nan, 1.0, nan, 2.0], WATCH);
        assert_eq!((end, sums.skipped, sums.trained_tokens, sums.tokens, sums.loss), (None, 2, 14, 36, Some(2.0)));
        let (end, _) = stopped(&[nan, 1.0, nan, 2.0, nan], WATCH);
        let (step, broken) = end.unwrap();
        assert_eq!(step, 5);
        assert!(broken.to_string().contains("`x-1-t2`"), "{broken}");
    }
}
