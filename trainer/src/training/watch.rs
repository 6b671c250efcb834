//! Watches whether a training still learns: steps that had to be left out are counted, and one that breaks is stopped before it burns more hours.

use crate::checkpoint::Sums;
use crate::engine::StepReport;

/// A loss above this is that of a model that has forgotten its language: the recipe's limit (arXiv 2601.20789).
const HIGH: f64 = 5.0;
/// So many steps in a row, after the warm-up, end the training: the recipe's.
const HIGH_STEPS: u32 = 3;
/// How much of the running mean of losses stays when another comes to it: that of the last fifty or so counts.
const STAYS: f64 = 0.98;
/// How many losses have to be in the mean before it says what is usual.
const SETTLED: u32 = 20;
/// A step's loss above the mean times this, and above [`UNUSUAL`], comes of broken lines: batches of one dataset differ by less, and what a model has
/// learnt by heart may rise much further and is still low.
const FAR: f64 = 3.0;
/// Below this a loss is that of a model that knows its language.
const UNUSUAL: f64 = 2.0;

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
    /// The highest loss with which step `step` is taken.
    pub fn limit(&self, step: u32, sums: &Sums) -> f64 {
        let usual = sums.mean_loss.filter(|_| step > self.warm_up && sums.averaged >= SETTLED);
        usual.map_or(f64::INFINITY, |mean| (FAR * mean).max(UNUSUAL))
    }

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
        let mean = sums.mean_loss.map_or(report.loss, |mean| STAYS * mean + (1.0 - STAYS) * report.loss);
        sums.mean_loss = Some((mean * 1e6).round() / 1e6);
        sums.averaged = sums.averaged.saturating_add(1);
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
    fn a_loss_far_above_what_is_usual_is_too_high_once_it_is_known_what_is() {
        let (_, sums) = stopped(&[1.0; 19], WATCH);
        assert!(WATCH.limit(20, &sums).is_infinite());
        let (_, sums) = stopped(&[1.0; 20], WATCH);
        assert_eq!((WATCH.limit(21, &sums), sums.mean_loss), (3.0, Some(1.0)));
        assert!(Watch { warm_up: 21, ..WATCH }.limit(21, &sums).is_infinite());
        let (_, low) = stopped(&[0.01; 30], WATCH);
        assert_eq!((WATCH.limit(31, &low), low.mean_loss), (2.0, Some(0.01)), "what was learnt by heart may rise");
        let falling: Vec<f64> = (0..200).map(|step| 12.0 * (-f64::from(step) / 40.0).exp() + 0.5).collect();
        let (mut sums, mut highest) = (Sums::default(), 0.0f64);
        for (step, loss) in (1..).zip(&falling) {
            highest = highest.max(loss / WATCH.limit(step, &sums));
            WATCH.after(step, &report(*loss), &mut sums, String::new).unwrap();
        }
        assert!(highest < 0.34, "{highest}: what falls is never near it");
    }

    #[test]
    fn the_running_mean_comes_back_from_a_checkpoint_to_the_bit() {
        let losses: Vec<f64> = (1..300).map(|step| 5.0 / f64::from(step) + f64::from(step % 7) / 3.0).collect();
        let mut sums = Sums::default();
        for (step, loss) in (1..).zip(&losses) {
            WATCH.after(step, &report(*loss), &mut sums, String::new).unwrap();
            let read: Sums = serde_json::from_str(&serde_json::to_string(&sums).unwrap()).unwrap();
            assert_eq!(read.mean_loss.map(f64::to_bits), sums.mean_loss.map(f64::to_bits));
        }
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
