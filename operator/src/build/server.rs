//! What the teachers and the students that the operator serves have in common: a Deployment whose pods answer at one port, and the Service that finds
//! them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use sera_crds::run::PodSettings;

use super::{
    Images, ServedModel,
    engine::Engine,
    gpus, metadata,
    pod::{self, Program, Readiness},
};
use crate::names::{GENERATION, OWNER_UID, Owner};

/// Where every server listens.
pub(super) const PORT: u16 = 8000;

/// How long the pods of an engine that loads long may make no progress: what its startup probe allows, and as much again for its image.
const LONG_DEADLINE_SECONDS: i32 = 7_200;

/// The API's base address of the server of this name, as the pods of the cluster reach it.
pub(super) fn url(name: &str, owner: &Owner) -> String {
    format!("http://{name}.{}.svc:{PORT}/v1", owner.namespace)
}

/// A server of `owner`: what it is called, and the label that tells its pods from those of the owner's other servers.
pub(super) struct Server<'a> {
    pub owner: &'a Owner,
    pub name: String,
    pub label: (&'static str, &'static str),
}

impl Server<'_> {
    /// The Deployment of a model's copies, whose pods find it at `place`: on a `claim`, where it is mounted, or in a bucket.
    pub(super) fn of_model(
        &self,
        model: &ServedModel,
        place: &str,
        claim: Option<&str>,
        settings: PodSettings,
        images: &Images,
        generation: i64,
    ) -> Deployment {
        let engine = Engine::of(model, place, images, PORT);
        let readiness = engine.readiness;
        let program = engine.program(model, claim, images, PORT);
        let settings = gpus::settings(settings, model.gpus);
        let mut deployment = self.deployment(&program, &settings, model.replicas, generation);
        if let Some(spec) = &mut deployment.spec {
            if let Some(pod) = &mut spec.template.spec {
                gpus::give(pod, model.gpus);
            }
            spec.progress_deadline_seconds = (readiness == Readiness::LoadsLong).then_some(LONG_DEADLINE_SECONDS);
            spec.strategy = (model.gpus > 0).then(in_its_own_place);
        }
        deployment
    }

    /// The Deployment of so many pods that run `program`, as this generation of the owner's spec asks for it.
    pub(super) fn deployment(
        &self,
        program: &Program<'_>,
        settings: &PodSettings,
        replicas: u32,
        generation: i64,
    ) -> Deployment {
        let mut template = pod::template(program, settings, &self.labels());
        if let Some(spec) = &mut template.spec {
            spec.restart_policy = Some("Always".to_owned());
        }
        let mut labels = self.labels();
        labels.insert(GENERATION.to_owned(), generation.to_string());
        Deployment {
            metadata: metadata(self.owner, self.name.clone(), labels),
            spec: Some(DeploymentSpec {
                replicas: i32::try_from(replicas).ok(),
                selector: LabelSelector { match_labels: Some(self.selector()), ..LabelSelector::default() },
                template,
                ..DeploymentSpec::default()
            }),
            status: None,
        }
    }

    /// The Service; headless for clients that choose a pod and stay with it.
    pub(super) fn service(&self, headless: bool) -> Service {
        Service {
            metadata: metadata(self.owner, self.name.clone(), self.labels()),
            spec: Some(ServiceSpec {
                cluster_ip: headless.then(|| "None".to_owned()),
                selector: Some(self.selector()),
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

    fn labels(&self) -> BTreeMap<String, String> {
        let (key, value) = self.label;
        let mut labels = self.owner.labels();
        labels.insert(key.to_owned(), value.to_owned());
        labels
    }

    /// What its pods are found by; a Deployment's selector can never be changed.
    fn selector(&self) -> BTreeMap<String, String> {
        let (key, value) = self.label;
        let uid = self.owner.uid.as_str();
        [(OWNER_UID, uid), (key, value)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }
}

/// Where a copy holds GPUs, the next one may find no others: the old one goes first.
fn in_its_own_place() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_surge: Some(IntOrString::Int(0)),
            max_unavailable: Some(IntOrString::Int(1)),
        }),
    }
}
