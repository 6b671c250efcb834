//! The Job of an attempt of the training: pods that start together, find each other by name, and end together. What they cannot finish the next
//! attempt goes on with, from the newest checkpoint.

use k8s_openapi::api::batch::v1::{Job, JobSpec, PodFailurePolicy};
use sera_crds::{contract::ExitCode, run::PodRole, values::Stage};

use super::{
    Blueprint, Images, gpus,
    job::{mounts, on_disruption, on_exit_codes},
    metadata,
    pod::{self, Program},
    program::{PROGRESS_PORT, Told, training},
    request,
};
use crate::names::Owner;

/// How long a pod has between SIGTERM and its end: a step of a large model takes minutes, and is finished; then hundreds of gigabytes of state go to
/// the store at about one a second. The cluster autoscaler waits no longer than this by default. A run that is suspended gives its pods less.
const GRACE_SECONDS: i64 = 600;

/// The Job of an attempt; none where the blueprint trains nothing.
pub(super) fn job(owner: &Owner, attempt: u32, blueprint: &Blueprint, images: &Images) -> Option<Job> {
    let parts = blueprint.training.as_ref()?;
    let name = owner.job_name(Stage::Training, attempt);
    let Told { arguments, variables, .. } = training(owner, attempt, parts, blueprint);
    let settings = gpus::settings(blueprint.settings(PodRole::Train), parts.gpus_per_node);
    let mut labels = owner.job_labels(Stage::Training, attempt);
    let program = Program {
        image: images.trainer.as_str(),
        arguments,
        variables,
        port: Some(PROGRESS_PORT),
        ..Program::new(mounts(Stage::Training, blueprint), pod::TRAINER_RESOURCES)
    };
    let mut template = pod::template(&program, &settings, &labels);
    if let Some(spec) = &mut template.spec {
        spec.subdomain = Some(owner.ranks_name());
        spec.termination_grace_period_seconds = Some(GRACE_SECONDS);
        gpus::give(spec, parts.gpus_per_node);
    }
    request::enqueue(&mut labels, Stage::Training, blueprint);
    let nodes = i32::try_from(parts.nodes).unwrap_or(i32::MAX);
    Some(Job {
        metadata: metadata(owner, name, labels),
        spec: Some(JobSpec {
            completion_mode: Some("Indexed".to_owned()),
            completions: Some(nodes),
            parallelism: Some(nodes),
            // A rank that is lost ends the attempt: the others cannot go on without it, and the next begins where the checkpoint is.
            backoff_limit: Some(0),
            pod_failure_policy: Some(failure_policy()),
            pod_replacement_policy: Some("Failed".to_owned()),
            suspend: Some(settings.queue_name.is_some()),
            template,
            ..JobSpec::default()
        }),
        status: None,
    })
}

/// Any pod that fails ends the Job by itself. The rules are there so that the Job's own condition says where that was nobody's failure: the pod that
/// was taken away may be gone with its node by then, and its words with it.
fn failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![on_disruption("FailJob"), on_exit_codes("FailJob", vec![ExitCode::Interrupted.code().into()])],
    }
}
