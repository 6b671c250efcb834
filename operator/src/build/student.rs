//! The student that is served: a Deployment of an engine, and the Service that clients ask.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use sera_crds::run::PodRole;

use super::{
    Blueprint, Images, ServedModel,
    pod::MODEL_MOUNT,
    program::in_pod,
    server::{self, Server, Serving},
};
use crate::{
    names::{Owner, STUDENT},
    plan::record::Edition,
};

/// The folder of a run's store that the trainer publishes the model in.
pub(super) const MODEL: &str = "model";

/// The base address of the student of `owner`, as the pods of the cluster reach it.
pub fn student_url(owner: &Owner) -> String {
    server::url(&owner.student_name(), owner)
}

/// The Deployment, as this edition of the specs asks for it.
pub fn student(
    owner: &Owner,
    edition: Edition,
    model: &ServedModel,
    blueprint: &Blueprint,
    images: &Images,
) -> Deployment {
    let home = &blueprint.home;
    let place = format!("{}/{MODEL}", in_pod(home, MODEL_MOUNT).trim_start_matches("file://"));
    let (claim, settings) = (home.claim(), blueprint.settings(PodRole::Serve));
    server(owner).of_model(&Serving { model, place: &place, claim, settings, images, edition })
}

/// The Service: one address, behind which any copy answers.
pub fn student_service(owner: &Owner) -> Service {
    server(owner).service(false)
}

fn server(owner: &Owner) -> Server<'_> {
    Server { owner, name: owner.student_name(), label: (STUDENT, "served") }
}
