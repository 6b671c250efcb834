//! `spec.dataset` and `spec.training`: how trajectories become training lines, and how the student learns from them.

use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ModelSource;
use crate::common::rule::number;
use crate::contract::{LoraPlan, MethodPlan, TrainingPlan};
use crate::values::{
    Decimal, LossAverage, ModuleName, Precision, Rate, Ratio, Schedule, Sharding, Timeout, ToolCallFormat, literal,
};

/// How accepted trajectories become training lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new(number("evalFraction", "<= 0.5")).message("evalFraction must be between \"0\" and \"0.5\"").field_path(".evalFraction"),
]))]
pub struct Dataset {
    /// How tool calls are written: Hermes (as Qwen3 is trained), XML, or Raw (structured, rendered by the model's own
    /// template). Default: Hermes.
    pub tool_call_format: ToolCallFormat,
    /// The share of first rollouts among the accepted trajectories; the others are second rollouts. A decimal string
    /// from "0" to "1". Default: "0.625".
    pub first_rollout_share: Ratio,
    /// The longest training line, in the student's tokens, 1024 to 1048576; longer ones are cut after the last whole
    /// assistant turn that fits. Default: 32768.
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub context_length: u32,
    /// The smallest share of a trajectory's messages that must be left after the cut, a decimal string from "0" (no
    /// floor) to "1". Default: "0.88".
    pub min_kept_ratio: Ratio,
    /// The share of lines that is kept from training to watch the loss on, a decimal string from "0" to "0.5". Default:
    /// "0.02".
    pub eval_fraction: Ratio,
}

/// How the student is trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("!has(self.ranksPerNode) || self.gpusPerNode == 0")
        .message("ranksPerNode is only for gpusPerNode: 0; with GPUs there is one rank for each")
        .field_path(".ranksPerNode"),
    Rule::new(number("clipNorm", "> 0.0")).message("clipNorm must be above \"0\"").field_path(".clipNorm"),
    Rule::new(number("weightDecay", "<= 1.0")).message("weightDecay must be between \"0\" and \"1\"").field_path(".weightDecay"),
    Rule::new(number("zLoss", "<= 1.0")).message("zLoss must be between \"0\" and \"1\"").field_path(".zLoss"),
]))]
pub struct Training {
    /// The model that is specialised. Its tokenizer counts the tokens from Generation on, so it is locked with that
    /// stage.
    pub student: ModelSource,
    /// What is trained: exactly one of `lora` (small matrices beside the weights) and `full` (all weights). Default:
    /// lora with rank 32 and alpha 128.
    #[serde(default)]
    pub method: Method,
    /// How often every line is seen, 1 to 100. Default: 3.
    #[serde(default = "epochs")]
    #[schemars(range(min = 1, max = 100))]
    pub epochs: u32,
    /// The highest learning rate, a string above "0" and at most "1", such as "5e-5". Absent: 5e-5 with LoRA, 1e-5 in
    /// full; status says what applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<Rate>,
    /// Steps over which the learning rate rises from zero, 0 to 1000000. Absent: 48, or a tenth of all steps where that
    /// is less; status says what applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub warmup_steps: Option<u32>,
    /// How many lines an optimizer step sees over all ranks, 1 to 65536. Default: 32.
    #[serde(default = "global_batch")]
    #[schemars(range(min = 1, max = 65_536))]
    pub global_batch: u32,
    /// How the learning rate falls after warm-up: Cosine or Linear, both to zero. Default: Cosine.
    #[serde(default = "schedule")]
    pub schedule: Schedule,
    /// The optimizer's weight decay, a decimal string from "0" to "1". Default: "0.01".
    #[serde(default = "weight_decay")]
    pub weight_decay: Decimal,
    /// The global norm that gradients are clipped to, a decimal string above "0" and at most "1000". Default: "1.0".
    #[serde(default = "clip_norm")]
    pub clip_norm: Decimal,
    /// What the losses of a step are averaged over: PerToken (every trained token counts the same) or PerLine (every line
    /// does). Default: PerToken.
    #[serde(default = "loss_average")]
    pub loss_average: LossAverage,
    /// A penalty on large logits (z-loss, arXiv 2204.02311): so much times the square of the logarithm of their summed
    /// exponentials is added to each trained token's loss, a decimal string from "0" (nothing) to "1". Default: "0".
    #[serde(default = "z_loss")]
    pub z_loss: Decimal,
    /// What the order of lines and fresh weights are drawn from, 0 to 9007199254740991. Default: 42.
    #[serde(default = "seed")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub seed: u64,
    /// Whether short lines share a sequence, so that less is padded. They do not see each other. It changes nothing with
    /// `lossAverage: PerLine`, where every line is a sequence of its own. Default: false.
    #[serde(default)]
    pub packing: bool,
    /// Whether layers' inputs wait in the host's memory for the backward pass, for less of the GPU's. Default: false.
    #[serde(default)]
    pub offload: bool,
    /// How many nodes train together, 1 to 1024. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1024))]
    pub nodes: u32,
    /// How many GPUs each node has for it, 0 to 16; there is one rank for each. 0 trains on CPUs. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 16))]
    pub gpus_per_node: u32,
    /// How many processes train on each node where `gpusPerNode` is 0, 1 to 64. Not allowed with GPUs. Absent: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub ranks_per_node: Option<u32>,
    /// The numbers that are computed with: bf16 (with fp32 master weights) or fp32. Absent: bf16 on GPUs, fp32 on CPUs;
    /// status says what applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// What is divided between ranks: None, ZeRO1 (the optimizer's state), ZeRO2 (and gradients) or ZeRO3 (and
    /// weights). Default: ZeRO1.
    #[serde(default = "sharding")]
    pub sharding: Sharding,
    /// How often a checkpoint is written, at least 1s; a lost attempt goes on from the newest. Default: "15m".
    #[serde(default = "fifteen_minutes")]
    pub checkpoint_every: Timeout,
    /// How many attempts may fail before the stage does, 1 to 100. Preemption and lost nodes do not count. Default: 5.
    #[serde(default = "max_attempts")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: u32,
    /// How long all ranks may take to be ready, at least 1s; then the attempt is deleted, its cause reported, and made
    /// again later. Default: "15m".
    #[serde(default = "fifteen_minutes")]
    pub start_deadline: Timeout,
}

/// What is trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new("has(self.lora) != has(self.full)").message("method needs exactly one of lora and full"),
]))]
pub enum Method {
    /// Small matrices beside frozen weights; the published model has them merged, and the adapter is kept as well. One
    /// of `lora`, `full`.
    Lora(Lora),
    /// All weights. Nothing can be set here. One of `lora`, `full`.
    Full(FullFineTuning),
}

/// Low-rank adaptation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [
    Rule::new(number("dropout", "<= 0.9")).message("dropout must be between \"0\" and \"0.9\"").field_path(".dropout"),
]))]
pub struct Lora {
    /// The matrices' rank, 1 to 1024. Default: 32.
    #[schemars(range(min = 1, max = 1024))]
    pub rank: u32,
    /// What their product is multiplied by, divided by the rank: 1 to 65536. Default: 128.
    #[schemars(range(min = 1, max = 65_536))]
    pub alpha: u32,
    /// The share of their inputs that is dropped in training, a decimal string from "0" to "0.9". Default: "0".
    pub dropout: Ratio,
    /// The modules that get them, by the last part of their names, such as `q_proj`; at most 16. Default (empty): all
    /// linear layers but the output's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub target_modules: Vec<ModuleName>,
}

/// Training of all weights; it has no settings of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct FullFineTuning {}

impl Training {
    /// The learning rate that applies: LoRA 5e-5, full 1e-5, the paper's recipes.
    pub fn effective_learning_rate(&self) -> Rate {
        self.plan(0).peak_learning_rate()
    }

    /// The warm-up that applies to a training of so many steps: the paper's 48, or a tenth of all where that is less.
    pub fn effective_warmup_steps(&self, total_steps: u32) -> u32 {
        self.plan(0).warmup_of(total_steps)
    }

    /// The precision that applies.
    pub fn effective_precision(&self) -> Precision {
        self.precision.unwrap_or(if self.gpus_per_node == 0 { Precision::Fp32 } else { Precision::Bf16 })
    }

    /// What the trainer is told, with the longest line of the dataset.
    pub fn plan(&self, context_length: u32) -> TrainingPlan {
        let method = match &self.method {
            Method::Lora(Lora { rank, alpha, dropout, target_modules }) => MethodPlan::Lora(LoraPlan {
                rank: *rank,
                alpha: *alpha,
                dropout: dropout.clone(),
                target_modules: target_modules.clone(),
            }),
            Method::Full(FullFineTuning {}) => MethodPlan::Full {},
        };
        TrainingPlan {
            method,
            epochs: self.epochs,
            learning_rate: self.learning_rate.clone(),
            warmup_steps: self.warmup_steps,
            global_batch: self.global_batch,
            schedule: self.schedule,
            weight_decay: self.weight_decay.clone(),
            clip_norm: self.clip_norm.clone(),
            loss_average: self.loss_average,
            z_loss: self.z_loss.clone(),
            seed: self.seed,
            packing: self.packing,
            offload: self.offload,
            precision: Some(self.effective_precision()),
            sharding: self.sharding,
            checkpoint_every: self.checkpoint_every.clone(),
            context_length,
        }
    }

    /// How many ranks train together.
    pub fn world_size(&self) -> u32 {
        let per_node = if self.gpus_per_node == 0 { self.ranks_per_node.unwrap_or(1) } else { self.gpus_per_node };
        self.nodes * per_node
    }
}

impl Default for Dataset {
    /// The paper's: five first rollouts to three second ones, 32K tokens, ordered truncation down to 0.88.
    fn default() -> Self {
        Self {
            tool_call_format: ToolCallFormat::Hermes,
            first_rollout_share: literal("0.625"),
            context_length: 32_768,
            min_kept_ratio: literal("0.88"),
            eval_fraction: literal("0.02"),
        }
    }
}

impl Default for Method {
    fn default() -> Self {
        Self::Lora(Lora::default())
    }
}

impl Default for Lora {
    /// The paper's recipe.
    fn default() -> Self {
        Self { rank: 32, alpha: 128, dropout: literal("0"), target_modules: Vec::new() }
    }
}

fn epochs() -> u32 {
    3
}

fn global_batch() -> u32 {
    32
}

fn schedule() -> Schedule {
    Schedule::Cosine
}

fn weight_decay() -> Decimal {
    literal("0.01")
}

fn clip_norm() -> Decimal {
    literal("1.0")
}

fn loss_average() -> LossAverage {
    LossAverage::PerToken
}

fn z_loss() -> Decimal {
    literal("0")
}

fn seed() -> u64 {
    42
}

fn one() -> u32 {
    1
}

fn sharding() -> Sharding {
    Sharding::Zero1
}

fn fifteen_minutes() -> Timeout {
    literal("15m")
}

fn max_attempts() -> u32 {
    5
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn training(mut fields: Value) -> Training {
        fields["student"] = json!({"uri": "builtin://tiny"});
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn what_is_computed_follows_from_the_method_the_steps_and_the_devices() {
        let (lora, full) = (training(json!({})), training(json!({"method": {"full": {}}, "gpusPerNode": 0})));
        assert_eq!(
            (lora.effective_learning_rate().as_str(), full.effective_learning_rate().as_str()),
            ("5e-5", "1e-5")
        );
        assert_eq!((lora.effective_precision(), full.effective_precision()), (Precision::Bf16, Precision::Fp32));
        assert_eq!([0, 99, 480, 10_000].map(|steps| lora.effective_warmup_steps(steps)), [0, 9, 48, 48]);
        let given = training(json!({"learningRate": "1e-4", "warmupSteps": 7, "precision": "fp32"}));
        assert_eq!((given.effective_learning_rate().as_str(), given.effective_warmup_steps(10_000)), ("1e-4", 7));
    }

    #[test]
    fn the_section_as_it_is_written_and_the_plan_made_of_it_are_one() {
        let section = json!({"student": {"uri": "builtin://tiny"}, "epochs": 2, "learningRate": "2e-4", "warmupSteps": 3, "globalBatch": 5,
            "method": {"lora": {"rank": 4, "alpha": 9, "dropout": "0.1", "targetModules": ["q_proj"]}}, "schedule": "Linear", "weightDecay": "0.2",
            "clipNorm": "0.7", "lossAverage": "PerLine", "zLoss": "0.001", "seed": 11, "packing": true, "offload": true, "nodes": 6, "gpusPerNode": 0, "ranksPerNode": 8, "precision": "bf16",
            "sharding": "ZeRO3", "checkpointEvery": "13m", "maxAttempts": 12, "startDeadline": "14m"});
        let mut read = TrainingPlan::from_section(section.clone()).unwrap();
        read.context_length = 77;
        assert_eq!(training(section).plan(77), read);
    }

    #[test]
    fn the_world_is_made_of_gpus_or_of_processes() {
        assert_eq!(training(json!({"nodes": 2, "gpusPerNode": 8})).world_size(), 16);
        assert_eq!(training(json!({"nodes": 3, "gpusPerNode": 0, "ranksPerNode": 2})).world_size(), 6);
        assert_eq!(training(json!({"gpusPerNode": 0})).world_size(), 1);
    }
}
