//! What a training says of itself while it runs: the contract's progress, and gauges for Prometheus, both from one state.

use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::{Encoder, Gauge, Registry, TextEncoder};
use sera_crds::contract::TrainingProgress;

/// What is known after a step.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// What the contract has.
    pub progress: TrainingProgress,
    /// How long the last step took, in seconds.
    pub step_seconds: f64,
    /// Steps that were left out.
    pub skipped: u32,
    /// Which part of what the GPUs could compute the last step used; none where nobody knows what they could.
    pub mfu: Option<f64>,
}

/// How a gauge is read.
type Reading = fn(&Standing) -> Option<f64>;

/// The standing, and the gauges that show it.
#[derive(Debug)]
pub struct Meter {
    standing: Mutex<Standing>,
    registry: Registry,
    gauges: Vec<(Gauge, Reading)>,
}

impl Meter {
    /// Nothing yet.
    pub fn new() -> Result<Self, prometheus::Error> {
        let readings: [(&str, &str, Reading); 12] = [
            ("loss", "The mean loss a trained token of the last step.", |at| at.progress.loss),
            ("gradient_norm", "The global norm of the last step's gradients, before clipping.", |at| {
                at.progress.gradient_norm
            }),
            ("learning_rate", "The learning rate of the last step.", |at| Some(at.progress.learning_rate)),
            ("tokens_per_second", "Tokens that all ranks together work through in a second.", |at| {
                Some(at.progress.tokens_per_second)
            }),
            ("mfu", "Which part of the GPUs' peak the last step used; recomputation is not counted.", |at| at.mfu),
            ("step", "The optimizer step that was done last.", |at| Some(at.progress.step.into())),
            ("total_steps", "How many optimizer steps there are in all.", |at| Some(at.progress.total_steps.into())),
            ("step_seconds", "How long the last step took.", |at| Some(at.step_seconds)),
            ("eval_loss", "The mean loss a trained token over the lines set aside.", |at| at.progress.eval_loss),
            ("skipped_steps_total", "Steps that were left out for what their loss or gradients were.", |at| {
                Some(at.skipped.into())
            }),
            ("checkpoint_step", "The step of the newest complete checkpoint.", |at| {
                at.progress.checkpoint.map(f64::from)
            }),
            ("resident_memory_bytes", "Memory of this rank's process.", |_| resident_bytes()),
        ];
        let registry = Registry::new();
        let mut gauges = Vec::new();
        for (name, help, read) in readings {
            let gauge = Gauge::new(format!("sera_training_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            gauges.push((gauge, read));
        }
        Ok(Self { standing: Mutex::default(), registry, gauges })
    }

    /// Changes the standing.
    pub fn update(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing());
    }

    /// What the contract's progress is now.
    pub fn progress(&self) -> TrainingProgress {
        self.standing().progress.clone()
    }

    /// All gauges in Prometheus' text format.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let standing = self.standing().clone();
        for (gauge, read) in &self.gauges {
            gauge.set(read(&standing).unwrap_or(f64::NAN));
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory that this process has, as the kernel counts it.
fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gauge_shows_the_standing_and_what_is_not_known_is_no_number() {
        let meter = Meter::new().unwrap();
        meter.update(|standing| {
            standing.progress =
                TrainingProgress { step: 7, total_steps: 9, loss: Some(0.5), ..TrainingProgress::default() };
            standing.skipped = 2;
        });
        let text = String::from_utf8(meter.text().unwrap()).unwrap();
        for line in [
            "step 7",
            "total_steps 9",
            "loss 0.5",
            "skipped_steps_total 2",
            "eval_loss NaN",
            "checkpoint_step NaN",
            "mfu NaN",
        ] {
            assert!(text.contains(&format!("\nsera_training_{line}\n")), "{line} is not in\n{text}");
        }
        let memory = text.lines().find_map(|line| line.strip_prefix("sera_training_resident_memory_bytes ")).unwrap();
        assert!(memory.parse::<f64>().unwrap() > 1e6, "{memory}");
        assert_eq!(meter.progress().step, 7);
    }
}
