//! The store of one run, and what its programs make in it, without any of their work: what is committed is committed once, and a later attempt adopts
//! it. What comes out depends on what was asked for and on nothing else, so that a disturbed run can be compared with one that was not.

use std::collections::{BTreeMap, BTreeSet};

use sera_crds::batch::SampleRange;
use sera_crds::contract::{
    Artifact, DatasetPlan, Failure, FailureClass, Interval, StageResult, Termination, Usage, VerificationCounts,
};
use sera_crds::values::Verdict;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::oracle::Found;
use super::program::{Assignment, Policy, Task};

/// What all folders hold.
#[derive(Debug, Default)]
pub(super) struct Store {
    folders: BTreeMap<String, Folder>,
}

/// What one run or batch has made.
#[derive(Debug, Default)]
struct Folder {
    snapshot: Option<String>,
    /// The samples of each batch that have an end.
    samples: BTreeMap<String, BTreeSet<u32>>,
    /// The dataset's digest, and the batches that it was made from.
    dataset: Option<(String, Vec<String>)>,
    model: Option<String>,
    report: Option<String>,
}

/// How a program ended.
#[derive(Debug, PartialEq)]
pub(super) struct End {
    /// Its last words.
    pub(super) words: Termination,
    /// What should not have been asked of it.
    pub(super) wrong: Option<String>,
}

impl Store {
    /// Does what a pod is told to do.
    pub(super) fn run(&mut self, assignment: &Assignment) -> End {
        let folder = self.folders.entry(assignment.store.clone()).or_default();
        match folder.run(&assignment.task) {
            Ok(result) => End { words: Termination::succeeded(result), wrong: None },
            Err(wrong) => End { words: Termination::failed(nonsense(&wrong)), wrong: Some(wrong) },
        }
    }

    /// Leaves a pod's work half done, as one that dies at it does.
    pub(super) fn begin(&mut self, assignment: &Assignment) {
        if let Task::Rollouts { batch, range } = &assignment.task {
            let half = SampleRange { from: range.from, count: range.count / 2 };
            self.folders.entry(assignment.store.clone()).or_default().commit(batch, half);
        }
    }

    /// What the folder of the object with this uid holds.
    pub(super) fn of(&self, uid: &str) -> Option<Found> {
        self.folders.iter().find(|(store, _)| store.ends_with(uid)).map(|(_, folder)| folder.found())
    }
}

impl Folder {
    fn found(&self) -> Found {
        let dataset = self.dataset.as_ref().map(|(digest, _)| digest.clone());
        let (snapshot, model, report) = (self.snapshot.clone(), self.model.clone(), self.report.clone());
        let samples = self.samples.values().map(BTreeSet::len).sum();
        let content = json!({"snapshot": snapshot, "dataset": dataset, "model": model, "report": report});
        Found { dataset, model, report, samples, content, is_paid_again: false }
    }

    fn run(&mut self, task: &Task) -> Result<StageResult, String> {
        match task {
            Task::Snapshot(words) => {
                let digest = self.snapshot.get_or_insert_with(|| digest(&["snapshot", words])).clone();
                let commit = digest[..40].to_owned();
                let manifest = artifact("snapshot/manifest.json", digest);
                Ok(StageResult::Snapshot { manifest, commit, commits: 2, bundle_bytes: 4096 })
            }
            Task::Rollouts { batch, range } => {
                if self.snapshot.is_none() {
                    return Err(format!("batch {batch} is rolled out without a snapshot"));
                }
                self.commit(batch, *range);
                Ok(StageResult::Rollouts { first: range.from.into(), count: range.count })
            }
            Task::Verify { batch, range, policy } => {
                let there = self.samples.get(batch).cloned().unwrap_or_default();
                let asked: BTreeSet<u32> = (range.from..range.from + range.count).collect();
                if there != asked {
                    return Err(format!("batch {batch} is verified with {there:?} where {asked:?} should be"));
                }
                Ok(verified(batch, &there, policy))
            }
            Task::VerifyAll { batches, policy } => Ok(verified("all", &self.all(batches)?, policy)),
            Task::Dataset { batches, policy, plan, dry } => self.make_dataset(batches, policy, plan, *dry),
            Task::Train(words) => {
                let Some((dataset, _)) = &self.dataset else {
                    return Err("there is no dataset to train on".to_owned());
                };
                let model = self.model.get_or_insert_with(|| digest(&["model", dataset, words])).clone();
                let manifest = artifact("model/manifest.json", model);
                let (loss, learning_rate) = (0.25, 5e-5);
                Ok(StageResult::Training { manifest, steps: 96, loss, eval_loss: None, learning_rate, warmup_steps: 9 })
            }
            Task::Evaluate(words) => {
                let Some(model) = &self.model else {
                    return Err("there is no student to evaluate".to_owned());
                };
                let report = self.report.get_or_insert_with(|| digest(&["report", model, words])).clone();
                let [student, base, teacher] =
                    [0.5, 0.25, 0.75].map(|mean| Interval { mean, low: mean - 0.125, high: mean + 0.125 });
                let (report, verdict) = (artifact("report/report.json", report), Some(Verdict::Improved));
                Ok(StageResult::Evaluation { report, tasks: 8, student, base, teacher, verdict })
            }
        }
    }

    fn commit(&mut self, batch: &str, range: SampleRange) {
        self.samples.entry(batch.to_owned()).or_default().extend(range.from..range.from + range.count);
    }

    /// All samples of these batches.
    fn all(&self, batches: &[String]) -> Result<BTreeSet<u32>, String> {
        let mut all = BTreeSet::new();
        for batch in batches {
            let samples =
                self.samples.get(batch).ok_or_else(|| format!("batch {batch} is counted and has no samples"))?;
            if let Some(twice) = samples.iter().find(|sample| !all.insert(**sample)) {
                return Err(format!("sample {twice} is in two batches"));
            }
        }
        Ok(all)
    }

    fn make_dataset(
        &mut self,
        batches: &[String],
        policy: &Policy,
        plan: &DatasetPlan,
        dry: bool,
    ) -> Result<StageResult, String> {
        let samples = self.all(batches)?;
        let counts = counted(&samples, policy);
        let all = u64::from(plan.accepted_trajectories);
        let first = plan.first_rollout_share.part_of(all);
        let (accepted_first, accepted_second) =
            (counts.accepted_first.min(first), counts.accepted_second.min(all - first));
        let complete = accepted_first + accepted_second == all;
        if dry {
            return Ok(StageResult::Dataset { manifest: None, accepted_first, accepted_second, complete });
        }
        if !complete {
            return Err(format!("the dataset is made of {accepted_first} + {accepted_second} trajectories, not {all}"));
        }
        let (digest, _) = self.dataset.get_or_insert_with(|| {
            (digest(&["dataset", &policy.words, &format!("{plan:?} {samples:?}")]), batches.to_vec())
        });
        let manifest = Some(artifact("dataset/manifest.json", digest.clone()));
        Ok(StageResult::Dataset { manifest, accepted_first, accepted_second, complete })
    }
}

fn verified(batch: &str, samples: &BTreeSet<u32>, policy: &Policy) -> StageResult {
    let digest_of_policy = digest(&["policy", &policy.words]);
    let verdicts = artifact(
        &format!("verified/{batch}/{digest_of_policy}.jsonl"),
        digest(&["verdicts", &digest_of_policy, &format!("{samples:?}")]),
    );
    StageResult::Verification { verdicts, policy: digest_of_policy, counts: counted(samples, policy) }
}

/// What a verification finds: of four first trajectories three are accepted, and the recall of a second one is told by its sample's number.
fn counted(samples: &BTreeSet<u32>, policy: &Policy) -> VerificationCounts {
    let threshold = policy.plan.threshold.part_of(1_000_000);
    let mut counts = VerificationCounts::default();
    for sample in samples.iter().copied().map(u64::from) {
        let recall = (sample * 3 % 10) * 100_000;
        counts.attempted += 1;
        counts.accepted_first += u64::from(sample % 4 != 3);
        counts.accepted_second += u64::from(recall >= threshold);
        if recall < threshold {
            *counts.rejected.entry("BelowThreshold".to_owned()).or_default() += 1;
        }
        if let Some(bin) = usize::try_from(recall / 100_000).ok().and_then(|bin| counts.recall_histogram.get_mut(bin)) {
            *bin += 1;
        }
        counts.recall_millionths += recall;
        let read = 1_000 + 7 * sample;
        counts.usage +=
            Usage { calls: 35, prompt_tokens: read, cached_tokens: read / 2, completion_tokens: 50 + sample };
    }
    counts
}

fn artifact(path: &str, sha256: String) -> Artifact {
    Artifact { path: path.to_owned(), sha256 }
}

fn digest(words: &[&str]) -> String {
    hex::encode(Sha256::digest(words.join("\n")))
}

fn nonsense(wrong: &str) -> Failure {
    Failure { class: FailureClass::Internal, reason: "WrongOrder".to_owned(), field: None, message: wrong.to_owned() }
}

#[cfg(test)]
mod tests {
    use sera_crds::contract::Outcome;

    use super::*;

    fn assignment(task: Task) -> Assignment {
        Assignment { store: "s3://a/ml/run/uid-1".into(), index: 0, task }
    }

    fn rollouts(from: u32, count: u32) -> Assignment {
        assignment(Task::Rollouts { batch: "run-1".into(), range: SampleRange { from, count } })
    }

    fn policy() -> Policy {
        let words = r#"{"measure":"Recall","threshold":"0.5","maxPatchLines":40,"maxMeanToolTokens":600}"#.to_owned();
        Policy { plan: serde_json::from_str(&words).unwrap(), words }
    }

    fn verify(count: u32) -> Assignment {
        let range = SampleRange { from: 0, count };
        assignment(Task::Verify { batch: "run-1".into(), range, policy: policy() })
    }

    #[test]
    fn what_a_dead_pod_left_half_done_is_missing_and_what_another_adds_is_not_counted_twice() {
        let mut store = Store::default();
        store.run(&assignment(Task::Snapshot("a".into())));
        store.begin(&rollouts(0, 4));
        assert!(store.run(&verify(4)).wrong.unwrap().contains("{0, 1} where {0, 1, 2, 3}"));
        store.run(&rollouts(0, 4));
        store.run(&rollouts(0, 4));
        let Outcome::Succeeded(StageResult::Verification { counts, .. }) = store.run(&verify(4)).words.outcome else {
            panic!("it was not verified")
        };
        assert_eq!((counts.attempted, counts.accepted_first, counts.accepted_second), (4, 3, 2));
        assert_eq!(store.of("uid-1").unwrap().samples, 4);
    }

    #[test]
    fn nothing_is_made_of_what_is_not_there() {
        let mut store = Store::default();
        assert!(store.run(&rollouts(0, 4)).wrong.is_some());
        assert!(store.run(&assignment(Task::Train("a".into()))).wrong.is_some());
        assert!(store.run(&assignment(Task::Evaluate("a".into()))).wrong.is_some());
    }
}
