//! The rehearsal teacher of an object: a Deployment, and the Service by whose name drivers find it.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use sera_crds::run::PodRole;

use super::{
    Blueprint, Images, RehearsalParts,
    pod::{self, Mounts, Program},
    server::{PORT, Server},
};
use crate::names::{Owner, TEACHER};

/// What drivers call the model, which is none.
pub const MODEL: &str = "rehearsal";

/// The base address of the teacher of `owner`, as the pods of its namespace reach it.
pub fn teacher_url(owner: &Owner) -> String {
    server(owner).url()
}

/// The Deployment.
pub fn teacher(owner: &Owner, parts: &RehearsalParts, blueprint: &Blueprint, images: &Images) -> Deployment {
    let shares = &parts.shares;
    let program = Program {
        image: images.teacher.as_str(),
        arguments: vec![
            "rehearse".to_owned(),
            format!("--listen=0.0.0.0:{PORT}"),
            format!("--seed={}", parts.seed),
            format!("--shares=full={},partial={},miss={}", shares.full, shares.partial, shares.miss),
        ],
        port: Some(PORT),
        is_asked_whether_ready: true,
        ..Program::new(Mounts::default(), pod::TEACHER_RESOURCES)
    };
    server(owner).deployment(&program, &blueprint.settings(PodRole::Teacher), 1)
}

/// The Service: headless, so that a driver sees every replica and stays with one.
pub fn teacher_service(owner: &Owner) -> Service {
    server(owner).service(true)
}

fn server(owner: &Owner) -> Server<'_> {
    Server { owner, name: owner.teacher_name(), label: (TEACHER, MODEL) }
}
