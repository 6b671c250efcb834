//! From the contract's plan to what the engine and the schedule are told, and what of a plan decides about the weights.

use candle_core::{DType, Device};
use sera_crds::contract::{MethodPlan, TrainingPlan};
use sera_crds::values::{self, LossAverage, Precision, Sharding};
use sha2::{Digest, Sha256};

use crate::engine::{Method, Normalise, Residence, Settings};
use crate::model::{Keep, LoraSettings};
use crate::optim::{AdamW, Decline, Schedule};

/// A plan that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A number that is none.
    #[error("`{field}` is {value}, which is no number that can be computed with")]
    Number {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
    /// A clipping that leaves nothing of any gradient.
    #[error(
        "`{field}` is {value}, which would make every gradient 0: leave it out, or give a large number so that nothing is clipped"
    )]
    Nothing {
        /// The field.
        field: &'static str,
        /// What it says.
        value: String,
    },
}

/// What the engine is told.
pub(super) fn settings(plan: &TrainingPlan, device: &Device) -> Result<Settings, PlanError> {
    let method = match &plan.method {
        MethodPlan::Full {} => Method::Full,
        MethodPlan::Lora(lora) => Method::Lora(LoraSettings {
            rank: lora.rank,
            alpha: lora.alpha,
            dropout: number("method.lora.dropout", lora.dropout.as_str())?,
            target_modules: lora.target_modules.iter().map(|module| module.as_str().to_owned()).collect(),
            seed: plan.seed,
        }),
    };
    let weight_decay = number("weightDecay", plan.weight_decay.as_str())?;
    // Each line's loss has a weight of its own there, and a sequence has one.
    let packs = plan.packing && plan.loss_average == LossAverage::PerToken;
    if plan.packing && !packs {
        tracing::warn!("`packing` changes nothing with `lossAverage: PerLine`: each line is a sequence of its own");
    }
    Ok(Settings {
        sharding: plan.sharding,
        optimizer: AdamW { weight_decay, ..AdamW::default() },
        clip_norm: above_zero("clipNorm", plan.clip_norm.as_str())?,
        normalise: match plan.loss_average {
            LossAverage::PerToken => Normalise::PerToken,
            LossAverage::PerLine => Normalise::MeanOfMeans,
        },
        z_loss: number("zLoss", plan.z_loss.as_str())?,
        compute: compute(plan, device),
        seed: plan.seed,
        keep: Keep { blocks: 0, offload: plan.offload },
        residence: if device.is_cpu() { Residence::Host } else { Residence::Device },
        packing: packs.then_some(plan.context_length as usize),
        ..Settings::of(method)
    })
}

/// What is computed in: where the plan does not say, bf16 on GPUs and f32 on CPUs.
pub(super) fn compute(plan: &TrainingPlan, device: &Device) -> DType {
    match plan.precision {
        Some(Precision::Bf16) => DType::BF16,
        None if !device.is_cpu() => DType::BF16,
        Some(Precision::Fp32) | None => DType::F32,
    }
}

/// The learning rate of each of `steps` steps.
pub(super) fn schedule(plan: &TrainingPlan, steps: u32) -> Schedule {
    let decline = match plan.schedule {
        values::Schedule::Cosine => Decline::Cosine,
        values::Schedule::Linear => Decline::Linear,
    };
    Schedule { peak: plan.peak_learning_rate().value(), warm_up: plan.warmup_of(steps), steps, decline }
}

/// The sha256 of what of a plan decides about the weights: not how often checkpoints are written, what is divided between ranks, or where blocks'
/// inputs wait; and the learning rate and precision as they apply, whether they are given or not.
pub(super) fn digest(plan: &TrainingPlan, device: &Device) -> Result<String, serde_json::Error> {
    let usual = TrainingPlan::default();
    let deciding = TrainingPlan {
        learning_rate: Some(plan.peak_learning_rate()),
        precision: Some(if compute(plan, device) == DType::BF16 { Precision::Bf16 } else { Precision::Fp32 }),
        checkpoint_every: usual.checkpoint_every,
        sharding: Sharding::None,
        offload: false,
        ..plan.clone()
    };
    Ok(hex::encode(Sha256::digest(serde_json::to_vec(&deciding)?)))
}

fn number(field: &'static str, text: &str) -> Result<f64, PlanError> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| PlanError::Number { field, value: text.to_owned() })
}

/// What gradients are clipped to: with 0 a training would come to its end and have trained nothing.
fn above_zero(field: &'static str, text: &str) -> Result<f64, PlanError> {
    let number = number(field, text)?;
    if number > 0.0 { Ok(number) } else { Err(PlanError::Nothing { field, value: text.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plan(fields: serde_json::Value) -> TrainingPlan {
        TrainingPlan::from_section(fields).unwrap()
    }

    #[test]
    fn what_decides_about_the_weights_is_part_of_the_digest_and_nothing_else() {
        let of = |fields| digest(&plan(fields), &Device::Cpu).unwrap();
        let usual = of(json!({}));
        for same in [
            json!({"checkpointEvery": "1m"}),
            json!({"sharding": "ZeRO3"}),
            json!({"offload": true}),
            json!({"learningRate": "5e-5"}),
            json!({"precision": "fp32"}),
            json!({"maxAttempts": 9}),
            json!({"lossAverage": "PerToken", "zLoss": "0"}),
        ] {
            assert_eq!(of(same.clone()), usual, "{same}");
        }
        for other in [
            json!({"epochs": 2}),
            json!({"learningRate": "6e-5"}),
            json!({"seed": 1}),
            json!({"globalBatch": 16}),
            json!({"precision": "bf16"}),
            json!({"method": {"lora": {"rank": 8}}}),
            json!({"method": {"full": {}}}),
            json!({"contextLength": 4096}),
            json!({"lossAverage": "PerLine"}),
            json!({"zLoss": "0.0001"}),
        ] {
            assert_ne!(of(other.clone()), usual, "{other}");
        }
    }

    #[test]
    fn the_engine_is_told_what_the_plan_says() {
        let lora = json!({"rank": 8, "alpha": 24, "dropout": "0.1", "targetModules": ["q_proj"]});
        let fields =
            json!({"method": {"lora": lora}, "weightDecay": "0.02", "clipNorm": "0.5", "seed": 7, "sharding": "ZeRO2"});
        let settings = super::settings(&plan(fields), &Device::Cpu).unwrap();
        let target_modules = vec!["q_proj".to_owned()];
        let lora = LoraSettings { rank: 8, alpha: 24, dropout: 0.1, target_modules, seed: 7 };
        assert_eq!(settings.method, Method::Lora(lora));
        assert_eq!((settings.optimizer.weight_decay, settings.clip_norm, settings.seed), (0.02, 0.5, 7));
        assert_eq!((settings.compute, settings.sharding), (DType::F32, Sharding::Zero2));
        assert_eq!((settings.packing, settings.residence), (None, Residence::Host));
        assert_eq!((settings.normalise, settings.z_loss), (Normalise::PerToken, 0.0));
        let other = super::settings(&plan(json!({"lossAverage": "PerLine", "zLoss": "0.001"})), &Device::Cpu).unwrap();
        assert_eq!((other.normalise, other.z_loss), (Normalise::MeanOfMeans, 0.001));
        let packed = super::settings(&plan(json!({"packing": true, "contextLength": 4096})), &Device::Cpu).unwrap();
        assert_eq!(packed.packing, Some(4096));
        let per_line = json!({"packing": true, "contextLength": 4096, "lossAverage": "PerLine"});
        assert_eq!(super::settings(&plan(per_line), &Device::Cpu).unwrap().packing, None, "no memory is held for it");
    }

    #[test]
    fn a_clipping_to_nothing_is_refused_by_the_name_of_its_field() {
        for nothing in ["0", "0.0"] {
            let refused = super::settings(&plan(json!({"clipNorm": nothing})), &Device::Cpu).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("`clipNorm` is {nothing}, which")), "{refused}");
        }
        assert!(super::settings(&plan(json!({"clipNorm": "0.001"})), &Device::Cpu).is_ok());
    }

    #[test]
    fn the_schedule_has_the_rate_and_the_warm_up_that_apply() {
        let full = schedule(&plan(json!({"method": {"full": {}}, "schedule": "Linear"})), 100);
        assert_eq!(full, Schedule { peak: 1e-5, warm_up: 10, steps: 100, decline: Decline::Linear });
    }
}
