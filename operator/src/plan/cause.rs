//! Why a pod has not started, or ended without a word of its own: Kubernetes' reasons sorted into what waits and what somebody must repair.

use jiff::SignedDuration;
use sera_crds::{
    contract::{ExitCode, Failure, FailureClass},
    run::PodRole,
};

use crate::facts::{JobFailure, PodFacts, Trouble};

/// Why a pod has not started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holdup {
    /// The cluster has no room, or has not got round to it: it passes by itself.
    Waiting(Trouble),
    /// It is being worked at and may still come right (an image is pulled again and again): a matter for `startDeadline`.
    Retrying(Failure),
    /// Somebody must change something: a name that cannot be, a quota, a policy.
    Configuration(Failure),
}

/// Reasons that a container waits with while everything is as it should be.
const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// Reasons after which the kubelet tries no more, or tries the same in vain.
const HOPELESS: [&str; 3] = ["InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"];

/// What is to be looked at where an image cannot be pulled.
const ADVICE_ON_IMAGES: &str = "; see that the image is there, and that spec.pods.default.imagePullSecrets may pull it";

/// What a pod's trouble before its start means; nothing where it is on its ordinary way. A claim that is missing is the store's, unless it is the
/// student's.
pub fn of_pending(trouble: &Trouble, student_claim: Option<&str>) -> Option<Holdup> {
    let reason = &*trouble.reason;
    if reason.is_empty() || ORDINARY.contains(&reason) {
        return None;
    }
    if let Some(claim) = missing_claim(&trouble.message) {
        let is_the_students = student_claim == Some(claim);
        return Some(Holdup::Retrying(Failure {
            class: FailureClass::Configuration,
            reason: "ClaimMissing".into(),
            field: Some(if is_the_students { "spec.training.student.uri" } else { "spec.output.store" }.into()),
            message: format!("there is no PersistentVolumeClaim '{claim}' in this namespace"),
        }));
    }
    if matches!(reason, "Unschedulable" | "SchedulingGated") {
        return Some(Holdup::Waiting(trouble.clone()));
    }
    let advice = if reason.contains("Image") { ADVICE_ON_IMAGES } else { "" };
    let failure = Failure {
        class: FailureClass::Configuration,
        reason: reason.into(),
        field: None,
        message: format!("{}{advice}", sentence("the pod cannot start", trouble)),
    };
    Some(if HOPELESS.contains(&reason) { Holdup::Configuration(failure) } else { Holdup::Retrying(failure) })
}

/// What an Event `FailedCreate` of a Job means: the API server refused to make its pod.
pub fn of_refused_pod(message: &str, role: PodRole) -> Failure {
    const KINDS: [(&str, &str, Option<&str>, &str); 6] = [
        ("exceeded quota", "QuotaExceeded", None, "raise the quota, or ask for less in spec.pods.ROLE.resources"),
        (
            "must specify",
            "QuotaExceeded",
            Some("spec.pods"),
            "the namespace's quota wants it of every container: say it in spec.pods.ROLE.resources, and where there are sandboxes in \
             spec.generation.sandbox.resources, or let a LimitRange of the namespace do so",
        ),
        ("violates PodSecurity", "PolicyRefused", None, "let the namespace take such pods, or change spec.pods.ROLE"),
        ("RuntimeClass", "RuntimeClassMissing", Some("spec.pods.ROLE.runtimeClassName"), "create it, or name another"),
        (
            "PriorityClass",
            "PriorityClassMissing",
            Some("spec.pods.ROLE.priorityClassName"),
            "create it, or name another",
        ),
        (
            "serviceaccount",
            "ServiceAccountMissing",
            Some("spec.pods.ROLE.serviceAccountName"),
            "create it, or name another",
        ),
    ];
    let kind = KINDS.iter().find(|(text, ..)| message.contains(text));
    let (reason, field, advice) =
        kind.map_or(("PolicyRefused", None, ""), |(_, reason, field, advice)| (*reason, *field, *advice));
    let advice = if advice.is_empty() { String::new() } else { format!("; {}", advice.replace("ROLE", role.as_str())) };
    Failure {
        class: FailureClass::Configuration,
        reason: reason.into(),
        field: field.map(|field| field.replace("ROLE", role.as_str())),
        message: format!("the API server refuses the pod: {message}{advice}"),
    }
}

/// Why Kubernetes says that a pod ended which its node could not keep.
const EVICTED: &str = "Evicted";
/// What the kubelet says where a pod took more disk than it may, whatever room there is, and the field that says how much that is. The first that
/// fits counts: containers of slots have their own.
const OWN_LIMITS: [(&str, &str); 4] = [
    ("Container slot-", "spec.generation.sandbox.resources.limits.ephemeral-storage"),
    ("exceeded its local ephemeral storage limit", "spec.pods.ROLE.resources.limits.ephemeral-storage"),
    ("local storage usage exceeds the total limit", "spec.pods.ROLE.resources.limits.ephemeral-storage"),
    (r#"EmptyDir volume "shm" exceeds"#, "spec.pods.ROLE.shmSize"),
];
/// What is to be changed where pods are evicted again and again.
const ADVICE_ON_EVICTION: &str =
    "; where that goes on, ask for as much as it uses in spec.pods.ROLE.resources.requests";

/// What a program wrote last that left no word of its own: Kubernetes keeps the end of its log in that word's place.
fn last_lines(pod: &PodFacts) -> Option<&str> {
    /// Enough for a panic and where it was.
    const MOST_BYTES: usize = 400;
    let said = pod.message.as_deref()?.trim();
    let begin = said.ceil_char_boundary(said.len().saturating_sub(MOST_BYTES));
    Some(&said[begin..]).filter(|said| !said.is_empty())
}

/// The failure of a pod that was evicted because it took more of its node's disk than it may itself, which is no chance: the next one would, too.
/// What its program said when it was told to end is of no interest then.
pub fn of_full_disk(pod: &PodFacts, role: PodRole) -> Option<Failure> {
    let trouble = pod.trouble.as_ref().filter(|trouble| &*trouble.reason == EVICTED)?;
    let (_, field) = OWN_LIMITS.iter().find(|(words, _)| trouble.message.contains(words))?;
    Some(Failure {
        class: FailureClass::Configuration,
        reason: "OutOfDisk".into(),
        field: Some(field.replace("ROLE", role.as_str())),
        message: format!("the pod was evicted: {}: raise it", trouble.message.trim().trim_end_matches('.')),
    })
}

/// The failure of a pod that left no termination message.
pub fn of_silent_pod(pod: &PodFacts, role: PodRole) -> Failure {
    let trouble = pod.trouble.as_ref().map_or("", |trouble| &*trouble.reason);
    match (trouble, pod.exit_code) {
        ("OOMKilled", _) => Failure {
            class: FailureClass::Configuration,
            reason: "OutOfMemory".into(),
            field: Some(format!("spec.pods.{role}.resources.limits.memory")),
            message: match &pod.memory_limit {
                Some(limit) => format!("the program was killed at its memory limit of {limit}: raise it"),
                None => {
                    "the program was killed for want of memory, of its node or of its pod: set how much it needs".into()
                }
            },
        },
        (_, Some(code)) if code == i32::from(ExitCode::Usage.code()) => Failure {
            class: FailureClass::Configuration,
            reason: "ImageMismatch".into(),
            field: None,
            message: "the program does not know its flags: use an operator and images of one release".into(),
        },
        ("", Some(code)) => match last_lines(pod) {
            Some(said) => unexplained(format!("the program ended with exit code {code}; the end of its log: {said}")),
            None => unexplained(format!("the program ended with exit code {code} and left no message")),
        },
        ("", None) => unexplained("the pod ended and left no message".into()),
        (_, code) => {
            let ended =
                code.map_or_else(|| "the pod ended".into(), |code| format!("the program ended with exit code {code}"));
            let message = pod.trouble.as_ref().map_or(ended.clone(), |trouble| sentence(&ended, trouble));
            let said = last_lines(pod).map(|said| format!("; the end of its log: {said}")).unwrap_or_default();
            let advice =
                if trouble == EVICTED { ADVICE_ON_EVICTION.replace("ROLE", role.as_str()) } else { String::new() };
            let message = format!("{message}{said}{advice}");
            Failure { class: FailureClass::Unavailable, reason: trouble.into(), field: None, message }
        }
    }
}

/// Whether a Job failed by the rule of its failure policy that is about disrupted pods, or about programs that were told to stop. Kubernetes says
/// which rule it was in a sentence alone.
pub fn is_disruption(failure: &JobFailure) -> bool {
    let stopped = format!("exit code {} ", ExitCode::Interrupted.code());
    &*failure.reason == "PodFailurePolicy"
        && (failure.message.contains("condition DisruptionTarget ") || failure.message.contains(&stopped))
}

/// The failure of a Job none of whose pods can be asked any more.
pub fn of_job(failure: &JobFailure) -> Failure {
    Failure {
        class: FailureClass::Unavailable,
        reason: if failure.reason.is_empty() { "JobFailed".into() } else { failure.reason.to_string() },
        field: None,
        message: format!("the Job failed: {}", failure.message),
    }
}

/// The failure of an attempt whose pod was never heard of.
pub fn of_a_pod_that_never_started(deadline: SignedDuration) -> Failure {
    Failure {
        class: FailureClass::Unavailable,
        reason: "StartDeadlineExceeded".into(),
        field: None,
        message: format!("the pod did not start within {deadline:#}; `kubectl describe pod` may say why"),
    }
}

/// The failure of a program that reports what cannot be, or another stage than the one it was started for.
pub fn of_a_word_that_makes_no_sense(stage: &str) -> Failure {
    unexplained(format!("the program's report is not one of {stage}: are the images and the operator of one release?"))
}

/// The claim that the scheduler misses: `persistentvolumeclaim "store" not found`.
fn missing_claim(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("persistentvolumeclaim \"")?;
    let (claim, rest) = rest.split_once('"')?;
    rest.starts_with(" not found").then_some(claim)
}

fn unexplained(message: String) -> Failure {
    Failure { class: FailureClass::Internal, reason: "ProgramFailed".into(), field: None, message }
}

fn sentence(what: &str, trouble: &Trouble) -> String {
    if trouble.message.is_empty() {
        format!("{what}: {}", trouble.reason)
    } else {
        format!("{what}: {}: {}", trouble.reason, trouble.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{facts::PodPhase, plan::tests::pod};

    fn trouble(reason: &str) -> Trouble {
        Trouble { reason: reason.into(), message: "words".into() }
    }

    #[test]
    fn waiting_for_room_is_not_the_users_fault() {
        assert!(matches!(of_pending(&trouble("Unschedulable"), None), Some(Holdup::Waiting(_))));
        assert_eq!(of_pending(&trouble("ContainerCreating"), None), None);
    }

    #[test]
    fn a_missing_claim_is_named_though_the_scheduler_calls_it_unschedulable() {
        let message =
            r#"0/1 nodes are available: persistentvolumeclaim "sera-store" not found. preemption: not helpful"#;
        let trouble = Trouble { reason: "Unschedulable".into(), message: message.into() };
        for (student, field) in [
            (None, "spec.output.store"),
            (Some("models"), "spec.output.store"),
            (Some("sera-store"), "spec.training.student.uri"),
        ] {
            let Some(Holdup::Retrying(failure)) = of_pending(&trouble, student) else {
                panic!("a missing claim does not pass by itself")
            };
            assert!(failure.message.contains("'sera-store'"), "{}", failure.message);
            assert_eq!(failure.field.as_deref(), Some(field));
        }
    }

    #[test]
    fn an_image_that_cannot_be_pulled_may_come_and_an_impossible_name_may_not() {
        assert!(matches!(of_pending(&trouble("ImagePullBackOff"), None), Some(Holdup::Retrying(_))));
        assert!(matches!(of_pending(&trouble("InvalidImageName"), None), Some(Holdup::Configuration(_))));
    }

    #[test]
    fn a_refused_pod_names_what_refuses_it() {
        for (message, reason) in [
            (r#"pods "a-s1-0-x" is forbidden: exceeded quota: small, requested: cpu=1"#, "QuotaExceeded"),
            (r#"pods "a-s1-0-x" is forbidden: violates PodSecurity "restricted:latest""#, "PolicyRefused"),
            (r#"pods "a-s1-0-x" is forbidden: pod rejected: RuntimeClass "gvisor" not found"#, "RuntimeClassMissing"),
            (
                r#"pods "a-s1-0-x" is forbidden: error looking up service account ml/x: serviceaccount "x" not found"#,
                "ServiceAccountMissing",
            ),
            ("admission webhook \"policy.example\" denied the request: no", "PolicyRefused"),
        ] {
            assert_eq!(of_refused_pod(message, PodRole::Train).reason, reason, "{message}");
        }
        let vague = of_refused_pod("failed quota: exact: must specify limits.cpu for: install,sera", PodRole::Rollout);
        assert_eq!(vague.reason, "QuotaExceeded");
        for place in ["spec.pods.rollout.resources", "spec.generation.sandbox.resources", "LimitRange"] {
            assert!(vague.message.contains(place), "{}", vague.message);
        }
        let account = "error looking up service account ml/x: serviceaccount \"x\" not found";
        assert_eq!(
            of_refused_pod(account, PodRole::Train).field.as_deref(),
            Some("spec.pods.train.serviceAccountName"),
            "the field is that of the pods that it was about"
        );
    }

    #[test]
    fn a_pod_that_took_more_disk_than_it_may_names_the_field_and_one_of_a_full_node_does_not() {
        let evicted = |message: &str| {
            let trouble = Some(Trouble { reason: EVICTED.into(), message: message.into() });
            PodFacts { trouble, ..pod(PodPhase::Failed, None) }
        };
        for (message, field) in [
            (
                r#"Container sera exceeded its local ephemeral storage limit "1Gi". "#,
                Some("pods.train.resources.limits"),
            ),
            (
                "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
                Some("pods.train.resources"),
            ),
            (
                r#"Container slot-1 exceeded its local ephemeral storage limit "1Gi". "#,
                Some("generation.sandbox.resources"),
            ),
            (r#"Usage of EmptyDir volume "shm" exceeds the limit "64Mi". "#, Some("pods.train.shmSize")),
            ("The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 9Gi. ", None),
        ] {
            let failure = of_full_disk(&evicted(message), PodRole::Train);
            let named = failure.as_ref().and_then(|failure| failure.field.as_deref());
            assert!(
                named.map_or(field.is_none(), |named| field.is_some_and(|field| named.contains(field))),
                "{failure:?}"
            );
            assert!(failure.is_none_or(|failure| failure.class == FailureClass::Configuration));
        }
    }

    #[test]
    fn a_job_that_failed_by_a_disruption_is_told_by_its_sentence() {
        let failed = |reason: &str, message: &str| JobFailure { reason: reason.into(), message: message.into() };
        let by_condition = "Pod ml/a-t1-0-x has condition DisruptionTarget matching FailJob rule at index 0";
        let by_code = "Container sera for pod ml/a-t1-0-x failed with exit code 143 matching FailJob rule at index 1";
        let by_another =
            "Container sera for pod ml/a-t1-0-x failed with exit code 1430 matching FailJob rule at index 1";
        for (reason, message, expected) in [
            ("PodFailurePolicy", by_condition, true),
            ("PodFailurePolicy", by_code, true),
            ("PodFailurePolicy", by_another, false),
            ("BackoffLimitExceeded", "Job has reached the specified backoff limit", false),
        ] {
            assert_eq!(is_disruption(&failed(reason, message)), expected, "{message}");
        }
    }
}
