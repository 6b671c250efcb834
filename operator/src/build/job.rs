//! The Job of an attempt, but for a gang's: Indexed, so that every stage's Jobs are read and fail in one way, with the exit codes of the contract as
//! its policy.

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    PodFailurePolicyRule,
};
use sera_crds::{
    contract::ExitCode,
    values::{ModelUri, Stage},
};

use super::{
    Blueprint, Images, contenders, gang, metadata,
    pod::{self, Mounts, Program},
    program::{PROGRESS_PORT, Told, told},
    request, sandboxes,
};
use crate::{
    names::{Owner, PROGRAM_CONTAINER},
    plan::role,
};

/// How often Kubernetes itself tries an index again within one attempt, for what passes in seconds; what takes longer is for the next attempt,
/// which waits longer and says why.
const RETRIES_PER_INDEX: i32 = 2;

/// The longest that a stage of one pod may take, its pod's wait for a node included: the largest repositories clone in minutes over a poor line, the
/// largest runs are counted in minutes, and a program that hangs must not hang a run for good. Rollouts have a limit of their own in each pod, since
/// a Job of many pods may wait for nodes for as long as it likes.
const DEADLINE_SECONDS: i64 = 6 * 3600;

/// The Job of an attempt; none of a stage that the blueprint has nothing for.
pub fn job(owner: &Owner, stage: Stage, attempt: u32, blueprint: &Blueprint, images: &Images) -> Option<Job> {
    if stage == Stage::Training {
        return gang::job(owner, attempt, blueprint, images);
    }
    let Told { arguments, variables, .. } = told(owner, stage, blueprint)?;
    let settings = blueprint.settings(role(stage));
    let mut labels = owner.job_labels(stage, attempt);
    let samples = blueprint.rollouts(stage);
    let program = Program {
        image: images.rollout.as_str(),
        arguments,
        variables,
        port: samples.map(|_| PROGRESS_PORT),
        sandboxes: samples.map(|samples| sandboxes::of(samples, images)),
        companions: contenders::of(stage, blueprint, images),
        ..Program::new(mounts(stage, blueprint), resources(stage))
    };
    let mut template = pod::template(&program, &settings, &labels);
    if let (Some(spec), Some(_)) = (&mut template.spec, samples) {
        spec.subdomain = Some(owner.drivers_name());
    }
    request::enqueue(&mut labels, stage, blueprint);
    let completions = samples.map_or(1, |samples| i32::try_from(samples.shards()).unwrap_or(i32::MAX));
    Some(Job {
        metadata: metadata(owner, owner.job_name(stage, attempt), labels),
        spec: Some(JobSpec {
            completion_mode: Some("Indexed".to_owned()),
            completions: Some(completions),
            parallelism: Some(completions),
            backoff_limit_per_index: Some(RETRIES_PER_INDEX),
            pod_failure_policy: Some(failure_policy()),
            pod_replacement_policy: Some("Failed".to_owned()),
            active_deadline_seconds: samples.is_none().then_some(DEADLINE_SECONDS),
            suspend: Some(settings.queue_name.is_some()),
            template,
            ..JobSpec::default()
        }),
        status: None,
    })
}

/// What of the blueprint's Secrets and claims a stage's program sees: no more than it needs.
pub(super) fn mounts(stage: Stage, blueprint: &Blueprint) -> Mounts<'_> {
    let takes_snapshot = stage == Stage::Snapshot && blueprint.adoption.is_none();
    let others = match stage {
        Stage::Snapshot => blueprint.adoption.as_ref().map(|adoption| &adoption.from),
        Stage::Rollouts => blueprint.snapshot_at.as_ref(),
        _ => None,
    };
    let teacher = blueprint.rollouts(stage).map(|samples| &samples.teacher);
    let (counting, training) = (blueprint.counting.as_ref(), blueprint.training.as_ref());
    let (student, student_credentials) = match stage {
        Stage::Verification | Stage::Generation | Stage::Dataset => (
            counting.and_then(|counting| counting.student.as_ref()),
            counting.and_then(|counting| counting.student_credentials.as_deref()),
        ),
        Stage::Training => (
            training.map(|training| &training.student),
            training.and_then(|training| training.student_credentials.as_deref()),
        ),
        _ => (None, None),
    };
    Mounts {
        git: blueprint
            .snapshot
            .as_ref()
            .and_then(|snapshot| snapshot.credentials.as_ref())
            .filter(|_| takes_snapshot)
            .map(|secret| secret.name.as_str()),
        github: blueprint
            .snapshot
            .as_ref()
            .and_then(|snapshot| snapshot.github.as_ref()?.credentials.as_deref())
            .filter(|_| takes_snapshot),
        store: blueprint.store_credentials.as_ref().map(|secret| secret.name.as_str()),
        student: student_credentials,
        teacher_key: teacher.and_then(|teacher| teacher.credentials.as_ref()).map(|secret| secret.name.as_str()),
        teacher_authority: teacher.and_then(|teacher| teacher.authority.as_ref()).map(|secret| secret.name.as_str()),
        claim: blueprint.home.claim(),
        snapshot_claim: others.and_then(|place| place.claim()),
        student_claim: student.and_then(ModelUri::claim).map(|(claim, _)| claim),
        model_claim: None,
    }
}

const fn resources(stage: Stage) -> pod::DefaultResources {
    match stage {
        Stage::Rollouts | Stage::Evaluation => pod::DRIVER_RESOURCES,
        Stage::Verification | Stage::Generation | Stage::Dataset => pod::COUNTING_RESOURCES,
        _ => pod::SNAPSHOT_RESOURCES,
    }
}

/// A pod that was disrupted does not count, and one whose program says that another try would end the same ends the Job at once.
fn failure_policy() -> PodFailurePolicy {
    let hopeless = ExitCode::ALL.into_iter().filter(|code| *code != ExitCode::Success && !code.worth_retrying());
    PodFailurePolicy {
        rules: vec![
            on_disruption("Ignore"),
            on_exit_codes("FailJob", hopeless.map(|code| i32::from(code.code())).collect()),
        ],
    }
}

/// What to do about a pod that was preempted, evicted or lost with its node.
pub(super) fn on_disruption(action: &str) -> PodFailurePolicyRule {
    let disruption =
        PodFailurePolicyOnPodConditionsPattern { type_: "DisruptionTarget".to_owned(), status: "True".to_owned() };
    PodFailurePolicyRule { action: action.to_owned(), on_exit_codes: None, on_pod_conditions: Some(vec![disruption]) }
}

/// What to do about a pod whose program ended with one of these codes.
pub(super) fn on_exit_codes(action: &str, values: Vec<i32>) -> PodFailurePolicyRule {
    let container_name = Some(PROGRAM_CONTAINER.to_owned());
    PodFailurePolicyRule {
        action: action.to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name,
            operator: "In".to_owned(),
            values,
        }),
        on_pod_conditions: None,
    }
}
