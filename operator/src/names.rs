//! How children are named and labelled. A name says whose child it is and which attempt it belongs to; the short uid in it keeps the children of
//! an object and of its deleted namesake apart.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sera_crds::{contract::BatchNames, values::Stage};

use crate::facts::Uid;

/// Who made the object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`], and the name that we give as the writer of fields and Events.
pub const MANAGER: &str = "sera-operator";
/// The kind of the owner.
pub const KIND: &str = "sera.dev/kind";
/// The name of the owner.
pub const OWNER: &str = "sera.dev/owner";
/// The uid of the owner.
pub const OWNER_UID: &str = "sera.dev/owner-uid";
/// The stage that a Job works on.
pub const STAGE: &str = "sera.dev/stage";
/// The number of the attempt.
pub const ATTEMPT: &str = "sera.dev/attempt";
/// That an object belongs to a teacher, and to which.
pub const TEACHER: &str = "sera.dev/teacher";
/// That an object belongs to a student that is served.
pub const STUDENT: &str = "sera.dev/student";
/// The generation of its owner's spec that a child was applied from.
pub const GENERATION: &str = "sera.dev/generation";
/// Of a child of a batch that takes its word from a run: the generation of that run's spec.
pub const RUN_GENERATION: &str = "sera.dev/run-generation";
/// Kueue's label: the queue that admits a Job.
pub const QUEUE: &str = "kueue.x-k8s.io/queue-name";
/// A digest of what a Job asks its queue for.
pub const REQUEST: &str = "sera.dev/request";

/// The finalizer of an object whose data goes with it.
pub const RECLAIM: &str = "sera.dev/reclaim";

/// The container of a stage's program: its end is the stage's end.
pub const PROGRAM_CONTAINER: &str = "sera";

/// What [`Owner`]s can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A `SpecializationRun`.
    Run,
    /// A `RolloutBatch`.
    Batch,
}

/// The object that children belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, which is its children's too.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: Uid,
}

impl Kind {
    /// As it stands in manifests and in the label [`KIND`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "SpecializationRun",
            Self::Batch => "RolloutBatch",
        }
    }

    /// The kind that a label names.
    pub fn from_label(text: &str) -> Option<Self> {
        [Self::Run, Self::Batch].into_iter().find(|kind| kind.as_str() == text)
    }

    /// In a sentence.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Batch => "batch",
        }
    }
}

impl Owner {
    /// The name of the Job of one attempt: `<owner>-<uid5>-<letter><attempt>`. With an owner of 46 characters (the longest that the API admits), the
    /// pod's host name `<job>-<index>` still fits 63.
    pub fn job_name(&self, stage: Stage, attempt: u32) -> String {
        format!("{}-{}-{}{attempt}", self.name, self.uid.short(), stage_letter(stage))
    }

    /// The stage and the attempt that a Job of this owner is named after; none where the name is not of that form.
    pub fn job_of(&self, name: &str) -> Option<(Stage, u32)> {
        let rest =
            name.strip_prefix(&self.name)?.strip_prefix('-')?.strip_prefix(self.uid.short())?.strip_prefix('-')?;
        let letter = rest.chars().next()?;
        let stage = Stage::ALL.iter().copied().find(|stage| stage_letter(*stage) == letter)?;
        Some((stage, rest[letter.len_utf8()..].parse().ok()?))
    }

    /// The name of a run's batch: `<run>-<number>`. The number has room for five digits below the longest run's name.
    pub fn batch_name(&self, number: u32) -> String {
        format!("{}-{number}", self.name)
    }

    /// The names of a run's batches, from the first one through this one.
    pub fn batch_names(&self, through: u32) -> BatchNames {
        BatchNames::Numbered { run: self.name.clone(), numbers: 1..=through }
    }

    /// The number in the name of a run's batch.
    pub fn batch_number(&self, name: &str) -> Option<u32> {
        name.strip_prefix(&self.name)?.strip_prefix('-')?.parse().ok()
    }

    /// The name of the Deployment and the Service of the teacher that the operator runs for this owner.
    pub fn teacher_name(&self) -> String {
        format!("{}-{}-teacher", self.name, self.uid.short())
    }

    /// The name of the `LeaderWorkerSet` of a teacher whose copies are spread over nodes. Its controller makes a Service of that name, and a `StatefulSet`
    /// `<name>-<copy>` for each copy, whose revision has to fit a label of 63 characters: 52 of them, and up to 256 copies.
    pub fn teacher_groups_name(&self) -> String {
        const LONGEST: usize = 40;
        let name = self.name.get(..LONGEST).unwrap_or(&self.name);
        format!("{name}-{}-t", self.uid.short())
    }

    /// The name of the Deployment and the Service of the student that is served.
    pub fn student_name(&self) -> String {
        format!("{}-{}-student", self.name, self.uid.short())
    }

    /// The name of the headless Service of the pods that drive a batch's rollouts.
    pub fn drivers_name(&self) -> String {
        format!("{}-{}-drivers", self.name, self.uid.short())
    }

    /// The host name of one of those pods, within the cluster.
    pub fn driver_host(&self, job: &str, index: u32) -> String {
        format!("{job}-{index}.{}.{}.svc", self.drivers_name(), self.namespace)
    }

    /// The name of the headless Service of the pods that train for this owner.
    pub fn ranks_name(&self) -> String {
        format!("{}-{}-ranks", self.name, self.uid.short())
    }

    /// The host name of one of those pods, as the others of them and the operator find it.
    pub fn rank_host(&self, job: &str, index: u32) -> String {
        format!("{job}-{index}.{}.{}.svc", self.ranks_name(), self.namespace)
    }

    /// The name of the NetworkPolicy of the pods of a stage or a server.
    pub fn policy_name(&self, of: &str) -> String {
        format!("{}-{}-{of}", self.name, self.uid.short())
    }

    /// The name of the ConfigMap that holds the platform's defaults as they were at first sight.
    pub fn defaults_name(&self) -> String {
        format!("{}-{}-defaults", self.name, self.uid.short())
    }

    /// The labels of all children.
    pub fn labels(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", "sera"),
            (MANAGED_BY, MANAGER),
            (KIND, self.kind.as_str()),
            (OWNER, &self.name),
            (OWNER_UID, self.uid.as_str()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// Selects the Jobs and pods that do this owner's work. A batch's are those of any batch that had its name before, too: they work at the same samples.
    pub fn at_work(&self) -> String {
        match self.kind {
            Kind::Run => format!("{OWNER_UID}={}", self.uid),
            Kind::Batch => format!("{KIND}={},{OWNER}={},{STAGE}", self.kind.as_str(), self.name),
        }
    }

    /// The labels of the Job of one attempt, and of its pods.
    pub fn job_labels(&self, stage: Stage, attempt: u32) -> BTreeMap<String, String> {
        let mut labels = self.labels();
        labels.insert(STAGE.to_owned(), stage.as_str().to_owned());
        labels.insert(ATTEMPT.to_owned(), attempt.to_string());
        labels
    }
}

/// Which objects are ours: the selector of every watch.
pub fn ours() -> String {
    format!("{MANAGED_BY}={MANAGER},{KIND}")
}

/// Whether `uid` is the controller of the object with this metadata: what decides ownership. Names and labels can be forged, and are reused.
pub fn is_controlled_by(metadata: &ObjectMeta, uid: &Uid) -> bool {
    let owners = metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.controller == Some(true) && owner.uid == uid.as_str())
}

/// The letter of a stage in its Jobs' names. Generation works through batches, and its own Jobs are the dry runs that say whether there is enough;
/// serving works through Deployments and has none.
const fn stage_letter(stage: Stage) -> char {
    match stage {
        Stage::Snapshot => 's',
        Stage::Generation => 'g',
        Stage::Rollouts => 'r',
        Stage::Verification => 'v',
        Stage::Dataset => 'd',
        Stage::Training => 't',
        Stage::Evaluation => 'e',
        Stage::Serving => 'p',
        Stage::Reclaim => 'c',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(kind: Kind, name: String) -> Owner {
        Owner { kind, namespace: "ml".into(), name, uid: "3f2c9a10-1111-2222-3333-444455556666".into() }
    }

    #[test]
    fn a_job_is_named_after_its_owner_its_uid_its_stage_and_its_attempt() {
        assert_eq!(owner(Kind::Run, "billing-agent".into()).job_name(Stage::Snapshot, 7), "billing-agent-3f2c9-s7");
    }

    #[test]
    fn a_jobs_name_says_what_it_is_for_and_anothers_says_nothing() {
        let owner = owner(Kind::Run, "billing-agent".into());
        for stage in Stage::ALL {
            assert_eq!(owner.job_of(&owner.job_name(*stage, 12)), Some((*stage, 12)));
        }
        for name in ["billing-agent-3f2c9-x1", "billing-agent-3f2c9-s", "billing-agent-77777-s1", "billing-agent-3f2c9"]
        {
            assert_eq!(owner.job_of(name), None, "{name}");
        }
        assert_eq!(owner.batch_number(&owner.batch_name(7)), Some(7));
        let names: Vec<String> = (1..=12).map(|number| owner.batch_name(number)).collect();
        assert_eq!(owner.batch_names(12).names().collect::<Vec<_>>(), names);
        assert_eq!(owner.batch_number("billing-agent-3f2c9-s1"), None);
    }

    #[test]
    fn the_host_names_of_the_longest_owners_pods_fit_a_dns_label() {
        for (kind, longest) in [(Kind::Run, 40), (Kind::Batch, 46)] {
            let owner = owner(kind, "a".repeat(longest));
            let host = format!("{}-{}", owner.job_name(Stage::Snapshot, 9_999), 999);
            assert!(host.len() <= 63, "{host} has {} characters", host.len());
            assert!(owner.defaults_name().len() <= 63, "{}", owner.defaults_name());
            for name in [owner.teacher_name(), owner.student_name(), owner.drivers_name(), owner.ranks_name()] {
                assert!(name.len() <= 63, "{name}");
            }
        }
    }
}
