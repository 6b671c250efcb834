//! What a pod is told to do, read from its command line as the real programs read it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use sera_crds::batch::SampleRange;
use sera_crds::contract::{BatchNames, DatasetPlan, VerificationPlan};

/// The container of a stage's program.
pub(super) const CONTAINER: &str = "sera";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// What a stage's program is to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Task {
    /// Take a snapshot of what these words say.
    Snapshot(String),
    /// Roll out a part of a batch.
    Rollouts {
        /// The batch's name.
        batch: String,
        /// Its samples that are this pod's.
        range: SampleRange,
    },
    /// Verify a batch.
    Verify {
        /// The batch's name.
        batch: String,
        /// Its samples.
        range: SampleRange,
        /// By which policy.
        policy: Policy,
    },
    /// Verify several batches anew.
    VerifyAll {
        /// Their names.
        batches: Vec<String>,
        /// By which policy.
        policy: Policy,
    },
    /// Make the dataset, or see what it would be.
    Dataset {
        /// From which batches.
        batches: Vec<String>,
        /// By which policy.
        policy: Policy,
        /// What is asked for.
        plan: DatasetPlan,
        /// Whether nothing is to be made.
        dry: bool,
    },
    /// Train, as these words say.
    Train(String),
    /// Compare the student with its base and its teacher, as these words say.
    Evaluate(String),
}

/// By what trajectories are judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Policy {
    /// The whole of it, as it was handed on.
    pub(super) words: String,
    /// What it says.
    pub(super) plan: VerificationPlan,
}

/// What one pod is to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Assignment {
    /// The folder of its owner in the store.
    pub(super) store: String,
    /// Its number among the pods of its Job.
    pub(super) index: u32,
    /// What it is to do.
    pub(super) task: Task,
}

impl Assignment {
    /// What this pod's program is told; none where that makes no sense.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let container = spec.containers.iter().find(|container| container.name == CONTAINER)?;
        let mut arguments = container.args.iter().flatten();
        let command = arguments.next()?;
        let flags: BTreeMap<&str, &str> =
            arguments.filter_map(|argument| argument.strip_prefix("--")?.split_once('=')).collect();
        let is_dry = container.args.iter().flatten().any(|argument| argument == "--dry-run");
        let variable = |name: &str| {
            let all = container.env.iter().flatten();
            all.into_iter().find(|variable| variable.name == name).and_then(|variable| variable.value.clone())
        };
        let number = |flag: &str| flags.get(flag)?.parse::<u32>().ok();
        let index = pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()?;
        let batch = || Some((*flags.get("batch")?).to_owned());
        let range = || Some(SampleRange { from: number("first")?, count: number("count")? });
        let batches = || Some(flags.get("batches")?.parse::<BatchNames>().ok()?.names().collect());
        let policy = || {
            let words = variable("SERA_VERIFICATION")?;
            Some(Policy { plan: serde_json::from_str(&words).ok()?, words })
        };
        let task = match (command.as_str(), flags.contains_key("batches")) {
            ("snapshot", _) => Task::Snapshot(format!("{:?} {:?}", flags.get("url"), flags.get("commits"))),
            ("rollout", _) => {
                let (whole, size) = (range()?, number("shard-size")?.max(1));
                let done = size.saturating_mul(index).min(whole.count);
                let range = SampleRange { from: whole.from + done, count: size.min(whole.count - done) };
                Task::Rollouts { batch: batch()?, range }
            }
            ("verify", false) => Task::Verify { batch: batch()?, range: range()?, policy: policy()? },
            ("verify", true) => Task::VerifyAll { batches: batches()?, policy: policy()? },
            ("dataset", _) => {
                let plan = serde_json::from_str(&variable("SERA_DATASET")?).ok()?;
                Task::Dataset { batches: batches()?, policy: policy()?, plan, dry: is_dry }
            }
            ("launch", _) => Task::Train(variable("SERA_TRAINING")?),
            ("evaluate", _) => {
                let asked = ["samples", "seeds", "min-effect", "student-model", "base-model", "teacher-model"];
                Task::Evaluate(format!("{:?} {}", asked.map(|flag| flags.get(flag)), variable("SERA_PLAN")?))
            }
            _ => return None,
        };
        let store = flags.get("store").or_else(|| flags.get("out"))?;
        Some(Self { store: (*store).to_owned(), index, task })
    }

    /// What may be done by one pod at a time: two that do the same work are one too many.
    pub(super) fn work(&self) -> String {
        let (store, index) = (&self.store, self.index);
        match &self.task {
            Task::Snapshot(_) => format!("the snapshot of {store}"),
            Task::Rollouts { batch, .. } => format!("shard {index} of batch {batch} of {store}"),
            Task::Verify { batch, .. } => format!("the verification of batch {batch} of {store}"),
            Task::VerifyAll { .. } => format!("the verification of {store}"),
            Task::Dataset { dry: true, .. } => format!("the dry run of {store}"),
            Task::Dataset { .. } => format!("the dataset of {store}"),
            Task::Train(_) => format!("rank {index} of {store}"),
            Task::Evaluate(_) => format!("the evaluation of {store}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(arguments: &[&str], variables: &serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"annotations": {INDEX: "1"}},
            "spec": {"containers": [{"name": CONTAINER, "args": arguments, "env": variables}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_shard_has_its_own_part_of_the_batch_and_the_last_one_what_is_left() {
        let arguments = ["rollout", "--batch=a-1", "--first=10", "--count=7", "--shard-size=4", "--store=s3://a/b"];
        let assignment = Assignment::of(&pod(&arguments, &json!([]))).unwrap();
        assert_eq!(assignment.task, Task::Rollouts { batch: "a-1".into(), range: SampleRange { from: 14, count: 3 } });
        assert_eq!(assignment.work(), "shard 1 of batch a-1 of s3://a/b");
    }

    #[test]
    fn a_command_that_nobody_knows_is_no_assignment() {
        assert_eq!(Assignment::of(&pod(&["dance", "--store=s3://a/b"], &json!([]))), None);
        assert_eq!(Assignment::of(&pod(&["rollout", "--store=s3://a/b"], &json!([]))), None);
    }
}
