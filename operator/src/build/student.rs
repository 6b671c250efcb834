//! The student that is served: a Deployment of the server of small models, and the Service that clients ask.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use sera_crds::{run::PodRole, values::StoreUri};

use super::{
    Blueprint, Images, ServingParts,
    pod::{self, MODEL_MOUNT, Mounts, Program},
    program::Told,
    server::{PORT, Server},
};
use crate::names::{GENERATION, Owner, STUDENT};

/// The folder of a run's store that the trainer publishes the model in.
const MODEL: &str = "model";

/// The base address of the student of `owner`, as the pods of the cluster reach it.
pub fn student_url(owner: &Owner) -> String {
    server(owner).url()
}

/// The Deployment, as this generation of the spec asks for it.
pub fn student(
    owner: &Owner,
    generation: i64,
    parts: &ServingParts,
    blueprint: &Blueprint,
    images: &Images,
) -> Deployment {
    let Told { arguments, variables } = told(parts, blueprint);
    let mounts = Mounts {
        store: blueprint.store_credentials.as_ref().map(|secret| secret.name.as_str()),
        model_claim: blueprint.home.claim(),
        ..Mounts::default()
    };
    let program = Program {
        image: parts.image.as_ref().unwrap_or(&images.teacher).as_str(),
        arguments,
        variables,
        port: Some(PORT),
        is_asked_whether_ready: true,
        ..Program::new(mounts, pod::SERVER_RESOURCES)
    };
    let mut deployment = server(owner).deployment(&program, &blueprint.settings(PodRole::Serve), parts.replicas);
    let labels = deployment.metadata.labels.get_or_insert_default();
    labels.insert(GENERATION.to_owned(), generation.to_string());
    deployment
}

/// The Service: one address, behind which any copy answers.
pub fn student_service(owner: &Owner) -> Service {
    server(owner).service(false)
}

fn server(owner: &Owner) -> Server<'_> {
    Server { owner, name: owner.student_name(), label: (STUDENT, "served") }
}

fn told(parts: &ServingParts, blueprint: &Blueprint) -> Told {
    let mut told = Told::of("serve");
    told.say(format!("--model={}", place(&blueprint.home)));
    told.say(format!("--served-model-name={}", parts.model));
    told.say(format!("--listen=0.0.0.0:{PORT}"));
    told.say("--log-format=json".to_owned());
    parts.arguments.iter().for_each(|argument| told.say(argument.clone()));
    told
}

/// Where a pod finds the model: a folder, where the store is a claim.
fn place(home: &StoreUri) -> String {
    let folder = match (home.claim(), home.path()) {
        (None, _) => home.as_str().trim_end_matches('/').to_owned(),
        (Some(_), "") => MODEL_MOUNT.to_owned(),
        (Some(_), path) => format!("{MODEL_MOUNT}/{path}"),
    };
    format!("{folder}/{MODEL}")
}
