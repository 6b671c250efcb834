//! The student and its base beside the driver that compares them: servers in its own pod, so that they come and go with the Job, are queued with it,
//! and are reached by nobody else. The teacher, which may need another node, is asked where it is.

use sera_crds::{run::PodRole, values::Stage};

use super::{
    Blueprint, Images, ServedModel,
    engine::{Engine, Part},
    gpus,
    pod::{self, Companion},
    program::{in_pod, model_in_pod},
    student::MODEL,
};

/// A model that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contender {
    Student,
    Base,
}

impl Contender {
    /// The word for it, in flags and as its container's name.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Student => "student",
            Self::Base => "base",
        }
    }

    /// Where it listens. Both share the pod's address.
    const fn port(self) -> u16 {
        match self {
            Self::Student => 8001,
            Self::Base => 8002,
        }
    }

    /// The API's base address for the driver.
    pub(super) fn url(self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port())
    }
}

/// What the driver of an evaluation has beside it; nothing of other stages.
pub(super) fn of(stage: Stage, blueprint: &Blueprint, images: &Images) -> Vec<Companion> {
    let parts = blueprint.evaluation.as_ref().filter(|_| stage == Stage::Evaluation);
    let Some(parts) = parts else { return Vec::new() };
    [(Contender::Student, &parts.student), (Contender::Base, &parts.base)]
        .map(|(contender, model)| companion(contender, model, blueprint, images))
        .into()
}

fn companion(contender: Contender, model: &ServedModel, blueprint: &Blueprint, images: &Images) -> Companion {
    let home = &blueprint.home;
    let (place, claim) = match &model.at {
        Some(at) => (model_in_pod(at, pod::MODEL_MOUNT), at.claim().map(|(claim, _)| claim)),
        None => (format!("{}/{MODEL}", in_pod(home, pod::MODEL_MOUNT).trim_start_matches("file://")), home.claim()),
    };
    let engine = Engine::of(model, Part::Leader, &place, images, contender.port());
    let program = engine.program(model, claim, images, Some(contender.port()));
    let settings = gpus::settings(blueprint.settings(PodRole::Serve), model.gpus);
    let mut companion = program.beside(contender.word(), &settings);
    companion.take(model.gpus);
    companion
}
