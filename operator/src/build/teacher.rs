//! The rehearsal teacher of an object: a Deployment, and the Service by whose name drivers find it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use sera_crds::run::PodRole;

use super::{
    Blueprint, Images, RehearsalParts, metadata,
    pod::{self, Mounts, Program},
};
use crate::names::{Owner, TEACHER};

/// What drivers call the model, which is none.
pub const MODEL: &str = "rehearsal";

/// Where it listens.
const PORT: u16 = 8000;

/// The base address of the teacher of `owner`, as the pods of its namespace reach it.
pub fn teacher_url(owner: &Owner) -> String {
    format!("http://{}.{}.svc:{PORT}/v1", owner.teacher_name(), owner.namespace)
}

/// The Deployment.
pub fn teacher(owner: &Owner, parts: &RehearsalParts, blueprint: &Blueprint, images: &Images) -> Deployment {
    let settings = blueprint.settings(PodRole::Teacher);
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
    let mut template = pod::template(&program, &settings, &labels(owner));
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("Always".to_owned());
    }
    Deployment {
        metadata: metadata(owner, owner.teacher_name(), labels(owner)),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            selector: LabelSelector { match_labels: Some(selector(owner)), ..LabelSelector::default() },
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// The Service: headless, so that a driver sees every replica and stays with one.
pub fn teacher_service(owner: &Owner) -> Service {
    Service {
        metadata: metadata(owner, owner.teacher_name(), labels(owner)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(selector(owner)),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: PORT.into(),
                target_port: Some(IntOrString::Int(PORT.into())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn labels(owner: &Owner) -> BTreeMap<String, String> {
    let mut labels = owner.labels();
    labels.insert(TEACHER.to_owned(), MODEL.to_owned());
    labels
}

/// What its pods are found by; a Deployment's selector can never be changed.
fn selector(owner: &Owner) -> BTreeMap<String, String> {
    let labels = labels(owner);
    [crate::names::OWNER_UID, TEACHER]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), labels.get(key)?.clone())))
        .collect()
}
