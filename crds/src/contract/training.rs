//! What the operator hands the trainer, and what the trainer tells while it works and leaves in the store beside the model.

use serde::{Deserialize, Serialize};

use super::FileDigest;
use crate::values::{Decimal, LossAverage, ModuleName, Precision, Rate, Ratio, Schedule, Sharding, Timeout, literal};

/// How the student is trained: `spec.training`, as it stands there, and `spec.dataset.contextLength`. In pods it is the variable `SERA_TRAINING`, as
/// JSON; by hand it is a file (YAML or JSON), for which the section can be copied out of a run. Every field has the API's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrainingPlan {
    /// What is trained.
    pub method: MethodPlan,
    /// How often every line is seen.
    pub epochs: u32,
    /// The highest learning rate; none: 5e-5 with `LoRA`, 1e-5 in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<Rate>,
    /// Steps over which the learning rate rises from zero; none: 48, or a tenth of all where that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u32>,
    /// How many lines a step sees over all ranks.
    pub global_batch: u32,
    /// How the learning rate falls after warm-up.
    pub schedule: Schedule,
    /// What decaying weights lose each step, times the learning rate.
    pub weight_decay: Decimal,
    /// The global norm that gradients are clipped to.
    pub clip_norm: Decimal,
    /// What the losses of a step are averaged over.
    #[serde(skip_serializing_if = "LossAverage::is_usual")]
    pub loss_average: LossAverage,
    /// What the square of the logits' log-sum-exp is weighed with in each trained token's loss.
    #[serde(skip_serializing_if = "is_nothing")]
    pub z_loss: Decimal,
    /// What the order of lines, dropout and fresh weights are drawn from.
    pub seed: u64,
    /// Whether short lines share a sequence; nothing with [`LossAverage::PerLine`].
    pub packing: bool,
    /// Whether layers' inputs wait in the host's memory for the backward pass.
    pub offload: bool,
    /// The numbers that are computed with; none: bf16 on GPUs, fp32 on CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// What is divided between ranks.
    pub sharding: Sharding,
    /// How often a checkpoint is written.
    pub checkpoint_every: Timeout,
    /// The longest line in tokens; a longer one is left out and counted, never cut.
    pub context_length: u32,
}

/// What is trained: `spec.training.method`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MethodPlan {
    /// Small matrices beside frozen weights.
    Lora(LoraPlan),
    /// All weights.
    Full {},
}

/// Low-rank adaptation (arXiv 2106.09685): `spec.training.method.lora`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoraPlan {
    /// The matrices' rank.
    pub rank: u32,
    /// What their product is multiplied by, divided by the rank.
    pub alpha: u32,
    /// The share of their inputs that is dropped in training.
    pub dropout: Ratio,
    /// The modules that get them, by the last part of their names; empty: all linear layers but the output's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_modules: Vec<ModuleName>,
}

/// `/progress` of rank 0, and `progress.json` of a training by hand: how far it has come. Losing it loses nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainingProgress {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// The optimizer step that was done last.
    pub step: u32,
    /// How many there are in all.
    pub total_steps: u32,
    /// The mean loss a trained token of the last step; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The same over the lines set aside, when it was looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// The global norm of the last step's gradients, before clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_norm: Option<f64>,
    /// The learning rate of the last step.
    pub learning_rate: f64,
    /// Tokens that all ranks together work through in a second.
    pub tokens_per_second: f64,
    /// The step of the newest complete checkpoint; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u32>,
    /// The highest learning rate that applies.
    pub peak_learning_rate: f64,
    /// The number of warm-up steps that applies.
    pub warmup_steps: u32,
}

/// `model/manifest.json`, written last: the model is whole, and where it is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelManifest {
    /// [`CONTRACT_VERSION`](super::CONTRACT_VERSION).
    pub version: u32,
    /// The files of `model/`, in the order of their names.
    pub files: Vec<FileDigest>,
    /// The files of `adapter/`; empty after a full fine-tuning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapter: Vec<FileDigest>,
    /// The dataset's manifest, by its sha256; of lines given by hand, that of their file.
    pub dataset: String,
    /// The sha256 of each of the base model's files that were read, in the order of their names.
    pub base: Vec<FileDigest>,
    /// How it was trained.
    pub plan: TrainingPlan,
    /// How many steps that took.
    pub steps: u32,
    /// The mean loss a trained token of the last step.
    pub loss: f64,
    /// The same over the lines set aside, at the end; none without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// Tokens that carried loss, over all steps.
    pub trained_tokens: u64,
    /// Lines left out because they are longer than the context.
    pub too_long: u64,
    /// Whether a rehearsal teacher made any of what it learnt from.
    pub rehearsal: bool,
}

impl TrainingPlan {
    /// What `spec.training` has beside a plan: which model, and which pods there are.
    const ONLY_IN_THE_SECTION: [&str; 6] =
        ["student", "nodes", "gpusPerNode", "ranksPerNode", "maxAttempts", "startDeadline"];

    /// Reads a plan, or a whole section `spec.training` of a run.
    pub fn from_section(mut section: serde_json::Value) -> Result<Self, serde_json::Error> {
        if let Some(section) = section.as_object_mut() {
            Self::ONLY_IN_THE_SECTION.iter().for_each(|field| drop(section.remove(*field)));
        }
        serde_json::from_value(section)
    }

    /// The learning rate that applies: `LoRA` 5e-5, full 1e-5, the paper's recipes.
    pub fn peak_learning_rate(&self) -> Rate {
        self.learning_rate.clone().unwrap_or_else(|| match self.method {
            MethodPlan::Lora(_) => literal("5e-5"),
            MethodPlan::Full {} => literal("1e-5"),
        })
    }

    /// The warm-up that applies to a training of so many steps: the paper's 48, or a tenth of all where that is less.
    pub fn warmup_of(&self, total_steps: u32) -> u32 {
        self.warmup_steps.unwrap_or_else(|| (total_steps / 10).min(48))
    }
}

/// Whether a number is left out: a plan without it has the digest that it had before there was one.
fn is_nothing(number: &Decimal) -> bool {
    number.as_str() == "0"
}

impl Default for TrainingPlan {
    /// The paper's recipe with `LoRA`.
    fn default() -> Self {
        Self {
            method: MethodPlan::Lora(LoraPlan::default()),
            epochs: 3,
            learning_rate: None,
            warmup_steps: None,
            global_batch: 32,
            schedule: Schedule::Cosine,
            weight_decay: literal("0.01"),
            clip_norm: literal("1.0"),
            loss_average: LossAverage::PerToken,
            z_loss: literal("0"),
            seed: 42,
            packing: false,
            offload: false,
            precision: None,
            sharding: Sharding::Zero1,
            checkpoint_every: literal("15m"),
            context_length: 32_768,
        }
    }
}

impl Default for LoraPlan {
    fn default() -> Self {
        Self { rank: 32, alpha: 128, dropout: literal("0"), target_modules: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_section_of_a_run_is_a_plan_and_what_is_for_pods_is_passed_over() {
        let section = json!({"student": {"uri": "builtin://tiny"}, "nodes": 2, "gpusPerNode": 0, "ranksPerNode": 2, "maxAttempts": 3,
            "startDeadline": "1m", "epochs": 7, "method": {"full": {}}});
        let plan = TrainingPlan::from_section(section).unwrap();
        assert_eq!((plan.epochs, plan.method.clone()), (7, MethodPlan::Full {}));
        assert_eq!(plan.peak_learning_rate().as_str(), "1e-5");
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = TrainingPlan::from_section(json!({"epoch": 7})).unwrap_err();
        assert!(error.to_string().contains("`epoch`"), "{error}");
    }

    #[test]
    fn the_warm_up_is_48_steps_or_a_tenth() {
        let plan = TrainingPlan::default();
        assert_eq!([0, 99, 480, 10_000].map(|steps| plan.warmup_of(steps)), [0, 9, 48, 48]);
    }
}
