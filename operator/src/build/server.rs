//! What the teachers and the students that the operator serves have in common: a Deployment whose pods answer at one port, or groups of pods of which
//! one does, and the Service that finds them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{PodTemplateSpec, Service, ServicePort, ServiceSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use sera_crds::run::PodSettings;

use super::{
    Images, ServedModel,
    engine::{Engine, Part},
    gpus,
    groups::{LeaderWorkerSet, LeaderWorkerSetSpec, LeaderWorkerTemplate, RestartPolicy, StartupPolicy, WORKER_INDEX},
    metadata,
    pod::{self, Program, Readiness},
};
use crate::{
    names::{GENERATION, OWNER_UID, Owner, RUN_GENERATION},
    plan::record::Edition,
};

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

/// A model's files as pods see them, and by what settings the pods are made.
pub(super) struct Serving<'a> {
    /// What is served, and by which engine.
    pub model: &'a ServedModel,
    /// Where pods find it: on a claim, where that is mounted, or in a bucket.
    pub place: &'a str,
    /// The claim.
    pub claim: Option<&'a str>,
    /// What is said of the pods.
    pub settings: PodSettings,
    /// The images of engines.
    pub images: &'a Images,
    /// Which generation of the specs.
    pub edition: Edition,
}

impl Serving<'_> {
    /// The pods that are this part of a copy, with these labels, and how it is known when they answer.
    fn pods(&self, part: Part, labels: &BTreeMap<String, String>) -> (PodTemplateSpec, Readiness) {
        let engine = Engine::of(self.model, part, self.place, self.images, PORT);
        let program = engine.program(self.model, self.claim, self.images, (part == Part::Leader).then_some(PORT));
        let gpus = self.model.gpus / self.model.nodes.max(1);
        let mut template = always(pod::template(&program, &gpus::settings(self.settings.clone(), gpus), labels));
        if let Some(pod) = &mut template.spec {
            gpus::give(pod, gpus);
        }
        (template, engine.readiness)
    }
}

impl Server<'_> {
    /// The Deployment of a model's copies, each of which is a pod.
    pub(super) fn of_model(&self, serving: &Serving<'_>) -> Deployment {
        let (template, readiness) = serving.pods(Part::Leader, &self.labels());
        let mut deployment = self.of_pods(template, serving.model.replicas, serving.edition);
        if let Some(spec) = &mut deployment.spec {
            spec.progress_deadline_seconds = (readiness == Readiness::LoadsLong).then_some(LONG_DEADLINE_SECONDS);
            spec.strategy = (serving.model.gpus > 0).then(in_its_own_place);
        }
        deployment
    }

    /// The groups of a model's copies, each of which has a pod on every one of its nodes, by this name: its controller makes a Service of that name too.
    pub(super) fn in_groups(&self, name: String, serving: &Serving<'_>) -> LeaderWorkerSet {
        let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        let labels = self.labels();
        let spec = LeaderWorkerSetSpec {
            replicas: number(serving.model.replicas),
            leader_worker_template: LeaderWorkerTemplate {
                size: number(serving.model.nodes),
                restart_policy: RestartPolicy::RecreateGroupOnPodRestart,
                leader_template: serving.pods(Part::Leader, &labels).0,
                worker_template: serving.pods(Part::Worker, &labels).0,
            },
            startup_policy: StartupPolicy::LeaderCreated,
        };
        LeaderWorkerSet { metadata: metadata(self.owner, name, self.of_edition(serving.edition)), spec }
    }

    /// The Deployment of so many pods that run `program`, as this edition of the specs asks for it.
    pub(super) fn deployment(
        &self,
        program: &Program<'_>,
        settings: &PodSettings,
        replicas: u32,
        edition: Edition,
    ) -> Deployment {
        self.of_pods(always(pod::template(program, settings, &self.labels())), replicas, edition)
    }

    fn of_pods(&self, template: PodTemplateSpec, replicas: u32, edition: Edition) -> Deployment {
        Deployment {
            metadata: metadata(self.owner, self.name.clone(), self.of_edition(edition)),
            spec: Some(DeploymentSpec {
                replicas: i32::try_from(replicas).ok(),
                selector: LabelSelector { match_labels: Some(self.selector()), ..LabelSelector::default() },
                template,
                ..DeploymentSpec::default()
            }),
            status: None,
        }
    }

    /// The Service of those pods of groups that answer.
    pub(super) fn leaders(&self) -> Service {
        let mut service = self.service(true);
        let selector = service.spec.as_mut().and_then(|spec| spec.selector.as_mut());
        selector.into_iter().for_each(|selector| drop(selector.insert(WORKER_INDEX.to_owned(), "0".to_owned())));
        service
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

    fn of_edition(&self, Edition { own, runs }: Edition) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.insert(GENERATION.to_owned(), own.to_string());
        labels.extend(runs.map(|runs| (RUN_GENERATION.to_owned(), runs.to_string())));
        labels
    }

    /// What its pods are found by; a Deployment's selector can never be changed.
    fn selector(&self) -> BTreeMap<String, String> {
        let (key, value) = self.label;
        let uid = self.owner.uid.as_str();
        [(OWNER_UID, uid), (key, value)].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    }
}

/// Pods that begin again when they end.
fn always(mut template: PodTemplateSpec) -> PodTemplateSpec {
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("Always".to_owned());
    }
    template
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
