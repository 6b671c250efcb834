//! The command lines of the stages' programs, and the variables that carry what is no flag. Secrets are in neither.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector};
use sera_crds::{
    batch::SampleRange,
    contract::{BatchNames, FunctionSelection},
    values::{ModelUri, Stage, StoreUri},
};
use serde::Serialize;

use super::{
    AdoptionParts, Blueprint, CountingParts, EvaluationParts, SampleParts, SecretField, SnapshotParts, TrainingParts,
    contenders::Contender, pod,
};
use crate::names::Owner;

/// Where a driver, or rank 0 of a training, serves its progress and its metrics.
pub const PROGRESS_PORT: u16 = 8080;
/// Where rank 0 waits for the others; torchrun's own default.
const RENDEZVOUS_PORT: u16 = 29_500;

/// What the programs of a stage are told, in flags and in variables.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub arguments: Vec<String>,
    /// Arguments in which Kubernetes is to replace `$(NAME)` by a variable of the pod.
    pub references: Vec<String>,
    pub variables: Vec<EnvVar>,
}

/// What the program of a stage is told; none where the blueprint has nothing for it.
pub(super) fn told(owner: &Owner, stage: Stage, blueprint: &Blueprint) -> Option<Told> {
    let mut told = match stage {
        Stage::Snapshot => match &blueprint.adoption {
            Some(adoption) => adopt(adoption, blueprint.counting.as_ref()),
            None => snapshot(blueprint.snapshot.as_ref()?),
        },
        Stage::Rollouts => rollouts(blueprint.samples.as_ref()?),
        Stage::Verification => verification(blueprint.counting.as_ref()?, blueprint.samples.as_ref())?,
        Stage::Generation => dataset(blueprint.counting.as_ref()?, true)?,
        Stage::Dataset => dataset(blueprint.counting.as_ref()?, false)?,
        Stage::Reclaim => erase(owner),
        Stage::Evaluation => evaluation(blueprint.evaluation.as_ref()?),
        Stage::Training | Stage::Serving => return None,
    };
    told.say(format!("--store={}", in_pod(&blueprint.home, pod::STORE_MOUNT)));
    if let (Some(place), Stage::Rollouts) = (&blueprint.snapshot_at, stage) {
        told.say(format!("--snapshot={}", in_pod(place, pod::SNAPSHOT_MOUNT)));
    }
    told.credentials("store", pod::STORE_CREDENTIALS_MOUNT, blueprint.store_credentials.as_ref());
    told.say(format!("--scratch={}", pod::SCRATCH_MOUNT));
    told.say(format!("--termination-message={}", pod::TERMINATION_MESSAGE));
    Some(told)
}

/// What the trainer of an attempt is told. Each pod knows its own number from the variable that Kubernetes gives the pods of an Indexed Job.
pub(super) fn training(owner: &Owner, attempt: u32, parts: &TrainingParts, blueprint: &Blueprint) -> Told {
    let job = owner.job_name(Stage::Training, attempt);
    let mut told = Told::of("launch");
    told.say(format!("--nproc-per-node={}", parts.ranks_per_node));
    told.say(format!("--nnodes={}", parts.nodes));
    told.say(format!("--master-addr={job}-0.{}", owner.ranks_name()));
    told.say(format!("--master-port={RENDEZVOUS_PORT}"));
    told.say("--".to_owned());
    told.say("train".to_owned());
    // Without a word it would take what it finds: a pod that lacks its GPUs is to say so, rather than to compute on processors for a year.
    told.say(format!("--device={}", if parts.gpus_per_node > 0 { "cuda" } else { "cpu" }));
    told.student(Some(&parts.student), parts.student_credentials.is_some());
    told.say(format!("--out={}", in_pod(&blueprint.home, pod::STORE_MOUNT)));
    if blueprint.store_credentials.is_some() {
        told.say(format!("--store-credentials={}", pod::STORE_CREDENTIALS_MOUNT));
    }
    told.say(format!("--scratch={}", pod::SCRATCH_MOUNT));
    told.say(format!("--cache={}", pod::SCRATCH_MOUNT));
    told.say(format!("--attempt={attempt}"));
    if let Some(since) = parts.since_attempt {
        told.say(format!("--since-attempt={since}"));
    }
    told.say(format!("--listen=0.0.0.0:{PROGRESS_PORT}"));
    told.say(format!("--termination-message={}", pod::TERMINATION_MESSAGE));
    told.hand("SERA_TRAINING", &parts.plan);
    told.set("SERA_RENDEZVOUS_ID", job);
    told.set("SERA_START_DEADLINE", parts.start_deadline.to_string());
    told
}

impl Told {
    pub(super) fn of(command: &str) -> Self {
        Self { arguments: vec![command.to_owned()], ..Self::default() }
    }

    pub(super) fn say(&mut self, argument: String) {
        self.arguments.push(argument);
    }

    /// A document in a variable. What is handed on has texts and numbers alone, which JSON always takes.
    fn hand(&mut self, name: &str, document: &impl Serialize) {
        self.set(name, serde_json::to_string(document).unwrap_or_default());
    }

    fn set(&mut self, name: &str, value: String) {
        self.variables.push(EnvVar { name: name.to_owned(), value: Some(value), value_from: None });
    }

    fn credentials(&mut self, flag: &str, mount: &str, secret: Option<&SecretField>) {
        if let Some(secret) = secret {
            self.say(format!("--{flag}-credentials={mount}"));
            self.say(format!("--{flag}-credentials-field={}", secret.field));
        }
    }
}

fn snapshot(parts: &SnapshotParts) -> Told {
    let mut told = Told::of("snapshot");
    told.say(format!("--url={}", parts.url));
    told.say(format!("--revision={}", parts.revision));
    if parts.submodules {
        told.say("--submodules".to_owned());
    }
    told.say(format!("--commits={}", parts.commits.count));
    told.say(format!("--lookback-days={}", parts.commits.lookback_days));
    told.credentials("git", pod::GIT_MOUNT, parts.credentials.as_ref());
    let FunctionSelection { include, exclude, languages, held_out_fraction, held_out_seed } = &parts.functions;
    include.iter().for_each(|glob| told.say(format!("--include={glob}")));
    exclude.iter().for_each(|glob| told.say(format!("--exclude={glob}")));
    languages.iter().for_each(|language| told.say(format!("--languages={language}")));
    told.say(format!("--held-out-fraction={held_out_fraction}"));
    told.say(format!("--held-out-seed={held_out_seed}"));
    if let Some(github) = &parts.github {
        told.say(format!("--github={}", github.repository));
        told.say(format!("--github-api-url={}", github.api_url));
        if github.credentials.is_some() {
            told.say(format!("--github-credentials={}", pod::GITHUB_MOUNT));
        }
    }
    told
}

fn erase(owner: &Owner) -> Told {
    let mut told = Told::of("erase");
    told.say(format!("--prefix={}/{}/{}", owner.namespace, owner.name, owner.uid));
    told
}

fn adopt(parts: &AdoptionParts, counting: Option<&CountingParts>) -> Told {
    let mut told = Told::of("adopt");
    told.say(format!("--from={}", in_pod(&parts.from, pod::SNAPSHOT_MOUNT)));
    told.say(format!("--from-address={}", parts.from));
    told.say(format!("--repository={}", parts.repository));
    told.say(format!("--through={}", parts.through));
    told.say(format!("--run={}", parts.run));
    if let Some(counting) = counting {
        told.hand("SERA_VERIFICATION", &counting.verification);
    }
    told
}

fn rollouts(parts: &SampleParts) -> Told {
    let mut told = Told::of("rollout");
    told.samples(&parts.batch, parts.range);
    told.say(format!("--shard-size={}", parts.shard_size));
    if parts.teacher.is_rehearsal {
        told.say("--rehearsal".to_owned());
    }
    told.driver(parts);
    told.say(format!("--timeout={}m", longest_shard_minutes(parts)));
    told
}

fn evaluation(parts: &EvaluationParts) -> Told {
    let EvaluationParts { plan, rollouts, student, base } = parts;
    let mut told = Told::of("evaluate");
    told.say(format!("--samples={}", plan.samples));
    told.say(format!("--seeds={}", plan.seeds));
    told.say(format!("--min-effect={}", plan.min_effect));
    for (contender, model) in [(Contender::Student, student), (Contender::Base, base)] {
        told.say(format!("--{}-url={}", contender.word(), contender.url()));
        told.say(format!("--{}-model={}", contender.word(), model.name));
    }
    if rollouts.teacher.is_rehearsal {
        told.say("--rehearsals=teacher".to_owned());
    }
    told.driver(rollouts);
    told
}

fn verification(parts: &CountingParts, samples: Option<&SampleParts>) -> Option<Told> {
    let mut told = Told::of("verify");
    match samples {
        Some(samples) => told.samples(&samples.batch, samples.range),
        None => told.batches(parts.batches.as_ref()?),
    }
    told.student(parts.student.as_ref(), parts.student_credentials.is_some());
    told.hand("SERA_VERIFICATION", &parts.verification);
    Some(told)
}

fn dataset(parts: &CountingParts, dry: bool) -> Option<Told> {
    let mut told = Told::of("dataset");
    told.batches(parts.batches.as_ref()?);
    told.student(parts.student.as_ref(), parts.student_credentials.is_some());
    if dry {
        told.say("--dry-run".to_owned());
    }
    told.hand("SERA_VERIFICATION", &parts.verification);
    told.hand("SERA_DATASET", &parts.dataset);
    Some(told)
}

impl Told {
    /// What every driver of rollouts is told: whom it asks, where commands are executed, and how rollouts are made.
    fn driver(&mut self, parts: &SampleParts) {
        self.say(format!("--teacher-url={}", parts.teacher.url));
        if parts.teacher.is_hosted {
            // Its Service has the address of each copy.
            self.say("--teacher-by-address".to_owned());
        }
        self.say(format!("--teacher-model={}", parts.teacher.model));
        if parts.teacher.credentials.is_some() || parts.teacher.authority.is_some() {
            self.say(format!("--teacher-credentials={}", pod::TEACHER_MOUNT));
        }
        self.say(format!("--sandbox={}", pod::SLOTS_MOUNT));
        self.say(format!("--slots={}", parts.slots));
        self.say(format!("--listen=0.0.0.0:{PROGRESS_PORT}"));
        self.hand("SERA_PLAN", &parts.plan);
        self.variables.push(pod_uid());
    }

    /// The batches that are counted by name, never all that there are: one that is at work or has just ended must not be counted before its turn.
    fn batches(&mut self, batches: &BatchNames) {
        self.say(format!("--batches={batches}"));
    }

    fn samples(&mut self, batch: &str, SampleRange { from, count }: SampleRange) {
        self.say(format!("--batch={batch}"));
        self.say(format!("--first={from}"));
        self.say(format!("--count={count}"));
    }

    /// Where the student is: a folder, where a claim is mounted; what is in a bucket is fetched, with its own Secret or as who the pod is; what is
    /// built in has no place.
    fn student(&mut self, student: Option<&ModelUri>, has_credentials: bool) {
        if let Some(uri) = student {
            self.say(format!("--student={}", model_in_pod(uri, pod::STUDENT_MOUNT)));
        }
        if has_credentials {
            self.say(format!("--student-credentials={}", pod::STUDENT_CREDENTIALS_MOUNT));
        }
    }
}

/// A model as the pods see it: a folder, where its claim is mounted.
pub(super) fn model_in_pod(uri: &ModelUri, mount: &str) -> String {
    uri.claim().map_or_else(|| uri.to_string(), |(_, path)| format!("{mount}/{path}"))
}

/// A folder as the pods see it: a claim is mounted whole and becomes `file://`.
pub(super) fn in_pod(folder: &StoreUri, mount: &str) -> String {
    match (folder.claim(), folder.path()) {
        (None, _) => folder.as_str().trim_end_matches('/').to_owned(),
        (Some(_), "") => format!("file://{mount}"),
        (Some(_), path) => format!("file://{mount}/{path}"),
    }
}

/// The longest that a shard can take: each slot makes its samples one after the other, a sample has at most three first rollouts and a second, and
/// each of them ends at its own limit. An hour beside that is for images, reviews and texts.
fn longest_shard_minutes(parts: &SampleParts) -> u64 {
    const ROLLOUTS_OF_A_SAMPLE: u64 = 4;
    const BESIDE: u64 = 60;
    /// The most that a duration of one part can say.
    const MOST: u64 = 99_999;
    let rounds = u64::from(parts.shard_size.min(parts.range.count).div_ceil(parts.slots.max(1)));
    let rollout = parts.plan.agent.rollout_timeout.span().as_secs().div_ceil(60);
    (rounds * ROLLOUTS_OF_A_SAMPLE).saturating_mul(rollout).saturating_add(BESIDE).min(MOST)
}

/// The uid of the pod, which names the folder of its files.
fn pod_uid() -> EnvVar {
    let field = ObjectFieldSelector { field_path: "metadata.uid".to_owned(), api_version: None };
    EnvVar {
        name: "SERA_POD_UID".to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    }
}
