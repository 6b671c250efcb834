//! One trial: a run in a namespace of its own, from its beginning to its end, with all that befalls it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, DynamicObject, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::course::Course;
use super::deeds::{self, runs};
use super::field::Field;
use super::history;
use super::operator::Operator;
use super::oracle::{self, Harvest};
use super::outage::Outages;
use super::past;
use super::persist::{PATIENCE, make, persistently};
use super::queue;
use super::rights::Rights;
use super::script::Trial;

/// How long what a run has left behind is given to go away.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// The same of what has been deleted: the rest is Kubernetes' collector's, which takes its time when the API server was away.
const GONE_WITHIN: Duration = Duration::from_mins(3);
/// For how long a run that is done is watched for calls that do nothing.
const REST: Duration = Duration::from_secs(2);
/// How often such a time may begin before none of them is quiet enough.
const RESTS: u32 = 3;
/// The most calls that passes may make in that time.
const CALLS_AT_REST: u64 = 2;
const LOOK: Duration = Duration::from_millis(100);
/// How long Kubernetes may take to give a namespace its service account: its controllers look again after half a minute when the API server was away
/// several times.
const ACCOUNT_WITHIN: Duration = Duration::from_mins(2);

/// Where trials are made.
pub(super) struct Ground {
    /// A client with all rights.
    pub(super) client: Client,
    /// Where pods run.
    pub(super) field: Field,
    /// The operator's program.
    pub(super) program: PathBuf,
    /// Where logs are kept.
    pub(super) folder: PathBuf,
    /// The restarts of its API server.
    pub(super) outages: Outages,
    /// What operators may do there.
    pub(super) rights: Rights,
    /// The variable by which processes belong to the cluster.
    pub(super) mark: Option<(&'static str, PathBuf)>,
}

/// What came of a trial.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Which trial.
    pub(super) trial: Trial,
    /// What was wrong; nothing where all was well.
    pub(super) wrongs: Vec<String>,
    /// How many calls of work were made.
    pub(super) calls: u64,
    /// How often an operator was killed.
    pub(super) kills: u64,
    /// How often the API server was restarted meanwhile, for this trial or for another.
    pub(super) restarts: u64,
    /// How long it took.
    pub(super) took: Duration,
    /// What the run came to, where it came to an end.
    pub(super) harvest: Option<Harvest>,
    /// The flags that repeat it.
    pub(super) again: String,
    /// Where the logs of the trial are, where something was wrong.
    pub(super) folder: PathBuf,
}

impl Ground {
    /// Makes a trial, and compares its end with what is expected. One that cannot be made is wrong, and no reason to leave the others out.
    pub(super) async fn try_one(&self, trial: Trial, expected: &Harvest) -> Verdict {
        let began = Instant::now();
        let held = self.hold(trial, Some(expected)).await;
        held.unwrap_or_else(|error| Verdict {
            trial,
            wrongs: vec![format!("it was not held: {error:#}")],
            calls: 0,
            kills: 0,
            restarts: 0,
            took: began.elapsed(),
            harvest: None,
            again: self.again(trial),
            folder: self.folder.clone(),
        })
    }

    /// Makes a trial, and compares its end with what is expected.
    pub(super) async fn hold(&self, trial: Trial, expected: Option<&Harvest>) -> Result<Verdict> {
        let (began, restarts) = (Instant::now(), self.outages.count());
        let namespace = format!("chaos-{trial}-{:x}", jiff::Timestamp::now().as_millisecond());
        let folder = self.folder.join(&namespace);
        let script = trial.script();
        let run = self.field.run(&script);
        let course = Arc::new(Course::new(script, run, namespace, &folder)?);
        course.note(&format!("{trial}: {:?}", course.script));
        self.make_namespace(&course.namespace).await?;
        let harvest = self.see_through(&course, trial.seed(), expected).await?;
        let wrongs = course.wrongs();
        if wrongs.is_empty() {
            tokio::fs::remove_dir_all(&folder).await?;
        }
        let (calls, kills, restarts) = (course.calls(), course.kills(), self.outages.count() - restarts);
        let again = self.again(trial);
        Ok(Verdict { trial, wrongs, calls, kills, restarts, took: began.elapsed(), harvest, again, folder })
    }

    /// The flags that repeat a trial.
    fn again(&self, trial: Trial) -> String {
        format!("{}{}", trial.flags(), self.field.flags())
    }

    async fn see_through(
        &self,
        course: &Arc<Course>,
        seed: u64,
        expected: Option<&Harvest>,
    ) -> Result<Option<Harvest>> {
        let pods = self.field.pods(course, &self.client).await?;
        // Whatever happens at once; all of it ends with this value.
        let mut actors = self.actors(course, seed).await?;
        actors.spawn(pods.clone().run());
        let (now, mut run) = watch::channel(None);
        let (client, followed) = (self.client.clone(), Arc::clone(course));
        actors.spawn(async move {
            history::follow(followed, client, now).await;
            Ok(())
        });
        let wanted = serde_json::from_value(course.run.clone())?;
        let api = runs(&self.client, &course.namespace);
        make(|| async { Box::pin(api.create(&PostParams::default(), &wanted)).await })
            .await
            .context("the run cannot be made")?;
        let (client, meddled) = (self.client.clone(), Arc::clone(course));
        let mut meddling = JoinSet::new();
        meddling.spawn(deeds::run(meddled, client));
        let ended = tokio::select! {
            ended = until_done(course, self.field.patience(), &mut run) => ended,
            Some(actor) = actors.join_next() => {
                actor??;
                None
            }
        };
        drop(meddling);
        let status = run.borrow().as_ref().map(|run| run.data["status"].clone()).unwrap_or_default();
        let mut harvest = None;
        if let Some(done) = &ended {
            self.look_at_rest(course, done).await?;
            match pods.found(&done.uid().unwrap_or_default())? {
                Some(found) => harvest = Some(oracle::judge(course, done, &found, expected)),
                None => course.wrong("the store has nothing of the run"),
            }
        } else {
            course.note(&serde_json::to_string_pretty(&status)?);
            let patience = self.field.patience();
            let status = history::words(&status);
            course.wrong(format!("it did not end within {patience:?} of the last fault of a call: {status}"));
        }
        drop(actors);
        pods.leave(self.client.clone());
        Ok(harvest)
    }

    /// Who takes part in a run, beside those who look after its pods and its course.
    async fn actors(&self, course: &Arc<Course>, seed: u64) -> Result<JoinSet<Result<()>>> {
        let mut actors = JoinSet::new();
        for number in 0..course.script.operators {
            let operator = Operator::new(number, Arc::clone(course), self).await?;
            actors.spawn(operator.run());
        }
        if course.script.reads_the_past() {
            let (client, course) = (self.client.clone(), Arc::clone(course));
            actors.spawn(async move {
                past::follow(course, client).await;
                Ok(())
            });
        }
        let telling = self.outages.clone().tell(Arc::clone(course));
        actors.spawn(async move {
            telling.await;
            Ok(())
        });
        if course.script.is_queued {
            actors.spawn(queue::run(Arc::clone(course), self.client.clone(), seed));
        }
        Ok(actors)
    }

    /// Waits until nothing is left that belongs to nobody, and then looks whether the operator is at rest.
    async fn look_at_rest(&self, course: &Course, run: &DynamicObject) -> Result<()> {
        let began = Instant::now();
        loop {
            let left = oracle::left_over(&self.client, &course.namespace, run).await;
            match left {
                Ok(left) if left.is_empty() => break,
                Ok(left)
                    if began.elapsed() > GONE_WITHIN
                        || began.elapsed() > SETTLED_WITHIN && !left.iter().all(|left| left.goes) =>
                {
                    let words: Vec<_> = left.into_iter().map(|left| left.words).collect();
                    course.wrong(format!("after {:?} this is left: {}", began.elapsed(), words.join(", ")));
                    break;
                }
                // The API server is being restarted.
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                _ => tokio::time::sleep(LOOK * 3).await,
            }
        }
        // A watch that is late tells of the last removals late, and until then they are asked for again.
        let mut made = 0;
        for _ in 0..RESTS {
            let before = course.deliberate();
            tokio::time::sleep(REST).await;
            made = course.deliberate() - before;
            if made <= CALLS_AT_REST || course.kills() > 0 {
                return Ok(());
            }
        }
        course.wrong(format!("{made} calls were made within {REST:?} over a run that is done, and as many before"));
        Ok(())
    }

    /// Makes a namespace in which pods can be made, and operators may do what the chart grants them.
    pub(super) async fn make_namespace(&self, name: &str) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        make(|| async { namespaces.create(&PostParams::default(), &namespace).await })
            .await
            .with_context(|| format!("cannot make namespace {name}"))?;
        self.rights.grant(&self.client, name).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), name);
        // Without it no pod can be made, and the Job controller waits for long before it tries again.
        let began = Instant::now();
        while began.elapsed() < ACCOUNT_WITHIN {
            if persistently(|| async { accounts.get_opt("default").await }).await?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        anyhow::bail!("namespace {name} has no service account after {ACCOUNT_WITHIN:?}")
    }
}

/// Waits for the end of the run, which is done for the newest word of its owner, when nobody is about to say another.
async fn until_done(
    course: &Course,
    patience: Duration,
    run: &mut watch::Receiver<Option<DynamicObject>>,
) -> Option<DynamicObject> {
    while course.undisturbed_for() < patience {
        let done = run.borrow_and_update().clone().filter(is_done);
        if let Some(done) = done.filter(|_| !course.is_meddled_with()) {
            return Some(done);
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

fn is_done(run: &DynamicObject) -> bool {
    let status = &run.data["status"];
    let is_current = status["observedGeneration"].as_i64() == run.metadata.generation;
    is_current && status["phase"] == "Succeeded" && run.metadata.deletion_timestamp.is_none()
}
