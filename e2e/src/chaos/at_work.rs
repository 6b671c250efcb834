//! Which pods are at which work: what two Jobs do at the same time is done twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::course::{Course, lock};
use super::program::Assignment;

/// The pods of one run whose programs are at work.
pub(super) struct AtWork {
    course: Arc<Course>,
    /// By what they work on: the uids of pod and Job.
    pods: Mutex<BTreeMap<String, (String, String)>>,
}

impl AtWork {
    /// Nobody yet.
    pub(super) fn new(course: Arc<Course>) -> Self {
        Self { course, pods: Mutex::default() }
    }

    /// Takes notice that a pod's program has begun. It is wrong where another Job's is at the same.
    pub(super) fn takes_up(&self, assignment: &Assignment, pod: &Pod) {
        let (work, uid, job) = (assignment.work(), pod.uid().unwrap_or_default(), job_of(pod));
        let before = lock(&self.pods).insert(work.clone(), (uid, job.clone()));
        if let Some((other, others)) = before.filter(|(_, others)| *others != job) {
            self.course.wrong(format!("two attempts are at {work}: pod {other} of Job {others}, and one of Job {job}"));
        }
    }

    /// Takes notice that a pod's program is at nothing any more.
    pub(super) fn puts_down(&self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        lock(&self.pods).retain(|_, (other, _)| *other != uid);
    }

    /// Takes notice that there are no other pods than these.
    pub(super) fn are_all(&self, uids: &BTreeSet<String>) {
        lock(&self.pods).retain(|_, (uid, _)| uids.contains(uid));
    }
}

fn job_of(pod: &Pod) -> String {
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    owner.map(|owner| owner.uid.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::chaos::script::Trial;

    fn pod(uid: &str, job: &str) -> (Assignment, Pod) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {
                "uid": uid, "annotations": {"batch.kubernetes.io/job-completion-index": "0"},
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": job, "controller": true}],
            },
            "spec": {"containers": [{"name": "sera", "args": ["snapshot", "--out=s3://a/b"]}]},
        }))
        .unwrap();
        (Assignment::of(&pod).unwrap(), pod)
    }

    #[test]
    fn two_jobs_at_one_work_are_wrong_and_a_job_may_replace_its_own_pod() {
        let folder = tempfile::tempdir().unwrap();
        let course = Trial::Undisturbed.script();
        let course = Arc::new(Course::new(course, json!({}), "ml".into(), Path::new(folder.path())).unwrap());
        let at_work = AtWork::new(Arc::clone(&course));
        let [first, replacement, other] = [pod("p1", "j1"), pod("p2", "j1"), pod("p3", "j2")];
        at_work.takes_up(&first.0, &first.1);
        at_work.takes_up(&replacement.0, &replacement.1);
        at_work.puts_down(&first.1);
        assert!(course.wrongs().is_empty());
        at_work.takes_up(&other.0, &other.1);
        assert!(course.wrongs()[0].contains("two attempts are at the snapshot of s3://a/b"), "{:?}", course.wrongs());
        at_work.are_all(&BTreeSet::new());
        at_work.takes_up(&first.0, &first.1);
        assert_eq!(course.wrongs().len(), 1);
    }
}
