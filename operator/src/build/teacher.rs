//! The teacher that the operator runs for an object: a model or a rehearsal, as a Deployment or in groups of pods, and the Service by whose name drivers
//! find it.

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Service};
use sera_crds::run::PodRole;

use super::{
    Blueprint, HostedTeacher, Images, LeaderWorkerSet, RehearsalParts,
    pod::{self, MODEL_MOUNT, Mounts, Program, Readiness},
    program::model_in_pod,
    server::{self, PORT, Server, Serving},
};
use crate::{
    names::{Owner, TEACHER},
    plan::record::Edition,
};

/// What drivers call a rehearsal, which is no model.
pub const MODEL: &str = "rehearsal";

/// The base address of the teacher of `owner`, as the pods of its namespace reach it.
pub fn teacher_url(owner: &Owner) -> String {
    server::url(&owner.teacher_name(), owner)
}

/// What the pods of a teacher are made by.
#[derive(Debug, Clone)]
pub enum TeacherServer {
    /// Copies of a pod each.
    Deployment(Box<Deployment>),
    /// Copies that are spread over nodes.
    LeaderWorkerSet(Box<LeaderWorkerSet>),
}

/// What makes the pods, as this edition of the specs asks for it.
pub fn teacher(
    owner: &Owner,
    edition: Edition,
    teacher: &HostedTeacher,
    blueprint: &Blueprint,
    images: &Images,
) -> TeacherServer {
    let (server, settings) = (server(owner, teacher), blueprint.settings(PodRole::Teacher));
    match teacher {
        HostedTeacher::Rehearsal(parts) => {
            let deployment = server.deployment(&rehearsal(parts, images), &settings, 1, edition);
            TeacherServer::Deployment(Box::new(deployment))
        }
        HostedTeacher::Model(model) => {
            let at = model.at.as_ref();
            let place = at.map(|at| model_in_pod(at, MODEL_MOUNT)).unwrap_or_default();
            let claim = at.and_then(|at| at.claim()).map(|(claim, _)| claim);
            let serving = Serving { model, place: &place, claim, settings, images, edition };
            if teacher.is_over_nodes() {
                TeacherServer::LeaderWorkerSet(Box::new(server.in_groups(owner.teacher_groups_name(), &serving)))
            } else {
                TeacherServer::Deployment(Box::new(server.of_model(&serving)))
            }
        }
    }
}

/// The Service: headless, so that a driver sees every replica and stays with one.
pub fn teacher_service(owner: &Owner, teacher: &HostedTeacher) -> Service {
    let server = server(owner, teacher);
    if teacher.is_over_nodes() { server.leaders() } else { server.service(true) }
}

fn server<'a>(owner: &'a Owner, teacher: &HostedTeacher) -> Server<'a> {
    let kind = match teacher {
        HostedTeacher::Rehearsal(_) => MODEL,
        HostedTeacher::Model(_) => "model",
    };
    Server { owner, name: owner.teacher_name(), label: (TEACHER, kind) }
}

fn rehearsal<'a>(parts: &RehearsalParts, images: &'a Images) -> Program<'a> {
    let shares = &parts.shares;
    Program {
        image: images.teacher.as_str(),
        arguments: vec![
            "rehearse".to_owned(),
            format!("--listen=0.0.0.0:{PORT}"),
            format!("--seed={}", parts.seed),
            format!("--shares=full={},partial={},miss={}", shares.full, shares.partial, shares.miss),
        ],
        port: Some(PORT),
        readiness: Readiness::Asked,
        ..Program::new(Mounts::default(), pod::TEACHER_RESOURCES)
    }
}
