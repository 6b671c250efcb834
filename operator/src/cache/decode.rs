//! What is read of a Job or a pod on the wire. Everything else (managed fields, pod templates, environments) is skipped while the bytes are
//! parsed and never allocated.

mod containers;
mod groups;
mod server;

use jiff::Timestamp;
use k8s_openapi::{
    api::{batch::v1::Job, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::Resource;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use self::containers::PodSpec;
pub use self::groups::WatchedGroups;
pub use self::server::WatchedServer;
use crate::{
    facts::{JobEnd, JobFacts, JobFailure, PodFacts, PodPhase, Trouble, Uid},
    names::{PROGRAM_CONTAINER, REQUEST, STUDENT},
};

/// Our word for what Kubernetes calls `OOMKilled`.
const OUT_OF_MEMORY: &str = "OutOfMemory";
/// How much of Kubernetes' own sentences is kept, in bytes: an image reference and the registry's answer fit.
const MAX_TROUBLE_BYTES: usize = 512;

/// A Job, as far as we read it.
#[derive(Debug, Clone, Deserialize, Resource)]
#[resource(inherit = Job)]
pub struct WatchedJob {
    #[serde(deserialize_with = "light_metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: JobSpec,
    #[serde(default)]
    status: JobStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct JobSpec {
    #[serde(default)]
    suspend: bool,
    #[serde(default)]
    completions: u32,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobStatus {
    #[serde(default)]
    active: u32,
    #[serde(default)]
    ready: u32,
    #[serde(default)]
    terminating: u32,
    #[serde(default)]
    succeeded: u32,
    #[serde(default)]
    failed: u32,
    start_time: Option<Timestamp>,
    #[serde(default)]
    conditions: Vec<JobCondition>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobCondition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
    last_transition_time: Option<Timestamp>,
    #[serde(default)]
    reason: Box<str>,
    #[serde(default)]
    message: Box<str>,
}

/// A pod, as far as we read it.
#[derive(Debug, Clone, Deserialize, Resource)]
#[resource(inherit = Pod)]
pub struct WatchedPod {
    #[serde(deserialize_with = "light_metadata")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    phase: Option<Box<str>>,
    reason: Option<Box<str>>,
    #[serde(default)]
    message: Box<str>,
    #[serde(default)]
    conditions: Vec<PodCondition>,
    #[serde(default)]
    container_statuses: Vec<ContainerStatus>,
    #[serde(default)]
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Deserialize)]
struct PodCondition {
    #[serde(rename = "type")]
    kind: Box<str>,
    status: Box<str>,
    #[serde(default)]
    reason: Box<str>,
    #[serde(default)]
    message: Box<str>,
}

#[derive(Debug, Clone, Deserialize)]
struct ContainerStatus {
    name: Box<str>,
    #[serde(default, rename = "imageID")]
    image_id: Box<str>,
    #[serde(default)]
    state: ContainerState,
    #[serde(default, rename = "lastState")]
    last_state: ContainerState,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct ContainerState {
    waiting: Option<Waiting>,
    running: Option<IgnoredAny>,
    terminated: Option<Terminated>,
}

impl ContainerState {
    /// Whether its program was killed for want of memory.
    fn ran_out_of_memory(&self) -> bool {
        self.terminated.as_ref().is_some_and(|end| &*end.reason == "OOMKilled")
    }

    /// What a program said when it ended, where it has.
    fn last_words(&self) -> Option<&str> {
        self.terminated.as_ref().and_then(|end| end.message.as_deref()).filter(|words| !words.is_empty())
    }
}

#[derive(Debug, Clone, Deserialize)]
struct Waiting {
    #[serde(default)]
    reason: Box<str>,
    #[serde(default)]
    message: Box<str>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terminated {
    exit_code: i32,
    #[serde(default)]
    reason: Box<str>,
    message: Option<Box<str>>,
    finished_at: Option<Timestamp>,
}

/// The few fields of `metadata` that anything here asks for.
fn light_metadata<'de, D: Deserializer<'de>>(input: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Light {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        generation: Option<i64>,
        resource_version: Option<String>,
        creation_timestamp: Option<Time>,
        deletion_timestamp: Option<Time>,
        labels: Option<std::collections::BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let light = Light::deserialize(input)?;
    Ok(ObjectMeta {
        name: light.name,
        namespace: light.namespace,
        uid: light.uid,
        generation: light.generation,
        resource_version: light.resource_version,
        creation_timestamp: light.creation_timestamp,
        deletion_timestamp: light.deletion_timestamp,
        labels: light.labels,
        owner_references: light.owner_references,
        ..ObjectMeta::default()
    })
}

/// The generation that a server was applied from, of the spec that this label is about.
fn generation(metadata: &ObjectMeta, label: &str) -> Option<i64> {
    metadata.labels.as_ref()?.get(label)?.parse().ok()
}

impl WatchedJob {
    /// The facts of this Job.
    pub fn facts(self) -> JobFacts {
        let end =
            self.status.conditions.iter().find(|condition| condition.holds("Complete") || condition.holds("Failed"));
        let request =
            self.metadata.labels.as_ref().and_then(|labels| labels.get(REQUEST)).map(|digest| digest.as_str().into());
        JobFacts {
            end: end.map(|condition| JobEnd {
                at: condition.last_transition_time.unwrap_or(Timestamp::UNIX_EPOCH),
                failure: (&*condition.kind == "Failed")
                    .then(|| JobFailure { reason: condition.reason.clone(), message: cut(&condition.message) }),
            }),
            controller: controller(&self.metadata),
            created: created(&self.metadata),
            deleting: self.metadata.deletion_timestamp.is_some(),
            name: self.metadata.name.unwrap_or_default().into(),
            uid: self.metadata.uid.unwrap_or_default().into(),
            started: self.status.start_time,
            suspended: self.spec.suspend,
            request,
            active: self.status.active,
            ready: self.status.ready,
            terminating: self.status.terminating,
            failed: self.status.failed,
            succeeded: self.status.succeeded,
            completions: self.spec.completions,
        }
    }
}

impl JobCondition {
    fn holds(&self, kind: &str) -> bool {
        &*self.kind == kind && &*self.status == "True"
    }
}

impl WatchedPod {
    /// The facts of this pod; none where no Job controls it, or where it runs.
    pub fn facts(self) -> Option<PodFacts> {
        let phase = match self.status.phase.as_deref() {
            Some("Pending") | None => PodPhase::Pending,
            Some("Succeeded") => PodPhase::Succeeded,
            Some("Failed") => PodPhase::Failed,
            Some("Unknown") => PodPhase::Unknown,
            Some(_) => return None,
        };
        let program = self.status.container_statuses.iter().find(|container| &*container.name == PROGRAM_CONTAINER);
        let terminated = program.and_then(|container| container.state.terminated.as_ref());
        Some(PodFacts {
            job: controller(&self.metadata)?,
            index: self.index(),
            phase,
            created: created(&self.metadata),
            finished: terminated.and_then(|end| end.finished_at),
            exit_code: terminated.map(|end| end.exit_code),
            message: terminated.and_then(|end| end.message.clone()),
            image: program.map(|container| container.image_id.clone()).filter(|image| !image.is_empty()),
            trouble: self.status.trouble(program),
            disrupted: self.status.disruption().is_some(),
            memory_limit: self.spec.memory_limit(),
            name: self.metadata.name.unwrap_or_default().into(),
            uid: self.metadata.uid.unwrap_or_default().into(),
        })
    }

    /// What keeps the pod of a server from answering, and what its program said when it ended last.
    pub fn holdup(&self) -> Option<Trouble> {
        let program = self.status.container_statuses.iter().find(|container| &*container.name == PROGRAM_CONTAINER);
        let trouble = self.status.trouble(program)?;
        if program.is_some_and(|program| program.last_state.ran_out_of_memory()) {
            return Some(Trouble { reason: OUT_OF_MEMORY.into(), message: self.killed_for_memory().into() });
        }
        let said = program.and_then(|program| program.state.last_words().or_else(|| program.last_state.last_words()));
        let message = said.map_or(trouble.message, |said| cut(said.trim()));
        Some(Trouble { reason: trouble.reason, message })
    }

    /// A container beside the program that goes on though that has ended, and the pod; sidecars of Kubernetes' own kind end with it.
    pub fn outlived(&self) -> Option<String> {
        let containers = || self.status.container_statuses.iter();
        let has_ended =
            |container: &ContainerStatus| &*container.name == PROGRAM_CONTAINER && container.state.terminated.is_some();
        let other = containers().find(|container| container.state.running.is_some())?;
        let pod = self.metadata.name.as_deref().unwrap_or_default();
        containers().any(has_ended).then(|| format!("container {} of pod {pod}", other.name))
    }

    /// How much memory the program of a server's pod had, and where more is asked for.
    fn killed_for_memory(&self) -> String {
        let labels = self.metadata.labels.as_ref();
        let role = if labels.is_some_and(|labels| labels.contains_key(STUDENT)) { "serve" } else { "teacher" };
        let limit = self.spec.memory_limit().map(|limit| format!(" of {limit}")).unwrap_or_default();
        format!("the server was killed at its memory limit{limit}: raise spec.pods.{role}.resources.limits.memory")
    }

    fn index(&self) -> u32 {
        let label =
            self.metadata.labels.as_ref().and_then(|labels| labels.get("batch.kubernetes.io/job-completion-index"));
        label.and_then(|index| index.parse().ok()).unwrap_or_default()
    }
}

impl PodStatus {
    /// What is wrong with the pod, the most telling first: its own reason (eviction, admission), then who took it away, then its program's, then
    /// the scheduler's.
    fn trouble(&self, program: Option<&ContainerStatus>) -> Option<Trouble> {
        if let Some(reason) = &self.reason {
            return Some(Trouble { reason: reason.clone(), message: cut(&self.message) });
        }
        if let Some(disruption) = self.disruption() {
            return Some(Trouble { reason: disruption.reason.clone(), message: cut(&disruption.message) });
        }
        if let Some(failed) = self.failed_before(program) {
            return Some(failed);
        }
        if let Some(container) = program {
            let waiting = container.state.waiting.as_ref();
            // A program that waits for the containers before it says nothing of why they do not start.
            if let Some(trouble) = waiting.and_then(|_| self.of_a_sidecar()) {
                return Some(trouble);
            }
            if let Some(waiting) = waiting {
                return Some(Trouble { reason: waiting.reason.clone(), message: cut(&waiting.message) });
            }
            if let Some(end) =
                container.state.terminated.as_ref().filter(|end| end.exit_code != 0 && !end.reason.is_empty())
            {
                return Some(Trouble { reason: end.reason.clone(), message: Box::default() });
            }
        }
        let unscheduled = self
            .conditions
            .iter()
            .find(|condition| &*condition.kind == "PodScheduled" && &*condition.status == "False")?;
        Some(Trouble { reason: unscheduled.reason.clone(), message: cut(&unscheduled.message) })
    }

    /// What a container that stays beside the program waits with, and what it said when it ended last.
    fn of_a_sidecar(&self) -> Option<Trouble> {
        let waiting = |container: &ContainerStatus| {
            container.state.waiting.clone().filter(|waiting| &*waiting.reason != "PodInitializing")
        };
        let (container, waiting) =
            self.init_container_statuses.iter().find_map(|container| Some((container, waiting(container)?)))?;
        let ended = &container.last_state;
        if ended.ran_out_of_memory() {
            let message = format!("container {} was killed at its memory limit", container.name);
            return Some(Trouble { reason: OUT_OF_MEMORY.into(), message: cut(&message) });
        }
        let message = ended
            .last_words()
            .map_or(waiting.message, |said| cut(&format!("container {} ended: {}", container.name, said.trim())));
        Some(Trouble { reason: waiting.reason, message })
    }

    /// Which container before the program's has failed, so that the program was never begun, and what it said.
    fn failed_before(&self, program: Option<&ContainerStatus>) -> Option<Trouble> {
        if self.phase.as_deref() != Some("Failed") || program.is_some_and(|program| program.state.terminated.is_some())
        {
            return None;
        }
        let (container, end) = self.init_container_statuses.iter().find_map(|container| {
            let end = container.state.terminated.as_ref().or(container.last_state.terminated.as_ref())?;
            (end.exit_code != 0).then_some((container, end))
        })?;
        let words = end.message.as_deref().unwrap_or_default().trim();
        let said = if words.is_empty() { String::new() } else { format!(": {words}") };
        let message = format!("container {} ended with exit code {}{said}", container.name, end.exit_code);
        Some(Trouble { reason: "InitContainerFailed".into(), message: cut(&message) })
    }

    /// The condition by which Kubernetes says that it takes the pod away: preemption, eviction, or a node that is gone.
    fn disruption(&self) -> Option<&PodCondition> {
        self.conditions.iter().find(|condition| &*condition.kind == "DisruptionTarget" && &*condition.status == "True")
    }
}

fn controller(metadata: &ObjectMeta) -> Option<Uid> {
    let references = metadata.owner_references.iter().flatten();
    references.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str().into())
}

fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

fn cut(text: &str) -> Box<str> {
    text[..text.floor_char_boundary(MAX_TROUBLE_BYTES)].into()
}

#[cfg(test)]
mod tests;
