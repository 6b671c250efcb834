//! The Job of an attempt: Indexed, so that every stage's Jobs are read and fail in one way, with the exit codes of the contract as its policy.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use sera_crds::{
    contract::ExitCode,
    run::{Commits, PodSettings},
    values::{Stage, StoreUri},
};

use super::{
    metadata,
    pod::{self, Mounts, Program},
};
use crate::names::{Owner, PROGRAM_CONTAINER, QUEUE};

/// How often Kubernetes itself tries an index again within one attempt, for what passes in seconds; what takes longer is for the next attempt,
/// which waits longer and says why.
const RETRIES_PER_INDEX: i32 = 2;

/// The longest that a snapshot may take, its pod's wait for a node included: the largest repositories clone in minutes over a poor line, and a
/// program that hangs must not hang a run for good.
const SNAPSHOT_DEADLINE_SECONDS: i64 = 6 * 3600;

/// All that the Job of a snapshot is made from.
#[derive(Debug, Clone)]
pub struct SnapshotJob<'a> {
    /// Whose it is.
    pub owner: &'a Owner,
    /// The attempt's number.
    pub attempt: u32,
    /// The image of the rollout programs.
    pub image: &'a str,
    /// The repository's address.
    pub url: &'a str,
    /// The branch, tag or commit.
    pub revision: &'a str,
    /// Which commits are taken.
    pub commits: Commits,
    /// The Secret with the repository's credentials, and the field that names it.
    pub git_credentials: Option<SecretField<'a>>,
    /// The store.
    pub store: &'a StoreUri,
    /// The Secret with the store's credentials, and the field that names it.
    pub store_credentials: Option<SecretField<'a>>,
    /// What is said about the snapshot's pods.
    pub pods: PodSettings,
}

/// A Secret by the field that names it, so that a program can say which field to put right.
#[derive(Debug, Clone, Copy)]
pub struct SecretField<'a> {
    /// The Secret's name.
    pub name: &'a str,
    /// The field, from the root.
    pub field: &'static str,
}

/// The Job that takes a snapshot.
pub fn snapshot_job(from: &SnapshotJob<'_>) -> Job {
    let labels = from.owner.job_labels(Stage::Snapshot, from.attempt);
    let program = Program {
        image: from.image,
        arguments: arguments(from),
        mounts: Mounts {
            git: from.git_credentials.map(|secret| secret.name),
            store: from.store_credentials.map(|secret| secret.name),
            claim: from.store.claim(),
        },
        resources: pod::SNAPSHOT_RESOURCES,
    };
    let template = pod::template(&program, &from.pods, &labels);
    job(from, labels, template)
}

/// The folder of the owner as its pods see it: a claim is mounted whole and becomes `file://`.
fn folder_in_pod(from: &SnapshotJob<'_>) -> String {
    let Owner { namespace, name, uid, .. } = from.owner;
    if from.store.claim().is_none() {
        return from.store.folder_of(namespace, name, uid.as_str());
    }
    let path = from.store.path();
    let root = if path.is_empty() { pod::STORE_MOUNT.to_owned() } else { format!("{}/{path}", pod::STORE_MOUNT) };
    format!("file://{root}/{namespace}/{name}/{uid}")
}

fn arguments(from: &SnapshotJob<'_>) -> Vec<String> {
    let mut arguments = vec![
        "snapshot".to_owned(),
        format!("--url={}", from.url),
        format!("--revision={}", from.revision),
        format!("--commits={}", from.commits.count),
        format!("--lookback-days={}", from.commits.lookback_days),
        format!("--store={}", folder_in_pod(from)),
        format!("--scratch={}", pod::SCRATCH_MOUNT),
        format!("--termination-message={}", pod::TERMINATION_MESSAGE),
    ];
    for (flag, mount, secret) in
        [("git", pod::GIT_MOUNT, from.git_credentials), ("store", pod::STORE_CREDENTIALS_MOUNT, from.store_credentials)]
    {
        if let Some(secret) = secret {
            arguments.push(format!("--{flag}-credentials={mount}"));
            arguments.push(format!("--{flag}-credentials-field={}", secret.field));
        }
    }
    arguments
}

fn job(
    from: &SnapshotJob<'_>,
    mut labels: BTreeMap<String, String>,
    template: k8s_openapi::api::core::v1::PodTemplateSpec,
) -> Job {
    let name = from.owner.job_name(Stage::Snapshot, from.attempt);
    let queue = from.pods.queue_name.as_ref();
    if let Some(queue) = queue {
        labels.insert(QUEUE.to_owned(), queue.to_string());
    }
    Job {
        metadata: metadata(from.owner, name, labels),
        spec: Some(JobSpec {
            completion_mode: Some("Indexed".to_owned()),
            completions: Some(1),
            parallelism: Some(1),
            backoff_limit_per_index: Some(RETRIES_PER_INDEX),
            pod_failure_policy: Some(failure_policy()),
            pod_replacement_policy: Some("Failed".to_owned()),
            active_deadline_seconds: Some(SNAPSHOT_DEADLINE_SECONDS),
            suspend: Some(queue.is_some()),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// A pod that was disrupted does not count, and one whose program says that another try would end the same ends the Job at once.
fn failure_policy() -> PodFailurePolicy {
    let hopeless = ExitCode::ALL.into_iter().filter(|code| *code != ExitCode::Success && !code.worth_retrying());
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "Ignore".to_owned(),
                on_exit_codes: None,
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".to_owned(),
                    status: "True".to_owned(),
                }]),
            },
            PodFailurePolicyRule {
                action: "FailJob".to_owned(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: Some(PROGRAM_CONTAINER.to_owned()),
                    operator: "In".to_owned(),
                    values: hopeless.map(|code| i32::from(code.code())).collect(),
                }),
                on_pod_conditions: None,
            },
        ],
    }
}
