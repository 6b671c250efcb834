//! The images that pods run, as flags.

use clap::{ArgAction, Args, builder::BoolishValueParser};
use sera_crds::values::ImageRef;

use crate::build;

/// What pods run.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Images")]
pub struct Images {
    /// The image of the stages that work on repositories (images/rollout).
    #[arg(long, env = "SERA_ROLLOUT_IMAGE", value_name = "IMAGE")]
    pub rollout_image: ImageRef,
    /// The image that brings the program which executes an agent's commands (images/sandbox).
    #[arg(long, env = "SERA_SANDBOX_IMAGE", value_name = "IMAGE", default_value = concat!("ghcr.io/sera-dev/sera-sandbox:", env!("CARGO_PKG_VERSION")))]
    pub sandbox_image: ImageRef,
    /// The image that an agent's commands run in where spec.generation.environment.image names none (images/sandbox, target `environment`).
    #[arg(long, env = "SERA_ENVIRONMENT_IMAGE", value_name = "IMAGE", default_value = concat!("ghcr.io/sera-dev/sera-environment:", env!("CARGO_PKG_VERSION")))]
    pub environment_image: ImageRef,
    /// The image of the rehearsal teacher and of the server of small students (images/teacher).
    #[arg(long, env = "SERA_TEACHER_IMAGE", value_name = "IMAGE", default_value = concat!("ghcr.io/sera-dev/sera-teacher:", env!("CARGO_PKG_VERSION")))]
    pub teacher_image: ImageRef,
    /// The image that trains the student (images/trainer).
    #[arg(long, env = "SERA_TRAINER_IMAGE", value_name = "IMAGE", default_value = concat!("ghcr.io/sera-dev/sera-trainer:", env!("CARGO_PKG_VERSION")))]
    pub trainer_image: ImageRef,
    /// Whether that image trains on GPUs; `off` refuses runs that ask for some, before anything is paid for them.
    #[arg(long, env = "SERA_TRAINER_GPUS", value_name = "on|off", default_value = "on", action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    pub trainer_gpus: bool,
    /// The image of vLLM, for models that are served by it.
    #[arg(long, env = "SERA_VLLM_IMAGE", value_name = "IMAGE", default_value = "docker.io/vllm/vllm-openai:v0.12.0")]
    pub vllm_image: ImageRef,
    /// The image of SGLang, for models that are served by it.
    #[arg(long, env = "SERA_SGLANG_IMAGE", value_name = "IMAGE", default_value = "docker.io/lmsysorg/sglang:v0.5.5")]
    pub sglang_image: ImageRef,
}

impl Images {
    /// All of them.
    pub fn images(&self) -> build::Images {
        build::Images {
            rollout: self.rollout_image.clone(),
            sandbox: self.sandbox_image.clone(),
            environment: self.environment_image.clone(),
            teacher: self.teacher_image.clone(),
            trainer: self.trainer_image.clone(),
            vllm: self.vllm_image.clone(),
            sglang: self.sglang_image.clone(),
        }
    }
}
