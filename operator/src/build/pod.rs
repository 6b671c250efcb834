//! The pod of a stage's program: the restricted Pod Security level, no token, no secret but as files that only the program reads, and whatever the
//! user may say about nodes, queues and resources.

mod companions;
mod literal;
mod resources;
mod security;
mod storage;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvVar, HTTPGetAction, LocalObjectReference, PodSpec, PodTemplateSpec, Probe,
        VolumeMount,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use sera_crds::run::{PodSettings, Proxy};

pub(super) use self::{
    companions::{Companion, Fetch},
    resources::{
        COUNTING_RESOURCES, DRIVER_RESOURCES, DefaultResources, ENGINE_RESOURCES, SERVER_RESOURCES, SLOT_RESOURCES,
        SMALL_RESOURCES, SNAPSHOT_RESOURCES, TEACHER_RESOURCES, TRAINER_RESOURCES,
    },
    security::container_security,
    storage::{
        FETCHED_MOUNT, GIT_MOUNT, GITHUB_MOUNT, MODEL_MOUNT, SCRATCH_MOUNT, SLOTS_MOUNT, SNAPSHOT_MOUNT,
        STORE_CREDENTIALS_MOUNT, STORE_MOUNT, STUDENT_CREDENTIALS_MOUNT, STUDENT_MOUNT, TEACHER_MOUNT, empty_dir,
        mount,
    },
};
use self::{
    literal::literal,
    security::pod_security,
    storage::{CA_MOUNT, storage},
};
use super::sandboxes::Sandboxes;
use crate::names::PROGRAM_CONTAINER;

/// Where a program leaves its last words for the kubelet.
pub(super) const TERMINATION_MESSAGE: &str = "/dev/termination-log";
/// The termination message of whoever writes none: the end of its log, where it failed.
pub(super) const END_OF_LOG: &str = "FallbackToLogsOnError";
/// Hosts that are always reached without a proxy: the cluster's own, and those where clouds tell a pod its identity: a proxy would tell its own, or none.
const CLUSTER_HOSTS: [&str; 8] = [
    "localhost",
    "127.0.0.1",
    ".svc",
    ".cluster.local",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "metadata.google.internal",
];

/// A program and what it needs.
pub(super) struct Program<'a> {
    /// Its image.
    pub image: &'a str,
    /// What is executed, where that is not the image's own entry.
    pub command: Option<Vec<String>>,
    /// Its arguments, without secrets.
    pub arguments: Vec<String>,
    /// Further arguments, in which Kubernetes replaces `$(NAME)` by a variable of the pod.
    pub references: Vec<String>,
    /// Its variables, without secrets.
    pub variables: Vec<EnvVar>,
    /// What it reads and writes.
    pub mounts: Mounts<'a>,
    /// What it gets where nobody says otherwise.
    pub resources: DefaultResources,
    /// Where it listens, where it does.
    pub port: Option<u16>,
    /// How it is known when it can be asked.
    pub readiness: Readiness,
    /// The sandboxes beside it.
    pub sandboxes: Option<Sandboxes>,
    /// The servers beside it.
    pub companions: Vec<Companion>,
    /// What brings its model from a bucket before it begins.
    pub fetch: Option<Fetch<'a>>,
}

/// How it is known that a program answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It is not: a stage's program ends, and says what came of it.
    Unasked,
    /// By `/health`.
    Asked,
    /// By `/health` too, which may take an hour at first, while a large model is loaded and compiled; afterwards one that does not answer is restarted.
    LoadsLong,
}

/// The Secrets and the claims that a program sees, by name.
#[derive(Default)]
pub(super) struct Mounts<'a> {
    /// The repository's credentials.
    pub git: Option<&'a str>,
    /// The credentials for GitHub's API.
    pub github: Option<&'a str>,
    /// The store's credentials.
    pub store: Option<&'a str>,
    /// The credentials for the student's bucket.
    pub student: Option<&'a str>,
    /// The teacher's key.
    pub teacher_key: Option<&'a str>,
    /// The authorities of the teacher's certificate.
    pub teacher_authority: Option<&'a str>,
    /// The store itself, where it is a claim.
    pub claim: Option<&'a str>,
    /// The claim that another's snapshot lies on; it is not written to.
    pub snapshot_claim: Option<&'a str>,
    /// The claim that the student lies on; it is not written to.
    pub student_claim: Option<&'a str>,
    /// The claim that the model lies on; it is not written to.
    pub model_claim: Option<&'a str>,
}

impl<'a> Program<'a> {
    /// A program that sees this much.
    pub(super) fn new(mounts: Mounts<'a>, resources: DefaultResources) -> Self {
        Self {
            image: "",
            command: None,
            arguments: Vec::new(),
            references: Vec::new(),
            variables: Vec::new(),
            mounts,
            resources,
            port: None,
            readiness: Readiness::Unasked,
            sandboxes: None,
            companions: Vec::new(),
            fetch: None,
        }
    }
}

/// The template of a program's pods.
pub(super) fn template(
    program: &Program<'_>,
    settings: &PodSettings,
    labels: &BTreeMap<String, String>,
) -> PodTemplateSpec {
    let mut all_labels: BTreeMap<String, String> =
        settings.labels.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
    all_labels.extend(labels.clone());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(all_labels),
            annotations: some_if_any(settings.annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(program, settings)),
    }
}

fn spec(program: &Program<'_>, settings: &PodSettings) -> PodSpec {
    let node_selector = settings.node_selector.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
    let pull_secrets =
        settings.image_pull_secrets.iter().map(|secret| LocalObjectReference { name: secret.name.to_string() });
    let (mut volumes, mut mounts): (Vec<_>, Vec<_>) = storage(program, settings).into_iter().unzip();
    if let Some(sandboxes) = &program.sandboxes {
        volumes.extend(sandboxes.volumes.clone());
        mounts.extend(sandboxes.driver_mounts.clone());
    }
    volumes.extend(program.companions.iter().flat_map(|companion| companion.volumes.clone()));
    let companions = program.companions.iter().flat_map(|companion| companion.containers.clone());
    let fetching = program.fetch.as_ref().map(|fetch| fetch.container(program, settings));
    let (fetching, more) = fetching.unzip();
    volumes.extend(more.into_iter().flatten());
    let sandboxes = program.sandboxes.iter().flat_map(|sandboxes| sandboxes.containers.clone());
    // Sandboxes last: nothing before them may see a slot at work.
    let before: Vec<Container> = fetching.into_iter().chain(companions).chain(sandboxes).map(literal).collect();
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(pod_security()),
        service_account_name: settings.service_account_name.as_ref().map(ToString::to_string),
        priority_class_name: settings.priority_class_name.as_ref().map(ToString::to_string),
        runtime_class_name: settings.runtime_class_name.as_ref().map(ToString::to_string),
        node_selector: some_if_any(node_selector),
        tolerations: (!settings.tolerations.is_empty()).then(|| settings.tolerations.clone()),
        affinity: settings.affinity.clone(),
        image_pull_secrets: (!settings.image_pull_secrets.is_empty()).then(|| pull_secrets.collect()),
        init_containers: (!before.is_empty()).then_some(before),
        containers: vec![with_references(literal(container(program, settings, mounts)), program)],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

fn container(program: &Program<'_>, settings: &PodSettings, mounts: Vec<VolumeMount>) -> Container {
    let resources = settings.resources.clone().filter(|resources| !resources.is_empty());
    let mut variables = environment(settings);
    variables.extend(program.variables.clone());
    let loads_long = program.port.filter(|_| program.readiness == Readiness::LoadsLong);
    Container {
        name: PROGRAM_CONTAINER.to_owned(),
        image: Some(program.image.to_owned()),
        command: program.command.clone(),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(program.arguments.clone()),
        env: Some(variables),
        ports: program.port.map(|port| {
            vec![ContainerPort {
                name: Some("http".to_owned()),
                container_port: port.into(),
                ..ContainerPort::default()
            }]
        }),
        readiness_probe: program
            .port
            .filter(|_| program.readiness != Readiness::Unasked)
            .map(|port| health(port, 2, 3)),
        startup_probe: loads_long.map(|port| health(port, 10, 360)),
        liveness_probe: loads_long.map(|port| health(port, 10, 6)),
        resources: Some(resources.map_or_else(|| program.resources.requirements(), Into::into)),
        security_context: Some(container_security()),
        termination_message_path: Some(TERMINATION_MESSAGE.to_owned()),
        termination_message_policy: Some(END_OF_LOG.to_owned()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// The container with what only the cluster knows of its pod.
fn with_references(mut container: Container, program: &Program<'_>) -> Container {
    container.args.get_or_insert_default().extend(program.references.iter().cloned());
    container
}

/// Asked every so many seconds, and believed after so many failures in a row.
fn health(port: u16, period: i32, failures: i32) -> Probe {
    let get = HTTPGetAction {
        path: Some("/health".to_owned()),
        port: IntOrString::Int(port.into()),
        ..HTTPGetAction::default()
    };
    Probe {
        http_get: Some(get),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(period),
        ..Probe::default()
    }
}

fn environment(settings: &PodSettings) -> Vec<EnvVar> {
    let mut variables = settings.proxy.as_ref().map(proxy_variables).unwrap_or_default();
    if settings.ca_secret_ref.is_some() {
        variables.push(("SERA_CA_CERTIFICATES".to_owned(), format!("{CA_MOUNT}/ca.crt")));
    }
    variables.into_iter().map(|(name, value)| EnvVar { name, value: Some(value), value_from: None }).collect()
}

/// The proxy in both spellings: curl (and so git) reads `http_proxy` in lower case only, most others read either.
fn proxy_variables(proxy: &Proxy) -> Vec<(String, String)> {
    let without: Vec<&str> = CLUSTER_HOSTS.into_iter().chain(proxy.no_proxy.iter().map(String::as_str)).collect();
    let values = [
        ("HTTP_PROXY", proxy.http.as_ref().map(ToString::to_string)),
        ("HTTPS_PROXY", proxy.https.as_ref().map(ToString::to_string)),
        ("NO_PROXY", (proxy.http.is_some() || proxy.https.is_some()).then(|| without.join(","))),
    ];
    let known = values.into_iter().filter_map(|(name, value)| Some((name, value?)));
    known.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_lowercase(), value)]).collect()
}

fn some_if_any<V>(map: BTreeMap<String, V>) -> Option<BTreeMap<String, V>> {
    (!map.is_empty()).then_some(map)
}
