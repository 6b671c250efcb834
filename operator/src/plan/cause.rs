//! Why a pod has not started, or ended without a word of its own: Kubernetes' reasons sorted into what waits and what somebody must repair.

use jiff::SignedDuration;
use sera_crds::contract::{ExitCode, Failure, FailureClass};

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

/// What a pod's trouble before its start means; nothing where it is on its ordinary way.
pub fn of_pending(trouble: &Trouble) -> Option<Holdup> {
    let reason = &*trouble.reason;
    if reason.is_empty() || ORDINARY.contains(&reason) {
        return None;
    }
    if let Some(claim) = missing_claim(&trouble.message) {
        return Some(Holdup::Retrying(Failure {
            class: FailureClass::Configuration,
            reason: "ClaimMissing".into(),
            field: Some("spec.output.store".into()),
            message: format!("there is no PersistentVolumeClaim '{claim}' in this namespace"),
        }));
    }
    if matches!(reason, "Unschedulable" | "SchedulingGated") {
        return Some(Holdup::Waiting(trouble.clone()));
    }
    let failure = Failure {
        class: FailureClass::Configuration,
        reason: reason.into(),
        field: None,
        message: sentence("the pod cannot start", trouble),
    };
    Some(if HOPELESS.contains(&reason) { Holdup::Configuration(failure) } else { Holdup::Retrying(failure) })
}

/// What an Event `FailedCreate` of a Job means: the API server refused to make its pod.
pub fn of_refused_pod(message: &str) -> Failure {
    const KINDS: [(&str, &str, Option<&str>); 6] = [
        ("exceeded quota", "QuotaExceeded", None),
        ("must specify", "QuotaExceeded", Some("spec.pods")),
        ("violates PodSecurity", "PolicyRefused", None),
        ("RuntimeClass", "RuntimeClassMissing", Some("spec.pods.default.runtimeClassName")),
        ("PriorityClass", "PriorityClassMissing", Some("spec.pods.default.priorityClassName")),
        ("serviceaccount", "ServiceAccountMissing", Some("spec.pods.snapshot.serviceAccountName")),
    ];
    let kind = KINDS.iter().find(|(text, ..)| message.contains(text));
    let (reason, field) = kind.map_or(("PolicyRefused", None), |(_, reason, field)| (*reason, *field));
    Failure {
        class: FailureClass::Configuration,
        reason: reason.into(),
        field: field.map(Into::into),
        message: format!("the API server refuses the pod: {message}"),
    }
}

/// The failure of a pod that left no termination message.
pub fn of_silent_pod(pod: &PodFacts) -> Failure {
    let trouble = pod.trouble.as_ref().map_or("", |trouble| &*trouble.reason);
    match (trouble, pod.exit_code) {
        ("OOMKilled", _) => Failure {
            class: FailureClass::Configuration,
            reason: "OutOfMemory".into(),
            field: Some("spec.pods.snapshot.resources.limits.memory".into()),
            message: "the program was killed at its memory limit: raise it".into(),
        },
        (_, Some(code)) if code == i32::from(ExitCode::Usage.code()) => Failure {
            class: FailureClass::Configuration,
            reason: "ImageMismatch".into(),
            field: None,
            message: "the program does not know its flags: use an operator and images of one release".into(),
        },
        ("", Some(code)) => {
            unexplained(format!("the program ended with exit code {code} and left no message: its log may say why"))
        }
        ("", None) => unexplained("the pod ended and left no message".into()),
        (_, code) => {
            let ended =
                code.map_or_else(|| "the pod ended".into(), |code| format!("the program ended with exit code {code}"));
            let message = pod.trouble.as_ref().map_or(ended.clone(), |trouble| sentence(&ended, trouble));
            Failure { class: FailureClass::Unavailable, reason: trouble.into(), field: None, message }
        }
    }
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

    fn trouble(reason: &str) -> Trouble {
        Trouble { reason: reason.into(), message: "words".into() }
    }

    #[test]
    fn waiting_for_room_is_not_the_users_fault() {
        assert!(matches!(of_pending(&trouble("Unschedulable")), Some(Holdup::Waiting(_))));
        assert_eq!(of_pending(&trouble("ContainerCreating")), None);
    }

    #[test]
    fn a_missing_claim_is_named_though_the_scheduler_calls_it_unschedulable() {
        let message =
            r#"0/1 nodes are available: persistentvolumeclaim "sera-store" not found. preemption: not helpful"#;
        let Some(Holdup::Retrying(failure)) =
            of_pending(&Trouble { reason: "Unschedulable".into(), message: message.into() })
        else {
            panic!("a missing claim does not pass by itself")
        };
        assert!(failure.message.contains("'sera-store'"), "{}", failure.message);
    }

    #[test]
    fn an_image_that_cannot_be_pulled_may_come_and_an_impossible_name_may_not() {
        assert!(matches!(of_pending(&trouble("ImagePullBackOff")), Some(Holdup::Retrying(_))));
        assert!(matches!(of_pending(&trouble("InvalidImageName")), Some(Holdup::Configuration(_))));
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
            assert_eq!(of_refused_pod(message).reason, reason, "{message}");
        }
    }
}
