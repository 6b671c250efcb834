//! The end state is the oracle: whatever befell a run, it ends with what it would have had undisturbed, and leaves nothing that belongs to nobody.

use std::collections::BTreeSet;

use anyhow::Result;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::core::Resource;
use kube::{Client, ResourceExt};
use sera_crds::RolloutBatch;
use serde_json::{Value, json};

use super::course::Course;
use super::history::number;
use super::script::{Deed, Script};

/// The most calls that passes may make over one run: an undisturbed one makes about a hundred.
const MOST_CALLS: u64 = 1_500;
/// The figures of `status.generation` that must come out the same.
const FIGURES: [&str; 11] = [
    "attempted",
    "accepted",
    "acceptedFirst",
    "acceptedSecond",
    "rejected",
    "recallHistogram",
    "recall",
    "tokens",
    "cachedTokens",
    "outputTokens",
    "cost",
];

/// What the store holds of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Found {
    /// The sha256 of the dataset's manifest.
    pub(super) dataset: Option<String>,
    /// The sha256 of the model's.
    pub(super) model: Option<String>,
    /// The sha256 of the evaluation's report.
    pub(super) report: Option<String>,
    /// How many samples have an end.
    pub(super) samples: usize,
    /// What must be the same for every run that asks for the same, whatever befalls it.
    pub(super) content: Value,
    /// Whether a pod that is lost has been at work that must be paid for again; where programs are played, it has not.
    pub(super) is_paid_again: bool,
}

/// Those of them that count what was paid for. A lost pod's calls are paid too, and a rollout that begins again makes them again.
const PAID: [&str; 4] = ["tokens", "cachedTokens", "outputTokens", "cost"];

/// What a run has come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Harvest {
    /// What it made.
    content: Value,
    /// What was counted.
    figures: Value,
    /// How many attempts each of its own stages took.
    attempts: Value,
}

impl Harvest {
    /// What this run has come to.
    pub(super) fn of(run: &DynamicObject, found: &Found) -> Self {
        let status = &run.data["status"];
        let figures = FIGURES.map(|figure| (figure.to_owned(), status["generation"][figure].clone()));
        Self {
            content: found.content.clone(),
            figures: serde_json::Map::from_iter(figures).into(),
            attempts: status["attempts"].clone(),
        }
    }
}

/// Compares what a run has come to with the store, and with what it would have been undisturbed.
pub(super) fn judge(course: &Course, run: &DynamicObject, found: &Found, expected: Option<&Harvest>) -> Harvest {
    let (result, artifacts) = (Harvest::of(run, found), &run.data["status"]["artifacts"]);
    for (artifact, stored) in [("dataset", &found.dataset), ("model", &found.model), ("report", &found.report)] {
        let said = &artifacts[artifact]["sha256"];
        if *said != json!(stored) {
            course.wrong(format!("status has {artifact} {said}, and the store {stored:?}"));
        }
    }
    if result.figures["attempted"] != json!(found.samples) {
        let attempted = &result.figures["attempted"];
        course.wrong(format!("status counts {attempted} samples, and the store has {}", found.samples));
    }
    if course.deliberate() > MOST_CALLS {
        course.wrong(format!("passes made {} calls: {}", course.deliberate(), course.most_frequent()));
    }
    // Whoever deletes a Job or a run takes its words away.
    for words in course.unsaid().into_iter().filter(|_| course.script.deeds.is_empty() && course.kills() == 0) {
        course.wrong(format!("it was never Stalled in these words: {words}"));
    }
    let Some(expected) = expected.filter(|_| !course.script.changes_the_question()) else { return result };
    let mut figures = result.figures.clone();
    for paid in PAID.into_iter().filter(|_| found.is_paid_again && !costs_no_attempt(&course.script)) {
        if number(&figures[paid]) >= number(&expected.figures[paid]) {
            figures[paid] = expected.figures[paid].clone();
        }
    }
    let contents = differences(&result.content, &expected.content);
    for difference in contents.into_iter().chain(differences(&figures, &expected.figures)) {
        course.wrong(format!("it ends with another {difference}"));
    }
    if costs_no_attempt(&course.script) && result.attempts != expected.attempts {
        course.wrong(format!("it took attempts {}, and undisturbed {}", result.attempts, expected.attempts));
    }
    result
}

/// Where two objects differ, in words.
fn differences(is: &Value, would_be: &Value) -> Vec<String> {
    let keys: BTreeSet<&String> =
        [is, would_be].into_iter().filter_map(Value::as_object).flat_map(|all| all.keys()).collect();
    let differ = keys.into_iter().filter(|key| is[*key] != would_be[*key]);
    differ.map(|key| format!("{key}: {}, and undisturbed {}", is[key], would_be[key])).collect()
}

/// Whether nothing befalls but the operator and its calls, so that no attempt may be lost. Whoever looks for a Job and sees the past, in which there was
/// none, takes it for lost; Kubernetes promises that this does not happen.
fn costs_no_attempt(script: &Script) -> bool {
    !script.stale_looks && script.fates.is_empty() && script.deeds.iter().all(|(_, deed)| *deed == Deed::StealLease)
}

/// An object that should not be there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// What it is, and what keeps it.
    pub(super) words: String,
    /// Whether it has been deleted, and Kubernetes' collector has not got round to it.
    pub(super) goes: bool,
}

impl Left {
    fn new(words: &str, object: &ObjectMeta) -> Self {
        Self { words: format!("{words}{}", holding(object)), goes: object.deletion_timestamp.is_some() }
    }
}

/// What belongs to nobody, or should be gone when a run is done.
pub(super) async fn left_over(client: &Client, namespace: &str, run: &DynamicObject) -> Result<Vec<Left>> {
    let batches: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<RolloutBatch>(&()));
    let batches = batches.list(&ListParams::default()).await?.items;
    let mut owners: BTreeSet<String> = run.uid().into_iter().collect();
    let mut left = Vec::new();
    note(&mut left, &owners, "RolloutBatch", batches.iter().map(Resource::meta));
    owners.extend(batches.iter().filter_map(ResourceExt::uid));
    let jobs = all::<Job>(client, namespace).await?;
    note(&mut left, &owners, "Job", jobs.iter().map(Resource::meta));
    note(&mut left, &owners, "Service", all::<Service>(client, namespace).await?.iter().map(Resource::meta));
    let config_maps = all::<ConfigMap>(client, namespace).await?;
    let ours = config_maps.iter().filter(|config_map| config_map.name_any() != "kube-root-ca.crt");
    note(&mut left, &owners, "ConfigMap", ours.map(Resource::meta));
    let is_at_work = |job: &&Job| job.status.as_ref().is_none_or(|status| status.conditions.is_none());
    left.extend(
        jobs.iter().filter(is_at_work).map(|job| Left::new(&format!("Job {} is at work", job.name_any()), job.meta())),
    );
    for deployment in all::<Deployment>(client, namespace).await? {
        left.push(Left::new(&format!("Deployment {} is there", deployment.name_any()), deployment.meta()));
        owners.extend(deployment.uid());
    }
    owners.extend(jobs.iter().filter_map(ResourceExt::uid));
    owners.extend(all::<ReplicaSet>(client, namespace).await?.iter().filter_map(ResourceExt::uid));
    note(&mut left, &owners, "Pod", all::<Pod>(client, namespace).await?.iter().map(Resource::meta));
    Ok(left)
}

fn note<'a>(
    left: &mut Vec<Left>,
    owners: &BTreeSet<String>,
    kind: &str,
    children: impl Iterator<Item = &'a ObjectMeta>,
) {
    for child in children {
        let name = child.name.as_deref().unwrap_or_default();
        let mut controllers = child.owner_references.iter().flatten().filter(|owner| owner.controller == Some(true));
        if !controllers.any(|owner| owners.contains(&owner.uid)) {
            left.push(Left::new(&format!("{kind} {name} belongs to nobody"), child));
        }
    }
}

/// What keeps an object that is being deleted: whether somebody forgot it, or somebody has not let go of it.
fn holding(object: &ObjectMeta) -> String {
    let Some(since) = &object.deletion_timestamp else { return String::new() };
    let finalizers = object.finalizers.as_deref().unwrap_or_default();
    format!(" (deleted at {}, kept by [{}])", since.0, finalizers.join(", "))
}

async fn all<K>(client: &Client, namespace: &str) -> Result<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    Ok(api.list(&ListParams::default()).await?.items)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::chaos::script::Trial;

    fn run(model: &str, attempted: u64, snapshots: u64) -> DynamicObject {
        let resource = ApiResource::erase::<sera_crds::SpecializationRun>(&());
        let status = json!({
            "artifacts": {"model": {"uri": "s3://a/b", "sha256": model}},
            "generation": {"attempted": attempted, "accepted": 12},
            "attempts": {"Snapshot": snapshots},
        });
        DynamicObject::new("quickstart", &resource).data(json!({"status": status}))
    }

    /// What is said of a run that ended so, with a store that has nothing and an expectation of one attempt.
    fn said(trial: Trial, run: &DynamicObject, expected: &DynamicObject) -> String {
        let folder = tempfile::tempdir().unwrap();
        let course = Course::new(trial.script(), json!({}), "ml".into(), Path::new(folder.path())).unwrap();
        judge(&course, run, &Found::default(), Some(&Harvest::of(expected, &Found::default())));
        course.wrongs().join("; ")
    }

    #[test]
    fn an_end_that_differs_from_the_store_or_from_the_undisturbed_is_wrong() {
        let words = said(Trial::Seed(0), &run("aa", 0, 1), &run("aa", 0, 1));
        assert!(words.contains("status has model \"aa\"") && !words.contains("undisturbed"), "{words}");
        let words = said(Trial::Seed(0), &run("aa", 8, 1), &run("aa", 12, 1));
        assert!(words.contains("status counts 8 samples, and the store has 0"), "{words}");
        assert!(words.contains("it ends with another attempted: 8, and undisturbed 12"), "{words}");
    }

    #[test]
    fn a_lost_attempt_is_wrong_where_only_the_operator_was_broken() {
        let is_blamed = |trial| said(trial, &run("aa", 0, 2), &run("aa", 0, 1)).contains("it took attempts");
        assert!(is_blamed(Trial::Seed(0)) && is_blamed(Trial::Seed(2)));
        let with_pods = (0..64).map(|turn| Trial::Seed(5 + 8 * turn)).find(|trial| !trial.script().fates.is_empty());
        assert!(!is_blamed(with_pods.unwrap()));
    }

    #[test]
    fn an_attempt_may_be_lost_where_looks_are_stale_and_not_where_only_caches_begin_in_the_past() {
        let stale =
            |looks| (0..64).map(|turn| Trial::Seed(3 + 8 * turn)).find(|trial| trial.script().stale_looks == looks);
        let is_blamed = |trial| said(trial, &run("aa", 0, 2), &run("aa", 0, 1)).contains("it took attempts");
        assert!(is_blamed(stale(false).unwrap()) && !is_blamed(stale(true).unwrap()));
    }

    #[test]
    fn more_may_be_paid_where_pods_were_lost_and_never_less() {
        let run = |tokens: u64| {
            let mut run = run("aa", 0, 1);
            run.data["status"]["generation"]["tokens"] = json!(tokens);
            run
        };
        let is_blamed = |trial: Trial, tokens| {
            let folder = tempfile::tempdir().unwrap();
            let course = Course::new(trial.script(), json!({}), "ml".into(), Path::new(folder.path())).unwrap();
            let found = Found { is_paid_again: true, ..Found::default() };
            judge(&course, &run(tokens), &found, Some(&Harvest::of(&run(100), &found)));
            course.wrongs().iter().any(|wrong| wrong.contains("another tokens"))
        };
        let with_pods = (0..64).map(|turn| Trial::Seed(5 + 8 * turn)).find(|trial| !trial.script().fates.is_empty());
        let with_pods = with_pods.unwrap();
        assert!(!is_blamed(with_pods, 120) && !is_blamed(with_pods, 100) && is_blamed(with_pods, 99));
        assert!(is_blamed(Trial::Seed(0), 120), "no pod was lost");
    }

    #[test]
    fn a_child_without_a_living_owner_is_left_over() {
        let child = |uid: &str| -> ObjectMeta {
            let owner = json!({"apiVersion": "v1", "kind": "A", "name": "a", "uid": uid, "controller": true});
            serde_json::from_value(json!({"name": format!("of-{uid}"), "ownerReferences": [owner]})).unwrap()
        };
        let (mut left, owners) = (Vec::new(), BTreeSet::from(["alive".to_owned()]));
        note(&mut left, &owners, "Job", [&child("alive"), &child("gone"), &ObjectMeta::default()].into_iter());
        let words: Vec<_> = left.iter().map(|left| left.words.as_str()).collect();
        assert_eq!(words, ["Job of-gone belongs to nobody", "Job  belongs to nobody"]);
        assert!(!left.iter().any(|left| left.goes), "nobody has deleted them");
    }

    #[test]
    fn what_is_being_deleted_and_kept_says_by_whom() {
        let pod = json!({"name": "a", "deletionTimestamp": "2026-11-30T12:00:00Z", "finalizers": ["batch.kubernetes.io/job-tracking"]});
        let (mut left, pod) = (Vec::new(), serde_json::from_value(pod).unwrap());
        note(&mut left, &BTreeSet::new(), "Pod", [&pod].into_iter());
        let words =
            "Pod a belongs to nobody (deleted at 2026-11-30T12:00:00Z, kept by [batch.kubernetes.io/job-tracking])";
        assert_eq!(left, [Left { words: words.to_owned(), goes: true }]);
    }
}
