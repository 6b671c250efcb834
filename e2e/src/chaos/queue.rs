//! A stand-in for Kueue, which cannot be had here: it admits the Jobs of a queue after a while, with a node selector of its own, takes some of them
//! back while they work, and admits them again. It knows the label and `spec.suspend`, as Kueue's integration with Jobs does, and nothing of quotas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::course::Course;
use super::random::Random;

/// The queue that a run's Jobs wait in.
pub(super) const QUEUE: &str = "gpu";
/// The label that names it.
const LABEL: &str = "kueue.x-k8s.io/queue-name";
/// What an admitted Job is given: the nodes of one flavour.
const FLAVOUR: (&str, &str) = ("sera.dev/flavour", "spot");
const LOOK: Duration = Duration::from_millis(80);
/// In how many of a hundred cases a Job is taken back once it works.
const PREEMPTED_PERCENT: u64 = 30;

/// What is known of a Job.
struct Place {
    /// Whether it was ever admitted.
    admitted: bool,
    /// When it is admitted, or taken back; never, where there is no such time.
    turn: Option<Instant>,
}

/// Admits and preempts the Jobs of the run's namespace, for as long as the run goes on.
pub(super) async fn run(course: Arc<Course>, client: Client, seed: u64) -> Result<()> {
    let jobs: Api<Job> = Api::namespaced(client, &course.namespace);
    let mut queue = Queue { jobs, course, random: Random::of(seed, 5), places: BTreeMap::new() };
    loop {
        // What the API server of these minutes cannot say, it can say a little later.
        if let Ok(all) = queue.jobs.list(&ListParams::default()).await {
            for job in all.items {
                queue.look_at(&job).await;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

struct Queue {
    jobs: Api<Job>,
    course: Arc<Course>,
    random: Random,
    places: BTreeMap<String, Place>,
}

impl Queue {
    async fn look_at(&mut self, job: &Job) {
        let (name, Some(uid)) = (job.name_any(), job.uid()) else { return };
        let is_over = job.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(is_final);
        if is_over || job.metadata.deletion_timestamp.is_some() {
            return;
        }
        if job.labels().get(LABEL).map(String::as_str) != Some(QUEUE) {
            self.course.wrong(format!("Job {name} is in no queue"));
            return;
        }
        let is_suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
        let now = Instant::now();
        let Some(place) = self.places.get(&uid) else {
            if !is_suspended {
                self.course.wrong(format!("Job {name} did not wait for its queue"));
            }
            let turn = Some(now + self.random.millis(0, 900));
            self.places.insert(uid, Place { admitted: false, turn });
            return;
        };
        if place.turn.is_none_or(|turn| turn > now) {
            return;
        }
        let (was_admitted, turn) = (place.admitted, self.next_turn(is_suspended, now));
        let change = match (is_suspended, was_admitted) {
            // Its template may be changed before it has ever begun, and not afterwards.
            (true, false) => json!({"spec": {
                "suspend": false,
                "template": {"spec": {"nodeSelector": {FLAVOUR.0: FLAVOUR.1}}},
            }}),
            (true, true) => json!({"spec": {"suspend": false}}),
            (false, _) => json!({"spec": {"suspend": true}}),
        };
        match self.jobs.patch(&name, &PatchParams::default(), &Patch::Strategic(change)).await {
            Ok(_) => {
                let deed = if is_suspended { "admits" } else { "takes back" };
                self.course.note(&format!("the queue {deed} Job {name}"));
                self.places.insert(uid, Place { admitted: true, turn });
            }
            Err(error) => self.course.note(&format!("the queue cannot change Job {name}: {error}")),
        }
    }

    /// When a Job that has just been admitted is taken back, if it is; or when one that is taken back is admitted again.
    fn next_turn(&mut self, is_admitted: bool, now: Instant) -> Option<Instant> {
        if !is_admitted {
            return Some(now + self.random.millis(200, 2_500));
        }
        let wait = self.random.millis(50, 700);
        self.random.percent(PREEMPTED_PERCENT).then(|| now + wait)
    }
}

fn is_final(condition: &k8s_openapi::api::batch::v1::JobCondition) -> bool {
    condition.status == "True"
        && ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"].contains(&&*condition.type_)
}
