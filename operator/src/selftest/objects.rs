//! What a self-test makes: a batch of a few samples, a claim where there is no store, and a batch that nobody may make.

use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use sera_crds::{RolloutBatch, values::GitUrl};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Error, SelfTest};

/// How many samples are made: two, so that a slot is wiped and used again.
const SAMPLES: u32 = 2;
/// What the trespassing batch names: no release of the chart makes a Secret of this name, and none grants it.
pub(super) const FORBIDDEN_SECRET: &str = "self-test-may-not-read-this";
/// As much as most provisioners give at least; the test writes some hundred KiB.
const CLAIM_SIZE: &str = "1Gi";

/// Everything that is made.
pub(super) struct Objects {
    /// The batch.
    pub(super) batch: RolloutBatch,
    /// The same with a Secret that the account must not be able to read.
    pub(super) trespass: RolloutBatch,
    /// The claim, where one is wanted.
    pub(super) claim: Option<PersistentVolumeClaim>,
}

impl Objects {
    /// What these flags ask for, under names that no other test's objects have.
    pub(super) fn of(test: &SelfTest) -> Result<Self, Error> {
        let name = format!("self-test-{}", suffix(test));
        let mut spec = json!({
            "source": {"git": {"url": GitUrl::REHEARSAL}, "commits": {"count": 1}, "heldOutFraction": "0"},
            // Every second rollout finds the change again: what is not accepted is somebody's defect.
            "teacher": {"rehearsal": {"shares": {"full": "1", "partial": "0", "miss": "0"}}},
            "generation": {"shardSize": SAMPLES, "sandbox": {"slots": 1, "landlock": test.landlock}},
            "samples": {"from": 0, "count": SAMPLES},
        });
        if test.own_claim {
            spec["output"] = json!({"store": format!("pvc://{name}")});
        } else if let Some(store) = &test.store {
            spec["output"] = json!({"store": store});
            if let Some(secret) = &test.store_credentials {
                spec["output"]["credentialsSecretRef"] = json!({"name": secret});
            }
        }
        let batch = |spec: &Value| {
            made(json!({
                "apiVersion": "sera.dev/v1alpha1", "kind": "RolloutBatch", "metadata": metadata(&name, test), "spec": spec,
            }))
        };
        let mut trespass = spec.clone();
        trespass["teacher"] = json!({"endpoint": {
            "url": "http://teacher.invalid/v1", "model": "none", "credentialsSecretRef": {"name": FORBIDDEN_SECRET},
        }});
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata(&name, test),
            "spec": {
                // The batch's pods come one after the other, so that a volume for one node at a time is enough.
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": CLAIM_SIZE}},
                "storageClassName": test.storage_class,
            },
        });
        let claim = test.own_claim.then(|| made(claim)).transpose()?;
        Ok(Self { batch: batch(&spec)?, trespass: batch(&trespass)?, claim })
    }
}

fn made<T: DeserializeOwned>(object: Value) -> Result<T, Error> {
    serde_json::from_value(object).map_err(Error::Malformed)
}

/// What tells this test's objects from those of another: the pod's uid, or the time.
fn suffix(test: &SelfTest) -> String {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    test.pod_uid.as_ref().map_or_else(|| format!("{:x}", now()), |uid| uid.chars().take(8).collect())
}

/// What is made belongs to the pod, so that it goes with it whatever becomes of this process.
fn metadata(name: &str, test: &SelfTest) -> Value {
    let mut metadata = json!({"name": name});
    if let (Some(pod), Some(uid)) = (&test.pod_name, &test.pod_uid) {
        metadata["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}]);
    }
    metadata
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn objects(flags: &[&str]) -> Objects {
        let pod = ["self-test", "--pod-name=sera-operator-test", "--pod-uid=3f2c7d0e-5f43-4c0e-9d38-6b1f6f5f0a11"];
        Objects::of(&SelfTest::parse_from(pod.iter().chain(flags))).unwrap()
    }

    #[test]
    fn what_is_made_belongs_to_the_pod_and_has_a_name_of_its_own() {
        let Objects { batch, claim, .. } = objects(&["--own-claim", "--storage-class=fast"]);
        let claim = claim.unwrap();
        for metadata in [&batch.metadata, &claim.metadata] {
            assert_eq!(metadata.name.as_deref(), Some("self-test-3f2c7d0e"));
            let owner = &metadata.owner_references.as_ref().unwrap()[0];
            assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Pod", "sera-operator-test"));
        }
        assert_eq!(claim.spec.unwrap().storage_class_name.as_deref(), Some("fast"));
        assert_eq!(batch.spec.output.unwrap().store.unwrap().as_str(), "pvc://self-test-3f2c7d0e");
        let by_hand = Objects::of(&SelfTest::parse_from(["self-test"])).unwrap().batch.metadata;
        assert!(by_hand.owner_references.is_none());
    }

    #[test]
    fn the_store_is_the_one_that_is_named_and_else_the_platforms() {
        let named = objects(&["--store=s3://acme/sera", "--store-credentials=s3"]).batch.spec.output.unwrap();
        assert_eq!(
            (named.store.unwrap().as_str(), named.credentials_secret_ref.unwrap().name.as_str()),
            ("s3://acme/sera", "s3")
        );
        let Objects { batch, claim, .. } = objects(&["--landlock=BestEffort"]);
        assert!(batch.spec.output.is_none() && claim.is_none());
        assert_eq!(batch.spec.generation.unwrap().sandbox.landlock.as_str(), "BestEffort");
    }

    #[test]
    fn the_trespassing_batch_names_a_secret_and_the_other_none() {
        let Objects { batch, trespass, .. } = objects(&[]);
        let names = |batch: &RolloutBatch| serde_json::to_string(batch).unwrap().contains(FORBIDDEN_SECRET);
        assert!(names(&trespass) && !names(&batch));
    }
}
