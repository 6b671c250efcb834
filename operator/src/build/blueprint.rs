//! What the children of one object are made from: its effective spec, sorted by what the programs need. How it follows from the API's types is the
//! business of [`crate::subject`].

use jiff::Timestamp;
use k8s_openapi::api::core::v1::EnvVar;
use sera_crds::{
    batch::SampleRange,
    common::Resources,
    contract::{
        BatchNames, DatasetPlan, EvaluationPlan, FunctionSelection, RolloutPlan, TrainingPlan, VerificationPlan,
    },
    run::{Commits, Environment, PodRole, PodSettings, Pods, RehearsalShares},
    values::{AdoptableStage, ImageRef, ModelUri, ServingEngine, Stage, StoreUri, Timeout, ToolCallFormat},
};

use super::meshes;

/// The images that pods run where a spec names none.
#[derive(Debug, Clone)]
pub struct Images {
    /// The commands of the data plane.
    pub rollout: ImageRef,
    /// The program that executes an agent's commands.
    pub sandbox: ImageRef,
    /// What an agent's commands find around them.
    pub environment: ImageRef,
    /// The rehearsal teacher, and the server of small models.
    pub teacher: ImageRef,
    /// The trainer.
    pub trainer: ImageRef,
    /// vLLM.
    pub vllm: ImageRef,
    /// `SGLang`.
    pub sglang: ImageRef,
}

/// All that the children of one object are made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Blueprint {
    /// The folder that the programs work in.
    pub home: StoreUri,
    /// The Secret with the store's credentials.
    pub store_credentials: Option<SecretField>,
    /// What is said about pods.
    pub pods: Pods,
    /// The snapshot, where it is the object's own.
    pub snapshot: Option<SnapshotParts>,
    /// The folder that the snapshot lies in, where that is another.
    pub snapshot_at: Option<StoreUri>,
    /// What is taken over from an earlier run, where something is; the snapshot then is that run's.
    pub adoption: Option<AdoptionParts>,
    /// The teacher that the operator runs for this object.
    pub teacher: Option<HostedTeacher>,
    /// The samples of a batch.
    pub samples: Option<SampleParts>,
    /// How samples are counted.
    pub counting: Option<CountingParts>,
    /// How the student is trained.
    pub training: Option<TrainingParts>,
    /// How the student is compared with its base and its teacher.
    pub evaluation: Option<EvaluationParts>,
    /// How the student is served.
    pub serving: Option<ServedModel>,
}

/// A Secret by the field that names it, so that a program can say which field to put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretField {
    /// The Secret's name.
    pub name: String,
    /// The field, from the root.
    pub field: &'static str,
}

/// What a snapshot is taken of.
#[derive(Debug, Clone, PartialEq)]
pub struct SnapshotParts {
    /// The repository's address.
    pub url: String,
    /// The branch, tag or commit.
    pub revision: String,
    /// Whether the content of submodules is taken.
    pub submodules: bool,
    /// Which commits are taken.
    pub commits: Commits,
    /// The Secret with the repository's credentials.
    pub credentials: Option<SecretField>,
    /// Which functions are indexed, and which of them are set aside.
    pub functions: FunctionSelection,
    /// The repository on GitHub, whose issues are style examples.
    pub github: Option<GitHubParts>,
}

/// What is taken over from an earlier run.
#[derive(Debug, Clone, PartialEq)]
pub struct AdoptionParts {
    /// That run's folder.
    pub from: StoreUri,
    /// The repository that it has to be of.
    pub repository: String,
    /// The last stage that is taken over.
    pub through: AdoptableStage,
    /// The name of the run that adopts.
    pub run: String,
}

/// A repository on GitHub.
#[derive(Debug, Clone, PartialEq)]
pub struct GitHubParts {
    /// `owner/repository`.
    pub repository: String,
    /// GitHub's API.
    pub api_url: String,
    /// The Secret that its issues are read with.
    pub credentials: Option<String>,
}

/// A teacher that the operator runs.
#[derive(Debug, Clone, PartialEq)]
pub enum HostedTeacher {
    /// What stands in for one.
    Rehearsal(RehearsalParts),
    /// A model.
    Model(ServedModel),
}

impl HostedTeacher {
    /// Whether a copy is spread over more than one node.
    pub fn is_over_nodes(&self) -> bool {
        matches!(self, Self::Model(model) if model.nodes > 1)
    }
}

/// A rehearsal teacher.
#[derive(Debug, Clone, PartialEq)]
pub struct RehearsalParts {
    /// What it draws from.
    pub seed: u64,
    /// How its samples end.
    pub shares: RehearsalShares,
}

/// The samples of a batch, and how they are made.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleParts {
    /// The batch's name, and that of its folder.
    pub batch: String,
    /// Which samples.
    pub range: SampleRange,
    /// How many of them a pod works on.
    pub shard_size: u32,
    /// How rollouts are made; its budget is that of one pod.
    pub plan: RolloutPlan,
    /// How many sandboxes a pod has.
    pub slots: u32,
    /// The image and the user of sandboxes.
    pub environment: Environment,
    /// What each sandbox may use.
    pub slot_resources: Option<Resources>,
    /// The teacher.
    pub teacher: TeacherParts,
}

/// Whom the drivers of rollouts ask.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherParts {
    /// The API's base address.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// Whether it is no model, but a rehearsal.
    pub is_rehearsal: bool,
    /// Whether the operator runs it, as pods of the same namespace.
    pub is_hosted: bool,
    /// The Secret with its key.
    pub credentials: Option<SecretField>,
    /// The Secret with the authorities of its certificate.
    pub authority: Option<SecretField>,
}

/// How samples are counted.
#[derive(Debug, Clone, PartialEq)]
pub struct CountingParts {
    /// When a trajectory counts.
    pub verification: VerificationPlan,
    /// What is asked of the dataset; none where there is none.
    pub dataset: Option<DatasetPlan>,
    /// The student, whose tokens are counted; none where there is none.
    pub student: Option<ModelUri>,
    /// The Secret that it is read with, where it is in a bucket.
    pub student_credentials: Option<String>,
    /// The batches of a run that are folded in; none where none is, and of a batch.
    pub batches: Option<BatchNames>,
}

/// How a student is trained, and by what pods.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingParts {
    /// The student.
    pub student: ModelUri,
    /// The Secret that it is read with, where it is in a bucket.
    pub student_credentials: Option<String>,
    /// How it is trained.
    pub plan: TrainingPlan,
    /// The first attempt that certainly had this plan; none where all had it.
    pub since_attempt: Option<u32>,
    /// How many pods train together, each on a node of its own or not, as their owner says.
    pub nodes: u32,
    /// How many ranks each of them has.
    pub ranks_per_node: u32,
    /// How many GPUs; with any, there is one for each rank.
    pub gpus_per_node: u32,
    /// How long all ranks may take to find each other.
    pub start_deadline: Timeout,
}

/// How a student is compared with its base and its teacher.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationParts {
    /// What is asked.
    pub plan: EvaluationPlan,
    /// How attempts are made, and by which teacher.
    pub rollouts: SampleParts,
    /// The student, whose files are the run's own.
    pub student: ServedModel,
    /// What it was trained from.
    pub base: ServedModel,
}

/// A model that the operator serves.
#[derive(Debug, Clone, PartialEq)]
pub struct ServedModel {
    /// What serves it.
    pub engine: ServingEngine,
    /// The engine's image, where the spec names one.
    pub image: Option<ImageRef>,
    /// Where its files lie; none of a student, whose files are the run's own.
    pub at: Option<ModelUri>,
    /// The Secret that they are read with, where they lie in a bucket.
    pub credentials: Option<String>,
    /// What clients call it.
    pub name: String,
    /// The most tokens of a conversation, where that is not the model's own limit.
    pub context: Option<u32>,
    /// How it writes calls of tools.
    pub tool_calls: ToolCallFormat,
    /// How many copies there are.
    pub replicas: u32,
    /// How many GPUs each of them is spread over.
    pub gpus: u32,
    /// How many nodes these GPUs are on.
    pub nodes: u32,
    /// What its owner adds to the engine's command line.
    pub arguments: Vec<String>,
    /// What its owner adds to the engine's variables.
    pub variables: Vec<EnvVar>,
}

impl Blueprint {
    /// What is said about the pods of a role. The teacher is asked by pods of Jobs alone, and is outside of meshes as they are; who serves the student may
    /// be meant to be in one.
    pub fn settings(&self, role: PodRole) -> PodSettings {
        let said = self.pods.settings(role);
        if role == PodRole::Serve { said } else { meshes::outside(said) }
    }

    /// The rollouts that a stage makes; none of one that makes none.
    pub fn rollouts(&self, stage: Stage) -> Option<&SampleParts> {
        match stage {
            Stage::Rollouts => self.samples.as_ref(),
            Stage::Evaluation => self.evaluation.as_ref().map(|evaluation| &evaluation.rollouts),
            _ => None,
        }
    }
}

impl SampleParts {
    /// How many pods the samples are divided among.
    pub fn shards(&self) -> u32 {
        self.range.count.div_ceil(self.shard_size.max(1))
    }

    /// The same, with no call after that moment.
    #[must_use]
    pub fn until(mut self, moment: Option<Timestamp>) -> Self {
        self.plan.budget.until = moment;
        self
    }
}
