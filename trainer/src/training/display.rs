//! What a person sees of a training: a bar on a terminal, and a line of the log every step elsewhere.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sera_crds::contract::TrainingProgress;

/// The display of one process.
#[derive(Debug)]
pub struct Display {
    bars: MultiProgress,
    bar: Option<ProgressBar>,
}

impl Display {
    /// A bar if standard error is a terminal.
    pub fn detect() -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        let target = if on_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let bar = on_terminal.then(|| {
            let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} {msg} {eta}");
            bars.add(ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
        });
        Self { bars, bar }
    }

    /// The bars, for the log, which has to write around them.
    pub fn bars(&self) -> MultiProgress {
        self.bars.clone()
    }

    /// Shows a step, and why it was left out if it was.
    pub(super) fn step(&self, at: &TrainingProgress, skipped: Option<&str>) {
        let (step, total) = (at.step, at.total_steps);
        if let Some(reason) = skipped {
            tracing::warn!(step, reason, "the step is left out");
        }
        let Some(bar) = &self.bar else {
            let (loss, norm, eval_loss) = (at.loss, at.gradient_norm, at.eval_loss);
            let (rate, speed) = (at.learning_rate, at.tokens_per_second);
            tracing::info!(step, total, loss, norm, rate, tokens_per_second = speed, eval_loss, "step");
            return;
        };
        if bar.length().is_none() {
            bar.set_length(total.into());
            // What was done before is no measure of how long the rest takes.
            bar.set_position(u64::from(step).saturating_sub(1));
            bar.reset_eta();
        }
        bar.set_position(step.into());
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let speed = at.tokens_per_second;
        bar.set_message(format!("loss {} eval {} {speed:.0} tokens/s", number(at.loss), number(at.eval_loss)));
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
