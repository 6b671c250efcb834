//! The first step: gathering. From memory where memory can know, and by a few reads of the API server in the odd cases where it cannot: an absence
//! that would make us act, a last word that is missing, a pod that does not come.

mod asked;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Pod},
        events::v1::Event,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, PartialObjectMeta, PostParams},
};
use sera_crds::{RolloutBatch, SpecializationRun, defaults::RunDefaults, values::Stage};

use self::asked::Asked;
use crate::{
    apply::is_going,
    build::Blueprint,
    cache::{Children, Family, Offer, WatchedJob, WatchedPod},
    collector::Board,
    defaults::{self, FixedDefaults},
    facts::{BatchFacts, JobFacts, PodFacts, ServerFacts, ServerRole, Trouble, Uid},
    names::{MANAGER, OWNER_UID, Owner, RECLAIM, STUDENT, TEACHER},
    plan::{
        Holdups, Hosted, Observed, Reclaim, crew,
        record::{Attempt, Record},
        sight::{self, Evidence},
        unhostable, untrainable,
    },
    runtime::advice,
    subject::{Guide, Subject, batch_facts},
};

/// Why observing failed; the pass is made again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer a read.
    #[error("{what} cannot be read")]
    Read {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// The defaults of the object cannot be had.
    #[error(transparent)]
    Defaults(#[from] defaults::Error),
}

/// The memory and the client that observing needs.
#[derive(Clone)]
pub struct Observer {
    client: Client,
    caches: Caches,
    board: Board,
    defaults: Arc<FixedDefaults>,
    trainer_knows_gpus: bool,
    refused: Asked<Option<String>>,
    overdue: Asked<Option<String>>,
    outlived: Asked<Option<String>>,
    holdups: Asked<Option<Trouble>>,
    going: Asked<bool>,
}

/// What the watches have brought of children, by their controllers.
#[derive(Debug, Clone, Default)]
pub struct Caches {
    /// The Jobs of runs and batches.
    pub jobs: Children<JobFacts>,
    /// The pods of Jobs, but for those that run.
    pub pods: Children<PodFacts>,
    /// What serves teachers and students.
    pub servers: Children<ServerFacts>,
    /// What serves teachers whose copies are spread over nodes.
    pub groups: Children<ServerFacts>,
    /// Whether the cluster has the kind of those.
    pub offer: Offer,
    /// The batches of runs.
    pub batches: Children<BatchFacts>,
}

/// What a pass has gathered.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// For the plan.
    pub observed: Observed,
    /// For what the plan may ask to be built.
    pub blueprint: Option<Blueprint>,
}

impl Observer {
    /// An observer that reads these caches and what drivers say, and asks `client` where they cannot know.
    pub fn new(
        client: Client,
        caches: Caches,
        board: Board,
        defaults: Arc<FixedDefaults>,
        trainer_knows_gpus: bool,
    ) -> Self {
        let (refused, overdue, outlived, holdups, going) = Default::default();
        Self { client, caches, board, defaults, trainer_knows_gpus, refused, overdue, outlived, holdups, going }
    }

    /// Gathers all that a plan for `subject` is made from; `run` is the one that it takes its word from, where there is one.
    pub async fn observe<S: Subject>(
        &self,
        subject: &S,
        run: Option<Arc<SpecializationRun>>,
        now: Timestamp,
    ) -> Result<Gathered, Error> {
        let owner = subject.owner();
        let record = subject.record();
        let guide = self.guide(run).await?;
        let (wish, defaults_problem) = match self.own_defaults(subject, &owner).await {
            Ok(defaults) => (defaults.map(|defaults| subject.wish(&defaults, &guide)), None),
            // Nobody but the object's owner can put this right, and so it is said in status.
            Err(error @ defaults::Error::Malformed { .. }) => (None, Some(advice::chain(&error))),
            Err(error) => return Err(error.into()),
        };
        let (mut intent, blueprint) = wish.map_or((None, None), |wish| (Some(wish.intent), wish.blueprint));
        if let Some(intent) = &mut intent {
            unhostable(intent, &record, self.caches.offer.is_there());
            untrainable(intent, &record, self.trainer_knows_gpus);
        }
        let jobs = self.caches.jobs.of(&owner.uid);
        let mut evidence = BTreeMap::new();
        for (stage, attempt) in record.attempts.iter().filter(|(_, attempt)| attempt.end.is_none()) {
            evidence.insert(*stage, self.evidence(&owner, *stage, attempt, &jobs, now).await?);
        }
        let (batches, lingering) = self.batches(&owner, &record).await?;
        // What else may control the object, such as a workflow, has no teacher.
        let is_the_runs = intent.as_ref().is_some_and(|intent| intent.hosted == Some(Hosted::OfRun));
        let asked_of = subject.controller().filter(|_| is_the_runs).unwrap_or_else(|| owner.uid.clone());
        let talkative =
            [Stage::Rollouts, Stage::Training, Stage::Evaluation].into_iter().find_map(|stage| evidence.get(&stage));
        let at_work = talkative.and_then(|evidence| evidence.job.as_ref());
        let teacher = self.server(&asked_of, ServerRole::Teacher);
        let student = self.server(&owner.uid, ServerRole::Student);
        let observed = Observed {
            live: at_work.and_then(|job| self.board.of(&job.uid)),
            generation: subject.meta().generation.unwrap_or_default(),
            deleting: subject.meta().deletion_timestamp.is_some(),
            reclaim: reclaim(subject),
            holdups: Holdups {
                teacher: self.holdup(&owner.namespace, teacher.as_deref(), now).await?,
                student: self.holdup(&owner.namespace, student.as_deref(), now).await?,
            },
            teacher,
            student,
            jobs,
            owner,
            record,
            intent,
            defaults_problem,
            evidence,
            batches,
            lingering,
        };
        Ok(Gathered { observed, blueprint })
    }

    /// The defaults that were fixed for an object; one that takes its word from a run needs none of its own.
    async fn own_defaults<S: Subject>(
        &self,
        subject: &S,
        owner: &Owner,
    ) -> Result<Option<Arc<RunDefaults>>, defaults::Error> {
        if subject.awaited_run().is_some() {
            Ok(Some(Arc::default()))
        } else {
            self.defaults.of(owner, &self.client).await
        }
    }

    /// The run that a batch takes its word from, with the defaults that were fixed for it.
    async fn guide(&self, run: Option<Arc<SpecializationRun>>) -> Result<Guide, Error> {
        let Some(run) = run else { return Ok(Guide::Nobody) };
        let defaults = match self.defaults.of(&run.owner(), &self.client).await {
            Ok(defaults) => defaults,
            // The run says so itself, and its batches wait.
            Err(defaults::Error::Malformed { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Guide::Run(run, defaults))
    }

    /// The batches of a run, and those that are gone while their Jobs are not.
    async fn batches(&self, owner: &Owner, record: &Record) -> Result<(Family<BatchFacts>, Vec<Uid>), Error> {
        let mut found = self.caches.batches.of(&owner.uid);
        let mut lingering = Vec::new();
        for known in record.generation.iter().flat_map(|generation| &generation.batches) {
            let (Some(uid), name) = (&known.uid, owner.batch_name(known.number)) else { continue };
            if found.iter().any(|batch| *batch.name == *name) {
                continue;
            }
            // One that was made may be missing because the cache is behind; taking it for lost would make it twice.
            let api = Api::<RolloutBatch>::namespaced(self.client.clone(), &owner.namespace);
            let live = api.get_opt(&name).await.map_err(|source| Error::Read { what: "a batch", source })?;
            let live =
                live.map(|batch| batch_facts(&batch)).filter(|batch| batch.controller.as_ref() == Some(&owner.uid));
            found.extend(live.map(Arc::new));
            if !self.caches.jobs.of(uid).is_empty() {
                lingering.push(uid.clone());
            }
        }
        Ok((found, lingering))
    }

    /// What is to be found of an attempt that is under way.
    async fn evidence(
        &self,
        owner: &Owner,
        stage: Stage,
        attempt: &Attempt,
        jobs: &Family<JobFacts>,
        now: Timestamp,
    ) -> Result<Evidence, Error> {
        let name = owner.job_name(stage, attempt.number);
        let mut evidence = Evidence { job: jobs.iter().find(|job| *job.name == *name).cloned(), ..Evidence::default() };
        if evidence.job.is_none() && attempt.job.is_some() {
            // A Job that was made may be missing because the cache is behind; taking it for lost would cost an attempt.
            evidence.job = self.live_job(owner, &name).await?;
        }
        let Some(job) = evidence.job.clone() else { return Ok(evidence) };
        evidence.pods = self.caches.pods.of(&job.uid);
        if sight::lacks_last_words(&evidence, crew(stage)) {
            evidence.pods = self.live_pods(owner, &job).await?;
        }
        if sight::is_without_a_pod(&evidence, crew(stage), now) {
            evidence.refused_pod = self.refused_pod(owner, &job, now).await?;
        }
        if sight::is_ending(&evidence) {
            evidence.overdue = self.overdue_pod(owner, &job, now).await?;
        }
        if sight::is_unready(&evidence) {
            evidence.outlived = self.outlived(owner, &job, now).await?;
        } else {
            self.outlived.forget(&job.uid);
        }
        if sight::is_between_pods(&evidence) {
            evidence.namespace_is_going = self.namespace_is_going(owner, &job, now).await?;
        }
        Ok(evidence)
    }

    fn server(&self, owner: &Uid, role: ServerRole) -> Option<Arc<ServerFacts>> {
        let (pods, groups) = (self.caches.servers.of(owner), self.caches.groups.of(owner));
        pods.into_iter().chain(groups).find(|server| server.role == role)
    }

    /// What keeps a server's pod from answering, in the words of the first that says so; asked at most every so often, and only where one does not.
    async fn holdup(
        &self,
        namespace: &str,
        server: Option<&ServerFacts>,
        now: Timestamp,
    ) -> Result<Option<Trouble>, Error> {
        let unfinished = server.filter(|server| !server.complete && !server.deleting);
        let Some((server, owner)) = unfinished.and_then(|server| Some((server, server.controller.as_ref()?))) else {
            return Ok(None);
        };
        if let Some(holdup) = self.holdups.recent(&server.uid, now) {
            return Ok(holdup);
        }
        let role = match server.role {
            ServerRole::Teacher => TEACHER,
            ServerRole::Student => STUDENT,
        };
        let api = Api::<WatchedPod>::namespaced(self.client.clone(), namespace);
        let of_server = ListParams::default().labels(&format!("{OWNER_UID}={owner},{role}"));
        let pods = api.list(&of_server).await.map_err(|source| Error::Read { what: "the pods of a server", source })?;
        let holdup = pods.items.iter().find_map(WatchedPod::holdup);
        Ok(self.holdups.keep(&server.uid, now, holdup))
    }

    /// A pod of this Job that was to have ended a while ago, as that of a node which is gone; asked at most every so often.
    async fn overdue_pod(&self, owner: &Owner, job: &JobFacts, now: Timestamp) -> Result<Option<String>, Error> {
        /// The kubelet may take so long to say that a pod has ended.
        const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
        if let Some(answer) = self.overdue.recent(&job.uid, now) {
            return Ok(answer);
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), &owner.namespace);
        let pods = api.list_metadata(&of_job(&job.uid)).await;
        let pods = pods.map_err(|source| Error::Read { what: "the pods of a Job", source })?;
        // The time of a deletion is that by which the pod was to be gone.
        let is_overdue = |pod: &PartialObjectMeta<Pod>| {
            let due = pod.metadata.deletion_timestamp.as_ref();
            due.is_some_and(|due| now.duration_since(due.0) >= PATIENCE)
        };
        let overdue = pods.items.into_iter().find(is_overdue).map(|pod| pod.name_any());
        Ok(self.overdue.keep(&job.uid, now, overdue))
    }

    /// A container that goes on beside a program of this Job that has ended; asked at most every so often, and not at first: as a rule what the pod itself
    /// tells comes within a second.
    async fn outlived(&self, owner: &Owner, job: &JobFacts, now: Timestamp) -> Result<Option<String>, Error> {
        if let Some(answer) = self.outlived.recent(&job.uid, now) {
            return Ok(answer);
        }
        if !self.outlived.knows(&job.uid) {
            return Ok(self.outlived.keep(&job.uid, now, None));
        }
        let pods = self.pods(owner, job).await?;
        Ok(self.outlived.keep(&job.uid, now, pods.iter().find_map(WatchedPod::outlived)))
    }

    async fn live_job(&self, owner: &Owner, name: &str) -> Result<Option<Arc<JobFacts>>, Error> {
        let api = Api::<WatchedJob>::namespaced(self.client.clone(), &owner.namespace);
        let job = api.get_opt(name).await.map_err(|source| Error::Read { what: "a Job", source })?;
        Ok(job.map(WatchedJob::facts).filter(|job| job.controller.as_ref() == Some(&owner.uid)).map(Arc::new))
    }

    async fn live_pods(&self, owner: &Owner, job: &JobFacts) -> Result<Vec<Arc<PodFacts>>, Error> {
        Ok(self.pods(owner, job).await?.into_iter().filter_map(WatchedPod::facts).map(Arc::new).collect())
    }

    async fn pods(&self, owner: &Owner, job: &JobFacts) -> Result<Vec<WatchedPod>, Error> {
        let api = Api::<WatchedPod>::namespaced(self.client.clone(), &owner.namespace);
        let pods = api.list(&of_job(&job.uid)).await;
        Ok(pods.map_err(|source| Error::Read { what: "the pods of a Job", source })?.items)
    }

    /// Whether the namespace of this Job is being deleted, so that no pod follows the last one: found by a ConfigMap that is asked for and not made,
    /// for which no right is needed that the operator has not; asked at most every so often.
    async fn namespace_is_going(&self, owner: &Owner, job: &JobFacts, now: Timestamp) -> Result<bool, Error> {
        if let Some(answer) = self.going.recent(&job.uid, now) {
            return Ok(answer);
        }
        let metadata = ObjectMeta { name: Some(job.name.to_string()), ..ObjectMeta::default() };
        let asked = ConfigMap { metadata, ..ConfigMap::default() };
        let dry = PostParams { dry_run: true, field_manager: Some(MANAGER.to_owned()) };
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &owner.namespace);
        let is_going = match api.create(&dry, &asked).await {
            Ok(_) => false,
            Err(kube::Error::Api(status)) => is_going(&status),
            Err(source) => return Err(Error::Read { what: "whether a namespace is being deleted", source }),
        };
        Ok(self.going.keep(&job.uid, now, is_going))
    }

    /// The newest Event that says why the API server refuses this Job's pods; asked at most every so often.
    async fn refused_pod(&self, owner: &Owner, job: &JobFacts, now: Timestamp) -> Result<Option<String>, Error> {
        if let Some(answer) = self.refused.recent(&job.uid, now) {
            return Ok(answer);
        }
        let api = Api::<Event>::namespaced(self.client.clone(), &owner.namespace);
        let of_job = ListParams::default().fields(&format!("regarding.uid={},reason=FailedCreate", job.uid));
        let events = api.list(&of_job).await.map_err(|source| Error::Read { what: "the Events of a Job", source })?;
        let message = events.items.into_iter().max_by_key(heard_at).and_then(|event| event.note);
        Ok(self.refused.keep(&job.uid, now, message))
    }
}

/// What the pods of the Job with this uid are found by.
pub(crate) fn of_job(job: &Uid) -> ListParams {
    ListParams::default().labels(&format!("batch.kubernetes.io/controller-uid={job}"))
}

/// What becomes of the subject's data, as its spec and its finalizers say.
fn reclaim<S: Subject>(subject: &S) -> Reclaim {
    /// What Kubernetes' garbage collector takes off when it is done with the children of an object that was deleted in the foreground, or without them.
    const COLLECTORS: [&str; 2] = ["foregroundDeletion", "orphan"];
    let has = |name: &str| subject.finalizers().iter().any(|finalizer| finalizer == name);
    Reclaim { wanted: subject.reclaims(), held: has(RECLAIM), collected: COLLECTORS.into_iter().any(has) }
}

/// When an Event was last repeated, in whichever of the API's three ways it says so.
fn heard_at(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let counted = event.deprecated_last_timestamp.as_ref().map(|time| time.0);
    series.max(counted).max(event.event_time.as_ref().map(|time| time.0))
}
